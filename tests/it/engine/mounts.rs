//! Blobs that several images share: read once from the source, then mounted at the target, or copied within it.

use std::collections::HashSet;

use transship::error::Kind;
use transship::oci::Repository;
use transship::report::Status;
use transship::store::MountRule;

use super::{Batch, statuses};
use crate::support::gate::{Gate, all_wait};
use crate::support::images::{Image, image};
use crate::support::recorded::{Fault, What};

#[tokio::test]
async fn a_shared_layer_is_read_from_the_source_once() {
    let mut batch = Batch::new();
    let shared = |seed: &str| image(seed).shared_layer("base", 300_000).layer(10).build();
    let mut layer = HashSet::new();
    for tag in 0..10 {
        let image = shared(&format!("tag{tag}"));
        layer.insert(image.blobs[1].digest().clone());
        batch.image(&image, &format!("src.test/many:{tag}"), "dst.test/many").await;
    }
    for repository in 0..5 {
        let image = shared(&format!("repo{repository}"));
        batch.image(&image, &format!("src.test/r{repository}:1"), &format!("dst.test/r{repository}")).await;
        batch.image(&image, &format!("src.test/r{repository}:1"), &format!("other.test/r{repository}")).await;
    }
    let outcomes = batch.run().await;
    assert!(outcomes.iter().all(|outcome| outcome.status == Status::Copied), "{outcomes:?}");
    let layer = layer.into_iter().next().unwrap();
    let of_layer = |what: What, registry: &str| {
        let calls = batch.stores.calls_of(what).into_iter();
        calls.filter(|c| c.subject == layer.as_str() && c.repository.registry().as_str() == registry).count()
    };
    assert_eq!(of_layer(What::Blob, "src.test"), 1);
    // The first repository of the other registry reads it from the first registry; the rest mount it.
    assert_eq!(of_layer(What::Blob, "dst.test") + of_layer(What::Blob, "other.test"), 1);
    assert_eq!(of_layer(What::PushBlob, "dst.test"), 1);
    assert_eq!(of_layer(What::PushBlob, "other.test"), 1);
    assert_eq!((of_layer(What::Mount, "dst.test"), of_layer(What::Mount, "other.test")), (5, 4));
    let copied: u64 = outcomes.iter().map(|outcome| outcome.bytes.copied).sum();
    let mounted: u64 = outcomes.iter().map(|outcome| outcome.bytes.mounted).sum();
    assert!((600_000..610_000).contains(&copied), "{copied}");
    assert!((2_700_000..2_710_000).contains(&mounted), "{mounted}");
}

#[tokio::test(start_paused = true)]
async fn if_the_first_upload_fails_the_next_image_uploads_the_layer() {
    let mut batch = Batch::new();
    let shared = |seed: &str| image(seed).shared_layer("base", 5000).build();
    let (first, second) = (shared("a"), shared("b"));
    let layer = first.blobs[1].digest();
    batch.image(&first, "src.test/a:1", "dst.test/a").await;
    batch.image(&second, "src.test/b:1", "dst.test/b").await;
    let a = "src.test/a".parse().unwrap();
    let gate = Gate::closed();
    batch.stores.on(What::Blob).of(&a).for_subject(layer).then(Fault::Waits(gate.clone()));
    let (a, b) = ("dst.test/a".parse().unwrap(), "dst.test/b".parse().unwrap());
    batch.stores.on(What::PushBlob).of(&a).for_subject(layer).times(usize::MAX).fails(Kind::Denied);
    let open = async {
        gate.reached(1).await;
        // The other image waits for the layer.
        all_wait().await;
        assert!(batch.stores.position(What::PushBlob, second.blobs[0].digest().as_str()).is_some());
        gate.open();
    };
    let (outcomes, ()) = tokio::join!(batch.run(), open);
    assert_eq!(statuses(&outcomes), [Status::Failed, Status::Copied]);
    batch.assert_at(&second, "dst.test/b", "1").await;
    assert!(batch.stores.calls_of(What::Mount).is_empty());
    let _: Repository = b;
}

#[tokio::test]
async fn if_mounts_are_declined_the_blob_is_read_from_the_target_and_not_the_source() {
    let mut batch = Batch::new();
    let shared = |seed: &str| image(seed).shared_layer("base", 5000).build();
    let images = [shared("a"), shared("b"), shared("c")];
    for (name, image) in ["a", "b", "c"].iter().zip(&images) {
        batch.image(image, &format!("src.test/{name}:1"), &format!("dst.test/{name}")).await;
    }
    batch.stores.on(What::Mount).times(usize::MAX).then(Fault::Declines);
    assert!(batch.run().await.iter().all(|outcome| outcome.status == Status::Copied));
    // Three configs and one layer from upstream, the layer twice from the mirror.
    assert_eq!((batch.calls(What::Blob, "src."), batch.calls(What::Blob, "dst.")), (4, 2));
}

