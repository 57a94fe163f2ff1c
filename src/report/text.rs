//! The report as text: result lines, failures, and a summary, for a terminal, a pipe and a log alike.
//!
//! What needs somebody comes last, next to the summary, because that is what is still on the screen in the morning. What
//! is as it should be is a number in the summary. Nothing depends on colour. Lines aren't folded: they are for grep too.

mod caches;
mod differences;
mod put_off;
mod quotas;
mod referrers;

use std::fmt::Write as _;
use std::io::{self, Write};

use super::phrase::{Targets, circumstances, column, count, duration, escape, size};
use super::summary::summary;
use super::{Check, Exit, Outcome, Part, Proof, Reason, Report, Status};
use crate::oci::Digest;
use crate::plan::{Action, Plan, Planned, Transfer};

/// How much to say, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Style {
    /// Only failures and the summary.
    pub quiet: bool,
    /// Also what needed no work, digests and causes.
    pub verbose: bool,
    /// With colours.
    pub color: bool,
}

/// SGR codes, and what they mean here.
const GOOD: &str = "32";
const BAD: &str = "31";
const WAITING: &str = "33";
const PLAIN: &str = "0";

/// How a status is spelled, coloured, and whether it is worth a line of its own without being asked.
struct Look {
    status: Status,
    word: &'static str,
    color: &'static str,
    line: bool,
}

const LOOKS: [Look; 9] = [
    Look { status: Status::Copied, word: "copied", color: GOOD, line: true },
    Look { status: Status::UpToDate, word: "up to date", color: PLAIN, line: false },
    Look { status: Status::Unknown, word: "unknown", color: WAITING, line: false },
    Look { status: Status::Held, word: "held", color: WAITING, line: true },
    Look { status: Status::Deferred, word: "deferred", color: WAITING, line: true },
    Look { status: Status::Skipped, word: "skipped", color: WAITING, line: false },
    Look { status: Status::Differs, word: "differs", color: BAD, line: false },
    Look { status: Status::Conflict, word: "conflict", color: BAD, line: false },
    Look { status: Status::Failed, word: "failed", color: BAD, line: false },
];

impl Status {
    fn look(self) -> &'static Look {
        LOOKS.iter().find(|look| look.status == self).expect("every status has a look")
    }

    /// The word for people; it never has more than ten letters.
    pub fn word(self) -> &'static str {
        self.look().word
    }
}

impl Report {
    /// Writes the report as text.
    ///
    /// # Errors
    /// What `out` says.
    pub fn write_text(&self, out: &mut dyn Write, style: Style) -> io::Result<()> {
        let mut page = Page { out, style, spoken: false };
        page.changes(self)?;
        match &self.plan {
            Some(plan) => page.work(plan)?,
            None => {
                page.results(&self.outcomes)?;
                page.repositories(self)?;
            }
        }
        page.caches(self)?;
        page.differences(self)?;
        page.checks(self)?;
        page.quotas(self)?;
        page.put_off(self)?;
        page.failures(&self.outcomes)?;
        page.summary(self)
    }
}

struct Page<'a> {
    out: &'a mut dyn Write,
    style: Style,
    spoken: bool,
}

