//! Content is read from the nearest place: from another target that has it, or mounted from where earlier runs put it.

use crate::support::cli::Run;
use crate::support::images::{Image, image, multi_platform};
use crate::support::registry::Registry;
use crate::support::scene::{Scene, statuses};
use crate::support::script::Fault;

/// A source, a target that is full, and one that is empty.
struct Pair {
    scene: Scene,
    empty: Registry,
    images: Vec<(&'static str, Image)>,
}

impl Pair {
    async fn new() -> Self {
        let scene = Scene::new().await;
        let index = multi_platform("index", &["linux/amd64", "linux/arm64"]);
        let images = vec![("app", image("app").layer(5000).build()), ("index", index)];
        for (name, image) in &images {
            image.push(&scene.source.inside(name), "1").await;
        }
        scene.list("  - SRC/app:1\n  - SRC/index:1\n");
        let run = scene.cli.run("sync").await;
        assert_eq!(run.code, 0, "{run}");
        let pair = Self { scene, empty: Registry::start().await, images };
        pair.list("  - SRC/app:1\n  - SRC/index:1\n");
        pair
    }

    /// The same list for both targets.
    fn list(&self, entries: &str) {
        let targets = format!("targets: [\"DST/mirror\", \"{}/mirror\"]\n", self.empty.name());
        self.scene.write("mirror.yaml", &format!("{targets}layout: \"{{repository}}\"\nimages:\n{entries}"));
    }

    async fn sync(&self, flags: &str) -> Run {
        self.scene.clear();
        let run = self.scene.cli.run(&format!("sync --json {flags}")).await;
        assert_eq!(
            (run.code, statuses(&run)),
            (0, ["up_to_date", "copied", "up_to_date", "copied"].map(String::from).into()),
            "{run}"
        );
        for (name, image) in &self.images {
            image.assert_in(&self.empty.inside(&format!("mirror/{name}")), "1").await;
        }
        run
    }

    /// The requests to the source for manifests and blobs, without the HEADs for tags of cosign: only the source knows
    /// whether there are signatures.
    fn at_source(&self) -> Vec<String> {
        let lines = self.scene.source.script.lines().into_iter();
        let is_read = |line: &String| line.contains("/manifests/") && !line.contains("/manifests/sha256-");
        lines.filter(|line| is_read(line) || line.contains("/blobs/")).collect()
    }
}

#[tokio::test]
async fn an_empty_target_is_filled_from_another_target() {
    for flags in ["", "--no-cache"] {
        let pair = Pair::new().await;
        let run = pair.sync(flags).await;
        assert_eq!(pair.at_source(), Vec::<String>::new(), "{flags}");
        let report = run.json();
        let via = |at: usize| report["images"][at]["via"].as_str().map(str::to_owned);
        // Cached manifests aren't read anywhere.
        let expected = Some(pair.scene.target.name().to_string()).filter(|_| !flags.is_empty());
        assert_eq!((via(0), via(1), via(3)), (None, expected.clone(), expected), "{run}");
    }
}

#[tokio::test]
async fn content_missing_at_the_other_target_is_read_from_the_source() {
    let faults = [
        ("a blob that is gone", Fault::refuse(404, "BLOB_UNKNOWN")),
        ("a blob that is refused", Fault::refuse(403, "DENIED")),
        ("other bytes", Fault::Corrupt),
        ("trouble", Fault::refuse(503, "UNAVAILABLE")),
        ("a connection that breaks", Fault::Cut { after: 10 }),
    ];
    for (what, fault) in faults {
        let pair = Pair::new().await;
        let layer = pair.images[0].1.blobs[1].digest().clone();
        pair.scene.target.script.always("GET", format!("/blobs/{layer}"), fault);
        pair.sync("--no-cache").await;
        let lines = pair.at_source();
        assert!(
            !lines.is_empty()
                && lines.iter().all(|line| line.contains("GET") && line.contains("/app/blobs/") || what == "trouble"),
            "{what}: {lines:#?}"
        );
        assert_eq!(pair.scene.source.script.count("GET", &format!("/app/blobs/{layer}")), 1, "{what}");
    }
}

#[tokio::test]
async fn without_manifests_at_the_other_target_everything_is_read_from_the_source() {
    let pair = Pair::new().await;
    pair.scene.target.script.always("GET", "/manifests/sha256:", Fault::refuse(404, "MANIFEST_UNKNOWN"));
    let run = pair.sync("--no-cache").await;
    assert_eq!(run.json()["images"][1]["via"], serde_json::Value::Null, "{run}");
}

#[tokio::test]
async fn a_new_image_reads_only_layers_that_no_earlier_run_has_copied() {
    let scene = Scene::new().await;
    let on_base =
        |seed: &str| image(seed).shared_layer("base", 50_000).shared_layer("runtime", 20_000).layer(100).build();
    for name in ["old", "older"] {
        on_base(name).push(&scene.source.inside(name), "1").await;
    }
    scene.list("  - SRC/old:1\n  - SRC/older:1\n");
    assert_eq!(scene.cli.run("sync").await.code, 0);

    let new = on_base("new");
    new.push(&scene.source.inside("new"), "1").await;
    scene.list("  - SRC/new:1\n  - SRC/old:1\n  - SRC/older:1\n");
    assert_eq!(scene.cli.run("lock").await.code, 0);
    let plan = scene.cli.run("plan --json").await;
    assert_eq!(plan.json()["images"][0]["bytes"]["mounted"], 70_000, "as the run: {plan}");
    scene.clear();
    let run = scene.cli.run("sync --json").await;
    assert_eq!(statuses(&run), ["copied", "up_to_date", "up_to_date"], "{run}");
    scene.assert_mirrored(&new, "new", "1").await;
    assert_eq!(scene.source.script.count("GET", "/blobs/"), 2, "{:#?}", scene.source.script.lines());
    assert_eq!(scene.target.script.count("POST", "?mount="), 2, "{:#?}", scene.target.script.lines());
    assert_eq!(run.json()["images"][0]["bytes"]["mounted"], 70_000, "{run}");

    // Without a cache the earlier copy isn't known, and only a mount is lost.
    let newer = on_base("newer");
    newer.push(&scene.source.inside("newer"), "1").await;
    scene.list("  - SRC/newer:1\n  - SRC/new:1\n");
    scene.clear();
    assert_eq!(scene.cli.run("sync --no-cache").await.code, 0);
    assert_eq!(scene.source.script.count("GET", "/blobs/"), 4);
}

#[tokio::test]
async fn a_refused_mount_becomes_an_upload() {
    let scene = Scene::new().await;
    let on_base = |seed: &str| image(seed).shared_layer("base", 50_000).layer(100).build();
    on_base("old").push(&scene.source.inside("old"), "1").await;
    scene.list("  - SRC/old:1\n");
    assert_eq!(scene.cli.run("sync").await.code, 0);
    let new = on_base("new");
    new.push(&scene.source.inside("new"), "1").await;
    scene.list("  - SRC/old:1\n  - SRC/new:1\n");
    scene.clear();
    // The blob is gone from the other repository, and the mount becomes an upload.
    scene.target.script.always("POST", "?mount=", Fault::DropQuery);
    scene.target.script.always("GET", "/mirror/old/blobs/", Fault::refuse(404, "BLOB_UNKNOWN"));
    let run = scene.cli.run("sync --json").await;
    assert_eq!(statuses(&run), ["up_to_date", "copied"], "{run}");
    scene.assert_mirrored(&new, "new", "1").await;
    assert_eq!(scene.source.script.count("GET", "/blobs/"), 3, "{:#?}", scene.source.script.lines());
}
