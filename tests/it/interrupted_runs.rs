//! Runs that are killed, that run concurrently, or that meet unexpected content.

use std::collections::{BTreeMap, BTreeSet};

use transship::oci::MediaType;

use crate::support::cli::Cli;
use crate::support::gate::Gate;
use crate::support::images::{Blob, image, multi_platform};
use crate::support::registry::Registry;
use crate::support::scene::{Scene, statuses};
use crate::support::script::Fault;

#[cfg(unix)]
#[tokio::test]
async fn a_killed_run_leaves_no_tag_and_the_next_completes_it() {
    let app = multi_platform("app", &["linux/amd64", "linux/arm64"]);
    let (config, child) = (app.children[1].blobs[0].digest().clone(), app.children[1].digest().clone());
    for (side, method, path) in [
        ("source", "GET", format!("/blobs/{config}")),
        ("target", "PUT", "/blobs/uploads/".to_owned()),
        ("target", "PUT", format!("/manifests/{child}")),
        ("target", "PUT", "/manifests/1".to_owned()),
    ] {
        let scene = Scene::new().await;
        app.push(&scene.source.inside("app"), "1").await;
        scene.list("  - SRC/app:1\n");
        let gate = Gate::closed();
        let script = if side == "source" { &scene.source.script } else { &scene.target.script };
        script.always(method, path.clone(), Fault::Wait(gate.clone()));
        scene.cli.killed("sync", gate.reached(1)).await;
        let target = scene.target.inside("mirror/app");
        let tags = transship::store::Source::tags(&target).await.unwrap_or_default();
        assert!(tags.is_empty(), "{method} {path}: {tags:?}");

        script.heal();
        let again = scene.cli.run("sync --json").await;
        assert_eq!((again.code, statuses(&again)), (0, vec!["copied".to_owned()]), "{method} {path}: {again}");
        scene.assert_mirrored(&app, "app", "1").await;
    }
}

/// Wherever a run is stopped, the next one doesn't resend blobs that the target has received. The exception are images
/// whose first blob, of a few bytes, wasn't received: it is what shows that a repository without tags has content.
#[cfg(unix)]
#[tokio::test]
async fn an_interrupted_run_resumes_without_sending_large_blobs_again() {
    for (arrived, is_killed) in [(3, true), (10, false), (25, true), (45, true)] {
        let scene = Scene::new().await;
        let (mut list, mut first_blobs) = (String::new(), BTreeMap::new());
        for n in 0..24 {
            let (name, layer) = (format!("app{}", n % 8), format!("layer {n}"));
            let layer = Blob::seeded(MediaType::OCI_LAYER, &layer, 200_000);
            let image =
                image(&format!("image {n}")).shared_layer(&format!("base {}", n % 3), 300_000).blob(layer).build();
            image.push(&scene.source.inside(&name), &format!("v{n}")).await;
            list.push_str(&format!("  - SRC/{name}:v{n}\n"));
            let upload = |blob: &Blob| format!("/v2/mirror/{name} {}", blob.digest().to_string().replace(':', "%3A"));
            first_blobs.extend(image.blobs.iter().map(|blob| (upload(blob), upload(&image.blobs[0]))));
        }
        scene.list(&list);
        let gate = Gate::closed();
        scene.target.script.after(arrived, "PUT", "/blobs/uploads/", Fault::Wait(gate.clone()));
        if is_killed {
            scene.cli.killed("sync -j 4", gate.reached(1)).await;
        } else {
            let stopped = scene.cli.interrupted("sync -j 4", async {
                gate.reached(1).await;
            });
            assert_eq!(stopped.await.code, 130);
        }
        gate.open();
        let puts = || {
            let seen = scene.target.script.seen().into_iter();
            let puts = seen.filter(|seen| seen.method == "PUT" && seen.path.contains("/blobs/uploads/"));
            let name = |path: String| {
                let (repository, session) = path.split_once("/blobs/").expect("an upload");
                format!("{repository} {}", session.split_once("digest=").expect("a commit").1)
            };
            puts.filter(|seen| seen.status == Some(201)).map(|seen| name(seen.path)).collect::<BTreeSet<String>>()
        };
        let before = puts();
        assert!(before.len() + 8 >= arrived, "{before:?}");
        scene.clear();
        let again = scene.cli.run("sync --json").await;
        assert_eq!(again.code, 0, "{again}");
        let again = puts();
        let needless: Vec<_> =
            before.intersection(&again).filter(|upload| before.contains(&first_blobs[*upload])).collect();
        assert!(needless.is_empty(), "stopped after {arrived}: {needless:#?} of {} were sent again", before.len());
    }
}

