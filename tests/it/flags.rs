//! Flags shared by several verbs (--only, --target, --from, --update, --wait), and how mistakes in mirror.yaml are
//! shown.
#![cfg(unix)]

use crate::support::cli::Cli;
use crate::support::gate::Gate;
use crate::support::scene::{Scene, statuses};
use crate::support::script::Fault;

async fn scene() -> Scene {
    let scene = Scene::new().await;
    scene.publish("app", "1").await;
    scene.publish("app", "2").await;
    scene.publish("db", "16").await;
    scene.list("  - SRC/app:1\n  - SRC/app:2\n  - SRC/db:16\n");
    scene
}

#[tokio::test]
async fn only_accepts_the_same_names_as_update() {
    let scene = scene().await;
    let source = scene.source.name();
    for (only, images) in
        [("app", None), ("SRC/app", Some(2)), ("SRC/app:2", Some(1)), ("SRC/ap", None), ("*/ap*", Some(2))]
    {
        let only = only.replace("SRC", source.as_str());
        let run = scene.cli.run(&format!("plan --json --only {only}")).await;
        assert_eq!(run.code, if images.is_some() { 0 } else { 2 }, "{only}: {run}");
        let found = run.json()["images"].as_array().unwrap().len();
        assert_eq!(found, images.unwrap_or(0), "{only}");
    }
}

#[tokio::test]
async fn plan_accepts_the_flags_of_sync() {
    let scene = scene().await;
    assert_eq!(scene.cli.run("sync").await.code, 0);
    let lock = scene.cli.read("mirror.lock");
    let moved = crate::support::images::image("moved").build();
    moved.push(&scene.source.inside("app"), "1").await;
    assert_eq!(scene.cli.run("plan --check").await.code, 0);
    let run = scene.cli.run("plan --check --update --json").await;
    assert_eq!((run.code, run.json()["changes"].as_array().unwrap().len()), (3, 1), "{run}");
    assert_eq!(scene.cli.read("mirror.lock"), lock, "plan writes no lock");

    let run = scene.cli.run("plan --target oci:disk --json").await;
    assert!(run.json()["images"].as_array().unwrap().iter().all(|image| image["action"] == "copy"), "{run}");
    assert!(!scene.cli.path("disk").exists(), "plan makes no directory");
    assert_eq!(scene.cli.run("sync --target oci:disk").await.code, 0);
    let disk = scene.cli.run("verify --target oci:disk --deep --json").await;
    assert_eq!((disk.code, statuses(&disk)), (0, vec!["up_to_date".to_owned(); 3]), "{disk}");
    scene.clear();
    let run = scene.cli.run("plan --from oci:disk --check --json").await;
    assert_eq!((run.code, scene.source.script.lines().len()), (0, 0), "{run}");
    assert_eq!(scene.cli.run("plan --from oci:disk --update").await.code, 2);
    assert_eq!(scene.cli.run("plan --from oci:nowhere").await.code, 2);
}

#[tokio::test]
async fn deep_reports_no_bytes_that_werent_read() {
    let scene = scene().await;
    assert_eq!(scene.cli.run("sync").await.code, 0);
    let present = async |flag: &str| {
        let run = scene.cli.run(&format!("verify {flag} --json")).await;
        run.json()["totals"]["bytes"]["present"].as_u64().unwrap()
    };
    let (deep, content) = (present("--deep").await, present("--content").await);
    assert!(deep < 4000 && content > 9000, "{deep} {content}");
}

#[tokio::test]
async fn a_second_run_reports_the_first_and_continues_or_waits() {
    let scene = scene().await;
    let gate = Gate::closed();
    scene.source.script.times(1, "GET", "/v2/db/", Fault::Wait(gate.clone()));
    let first = scene.cli.run("sync");
    let others = async {
        gate.reached(1).await;
        let second = scene.cli.run("sync --only */app:*").await;
        assert_eq!(second.code, 0, "{second}");
        assert!(second.stderr.contains("another run uses mirror.lock (pid "), "{second}");
        assert!(!scene.cli.run("plan").await.stderr.contains("another run"), "read-only commands don't report it");
        assert!(!scene.cli.run("sync --no-lock --dry-run").await.stderr.contains("another run"));
        let third = scene.cli.run("lock --wait");
        let (third, ()) = tokio::join!(third, async { gate.open() });
        assert!(third.code == 0 && third.stderr.contains("waiting for it to finish"), "{third}");
    };
    let (first, ()) = tokio::join!(first, others);
    assert!(first.code == 0 && !first.stderr.contains("another run"), "{first}");
}

