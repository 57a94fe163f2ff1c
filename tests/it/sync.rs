//! `sync`, `plan`, `lock` and `copy`, run as a user runs them, between two registries in this process.

use serde_json::Value;

use crate::support::gate::Gate;
use crate::support::images::{Image, image, multi_platform};
use crate::support::registry::Registry;
use crate::support::scene::{Scene, statuses};
use crate::support::script::Fault;

#[tokio::test]
async fn a_pin_moves_only_on_update() {
    let scene = Scene::new().await;
    let old = scene.publish("app", "1").await;
    scene.list("  - SRC/app:1\n");
    assert_eq!(scene.cli.run("sync").await.code, 0);
    let lock = scene.cli.read("mirror.lock").expect("a lock");
    assert!(lock.contains(old.digest().as_str()), "{lock}");

    scene.clear();
    assert_eq!(scene.cli.run("sync").await.code, 0);
    assert_eq!(scene.source.script.lines(), Vec::<String>::new());
    assert_eq!(scene.target.script.lines(), ["HEAD /v2/mirror/app/manifests/1 200"]);

    let new = image("app moved").build();
    new.push(&scene.source.inside("app"), "1").await;
    scene.clear();
    assert_eq!(statuses(&scene.cli.run("sync --json").await), ["up_to_date"]);
    assert_eq!(scene.source.script.lines(), Vec::<String>::new());
    assert_eq!(scene.cli.read("mirror.lock").as_deref(), Some(lock.as_str()), "the lock stays as it is, to the byte");

    let check = scene.cli.run("lock --check --json").await;
    assert_eq!(check.code, 3, "{check}");
    let difference = &check.json()["differences"][0];
    assert_eq!(difference["expected"], old.digest().as_str());
    assert_eq!(difference["found"], new.digest().as_str());
    assert_eq!(scene.cli.read("mirror.lock").as_deref(), Some(lock.as_str()));

    let rehearsal = scene.cli.run("sync --update --dry-run --json").await;
    assert_eq!(
        (rehearsal.code, &rehearsal.json()["changes"][0]["new"]),
        (0, &new.digest().as_str().into()),
        "{rehearsal}"
    );
    assert_eq!(scene.cli.read("mirror.lock").as_deref(), Some(lock.as_str()));

    let update = scene.cli.run("update SRC/app".replace("SRC", scene.source.name().as_str()).as_str()).await;
    assert_eq!(update.code, 0, "{update}");
    assert!(update.stdout.contains(&new.digest().as_str()[..19]), "{update}");
    scene.assert_mirrored(&old, "app", "1").await;
    assert_eq!(statuses(&scene.cli.run("sync --json").await), ["copied"]);
    scene.assert_mirrored(&new, "app", "1").await;
    assert_eq!(scene.cli.run("lock --check").await.code, 0);
}

#[tokio::test]
async fn locked_requires_every_pin_and_sends_no_request_to_resolve() {
    let scene = Scene::new().await;
    scene.publish("app", "1").await;
    scene.publish("app", "2").await;
    scene.list("  - SRC/app:1\n");
    scene.clear();
    let missing = scene.cli.run("sync --locked").await;
    assert_eq!((missing.code, missing.stdout.as_str()), (2, ""), "{missing}");
    assert!(missing.stderr.contains("transship lock"), "{missing}");
    assert_eq!(scene.cli.run("lock").await.code, 0);
    assert_eq!(scene.target.script.lines(), Vec::<String>::new(), "lock copies nothing");
    assert_eq!(scene.cli.run("sync --locked").await.code, 0);

    for (what, entries) in [("incomplete", "  - SRC/app:1\n  - SRC/app:2\n"), ("stale", "  - SRC/app:2\n")] {
        scene.list(entries);
        scene.clear();
        let run = scene.cli.run("sync --locked").await;
        assert_eq!((run.code, run.stdout.as_str()), (2, ""), "{what}: {run}");
        assert!(scene.source.script.lines().is_empty() && scene.target.script.lines().is_empty(), "{what}");
    }
    // The file as the program writes it; otherwise it isn't the lock of this list.
    scene.list("  - SRC/app:1\n");
    let lock = scene.cli.read("mirror.lock").expect("a lock");
    scene.cli.write("mirror.lock", format!("{lock}\n# mine\n"));
    assert_eq!(scene.cli.run("sync --locked").await.code, 2);
}

