//! What is known of the mirrors of one repository in this run: who gave what, and whom it is in vain to ask.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::error::Kind;
use crate::oci::{Digest, Edge, Manifest};

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Mirrors are known by their places in the list.
#[derive(Debug, Default)]
pub(super) struct Known(Mutex<Ledger>);

#[derive(Debug, Default)]
struct Ledger {
    /// Who has said that it has a manifest; `None` = all were asked, and nobody has it.
    found: HashMap<Digest, Option<usize>>,
    /// Who has given a manifest.
    served: HashMap<Digest, usize>,
    /// From where a blob comes: who has given a manifest that points at it.
    givers: HashMap<Digest, usize>,
    /// Blobs that didn't come as they should: the origin gives them from now on.
    distrusted: HashSet<Digest>,
    /// Mirrors that don't serve this repository.
    refusing: HashSet<usize>,
}

impl Known {
    /// Which of `mirrors` to ask for the manifest `digest`, in this order.
    pub(super) fn to_ask(&self, digest: &Digest, mirrors: usize) -> Vec<usize> {
        let ledger = lock(&self.0);
        let first = match ledger.found.get(digest) {
            Some(Some(first)) => *first,
            Some(None) => return Vec::new(),
            None => 0,
        };
        (first..mirrors).filter(|place| !ledger.refusing.contains(place)).collect()
    }

    /// What asking for the manifest `digest` came to.
    pub(super) fn found(&self, digest: &Digest, place: Option<usize>) {
        lock(&self.0).found.insert(digest.clone(), place);
    }

    /// The mirror at `place` has given `manifest`.
    pub(super) fn served(&self, place: usize, manifest: &Manifest) {
        let mut ledger = lock(&self.0);
        ledger.served.insert(manifest.digest().clone(), place);
        for edge in manifest.successors() {
            if let Edge::Blob(blob) = edge {
                ledger.givers.insert(blob.digest.clone(), place);
            }
        }
    }

    /// Who has given the manifest `digest`.
    pub(super) fn server(&self, digest: &Digest) -> Option<usize> {
        lock(&self.0).served.get(digest).copied()
    }

    /// Who is to give the blob, if not the origin.
    pub(super) fn giver(&self, blob: &Digest) -> Option<usize> {
        let ledger = lock(&self.0);
        let giver = ledger.givers.get(blob).copied();
        giver.filter(|place| !ledger.distrusted.contains(blob) && !ledger.refusing.contains(place))
    }

    /// The blob didn't come as it should. Says whether it came from a mirror until now.
    pub(super) fn distrust(&self, blob: &Digest) -> bool {
        let mut ledger = lock(&self.0);
        ledger.givers.contains_key(blob) && ledger.distrusted.insert(blob.clone())
    }

    /// The mirror at `place` failed in this way. Says whether that means, for the first time, that it doesn't serve this
    /// repository.
    pub(super) fn refused(&self, place: usize, how: Kind) -> bool {
        let refuses = matches!(how, Kind::Unauthorized | Kind::Denied | Kind::Configuration | Kind::Invalid);
        refuses && lock(&self.0).refusing.insert(place)
    }
}
