//! Attestations that an index lists and its registry has deleted: `missing_attestations: fail | drop`.

use std::collections::BTreeMap;

use serde_json::value::RawValue;
use serde_json::{Value, json};
use transship::oci::{Digest, Selector};
use transship::store::Source as _;

use crate::support::images::{Image, image, index, tagged};
use crate::support::scene::{Scene, statuses};
use crate::support::script::Fault;

/// An index with an attestation for each of its platforms.
fn attested(platforms: &[&str]) -> Image {
    let children = platforms
        .iter()
        .fold(index(), |index, platform| index.child(platform, image(platform).layer(300).build()).attested());
    children.build()
}

/// The digests of the attestations of `app`, in its order.
fn attestations(app: &Image) -> Vec<Digest> {
    let index: Value = serde_json::from_slice(app.manifest.bytes()).unwrap();
    let entries = index["manifests"].as_array().unwrap().iter();
    let attestations = entries.filter(|entry| !entry["annotations"]["vnd.docker.reference.digest"].is_null());
    attestations.map(|entry| entry["digest"].as_str().unwrap().parse().unwrap()).collect()
}

/// `app` without the entries of `dropped`: each member and entry unchanged, with no white space between them.
fn without(app: &Image, dropped: &[Digest]) -> Digest {
    if dropped.is_empty() {
        return app.digest().clone();
    }
    // The builders write members in the order of their names.
    let members: BTreeMap<String, Box<RawValue>> = serde_json::from_slice(app.manifest.bytes()).unwrap();
    let entries: Vec<Box<RawValue>> = serde_json::from_str(members["manifests"].get()).unwrap();
    let is_kept = |entry: &&str| dropped.iter().all(|digest| !entry.contains(&format!("\"digest\": \"{digest}\"")));
    let kept: Vec<&str> = entries.iter().map(|entry| entry.get()).filter(is_kept).collect();
    assert_eq!(kept.len() + dropped.len(), entries.len());
    let manifests = format!("[{}]", kept.join(","));
    let members = members.iter().map(|(name, value)| {
        let value = if name == "manifests" { &manifests } else { value.get() };
        format!("\"{name}\":{value}")
    });
    Digest::of(format!("{{{}}}", members.collect::<Vec<_>>().join(",")).as_bytes())
}

async fn scene(app: &Image, gone: &[Digest], keys: &str) -> Scene {
    let scene = Scene::new().await;
    app.push(&scene.source.inside("app"), "1").await;
    for digest in gone {
        for method in ["HEAD", "GET"] {
            scene.source.script.always(method, format!("/manifests/{digest}"), Fault::refuse(404, "MANIFEST_UNKNOWN"));
        }
    }
    scene.list(&format!("  - {{image: SRC/app:1{keys}}}\n"));
    scene
}

#[tokio::test]
async fn an_image_with_a_missing_attestation_fails_with_the_key_to_set() {
    let app = attested(&["linux/amd64"]);
    let scene = scene(&app, &attestations(&app), "").await;
    let run = scene.cli.run("sync --json").await;
    assert_eq!(run.code, 1, "{run}");
    let error = run.json()["images"][0]["error"].clone();
    assert!(error["hint"].as_str().unwrap().contains("missing_attestations: drop"), "{error:#}");
    // The hint helps.
    scene.list("  - {image: SRC/app:1, missing_attestations: drop}\n");
    let update = scene.cli.run(&format!("update {}/app", scene.source.name())).await;
    assert_eq!(update.code, 0, "{update}");
    let run = scene.cli.run("sync --json").await;
    assert_eq!((run.code, statuses(&run)), (0, vec!["copied".to_owned()]), "{run}");
}