#[tokio::test]
async fn two_concurrent_runs_dont_disturb_each_other() {
    let scene = Scene::new().await;
    let (app, other) = (scene.publish("app", "1").await, scene.publish("other", "1").await);
    scene.list("  - SRC/app:1\n  - SRC/other:1\n");
    let gate = Gate::closed();
    scene.source.script.times(4, "GET", "/manifests/", Fault::Wait(gate.clone()));
    // One of each, so both are running. A run's first manifest is read alone.
    let both = async {
        gate.reached(2).await;
        gate.open();
    };
    let (one, two, ()) = tokio::join!(scene.cli.run("sync --json"), scene.cli.run("sync --json"), both);
    for run in [one, two] {
        assert_eq!((run.code, statuses(&run)), (0, vec!["copied".to_owned(); 2]), "{run}");
    }
    scene.assert_mirrored(&app, "app", "1").await;
    scene.assert_mirrored(&other, "other", "1").await;
    assert_eq!(scene.cli.run("sync --locked").await.code, 0, "the lock is whole");
}

#[tokio::test]
async fn two_selections_for_one_tag_conflict_unless_their_digests_are_equal() {
    let scene = Scene::new().await;
    let app = scene.publish("app", "1").await;
    scene.publish("other", "1").await;
    let entry = |name: &str| format!("  - {{image: SRC/{name}, select: {{glob: [\"*\"]}}, to: one}}\n");
    scene.list(&(entry("app") + &entry("other")));
    let sync = scene.cli.run("sync --json").await;
    assert_eq!((sync.code, statuses(&sync)), (1, vec!["copied".to_owned(), "conflict".into()]), "{sync}");
    scene.assert_mirrored(&app, "one", "1").await;
    let error = &sync.json()["images"][1]["error"];
    assert_eq!((&error["stage"], &error["kind"]), (&"plan".into(), &"conflict".into()), "{sync}");
    // The selection of a run doesn't change which image owns the tag.
    assert_eq!(statuses(&scene.cli.run("sync --json --only */other:*").await), ["conflict"]);
    scene.assert_mirrored(&app, "one", "1").await;

    app.push(&scene.source.inside("other"), "1").await;
    assert_eq!(scene.cli.run("sync --update").await.code, 0);
}

#[tokio::test]
async fn a_shared_layer_is_sent_once_to_each_target() {
    let scene = Scene::new().await;
    let second = Registry::start().await;
    let shared = |seed: &str| image(seed).shared_layer("base", 100_000).build();
    let layer = shared("any").blobs[1].digest().clone();
    let mut entries = String::new();
    for tag in 0..10 {
        shared(&format!("tag{tag}")).push(&scene.source.inside("many"), &tag.to_string()).await;
        entries.push_str(&format!("  - SRC/many:{tag}\n"));
    }
    for repository in 0..5 {
        shared(&format!("repository{repository}")).push(&scene.source.inside(&format!("r{repository}")), "1").await;
        entries.push_str(&format!("  - SRC/r{repository}:1\n"));
    }
    let list = format!("targets: [DST/m, \"{}/m\"]\nlayout: \"{{name}}\"\nimages:\n{entries}", second.name());
    scene.write("mirror.yaml", &list);
    let sync = scene.cli.run("sync --json").await;
    assert_eq!((sync.code, statuses(&sync)), (0, vec!["copied".to_owned(); 30]), "{sync}");
    assert_eq!(scene.source.script.count("GET", &format!("/blobs/{layer}")), 1);
    let escaped = layer.as_str().replace(':', "%3A");
    for target in [&scene.target, &second] {
        assert_eq!(target.script.count("PUT", &format!("digest={escaped}")), 1, "{:#?}", target.script.lines());
    }
}

