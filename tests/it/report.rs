//! `--report`, the error document, and the common schema of the JSON output of all verbs.
#![cfg(unix)]

use std::fs::File;

use serde_json::Value;

use crate::support::cli::{Cli, assert_obeys_the_schema};
use crate::support::gate::Gate;
use crate::support::images::image;
use crate::support::scene::{Scene, statuses};
use crate::support::script::Fault;

async fn scene() -> Scene {
    let scene = Scene::new().await;
    scene.publish("app", "1").await;
    scene.publish("db", "16").await;
    scene.list("  - SRC/app:1\n  - SRC/db:16\n");
    scene
}

fn report(cli: &Cli, name: &str) -> Value {
    let text = cli.read(name).unwrap_or_else(|| panic!("there is no {name}"));
    let document = serde_json::from_str(&text).expect("JSON");
    assert_obeys_the_schema(&document);
    document
}

#[tokio::test]
async fn the_report_file_equals_the_output_of_json_for_every_exit_status() {
    let scene = scene().await;
    scene.cli.write("Dockerfile", "FROM nginx:1.27\n");
    for (line, code) in [
        ("plan", 0),
        ("lock", 0),
        ("check", 0),
        ("sync", 0),
        ("plan --check --no-lock", 0),
        ("verify --deep --extra", 0),
        ("update", 0),
        ("lock --check", 0),
        ("discover Dockerfile", 0),
        ("discover Dockerfile --check", 3),
        ("rewrite Dockerfile", 0),
        ("sync --only nothing:*", 2),
    ] {
        let run = scene.cli.run(&format!("{line} --json --report r.json")).await;
        assert_eq!(run.code, code, "{line}: {run}");
        assert_eq!(scene.cli.read("r.json").as_deref(), Some(run.stdout.as_str()), "{line}");
        report(&scene.cli, "r.json");
        run.json();
        // With text output it is the same, except for the duration.
        let text = scene.cli.run(&format!("{line} --report t.json")).await;
        let stable = |name: &str| {
            let mut document = report(&scene.cli, name);
            if let Some(document) = document.as_object_mut() {
                document.retain(|key, _| ["command", "exit", "differences", "checks", "error"].contains(&key.as_str()));
            }
            document
        };
        assert_eq!(stable("t.json"), stable("r.json"), "{line}");
        assert!(text.code == code && !text.stdout.starts_with('{'), "{line}: {text}");
    }
    scene.list("  - SRC/app:1\n  - SRC/missing:1\n");
    assert_eq!(scene.cli.run("sync --report r.json").await.code, 1);
    assert_eq!(report(&scene.cli, "r.json")["images"][1]["status"], "failed");
}

#[tokio::test]
async fn an_interrupted_run_reports() {
    let scene = scene().await;
    let gate = Gate::closed();
    scene.source.script.always("GET", "/v2/db/", Fault::Wait(gate.clone()));
    let run = scene.cli.interrupted("sync --json --report r.json", gate.reached(1)).await;
    assert_eq!((run.code, report(&scene.cli, "r.json")), (130, run.json()), "{run}");
    assert_eq!(report(&scene.cli, "r.json")["exit"], 130);
}

#[tokio::test]
async fn a_killed_run_keeps_the_previous_report_and_leaves_no_other_file() {
    let scene = scene().await;
    scene.cli.write("out/r.json", "the last one");
    let gate = Gate::closed();
    scene.source.script.always("GET", "/v2/db/", Fault::Wait(gate.clone()));
    scene.cli.killed("sync --report out/r.json", gate.reached(1)).await;
    assert_eq!(scene.cli.read("out/r.json").as_deref(), Some("the last one"));
    let names: Vec<_> =
        std::fs::read_dir(scene.cli.path("out")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["r.json"]);
}

#[tokio::test]
async fn an_unwritable_path_is_reported_before_the_first_request() {
    let scene = scene().await;
    for path in ["missing/r.json", "-", "home"] {
        let run = scene.cli.run(&format!("sync --json --report {path}")).await;
        assert_eq!((run.code, &run.json()["error"]["kind"]), (2, &"configuration".into()), "{run}");
        assert!(run.stderr.starts_with(&format!("error: --report can't write {path}: ")), "{run}");
    }
    assert_eq!(scene.source.script.lines().len() + scene.target.script.lines().len(), 0);
    assert_eq!(scene.cli.run("schema --report r.json").await.code, 2);
}

#[tokio::test]
async fn a_report_that_cant_be_written_at_the_end_is_an_error() {
    let scene = scene().await;
    let run = scene.cli.run("sync --report /dev/full").await;
    assert!(run.code == 1 && run.stderr.contains("error: can't write the report to /dev/full: No space left"), "{run}");
    assert!(run.stdout.contains("2 images, 1 target: 2 copied"), "{run}");
    let full = File::options().write(true).open("/dev/full").expect("every Linux has it");
    assert_eq!(scene.cli.run_into("sync --report r.json", full).await.0, 1);
    assert_eq!(report(&scene.cli, "r.json")["exit"], 0);
}

#[tokio::test]
async fn configuration_errors_are_one_json_document() {
    let cli = Cli::new();
    let run = cli.run("sync --json").await;
    let error = run.json()["error"].clone();
    assert_eq!((run.code, &run.json()["exit"], &error["kind"]), (2, &2.into(), &"configuration".into()), "{run}");
    assert_eq!((&error["places"][0]["file"], &error["places"][0]["line"]), (&"mirror.yaml".into(), &Value::Null));
    assert!(run.stderr.starts_with("error: mirror.yaml doesn't exist\nhint: "), "{run}");

    cli.write("mirror.yaml", "target: h.example/m\nimages:\n  - Nginx\n  - {image: a, tgs: [b]}\nlimts: {}\n");
    let run = cli.run("plan --json --report r.json").await;
    let error = run.json()["error"].clone();
    let places: Vec<_> = error["places"].as_array().unwrap().iter().map(|p| (&p["line"], &p["column"])).collect();
    let lines: Vec<_> = places.iter().filter_map(|(line, _)| line.as_u64()).collect();
    assert_eq!((run.code, lines), (2, vec![3, 4, 4, 5]), "{run}");
    assert_eq!(error["places"][3]["hint"], "did you mean `limits`?", "{run}");
    assert!(error["message"].as_str().unwrap().starts_with("mirror.yaml:3:5: images[0]: "), "{run}");
    assert_eq!(report(&cli, "r.json"), run.json());

    for (line, message) in [("sync --json --nope", "unexpected argument '--nope' found"), ("update nope --json", "")] {
        let run = cli.run(line).await;
        assert!(run.code == 2 && run.json()["error"]["message"].as_str().unwrap().starts_with(message), "{run}");
    }
}

#[tokio::test]
async fn the_same_field_has_the_same_shape_in_every_verb() {
    let scene = scene().await;
    let plan = scene.cli.run("plan --json").await.json();
    let sync = scene.cli.run("sync --json").await.json();
    assert_eq!(plan["images"][0]["bytes"], sync["images"][0]["bytes"], "{plan:#}");
    assert_eq!(plan["totals"]["bytes"], sync["totals"]["bytes"]);
    image("moved").build().push(&scene.target.inside("mirror/app"), "1").await;
    let verify = scene.cli.run("verify --json").await;
    assert_eq!((verify.code, statuses(&verify)), (3, vec!["differs".to_owned(), "up_to_date".to_owned()]));
    assert_eq!(verify.json()["totals"]["images"]["differs"], 1);
}
