//! Counts the metered pulls that a copy didn't need, because the cache, a mirror or a target had the manifest.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::route::Route;
use crate::oci::{Digest, Repository};
use crate::plan::Spared;

/// A place other than the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Giver {
    Cache,
    /// A mirror or a target.
    Elsewhere,
}

/// The spared pulls that weren't reported yet.
#[derive(Debug, Default)]
pub(super) struct SparedPulls(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    /// Manifests that this run has read: what is read again spares nothing more.
    read: HashSet<(Repository, Digest)>,
    spared: HashMap<Repository, Spared>,
}

impl SparedPulls {
    /// Records that the manifest `digest` was read, from the source if there was no `giver`.
    pub(super) fn read(&self, route: &Route, digest: &Digest, giver: Option<Giver>) {
        if !route.source.meters_pulls() || route.source.has_read(digest) {
            return;
        }
        let (repository, mut counts) = (route.source_repository(), self.lock());
        if !counts.read.insert((repository.clone(), digest.clone())) {
            return;
        }
        let Some(giver) = giver else { return };
        let spared = counts.spared.entry(repository.clone()).or_default();
        match giver {
            Giver::Cache => spared.by_cache += 1,
            Giver::Elsewhere => spared.elsewhere += 1,
        }
    }

    /// What was spared of `repository` since the last call.
    pub(super) fn take(&self, repository: &Repository) -> Spared {
        self.lock().spared.remove(repository).unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
