//! Stores whose targets say once that a blob is there, whether it is or not.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use transship::error::Result;
use transship::oci::{Descriptor, Digest, Manifest, Repository, Selector, Tag};
use transship::store::{Accepted, BlobStream, Mount, Referrers, Source, Stores, Target, Upload};

use crate::support::recorded::Recorded;

#[derive(Debug, Clone)]
pub(super) struct Lying {
    pub(super) stores: Recorded,
    pub(super) about: Digest,
    pub(super) left: Arc<AtomicBool>,
}

#[derive(Debug)]
struct Liar(Arc<dyn Target>, Lying);

impl std::fmt::Display for Liar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl Stores for Lying {
    fn source(&self, repository: &Repository) -> Result<Arc<dyn Source>> {
        self.stores.source(repository)
    }

    fn target(&self, repository: &Repository) -> Result<Arc<dyn Target>> {
        Ok(Arc::new(Liar(self.stores.target(repository)?, self.clone())))
    }
}

#[async_trait]
impl Source for Liar {
    async fn resolve(&self, selector: &Selector) -> Result<Descriptor> {
        self.0.resolve(selector).await
    }
    async fn manifest(&self, digest: &Digest) -> Result<Manifest> {
        self.0.manifest(digest).await
    }
    async fn blob(&self, blob: &Descriptor, offset: u64) -> Result<BlobStream> {
        self.0.blob(blob, offset).await
    }
    async fn blob_size(&self, digest: &Digest) -> Result<Option<u64>> {
        if *digest == self.1.about && !self.1.left.swap(true, Ordering::Relaxed) {
            return Ok(Some(1000));
        }
        self.0.blob_size(digest).await
    }
    async fn tags(&self) -> Result<Vec<Tag>> {
        self.0.tags().await
    }
    async fn referrers(&self, subject: &Digest) -> Result<Referrers> {
        self.0.referrers(subject).await
    }
}

#[async_trait]
impl Target for Liar {
    async fn push_manifest(&self, manifest: &Manifest, name: &Selector) -> Result<Accepted> {
        self.0.push_manifest(manifest, name).await
    }
    async fn open_upload(&self) -> Result<Upload> {
        self.0.open_upload().await
    }
    async fn push_blob(&self, upload: Upload, blob: &Descriptor, body: BlobStream) -> Result<()> {
        self.0.push_blob(upload, blob, body).await
    }
    async fn abandon(&self, upload: Upload) {
        self.0.abandon(upload).await;
    }
    async fn mount(&self, digest: &Digest, from: &Repository) -> Result<Mount> {
        self.0.mount(digest, from).await
    }
}
