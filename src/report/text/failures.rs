//! Failures by cause: a single image with its error, or a cause followed by its images.

use std::io;

use super::{Page, WAITING};
use crate::report::causes::{Cause, causes};
use crate::report::phrase::{circumstances, count};
use crate::report::{Outcome, Reason, Report};
use crate::terminal::escape;

/// The number of images that are named for one cause.
const NAMED: usize = 3;

impl Page<'_> {
    /// Printed last, just above the summary, where they are noticed.
    pub(super) fn failures(&mut self, report: &Report) -> io::Result<()> {
        let causes = causes(&report.outcomes);
        let is_alone = |at: usize| causes.get(at).is_some_and(Cause::is_of_one);
        for (at, cause) in causes.iter().enumerate() {
            let follows_alike = at > 0 && is_alone(at) && is_alone(at - 1) && causes[at - 1].hint == cause.hint;
            if !follows_alike {
                self.gap()?;
            }
            if !is_alone(at) {
                self.several(cause)?;
                continue;
            }
            self.one(cause)?;
            let is_said_below = is_alone(at + 1) && causes[at + 1].hint == cause.hint;
            if !is_said_below {
                self.hint(2, cause.hint.as_deref())?;
            }
        }
        Ok(())
    }

    /// The images that an interruption left undone.
    pub(super) fn not_done(&mut self, report: &Report) -> io::Result<()> {
        let is_so = |outcome: &&Outcome| outcome.reason == Some(Reason::Interrupted);
        let mut images: Vec<&str> = report.outcomes.iter().filter(is_so).map(|one| one.source.as_str()).collect();
        images.dedup();
        if images.is_empty() {
            return Ok(());
        }
        self.gap()?;
        self.worded(("not done", WAITING), &format!("{}:", count(images.len(), "image", "images")))?;
        self.images(&images)
    }

    fn one(&mut self, cause: &Cause<'_>) -> io::Result<()> {
        let Some((outcome, error)) = cause.failed.first() else { return Ok(()) };
        let look = cause.status.look();
        self.named((look.word, look.color), &outcome.source)?;
        let error = (*error).clone().with_attempts(cause.attempts());
        self.line(&format!("  {}{}", escape(&cause.message), circumstances(&error)))?;
        self.causes_of(&error)
    }

    fn several(&mut self, cause: &Cause<'_>) -> io::Result<()> {
        let Some((_, error)) = cause.failed.first() else { return Ok(()) };
        let look = cause.status.look();
        let error = (*error).clone().with_attempts(cause.attempts());
        self.worded((look.word, look.color), &format!("{}{}", escape(&cause.message), circumstances(&error)))?;
        self.hint(2, cause.hint.as_deref())?;
        self.causes_of(&error)?;
        let images = cause.images();
        self.line(&format!("  {}:", count(images.len(), "image", "images")))?;
        self.images(&images)
    }

    /// The first few images.
    fn images(&mut self, images: &[&str]) -> io::Result<()> {
        // One more name takes no more lines than `and 1 more`.
        let all = self.style.verbose || images.len() <= NAMED + 1;
        let shown = if all { images.len() } else { NAMED };
        for image in &images[..shown] {
            self.name(4, image)?;
        }
        if !all {
            self.line(&format!("    … and {} more (--json lists all)", images.len() - NAMED))?;
        }
        Ok(())
    }

    fn causes_of(&mut self, error: &crate::error::Error) -> io::Result<()> {
        let mut cause = std::error::Error::source(error).filter(|_| self.style.verbose);
        while let Some(error) = cause {
            self.line(&format!("  caused by: {}", escape(&error.to_string())))?;
            cause = error.source();
        }
        Ok(())
    }
}
