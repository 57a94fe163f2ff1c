//! What this run knows about the mirrors of one repository: which mirror served what, and which needn't be asked.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::error::Kind;
use crate::oci::{Digest, Edge, Manifest};

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Mirrors are identified by their position in the list.
#[derive(Debug, Default)]
pub(super) struct Known(Mutex<Ledger>);

#[derive(Debug, Default)]
struct Ledger {
    /// The mirror that has a manifest; `None` if all were asked and none has it.
    found: HashMap<Digest, Option<usize>>,
    /// The mirror that served a manifest.
    served: HashMap<Digest, usize>,
    /// The mirror for a blob: it served a manifest that points at the blob.
    givers: HashMap<Digest, usize>,
    /// Blobs that a mirror served incorrectly: the origin serves them from now on.
    distrusted: HashSet<Digest>,
    /// Mirrors that don't serve this repository.
    refusing: HashSet<usize>,
}

impl Known {
    /// The mirrors to ask for the manifest `digest`, in order.
    pub(super) fn to_ask(&self, digest: &Digest, mirrors: usize) -> Vec<usize> {
        let ledger = lock(&self.0);
        let first = match ledger.found.get(digest) {
            Some(Some(first)) => *first,
            Some(None) => return Vec::new(),
            None => 0,
        };
        (first..mirrors).filter(|place| !ledger.refusing.contains(place)).collect()
    }

    /// Records which mirror has the manifest `digest`, if any.
    pub(super) fn found(&self, digest: &Digest, place: Option<usize>) {
        lock(&self.0).found.insert(digest.clone(), place);
    }

    /// Records that the mirror at `place` served `manifest`.
    pub(super) fn served(&self, place: usize, manifest: &Manifest) {
        let mut ledger = lock(&self.0);
        ledger.served.insert(manifest.digest().clone(), place);
        for edge in manifest.successors() {
            if let Edge::Blob(blob) = edge {
                ledger.givers.insert(blob.digest.clone(), place);
            }
        }
    }

    /// The mirror that served the manifest `digest`.
    pub(super) fn server(&self, digest: &Digest) -> Option<usize> {
        lock(&self.0).served.get(digest).copied()
    }

    /// The mirror to read the blob from; `None` for the origin.
    pub(super) fn giver(&self, blob: &Digest) -> Option<usize> {
        let ledger = lock(&self.0);
        let giver = ledger.givers.get(blob).copied();
        giver.filter(|place| !ledger.distrusted.contains(blob) && !ledger.refusing.contains(place))
    }

    /// Records that a mirror served the blob incorrectly. Returns whether it was read from a mirror until now.
    pub(super) fn distrust(&self, blob: &Digest) -> bool {
        let mut ledger = lock(&self.0);
        ledger.givers.contains_key(blob) && ledger.distrusted.insert(blob.clone())
    }

    /// Records that the mirror at `place` failed in this way. Returns whether this shows, for the first time, that
    /// it doesn't serve this repository.
    pub(super) fn refused(&self, place: usize, how: Kind) -> bool {
        let refuses = matches!(how, Kind::Unauthorized | Kind::Denied | Kind::Configuration | Kind::Invalid);
        refuses && lock(&self.0).refusing.insert(place)
    }
}
