//! `sync --repair` and `plan --repair`: content missing below up-to-date tags is found and restored.

use transship::oci::Digest;
use transship::store::memory::MemoryRepository;

use crate::support::cosign;
use crate::support::images::{Image, image, index, multi_platform};
use crate::support::registry::Registry;
use crate::support::scene::{Scene, statuses};
use crate::support::script::Fault;

/// An index of two platforms and a nested index, with its referrers, at the source.
async fn published(scene: &Scene) -> (Image, Image) {
    let app = multi_platform("app", &["linux/amd64", "linux/arm64"]);
    let inner = multi_platform("inner", &["linux/riscv64"]);
    let root = index().child("linux/amd64", app.children[0].clone()).nested(inner).build();
    let bundle = cosign::bundle(root.descriptor());
    let source = scene.source.inside("app");
    root.push(&source, "1").await;
    bundle.try_push(&source, None).await.unwrap();
    scene.list("  - SRC/app:1\n");
    (root, bundle)
}

/// Each manifest and each blob of an image.
fn parts(image: &Image) -> (Vec<Digest>, Vec<Digest>) {
    let manifests = image.manifests().iter().map(|image| image.digest().clone()).collect();
    (manifests, image.blobs().iter().map(|blob| blob.digest().clone()).collect())
}

fn pushes(registry: &Registry) -> usize {
    registry.script.count("PUT", "/v2/")
}

async fn assert_whole(scene: &Scene, what: &str) {
    let run = scene.cli.run("verify --content").await;
    assert_eq!(run.code, 0, "{what}: {run}");
    let run = scene.cli.run("plan --repair --check").await;
    assert_eq!(run.code, 0, "{what}: {run}");
}

#[tokio::test]
async fn repair_restores_only_missing_content_below_a_tag() {
    let scene = Scene::new().await;
    let (root, bundle) = published(&scene).await;
    assert_eq!(scene.cli.run("sync").await.code, 0);
    assert_whole(&scene, "new").await;
    let target = scene.target.inside("mirror/app");
    let ((manifests, blobs), (_, of_bundle)) = (parts(&root), parts(&bundle));
    let manifests = manifests.iter().filter(|digest| *digest != root.digest()).map(|digest| (digest, true));
    for (digest, is_manifest) in manifests.chain(blobs.iter().chain(&of_bundle).map(|digest| (digest, false))) {
        if is_manifest {
            target.delete_manifest(digest);
        } else {
            target.delete_blob(digest);
        }
        let what = format!("{digest}, {}", if is_manifest { "a manifest" } else { "a blob" });
        assert_eq!(scene.cli.run("plan --check").await.code, 0, "{what}: the tag is right");
        let plan = scene.cli.run("plan --repair --check --json").await;
        assert_eq!(plan.code, 3, "{what}: {plan}");
        assert_eq!(statuses(&scene.cli.run("sync --json").await), ["up_to_date"], "{what}");
        scene.clear();
        let run = scene.cli.run("sync --repair --json").await;
        assert_eq!((run.code, statuses(&run)), (0, vec!["copied".to_owned()]), "{what}: {run}");
        let uploads = scene.target.script.count("PUT", "/blobs/uploads/");
        assert_eq!(uploads, usize::from(!is_manifest), "{what}: {:#?}", scene.target.script.lines());
        assert_whole(&scene, &what).await;
    }
    scene.clear();
    let run = scene.cli.run("sync --repair --json").await;
    assert_eq!((run.code, statuses(&run)), (0, vec!["up_to_date".to_owned()]), "{run}");
    assert_eq!((pushes(&scene.target), scene.source.script.lines().len()), (0, 0), "nothing to do, nothing sent");
}

#[tokio::test]
async fn content_lost_at_the_source_is_restored_from_another_target() {
    let scene = Scene::new().await;
    let other = Registry::start().await;
    let (root, _) = published(&scene).await;
    let text =
        format!("targets: [DST/mirror, {}/mirror]\nlayout: \"{{repository}}\"\nimages:\n  - SRC/app:1\n", other.name());
    scene.write("mirror.yaml", &text);
    assert_eq!(scene.cli.run("sync").await.code, 0);
    let (manifests, blobs) = parts(&root);
    let empty = |repository: &MemoryRepository| {
        manifests.iter().for_each(|digest| repository.delete_manifest(digest));
        blobs.iter().for_each(|digest| repository.delete_blob(digest));
    };
    empty(&scene.source.inside("app"));
    let target = scene.target.inside("mirror/app");
    blobs.iter().for_each(|digest| target.delete_blob(digest));
    manifests.iter().filter(|digest| *digest != root.digest()).for_each(|digest| target.delete_manifest(digest));
    for flags in ["sync --repair --no-cache --json", "sync --repair --json"] {
        let run = scene.cli.run(flags).await;
        assert_eq!(run.code, 0, "{run}");
        assert_eq!(
            statuses(&run),
            if flags.contains("no-cache") { ["copied", "up_to_date"] } else { ["up_to_date"; 2] }
        );
    }
    assert_whole(&scene, "from the other target").await;
}

#[tokio::test]
async fn an_unreadable_target_fails_its_image_and_doesnt_count_as_missing() {
    let scene = Scene::new().await;
    let app = image("app").build();
    app.push(&scene.source.inside("app"), "1").await;
    scene.list("  - SRC/app:1\n");
    assert_eq!(scene.cli.run("sync").await.code, 0);
    scene.target.script.always("HEAD", "/blobs/", Fault::refuse(403, "DENIED"));
    for flags in ["plan --repair --check", "sync --repair"] {
        let run = scene.cli.run(flags).await;
        assert_eq!(run.code, 1, "{run}");
    }
    assert_eq!(scene.target.script.count("PUT", "/blobs/"), app.blobs.len(), "only by the first sync");
}
