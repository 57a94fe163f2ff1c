//! mirror.lock under other line endings, under concurrent runs, and when nothing has to be written.

use std::fs::File;

use transship::lock::Lock;

use crate::support::cli::Run;
use crate::support::gate::Gate;
use crate::support::scene::{Scene, statuses};
use crate::support::script::Fault;

fn pinned(scene: &Scene) -> Vec<String> {
    let text = scene.cli.read("mirror.lock").expect("a lock");
    let lock = Lock::read(&text, "mirror.lock".as_ref()).unwrap_or_else(|problems| panic!("{problems}"));
    lock.images().map(|image| image.source.to_string()).collect()
}

fn source(scene: &Scene, names: &[&str]) -> Vec<String> {
    names.iter().map(|name| format!("{}/{name}", scene.source.name())).collect()
}

#[tokio::test]
async fn a_lock_with_other_line_endings_is_the_same_lock() {
    let scene = Scene::new().await;
    for name in ["app", "other"] {
        scene.publish(name, "1").await;
    }
    scene.list("  - SRC/app:1\n");
    assert_eq!(scene.cli.run("sync").await.code, 0);
    let text = scene.cli.read("mirror.lock").expect("a lock");
    let crlf = text.replace('\n', "\r\n");
    let edited = [crlf.clone(), format!("\u{feff}{text}"), format!("\u{feff}{crlf}"), text.trim_end().to_owned()];
    for edited in &edited {
        scene.list("  - SRC/app:1\n");
        scene.cli.write("mirror.lock", edited);
        for words in ["sync --locked", "sync", "lock", "lock --check", "update", "plan --check", "verify"] {
            let run = scene.cli.run(words).await;
            assert_eq!(run.code, 0, "{words} {edited:?}: {run}");
            assert_eq!(scene.cli.read("mirror.lock").as_ref(), Some(edited), "{words} leaves it as it is");
        }
        // New entries get the line endings of the file.
        scene.list("  - SRC/app:1\n  - SRC/other:1\n");
        assert_eq!(scene.cli.run("lock").await.code, 0);
        let grown = scene.cli.read("mirror.lock").expect("a lock");
        assert_eq!(grown.starts_with('\u{feff}'), edited.starts_with('\u{feff}'));
        let ends = (grown.matches("\r\n").count(), grown.matches('\n').count());
        assert!(ends.0 == if edited.contains('\r') { ends.1 } else { 0 }, "{grown:?}");
        assert_eq!(pinned(&scene), source(&scene, &["app:1", "other:1"]));
    }
    // A mirror.yaml with other line endings is the same list.
    let list = scene.cli.read("mirror.yaml").expect("a list");
    scene.cli.write("mirror.yaml", format!("\u{feff}{}", list.replace('\n', "\r\n")));
    let run = scene.cli.run("sync --locked").await;
    assert_eq!(run.code, 0, "{run}");
}

#[tokio::test]
async fn concurrent_runs_that_add_to_one_lock_lose_no_pin() {
    const RUNS: usize = 6;
    let scene = Scene::new().await;
    let names: Vec<String> = (0..RUNS).map(|run| format!("app{run}")).collect();
    for name in &names {
        scene.publish(name, "1").await;
    }
    let entries: String = names.iter().map(|name| format!("  - SRC/{name}:1\n")).collect();
    scene.list(&entries);
    let gate = Gate::closed();
    scene.source.script.always("HEAD", "/manifests/1", Fault::Wait(gate.clone()));
    let lines: Vec<String> = names.iter().map(|name| format!("sync --only */{name}:*")).collect();
    let runs = futures::future::join_all(lines.iter().map(|line| scene.cli.run(line)));
    let all = async {
        // All have found no lock.
        gate.reached(RUNS).await;
        gate.open();
    };
    let (runs, ()): (Vec<Run>, ()) = tokio::join!(runs, all);
    for run in runs {
        assert_eq!(run.code, 0, "{run}");
    }
    let expected: Vec<String> = names.iter().map(|name| format!("{}/{name}:1", scene.source.name())).collect();
    assert_eq!(pinned(&scene), expected);
    let run = scene.cli.run("sync --locked").await;
    assert_eq!(run.code, 0, "{run}");
}

