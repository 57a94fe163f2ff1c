//! Foreign layers: read from the source registry like any other, or refused.

use transship::plan::Foreign;

use super::*;
use crate::support::images::{DOCKER_FOREIGN_LAYER, FOREIGN_LAYER};

/// An index whose image has a foreign layer, and an image without one.
async fn batch(rule: Foreign) -> (Batch, Image, Image) {
    let mut batch = Batch::new();
    let windows = image("windows").docker().layer_of(DOCKER_FOREIGN_LAYER, 900).layer(100).urls().build();
    let app = index().child("linux/amd64", image("linux").build()).child("windows/amd64", windows).build();
    let other = image("other").build();
    batch.image(&app, "src.test/app:1", "dst.test/app").await;
    batch.image(&other, "src.test/other:1", "dst.test/other").await;
    for planned in &mut batch.plan.images {
        if let Planned::Image(transfer) = planned {
            transfer.handling.foreign = rule;
        }
    }
    (batch, app, other)
}

fn foreign_layer(app: &Image) -> &transship::oci::Digest {
    app.children[1].blobs[1].digest()
}

#[tokio::test]
async fn a_foreign_layer_that_the_source_serves_is_copied() {
    let (batch, app, other) = batch(Foreign::Fetch).await;
    assert_eq!(statuses(&batch.run().await), [Status::Copied, Status::Copied]);
    batch.assert_at(&app, "dst.test/app", "1").await;
    batch.assert_at(&other, "dst.test/other", "1").await;
}

#[tokio::test]
async fn a_foreign_layer_that_the_source_lacks_fails_the_image_with_the_reason() {
    let (batch, app, other) = batch(Foreign::Fetch).await;
    let layer = foreign_layer(&app);
    batch.stores.on(What::Blob).for_subject(layer).times(usize::MAX).fails(Kind::NotFound);
    let outcomes = batch.run().await;
    assert_eq!(statuses(&outcomes), [Status::Failed, Status::Copied]);
    let error = outcomes[0].error.as_ref().unwrap();
    assert_eq!((error.kind(), error.side()), (Kind::NotFound, Some(Side::Source)));
    let expected = "it is a foreign layer, which the source registry doesn't serve, and its urls are never followed";
    assert_eq!(error.why(), expected);
    assert!(error.hint().unwrap().contains("allow-nondistributable-artifacts"), "{error}");
    assert!(!batch.has_tag("dst.test/app", "1").await);
    batch.assert_at(&other, "dst.test/other", "1").await;
}

#[tokio::test]
async fn if_foreign_layers_are_refused_the_image_fails_before_any_transfer() {
    let (batch, app, other) = batch(Foreign::Fail).await;
    let outcomes = batch.run().await;
    assert_eq!(statuses(&outcomes), [Status::Failed, Status::Copied]);
    let error = outcomes[0].error.as_ref().unwrap();
    assert_eq!((error.kind(), error.side()), (Kind::Unsupported, Some(Side::Source)));
    assert!(error.why().contains(foreign_layer(&app).as_str()) && error.hint().unwrap().contains("foreign: fetch"));
    let of_app = batch.stores.calls().into_iter().filter(|call| call.repository.path() == "app");
    let moves = |what: What| matches!(what, What::Blob | What::OpenUpload | What::PushBlob | What::PushManifest);
    assert!(of_app.into_iter().all(|call| !moves(call.what)));
    batch.assert_at(&other, "dst.test/other", "1").await;
}

#[tokio::test]
async fn images_at_the_target_arent_read_to_find_foreign_layers() {
    let (mut batch, app, _) = batch(Foreign::Fail).await;
    batch.not_empty();
    for child in &app.children {
        child.try_push(&batch.memory.repository(&"dst.test/app".parse().unwrap()), None).await.unwrap();
    }
    assert_eq!(statuses(&batch.run().await), [Status::Copied, Status::Copied]);
    assert_eq!(batch.stores.position(What::Manifest, app.children[0].digest().as_str()), None);
}

#[tokio::test]
async fn foreign_layers_of_oci_and_docker_are_recognised_by_media_type() {
    for media_type in [FOREIGN_LAYER, DOCKER_FOREIGN_LAYER] {
        let mut batch = Batch::new();
        batch.image(&image("app").layer_of(media_type, 10).build(), "src.test/app:1", "dst.test/app").await;
        if let Planned::Image(transfer) = &mut batch.plan.images[0] {
            transfer.handling.foreign = Foreign::Fail;
        }
        assert_eq!(statuses(&batch.run().await), [Status::Failed], "{media_type}");
    }
}
