//! Whether target repositories take pushes, found out by the first upload to each: it is opened before a pull that counts is
//! spent, and before a blob is read, so that a target which takes nothing costs nothing upstream.
//!
//! A registry that takes no pushes at all (405: read-only, or a pull-through cache) says so once, and all of its repositories
//! wait for its first answer; a repository that refuses (403) says so for all of its tags.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::Engine;
use super::route::Route;
use super::turns::Turns;
use crate::error::{Error, Kind, Result, Side};
use crate::oci::{Registry, Repository};
use crate::store::Upload;

/// What is known of the target repositories.
#[derive(Debug, Default)]
pub(super) struct Writable {
    known: Mutex<Known>,
    /// Until something is known of a registry, and then of each of its repositories, one asks at a time.
    registries: Turns<Registry, ()>,
    repositories: Turns<Repository, ()>,
}

#[derive(Debug, Default)]
struct Known {
    proven: HashSet<Repository>,
    /// Registries that have answered to an upload, whatever.
    answered: HashSet<Registry>,
    read_only: HashMap<Registry, Error>,
    refused: HashMap<Repository, Error>,
    /// Uploads that nobody has used yet.
    opened: HashMap<Repository, Upload>,
}

impl Writable {
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `repository` has taken something.
    pub(super) fn prove(&self, repository: &Repository) {
        let mut known = self.lock();
        if known.proven.insert(repository.clone()) {
            known.answered.insert(repository.registry().clone());
        }
    }

    /// An upload to `repository` that was opened to find out, for the first who needs one.
    pub(super) fn take_opened(&self, repository: &Repository) -> Option<Upload> {
        self.lock().opened.remove(repository)
    }

    /// All that nobody has used.
    pub(super) fn unused(&self) -> Vec<(Repository, Upload)> {
        self.lock().opened.drain().collect()
    }

    /// Finds out whether the target of `route` takes pushes, unless that is known. The upload is kept for its first blob.
    ///
    /// # Errors
    /// As the target refuses it, or has refused it before.
    pub(super) async fn check(&self, route: &Route) -> Result<()> {
        let repository = route.target_repository();
        if let Some(known) = self.known(repository) {
            return known;
        }
        let is_first = !self.lock().answered.contains(repository.registry());
        let turn = if is_first { Some(self.registries.take(repository.registry().clone()).await) } else { None };
        if let Some(known) = self.known(repository) {
            return known;
        }
        let turn = turn.filter(|_| !self.lock().answered.contains(repository.registry()));
        let _turn_of_repository = self.repositories.take(repository.clone()).await;
        if let Some(known) = self.known(repository) {
            return known;
        }
        let opened = route.target.open_upload().await.map_err(|error| error.on(Side::Target));
        self.learn(repository, &opened);
        drop(turn);
        opened.map(|_| ())
    }

    fn known(&self, repository: &Repository) -> Option<Result<()>> {
        let known = self.lock();
        if known.proven.contains(repository) {
            return Some(Ok(()));
        }
        let refused = known.read_only.get(repository.registry()).or_else(|| known.refused.get(repository));
        refused.map(|error| Err(error.clone()))
    }

    fn learn(&self, repository: &Repository, opened: &Result<Upload>) {
        let mut known = self.lock();
        match opened {
            Ok(upload) => {
                known.proven.insert(repository.clone());
                known.opened.insert(repository.clone(), upload.clone());
            }
            // What else it says may be about this repository alone.
            Err(error) if error.status() == Some(405) => {
                known.read_only.insert(repository.registry().clone(), error.clone());
            }
            Err(error) if !error.kind().retry() && error.kind() != Kind::Interrupted => {
                known.refused.insert(repository.clone(), error.clone());
            }
            // It says nothing of what comes later.
            Err(_) => return,
        }
        known.answered.insert(repository.registry().clone());
    }
}

/// Gives up the uploads that nobody has used.
pub(super) async fn abandon_unused(engine: &Engine) {
    for (repository, upload) in engine.writable.unused() {
        if let Ok(target) = engine.stores.target(&repository) {
            target.abandon(upload).await;
        }
    }
}
