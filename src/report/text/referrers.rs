//! Referrers of an image: a number on its line, and separate lines only for those that failed.

use std::io;

use super::{BAD, Page};
use crate::report::phrase::circumstances;
use crate::report::{Outcome, ReferrerOutcome, Status};
use crate::terminal::escape;

/// `, +3 referrers`: those that are at the target.
pub(super) fn beside(outcome: &Outcome) -> String {
    let there = outcome.referrers.iter().filter(|row| matches!(row.status, Status::Copied | Status::UpToDate)).count();
    match there {
        0 => String::new(),
        1 => ", +1 referrer".to_owned(),
        more => format!(", +{more} referrers"),
    }
}

/// Whether a referrer needs attention although the image is fine.
pub(super) fn is_notable(outcome: &Outcome) -> bool {
    !outcome.is_failure() && outcome.referrers.iter().any(is_failed)
}

fn is_failed(row: &ReferrerOutcome) -> bool {
    row.status == Status::Failed
}

impl Page<'_> {
    /// The referrers that failed, or with `-v` all of them. A hint is printed once for consecutive ones that share it.
    pub(super) fn referrers(&mut self, outcome: &Outcome) -> io::Result<()> {
        let shown: Vec<_> = outcome.referrers.iter().filter(|row| self.style.verbose || is_failed(row)).collect();
        for (index, row) in shown.iter().enumerate() {
            let look = row.status.look();
            let color = if is_failed(row) { BAD } else { look.color };
            let text = match &row.referrer {
                Some(referrer) => {
                    let kind = referrer.kind().unwrap_or_else(|| referrer.media_type.as_str());
                    format!("{}  {}", referrer.digest.short(), escape(kind))
                }
                None => "whether it has referrers".to_owned(),
            };
            self.worded_at(2, (look.word, color), &text)?;
            let Some(error) = &row.error else { continue };
            self.line(&format!("    {}{}", escape(&error.to_string()), circumstances(error)))?;
            let next = shown.get(index + 1).and_then(|next| next.error.as_ref()?.hint());
            self.hint(4, error.hint().filter(|hint| next != Some(hint)))?;
        }
        Ok(())
    }
}
