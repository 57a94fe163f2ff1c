//! The table of images and repositories: what was done, or what would be, one line each.

use std::fmt::Write as _;
use std::io;

use super::table::{Row, Table};
use super::{GOOD, PLAIN, Page, WAITING, referrers};
use crate::plan::{Action, Plan, Planned, Transfer};
use crate::report::phrase::{Targets, count, duration};
use crate::report::{Outcome, Reason, Report, Status};
use crate::terminal::{escape, size};

impl Page<'_> {
    pub(super) fn results(&mut self, outcomes: &[Outcome]) -> io::Result<()> {
        if self.style.quiet {
            return Ok(());
        }
        // Failures and differences have sections of their own.
        let is_told = |outcome: &Outcome| outcome.is_failure() || outcome.status == Status::Differs;
        let wanted = |outcome: &&Outcome| {
            let asked_for = self.style.verbose && !is_told(outcome);
            let is_kept = outcome.reason == Some(Reason::Kept);
            outcome.status.look().line || is_kept || asked_for || referrers::is_notable(outcome)
        };
        let shown: Vec<_> = outcomes.iter().filter(wanted).collect();
        let targets = Targets::of(outcomes.iter().map(|outcome| (outcome.source.as_str(), outcome.target.as_str())));
        let rows = shown.iter().map(|outcome| {
            let look = outcome.status.look();
            let (source, target) = targets.names(&outcome.source, &outcome.target);
            let (begin, mut rest) = describe_outcome(outcome);
            rest.push_str(&referrers::beside(outcome));
            if self.style.verbose {
                rest.push_str(&digests(outcome));
            }
            let rest = if begin.is_empty() { rest.trim_start_matches([',', ' ']).to_owned() } else { rest };
            Row { word: (outcome.word(), look.color), source, target, begin, rest }
        });
        let table = Table::new(rows.collect(), self.style.width);
        for (row, outcome) in shown.iter().enumerate() {
            self.row(&table, row)?;
            self.referrers(outcome)?;
        }
        Ok(())
    }

    fn row(&mut self, table: &Table, row: usize) -> io::Result<()> {
        let mut lines = table.lines(row).into_iter();
        if let Some(first) = lines.next() {
            self.worded(table.word(row), &first)?;
        }
        lines.try_for_each(|line| self.line(&format!("{:12}{line}", "")))
    }

    /// The target repositories that were created or changed.
    pub(super) fn repositories(&mut self, report: &Report) -> io::Result<()> {
        let quiet = self.style.quiet;
        for repository in report.repositories.iter().filter(|repository| repository.created && !quiet) {
            self.named(("created", GOOD), &repository.target)?;
        }
        for repository in report.repositories.iter().filter(|repository| !repository.changes.is_empty() && !quiet) {
            let settings = spoken(&repository.changes);
            self.worded(("changed", GOOD), &format!("{}  {settings}", escape(&repository.target)))?;
        }
        Ok(())
    }

    pub(super) fn work(&mut self, plan: &Plan) -> io::Result<()> {
        if self.style.quiet {
            return Ok(());
        }
        let shown: Vec<_> = plan.images.iter().filter_map(|image| transfer(image, self.style.verbose)).collect();
        // If a hidden image has another target, the targets of the shown ones aren't obvious.
        let pairs: Vec<_> = plan.images.iter().map(names).collect();
        let targets = Targets::of(pairs.iter().map(|(source, target)| (source.as_str(), target.as_str())));
        let rows = shown.iter().filter_map(|image| {
            let word = match image.action {
                _ if image.cost.put_off.is_some() => ("defer", WAITING),
                Action::Copy | Action::Refer => ("copy", GOOD),
                Action::Tag => ("tag", GOOD),
                Action::UpToDate => (Status::UpToDate.word(), PLAIN),
                Action::Kept { .. } => ("kept", WAITING),
                Action::Conflict { .. } => return None,
            };
            let (source, target) = targets.names(&image.source.to_string(), &image.target_text());
            let (begin, rest) = describe_transfer(image);
            Some(Row { word, source, target, begin, rest })
        });
        let table = Table::new(rows.collect(), self.style.width);
        for row in 0..table.len() {
            self.row(&table, row)?;
        }
        for repository in &plan.missing {
            self.named(("create", GOOD), &repository.to_string())?;
        }
        for (repository, settings) in &plan.changes {
            let text = format!("{}  {}", escape(&repository.to_string()), spoken(settings));
            self.worded(("change", GOOD), &text)?;
        }
        Ok(())
    }
}

/// Keys of mirror.yaml as words.
pub(super) fn spoken(settings: &[&str]) -> String {
    settings.join(", ").replace('_', " ")
}

fn transfer(planned: &Planned, all: bool) -> Option<&Transfer> {
    match planned {
        Planned::Image(transfer) if all || matches!(transfer.action, Action::Kept { .. }) => Some(transfer),
        _ => planned.work(),
    }
}

/// The names of an image at its source and at its target.
fn names(planned: &Planned) -> (String, String) {
    match planned {
        Planned::Image(transfer) => (transfer.source.to_string(), transfer.target_text()),
        Planned::Failed { source, target, .. } => (source.clone(), target.clone()),
    }
}

fn digests(outcome: &Outcome) -> String {
    let Some(digest) = &outcome.digest else { return String::new() };
    let mut text = format!("  {}", digest.short());
    if let Some(mirrored) = &outcome.mirrored {
        let _ = write!(text, ", mirrored as {}", mirrored.short());
    }
    text
}

/// The end of an outcome's line: an aligned part, and the rest.
fn describe_outcome(outcome: &Outcome) -> (String, String) {
    let of_reason = |text: &str| (text.to_owned(), String::new());
    match (outcome.status, outcome.reason) {
        (Status::Copied, _) => {
            let mounted = match outcome.bytes.mounted {
                0 => String::new(),
                mounted => format!(", {} mounted", size(mounted)),
            };
            (format!("{:>8}  {}", size(outcome.bytes.copied), duration(outcome.seconds)), mounted)
        }
        (_, Some(Reason::TooNew)) => of_reason("too new"),
        (_, Some(Reason::QuotaUsed)) => of_reason("quota is used up"),
        (_, Some(Reason::Interrupted)) => of_reason("interrupted"),
        (_, Some(Reason::Kept)) => of_reason("the target's tag is kept"),
        (_, Some(Reason::Unchanged | Reason::Differs) | None) => of_reason(""),
    }
}

/// The end of a planned image's line: an aligned part, and the rest.
fn describe_transfer(image: &Transfer) -> (String, String) {
    let moves = matches!(image.action, Action::Copy | Action::Refer);
    let bytes = image.cost.bytes.filter(|_| moves).map(|bytes| size(bytes.copied)).unwrap_or_default();
    let pulls = match (image.cost.pulls, image.cost.pulls_exact) {
        // Zero known pulls aren't printed.
        (0, _) => String::new(),
        (pulls, true) => count(usize::try_from(pulls).unwrap_or(usize::MAX), "pull", "pulls"),
        (pulls, false) => format!("{pulls}+ pulls"),
    };
    let facts = match image.action {
        Action::Refer if pulls.is_empty() => "referrers only".to_owned(),
        Action::Refer => format!("{pulls}, referrers only"),
        _ => pulls,
    };
    (format!("{bytes:>8}  {facts}"), String::new())
}