impl Page<'_> {
    fn line(&mut self, line: &str) -> io::Result<()> {
        self.spoken = true;
        writeln!(self.out, "{}", line.trim_end())
    }

    /// A blank line between two parts.
    fn gap(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.spoken) { writeln!(self.out) } else { Ok(()) }
    }

    fn word(&self, word: &str, color: &str) -> String {
        // Padded first: escape sequences have no width.
        let word = format!("{word:<10}");
        if self.style.color && color != PLAIN { format!("\x1b[{color}m{word}\x1b[0m") } else { word }
    }

    /// Pins that moved: what upstream did is read before what was done about it.
    fn changes(&mut self, report: &Report) -> io::Result<()> {
        if self.style.quiet {
            return Ok(());
        }
        for change in report.changes.iter().flatten() {
            let old = change.old.as_ref().map_or("new", Digest::short);
            let new = change.new.as_ref().map_or("dropped", Digest::short);
            let of = if change.what == Part::Referrer { "referrer " } else { "" };
            self.line(&format!("{}  {of}{old} → {new}", escape(&change.source)))?;
        }
        Ok(())
    }

    fn results(&mut self, outcomes: &[Outcome]) -> io::Result<()> {
        if self.style.quiet {
            return Ok(());
        }
        // Failures and what differs have their own place.
        let is_told = |outcome: &Outcome| outcome.is_failure() || outcome.status == Status::Differs;
        let wanted = |outcome: &&Outcome| {
            let asked_for = self.style.verbose && !is_told(outcome);
            outcome.status.look().line || asked_for || referrers::is_notable(outcome)
        };
        let shown: Vec<_> = outcomes.iter().filter(wanted).collect();
        let targets = Targets::of(outcomes.iter().map(|outcome| (outcome.source.as_str(), outcome.target.as_str())));
        let names: Vec<_> = shown.iter().map(|outcome| targets.name(&outcome.source, &outcome.target)).collect();
        let width = column(&names);
        for (outcome, name) in shown.into_iter().zip(&names) {
            let look = outcome.status.look();
            let took = [what_it_took(outcome), referrers::beside(outcome)].concat();
            let took = took.strip_prefix(", ").unwrap_or(&took);
            let mut line = format!("{}  {name:<width$}  {took}", self.word(outcome.word(), look.color));
            if self.style.verbose
                && let Some(digest) = &outcome.digest
            {
                let _ = write!(line, "  {}", digest.short());
                if let Some(mirrored) = &outcome.mirrored {
                    let _ = write!(line, ", mirrored as {}", mirrored.short());
                }
            }
            self.line(&line)?;
            self.referrers(outcome)?;
        }
        Ok(())
    }

    /// What has become of the target repositories.
    fn repositories(&mut self, report: &Report) -> io::Result<()> {
        let quiet = self.style.quiet;
        for repository in report.repositories.iter().filter(|repository| repository.created && !quiet) {
            let word = self.word("created", GOOD);
            self.line(&format!("{word}  {}", escape(&repository.target)))?;
        }
        for repository in report.repositories.iter().filter(|repository| !repository.changes.is_empty() && !quiet) {
            let (word, settings) = (self.word("changed", GOOD), spoken(&repository.changes));
            self.line(&format!("{word}  {}  {settings}", escape(&repository.target)))?;
        }
        Ok(())
    }

    fn work(&mut self, plan: &Plan) -> io::Result<()> {
        if self.style.quiet {
            return Ok(());
        }
        let shown: Vec<_> = plan.images.iter().filter_map(|image| transfer(image, self.style.verbose)).collect();
        // Where another image goes elsewhere, it isn't plain where those that are shown go.
        let pairs: Vec<_> = plan.images.iter().map(names).collect();
        let targets = Targets::of(pairs.iter().map(|(source, target)| (source.as_str(), target.as_str())));
        let name = |image: &&Transfer| targets.name(&image.source.to_string(), &image.target_text());
        let names: Vec<_> = shown.iter().map(name).collect();
        let width = column(&names);
        for (image, name) in shown.into_iter().zip(&names) {
            let (word, color) = match image.action {
                _ if image.put_off.is_some() => ("defer", WAITING),
                Action::Copy | Action::Refer => ("copy", GOOD),
                Action::Tag => ("tag", GOOD),
                Action::UpToDate => (Status::UpToDate.word(), PLAIN),
                Action::Kept { .. } => ("kept", WAITING),
                Action::Conflict { .. } => continue,
            };
            let line = format!("{}  {name:<width$}  {}", self.word(word, color), what_it_will_take(image));
            self.line(&line)?;
        }
        for repository in &plan.missing {
            let line = format!("{}  {}", self.word("create", GOOD), escape(&repository.to_string()));
            self.line(&line)?;
        }
        for (repository, settings) in &plan.changes {
            let line = format!("{}  {}", self.word("change", GOOD), escape(&repository.to_string()));
            self.line(&format!("{line}  {}", spoken(settings)))?;
        }
        Ok(())
    }

    /// What was proved, host by host: a host that can't be reached has one line and not one for each of its repositories.
    fn checks(&mut self, report: &Report) -> io::Result<()> {
        let checks = report.checks.as_deref().unwrap_or_default();
        for of_host in checks.chunk_by(|one, next| one.host == next.host) {
            let shown: Vec<_> = of_host.iter().filter(|check| !self.style.quiet || check.is_failure()).collect();
            if let Some(first) = shown.first() {
                self.gap()?;
                self.line(&escape(&first.host))?;
            }
            for (index, check) in shown.iter().enumerate() {
                let next = shown.get(index + 1).and_then(|next| next.proof.hint());
                self.check(check, next)?;
            }
        }
        Ok(())
    }

    /// The hint is told once, after the last of several lines in a row that it is for.
    fn check(&mut self, check: &Check, next_hint: Option<&str>) -> io::Result<()> {
        let (word, color) = match check.proof {
            Proof::Holds(_) => ("ok", GOOD),
            Proof::Unknown { .. } => ("unknown", WAITING),
            Proof::Fails(_) => ("failed", BAD),
        };
        let subject = check.repository.as_deref().map(escape).unwrap_or_default();
        let mut line = format!("  {}  {:<7}  {subject}", self.word(word, color), check.right.word());
        match &check.proof {
            Proof::Holds(Some(note)) if subject.is_empty() => line.push_str(&escape(note)),
            Proof::Holds(Some(note)) => line.push_str(&format!(" ({})", escape(note))),
            _ => {}
        }
        self.line(&line)?;
        match &check.proof {
            Proof::Holds(_) => return Ok(()),
            Proof::Unknown { why, .. } => self.line(&format!("    {}", escape(why)))?,
            Proof::Fails(error) => {
                self.line(&format!("    {}{}", escape(&error.to_string()), circumstances(error)))?;
            }
        }
        match check.proof.hint().filter(|hint| next_hint != Some(hint)) {
            Some(hint) => self.line(&format!("    hint: {}", escape(hint))),
            None => Ok(()),
        }
    }

    /// Failures, those with the same next step together, and that step once: a registry that is down has failed them all.
    fn failures(&mut self, outcomes: &[Outcome]) -> io::Result<()> {
        let mut hints: Vec<Option<&str>> = Vec::new();
        let failed: Vec<_> = outcomes
            .iter()
            .filter(|outcome| outcome.is_failure())
            .filter_map(|o| Some((o, o.error.as_ref()?)))
            .collect();
        for (_, error) in &failed {
            if !hints.contains(&error.hint()) {
                hints.push(error.hint());
            }
        }
        for hint in hints {
            self.gap()?;
            for (outcome, error) in failed.iter().filter(|(_, error)| error.hint() == hint) {
                let look = outcome.status.look();
                let word = self.word(look.word, look.color);
                self.line(&format!("{word}  {}", escape(&outcome.source)))?;
                self.line(&format!("  {}{}", escape(&error.to_string()), circumstances(error)))?;
                let mut cause = std::error::Error::source(*error).filter(|_| self.style.verbose);
                while let Some(error) = cause {
                    self.line(&format!("  caused by: {}", escape(&error.to_string())))?;
                    cause = error.source();
                }
            }
            if let Some(hint) = hint {
                self.line(&format!("  hint: {}", escape(hint)))?;
            }
        }
        Ok(())
    }

    fn summary(&mut self, report: &Report) -> io::Result<()> {
        self.gap()?;
        self.line(&summary(report))?;
        if report.exit() == Exit::Unable {
            self.line("no target answered: nothing was done")?;
        }
        match (report.interrupted, report.verified) {
            (false, _) => Ok(()),
            (true, false) => self.line("interrupted: run it again, it goes on where it stopped"),
            (true, true) => self.line("interrupted: there may be more that differs"),
        }
    }
}

