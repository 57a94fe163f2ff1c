//! The cost of an image: as expected by a plan, and the bytes that a run has moved.

use schemars::JsonSchema;
use serde::Serialize;

use super::Action;
use crate::error::Error;

/// The expected cost of an image.
#[derive(Debug, Clone, Default)]
pub struct Cost {
    /// Manifest GETs at the source that count against a quota: a lower bound unless they are exact.
    pub pulls: u64,
    /// Whether `pulls` is exact. It isn't if the children of an unread index, or its referrers, aren't known.
    pub pulls_exact: bool,
    /// Manifest GETs that aren't needed.
    pub spared: Spared,
    /// The bytes to move, and the bytes that needn't be moved; `None` while unknown.
    pub bytes: Option<Bytes>,
    /// Why it has to be put off: too few pulls are left.
    pub put_off: Option<Error>,
}

/// Manifest GETs that aren't sent to the source, by the place that has the manifests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Spared {
    /// The cache.
    pub by_cache: u64,
    /// A mirror, or another target.
    pub elsewhere: u64,
}

impl Cost {
    /// The cost as far as `action` determines it: nothing if there is no work.
    pub fn of(action: &Action) -> Self {
        let is_free = !action.has_work();
        Self { pulls_exact: is_free, bytes: is_free.then(Bytes::default), ..Self::default() }
    }
}

impl std::ops::AddAssign for Spared {
    fn add_assign(&mut self, other: Self) {
        self.by_cache += other.by_cache;
        self.elsewhere += other.elsewhere;
    }
}

/// Bytes of blobs and manifests, by the way they got to the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, JsonSchema)]
pub struct Bytes {
    /// Sent over the network.
    pub copied: u64,
    /// Mounted by the target from another of its repositories.
    pub mounted: u64,
    /// Already there.
    pub present: u64,
}

impl Bytes {
    /// The sum.
    pub fn total(self) -> u64 {
        self.copied + self.mounted + self.present
    }
}

impl std::ops::Add for Bytes {
    type Output = Self;

    fn add(mut self, other: Self) -> Self {
        self += other;
        self
    }
}

impl std::ops::AddAssign for Bytes {
    fn add_assign(&mut self, other: Self) {
        self.copied += other.copied;
        self.mounted += other.mounted;
        self.present += other.present;
    }
}
