//! The cache: a Source around a Source that looks in a folder first.
//!
//! Content addressed by digest never changes, so no entry becomes outdated. What a tag names can change, so it is
//! never cached. The cache only saves requests: with an empty one, or none, the results are the same.

mod bound;
mod folder;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use self::folder::Folder;
use super::{BlobStream, Referrers, ReservedPulls, Source, Stores, Target};
use crate::error::Result;
use crate::oci::{Descriptor, Digest, Edge, Manifest, Referrer, Registry, Repository, Selector, Tag};

/// Opens repositories whose manifests are read from a folder if it has them, and saved there if it doesn't.
///
/// Targets are opened without the cache, as only the target itself knows what it has.
#[derive(Debug)]
pub struct CachedStores {
    stores: Arc<dyn Stores>,
    folder: Arc<Folder>,
}

impl CachedStores {
    /// Wraps `stores` with the cache in the folder `path`, which needn't exist. Content of more than `largest`
    /// bytes is neither saved nor read.
    pub fn new(stores: Arc<dyn Stores>, path: PathBuf, largest: u64) -> Self {
        Self { stores, folder: Arc::new(Folder::new(path, largest)) }
    }

    /// Deletes the least recently used files until at most `size` bytes are left, but keeps `pinned` manifests and
    /// their parts.
    pub fn bound(&self, size: u64, pinned: impl IntoIterator<Item = Digest>) {
        if !self.folder.has_grown() {
            return;
        }
        self.folder.bound(size, || self.with_parts(pinned.into_iter().collect()));
    }

    /// `manifests`, and all that is below them, as far as it is cached.
    fn with_parts(&self, manifests: Vec<Digest>) -> HashSet<Digest> {
        let (mut to_follow, mut all) = (manifests, HashSet::new());
        while let Some(digest) = to_follow.pop() {
            if !all.insert(digest.clone()) {
                continue;
            }
            let manifest = manifest_of(&digest, self.folder.read_now(&digest));
            for edge in manifest.iter().flat_map(Manifest::successors) {
                match edge {
                    Edge::Manifest(child) => to_follow.push(child.digest.clone()),
                    Edge::Blob(blob) => drop(all.insert(blob.digest.clone())),
                }
            }
        }
        all
    }
}

impl Stores for CachedStores {
    fn source(&self, repository: &Repository) -> Result<Arc<dyn Source>> {
        Ok(Arc::new(Cached { source: self.stores.source(repository)?, folder: Arc::clone(&self.folder) }))
    }

    fn target(&self, repository: &Repository) -> Result<Arc<dyn Target>> {
        self.stores.target(repository)
    }

    fn alternative(&self, repository: &Repository, waits: bool) -> Result<Arc<dyn Source>> {
        self.stores.alternative(repository, waits)
    }
}

/// The manifest `digest` in a file with `bytes`; the cache's blobs aren't manifests.
fn manifest_of(digest: &Digest, bytes: Option<Bytes>) -> Option<Manifest> {
    Manifest::new(digest.clone(), None, bytes?).ok()
}

/// One repository of [`CachedStores`].
#[derive(Debug)]
struct Cached {
    source: Arc<dyn Source>,
    folder: Arc<Folder>,
}

impl fmt::Display for Cached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.source.fmt(f)
    }
}

impl Cached {
    async fn keep(&self, manifest: &Manifest) {
        // The folder holds only bytes, no media types. So a manifest with a false type in one repository can't
        // affect another.
        if manifest.tells_its_type() {
            self.folder.keep(manifest.digest(), manifest.bytes()).await;
        }
    }
}

#[deny(clippy::missing_trait_methods, reason = "a wrapper forwards everything to its source")]
#[async_trait]
impl Source for Cached {
    async fn resolve(&self, selector: &Selector) -> Result<Descriptor> {
        self.resolve_whole(selector).await.map(|(descriptor, _)| descriptor)
    }

