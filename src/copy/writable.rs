//! Checks whether target repositories accept pushes. The first upload to each is opened before a metered pull is
//! spent and before a blob is read, so that a target that accepts nothing costs nothing upstream.
//!
//! A registry that accepts no pushes at all (405: read-only, or a pull-through cache) answers so once, and all its
//! repositories wait for its first answer. A repository that refuses (403) does so for all its tags.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use futures::{StreamExt as _, stream};

use super::Engine;
use super::route::Route;
use super::turns::Turns;
use crate::error::{Error, Kind, Result};
use crate::oci::{Registry, Repository};
use crate::store::Upload;

/// Uploads that are cancelled at the same time.
const GIVEN_UP_AT_ONCE: usize = 16;

/// What is known about the target repositories.
#[derive(Debug, Default)]
pub(super) struct Writable {
    known: Mutex<Known>,
    /// One request at a time until something is known about a registry, and then about each of its repositories.
    registries: Turns<Registry, ()>,
    repositories: Turns<Repository, ()>,
}

#[derive(Debug, Default)]
struct Known {
    proven: HashSet<Repository>,
    /// Registries that have answered an upload request in any way.
    answered: HashSet<Registry>,
    read_only: HashMap<Registry, Error>,
    refused: HashMap<Repository, Error>,
    /// Opened uploads that aren't used yet.
    opened: HashMap<Repository, Upload>,
    /// Unused uploads that couldn't be cancelled because their host was in trouble.
    left: Vec<(Repository, Upload)>,
}

impl Writable {
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records that `repository` has accepted something.
    pub(super) fn prove(&self, repository: &Repository) {
        let mut known = self.lock();
        if known.proven.insert(repository.clone()) {
            known.answered.insert(repository.registry().clone());
        }
    }

    /// An opened upload to `repository`, for the first blob that needs one.
    pub(super) fn take_opened(&self, repository: &Repository) -> Option<Upload> {
        self.lock().opened.remove(repository)
    }

    /// Keeps `upload` to `repository`, to cancel it at the end.
    pub(super) fn leave(&self, repository: &Repository, upload: Upload) {
        self.lock().left.push((repository.clone(), upload));
    }

    /// All unused uploads, and those that couldn't be cancelled before.
    pub(super) fn unused(&self) -> Vec<(Repository, Upload)> {
        let mut known = self.lock();
        let left = std::mem::take(&mut known.left);
        known.opened.drain().chain(left).collect()
    }

    /// Checks whether the target of `route` accepts pushes, unless that is known. The upload is kept for its first
    /// blob.
    ///
    /// # Errors
    /// If the target refuses it now or has refused it before.
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
        let opened = route.target.open_upload().await;
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
            // Status 405 is about the whole registry; other answers may be about this repository alone.
            Err(error) if error.status() == Some(405) => {
                known.read_only.insert(repository.registry().clone(), error.clone());
            }
            Err(error) if !error.kind().retry() && error.kind() != Kind::Interrupted => {
                known.refused.insert(repository.clone(), error.clone());
            }
            // This error doesn't predict later answers.
            Err(_) => return,
        }
        known.answered.insert(repository.registry().clone());
    }
}

/// Cancels the unused uploads, and those that couldn't be cancelled before.
pub(super) async fn abandon_unused(engine: &Engine) {
    let abandon = |(repository, upload): (Repository, Upload)| async move {
        if let Ok(target) = engine.stores.target(&repository) {
            target.abandon(upload).await;
        }
    };
    stream::iter(engine.writable.unused()).for_each_concurrent(GIVEN_UP_AT_ONCE, abandon).await;
}
