//! Mistakes found before the first request: exit 2 and a position; nothing is printed, sent or written.

use crate::support::cli::Cli;
use crate::support::images::image;
use crate::support::registry::Registry;

const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// mirror.yaml, and the text that the message must contain.
const BAD: [(&str, &str, &[&str]); 21] = [
    ("unknown key", "target: DST/m\nimagez: []\nimages: [\"SRC/a:1\"]\n", &["mirror.yaml:2:1: imagez:", "hint: "]),
    ("duplicate key", "target: DST/m\nimages: [\"SRC/a:1\"]\ntarget: DST/n\n", &["mirror.yaml:3:1: target:"]),
    ("wrong type", "target: DST/m\nimages: 3\n", &["mirror.yaml:2:"]),
    ("syntax", "target: [DST\nimages: x: y\n", &["mirror.yaml:"]),
    ("invalid reference", "target: DST/m\nimages:\n  - SRC/A:1\n", &["mirror.yaml:3:5: images[0]:"]),
    (
        "invalid tag",
        "target: DST/m\nimages:\n  - {image: SRC/a, tags: [\"a b\"]}\n",
        &["mirror.yaml:3:", "images[0].tags[0]:"],
    ),
    ("invalid digest", "target: DST/m\nimages:\n  - SRC/a@sha256:abc\n", &["mirror.yaml:3:5: images[0]:"]),
    (
        "one target twice",
        "target: DST/m\nlayout: \"{name}\"\nimages: [\"SRC/a/x:1\", \"SRC/b/x:1\"]\n",
        &["mirror.yaml:3:", "images[1]"],
    ),
    ("empty list", "target: DST/m\nimages: []\n", &["mirror.yaml:2:", "images:"]),
    ("no target", "images: [\"SRC/a:1\"]\n", &["mirror.yaml:1:1:", "target"]),
    (
        "literal password",
        "target: DST/m\nimages: [\"SRC/a:1\"]\nregistries:\n  DST: {username: u, password: hunter2}\n",
        &["mirror.yaml:4:", "registries.DST.password:", "hint: "],
    ),
    (
        "unset variable",
        "target: DST/m\nimages: [\"SRC/a:1\"]\nregistries:\n  DST: {username: u, password: {env: NOT_SET}}\n",
        &["mirror.yaml:4:", "NOT_SET"],
    ),
    (
        "ECR name",
        "target: 123456789012.dkr.ecr.eu-west-1.amazonaws.com\nimages:\n  - {image: \"SRC/a:1\", to: x}\n",
        &["mirror.yaml:3:", "ECR refuses"],
    ),
    (
        "a reserve below nothing",
        "target: DST/m\nlimits: {quota_reserve: -1}\nimages: [\"SRC/a:1\"]\n",
        &["limits.quota_reserve:"],
    ),
    (
        "an unknown value",
        "target: DST/m\ndefaults: {referrers: some}\nimages: [\"SRC/a:1\"]\n",
        &["defaults.referrers:"],
    ),
    (
        "no platform",
        "target: DST/m\nimages:\n  - {image: \"SRC/a:1\", platforms: [linux/amd64, linux/x86_64]}\n",
        &["mirror.yaml:3:", "images[0].platforms[1]:", "amd64", "hint: "],
    ),
    (
        "a filter of nothing",
        "target: DST/m\nimages:\n  - {image: \"SRC/a:1\", referrers: none, artifact_types: [a/b]}\n",
        &["images[0].artifact_types:", "hint: "],
    ),
    (
        "tag and tags",
        "target: DST/m\nimages:\n  - {image: \"SRC/a:1\", tags: [\"2\"]}\n",
        &["mirror.yaml:3:", "images[0]"],
    ),
    ("bad selection", "target: DST/m\nimages:\n  - {image: SRC/a, select: {semver: \"nope\"}}\n", &["select.semver:"]),
    ("newer version", "version: 2\ntarget: DST/m\nimages: [\"SRC/a:1\"]\n", &["mirror.yaml:1:", "version:"]),
    (
        "bomb",
        "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: [*d,*d,*d,*d,*d,*d,*d,*d,*d]\n",
        &["mirror.yaml:"],
    ),
];

struct Scene {
    source: Registry,
    target: Registry,
    cli: Cli,
}

impl Scene {
    async fn new() -> Self {
        let source = Registry::start().await;
        image("a").build().push(&source.inside("a"), "1").await;
        Self { source, target: Registry::start().await, cli: Cli::new() }
    }

