//! If source and target are one registry, blobs are mounted and not transferred.

use transship::report::Status;

use super::{Batch, statuses};
use crate::support::images::image;
use crate::support::recorded::{Fault, What};
use transship::error::Kind;

async fn batch() -> (Batch, crate::support::images::Image) {
    let mut batch = Batch::new();
    let root = image("app").layer(3000).layer(500).build();
    batch.image(&root, "one.test/upstream/app:1", "one.test/mirror/app").await;
    (batch, root)
}

#[tokio::test]
async fn each_blob_is_mounted_from_the_source() {
    let (batch, root) = batch().await;
    let outcomes = batch.run().await;
    assert_eq!(statuses(&outcomes), [Status::Copied], "{outcomes:?}");
    batch.assert_at(&root, "one.test/mirror/app", "1").await;
    let moved = [What::Blob, What::OpenUpload, What::PushBlob].map(|what| batch.stores.count(what));
    assert_eq!((moved, batch.stores.count(What::Mount)), ([0; 3], 3));
    assert_eq!(outcomes[0].bytes.copied, outcomes[0].bytes.total() - outcomes[0].bytes.mounted, "{outcomes:?}");
}

#[tokio::test]
async fn if_a_mount_fails_the_blob_is_sent() {
    for fault in
        [Fault::Declines, Fault::Fails(Kind::Denied), Fault::Fails(Kind::NotFound), Fault::Fails(Kind::Unavailable)]
    {
        let (batch, root) = batch().await;
        batch.stores.on(What::Mount).times(usize::MAX).then(fault.clone());
        let outcomes = batch.run().await;
        assert_eq!(statuses(&outcomes), [Status::Copied], "{fault:?}: {outcomes:?}");
        batch.assert_at(&root, "one.test/mirror/app", "1").await;
        assert_eq!((batch.stores.count(What::Mount), batch.stores.count(What::PushBlob)), (3, 3), "{fault:?}");
    }
}
