//! `rewrite`: references in files are changed to the mirror.

use crate::support::cli::Cli;

const D: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
const LIST: &str = "targets: [123456789012.dkr.ecr.eu-west-1.amazonaws.com/mirror, h.example, 'oci:out']\nimages: ['python:3.7-slim-buster', 'later:1']\n";

fn scene() -> Cli {
    let lock = format!(
        "version: 1\nimages:\n- source: docker.io/library/python:3.7-slim-buster\n  digest: {D}\n  media_type: application/vnd.oci.image.index.v1+json\n  size: 2\n"
    );
    Cli::new()
        .file("mirror.yaml", LIST)
        .file("mirror.lock", lock)
        .file("Dockerfile", "FROM python:3.7-slim-buster # x\nFROM later:1\n")
}

#[tokio::test]
async fn the_canonical_case() {
    let cli = scene();
    let run = cli.run("rewrite . --pin").await;
    insta::assert_snapshot!(run.to_string(), @"
    exit 0
    -- stdout
    --- a/Dockerfile
    +++ b/Dockerfile
    @@ -1,2 +1,2 @@
    -FROM python:3.7-slim-buster # x
    +FROM 123456789012.dkr.ecr.eu-west-1.amazonaws.com/mirror/docker.io/library/python:3.7-slim-buster@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 # x
     FROM later:1
    -- stderr
    Dockerfile:2: left `later:1`: the lock doesn't have it
    ");
    assert!(cli.read("Dockerfile").expect("a file").starts_with("FROM python"), "nothing is written");
    assert_eq!(cli.run("rewrite . --check").await.code, 3);
    let written = cli.run("rewrite . --pin --write").await;
    assert_eq!((written.code, &written.stdout), (0, &run.stdout), "{written}");
    let again = cli.run("rewrite . --pin --check").await;
    assert_eq!((again.code, again.stdout.as_str()), (0, ""), "{again}");
    let discovered = cli.run("discover .").await;
    assert!(discovered.stdout.contains("  (mirrored already)"), "{discovered}");
}

#[tokio::test]
async fn a_target_can_be_selected_and_json_printed() {
    let cli = scene();
    let json = cli.run("rewrite Dockerfile --target 2 --json").await.json();
    assert_eq!(json["files"][0]["file"], "Dockerfile");
    assert!(
        json["files"][0]["diff"]
            .as_str()
            .expect("a text")
            .contains("+FROM h.example/docker.io/library/python:3.7-slim-buster # x\n")
    );
    assert_eq!(
        json["left"][0],
        serde_json::json!({"text": "later:1", "file": "Dockerfile", "line": 2, "why": "the lock doesn't have it"})
    );
    assert_eq!(json["unresolved"], serde_json::json!([]));
}

#[tokio::test]
async fn references_that_cant_be_rewritten_are_reported_before_any_change() {
    let cli = scene();
    for (line, why) in [
        ("rewrite . --target 0", "target 0 doesn't exist"),
        ("rewrite . --target 4", "mirror.yaml has 3 targets"),
        ("rewrite . --target 3", "is a directory: nothing can be pulled from it"),
        ("rewrite . --no-lock", "the lock doesn't exist"),
        ("rewrite . --lock none.lock", "the lock doesn't exist"),
        ("rewrite . -c none.yaml", "none.yaml doesn't exist"),
        ("rewrite -", "stdin can't be rewritten"),
        ("rewrite none", "none doesn't exist"),
        ("rewrite . --write --check", "cannot be used with"),
    ] {
        let run = cli.run(line).await;
        assert_eq!((run.code, run.stdout.as_str()), (2, ""), "{line} {run}");
        assert!(run.stderr.contains(why), "{line} {run}");
    }
}

#[cfg(unix)]
#[tokio::test]
async fn modes_links_and_write_protected_files_are_kept() {
    use std::os::unix::fs::PermissionsExt as _;
    let cli = scene()
        .file("real/Dockerfile", "FROM python:3.7-slim-buster\n")
        .file("Containerfile", "FROM python:3.7-slim-buster\n");
    let mode = |name: &str, mode| {
        std::fs::set_permissions(cli.path(name), std::fs::Permissions::from_mode(mode)).expect("a mode");
    };
    mode("Dockerfile", 0o444);
    mode("real/Dockerfile", 0o750);
    std::os::unix::fs::symlink("real/Dockerfile", cli.path("Dockerfile.link")).expect("a link");
    std::os::unix::fs::symlink("loop", cli.path("loop")).expect("a link");
    let run = cli.run("rewrite . --write").await;
    assert_eq!(run.code, 1, "{run}");
    assert!(run.stderr.contains("error: Dockerfile: it is write-protected\n"), "{run}");
    assert!(cli.read("Dockerfile").expect("a file").starts_with("FROM python"));
    assert!(cli.read("Containerfile").expect("a file").starts_with("FROM 1234"), "the others are rewritten");
    assert!(cli.read("real/Dockerfile").expect("a file").starts_with("FROM 1234"));
    assert!(cli.path("Dockerfile.link").is_symlink());
    assert_eq!(std::fs::metadata(cli.path("real/Dockerfile")).expect("a file").permissions().mode() & 0o777, 0o750);
}

#[tokio::test]
async fn a_broken_file_is_reported_and_the_others_are_rewritten() {
    let cli = scene().file("bad.yaml", "a: [\n");
    let run = cli.run("rewrite . --write").await;
    assert_eq!(run.code, 1, "{run}");
    assert!(run.stderr.contains("error: bad.yaml: line 2"), "{run}");
    assert!(cli.read("Dockerfile").expect("a file").starts_with("FROM 1234"));
}

#[cfg(unix)]
#[tokio::test]
async fn unusual_file_names_are_quoted_for_patch() {
    let text = "FROM python:3.7-slim-buster\n";
    let cli = scene().file("odd/a\nb/Dockerfile", text).file("odd/q\"\u{1b}/Dockerfile", text);
    let run = cli.run("rewrite odd").await;
    assert_eq!(run.code, 0, "{run}");
    assert!(run.stdout.contains("--- \"a/odd/a\\nb/Dockerfile\"\n+++ \"b/odd/a\\nb/Dockerfile\"\n"), "{run}");
    assert!(run.stdout.contains("+++ \"b/odd/q\\\"\\033/Dockerfile\"\n"), "{run}");
    // The printed patch can be applied.
    cli.write("x.diff", &run.stdout);
    let applied = std::process::Command::new("git").args(["apply", "x.diff"]).current_dir(cli.path("")).status();
    if let Some(status) = crate::support::docker_registry::installed("git", applied) {
        assert!(status.success());
        assert!(cli.read("odd/a\nb/Dockerfile").expect("the file").starts_with("FROM 1234"));
    }
}
