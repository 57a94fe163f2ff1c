//! A source behind a cache: cached manifests need no request, and no request is made only to save reads.

use transship::store::cache::CachedStores;

use super::*;

/// A batch whose sources are behind an empty cache in `folder`.
fn batch(folder: &tempfile::TempDir) -> Batch {
    let mut batch = Batch::new();
    batch.given = Arc::new(CachedStores::new(Arc::clone(&batch.given), folder.path().to_owned(), 1 << 20));
    batch.stores.meters_pulls(&"src.test".parse().unwrap());
    batch
}

async fn read(batch: &Batch, image: &Image) {
    let source = batch.given.source(&"src.test/app".parse().unwrap()).unwrap();
    for manifest in image.manifests() {
        source.manifest(manifest.digest()).await.unwrap();
    }
}

#[tokio::test]
async fn cached_manifests_need_no_request() {
    let folder = tempfile::tempdir().unwrap();
    let mut batch = batch(&folder);
    let image = multi_platform("app", &["linux/amd64", "linux/arm64"]);
    batch.image(&image, "src.test/app:1", "dst.test/app").await;
    read(&batch, &image).await;
    assert_eq!(statuses(&batch.run().await), [Status::Copied]);
    batch.assert_at(&image, "dst.test/app", "1").await;
    // A cached child costs no pull, so it isn't looked up at the target.
    assert_eq!((batch.stores.count(What::Manifest), batch.calls(What::Resolve, "dst.")), (0, 0));
}

#[tokio::test]
async fn another_tag_needs_only_a_put() {
    let folder = tempfile::tempdir().unwrap();
    let mut batch = batch(&folder);
    let image = multi_platform("app", &["linux/amd64"]);
    batch.image(&image, "src.test/app:2", "dst.test/app").await;
    image.push(&batch.memory.repository(&"dst.test/app".parse().unwrap()), "1").await;
    batch.not_empty();
    if let Planned::Image(transfer) = &mut batch.plan.images[0] {
        transfer.action = Action::Tag;
    }
    read(&batch, &image).await;
    assert_eq!(statuses(&batch.run().await), [Status::Copied]);
    assert_eq!(batch.stores.count(What::Manifest), 0);
    let calls: Vec<String> = batch.stores.calls().iter().map(ToString::to_string).collect();
    let of_target: Vec<&String> = calls.iter().filter(|call| call.contains("dst.test")).collect();
    assert_eq!(of_target, ["PushManifest dst.test/app 2"]);
}
