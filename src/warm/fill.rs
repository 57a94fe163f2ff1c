//! Pulls an image through a cache, as a client that wants all of it.

use std::sync::Arc;

use futures::{StreamExt as _, TryStreamExt as _};

use super::ask::{Caches, shared};
use super::graph::From;
use super::pulls::ImagePulls;
use super::{Seen, not_had};
use crate::error::{Error, Kind, Result, Stage};
use crate::oci::{Descriptor, Repository};
use crate::plan::Transfer;
use crate::progress::Step;
use crate::report::{Bytes, CacheProof, Cached, CachedTag};
use crate::store::{HeadProves, content};

/// Concurrent reads of blobs of one image.
const BLOBS: usize = 16;

impl Caches {
    /// Pulls the content that isn't known to be stored. Harbor tags a stored image only if the tag was requested
    /// before. The other manifests must follow soon after the first, otherwise Harbor stores an index without them.
    pub(super) async fn fill(self: &Arc<Self>, transfer: &Transfer, place: usize) -> Result<Seen> {
        let turn = self.pulls.turn(transfer, place);
        let tag = self.tag(transfer).await?;
        let proves = self.head_proves(&transfer.target).await?;
        if proves == HeadProves::Blobs
            && let Some(kept) = self.kept(transfer, tag.clone()).await?
        {
            return Ok(kept);
        }
        let mut pulls = ImagePulls::begin(self, transfer, turn).await?;
        let graph = self.graph(transfer, From::Cache(&mut pulls)).await.map_err(|error| match error.kind() {
            Kind::NotFound => not_had(error.at(Stage::Copy)),
            _ => error.at(Stage::Copy),
        })?;
        let graph = graph.unwrap_or_default();
        let pulled = graph.blobs.iter().map(|blob| self.pull(transfer, blob, proves));
        let pulled = futures::stream::iter(pulled.collect::<Vec<_>>()).buffer_unordered(BLOBS);
        let bytes = pulled.try_fold(Bytes::default(), |sum, one| async move { Ok(sum + one) }).await;
        let bytes = bytes.map_err(|error| error.at(Stage::Copy))?;
        let only_upstream = if proves == HeadProves::Blobs { graph.indexes() } else { Vec::new() };
        Ok(Seen {
            cached: Cached { proof: CacheProof::Served, only_upstream, tag },
            bytes: Bytes { copied: bytes.copied + graph.manifest_bytes(), ..bytes },
            lacks: Vec::new(),
            is_pulled: true,
        })
    }

    /// The image, if all of it is known to be stored, so that nothing has to be pulled.
    async fn kept(self: &Arc<Self>, transfer: &Transfer, tag: Option<CachedTag>) -> Result<Option<Seen>> {
        let Some(graph) = self.graph(transfer, From::Local).await? else { return Ok(None) };
        let seen = self.keeps(transfer, &graph, tag).await?;
        Ok(Some(seen).filter(|seen| seen.lacks.is_empty() && seen.cached.proof == CacheProof::Kept))
    }

    /// Reads `blob`, once per run, if a HEAD doesn't prove that it is stored.
    async fn pull(self: &Arc<Self>, transfer: &Transfer, blob: &Descriptor, proves: HeadProves) -> Result<Bytes> {
        let repository = &transfer.target;
        if proves == HeadProves::Blobs && self.has_blob(repository, blob).await? {
            return Ok(Bytes { present: blob.size, ..Bytes::default() });
        }
        let key = (repository.clone(), blob.digest.clone());
        let work = {
            let (caches, (repository, _), blob) = (Arc::clone(self), key.clone(), blob.clone());
            let image = transfer.source.to_string();
            || async move { caches.read_whole(&image, &repository, &blob).await }
        };
        let worked = self.read.get_or_work(key, work).await;
        let is_first = matches!(worked, Ok((_, true)));
        shared(worked)?;
        Ok(if is_first { Bytes { copied: blob.size, ..Bytes::default() } } else { Bytes::default() })
    }

    /// Reads all bytes of `blob`, verifies the digest and discards them.
    async fn read_whole(&self, image: &str, repository: &Repository, blob: &Descriptor) -> Result<()> {
        self.progress.step(image, Step::Expects(blob.size));
        let heard = |bytes| self.progress.step(image, Step::Bytes(bytes));
        let read = self.read(repository, |cache| async move { content::read(&*cache, blob, &heard).await }).await?;
        read.map_err(|mismatch| {
            Error::new(Kind::Mismatch, format!("get blob {} from {repository}", blob.digest), mismatch.to_string())
        })
    }
}