#[tokio::test]
async fn images_removed_from_the_list_are_removed_from_the_lock() {
    let scene = Scene::new().await;
    scene.publish("app", "1").await;
    scene.publish("app", "2").await;
    scene.list("  - SRC/app:1\n  - SRC/app:2\n");
    assert_eq!(scene.cli.run("sync").await.code, 0);
    scene.list("  - SRC/app:2\n");
    assert_eq!(scene.cli.run("sync").await.code, 0);
    let lock = scene.cli.read("mirror.lock").expect("a lock");
    assert!(lock.contains("app:2") && !lock.contains("app:1"), "{lock}");
}

#[tokio::test]
async fn with_no_lock_the_lock_is_neither_read_nor_written() {
    let scene = Scene::new().await;
    scene.publish("app", "1").await;
    scene.list("  - SRC/app:1\n");
    scene.cli.write("mirror.lock", "nonsense");
    assert_eq!(scene.cli.run("sync --no-lock").await.code, 0);
    assert_eq!(scene.cli.read("mirror.lock").as_deref(), Some("nonsense"));
    scene.write("list.yaml", "target: DST/m\nlayout: \"{name}\"\nimages: [\"SRC/app:1\"]\n");
    let text = scene.cli.read("list.yaml").expect("it exists");
    assert_eq!(scene.cli.run_with_input("sync -c - --no-lock", &text).await.code, 0);
    assert_eq!(scene.cli.run_with_input("sync -c - --lock other.lock", &text).await.code, 0);
    assert!(scene.cli.read("other.lock").is_some());
    assert_eq!(scene.cli.run_with_input("sync -c -", &text).await.code, 2);
}

#[tokio::test]
async fn plan_reports_and_changes_nothing() {
    let scene = Scene::new().await;
    scene.publish("app", "1").await;
    let index = multi_platform("index", &["linux/amd64", "linux/arm64"]);
    index.push(&scene.source.inside("index"), "1").await;
    scene.list("  - SRC/app:1\n  - SRC/index:1\n");
    let plan = scene.cli.run("plan --json").await;
    assert_eq!(plan.code, 0, "{plan}");
    let images = &plan.json()["images"];
    assert_eq!((&images[0]["action"], &images[1]["action"]), (&"copy".into(), &"copy".into()), "{plan}");
    // Read on its own initiative, because the source isn't metered.
    assert_ne!(images[0]["bytes"], Value::Null);
    assert!(scene.cli.read("mirror.lock").is_none());
    assert_eq!(
        scene
            .target
            .script
            .lines()
            .iter()
            .filter(|line| !line.starts_with("HEAD ") && !line.starts_with("GET "))
            .count(),
        0
    );

    let weighed = scene.cli.run("plan --bytes --json").await.json();
    let size = |image: &Image| image.blobs().iter().map(|blob| blob.descriptor.size).sum::<u64>();
    assert_eq!(weighed["images"][1]["bytes"]["copied"], size(&index));
    assert_eq!(scene.cli.run("plan --check").await.code, 3);
    assert_eq!(scene.cli.run("sync --dry-run").await.code, 0);
    assert!(scene.cli.read("mirror.lock").is_none());
    assert_eq!(scene.cli.run("sync").await.code, 0);
    assert_eq!(scene.cli.run("plan --check").await.code, 0);
}

