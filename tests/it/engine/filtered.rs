//! Images filtered by platform.

use super::*;
use crate::support::cosign;
use transship::oci::{Digest, Platform};
use transship::plan::Bytes;
use transship::store::Target as _;

/// Adds `app` to be copied only for `linux/amd64`; returns its target digest.
async fn part(batch: &mut Batch, app: &Image) -> Digest {
    batch.image(app, "src.test/app:1", "dst.test/app").await;
    let amd64: Platform = "linux/amd64".parse().unwrap();
    let subset = app.manifest.subset(std::slice::from_ref(&amd64)).unwrap().manifest;
    let Planned::Image(transfer) = &mut batch.plan.images[0] else { unreachable!("it was just added") };
    transfer.handling.platforms = vec![amd64];
    transfer.mirrored = Some(subset.digest().clone());
    subset.digest().clone()
}

fn app() -> Image {
    index().child("linux/amd64", image("amd").build()).attested().child("linux/arm64", image("arm").build()).build()
}

#[tokio::test]
async fn only_matching_children_are_read_and_the_filtered_index_is_pushed_last_and_once() {
    let mut batch = Batch::new();
    let app = app();
    let mirrored = part(&mut batch, &app).await;
    let outcomes = batch.run().await;
    assert_eq!(statuses(&outcomes), [Status::Copied]);
    assert_eq!((outcomes[0].digest.as_ref(), outcomes[0].mirrored.as_ref()), (Some(app.digest()), Some(&mirrored)));
    assert_eq!(batch.stores.count(What::Manifest), 3, "the index, the image and its attestation");
    for child in &app.children[..2] {
        let at = |name: &str| batch.stores.position(What::PushManifest, name);
        assert!(at(child.digest().as_str()).unwrap() < at("1").unwrap());
    }
    assert_eq!(batch.stores.position(What::PushManifest, app.children[2].digest().as_str()), None);
    assert_eq!(batch.stores.count(What::PushManifest), 3, "{:#?}", batch.stores.calls());
}

#[tokio::test]
async fn without_a_tag_a_filtered_image_is_pushed_by_its_target_digest() {
    let mut batch = Batch::new();
    let mirrored = part(&mut batch, &app()).await;
    let Planned::Image(transfer) = &mut batch.plan.images[0] else { unreachable!("it was just added") };
    transfer.tag = None;
    assert_eq!(statuses(&batch.run().await), [Status::Copied]);
    assert!(batch.stores.position(What::PushManifest, mirrored.as_str()).is_some());
}

#[tokio::test]
async fn a_child_at_the_target_isnt_pulled() {
    let mut batch = Batch::new();
    let app = app();
    let mirrored = part(&mut batch, &app).await;
    let target = batch.memory.repository(&"dst.test/app".parse().unwrap());
    app.push(&target, "whole").await;
    let subset = app.manifest.subset(&["linux/amd64".parse().unwrap()]).unwrap().manifest;
    target.push_manifest(&subset, &transship::oci::Selector::Digest(mirrored.clone())).await.unwrap();
    batch.not_empty();
    batch.stores.meters_pulls(&"src.test".parse().unwrap());
    assert_eq!(statuses(&batch.run().await), [Status::Copied]);
    assert_eq!((batch.calls(What::Manifest, "src."), batch.calls(What::Manifest, "dst.")), (0, 1));
    let tagged = transship::store::Source::resolve(&target, &crate::support::images::tagged("1")).await.unwrap();
    assert_eq!(tagged.digest, mirrored);
}

#[tokio::test]
async fn a_filtered_index_that_differs_from_the_lock_isnt_pushed() {
    let mut batch = Batch::new();
    part(&mut batch, &app()).await;
    let Planned::Image(transfer) = &mut batch.plan.images[0] else { unreachable!("it was just added") };
    transfer.mirrored = None;
    let outcomes = batch.run().await;
    let error = outcomes[0].error.as_ref().unwrap();
    assert_eq!((error.kind(), error.side()), (Kind::Mismatch, Some(Side::Source)), "{error}");
    assert_eq!(batch.stores.count(What::PushManifest) + batch.stores.count(What::OpenUpload), 0);
}

#[tokio::test]
async fn the_estimate_reads_only_matching_children() {
    let mut batch = Batch::new();
    let app = app();
    part(&mut batch, &app).await;
    batch.stores.meters_pulls(&"src.test".parse().unwrap());
    let stores: Arc<dyn transship::store::Stores> = Arc::new(batch.stores.clone());
    transship::plan::price(&mut batch.plan, &stores, transship::plan::Spending::Pulls).await;
    let Planned::Image(transfer) = &batch.plan.images[0] else { unreachable!("it was just added") };
    let bytes = app.children[..2].iter().flat_map(Image::blobs).map(|blob| blob.descriptor.size).sum();
    let bytes = Bytes { copied: bytes, ..Bytes::default() };
    // The referrers of the children aren't known yet.
    assert_eq!((transfer.cost.pulls, transfer.cost.pulls_exact, transfer.cost.bytes), (3, false, Some(bytes)));
}

#[tokio::test]
async fn only_referrers_of_the_filtered_image_are_listed() {
    let mut batch = Batch::new();
    let app = app();
    part(&mut batch, &app).await;
    let [kept, attestation, dropped] = [0, 1, 2].map(|at| cosign::bundle(app.children[at].descriptor()));
    for referrer in [&kept, &attestation, &dropped] {
        batch.put(referrer, "src.test/app", None).await;
    }
    let outcomes = batch.run().await;
    let wanted = [&kept, &attestation].map(|image| (image.digest().clone(), Status::Copied));
    assert_eq!(referrers::rows(&outcomes[0]), wanted);
    assert_eq!(batch.stores.position(What::Referrers, app.children[2].digest().as_str()), None);
}