/// Keys of mirror.yaml as words.
fn spoken(settings: &[&str]) -> String {
    settings.join(", ").replace('_', " ")
}

fn transfer(planned: &Planned, all: bool) -> Option<&Transfer> {
    match planned {
        Planned::Image(transfer) if all => Some(transfer),
        _ => planned.work(),
    }
}

/// What an image is called at its source and at its target.
fn names(planned: &Planned) -> (String, String) {
    match planned {
        Planned::Image(transfer) => (transfer.source.to_string(), transfer.target_text()),
        Planned::Failed { source, target, .. } => (source.clone(), target.clone()),
    }
}

/// What an outcome's line ends with.
fn what_it_took(outcome: &Outcome) -> String {
    match (outcome.status, outcome.reason) {
        (Status::Copied, _) => {
            let mut text = format!("{:>8}  {}", size(outcome.bytes.copied), duration(outcome.seconds));
            if outcome.bytes.mounted > 0 {
                let _ = write!(text, ", {} mounted", size(outcome.bytes.mounted));
            }
            text
        }
        (_, Some(Reason::TooNew)) => "too new".to_owned(),
        (_, Some(Reason::QuotaUsed)) => "quota is used up".to_owned(),
        (_, Some(Reason::Interrupted)) => "interrupted".to_owned(),
        (_, Some(Reason::Kept)) => "the target's tag is kept".to_owned(),
        (_, Some(Reason::Unchanged | Reason::Differs) | None) => String::new(),
    }
}

/// What a planned image's line ends with.
fn what_it_will_take(image: &Transfer) -> String {
    let moves = matches!(image.action, Action::Copy | Action::Refer);
    let bytes = image.bytes.filter(|_| moves).map(|bytes| size(bytes.copied)).unwrap_or_default();
    let pulls = match (image.pulls, image.pulls_exact) {
        // None that is known of is nothing to tell.
        (0, _) => String::new(),
        (pulls, true) => count(usize::try_from(pulls).unwrap_or(usize::MAX), "pull", "pulls"),
        (pulls, false) => format!("{pulls}+ pulls"),
    };
    let facts = match image.action {
        Action::Refer if pulls.is_empty() => "referrers only".to_owned(),
        Action::Refer => format!("{pulls}, referrers only"),
        _ => pulls,
    };
    format!("{bytes:>8}  {facts}")
}

#[cfg(test)]
mod tests;
