//! The engine on repositories in memory: its calls, their number and order, and how it handles failures.

mod cached;
mod empty_repository;
mod fallback;
mod filtered;
mod foreign;
mod lying;
mod mounted_from_source;
mod mounts;
mod odd;
mod order;
mod overwrite;
mod referrers;
mod sharing;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use transship::aws::Sessions;
use transship::copy::{CopyOptions, Readiness, copy};
use transship::error::{Kind, Side};
use transship::oci::{Reference, Repository};
use transship::plan::{Action, Plan, Planned, Transfer};
use transship::progress::Silent;
use transship::provision::Provisioners;
use transship::referrers::Finder;
use transship::report::{Outcome, Reason, Status};
use transship::store::memory::Memory;
use transship::store::{MountRule, Stores};

use self::lying::{Lie, Lying};
use self::odd::{Odd, Oddities};
use crate::support::gate::{Gate, all_wait};
use crate::support::images::{Image, image, index, multi_platform};
use crate::support::recorded::{Fault, Recorded, What};

/// A batch under construction: the images at the sources, and their targets.
struct Batch {
    memory: Memory,
    stores: Recorded,
    oddities: Oddities,
    plan: Plan,
    transfers: usize,
    stop: CancellationToken,
    /// The stores of the engine: `stores`, possibly decorated.
    given: Arc<dyn Stores>,
}

impl Batch {
    fn new() -> Self {
        let memory = Memory::new();
        let oddities = Oddities::default();
        let odd = Odd { stores: Arc::new(memory.clone()), oddities: oddities.clone() };
        let stores = Recorded::new(Arc::new(odd));
        let given = Arc::new(stores.clone());
        let (plan, stop) = (Plan::default(), CancellationToken::new());
        Self { memory, stores, oddities, plan, transfers: 4, stop, given }
    }

    /// Adds `image` at `source`, to be copied to `target`, which is empty unless stated otherwise.
    async fn image(&mut self, image: &Image, source: &str, target: &str) {
        let source: Reference = source.parse().unwrap();
        let tag = source.tag().unwrap().clone();
        image.push(&self.memory.repository(source.repository()), tag.as_str()).await;
        let target: Repository = target.parse().unwrap();
        self.plan.empty.insert(target.clone());
        let root = image.descriptor().clone();
        let transfer = Transfer::new(source, root, target, Some(tag), Action::Copy);
        self.plan.images.push(Planned::Image(transfer));
    }

    /// Marks the target repositories as possibly not empty.
    fn not_empty(&mut self) {
        self.plan.empty.clear();
    }

    async fn run(&self) -> Vec<Outcome> {
        self.stores.clear();
        let ready = ready(self.plan.to_prepare()).await;
        let means = CopyOptions {
            stores: Arc::clone(&self.given),
            finder: Arc::new(Finder::new(Arc::new(self.stores.clone()))),
            progress: Arc::new(Silent),
            stop: self.stop.clone(),
            transfers: self.transfers,
            bandwidth: None,
        };
        copy(self.plan.clone(), &ready, means).await
    }

    /// The number of calls of this kind to registries whose name starts with `registry`.
    fn calls(&self, what: What, registry: &str) -> usize {
        let calls = self.stores.calls_of(what);
        calls.iter().filter(|call| call.repository.registry().as_str().starts_with(registry)).count()
    }

    async fn assert_at(&self, image: &Image, target: &str, tag: &str) {
        image.assert_in(&self.memory.repository(&target.parse().unwrap()), tag).await;
    }

    async fn has_tag(&self, target: &str, tag: &str) -> bool {
        let target = self.memory.repository(&target.parse().unwrap());
        let tag = crate::support::images::tagged(tag);
        transship::store::Source::resolve(&target, &tag).await.is_ok()
    }
}

/// Proofs for repositories that are created by a push.
async fn ready(targets: Vec<Repository>) -> Readiness {
    let provisioners = Provisioners::new(&BTreeMap::new(), Arc::new(Sessions::new()));
    provisioners.ensure(&targets).await.into_iter().collect()
}

fn statuses(outcomes: &[Outcome]) -> Vec<Status> {
    outcomes.iter().map(|outcome| outcome.status).collect()
}

