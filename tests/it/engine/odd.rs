//! Registries with unusual handling of referrers: without the API, requiring the subject first, or refusing some.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::BoxFuture;
use transship::error::{Error, Kind, Result, Side};
use transship::oci::{Descriptor, Digest, Manifest, Referrer, Registry, Repository, Selector, Tag};
use transship::store::{
    Accepted, BlobStream, HeadProves, Held, Mount, MountRule, Referrers, ReservedPulls, Source, Stores, Target, Upload,
};

/// The settings of the registries. A clone is another handle to the same settings.
#[derive(Debug, Clone, Default)]
pub(super) struct Oddities(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    without_api: HashSet<Registry>,
    subject_first: HashSet<Registry>,
    marking: HashSet<Registry>,
    refused: HashSet<Digest>,
}

impl Oddities {
    /// `registry` has no referrers API.
    pub(super) fn without_api(&self, registry: &str) {
        self.0.lock().unwrap().without_api.insert(registry.parse().unwrap());
    }

    /// `registry` refuses a manifest whose subject is missing.
    pub(super) fn subject_first(&self, registry: &str) {
        self.0.lock().unwrap().subject_first.insert(registry.parse().unwrap());
    }

    /// `registry` records pull times.
    pub(super) fn records_pull_time(&self, registry: &str) {
        self.0.lock().unwrap().marking.insert(registry.parse().unwrap());
    }

    /// Every registry refuses this manifest.
    pub(super) fn refuse(&self, digest: &Digest) {
        self.0.lock().unwrap().refused.insert(digest.clone());
    }

    /// The manifest is accepted again.
    pub(super) fn allow(&self, digest: &Digest) {
        self.0.lock().unwrap().refused.remove(digest);
    }
}

/// Stores of unusual registries.
#[derive(Debug, Clone)]
pub(super) struct Odd {
    pub(super) stores: Arc<dyn Stores>,
    pub(super) oddities: Oddities,
}

#[derive(Debug)]
struct Opened<S: ?Sized> {
    store: Arc<S>,
    registry: Registry,
    oddities: Oddities,
}

impl<S: Source + ?Sized> Opened<S> {
    fn has_no_api(&self) -> bool {
        self.oddities.0.lock().unwrap().without_api.contains(&self.registry)
    }

    fn refuse(&self, why: &str) -> Error {
        Error::new(Kind::Unsupported, format!("push to {self}"), why).with_status(405).on(Side::Target)
    }
}

impl<S: Source + ?Sized> std::fmt::Display for Opened<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.store.fmt(f)
    }
}

impl Odd {
    fn open<S: ?Sized>(&self, store: Arc<S>, repository: &Repository) -> Arc<Opened<S>> {
        Arc::new(Opened { store, registry: repository.registry().clone(), oddities: self.oddities.clone() })
    }
}

impl Stores for Odd {
    fn source(&self, repository: &Repository) -> Result<Arc<dyn Source>> {
        Ok(self.open(self.stores.source(repository)?, repository))
    }

    fn target(&self, repository: &Repository) -> Result<Arc<dyn Target>> {
        Ok(self.open(self.stores.target(repository)?, repository))
    }
}