#[tokio::test]
async fn only_missing_attestations_are_dropped() {
    let app = attested(&["linux/amd64", "linux/arm64", "linux/s390x"]);
    let all = attestations(&app);
    assert_eq!(all.len(), 3);
    for gone in [&all[..0], &all[..1], &all[1..2], &all[1..], &all[..]] {
        let scene = scene(&app, gone, ", missing_attestations: drop").await;
        let expected = without(&app, gone);
        let run = scene.cli.run("sync --json").await;
        assert_eq!((run.code, statuses(&run)), (0, vec!["copied".to_owned()]), "{run}");
        let report = run.json();
        let image = &report["images"][0];
        let mirrored = if gone.is_empty() { Value::Null } else { json!(expected.to_string()) };
        assert_eq!((&image["digest"], &image["mirrored"]), (&json!(app.digest().to_string()), &mirrored), "{run}");
        assert_eq!(run.stderr.contains("without attestations"), !gone.is_empty(), "{run}");
        if !gone.is_empty() {
            for digest in [app.digest(), &expected] {
                assert!(run.stderr.contains(digest.as_str()), "{run}");
            }
        }
        let target = scene.target.inside("mirror/app");
        assert_eq!(target.resolve(&tagged("1")).await.unwrap().digest, expected);
        for digest in &all {
            let is_there = target.resolve(&Selector::Digest(digest.clone())).await.is_ok();
            assert_eq!(is_there, !gone.contains(digest), "{digest}");
        }
        // The lock records the dropped entries: they aren't requested again.
        scene.clear();
        for (line, code) in [("plan --check", 0), ("verify --deep", 0), ("sync", 0)] {
            assert_eq!(scene.cli.run(line).await.code, code, "{line}");
        }
        assert_eq!(scene.source.script.lines(), Vec::<String>::new());
        // They aren't requested for a lost target either.
        target.delete_tag(&"1".parse().unwrap());
        assert_eq!(scene.cli.run("sync --no-cache").await.code, 0);
        assert_eq!(target.resolve(&tagged("1")).await.unwrap().digest, expected);
    }
}

#[tokio::test]
async fn platforms_and_missing_attestations_go_together() {
    let app = attested(&["linux/amd64", "linux/arm64"]);
    let gone = &attestations(&app)[..1];
    let scene = scene(&app, gone, ", platforms: [linux/amd64], missing_attestations: drop").await;
    let run = scene.cli.run("sync --json").await;
    assert_eq!(run.code, 0, "{run}");
    for line in ["plan --check", "verify --deep"] {
        assert_eq!(scene.cli.run(line).await.code, 0, "{line}");
    }
    let target = scene.target.inside("mirror/app");
    let root = target.resolve(&tagged("1")).await.unwrap().digest;
    assert_eq!(run.json()["images"][0]["mirrored"], root.as_str());
    let children = target.manifest(&root).await.unwrap().successors().len();
    assert_eq!(children, 1);
}

#[tokio::test]
async fn an_attestation_that_comes_back_is_mirrored_by_the_next_update() {
    let app = attested(&["linux/amd64"]);
    let scene = scene(&app, &attestations(&app), ", missing_attestations: drop").await;
    assert_eq!(scene.cli.run("sync").await.code, 0);
    scene.source.script.heal();
    let run = scene.cli.run("sync --update --json").await;
    assert_eq!((run.code, &run.json()["images"][0]["mirrored"]), (0, &Value::Null), "{run}");
    scene.assert_mirrored(&app, "app", "1").await;
}

#[tokio::test]
async fn an_unreachable_source_isnt_treated_as_missing_content() {
    let app = attested(&["linux/amd64"]);
    for status in [403, 500] {
        let scene = scene(&app, &[], ", missing_attestations: drop").await;
        for digest in attestations(&app) {
            for method in ["HEAD", "GET"] {
                scene.source.script.always(method, format!("/manifests/{digest}"), Fault::refuse(status, "UNKNOWN"));
            }
        }
        let run = scene.cli.run("sync --json").await;
        assert_eq!(run.code, 1, "{status}: {run}");
        assert_eq!(scene.target.script.count("PUT", "/manifests/"), 0, "{status}");
    }
}
