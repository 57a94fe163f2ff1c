//! A third-party registry with damaged files on its disk.

use std::path::Path;

use transship::oci::Digest;

use crate::support::cli::{Cli, Run};
use crate::support::docker_registry::DockerRegistry;
use crate::support::images::{Image, image, multi_platform};
use crate::support::registry::Registry;

struct Scene {
    source: Registry,
    target: DockerRegistry,
    cli: Cli,
}

/// An image with two platforms, mirrored by a sync; `None` if docker-registry isn't installed.
async fn mirrored() -> Option<(Scene, Image)> {
    let scene = Scene { source: Registry::start().await, target: DockerRegistry::start()?, cli: Cli::new() };
    let app = multi_platform("app", &["linux/amd64", "linux/arm64"]);
    app.push(&scene.source.inside("app"), "1").await;
    image("other").build().push(&scene.source.inside("other"), "1").await;
    let (target, source) = (scene.target.name(), scene.source.name());
    let list =
        format!("target: {target}/m\nlayout: \"{{repository}}\"\nimages: [\"{source}/app:1\", \"{source}/other:1\"]\n");
    scene.cli.write("mirror.yaml", list);
    assert_eq!(scene.cli.run("sync").await.code, 0);
    let run = scene.cli.run("verify --content --extra --json").await;
    assert_eq!(run.code, 0, "{run}");
    Some((scene, app))
}

/// The differences, as `WHAT EXPECTED`.
fn differences(run: &Run) -> Vec<String> {
    let report = run.json();
    let differences = report["differences"].as_array().expect("differences");
    let text = |value: &serde_json::Value| value.as_str().expect("a text").to_owned();
    differences.iter().map(|one| format!("{} {}", text(&one["what"]), text(&one["expected"]))).collect()
}

fn change(file: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = std::fs::read(file).expect("a blob");
    change(&mut bytes);
    std::fs::write(file, bytes).expect("a file");
}

#[tokio::test]
async fn flipped_missing_and_additional_bytes_are_found() {
    let Some((scene, app)) = mirrored().await else { return };
    let blobs: Vec<Digest> = app.children[0].blobs.iter().map(|blob| blob.digest().clone()).collect();
    change(&scene.target.blob_file(&blobs[1]), |bytes| bytes[7] ^= 1);
    let flipped = format!("blob {}", blobs[1]);
    assert_eq!(scene.cli.run("verify --deep").await.code, 0, "nobody reads it");
    let run = scene.cli.run("verify --content --json").await;
    assert_eq!((run.code, differences(&run)), (3, vec![flipped.clone()]), "{run}");

    change(&scene.target.blob_file(&blobs[2]), |bytes| bytes.truncate(bytes.len() - 1));
    change(&scene.target.blob_file(&blobs[0]), |bytes| bytes.push(b' '));
    let sizes = [format!("blob {}", blobs[0]), format!("blob {}", blobs[2])];
    let run = scene.cli.run("verify --deep --json").await;
    assert_eq!((run.code, differences(&run)), (3, sizes.to_vec()), "{run}");
    let run = scene.cli.run("verify --content --json").await;
    let all = vec![sizes[0].clone(), flipped, sizes[1].clone()];
    assert_eq!((run.code, differences(&run)), (3, all), "{run}");
    let whys = [0, 2].map(|at| run.json()["differences"][at]["why"].as_str().expect("a reason").to_owned());
    assert!(whys[0].starts_with("it has ") && whys[1] == "it has 1999 bytes, and the manifest says 2000", "{whys:?}");
}

#[tokio::test]
async fn a_deleted_blob_and_a_deleted_child_are_found_and_repaired_as_the_hint_says() {
    let Some((scene, app)) = mirrored().await else { return };
    let blob = app.children[0].blobs[1].digest().clone();
    let child = app.children[1].digest().clone();
    std::fs::remove_file(scene.target.blob_file(&blob)).expect("a blob");
    std::fs::remove_file(scene.target.blob_file(&child)).expect("a manifest");
    assert_eq!(scene.cli.run("verify").await.code, 0, "the tag is right");
    let run = scene.cli.run("verify --deep --json").await;
    let missing = vec![format!("blob {blob}"), format!("manifest {child}")];
    assert_eq!((run.code, differences(&run)), (3, missing), "{run}");

    assert_eq!(scene.cli.run("sync").await.code, 0);
    assert_eq!(scene.cli.run("verify --deep").await.code, 3, "a sync sees the tag and leaves it at that");
    std::fs::remove_dir_all(scene.target.repository_folder("m/app")).expect("a repository");
    let run = scene.cli.run("sync --json").await;
    assert_eq!(run.code, 0, "{run}");
    let run = scene.cli.run("verify --content --json").await;
    assert_eq!(run.code, 0, "{run}");
}

#[tokio::test]
async fn damaged_bytes_stay_until_the_garbage_collection() {
    let Some((scene, app)) = mirrored().await else { return };
    let file = scene.target.blob_file(app.children[0].blobs[1].digest());
    change(&file, |bytes| bytes[0] ^= 1);
    let repository = scene.target.repository_folder("m/app");
    std::fs::remove_dir_all(&repository).expect("a repository");
    assert_eq!(scene.cli.run("sync").await.code, 0);
    assert_eq!(scene.cli.run("verify --content").await.code, 3, "the registry takes what it has for what it gets");
    std::fs::remove_dir_all(&repository).expect("a repository");
    std::fs::remove_file(file).expect("garbage");
    assert_eq!(scene.cli.run("sync").await.code, 0);
    assert_eq!(scene.cli.run("verify --content").await.code, 0);
}
