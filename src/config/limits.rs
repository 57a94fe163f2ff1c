//! `limits:` → [`Limits`].

use std::num::NonZeroU64;
use std::time::Duration;

use bytesize::ByteSize;

use super::findings::Findings;
use super::raw::RawLimits;
use crate::yaml::KeyPath;

/// Limits of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Blobs in flight; an upper bound, not a target.
    pub transfers: usize,
    /// How long a connection may be silent: while connecting, before the first byte, and between bytes.
    pub idle_timeout: Duration,
    /// How long to wait for a host in trouble before it is given up for the run.
    pub max_wait: Duration,
    /// The read limit for all sources together, in bytes per second; `None` = unlimited.
    pub bandwidth: Option<NonZeroU64>,
    /// Pulls of a quota that are left for others.
    pub quota_reserve: u64,
    /// The largest accepted manifest, in bytes.
    pub manifest_size: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            transfers: 32,
            idle_timeout: Duration::from_secs(60),
            max_wait: Duration::from_secs(300),
            bandwidth: None,
            quota_reserve: 10,
            manifest_size: 4 << 20,
        }
    }
}

/// The longest permitted wait, which can be added to a clock without overflow.
const LONGEST: Duration = Duration::from_secs(30 * 24 * 3600);

/// The limits in `raw`, with defaults for the others.
pub(super) fn limits(raw: Option<&RawLimits>, findings: &mut Findings<'_>) -> Limits {
    let mut limits = Limits::default();
    let Some(raw) = raw else { return limits };
    let path = KeyPath::default().key("limits");
    if let Some(transfers) = raw.transfers {
        limits.transfers = usize::try_from(transfers).unwrap_or(usize::MAX);
        if transfers == 0 {
            findings.add(&path.key("transfers"), "expected 1 or more");
        }
    }
    let mut set_duration = |key, text: &Option<String>, limit: &mut Duration| {
        if let Some(duration) = text.as_deref().and_then(|text| duration(text, &path.key(key), findings)) {
            *limit = duration;
        }
    };
    set_duration("idle_timeout", &raw.idle_timeout, &mut limits.idle_timeout);
    set_duration("max_wait", &raw.max_wait, &mut limits.max_wait);
    limits.quota_reserve = raw.quota_reserve.unwrap_or(limits.quota_reserve);
    if let Some(text) = &raw.bandwidth {
        let hint = "write a size a second: 200MB/s";
        let per_second = text.trim_end().strip_suffix("/s").unwrap_or_default();
        limits.bandwidth = size(per_second, text, hint, &path.key("bandwidth"), findings);
    }
    if let Some(text) = &raw.manifest_size {
        let hint = "write a number and a unit: 4MiB";
        if let Some(size) = size(text, text, hint, &path.key("manifest_size"), findings) {
            limits.manifest_size = size.get();
        }
    }
    limits
}

fn duration(text: &str, path: &KeyPath, findings: &mut Findings<'_>) -> Option<Duration> {
    match humantime::parse_duration(text) {
        Ok(Duration::ZERO) => findings.add(path, "expected more than 0"),
        Ok(duration) => return Some(duration.min(LONGEST)),
        Err(error) => {
            findings.add_hint(
                path,
                format!("`{text}` isn't a duration: {error}"),
                "write a number and a unit: 60s, 2m",
            );
        }
    }
    None
}

/// Parses `number` as a size; `text` is the value in the file.
fn size(number: &str, text: &str, hint: &str, path: &KeyPath, findings: &mut Findings<'_>) -> Option<NonZeroU64> {
    let Ok(size) = number.parse::<ByteSize>() else {
        findings.add_hint(path, format!("`{text}` isn't a size"), hint);
        return None;
    };
    let size = NonZeroU64::new(size.as_u64());
    if size.is_none() {
        findings.add(path, "expected more than 0");
    }
    size
}