#[tokio::test]
async fn children_are_pushed_before_parents_and_the_root_once_by_its_tag() {
    let mut batch = Batch::new();
    let inner = multi_platform("inner", &["linux/arm/v7"]);
    let root = index().child("linux/amd64", image("app").build()).attested().nested(inner.clone()).build();
    batch.transfers = 1;
    batch.image(&root, "src.test/app:1", "dst.test/app").await;
    assert_eq!(statuses(&batch.run().await), [Status::Copied]);
    batch.assert_at(&root, "dst.test/app", "1").await;

    let position = |name: &str| batch.stores.position(What::PushManifest, name).unwrap_or_else(|| panic!("{name}"));
    let manifest = |image: &Image| position(image.digest().as_str());
    assert!(manifest(&inner.children[0]) < manifest(&inner) && manifest(&inner) < position("1"));
    for blob in root.blobs() {
        assert!(batch.stores.position(What::PushBlob, blob.digest().as_str()).unwrap() < position("1"));
    }
    assert_eq!(batch.stores.position(What::PushManifest, root.digest().as_str()), None);
    assert_eq!(batch.stores.count(What::PushManifest), root.manifests().len());
    // One blob was missing, so no other was looked up.
    assert_eq!((batch.stores.count(What::BlobSize), batch.calls(What::Resolve, "dst.")), (1, 0));
}

#[tokio::test]
async fn a_wrong_blob_is_never_committed_and_other_images_are_copied() {
    let mut batch = Batch::new();
    let images: Vec<Image> = (0..20).map(|i| image(&format!("i{i}")).build()).collect();
    for (i, image) in images.iter().enumerate() {
        batch.image(image, &format!("src.test/r{i}:1"), &format!("dst.test/r{i}")).await;
    }
    let bad = images[7].blobs[1].digest();
    batch.stores.on(What::Blob).for_subject(bad).times(usize::MAX).then(Fault::Corrupts);
    let outcomes = batch.run().await;
    for (i, outcome) in outcomes.iter().enumerate() {
        assert_eq!(outcome.status, if i == 7 { Status::Failed } else { Status::Copied }, "{outcome:?}");
    }
    let error = outcomes[7].error.as_ref().unwrap();
    assert_eq!((error.kind(), error.side()), (Kind::Mismatch, Some(Side::Source)), "{error}");
    let target = batch.memory.repository(&"dst.test/r7".parse().unwrap());
    assert!(!target.blobs().unwrap().contains(bad));
    assert!(!batch.has_tag("dst.test/r7", "1").await);
    assert_eq!(target.open_uploads(), 0);
}

#[tokio::test]
async fn an_interrupted_download_is_resumed_within_the_same_upload() {
    let mut batch = Batch::new();
    let image = image("app").layer(1000).build();
    let layer = image.blobs[1].digest();
    batch.image(&image, "src.test/app:1", "dst.test/app").await;
    batch.stores.chunk(100);
    batch.stores.on(What::Blob).for_subject(layer).then(Fault::BreaksAfter(300));
    batch.stores.on(What::Blob).for_subject(format!("{layer}@300")).then(Fault::BreaksAfter(450));
    assert_eq!(statuses(&batch.run().await), [Status::Copied]);
    batch.assert_at(&image, "dst.test/app", "1").await;
    assert!(batch.stores.position(What::Blob, &format!("{layer}@750")).is_some());
    assert_eq!(batch.stores.count(What::OpenUpload), 2);
}

#[tokio::test(start_paused = true)]
async fn an_interrupted_upload_is_replaced_by_a_new_one() {
    let mut batch = Batch::new();
    let image = image("app").layer(1000).build();
    batch.image(&image, "src.test/app:1", "dst.test/app").await;
    batch.stores.on(What::PushBlob).for_subject(image.blobs[1].digest()).fails(Kind::Unavailable);
    batch.stores.on(What::OpenUpload).fails(Kind::RateLimited);
    assert_eq!(statuses(&batch.run().await), [Status::Copied]);
    batch.assert_at(&image, "dst.test/app", "1").await;
    assert_eq!(batch.stores.count(What::Abandon), 1);
}

