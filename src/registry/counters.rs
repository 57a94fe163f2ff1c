//! Counts requests to a host, for the report and for the quota.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::oci::Registry;
use crate::registry::action::Action;
use crate::registry::quota::Quota;

/// The requests of a run to a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostStats {
    /// The host.
    pub host: Registry,
    /// All requests to it, including retries.
    pub requests: u64,
    /// Manifest GETs among them, which a pull quota counts.
    pub manifest_gets: u64,
    /// Answers with status 429.
    pub throttled: u64,
    /// The pull quota, if the host sends it; if there are several accounts, that with the least left.
    pub quota: Option<Quota>,
    /// Whether manifest GETs count against a quota, as far as is known.
    pub meters_pulls: bool,
}

/// The counters of a host.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    requests: AtomicU64,
    manifest_gets: AtomicU64,
    throttled: AtomicU64,
}

impl Counters {
    pub(crate) fn sent(&self, action: Action) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        if action == Action::PullManifest {
            self.manifest_gets.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn throttled(&self) {
        self.throttled.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn stats(&self, host: &Registry, quota: Option<Quota>, meters_pulls: bool) -> HostStats {
        HostStats {
            host: host.clone(),
            requests: self.requests.load(Ordering::Relaxed),
            manifest_gets: self.manifest_gets.load(Ordering::Relaxed),
            throttled: self.throttled.load(Ordering::Relaxed),
            quota,
            meters_pulls,
        }
    }
}
