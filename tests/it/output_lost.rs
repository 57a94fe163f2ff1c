//! Standard output that can't be written: the run must not look as if its result had been printed.
#![cfg(unix)]

use std::fs::File;

use crate::support::cli::Cli;
use crate::support::scene::Scene;

/// Every way to make the program print.
const LINES: &[&str] = &[
    "lock",
    "lock --json",
    "plan",
    "plan --json",
    "sync",
    "sync --json",
    "update",
    "verify",
    "verify --json",
    "check",
    "check --json",
    "copy SRC/app:1 DST/copied:1",
    "schema",
    "completions bash",
    "man",
    "init other:1 --target t.io -c other.yaml",
    "demo",
    "--help",
    "--version",
    "help sync",
];

async fn scene() -> Scene {
    let scene = Scene::new().await;
    scene.publish("app", "1").await;
    scene.list("  - SRC/app:1\n");
    scene
}

fn line(scene: &Scene, line: &str) -> String {
    line.replace("SRC", scene.source.name().as_str()).replace("DST", scene.target.name().as_str())
}

#[tokio::test]
async fn a_full_disk_is_an_error() {
    let scene = scene().await;
    for words in LINES {
        let full = File::options().write(true).open("/dev/full").expect("every Linux has it");
        let (code, stderr) = scene.cli.run_into(&line(&scene, words), full).await;
        let told = stderr.lines().any(|line| line.starts_with("error: can't write to standard output: No space left"));
        assert!(code == 1 && told && stderr.contains("\nhint: "), "{words}: exit {code}\n{stderr}");
    }
    scene.assert_mirrored(&scene.publish("app", "1").await, "app", "1").await;
}

#[tokio::test]
async fn a_worse_exit_status_is_kept_although_the_disk_is_full() {
    let scene = scene().await;
    scene.list("  - SRC/missing:1\n");
    let full = || File::options().write(true).open("/dev/full").expect("every Linux has it");
    assert_eq!(scene.cli.run_into("sync", full()).await.0, 1);
    // No target answers: 2 comes before 1.
    scene.write("mirror.yaml", "target: 127.0.0.1:1/m\nlimits: {idle_timeout: 1s}\nimages: [\"SRC/app:1\"]\n");
    assert_eq!(scene.cli.run_into("sync --json", full()).await.0, 2);
    scene.list("  - SRC/app:1\n");
    assert_eq!(scene.cli.run_into("plan --check", full()).await.0, 1, "a difference would be 3");
}

#[tokio::test]
async fn a_closed_pipe_doesnt_change_the_exit_status() {
    let broken = || {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        writer
    };
    let quiet = async |cli: &Cli, words: &str, expected: i32| {
        let (code, stderr) = cli.run_into(words, broken()).await;
        assert!(code == expected && !stderr.contains("error"), "{words}: exit {code}\n{stderr}");
    };
    let scene = scene().await;
    quiet(&scene.cli, "plan --check", 3).await;
    for words in LINES {
        quiet(&scene.cli, &line(&scene, words), 0).await;
    }
    scene.list("  - SRC/missing:1\n");
    quiet(&scene.cli, "sync --no-lock", 1).await;
}
