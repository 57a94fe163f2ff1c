//! Content that is available before anything is copied: an image that the plan found right at one target is read
//! there for another, and cached manifests tell which repositories have which blobs from earlier runs. None of this
//! is saved.
//!
//! A plan only looks at tags, so an image that it found right may have lost content since. A repository that can't
//! serve the content is skipped.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::StreamExt as _;

use super::Engine;
use super::holders::Holders;
use super::route::Route;
use crate::oci::{Digest, Edge, Manifest, Registry, Repository};
use crate::plan::Plan;

/// Target repositories that have a manifest with everything below it.
#[derive(Debug, Default)]
pub(super) struct Nearby {
    at: Mutex<HashMap<Digest, Vec<Repository>>>,
    /// The registry that served a manifest in this run.
    gave: Mutex<HashMap<Digest, Registry>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Nearby {
    pub(super) fn new(plan: &Plan) -> Self {
        let nearby = Self::default();
        for transfer in plan.right() {
            nearby.add(transfer.target_digest(), &transfer.target);
        }
        nearby
    }

    fn add(&self, digest: &Digest, repository: &Repository) {
        let mut at = lock(&self.at);
        let at = at.entry(digest.clone()).or_default();
        if !at.contains(repository) {
            at.push(repository.clone());
        }
    }

    fn at(&self, digest: &Digest) -> Vec<Repository> {
        lock(&self.at).get(digest).cloned().unwrap_or_default()
    }

    /// Whether a repository other than the target of `route` has the manifest `digest`.
    pub(super) fn has(&self, digest: &Digest, route: &Route) -> bool {
        lock(&self.at).get(digest).is_some_and(|at| at.iter().any(|one| one != route.target_repository()))
    }

    /// Records that each repository that has `manifest` also has what it points at.
    pub(super) fn spread(&self, manifest: &Manifest, holders: &Holders) {
        for repository in self.at(manifest.digest()) {
            holders.commit(manifest, &repository);
            for edge in manifest.successors() {
                if let Edge::Manifest(child) = edge {
                    self.add(&child.digest, &repository);
                }
            }
        }
    }

    /// The target that served the manifest `digest` in this run, if any.
    pub(super) fn gave(&self, digest: &Digest) -> Option<Registry> {
        lock(&self.gave).get(digest).cloned()
    }
}

/// The manifest `digest` from another target that has it, if reading there records no pull time. Waits for no other
/// image.
pub(super) async fn manifest(engine: &Engine, route: &Route, digest: &Digest) -> Option<Arc<Manifest>> {
    let others = engine.nearby.at(digest).into_iter().filter(|repository| repository != route.target_repository());
    for repository in others {
        if engine.stores.target(&repository).is_ok_and(|target| target.records_pull_time()) {
            continue;
        }
        let Ok(source) = engine.stores.alternative(&repository, false) else { continue };
        match source.manifest(digest).await {
            Ok(manifest) => {
                lock(&engine.nearby.gave).insert(digest.clone(), repository.registry().clone());
                return Some(Arc::new(manifest));
            }
            Err(error) => tracing::debug!("{error}: looking elsewhere"),
        }
    }
    None
}

/// Records in the ledger what the repositories of up-to-date images have, as far as cached manifests tell. This
/// only helps if something is to be copied.
pub(super) async fn record_present(engine: &Engine, plan: &Plan) {
    let mut contents = std::pin::pin!(plan.known_contents(&engine.stores));
    while let Some((_, manifests)) = contents.next().await {
        manifests.iter().for_each(|manifest| engine.nearby.spread(manifest, &engine.holders));
    }
}
