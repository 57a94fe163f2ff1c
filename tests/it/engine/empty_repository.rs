//! Repositories without tags: one lookup shows what an interrupted run has left there.

use super::*;

/// The number of blob lookups in `repository`.
fn asked(batch: &Batch, repository: &str) -> usize {
    let repository: Repository = repository.parse().unwrap();
    batch.stores.calls_of(What::BlobSize).iter().filter(|call| call.repository == repository).count()
}

fn sent(batch: &Batch, blob: &crate::support::images::Blob) -> bool {
    batch.stores.position(What::PushBlob, blob.digest().as_str()).is_some()
}

#[tokio::test]
async fn an_empty_repository_is_looked_up_once_for_all_its_images() {
    let mut batch = Batch::new();
    for n in 0..30 {
        let image = if n % 2 == 0 {
            image(&format!("app{n}")).layer(1000).build()
        } else {
            multi_platform(&format!("app{n}"), &["linux/amd64", "linux/arm64"])
        };
        batch.image(&image, &format!("src.test/r{}:{n}", n % 3), &format!("dst.test/r{}", n % 3)).await;
    }
    assert!(batch.run().await.iter().all(|outcome| outcome.status == Status::Copied));
    for repository in ["dst.test/r0", "dst.test/r1", "dst.test/r2"] {
        assert_eq!(asked(&batch, repository), 1, "{repository}");
    }
    assert_eq!(batch.calls(What::Resolve, "dst."), 0);
}

#[tokio::test]
async fn blobs_left_by_an_interrupted_run_arent_sent_again() {
    let mut batch = Batch::new();
    let mut images = Vec::new();
    for n in 0..10 {
        let image = image(&format!("app{n}")).layer(1000).layer(10).build();
        batch.image(&image, &format!("src.test/app:{n}"), "dst.test/app").await;
        images.push(image);
    }
    let index = multi_platform("index", &["linux/amd64", "linux/arm64"]);
    batch.image(&index, "src.test/app:index", "dst.test/app").await;
    let target = batch.memory.repository(&"dst.test/app".parse().unwrap());
    for image in &images[..5] {
        for blob in &image.blobs {
            blob.push(&target).await.unwrap();
        }
    }
    index.children[0].try_push(&target, None).await.unwrap();
    assert!(batch.run().await.iter().all(|outcome| outcome.status == Status::Copied));
    for (n, image) in images.iter().enumerate() {
        assert!(image.blobs.iter().all(|blob| sent(&batch, blob) == (n >= 5)), "image {n}");
    }
    assert!(index.children[0].blobs.iter().all(|blob| !sent(&batch, blob)));
    assert_eq!(batch.stores.position(What::Manifest, index.children[0].digest().as_str()), None);
}

#[tokio::test]
async fn if_the_first_lookup_fails_the_next_image_looks_up() {
    let mut batch = Batch::new();
    let (first, second) = (image("a").build(), image("b").layer(1000).build());
    batch.image(&first, "src.test/a:1", "dst.test/app").await;
    batch.image(&second, "src.test/b:2", "dst.test/app").await;
    let target = batch.memory.repository(&"dst.test/app".parse().unwrap());
    for blob in &second.blobs {
        blob.push(&target).await.unwrap();
    }
    batch.stores.on(What::Manifest).of(&"src.test/a".parse().unwrap()).times(9).fails(Kind::NotFound);
    assert_eq!(statuses(&batch.run().await), [Status::Failed, Status::Copied]);
    assert_eq!(batch.stores.count(What::PushBlob), 0);
}

#[tokio::test]
async fn tags_of_one_image_dont_deadlock() {
    for image in [image("app").build(), multi_platform("app", &["linux/amd64", "linux/arm64"])] {
        let mut batch = Batch::new();
        for n in 0..100 {
            batch.image(&image, &format!("src.test/app:{n}"), "dst.test/app").await;
        }
        assert!(batch.run().await.iter().all(|outcome| outcome.status == Status::Copied));
        assert_eq!(asked(&batch, "dst.test/app"), 1);
    }
}

#[tokio::test]
async fn a_registry_that_refuses_lookups_gets_every_blob() {
    for kind in [Kind::Denied, Kind::Unauthorized, Kind::Unsupported, Kind::Invalid] {
        let mut batch = Batch::new();
        let image = image("app").layer(9 << 20).build();
        batch.image(&image, "src.test/app:1", "dst.test/app").await;
        batch.stores.on(What::BlobSize).times(usize::MAX).fails(kind);
        assert_eq!(statuses(&batch.run().await), [Status::Copied], "{kind:?}");
        batch.assert_at(&image, "dst.test/app", "1").await;
    }
}
