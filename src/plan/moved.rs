//! Bytes by the way they came to a target: what a plan expects, and what a run has seen.

use schemars::JsonSchema;
use serde::Serialize;

/// Bytes of blobs and manifests, by the way they came to the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, JsonSchema)]
pub struct Bytes {
    /// Sent over the network.
    pub copied: u64,
    /// Taken by the target from another of its repositories.
    pub mounted: u64,
    /// There already.
    pub present: u64,
}

impl Bytes {
    /// All of them.
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
