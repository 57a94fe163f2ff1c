//! Verification below the tags: each manifest, each blob and each byte, once.

use super::{Pins, reasons, three};
use crate::support::images::{image, multi_platform};
use crate::support::scene::Scene;
use crate::support::script::Fault;

#[tokio::test]
async fn deep_reads_each_manifest_and_sends_a_head_for_each_blob_once() {
    let scene = Scene::new().await;
    let app = multi_platform("app", &["linux/amd64", "linux/arm64"]);
    let base = image("one").shared_layer("base", 5000).build();
    let other = image("two").shared_layer("base", 5000).build();
    let mut pins = Pins::default();
    for (tag, image) in [("1", &app), ("2", &app), ("3", &base), ("4", &other)] {
        scene.mirrored("app", tag, image).await;
        pins = pins.pin(&format!("SRC/app:{tag}"), image);
    }
    scene.mirror("  - {image: SRC/app, tags: [\"1\", \"2\", \"3\", \"4\"]}\n", &pins);
    let run = scene.verify("--deep").await;
    assert_eq!(run.code, 0, "{run}");
    let blobs: std::collections::HashSet<_> =
        [&app, &base, &other].iter().flat_map(|image| image.blobs()).map(|blob| blob.digest().clone()).collect();
    let script = &scene.target.script;
    assert_eq!((script.count("HEAD", "/manifests/"), script.count("GET", "/manifests/")), (4, 5));
    assert_eq!((script.count("HEAD", "/blobs/"), script.count("GET", "/blobs/")), (blobs.len(), 0));
}

#[tokio::test]
async fn a_deleted_child_is_one_difference() {
    let scene = Scene::new().await;
    let app = multi_platform("app", &["linux/amd64", "linux/arm64"]);
    scene.mirrored("app", "1", &app).await;
    scene.mirrored("app", "2", &app).await;
    let pins = Pins::default().pin("SRC/app:1", &app).pin("SRC/app:2", &app);
    scene.mirror("  - SRC/app:1\n  - SRC/app:2\n", &pins);
    let child = &app.children[1];
    scene.delete(&format!("/manifests/{}", child.digest()));
    let run = scene.verify("--deep").await;
    let expected = format!("DST/mirror/app:1 manifest {} -", child.digest());
    assert_eq!((run.code, scene.differences(&run)), (3, vec![expected]), "{run}");
    assert_eq!(reasons(&run), ["differs", "differs"]);
    for blob in &child.blobs {
        assert_eq!(scene.target.script.count("HEAD", blob.digest().as_str()), 0, "nothing is asked below it");
    }
    assert_eq!(scene.verify("").await.code, 0, "the tag is right");
}

#[tokio::test]
async fn a_deleted_blob_shared_by_two_images_is_one_difference() {
    let scene = Scene::new().await;
    let images = ["one", "two"].map(|seed| image(seed).shared_layer("base", 5000).build());
    let pins = Pins::default().pin("SRC/app:1", &images[0]).pin("SRC/app:2", &images[1]);
    scene.mirrored("app", "1", &images[0]).await;
    scene.mirrored("app", "2", &images[1]).await;
    scene.mirror("  - SRC/app:1\n  - SRC/app:2\n", &pins);
    let base = images[0].blobs[1].digest();
    scene.delete(&format!("/blobs/{base}"));
    for flags in ["--deep", "--content"] {
        let run = scene.verify(flags).await;
        let expected = format!("DST/mirror/app:1 blob {base} -");
        assert_eq!((run.code, scene.differences(&run)), (3, vec![expected]), "{run}");
        assert_eq!(reasons(&run), ["differs", "differs"]);
    }
}

#[tokio::test]
async fn content_reads_each_blob_once_and_finds_a_flipped_byte() {
    let (scene, [app, ..]) = three().await;
    let fine = scene.verify("--content").await;
    let bytes = fine.json()["totals"]["bytes"]["present"].as_u64().expect("a number");
    assert!(fine.code == 0 && bytes > 9000, "{fine}");
    assert_eq!(scene.target.script.count("GET", "/blobs/"), 9);
    assert_eq!(scene.target.script.count("HEAD", "/blobs/"), 0, "who gets it needn't be asked");

    let blob = app.blobs[1].digest();
    scene.target.script.always("GET", format!("/blobs/{blob}"), Fault::Corrupt);
    let run = scene.verify("--content").await;
    let [difference] = &scene.differences(&run)[..] else { panic!("{run}") };
    assert_eq!(run.code, 3);
    assert!(difference.starts_with(&format!("DST/mirror/app:1 blob {blob} sha256:")), "{difference}");
    let why = run.json()["differences"][0]["why"].as_str().expect("a reason").to_owned();
    assert!(why.starts_with("digest mismatch: got sha256:"), "{why}");
    assert_eq!(scene.verify("--deep").await.code, 0, "presence and size are right");
}

#[tokio::test]
async fn a_broken_download_is_resumed() {
    let scene = Scene::new().await;
    let app = image("app").layer(300_000).build();
    scene.mirrored("app", "1", &app).await;
    scene.mirror("  - SRC/app:1\n", &Pins::default().pin("SRC/app:1", &app));
    let path = format!("/blobs/{}", app.blobs[1].digest());
    scene.target.script.times(2, "GET", path.clone(), Fault::Cut { after: 100_000 });
    let run = scene.verify("--content").await;
    assert_eq!((run.code, scene.target.script.count("GET", &path)), (0, 3), "{run}");
    // A server that always breaks off before the first byte is a failure, and not a difference.
    scene.target.script.always("GET", path, Fault::Cut { after: 0 });
    let run = scene.verify("--content").await;
    assert_eq!((run.code, scene.differences(&run).len()), (1, 0), "{run}");
    assert_eq!(run.json()["images"][0]["error"]["stage"], "verify");
}

#[tokio::test]
async fn a_damaged_manifest_is_a_difference() {
    let (scene, [app, ..]) = three().await;
    scene.target.script.always("GET", format!("/manifests/{}", app.digest()), Fault::Corrupt);
    let run = scene.verify("--deep").await;
    let expected = format!("DST/mirror/app:1 manifest {} -", app.digest());
    assert_eq!((run.code, scene.differences(&run)), (3, vec![expected]), "{run}");
    let why = run.json()["differences"][0]["why"].as_str().expect("a reason").to_owned();
    assert!(why.starts_with("digest mismatch: "), "{why}");
}