#[tokio::test]
async fn content_that_the_target_reports_missing_is_sent_after_all() {
    let mut batch = Batch::new();
    let image = image("app").layer(1000).build();
    let layer = image.blobs[1].digest();
    batch.image(&image, "src.test/app:1", "dst.test/app").await;
    batch.not_empty();
    // The target reports that it has the layer, although it doesn't.
    let target: Repository = "dst.test/app".parse().unwrap();
    let lying = Lying::new(&batch, layer, Lie::OnceThere);
    let ready = ready(vec![target]).await;
    let stop = CancellationToken::new();
    let finder = Arc::new(Finder::new(Arc::new(batch.stores.clone())));
    let means = CopyOptions {
        stores: Arc::new(lying),
        finder,
        progress: Arc::new(Silent),
        stop,
        transfers: 2,
        bandwidth: None,
    };
    let outcomes = copy(batch.plan.clone(), &ready, means).await;
    assert_eq!(statuses(&outcomes), [Status::Copied], "{outcomes:?}");
    batch.assert_at(&image, "dst.test/app", "1").await;
    assert_eq!(batch.stores.count(What::PushManifest), 2);
    assert!(outcomes[0].bytes.copied >= 1000, "repaired bytes are counted");
}

#[tokio::test]
async fn a_manifest_at_the_target_ends_the_walk_of_its_branch() {
    let mut batch = Batch::new();
    let old = multi_platform("app", &["linux/amd64", "linux/arm64"]);
    let new = index()
        .child("linux/amd64", old.children[0].clone())
        .child("linux/arm64", image("newer").build())
        .annotation("is", "new")
        .build();
    batch.image(&new, "src.test/app:1", "dst.test/app").await;
    old.push(&batch.memory.repository(&"dst.test/app".parse().unwrap()), "1").await;
    batch.not_empty();
    assert_eq!(statuses(&batch.run().await), [Status::Copied]);
    batch.assert_at(&new, "dst.test/app", "1").await;
    assert_eq!(batch.stores.position(What::Manifest, old.children[0].digest().as_str()), None);
    assert_eq!(batch.calls(What::Manifest, "src."), 2);
}

#[tokio::test]
async fn if_the_source_is_metered_the_manifest_is_read_from_the_target() {
    let mut batch = Batch::new();
    let image = multi_platform("app", &["linux/amd64", "linux/arm64"]);
    batch.image(&image, "src.test/app:2", "dst.test/app").await;
    image.push(&batch.memory.repository(&"dst.test/app".parse().unwrap()), "1").await;
    batch.not_empty();
    batch.stores.meters_pulls(&"src.test".parse().unwrap());
    assert_eq!(statuses(&batch.run().await), [Status::Copied]);
    batch.assert_at(&image, "dst.test/app", "2").await;
    assert_eq!((batch.calls(What::Manifest, "src."), batch.calls(What::Manifest, "dst.")), (0, 1));
}

#[tokio::test]
async fn after_an_interrupt_no_image_is_started_and_each_is_reported_as_interrupted() {
    let mut batch = Batch::new();
    let (first, second) = (image("a").build(), image("b").build());
    batch.transfers = 1;
    batch.image(&first, "src.test/a:1", "dst.test/a").await;
    batch.image(&second, "src.test/b:1", "dst.test/b").await;
    let gate = Gate::closed();
    batch.stores.on(What::PushBlob).then(Fault::Waits(gate.clone()));
    let stop = async {
        gate.reached(1).await;
        batch.stop.cancel();
        gate.open();
    };
    let (outcomes, ()) = tokio::join!(batch.run(), stop);
    for outcome in &outcomes {
        assert_eq!((outcome.status, outcome.reason), (Status::Skipped, Some(Reason::Interrupted)));
        assert_eq!(outcome.error.as_ref().unwrap().kind(), Kind::Interrupted);
    }
    assert!(!batch.has_tag("dst.test/a", "1").await && !batch.has_tag("dst.test/b", "1").await);
    // The transfer in progress was completed.
    assert_eq!(batch.stores.count(What::PushBlob), 1);
}

#[tokio::test]
async fn an_index_that_is_nested_too_deeply_is_refused() {
    let mut batch = Batch::new();
    let deep = (0..20).fold(image("core").build(), |inner, _| index().nested(inner).build());
    batch.image(&deep, "src.test/deep:1", "dst.test/deep").await;
    let outcomes = batch.run().await;
    let error = outcomes[0].error.as_ref().unwrap();
    assert_eq!((error.kind(), error.side()), (Kind::Invalid, Some(Side::Source)), "{outcomes:?}");
}