#[tokio::test]
async fn a_pin_moved_by_a_concurrent_run_is_mirrored() {
    let scene = Scene::new().await;
    let old = scene.publish("app", "1").await;
    scene.publish("other", "1").await;
    scene.list("  - SRC/app:1\n");
    assert_eq!(scene.cli.run("lock").await.code, 0);
    let new = crate::support::images::image("new").build();
    new.push(&scene.source.inside("app"), "1").await;
    scene.list("  - SRC/app:1\n  - SRC/other:1\n");
    let gate = Gate::closed();
    scene.source.script.once("HEAD", "/v2/other/", Fault::Wait(gate.clone()));
    let update = async {
        gate.reached(1).await;
        assert_eq!(scene.cli.run(&format!("update {}/app:1", scene.source.name())).await.code, 0);
        gate.open();
    };
    let (sync, ()) = tokio::join!(scene.cli.run("sync --json"), update);
    assert_eq!((sync.code, statuses(&sync)), (0, vec!["copied".to_owned(); 2]), "{sync}");
    assert_ne!(new.digest(), old.digest());
    scene.assert_mirrored(&new, "app", "1").await;
    assert_eq!(scene.cli.run("sync --locked").await.code, 0);
}

#[cfg(unix)]
#[tokio::test]
async fn the_hold_of_a_killed_run_is_ignored() {
    let scene = Scene::new().await;
    for name in ["app", "other"] {
        scene.publish(name, "1").await;
    }
    scene.list("  - SRC/app:1\n");
    assert_eq!(scene.cli.run("lock").await.code, 0);
    // As a run killed while writing would leave it.
    let path = scene.cli.path("mirror.lock");
    let script = "import fcntl,sys,time\nf=open(sys.argv[1],'r+')\nfcntl.flock(f,fcntl.LOCK_EX)\nprint(flush=True)\ntime.sleep(600)";
    let mut holder = tokio::process::Command::new("python3");
    holder.args(["-c", script]).arg(&path).stdout(std::process::Stdio::piped()).kill_on_drop(true);
    let mut holder = holder.spawn().expect("python3 is installed");
    let mut first = [0];
    tokio::io::AsyncReadExt::read_exact(holder.stdout.as_mut().expect("a pipe"), &mut first)
        .await
        .expect("it holds it");
    assert!(File::open(&path).expect("a lock").try_lock().is_err(), "it is held");
    holder.kill().await.expect("it still runs");
    scene.list("  - SRC/app:1\n  - SRC/other:1\n");
    assert_eq!(scene.cli.run("lock").await.code, 0);
    assert_eq!(pinned(&scene), source(&scene, &["app:1", "other:1"]));
}

#[tokio::test]
async fn if_nothing_can_be_resolved_no_lock_is_written() {
    let scene = Scene::new().await;
    scene.list("  - SRC/missing:1\n  - {image: SRC/none, select: {glob: [\"*\"]}}\n");
    for words in ["sync", "lock", "update", "sync --update"] {
        let run = scene.cli.run(words).await;
        assert_eq!((run.code, scene.cli.read("mirror.lock")), (1, None), "{words}: {run}");
    }
    // An existing lock isn't emptied either.
    scene.publish("app", "1").await;
    scene.list("  - SRC/app:1\n");
    assert_eq!(scene.cli.run("lock").await.code, 0);
    let text = scene.cli.read("mirror.lock");
    scene.list("  - SRC/missing:1\n");
    assert_eq!(scene.cli.run("sync").await.code, 1);
    assert_eq!(scene.cli.read("mirror.lock"), text);
}