#[tokio::test]
async fn selections_pick_tags_and_keep_their_pick() {
    let scene = Scene::new().await;
    for tag in ["1.0.0", "1.1.0", "1.2.0", "1.3.0-rc1", "2.0.0", "latest"] {
        scene.publish("app", tag).await;
    }
    scene.list("  - image: SRC/app\n    select: {semver: \">=1.0, <2\", latest: 2}\n");
    let sync = scene.cli.run("sync --json").await;
    assert_eq!(sync.code, 0, "{sync}");
    assert_eq!(statuses(&sync), ["copied", "copied"]);
    let target = scene.target.inside("mirror/app");
    let tags: Vec<String> =
        transship::store::Source::tags(&target).await.expect("tags").iter().map(ToString::to_string).collect();
    assert_eq!(tags, ["1.1.0", "1.2.0"]);

    scene.publish("app", "1.2.1").await;
    scene.clear();
    assert_eq!(scene.cli.run("sync").await.code, 0);
    assert!(scene.source.script.lines().is_empty(), "an unchanged selection keeps its tags without a request");
    let one = format!("update {}/app:1.2.0 --json", scene.source.name());
    assert_eq!(scene.cli.run(&one).await.json()["changes"], serde_json::json!([]));
    assert!(
        !scene.cli.read("mirror.lock").expect("a lock").contains("app:1.2.1"),
        "a tag alone doesn't move the selection"
    );
    assert_eq!(scene.cli.run("sync --update").await.code, 0);
    assert!(scene.cli.read("mirror.lock").expect("a lock").contains("app:1.2.1"));

    scene.list("  - image: SRC/app\n    select: {glob: [\"9.*\"]}\n  - SRC/app:latest\n");
    let none = scene.cli.run("sync --json").await;
    assert_eq!((none.code, statuses(&none)), (1, vec!["failed".to_owned(), "copied".into()]), "{none}");
}

#[tokio::test]
async fn a_digest_in_the_list_is_mirrored() {
    let scene = Scene::new().await;
    let old = scene.publish("app", "1").await;
    let new = image("moved").build();
    new.push(&scene.source.inside("app"), "1").await;
    scene.list(&format!(
        "  - SRC/app:1@{0}\n  - {{image: \"SRC/app@{0}\", as: old}}\n  - {{image: \"SRC/app@{1}\", to: elsewhere}}\n",
        old.digest(),
        new.digest()
    ));
    let sync = scene.cli.run("sync --update --json").await;
    assert_eq!(sync.code, 0, "{sync}");
    scene.assert_mirrored(&old, "app", "1").await;
    scene.assert_mirrored(&old, "app", "old").await;
    let elsewhere = scene.target.inside("mirror/elsewhere");
    assert!(elsewhere.manifests().expect("it exists").iter().any(|manifest| manifest.digest() == new.digest()));
    assert!(transship::store::Source::tags(&elsewhere).await.expect("it exists").is_empty());
    scene.clear();
    assert_eq!(statuses(&scene.cli.run("sync --json").await), ["up_to_date"; 3]);
    assert!(scene.source.script.lines().is_empty());
}

#[tokio::test]
async fn overwrite_decides_about_a_tag_with_another_digest() {
    for (overwrite, status, code) in [("true", "copied", 0), ("false", "conflict", 1), ("keep", "skipped", 0)] {
        let scene = Scene::new().await;
        let (wanted, there) = (scene.publish("app", "1").await, image("there").build());
        there.push(&scene.target.inside("mirror/app"), "1").await;
        scene.list(&format!("  - {{image: \"SRC/app:1\", overwrite: {overwrite}}}\n"));
        let sync = scene.cli.run("sync --json").await;
        assert_eq!((sync.code, statuses(&sync)), (code, vec![status.to_owned()]), "{sync}");
        let holds = if overwrite == "true" { &wanted } else { &there };
        scene.assert_mirrored(holds, "app", "1").await;
        assert_eq!(scene.source.script.count("GET", "/blobs/") > 0, overwrite == "true", "no unnecessary transfer");
    }
}

#[tokio::test]
async fn only_limits_a_run_and_leaves_the_rest_of_the_lock() {
    let scene = Scene::new().await;
    scene.publish("app", "1").await;
    scene.publish("other", "1").await;
    scene.list("  - SRC/app:1\n  - SRC/other:1\n");
    assert_eq!(scene.cli.run("lock").await.code, 0);
    let lock = scene.cli.read("mirror.lock");
    assert_eq!(statuses(&scene.cli.run("sync --only */other:* --json").await), ["copied"]);
    assert_eq!(scene.cli.read("mirror.lock"), lock);
    scene.clear();
    let none = scene.cli.run("sync --only */nothing:*").await;
    assert_eq!((none.code, none.stdout.as_str()), (2, ""), "{none}");
    assert!(scene.source.script.lines().is_empty() && scene.target.script.lines().is_empty());
}