    fn fill(&self, text: &str) -> String {
        text.replace("SRC", self.source.name().as_str()).replace("DST", self.target.name().as_str())
    }

    async fn assert_refused(&self, what: &str, line: &str, says: &[&str]) {
        let run = self.cli.run(line).await;
        assert_eq!((run.code, run.stdout.as_str()), (2, ""), "{what}: {run}");
        for words in says {
            let words = self.fill(words);
            assert!(run.stderr.contains(&words), "{what}: no `{words}` in {run}");
        }
        assert!(!run.stderr.contains("panicked"), "{what}: {run}");
        let asked = [self.source.script.lines(), self.target.script.lines()].concat();
        assert!(asked.is_empty(), "{what}: {asked:?}");
    }
}

#[tokio::test]
async fn a_bad_list_is_refused_with_its_position_before_any_request() {
    let scene = Scene::new().await;
    for (what, text, says) in BAD {
        scene.cli.write("mirror.yaml", scene.fill(text));
        for verb in ["sync", "plan", "lock"] {
            scene.assert_refused(what, verb, says).await;
        }
        assert!(scene.cli.read("mirror.lock").is_none(), "{what}");
    }
}

#[tokio::test]
async fn all_problems_are_reported_together() {
    let scene = Scene::new().await;
    let text =
        "target: DST/m\nimagez: 1\nimages:\n  - SRC/A:1\n  - {image: SRC/b, tags: [\"-\"]}\nlimits: {transfers: 0}\n";
    scene.cli.write("mirror.yaml", scene.fill(text));
    let says = ["mirror.yaml:2:1: imagez:", "mirror.yaml:4:5: images[0]:", "images[1].tags[0]:", "limits.transfers:"];
    scene.assert_refused("several", "sync", &says).await;
}

#[tokio::test]
async fn an_unquoted_number_stays_as_written() {
    let scene = Scene::new().await;
    image("b").build().push(&scene.source.inside("a"), "1.10").await;
    scene.cli.write(
        "mirror.yaml",
        scene.fill("target: DST/m\nlayout: \"{name}\"\nimages:\n  - {image: SRC/a, tags: [1.10]}\n"),
    );
    let sync = scene.cli.run("sync").await;
    assert_eq!(sync.code, 0, "{sync}");
    image("b").build().assert_in(&scene.target.inside("m/a"), "1.10").await;
}

#[tokio::test]
async fn a_missing_file_is_named() {
    let scene = Scene::new().await;
    scene.assert_refused("missing", "sync -c nowhere.yaml", &["nowhere.yaml", "hint: "]).await;
}

#[tokio::test]
async fn an_invalid_lock_is_refused() {
    let scene = Scene::new().await;
    scene.cli.write("mirror.yaml", scene.fill("target: DST/m\nimages: [\"SRC/a:1\"]\n"));
    let entry = format!("images:\n- source: {}\n  digest: {DIGEST}\n", scene.fill("SRC/a:1"));
    let newer = "version: 99\nimages: []\n".to_owned();
    let twice = format!("version: 1\n{entry}{}", entry.trim_start_matches("images:\n"));
    for (what, text) in [
        ("newer", newer),
        ("nonsense", "{{{ not yaml".to_owned()),
        ("another file", "target: x\n".to_owned()),
        ("bad digest", format!("version: 1\n{}", entry.replace("sha256:e3", "sha256:E3"))),
        ("twice", twice),
    ] {
        scene.cli.write("mirror.lock", &text);
        scene.assert_refused(what, "sync", &["mirror.lock"]).await;
        assert_eq!(scene.cli.read("mirror.lock").as_deref(), Some(text.as_str()), "{what}");
    }
}

#[tokio::test]
async fn conflicting_flags_are_refused() {
    let scene = Scene::new().await;
    scene.cli.write("mirror.yaml", scene.fill("target: DST/m\nimages: [\"SRC/a:1\"]\n"));
    for line in [
        "sync --locked --update",
        "sync --locked --no-lock",
        "sync --no-lock --update",
        "sync --no-lock --lock x",
        "sync -j 0",
        "sync --nonsense",
        "nonsense",
        "update nothing/like:this",
        "sync --only [",
        "copy SRC/a:1",
        "copy SRC/a:1 norepository",
        "copy SRC/A DST/x",
        "copy SRC/a:1 DST/x --platform amd64",
    ] {
        scene.assert_refused(line, &scene.fill(line), &[]).await;
    }
}