#[tokio::test]
async fn quiet_shows_failures_and_the_summary() {
    let scene = Scene::new().await;
    scene.publish("app", "1").await;
    scene.list("  - SRC/app:1\n  - SRC/missing:1\n");
    let sync = scene.cli.run("sync -q").await;
    insta::assert_snapshot!(sync.filtered(), @"
    exit 1
    -- stdout
    failed      127.0.0.1:[PORT]/missing:1
      resolve 1 in 127.0.0.1:[PORT]/missing: 404 Not Found
      hint: check the spelling, and that the tag still exists

    2 images, 1 target: 1 copied, 1 failed
    3.0 kB copied in [SECONDS]
    next: `transship sync`
    -- stderr
    ");
}

#[cfg(unix)]
#[tokio::test]
async fn without_an_aws_registry_no_aws_file_is_read() {
    let mut scene = Scene::new().await;
    scene.publish("app", "1").await;
    scene.list("  - SRC/app:1\n");
    let pipe = scene.cli.pipe("pipe");
    scene.cli = scene.cli.env("AWS_CONFIG_FILE", &pipe).env("AWS_SHARED_CREDENTIALS_FILE", &pipe);
    assert_eq!(scene.cli.run("sync").await.code, 0);
}

#[tokio::test]
async fn a_stalled_download_is_resumed_after_idle_timeout() {
    let scene = Scene::new().await;
    let app = scene.publish("app", "1").await;
    let gate = Gate::closed();
    scene.source.script.once("GET", format!("/blobs/{}", app.blobs[1].digest()), Fault::Wait(gate.clone()));
    scene.write(
        "mirror.yaml",
        "target: DST/mirror\nlayout: \"{name}\"\nlimits: {idle_timeout: 1s}\nimages: [\"SRC/app:1\"]\n",
    );
    let sync = scene.cli.run("sync --json").await;
    assert_eq!((sync.code, statuses(&sync)), (0, vec!["copied".to_owned()]), "{sync}");
    scene.assert_mirrored(&app, "app", "1").await;
}

/// A manifest that a target stores under another digest is pushed again once, and then reported.
#[tokio::test]
async fn the_digest_that_the_target_reports_is_checked() {
    for (path, name) in [("/manifests/sha256:", "a child"), ("/manifests/1", "the root")] {
        for times in [1, usize::MAX] {
            let scene = Scene::new().await;
            let app = multi_platform("app", &["linux/amd64"]);
            app.push(&scene.source.inside("app"), "1").await;
            scene.list("  - SRC/app:1\n");
            let other = image("other").build().digest().to_string();
            scene.target.script.times(times, "PUT", path, Fault::Set("docker-content-digest", other.clone()));
            let run = scene.cli.run("sync --json").await;
            let puts = scene.target.script.count("PUT", path);
            if times == 1 {
                assert_eq!((run.code, puts), (0, 2), "{name}: {run}");
                scene.assert_mirrored(&app, "app", "1").await;
            } else {
                let error = &run.json()["images"][0]["error"];
                assert_eq!((run.code, puts, &error["kind"]), (1, 2, &"mismatch".into()), "{name}: {run}");
                assert!(error["message"].as_str().is_some_and(|message| message.contains(&other)), "{run}");
            }
        }
    }
}

#[cfg(unix)]
#[tokio::test]
async fn a_second_signal_ends_a_run_that_waits_for_its_list() {
    let cli = Cli::new();
    let reading = cli.endless_pipe("pipe");
    let mut held = None;
    let when = async { held = Some(reading.await) };
    let run = cli.interrupted_twice("sync -c pipe", when).await;
    assert_eq!(run.code, 130, "{run}");
    drop(held);
}
