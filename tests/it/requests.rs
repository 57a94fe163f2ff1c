//! The request scripts: the exact requests to the source and to the target, in seven scenarios.
//!
//! `tests/data/requests/*.txt` list the requests and explain them. Requests of one phase are concurrent, so their order
//! isn't checked, except that a tag is set last.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::support::cli::Cli;
use crate::support::gate::Gate;
use crate::support::images::{Image, image};
use crate::support::registry::Registry;
use crate::support::script::Fault;

struct Scene {
    source: Registry,
    target: Registry,
    cli: Cli,
    /// The names of digests in the scripts.
    names: BTreeMap<String, String>,
    base: usize,
}

impl Scene {
    /// A scene whose images share a base layer of `base` bytes.
    async fn new(base: usize) -> Self {
        let (source, target) = (Registry::start().await, Registry::start().await);
        Self { source, target, cli: Cli::new(), names: BTreeMap::new(), base }
    }

    /// An image on the base layer.
    fn image(&mut self, name: &str) -> Image {
        let image = image(name).shared_layer("base", self.base).layer(1000).build();
        self.names.insert(image.digest().to_string(), format!("{{{name}}}"));
        self.names.insert(image.digest().referrers_tag().to_string(), format!("{{{name}-tag}}"));
        for (blob, part) in
            image.blobs.iter().zip([format!("{name}-config"), "base-layer".into(), format!("{name}-layer")])
        {
            self.names.insert(blob.digest().to_string(), format!("{{{part}}}"));
        }
        image
    }

    async fn publish(&self, image: &Image, repository: &str, tag: &str) {
        image.push(&self.source.inside(repository), tag).await;
    }

    fn list(&self, images: &[&str]) {
        let (source, target) = (self.source.name(), self.target.name());
        let mut text = format!("target: {target}/mirror\nlayout: \"{{repository}}\"\nimages:\n");
        for image in images {
            text.push_str(&format!("  - {source}/{image}\n"));
        }
        self.cli.write("mirror.yaml", text);
    }

    /// Runs `line`, and compares the requests with the script.
    async fn run(&self, line: &str, script: &str) {
        self.source.script.clear();
        self.target.script.clear();
        let run = self.cli.run(line).await;
        assert_eq!(run.code, 0, "{run}");
        let sides = [("source", &self.source), ("target", &self.target)];
        let lines = sides
            .into_iter()
            .flat_map(|(side, registry)| registry.script.lines().into_iter().map(move |line| format!("{side} {line}")));
        let mut asked: Vec<String> = lines.map(|line| self.named(&line, script)).collect();
        let sets_a_tag = |line: &str| line.starts_with("target PUT ") && line.contains("/manifests/");
        let ends_with_a_tag = asked.last().is_some_and(|line| sets_a_tag(line));
        let text = std::fs::read_to_string(format!("{}/tests/data/requests/{script}.txt", env!("CARGO_MANIFEST_DIR")));
        let text = text.expect("a script");
        let mut expected: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert!(ends_with_a_tag || !expected.iter().any(|line| sets_a_tag(line)), "{asked:#?}");
        asked.sort();
        expected.sort_unstable();
        assert_eq!(asked.join("\n"), expected.join("\n"), "{script}");
    }

    fn named(&self, line: &str, script: &str) -> String {
        let mut line = line.replace("%3A", ":").replace("%2F", "/");
        for (digest, name) in &self.names {
            line = line.replace(digest, name);
        }
        if script.starts_with("mount") && line.contains("/blobs/") {
            line = line.replace("library/app", "library/*").replace("library/other", "library/*");
        }
        line
    }
}

#[tokio::test]
async fn a_first_run_an_unchanged_run_a_new_tag_and_an_update() {
    let mut scene = Scene::new(5000).await;
    let app = scene.image("app");
    scene.publish(&app, "library/app", "1").await;
    scene.list(&["library/app:1"]);
    scene.run("sync", "cold").await;
    scene.run("sync", "noop").await;
    scene.run("sync --locked", "noop").await;

    scene.publish(&app, "library/app", "stable").await;
    scene.list(&["library/app:1", "library/app:stable"]);
    scene.run("sync", "new-tag").await;

    scene.list(&["library/app:1"]);
    let app2 = scene.image("app2");
    scene.publish(&app2, "library/app", "1").await;
    scene.run("sync", "noop").await;
    scene.run("sync --update", "update").await;
    app2.assert_in(&scene.target.inside("mirror/library/app"), "1").await;
}

