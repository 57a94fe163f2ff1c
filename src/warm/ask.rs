//! The caches of a run: permits for requests and reads, and the results so far.

use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::Request;
use super::pulls::Pulls;
use crate::error::{Error, Kind, Result, Stage, unless_stopped};
use crate::oci::{Descriptor, Digest, Repository, Selector};
use crate::once::{Lost, OnceMap};
use crate::plan::{Planned, Transfer};
use crate::progress::Progress;
use crate::report::CachedTag;
use crate::store::{HeadProves, Stores, Target};

/// Concurrent requests to the caches, except reads.
const QUESTIONS: usize = 64;

/// The caches of a run.
pub(super) struct Caches {
    pub(super) stores: Arc<dyn Stores>,
    pub(super) progress: Arc<dyn Progress>,
    pub(super) stop: CancellationToken,
    pub(super) pulls: Pulls,
    questions: Semaphore,
    transfers: Semaphore,
    sizes: OnceMap<(Repository, Digest), Result<Option<u64>>>,
    /// The blobs that were read, for all images that share them.
    pub(super) read: OnceMap<(Repository, Digest), Result<()>>,
}

impl Caches {
    pub(super) fn new(request: Request<'_>, planned: &[Planned]) -> Self {
        Self {
            stores: Arc::clone(request.stores),
            progress: Arc::clone(request.progress),
            stop: request.stop.clone(),
            pulls: Pulls::new(planned),
            questions: Semaphore::new(QUESTIONS),
            transfers: Semaphore::new(request.transfers.max(1)),
            sizes: OnceMap::default(),
            read: OnceMap::default(),
        }
    }

    /// Sends a request to `repository` when a permit is free.
    pub(super) async fn ask<T, F>(
        &self,
        repository: &Repository,
        question: impl FnOnce(Arc<dyn Target>) -> F,
    ) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        self.within(&self.questions, repository, question).await
    }

    /// Reads from `repository` when a permit is free.
    pub(super) async fn read<T, F>(&self, repository: &Repository, work: impl FnOnce(Arc<dyn Target>) -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        self.within(&self.transfers, repository, work).await
    }

    async fn within<T, F>(
        &self,
        permits: &Semaphore,
        repository: &Repository,
        work: impl FnOnce(Arc<dyn Target>) -> F,
    ) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let worked = async {
            let _permit = permits.acquire().await.map_err(|closed| Error::defect("wait for a permit", closed))?;
            work(self.stores.target(repository)?).await
        };
        unless_stopped(&self.stop, worked).await
    }

    /// Compares the image's tag at the cache with the pin. This is the first request to its repository.
    pub(super) async fn tag(&self, transfer: &Transfer) -> Result<Option<CachedTag>> {
        let Some(tag) = &transfer.tag else { return Ok(None) };
        let name = Selector::Tag(tag.clone());
        match self.ask(&transfer.target, |cache| async move { cache.resolve(&name).await }).await {
            Ok(found) if found.digest == transfer.root.digest => Ok(Some(CachedTag::AsPinned)),
            Ok(found) => Ok(Some(CachedTag::Moved(found.digest))),
            Err(error) if error.kind() == Kind::NotFound => Ok(Some(CachedTag::Gone)),
            Err(error) => Err(error.at(Stage::Plan)),
        }
    }

    pub(super) async fn head_proves(&self, repository: &Repository) -> Result<HeadProves> {
        let asked = self.ask(repository, |cache| async move { cache.head_proves().await }).await;
        asked.map_err(|error| error.at(Stage::Plan))
    }

    /// Whether the cache answers a HEAD for the manifest `digest`.
    pub(super) async fn answers_to(&self, repository: &Repository, digest: &Digest) -> Result<bool> {
        let name = Selector::Digest(digest.clone());
        match self.ask(repository, |cache| async move { cache.resolve(&name).await }).await {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == Kind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Whether the cache answers a HEAD for `blob` with the right size. Sends one request per run.
    pub(super) async fn has_blob(self: &Arc<Self>, repository: &Repository, blob: &Descriptor) -> Result<bool> {
        let key = (repository.clone(), blob.digest.clone());
        let work = {
            let (caches, (repository, digest)) = (Arc::clone(self), key.clone());
            || async move { caches.ask(&repository, |cache| async move { cache.blob_size(&digest).await }).await }
        };
        Ok(shared(self.sizes.get_or_work(key, work).await)? == Some(blob.size))
    }
}

/// A result that other tasks may have waited for.
pub(super) fn shared<T>(worked: Result<(Result<T>, bool), Lost>) -> Result<T> {
    worked.unwrap_or_else(|lost| (Err(Error::defect("warm it", lost)), true)).0
}
