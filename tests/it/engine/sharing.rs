//! Blobs shared by many images, at one registry and at several, also if a side keeps breaking.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_source_that_repeatedly_breaks_off_before_the_first_byte_is_given_up() {
    let mut batch = Batch::new();
    let image = image("app").layer(1000).build();
    let layer = image.blobs[1].digest();
    batch.image(&image, "src.test/app:1", "dst.test/app").await;
    batch.stores.chunk(100);
    batch.stores.on(What::Blob).for_subject(layer).then(Fault::BreaksAfter(300));
    let always = usize::MAX;
    batch.stores.on(What::Blob).for_subject(format!("{layer}@300")).times(always).then(Fault::BreaksAfter(0));
    assert_eq!(statuses(&batch.run().await), [Status::Copied], "the next upload starts again");
    batch.assert_at(&image, "dst.test/app", "1").await;
    assert_eq!(batch.stores.count(What::Abandon), 1);
}

#[tokio::test(start_paused = true)]
async fn each_registry_receives_a_blob_once_even_if_many_images_need_it_concurrently() {
    let mut batch = Batch::new();
    let images = ["a", "b", "c"].map(|seed| image(seed).shared_layer("base", 5000).build());
    let layer = images[0].blobs[1].digest();
    for (name, image) in ["a", "b", "c"].iter().zip(&images) {
        batch.image(image, &format!("src.test/{name}:1"), &format!("dst.test/{name}")).await;
        batch.image(image, &format!("src.test/{name}:1"), &format!("other.test/{name}")).await;
    }
    let gate = Gate::closed();
    for name in ["a", "b", "c"] {
        let other = format!("other.test/{name}").parse().unwrap();
        batch.stores.on(What::PushBlob).of(&other).for_subject(layer).then(Fault::Waits(gate.clone()));
    }
    let open = async {
        gate.reached(1).await;
        // The others wait only for the layer: all configs exist.
        all_wait().await;
        assert!(images.iter().all(|image| {
            let config = image.blobs[0].digest().as_str();
            let mut pushed = batch.stores.calls_of(What::PushBlob).into_iter();
            pushed.any(|call| call.subject == config && call.repository.registry().as_str() == "other.test")
        }));
        gate.open();
    };
    let (outcomes, ()) = tokio::join!(batch.run(), open);
    assert_eq!(statuses(&outcomes), [Status::Copied; 6]);
    let of_layer = |what: What, registry: &str| {
        let calls = batch.stores.calls_of(what).into_iter();
        calls.filter(|c| c.subject == layer.as_str() && c.repository.registry().as_str() == registry).count()
    };
    assert_eq!(of_layer(What::Blob, "src.test"), 1);
    for registry in ["dst.test", "other.test"] {
        assert_eq!((of_layer(What::PushBlob, registry), of_layer(What::Mount, registry)), (1, 2), "{registry}");
    }
}

#[tokio::test]
async fn one_permit_is_enough_for_nested_indexes_and_two_registries() {
    let mut batch = Batch::new();
    batch.transfers = 1;
    batch.stores.on(What::Mount).times(usize::MAX).then(Fault::Declines);
    let inner = |seed: &str| {
        let app = image(seed).shared_layer("base", 5000).shared_layer("more", 3000).build();
        index().nested(index().child("linux/amd64", app).attested().build()).build()
    };
    for name in ["a", "b", "c", "d"] {
        let image = inner(name);
        batch.image(&image, &format!("src.test/{name}:1"), &format!("dst.test/{name}")).await;
        batch.image(&image, &format!("src.test/{name}:1"), &format!("other.test/{name}")).await;
    }
    assert_eq!(statuses(&batch.run().await), [Status::Copied; 8]);
}

#[tokio::test]
async fn a_wrong_size_fails_its_image_even_if_another_image_copied_the_blob() {
    let mut batch = Batch::new();
    let good = image("good").shared_layer("base", 5000).build();
    let mut layer = good.blobs[1].clone();
    layer.descriptor.size += 1;
    let mut wrong = image("wrong").blob(layer).build();
    wrong.blobs[1] = good.blobs[1].clone();
    batch.image(&good, "src.test/good:1", "dst.test/good").await;
    batch.image(&wrong, "src.test/wrong:1", "dst.test/wrong").await;
    batch
        .stores
        .on(What::Blob)
        .for_subject(format!("{}@5000", good.blobs[1].digest()))
        .times(9)
        .fails(Kind::Unsupported);
    assert_eq!(statuses(&batch.run().await), [Status::Copied, Status::Failed]);
    assert!(!batch.has_tag("dst.test/wrong", "1").await);
}