#[tokio::test]
async fn an_unusable_only_target_stops_the_run_before_any_request() {
    let scene = Scene::new().await;
    let app = scene.publish("app", "1").await;
    scene.cli.write("file", "x");
    scene.cli.write("folder/notes.txt", "x");
    scene.cli.write("broken/oci-layout", "{\"imageLayoutVersion\":\"1.0.0\"}");
    scene.cli.write("broken/index.json", "<html>");
    scene.cli.write("future/oci-layout", "{\"imageLayoutVersion\":\"2.0.0\"}");
    let select = "  - {image: SRC/app, select: {glob: [\"*\"]}, to: picked}\n";
    for (dir, why) in [
        ("file", "file"),
        ("file/below", "file/below"),
        ("folder", "oci-layout"),
        ("broken", "index.json"),
        ("future", "imageLayoutVersion"),
    ] {
        let list = format!("target: oci:{dir}\nimages:\n  - SRC/app:1\n{select}");
        scene.write("mirror.yaml", &list);
        scene.clear();
        for words in ["sync", "sync --dry-run", "sync --update", "sync --no-lock", "plan", "copy SRC/app:1 oci:DIR:x:1"]
        {
            let words = words.replace("SRC", scene.source.name().as_str()).replace("DIR", dir);
            let run = scene.cli.run(&words).await;
            assert_eq!(run.code, 2, "{dir} {words}: {run}");
            assert!(run.stdout.contains(why) && run.stdout.contains("hint: "), "{dir} {words}: {run}");
            assert_eq!(scene.source.script.lines(), Vec::<String>::new(), "{dir} {words}");
            assert_eq!(scene.cli.read("mirror.lock"), None);
        }
        let json = scene.cli.run("sync --json").await.json();
        assert_eq!((&json["exit"], json["images"].as_array().map(Vec::len)), (&2.into(), Some(2)), "{json}");
        assert_eq!(json["images"][0]["error"]["side"], "target");
    }
    assert!(!scene.cli.path("folder/blobs").exists(), "another kind of folder is unchanged");
    // The images of another, usable target are mirrored.
    scene.write("mirror.yaml", "targets: [\"oci:folder\", DST/m]\nlayout: \"{name}\"\nimages: [\"SRC/app:1\"]\n");
    let run = scene.cli.run("sync --json").await;
    assert_eq!((run.code, statuses(&run)), (1, vec!["failed".to_owned(), "copied".into()]), "{run}");
    app.assert_in(&scene.target.inside("m/app"), "1").await;
}

#[tokio::test]
async fn a_pin_lost_at_the_source_is_reported_with_its_remaining_holders() {
    let scene = Scene::new().await;
    let app = scene.publish("app", "1").await;
    let listed = scene.publish("listed", "1").await;
    let (from, to) = (scene.source.name(), scene.target.name());
    let list = |targets: &str| {
        let images = format!("\"SRC/app:1\", \"SRC/listed:1@{}\"", listed.digest());
        scene.write("mirror.yaml", &format!("targets: [{targets}]\nlayout: \"{{name}}\"\nimages: [{images}]\n"));
    };
    list("DST/m");
    assert_eq!(scene.cli.run("sync").await.code, 0);
    scene.source.script.always("GET", "/manifests/sha256:", Fault::refuse(404, "MANIFEST_UNKNOWN"));
    scene.source.script.always(
        "HEAD",
        "/manifests/sha256:",
        Fault::Answer { status: 404, headers: vec![], body: String::new() },
    );
    // The target that has it refuses to serve it.
    scene.target.script.always("GET", "/manifests/sha256:", Fault::refuse(403, "DENIED"));
    list("DST/m, DST/second");
    let run = scene.cli.run("sync --json --no-cache").await;
    assert_eq!(run.code, 1, "{run}");
    let images = run.json()["images"].clone();
    let failed: Vec<_> =
        images.as_array().expect("images").iter().filter(|image| image["status"] == "failed").collect();
    // If the other target can serve it, the source isn't needed.
    for image in &failed {
        let error = &image["error"];
        let (message, hint) = (error["message"].as_str().expect("a message"), error["hint"].as_str().expect("a hint"));
        assert!(message.contains("no longer upstream") && !hint.contains("spelling"), "{run}");
        let is_listed = image["source"].as_str().is_some_and(|source| source.contains('@'));
        let name = if is_listed { "listed" } else { "app" };
        assert!(hint.contains(&format!("{to}/m/{name}:1 still has it")), "{hint}");
        let step = if is_listed {
            "name another digest in mirror.yaml".into()
        } else {
            format!("transship update {from}/app:1")
        };
        assert!(hint.contains(&step), "{hint}");
    }
    assert!(!failed.is_empty(), "{run}");
    let check = scene.cli.run("check").await;
    assert!(check.code == 1 && check.stdout.contains(&format!("transship update {from}/app")), "{check}");
    app.assert_in(&scene.target.inside("m/app"), "1").await;
}
