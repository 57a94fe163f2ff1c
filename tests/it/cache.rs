//! The cache across runs: it saves requests, and nothing depends on it.

use std::fs;

use transship::serve::Options;

use crate::support::cli::Cli;
use crate::support::images::{image, index, multi_platform};
use crate::support::registry::{Registry, Settings};
use crate::support::scene::Scene;
use crate::support::script::Fault;

/// A multi-platform image that is mirrored, and then requested for another repository.
async fn mirrored_then_moved() -> Scene {
    let scene = Scene::new().await;
    multi_platform("app", &["linux/amd64", "linux/arm64"]).push(&scene.source.inside("app"), "1").await;
    scene.list("  - SRC/app:1\n");
    let sync = scene.cli.run("sync").await;
    assert_eq!(sync.code, 0, "{sync}");
    scene.write("mirror.yaml", "target: DST/other\nlayout: \"{repository}\"\nimages: [\"SRC/app:1\"]\n");
    scene.clear();
    scene
}

#[tokio::test]
async fn a_manifest_is_read_from_the_source_once() {
    for (flag, gets) in [("", 0), (" --no-cache", 3)] {
        let scene = mirrored_then_moved().await;
        let sync = scene.cli.run(&format!("sync{flag}")).await;
        assert_eq!(sync.code, 0, "{sync}");
        assert_eq!(scene.source.script.count("GET", "/manifests/"), gets, "{flag}");
        multi_platform("app", &["linux/amd64", "linux/arm64"]).assert_in(&scene.target.inside("other/app"), "1").await;
    }
}

/// A metered registry without referrers API, like Docker Hub.
#[tokio::test]
async fn an_index_of_referrers_is_pulled_once() {
    let options = Options { referrers: false, ..Options::default() };
    let source = Registry::with(Settings { options, ..Settings::default() }).await;
    let scene = Scene { source, ..Scene::new().await };
    let app = scene.publish("app", "1").await;
    let signature = image("signature").artifact("application/x.signature").subject(app.descriptor()).build();
    let listed = index().nested(signature).build();
    listed.push(&scene.source.inside("app"), app.digest().referrers_tag().as_str()).await;
    scene.list("  - SRC/app:1\n");
    scene.source.script.always("HEAD", "/manifests/", Fault::Quota { remaining: 50 });
    for (verb, gets) in [("sync", 3), ("sync --update", 0), ("update", 0)] {
        scene.clear();
        let run = scene.cli.run(verb).await;
        assert_eq!((run.code, scene.source.script.count("GET", "/manifests/")), (0, gets), "{verb}: {run}");
    }
}

#[tokio::test]
async fn without_the_cache_nothing_is_written() {
    let scene = Scene::new().await;
    scene.publish("app", "1").await;
    scene.list("  - SRC/app:1\n");
    let sync = scene.cli.run("sync --no-cache").await;
    assert_eq!(sync.code, 0, "{sync}");
    assert!(!scene.cli.path("cache").exists());
}

#[tokio::test]
async fn manifests_read_by_plan_are_not_read_again_by_sync() {
    let scene = Scene::new().await;
    multi_platform("app", &["linux/amd64", "linux/arm64"]).push(&scene.source.inside("app"), "1").await;
    scene.list("  - SRC/app:1\n");
    let plan = scene.cli.run("plan --bytes").await;
    assert_eq!(plan.code, 0, "{plan}");
    assert_eq!(scene.source.script.count("GET", "/manifests/"), 3);
    scene.clear();
    let sync = scene.cli.run("sync").await;
    assert_eq!((sync.code, scene.source.script.count("GET", "/manifests/")), (0, 0), "{sync}");
}

#[tokio::test]
async fn the_config_with_the_platform_is_read_once() {
    let scene = Scene::new().await;
    image("app").platform("linux/arm64").build().push(&scene.source.inside("app"), "1").await;
    scene.list("  - {image: \"SRC/app:1\", platforms: [linux/arm64], referrers: none}\n");
    for gets in [2, 0] {
        scene.clear();
        let plan = scene.cli.run("plan --no-lock").await;
        assert_eq!((plan.code, scene.source.script.count("GET", "/")), (0, gets), "{plan}");
    }
}

#[tokio::test]
async fn an_unwritable_folder_is_reported_once() {
    let scene = Scene::new().await;
    for name in ["a", "b", "c"] {
        scene.publish(name, "1").await;
    }
    scene.list("  - SRC/a:1\n  - SRC/b:1\n  - SRC/c:1\n");
    let Scene { source, target, cli } = scene;
    let cli = cli.file("file", "");
    let below = cli.path("file/below");
    let scene = Scene { source, target, cli: cli.env("TRANSSHIP_CACHE_DIR", &below) };
    let sync = scene.cli.run("sync").await;
    assert_eq!(sync.code, 0, "{sync}");
    let told: Vec<_> = sync.stderr.lines().filter(|line| line.contains("can't be used")).collect();
    assert_eq!(told.len(), 1, "{sync}");
    for words in [below.to_str().unwrap(), "Not a directory", "TRANSSHIP_CACHE_DIR", "--no-cache"] {
        assert!(told[0].contains(words), "{words}: {sync}");
    }
}

#[tokio::test]
async fn the_cache_lies_in_the_configured_folder_or_the_xdg_cache_folder() {
    let source = Registry::start().await;
    image("app").build().push(&source.inside("app"), "1").await;
    for (told, caches, expected) in
        [("told", "/caches", "told"), ("", "/caches", "caches/transship"), ("", "relative", "home/.cache/transship")]
    {
        let target = Registry::start().await;
        let list = format!("target: {}/m\nimages: [\"{}/app:1\"]\n", target.name(), source.name());
        let cli = Cli::new().file("mirror.yaml", list);
        let caches = caches.strip_prefix('/').map_or_else(|| caches.into(), |name| cli.path(name));
        let cli = cli.env("TRANSSHIP_CACHE_DIR", told).env("XDG_CACHE_HOME", caches);
        let run = cli.run("sync").await;
        assert_eq!(run.code, 0, "{run}");
        let kept = fs::read_dir(cli.path(expected).join("blobs/sha256")).expect("a cache");
        assert_eq!(kept.count(), 1, "{expected}");
    }
}

#[tokio::test]
async fn two_processes_share_a_cache() {
    let scene = Scene::new().await;
    let tags: Vec<String> = (0..20).map(|tag| tag.to_string()).collect();
    for tag in &tags {
        scene.publish("app", tag).await;
    }
    let list = |target: &str| {
        let images: String = tags.iter().map(|tag| format!("  - SRC/app:{tag}\n")).collect();
        format!("target: DST/{target}\nlayout: \"{{repository}}\"\nimages:\n{images}")
    };
    scene.write("one.yaml", &list("one"));
    scene.write("two.yaml", &list("two"));
    let (one, two) = tokio::join!(scene.cli.run("sync -c one.yaml"), scene.cli.run("sync -c two.yaml"));
    assert_eq!((one.code, two.code), (0, 0), "{one}{two}");
    for tag in &tags {
        for target in ["one/app", "two/app"] {
            image(&format!("app:{tag}")).build().assert_in(&scene.target.inside(target), tag).await;
        }
    }
    let files = fs::read_dir(scene.cli.path("cache/blobs/sha256")).expect("a cache");
    assert_eq!(files.count(), tags.len());
}