#[tokio::test]
async fn a_shared_layer_is_mounted() {
    for (base, script) in [(5000, "mount"), (9 << 20, "mount-big")] {
        let mut scene = Scene::new(base).await;
        let (app, other) = (scene.image("app"), scene.image("other"));
        scene.publish(&app, "library/app", "1").await;
        scene.publish(&other, "library/other", "1").await;
        scene.list(&["library/app:1", "library/other:1"]);
        scene.run("sync", script).await;
    }
}

/// In a repository that the lock has no pins for, only the listed tags are checked.
#[tokio::test]
async fn a_first_run_requests_no_unlisted_tag() {
    let mut scene = Scene::new(5000).await;
    let (app, app2) = (scene.image("app"), scene.image("app2"));
    app.push(&scene.target.inside("mirror/library/app"), "1").await;
    app.push(&scene.target.inside("mirror/library/app"), "0").await;
    for (image, repository, tag) in [
        (&app, "library/app", "1"),
        (&app2, "library/app", "2"),
        (&app2, "library/app", "3"),
        (&app, "library/other", "1"),
        (&app2, "library/other", "2"),
    ] {
        scene.publish(image, repository, tag).await;
    }
    scene.list(&["library/app:1", "library/app:2", "library/app:3", "library/other:1", "library/other:2"]);
    let asked = || {
        let lines = scene.target.script.lines().into_iter();
        let asked =
            lines.filter(|line| line.starts_with("HEAD ") && line.contains("/manifests/") || line.contains("/tags/"));
        let mut asked: Vec<String> = asked.collect();
        asked.sort();
        scene.target.script.clear();
        asked.join("\n")
    };
    scene.target.script.clear();
    assert_eq!(scene.cli.run("sync").await.code, 0);
    insta::assert_snapshot!(asked(), @r"
    GET /v2/mirror/library/app/tags/list?n=1000 200
    GET /v2/mirror/library/other/tags/list?n=1000 404
    HEAD /v2/mirror/library/app/manifests/1 200
    ");
    assert_eq!(scene.cli.run("sync").await.code, 0);
    let second = asked();
    insta::assert_snapshot!(second, @r"
    HEAD /v2/mirror/library/app/manifests/1 200
    HEAD /v2/mirror/library/app/manifests/2 200
    HEAD /v2/mirror/library/app/manifests/3 200
    HEAD /v2/mirror/library/other/manifests/1 200
    HEAD /v2/mirror/library/other/manifests/2 200
    ");
    // Without a lock, a run can't tell whether it is the first.
    assert_eq!(scene.cli.run("sync --no-lock").await.code, 0);
    assert_eq!(asked(), second);
}

#[tokio::test]
async fn a_killed_run_is_resumed() {
    let mut scene = Scene::new(9 << 20).await;
    let app = scene.image("app");
    scene.publish(&app, "library/app", "1").await;
    scene.list(&["library/app:1"]);
    assert_eq!(scene.cli.run("lock").await.code, 0);
    app.blobs[1].push(&scene.target.inside("mirror/library/app")).await.unwrap();
    scene.run("sync", "resume").await;
    app.assert_in(&scene.target.inside("mirror/library/app"), "1").await;
}

/// Otherwise, a run would take one more round trip.
#[tokio::test]
async fn targets_are_asked_while_sources_are_being_resolved() {
    let mut scene = Scene::new(1000).await;
    let one = scene.image("one");
    scene.publish(&one, "app", "1").await;
    scene.list(&["app:1"]);
    let runs = [
        ("sync", "GET", "/tags/list"),
        ("sync --update", "HEAD", "/manifests/1"),
        ("plan --update", "HEAD", "/manifests/1"),
    ];
    for (line, method, path) in runs {
        let gate = Gate::closed();
        scene.source.script.once("HEAD", "/manifests/1", Fault::Wait(gate.clone()));
        scene.target.script.once(method, path, Fault::meanwhile(move || gate.open()));
        let run = tokio::time::timeout(Duration::from_secs(30), scene.cli.run(line)).await;
        let run = run.expect("the target is asked before the source has answered");
        assert_eq!(run.code, 0, "{run}");
    }
}