#[tokio::test]
async fn one_bad_image_among_twenty_fails_alone() {
    let scene = Scene::new().await;
    let mut entries = String::new();
    for i in 0..20 {
        if i != 11 {
            scene.publish(&format!("app{i}"), "1").await;
        }
        entries.push_str(&format!("  - SRC/app{i}:1\n"));
    }
    scene.list(&entries);
    let sync = scene.cli.run("sync --json").await;
    assert_eq!(sync.code, 1, "{sync}");
    let expected: Vec<&str> = (0..20).map(|i| if i == 11 { "failed" } else { "copied" }).collect();
    assert_eq!(statuses(&sync), expected);
    let report = sync.json();
    let error = &report["images"][11]["error"];
    assert_eq!(
        (&error["stage"], &error["side"], &error["kind"]),
        (&"resolve".into(), &"source".into(), &"not_found".into())
    );
    assert_eq!((&error["http_status"], &error["attempts"]), (&404.into(), &1.into()));
}

#[tokio::test]
async fn errors_of_one_source_fail_only_its_images() {
    let scene = Scene::new().await;
    for name in ["good", "corrupt", "html", "denied", "schema1", "headless"] {
        scene.publish(name, "1").await;
    }
    let corrupt = image("corrupt:1").build();
    let script = &scene.source.script;
    script.always("GET", format!("/v2/corrupt/blobs/{}", corrupt.blobs[1].digest()), Fault::Corrupt);
    script.always("HEAD", "/v2/html/", Fault::html(200));
    script.always("GET", "/v2/html/", Fault::html(200));
    script.always("HEAD", "/v2/denied/", Fault::refuse(403, "DENIED"));
    script.always("GET", "/v2/denied/", Fault::refuse(403, "DENIED"));
    script.always("HEAD", "/v2/headless/", Fault::Strip("docker-content-digest"));
    let old = "application/vnd.docker.distribution.manifest.v1+prettyjws";
    script.always("HEAD", "/v2/schema1/", Fault::Set("content-type", old.into()));
    scene.list("  - SRC/good:1\n  - SRC/corrupt:1\n  - SRC/html:1\n  - SRC/denied:1\n  - SRC/schema1:1\n  - SRC/headless:1\n  - 127.0.0.1:1/unreachable:1\n");
    let sync = scene.cli.run("sync --json").await;
    assert_eq!(sync.code, 1, "{sync}");
    let report = sync.json();
    let ends: Vec<_> = report["images"]
        .as_array()
        .expect("images")
        .iter()
        .map(|image| (image["status"].as_str().expect("a status"), image["error"]["kind"].as_str().unwrap_or("-")))
        .collect();
    assert_eq!(
        ends,
        [
            ("copied", "-"),
            ("failed", "mismatch"),
            ("failed", "invalid"),
            ("failed", "denied"),
            ("failed", "unsupported"),
            ("copied", "-"),
            ("failed", "unavailable")
        ],
        "{sync}"
    );
    assert!(!scene.target.inside("mirror/corrupt").blobs().unwrap_or_default().contains(corrupt.blobs[1].digest()));
    assert_eq!(scene.target.script.count("PUT", "/v2/mirror/corrupt/manifests/"), 0);
    assert_eq!(scene.source.script.count("GET", "/v2/headless/manifests/1"), 1, "no digest header costs one GET");
}

#[tokio::test]
async fn two_targets_cost_one_read_of_the_source() {
    let scene = Scene::new().await;
    let second = Registry::start().await;
    let app = scene.publish("app", "1").await;
    scene.write(
        "mirror.yaml",
        &format!("targets: [DST/a, \"{}/b\"]\nlayout: \"{{name}}\"\nimages: [\"SRC/app:1\"]\n", second.name()),
    );
    assert_eq!(statuses(&scene.cli.run("sync --json").await), ["copied", "copied"]);
    app.assert_in(&scene.target.inside("a/app"), "1").await;
    app.assert_in(&second.inside("b/app"), "1").await;
    assert_eq!(scene.source.script.count("GET", "/blobs/"), app.blobs.len());
    assert_eq!(scene.source.script.count("GET", "/manifests/"), 1);
}