#[tokio::test]
async fn a_killed_run_doesnt_count_as_running() {
    let scene = scene().await;
    let gate = Gate::closed();
    scene.source.script.times(1, "GET", "/v2/db/", Fault::Wait(gate.clone()));
    scene.cli.killed("sync", gate.reached(1)).await;
    let run = scene.cli.run("sync --wait").await;
    assert!(run.code == 0 && !run.stderr.contains("another run"), "{run}");
}

#[tokio::test]
async fn check_names_the_account_and_warns_of_unused_settings() {
    let scene = Scene::new().await;
    scene.publish("app", "1").await;
    let text = "target: DST/mirror\nimages: [SRC/app:1]\nregistries:\n  quay.oi: {insecure: true}\n";
    scene.write("mirror.yaml", &text.replace("SRC", "quay.io").replace("DST", "localhost:1"));
    let run = scene.cli.run("check --progress none").await;
    let warning = "registries.quay.oi: no image and no target uses it; hint: the nearest host in use is quay.io";
    assert!(run.stderr.contains(warning), "{run}");
}

#[tokio::test]
async fn mistakes_are_reported_with_their_position() {
    let cli = Cli::new();
    let file = "target: h.example/m\nimages:\n  - Nginx\n  - {image: a, tgs: [b]}\nregistries:\n  h.example: \
                {username: me, password: hunter2}\nlimts: {}\n";
    cli.write("mirror.yaml", file);
    let run = cli.run("plan").await;
    assert!(!run.stderr.contains("hunter2"), "{run}");
    insta::assert_snapshot!(run.filtered(), @"
    exit 2
    -- stdout
    -- stderr
    error: mirror.yaml:3:5: images[0]: `Nginx` isn't a repository name: expected lower-case letters, digits and single . _ - between them, divided by /
      |
    3 |   - Nginx
      |     ^
    mirror.yaml:4:13: images[1].image: a tag, a digest, tags: or select: is missing
      |
    4 |   - {image: a, tgs: [b]}
      |             ^
    hint: write image: a:TAG, or add tags: or select:
    mirror.yaml:4:16: images[1].tgs: unknown key `tgs`
      |
    4 |   - {image: a, tgs: [b]}
      |                ^
    hint: did you mean `tags`?
    mirror.yaml:6:39: registries.h.example.password: a password can't be a literal value
    hint: write password: {env: VARIABLE} or password: {file: PATH}
    mirror.yaml:7:1: limts: unknown key `limts`
      |
    7 | limts: {}
      | ^
    hint: did you mean `limits`?
    ");
    cli.write("mirror.yaml", "target: h.example/m\nimages: [a\nlimits: {}\n");
    let run = cli.run("plan").await;
    assert!(run.stderr.contains("\n  |\n") && run.stderr.contains("^\n"), "{run}");
}

#[tokio::test]
async fn a_single_value_is_accepted_for_a_list() {
    let cli = Cli::new();
    let file = "targets: oci:disk\nimages: {image: a.example/b, tags: 1.10, platforms: linux/amd64}\n";
    cli.write("mirror.yaml", file);
    assert_eq!(cli.run("plan").await.code, 2, "a map isn't a list");
    cli.write("mirror.yaml", file.replace("images: {", "images:\n  - {"));
    let run = cli.run("update a.example/b:nope").await;
    assert!(run.code == 2 && run.stderr.contains("a.example/b:nope isn't in mirror.yaml"), "{run}");
}

#[tokio::test]
async fn the_full_example_is_printed_and_valid() {
    let cli = Cli::new();
    let run = cli.run("init --full").await;
    assert_eq!((run.code, run.stdout.as_str()), (0, include_str!("../../mirror.yaml.example")), "{run}");
    assert!(cli.read("mirror.yaml").is_none());
    assert_eq!(cli.run("init --full nginx").await.code, 2);
    assert_eq!(cli.run("init nginx").await.code, 2);
}
