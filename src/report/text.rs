//! The report as text: result lines, failures, and a summary, for terminals, pipes and logs.
//!
//! What needs attention comes last, next to the summary, because the end of the output stays on the screen. The rest is
//! a number in the summary. No information depends on colour. At a terminal each line is fitted to its width; in a pipe
//! lines are complete, for grep.

mod caches;
mod checks;
mod differences;
mod failures;
mod images;
mod proxy_caches;
mod put_off;
mod quotas;
mod referrers;
mod table;

use std::io::{self, Write};

use super::summary::summary;
use super::{Exit, Part, Report, Status};
use crate::oci::Digest;
use crate::terminal::colour::{GREEN, RED, YELLOW, paint};
use crate::terminal::{escape, shorten, wrap};

/// The verbosity and style of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Style {
    /// Print only failures and the summary.
    pub quiet: bool,
    /// Also print images that needed no work, digests and causes.
    pub verbose: bool,
    /// Use colours.
    pub color: bool,
    /// The width of the terminal; `None` = unlimited.
    pub width: Option<usize>,
}

/// The colours of this report.
const GOOD: &str = GREEN;
const BAD: &str = RED;
const WAITING: &str = YELLOW;
const PLAIN: &str = "";

/// The word and colour of a status, and whether it has its own line by default.
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

    /// The word in text reports, of at most ten letters.
    pub fn word(self) -> &'static str {
        self.look().word
    }
}

impl Report {
    /// Writes the report as text.
    ///
    /// # Errors
    /// Errors of `out`.
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
        page.proxy_caches(self)?;
        page.caches(self)?;
        page.differences(self)?;
        page.checks(self)?;
        page.quotas(self)?;
        page.put_off(self)?;
        page.not_done(self)?;
        page.failures(self)?;
        page.failed_caches(self)?;
        page.summary(self)
    }
}

struct Page<'a> {
    out: &'a mut dyn Write,
    style: Style,
    spoken: bool,
}

impl Page<'_> {
    /// A line, wrapped if necessary; continuation lines are indented further.
    fn line(&mut self, line: &str) -> io::Result<()> {
        let margin = line.len() - line.trim_start_matches(' ').len();
        let lines = self.fitted(line, margin + 2);
        self.write(&lines)
    }

    /// A word in the column of words, followed by text. Continuation lines are aligned with the text.
    fn worded(&mut self, word: (&str, &str), text: &str) -> io::Result<()> {
        self.worded_at(0, word, text)
    }

    fn worded_at(&mut self, margin: usize, (word, color): (&str, &str), text: &str) -> io::Result<()> {
        let line = format!("{:margin$}{word:<10}  {text}", "");
        let mut lines = self.fitted(&line, margin + 12);
        if self.style.color && color != PLAIN {
            // After wrapping: escape sequences have no width.
            lines[0].replace_range(margin..margin + word.len(), &paint(word, color, true));
        }
        self.write(&lines)
    }

    /// A word and a name, shortened to fit the line.
    fn named(&mut self, word: (&str, &str), name: &str) -> io::Result<()> {
        let name = self.shortened(&escape(name), 12);
        self.worded(word, &name)
    }

    /// A line with only a name.
    fn name(&mut self, margin: usize, name: &str) -> io::Result<()> {
        let name = self.shortened(&escape(name), margin);
        self.line(&format!("{:margin$}{name}", ""))
    }

    fn hint(&mut self, margin: usize, hint: Option<&str>) -> io::Result<()> {
        match hint {
            Some(hint) => self.line(&format!("{:margin$}hint: {}", "", escape(hint))),
            None => Ok(()),
        }
    }

    fn shortened(&self, name: &str, beside: usize) -> String {
        self.style.width.map_or_else(|| name.to_owned(), |width| shorten(name, width.saturating_sub(beside)))
    }

    fn fitted(&self, line: &str, indent: usize) -> Vec<String> {
        match self.style.width {
            Some(width) => wrap(line.trim_end(), width, &" ".repeat(indent)),
            None => vec![line.trim_end().to_owned()],
        }
    }

    fn write(&mut self, lines: &[String]) -> io::Result<()> {
        self.spoken = true;
        lines.iter().try_for_each(|line| writeln!(self.out, "{line}"))
    }

    /// A blank line between two sections.
    fn gap(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.spoken) { writeln!(self.out) } else { Ok(()) }
    }

    /// Changed pins: the report lists changes upstream before the work that followed from them.
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

    fn summary(&mut self, report: &Report) -> io::Result<()> {
        self.gap()?;
        for line in summary(report) {
            self.line(&line)?;
        }
        if report.exit() == Exit::Unable {
            self.line("no target answered: nothing was done")?;
        }
        match (report.interrupted, report.verified) {
            (false, _) => Ok(()),
            (true, false) => self.line("interrupted: run it again, it goes on where it stopped"),
            (true, true) => self.line("interrupted: there may be more differences"),
        }
    }
}

#[cfg(test)]
mod tests;