#[tokio::test]
async fn if_no_target_answers_the_run_fails_with_exit_status_2() {
    let scene = Scene::new().await;
    scene.publish("app", "1").await;
    scene.write("mirror.yaml", "target: 127.0.0.1:1/m\nlimits: {idle_timeout: 1s}\nimages: [\"SRC/app:1\"]\n");
    let sync = scene.cli.run("sync --json").await;
    assert_eq!((sync.code, statuses(&sync)), (2, vec!["failed".to_owned()]), "{sync}");
}

#[tokio::test]
async fn copy_mirrors_one_image_without_a_list() {
    let scene = Scene::new().await;
    let app = multi_platform("app", &["linux/amd64", "linux/arm64"]);
    app.push(&scene.source.inside("app"), "1").await;
    let line =
        |text: &str| text.replace("SRC", scene.source.name().as_str()).replace("DST", scene.target.name().as_str());
    let copy = scene.cli.run(&line("copy SRC/app:1 DST/some/where --json")).await;
    assert_eq!((copy.code, statuses(&copy)), (0, vec!["copied".to_owned()]), "{copy}");
    app.assert_in(&scene.target.inside("some/where"), "1").await;
    assert_eq!(scene.cli.run(&line("copy SRC/app:1 DST/some/where:other")).await.code, 0);
    app.assert_in(&scene.target.inside("some/where"), "other").await;
    assert_eq!(scene.cli.run(&line("copy SRC/app:none DST/some/where")).await.code, 1);
    assert!(scene.cli.read("mirror.lock").is_none());
}

#[tokio::test]
async fn a_throttled_run_waits_and_succeeds() {
    let scene = Scene::new().await;
    let app = scene.publish("app", "1").await;
    scene.source.script.once(
        "GET",
        "/v2/app/blobs/",
        Fault::Answer { status: 429, headers: vec![("retry-after", "0".into())], body: String::new() },
    );
    scene.target.script.once("PUT", "/v2/mirror/app/manifests/", Fault::refuse(503, "UNAVAILABLE"));
    scene.target.script.once("PUT", "/v2/mirror/app/blobs/", Fault::Lose { status: 500 });
    scene.source.script.once("GET", format!("/v2/app/blobs/{}", app.blobs[1].digest()), Fault::Cut { after: 100 });
    scene.list("  - SRC/app:1\n");
    let sync = scene.cli.run("sync --json").await;
    assert_eq!(sync.code, 0, "{sync}");
    scene.assert_mirrored(&app, "app", "1").await;
}

#[cfg(unix)]
#[tokio::test]
async fn an_interrupted_run_ends_soon_and_reports_done_and_skipped_images() {
    let stopped = ["-TERM", "-INT", "-HUP"].map(|signal| async move {
        let scene = Scene::new().await;
        for name in ["done", "app", "later"] {
            scene.publish(name, "1").await;
        }
        scene.list("  - SRC/done:1\n  - SRC/app:1\n  - SRC/later:1\n");
        let gate = Gate::closed();
        for name in ["app", "later"] {
            scene.source.script.always("GET", format!("/v2/{name}/manifests/"), Fault::Wait(gate.clone()));
        }
        let started = std::time::Instant::now();
        let run = scene.cli.signalled("sync --json", signal, gate.reached(1)).await;
        assert!(started.elapsed() < std::time::Duration::from_secs(12), "{signal}: {:?}", started.elapsed());
        assert_eq!(run.code, 130, "{run}");
        assert_eq!(statuses(&run)[1..], ["skipped", "skipped"], "{run}");
        let report = run.json();
        for image in [&report["images"][1], &report["images"][2]] {
            assert_eq!((&image["reason"], &image["error"]["kind"]), (&"interrupted".into(), &"interrupted".into()));
        }
    });
    futures::future::join_all(stopped).await;
}

/// A run started by nohup continues after its terminal is closed.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn nohup_is_respected() {
    let scene = Scene::new().await;
    let app = scene.publish("app", "1").await;
    scene.list("  - SRC/app:1\n");
    let gate = Gate::closed();
    scene.source.script.always("GET", "/v2/app/manifests/", Fault::Wait(gate.clone()));
    let run = scene.cli.hung_up("sync --json", gate.reached(1), || gate.open()).await;
    assert_eq!((run.code, statuses(&run)), (0, vec!["copied".to_owned()]), "{run}");
    scene.assert_mirrored(&app, "app", "1").await;
}
