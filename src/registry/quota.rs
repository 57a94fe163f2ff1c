//! The pull quota that a host reports in its answers.

use http::header::HeaderMap;

use crate::retry::LONGEST_PAUSE;

/// A pull quota from a host's `ratelimit-*` headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// Pulls per window.
    pub limit: u64,
    /// Pulls left.
    pub remaining: u64,
    /// The length of the window in seconds, if present.
    pub window_seconds: Option<u64>,
}

impl Quota {
    /// `ratelimit-limit: 100;w=21600` and `ratelimit-remaining: 20;w=21600`. Empty and negative values were seen.
    /// Without a window they limit requests per second, and that isn't a quota.
    pub(crate) fn of(headers: &HeaderMap) -> Option<Self> {
        let read = |name: &str| {
            let text = headers.get(name)?.to_str().ok()?;
            let mut parts = text.split(';').map(str::trim);
            let count = parts.next()?.parse::<i64>().ok()?;
            let window = parts.find_map(|part| part.strip_prefix("w=")?.trim().parse::<u64>().ok());
            let window = window.map(|seconds| seconds.min(LONGEST_PAUSE.as_secs()));
            Some((u64::try_from(count).unwrap_or(0), window))
        };
        let (limit, window) = read("ratelimit-limit")?;
        let (remaining, own_window) = read("ratelimit-remaining")?;
        let window_seconds = Some(window.or(own_window)?);
        Some(Self { limit, remaining, window_seconds })
    }
}
