//! Targets with wrong or late answers about a blob: the answer to the push of its manifest decides.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::BoxFuture;
use tokio::time::Instant;
use transship::error::{Error, Result, Side};
use transship::oci::{Descriptor, Digest, Manifest, Referrer, Registry, Selector, Tag};
use transship::store::{
    Accepted, BlobStream, HeadProves, Held, Mount, Referrers, ReservedPulls, Source, Target, Upload,
};

use super::*;

/// A wrong answer of a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lie {
    /// It reports once that it has the blob, and answers correctly from then on.
    OnceThere,
    /// It always reports that it has the blob.
    AlwaysThere,
    /// It reports a mount that it hasn't made.
    Mounted,
    /// It reports a mount that it hasn't made, and always reports that it has the blob.
    MountedAndThere,
    /// The blob exists, but manifests that refer to it are refused for this long.
    Late(Duration),
}

#[derive(Debug, Clone)]
pub(super) struct Lying {
    stores: Recorded,
    about: Digest,
    lie: Lie,
    told: Arc<AtomicUsize>,
    /// The kind and status of the refusal of a manifest whose blob is missing.
    refusal: Option<(Kind, u16)>,
    /// When the blob was pushed.
    arrived: Arc<std::sync::Mutex<Option<Instant>>>,
}

impl Lying {
    pub(super) fn new(batch: &Batch, about: &Digest, lie: Lie) -> Self {
        let (stores, about) = (batch.stores.clone(), about.clone());
        Self { stores, about, lie, told: Arc::default(), refusal: None, arrived: Arc::default() }
    }