/// Three images that share a layer, in a registry with this rule.
async fn three_that_share(rule: MountRule) -> (Batch, [Image; 3]) {
    let mut batch = Batch::new();
    let images = ["a", "b", "c"].map(|name| image(name).shared_layer("base", 5000).build());
    for (name, image) in ["a", "b", "c"].iter().zip(&images) {
        batch.image(image, &format!("src.test/{name}:1"), &format!("dst.test/{name}")).await;
    }
    batch.stores.mounts(&"dst.test".parse().unwrap(), rule);
    (batch, images)
}

#[tokio::test]
async fn if_only_referenced_blobs_can_be_mounted_others_wait_for_the_first_manifest() {
    let (batch, images) = three_that_share(MountRule::Committed).await;
    assert_eq!(statuses(&batch.run().await), [Status::Copied; 3]);
    for (name, image) in ["a", "b", "c"].iter().zip(&images) {
        batch.assert_at(image, &format!("dst.test/{name}"), "1").await;
    }
    let of = |what: What, repository: &str| {
        let wanted: Repository = repository.parse().unwrap();
        batch.stores.calls().iter().position(|call| call.what == what && call.repository == wanted)
    };
    let committed = of(What::PushManifest, "dst.test/a").unwrap();
    assert_eq!(of(What::Mount, "dst.test/a"), None);
    for needer in ["dst.test/b", "dst.test/c"] {
        assert!(of(What::Mount, needer).unwrap() > committed, "{:#?}", batch.stores.calls());
    }
    // Three configs and one layer.
    assert_eq!((batch.calls(What::Blob, "src."), batch.calls(What::Blob, "dst.")), (4, 0));
}

#[tokio::test]
async fn if_the_registry_never_mounts_no_mount_is_requested() {
    let (batch, _) = three_that_share(MountRule::Never).await;
    assert_eq!(statuses(&batch.run().await), [Status::Copied; 3]);
    assert_eq!(batch.stores.count(What::Mount), 0);
    assert_eq!((batch.calls(What::Blob, "src."), batch.calls(What::Blob, "dst.")), (4, 2));
}

#[tokio::test(start_paused = true)]
async fn no_image_waits_for_the_manifest_of_a_later_image() {
    let (batch, images) = three_that_share(MountRule::Committed).await;
    let layer = images[0].blobs[1].digest().as_str();
    let (late, last) = (Gate::closed(), Gate::closed());
    batch.stores.on(What::Manifest).of(&"src.test/a".parse().unwrap()).then(Fault::Waits(late.clone()));
    for name in ["b", "c"] {
        let target = format!("dst.test/{name}").parse().unwrap();
        batch.stores.on(What::PushManifest).of(&target).then(Fault::Waits(last.clone()));
    }
    let open = async {
        all_wait().await;
        assert!(batch.stores.position(What::PushBlob, layer).is_some());
        late.open();
        // The first is copied although no other has committed anything yet, and the last one mounts from it.
        all_wait().await;
        assert!(batch.has_tag("dst.test/a", "1").await);
        last.open();
    };
    let (outcomes, ()) = tokio::join!(batch.run(), open);
    assert_eq!(statuses(&outcomes), [Status::Copied; 3]);
    assert_eq!((batch.calls(What::Blob, "src."), batch.calls(What::Blob, "dst.")), (4, 1));
    assert_eq!(batch.stores.count(What::Mount), 1);
}

#[tokio::test]
async fn no_image_waits_for_a_failed_image() {
    let (batch, _) = three_that_share(MountRule::Committed).await;
    let first = "dst.test/a".parse().unwrap();
    batch.stores.on(What::PushManifest).of(&first).fails(Kind::Denied);
    assert_eq!(statuses(&batch.run().await), [Status::Failed, Status::Copied, Status::Copied]);
    // The others use the blob that the first has copied, and one may wait for the other if that comes first.
    assert_eq!(batch.calls(What::Blob, "src."), 4);
    assert_eq!(batch.calls(What::Blob, "dst.") + batch.stores.count(What::Mount), 2);
}

#[tokio::test]
async fn repositories_that_share_layers_both_ways_dont_deadlock() {
    let mut batch = Batch::new();
    // Two layers, each first copied to another repository; each repository gets two images, alternately.
    let of = |seed: &str, layer: &str| image(seed).shared_layer(layer, 5000).build();
    let images = [of("1", "x"), of("2", "y"), of("3", "y"), of("4", "x")];
    for (n, (repository, image)) in ["a", "b", "a", "b"].iter().zip(&images).enumerate() {
        batch.image(image, &format!("src.test/{repository}:{n}"), &format!("dst.test/{repository}")).await;
    }
    batch.stores.mounts(&"dst.test".parse().unwrap(), MountRule::Committed);
    assert_eq!(statuses(&batch.run().await), [Status::Copied; 4]);
    assert_eq!(batch.calls(What::Blob, "src."), 6);
}