#[deny(clippy::missing_trait_methods, reason = "what is around a store passes everything on")]
#[async_trait]
impl<S: Source + ?Sized> Source for Opened<S> {
    async fn resolve(&self, selector: &Selector) -> Result<Descriptor> {
        self.store.resolve(selector).await
    }
    async fn manifest(&self, digest: &Digest) -> Result<Manifest> {
        self.store.manifest(digest).await
    }
    async fn blob(&self, blob: &Descriptor, offset: u64) -> Result<BlobStream> {
        self.store.blob(blob, offset).await
    }
    async fn blob_size(&self, digest: &Digest) -> Result<Option<u64>> {
        self.store.blob_size(digest).await
    }
    async fn tags(&self) -> Result<Vec<Tag>> {
        self.store.tags().await
    }
    async fn referrers(&self, subject: &Digest) -> Result<Referrers> {
        if !self.has_no_api() {
            return self.store.referrers(subject).await;
        }
        match self.resolve(&Selector::Tag(subject.referrers_tag())).await {
            Ok(found) => Ok(Referrers::Tagged(Some(self.manifest(&found.digest).await?))),
            Err(error) if error.kind() == Kind::NotFound => Ok(Referrers::Tagged(None)),
            Err(error) => Err(error),
        }
    }
    async fn resolve_whole(&self, selector: &Selector) -> Result<(Descriptor, Option<Manifest>)> {
        self.store.resolve_whole(selector).await
    }
    async fn cached_manifest(&self, digest: &Digest) -> Option<Manifest> {
        self.store.cached_manifest(digest).await
    }
    async fn small_blob(&self, blob: &Descriptor) -> Result<Bytes> {
        self.store.small_blob(blob).await
    }
    async fn tags_within(&self, pages: usize) -> Result<Option<Vec<Tag>>> {
        self.store.tags_within(pages).await
    }
    async fn may_miss_referrers(&self) -> bool {
        self.store.may_miss_referrers().await
    }
    fn refuses_heads(&self) -> bool {
        self.store.refuses_heads()
    }
    async fn read_tag(&self, tag: &Tag) -> Result<Manifest> {
        self.store.read_tag(tag).await
    }
    fn has_read(&self, digest: &Digest) -> bool {
        self.store.has_read(digest)
    }
    fn meters_pulls(&self) -> bool {
        self.store.meters_pulls()
    }
    async fn listed_referrers(&self, subject: &Digest) -> Result<Option<Vec<Referrer>>> {
        if self.has_no_api() { Ok(None) } else { self.store.listed_referrers(subject).await }
    }
    async fn tagged_referrers(&self, subject: &Digest) -> Result<Referrers> {
        if self.has_no_api() { self.referrers(subject).await } else { self.store.tagged_referrers(subject).await }
    }
    async fn pulls_left(&self, digest: &Digest) -> Option<u64> {
        self.store.pulls_left(digest).await
    }
    async fn reserve_pulls(&self, reserved: &mut ReservedPulls, digests: &[Digest], unnamed: u64) -> Result<()> {
        self.store.reserve_pulls(reserved, digests, unnamed).await
    }
    async fn costs_pull(&self, digest: &Digest) -> bool {
        self.store.costs_pull(digest).await
    }
    fn served_by(&self, digest: &Digest) -> Option<Registry> {
        self.store.served_by(digest)
    }
    fn distrust(&self, blob: &Digest) -> bool {
        self.store.distrust(blob)
    }
}

#[deny(clippy::missing_trait_methods, reason = "what is around a store passes everything on")]
#[async_trait]
impl<T: Target + ?Sized> Target for Opened<T> {
    async fn push_manifest(&self, manifest: &Manifest, name: &Selector) -> Result<Accepted> {
        let (refused, subject_first) = {
            let known = self.oddities.0.lock().unwrap();
            (known.refused.contains(manifest.digest()), known.subject_first.contains(&self.registry))
        };
        if refused {
            return Err(self.refuse("405 Method Not Allowed"));
        }
        if let Some(subject) = manifest.subject().filter(|_| subject_first)
            && self.resolve(&Selector::Digest(subject.digest.clone())).await.is_err()
        {
            return Err(self.refuse("405 no such subject"));
        }
        let accepted = self.store.push_manifest(manifest, name).await?;
        Ok(if self.has_no_api() { Accepted::default() } else { accepted })
    }
    async fn open_upload(&self) -> Result<Upload> {
        self.store.open_upload().await
    }
    async fn push_blob(&self, upload: Upload, blob: &Descriptor, body: BlobStream) -> Result<()> {
        self.store.push_blob(upload, blob, body).await
    }
    async fn abandon(&self, upload: Upload) -> Option<Upload> {
        self.store.abandon(upload).await
    }
    async fn mount(&self, digest: &Digest, from: &Repository) -> Result<Mount> {
        self.store.mount(digest, from).await
    }
    fn records_pull_time(&self) -> bool {
        self.oddities.0.lock().unwrap().marking.contains(&self.registry)
    }
    async fn held(&self, name: &Selector) -> Result<Held> {
        self.store.held(name).await
    }
    async fn check_holds(&self, answered: BoxFuture<'_, Option<Manifest>>) -> Result<()> {
        self.store.check_holds(answered).await
    }
    fn shared_quota(&self) -> Option<String> {
        self.store.shared_quota()
    }
    async fn mount_rule(&self) -> MountRule {
        self.store.mount_rule().await
    }
    fn keeps_indexes(&self) -> bool {
        self.store.keeps_indexes()
    }
    async fn cancel_upload(&self, upload: Upload) -> Result<()> {
        self.store.cancel_upload(upload).await
    }
    async fn head_proves(&self) -> Result<HeadProves> {
        self.store.head_proves().await
    }
    async fn stores_manifest(&self, digest: &Digest) -> Result<Option<bool>> {
        self.store.stores_manifest(digest).await
    }
}
