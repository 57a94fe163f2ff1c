//! Pull quotas, one line for each account.

use std::io;

use super::{BAD, GOOD, PLAIN, Page, Report, WAITING};
use crate::report::AccountQuota;
use crate::report::phrase::{circumstances, duration};
use crate::terminal::{escape, padded, width};

impl Page<'_> {
    pub(super) fn quotas(&mut self, report: &Report) -> io::Result<()> {
        let rows = report.quotas.as_deref().unwrap_or_default();
        let hosts: Vec<String> = rows.iter().map(|row| escape(&row.host).into_owned()).collect();
        let widest = hosts.iter().map(|host| width(host)).max().unwrap_or(0);
        for (row, host) in rows.iter().zip(&hosts) {
            let (word, color) = match (&row.error, row.quota) {
                (Some(_), _) => ("failed", BAD),
                (None, None) => ("unlimited", PLAIN),
                (None, Some(quota)) if quota.remaining == 0 => ("used up", WAITING),
                (None, Some(_)) => ("limited", GOOD),
            };
            self.worded((word, color), &format!("{}  {}", padded(host, widest), describe(row)))?;
            self.hint(2, row.error.as_ref().and_then(|error| error.hint()))?;
        }
        Ok(())
    }
}

/// `88 of 100 pulls left in 6 h 0 min, as me (192.0.2.1)`.
fn describe(row: &AccountQuota) -> String {
    if let Some(error) = &row.error {
        return format!("{}{}", escape(&error.to_string()), circumstances(error));
    }
    let who = match (&row.account, &row.counted) {
        (Some(account), Some(counted)) => format!(", as {} ({})", escape(account), escape(counted)),
        (Some(account), None) => format!(", as {}", escape(account)),
        (None, Some(counted)) => format!(", for {}", escape(counted)),
        (None, None) => String::new(),
    };
    let Some(quota) = row.quota else { return format!("it reports no pull quota{who}") };
    #[expect(clippy::cast_precision_loss, reason = "seconds of a window")]
    let window = quota.window_seconds.map(|window| format!(" in {}", duration(window as f64))).unwrap_or_default();
    format!("{} of {} pulls left{window}{who}", quota.remaining, quota.limit)
}