    /// A manifest that was read to resolve a tag is saved by its digest, so that it isn't pulled twice.
    async fn resolve_whole(&self, selector: &Selector) -> Result<(Descriptor, Option<Manifest>)> {
        let found = self.source.resolve_whole(selector).await?;
        if let Some(manifest) = &found.1 {
            self.keep(manifest).await;
        }
        Ok(found)
    }

    async fn manifest(&self, digest: &Digest) -> Result<Manifest> {
        // Another process may have pulled it since the last look.
        if let Some(manifest) = manifest_of(digest, self.folder.look(digest).await) {
            return Ok(manifest);
        }
        let manifest = self.source.manifest(digest).await?;
        self.keep(&manifest).await;
        Ok(manifest)
    }

    async fn cached_manifest(&self, digest: &Digest) -> Option<Manifest> {
        manifest_of(digest, self.folder.read(digest).await)
    }

    async fn blob(&self, blob: &Descriptor, offset: u64) -> Result<BlobStream> {
        self.source.blob(blob, offset).await
    }

    async fn small_blob(&self, blob: &Descriptor) -> Result<Bytes> {
        if let Some(bytes) = self.folder.read(&blob.digest).await {
            return Ok(bytes);
        }
        let bytes = self.source.small_blob(blob).await?;
        self.folder.keep(&blob.digest, &bytes).await;
        Ok(bytes)
    }

    async fn blob_size(&self, digest: &Digest) -> Result<Option<u64>> {
        self.source.blob_size(digest).await
    }

    async fn tags(&self) -> Result<Vec<Tag>> {
        self.source.tags().await
    }

    async fn tags_within(&self, pages: usize) -> Result<Option<Vec<Tag>>> {
        self.source.tags_within(pages).await
    }

    async fn referrers(&self, subject: &Digest) -> Result<Referrers> {
        match self.listed_referrers(subject).await? {
            Some(listed) => Ok(Referrers::Listed(listed)),
            None => self.tagged_referrers(subject).await,
        }
    }

    async fn tagged_referrers(&self, subject: &Digest) -> Result<Referrers> {
        match self.meters_pulls() {
            true => super::fallback_by_digest(self, subject).await,
            false => self.source.tagged_referrers(subject).await,
        }
    }

    async fn may_miss_referrers(&self) -> bool {
        self.source.may_miss_referrers().await
    }

    async fn listed_referrers(&self, subject: &Digest) -> Result<Option<Vec<Referrer>>> {
        self.source.listed_referrers(subject).await
    }

    fn refuses_heads(&self) -> bool {
        self.source.refuses_heads()
    }

    async fn read_tag(&self, tag: &Tag) -> Result<Manifest> {
        let manifest = self.source.read_tag(tag).await?;
        self.keep(&manifest).await;
        Ok(manifest)
    }

    fn has_read(&self, digest: &Digest) -> bool {
        self.folder.has_kept(digest)
    }

    fn meters_pulls(&self) -> bool {
        self.source.meters_pulls()
    }

    async fn pulls_left(&self, digest: &Digest) -> Option<u64> {
        self.source.pulls_left(digest).await
    }

    async fn reserve_pulls(&self, reserved: &mut ReservedPulls, digests: &[Digest], unnamed: u64) -> Result<()> {
        let mut lacking = Vec::new();
        for digest in digests {
            if self.cached_manifest(digest).await.is_none() {
                lacking.push(digest.clone());
            }
        }
        self.source.reserve_pulls(reserved, &lacking, unnamed).await
    }

    async fn costs_pull(&self, digest: &Digest) -> bool {
        self.cached_manifest(digest).await.is_none() && self.source.costs_pull(digest).await
    }

    fn served_by(&self, digest: &Digest) -> Option<Registry> {
        self.source.served_by(digest)
    }

    fn distrust(&self, blob: &Digest) -> bool {
        self.source.distrust(blob)
    }
}
