//! Deferred images, and when to run again.

use std::io;

use super::{Page, Report, Status, WAITING};
use crate::plan::Plan;
use crate::report::phrase::circumstances;
use crate::terminal::escape;

impl Page<'_> {
    /// Deferred images by the time to run again, with the reason of the first: all of them wait for the same quota.
    pub(super) fn put_off(&mut self, report: &Report) -> io::Result<()> {
        let deferred = report.outcomes.iter().filter(|outcome| outcome.status == Status::Deferred);
        let planned =
            report.plan.iter().flat_map(Plan::with_work).filter_map(|transfer| transfer.cost.put_off.as_ref());
        let errors: Vec<_> = deferred.filter_map(|outcome| outcome.error.as_ref()).chain(planned).collect();
        let mut told: Vec<Option<&str>> = Vec::new();
        for first in &errors {
            if told.contains(&first.hint()) {
                continue;
            }
            told.push(first.hint());
            let others = errors.iter().filter(|error| error.hint() == first.hint()).count() - 1;
            self.gap()?;
            let text = format!("{}{}", escape(&first.to_string()), circumstances(first));
            self.worded((Status::Deferred.word(), WAITING), &text)?;
            if others > 0 {
                self.line(&format!("  and {others} more for the same quota"))?;
            }
            self.hint(2, first.hint())?;
        }
        Ok(())
    }
}
