//! The results of `check` by host. An unreachable host has one line, not one for each repository.

use std::io;

use super::{BAD, GOOD, Page, WAITING};
use crate::report::phrase::circumstances;
use crate::report::{Check, Proof, Report};
use crate::terminal::escape;

impl Page<'_> {
    pub(super) fn checks(&mut self, report: &Report) -> io::Result<()> {
        let checks = report.checks.as_deref().unwrap_or_default();
        for of_host in checks.chunk_by(|one, next| one.host == next.host) {
            let shown: Vec<_> = of_host.iter().filter(|check| !self.style.quiet || check.is_failure()).collect();
            if let Some(first) = shown.first() {
                self.gap()?;
                self.name(0, &first.host)?;
            }
            for (index, check) in shown.iter().enumerate() {
                let next = shown.get(index + 1).and_then(|next| next.proof.hint());
                self.check(check, next)?;
            }
        }
        Ok(())
    }

    /// A hint is printed once, after the last of the consecutive lines that share it.
    fn check(&mut self, check: &Check, next_hint: Option<&str>) -> io::Result<()> {
        let (word, color) = match check.proof {
            Proof::Holds(_) => ("ok", GOOD),
            Proof::Unknown { .. } => ("unknown", WAITING),
            Proof::Fails(_) => ("failed", BAD),
        };
        let subject = check.repository.as_deref().map(escape).unwrap_or_default();
        let mut line = format!("{:<7}  {subject}", check.right.word());
        match &check.proof {
            Proof::Holds(Some(note)) if subject.is_empty() => line.push_str(&escape(note)),
            Proof::Holds(Some(note)) => line.push_str(&format!(" ({})", escape(note))),
            _ => {}
        }
        self.worded_at(2, (word, color), &line)?;
        match &check.proof {
            Proof::Holds(_) => return Ok(()),
            Proof::Unknown { why, .. } => self.line(&format!("    {}", escape(why)))?,
            Proof::Fails(error) => {
                self.line(&format!("    {}{}", escape(&error.to_string()), circumstances(error)))?;
            }
        }
        self.hint(4, check.proof.hint().filter(|hint| next_hint != Some(hint)))
    }
}