    fn is_too_early(&self) -> bool {
        let arrived = *self.arrived.lock().unwrap();
        matches!((self.lie, arrived), (Lie::Late(time), Some(at)) if at.elapsed() < time)
    }
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

#[deny(clippy::missing_trait_methods, reason = "what is around a store passes everything on")]
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
        if *digest != self.1.about {
            return self.0.blob_size(digest).await;
        }
        let lies = match self.1.lie {
            Lie::OnceThere => self.1.told.fetch_add(1, Ordering::Relaxed) == 0,
            Lie::AlwaysThere | Lie::MountedAndThere => true,
            Lie::Mounted | Lie::Late(_) => false,
        };
        if lies {
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
    async fn resolve_whole(&self, selector: &Selector) -> Result<(Descriptor, Option<Manifest>)> {
        self.0.resolve_whole(selector).await
    }
    async fn cached_manifest(&self, digest: &Digest) -> Option<Manifest> {
        self.0.cached_manifest(digest).await
    }
    async fn small_blob(&self, blob: &Descriptor) -> Result<Bytes> {
        self.0.small_blob(blob).await
    }
    async fn tags_within(&self, pages: usize) -> Result<Option<Vec<Tag>>> {
        self.0.tags_within(pages).await
    }
    async fn listed_referrers(&self, subject: &Digest) -> Result<Option<Vec<Referrer>>> {
        self.0.listed_referrers(subject).await
    }
    async fn tagged_referrers(&self, subject: &Digest) -> Result<Referrers> {
        self.0.tagged_referrers(subject).await
    }
    async fn may_miss_referrers(&self) -> bool {
        self.0.may_miss_referrers().await
    }
    fn refuses_heads(&self) -> bool {
        self.0.refuses_heads()
    }
    async fn read_tag(&self, tag: &Tag) -> Result<Manifest> {
        self.0.read_tag(tag).await
    }
    fn has_read(&self, digest: &Digest) -> bool {
        self.0.has_read(digest)
    }
    fn meters_pulls(&self) -> bool {
        self.0.meters_pulls()
    }
    async fn pulls_left(&self, digest: &Digest) -> Option<u64> {
        self.0.pulls_left(digest).await
    }
    async fn reserve_pulls(&self, reserved: &mut ReservedPulls, digests: &[Digest], unnamed: u64) -> Result<()> {
        self.0.reserve_pulls(reserved, digests, unnamed).await
    }
    async fn costs_pull(&self, digest: &Digest) -> bool {
        self.0.costs_pull(digest).await
    }
    fn served_by(&self, digest: &Digest) -> Option<Registry> {
        self.0.served_by(digest)
    }
    fn distrust(&self, blob: &Digest) -> bool {
        self.0.distrust(blob)
    }
}

#[deny(clippy::missing_trait_methods, reason = "what is around a store passes everything on")]
#[async_trait]
impl Target for Liar {
    async fn push_manifest(&self, manifest: &Manifest, name: &Selector) -> Result<Accepted> {
        let points_at_it = manifest.successors().iter().any(|edge| edge.descriptor().digest == self.1.about);
        if points_at_it && self.1.is_too_early() {
            let error = Error::new(Kind::MissingContent, format!("push {name}"), "404 Not Found: BLOB_UNKNOWN");
            return Err(error.on(Side::Target));
        }
        self.0.push_manifest(manifest, name).await.map_err(|error| match self.1.refusal {
            Some((kind, status)) => {
                Error::new(kind, format!("push {name}"), error.why()).with_status(status).on(Side::Target)
            }
            None => error,
        })
    }
    async fn open_upload(&self) -> Result<Upload> {
        self.0.open_upload().await
    }
    async fn push_blob(&self, upload: Upload, blob: &Descriptor, body: BlobStream) -> Result<()> {
        let pushed = self.0.push_blob(upload, blob, body).await;
        if blob.digest == self.1.about {
            self.1.arrived.lock().unwrap().get_or_insert_with(Instant::now);
        }
        pushed
    }
    async fn abandon(&self, upload: Upload) -> Option<Upload> {
        self.0.abandon(upload).await
    }
    async fn mount(&self, digest: &Digest, from: &Repository) -> Result<Mount> {
        if *digest == self.1.about && matches!(self.1.lie, Lie::Mounted | Lie::MountedAndThere) {
            return Ok(Mount::Mounted);
        }
        self.0.mount(digest, from).await
    }
    async fn held(&self, name: &Selector) -> Result<Held> {
        self.0.held(name).await
    }
    async fn check_holds(&self, answered: BoxFuture<'_, Option<Manifest>>) -> Result<()> {
        self.0.check_holds(answered).await
    }
    fn shared_quota(&self) -> Option<String> {
        self.0.shared_quota()
    }
    async fn mount_rule(&self) -> MountRule {
        self.0.mount_rule().await
    }
    fn keeps_indexes(&self) -> bool {
        self.0.keeps_indexes()
    }
    fn records_pull_time(&self) -> bool {
        self.0.records_pull_time()
    }
    async fn cancel_upload(&self, upload: Upload) -> Result<()> {
        self.0.cancel_upload(upload).await
    }
    async fn head_proves(&self) -> Result<HeadProves> {
        self.0.head_proves().await
    }
    async fn stores_manifest(&self, digest: &Digest) -> Result<Option<bool>> {
        self.0.stores_manifest(digest).await
    }
}

#[tokio::test(start_paused = true)]
async fn the_answer_to_a_manifest_push_overrides_earlier_lookups() {
    let refusals = [None, Some((Kind::Unsupported, 400)), Some((Kind::Invalid, 422)), Some((Kind::NotFound, 404))];
    let late = [100, 200, 600, 1600, 3600].map(|time| Lie::Late(Duration::from_millis(time)));
    let lies = [Lie::OnceThere, Lie::AlwaysThere, Lie::Mounted, Lie::MountedAndThere].into_iter().chain(late);
    for (lie, refusal) in lies.flat_map(|lie| refusals.map(|refusal| (lie, refusal))) {
        let mut batch = Batch::new();
        let images = ["a", "b"].map(|seed| image(seed).shared_layer("base", 1000).build());
        let layer = images[1].blobs.iter().find(|blob| blob.descriptor.size == 1000).unwrap().digest().clone();
        let lying = Lying { refusal, ..Lying::new(&batch, &layer, lie) };
        if matches!(lie, Lie::Mounted | Lie::MountedAndThere) {
            batch.image(&images[0], "src.test/a:1", "dst.test/a").await;
        }
        batch.image(&images[1], "src.test/b:1", "dst.test/b").await;
        if matches!(lie, Lie::OnceThere | Lie::AlwaysThere) {
            batch.not_empty();
        }
        batch.given = Arc::new(lying);
        let outcomes = batch.run().await;
        let all_copied = outcomes.iter().all(|outcome| outcome.status == Status::Copied);
        assert!(all_copied, "{lie:?} {refusal:?}: {outcomes:?}");
        batch.assert_at(&images[1], "dst.test/b", "1").await;
        let read = batch.stores.calls_of(What::Blob).iter().filter(|call| call.subject == layer.as_str()).count();
        assert!(read <= 3, "{lie:?} {refusal:?}: read {read} times");
    }
}

#[tokio::test(start_paused = true)]
async fn a_target_that_always_reports_missing_content_is_given_up_soon() {
    let mut batch = Batch::new();
    let image = image("a").layer(1000).build();
    batch.image(&image, "src.test/a:1", "dst.test/a").await;
    let lie = Lie::Late(Duration::from_secs(3600));
    batch.given = Arc::new(Lying::new(&batch, image.blobs[1].digest(), lie));
    let started = Instant::now();
    let outcomes = batch.run().await;
    assert_eq!(outcomes[0].error.as_ref().unwrap().kind(), Kind::MissingContent, "{outcomes:?}");
    assert!(started.elapsed() < Duration::from_secs(5));
}
