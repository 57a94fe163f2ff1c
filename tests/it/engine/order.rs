//! The order of blobs: image by image, the largest of an image first, and small ones at any time.

use std::time::Duration;

use transship::oci::MediaType;

use super::*;
use crate::support::images::Blob;

const BULK: usize = 200_000;

/// `count` images with `layers` large layers and a config each.
async fn images(batch: &mut Batch, count: usize, layers: usize) -> Vec<Image> {
    let mut all = Vec::new();
    for n in 0..count {
        let blob = |layer| Blob::seeded(MediaType::OCI_LAYER, &format!("layer {layer} of {n}"), BULK + layer);
        let image = (0..layers).fold(image(&format!("app{n}")), |image, layer| image.blob(blob(layer))).build();
        batch.image(&image, &format!("src.test/app{n}:1"), &format!("dst.test/app{n}")).await;
        all.push(image);
    }
    all
}

/// The time of a blob is proportional to its size.
fn take_time(batch: &Batch, images: &[Image]) {
    for blob in images.iter().flat_map(|image| &image.blobs) {
        let time = Duration::from_millis(blob.descriptor.size / 1000);
        batch.stores.on(What::PushBlob).for_subject(blob.digest()).then(Fault::Takes(time));
    }
}

fn bulk(images: &[Image]) -> impl Iterator<Item = &Blob> {
    images.iter().flat_map(|image| &image.blobs).filter(|blob| blob.descriptor.size >= BULK as u64)
}

#[tokio::test(start_paused = true)]
async fn after_half_of_the_bytes_about_half_of_the_images_are_tagged() {
    for (count, layers) in [(40, 3), (200, 1)] {
        let mut batch = Batch::new();
        let images = images(&mut batch, count, layers).await;
        take_time(&batch, &images);
        assert!(batch.run().await.iter().all(|outcome| outcome.status == Status::Copied));
        let calls = batch.stores.calls();
        let of_bulk: HashSet<String> = bulk(&images).map(|blob| blob.digest().to_string()).collect();
        let is_bulk = |at: &usize| calls[*at].what == What::PushBlob && of_bulk.contains(&calls[*at].subject);
        let pushed: Vec<usize> = (0..calls.len()).filter(is_bulk).collect();
        for (part, whole) in [(1, 4), (1, 2), (3, 4)] {
            let until = pushed[pushed.len() * part / whole];
            let tags = calls[..until].iter().filter(|call| call.what == What::PushManifest).count();
            let wanted = count * part / whole;
            assert!(tags + 10 >= wanted && tags <= wanted, "{tags} of {wanted} tags after {part}/{whole} of the bytes");
        }
    }
}

/// Any of its images may copy a shared blob, but the blob has the position of the first of them in the plan.
#[tokio::test(start_paused = true)]
async fn a_shared_layer_doesnt_delay_the_first_images() {
    for is_one_repository in [true, false] {
        let mut batch = Batch::new();
        batch.transfers = 1;
        let mut all = Vec::new();
        for n in 0..40 {
            let own = Blob::seeded(MediaType::OCI_LAYER, &format!("own {n}"), BULK + n);
            let image = image(&format!("app{n}")).blob(own).shared_layer("base", 2 * BULK).build();
            let name = if is_one_repository { "app".to_owned() } else { format!("app{n}") };
            batch.image(&image, &format!("src.test/{name}:{n}"), &format!("dst.test/{name}")).await;
            // The last image reads its manifest first, and so copies the blob.
            let time = Duration::from_millis(40 - n as u64);
            batch.stores.on(What::Manifest).for_subject(image.digest()).then(Fault::Takes(time));
            all.push(image);
        }
        batch.not_empty();
        take_time(&batch, &all);
        assert!(batch.run().await.iter().all(|outcome| outcome.status == Status::Copied));
        let calls = batch.stores.calls();
        let pushes: Vec<usize> = (0..calls.len()).filter(|at| calls[*at].what == What::PushBlob).collect();
        let until = pushes[pushes.len() - 20];
        let tags = calls[..until].iter().filter(|call| call.what == What::PushManifest).count();
        assert!((10..=20).contains(&tags), "{tags} of 40 tags after half of the bulk");
    }
}

#[tokio::test(start_paused = true)]
async fn the_largest_blob_of_an_image_is_copied_first() {
    let mut batch = Batch::new();
    batch.transfers = 1;
    let image = images(&mut batch, 1, 4).await.remove(0);
    take_time(&batch, std::slice::from_ref(&image));
    batch.run().await;
    let at = |blob: &Blob| batch.stores.position(What::PushBlob, blob.digest().as_str()).unwrap();
    let mut layers: Vec<&Blob> = bulk(std::slice::from_ref(&image)).collect();
    layers.sort_by_key(|blob| at(blob));
    // The first request finds a free permit.
    assert!(layers[1..].is_sorted_by_key(|blob| std::cmp::Reverse(blob.descriptor.size)));
}

#[tokio::test(start_paused = true)]
async fn a_small_blob_never_waits_for_large_ones() {
    for transfers in [1, 2, 8] {
        let mut batch = Batch::new();
        batch.transfers = transfers;
        let images = images(&mut batch, 20, 2).await;
        let gate = Gate::closed();
        for blob in bulk(&images) {
            batch.stores.on(What::PushBlob).for_subject(blob.digest()).then(Fault::Waits(gate.clone()));
        }
        let small = || images.iter().flat_map(|image| &image.blobs).filter(|blob| blob.descriptor.size < BULK as u64);
        let open = async {
            // All permits for large blobs are taken and stay taken; the small blobs are copied nevertheless.
            gate.reached(transfers).await;
            all_wait().await;
            assert!(small().all(|blob| batch.stores.position(What::PushBlob, blob.digest().as_str()).is_some()));
            gate.open();
        };
        let (outcomes, ()) = tokio::join!(batch.run(), open);
        assert!(outcomes.iter().all(|outcome| outcome.status == Status::Copied), "{outcomes:?}");
    }
}
