//! Bounds the memory for manifests that a run has read.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::oci::bounds;

/// The memory for manifests: a manifest that doesn't fit is read again when it is needed.
#[derive(Debug)]
pub(super) struct ManifestMemory {
    /// In bytes.
    held: AtomicU64,
    most: u64,
}

impl Default for ManifestMemory {
    fn default() -> Self {
        Self { held: AtomicU64::new(0), most: bounds::MANIFESTS }
    }
}

impl ManifestMemory {
    /// Whether a manifest of `bytes` bytes may be kept.
    pub(super) fn takes(&self, bytes: u64) -> bool {
        let held = self.held.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        if held > self.most {
            self.held.fetch_sub(bytes, Ordering::Relaxed);
        }
        held <= self.most
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_stays_within_its_limit_and_small_requests_still_fit() {
        let memory = ManifestMemory { held: AtomicU64::new(0), most: 100 };
        assert_eq!([60, 41, 40, 1, u64::MAX].map(|bytes| memory.takes(bytes)), [true, false, true, false, false]);
        assert_eq!(memory.held.load(Ordering::Relaxed), 100);
    }
}
