//! Mirrors as sources: they are asked first, only by digest, and never make an image fail.

mod quota;

use serde_json::Value;

use crate::support::cli::Run;
use crate::support::images::{Image, image, multi_platform};
use crate::support::registry::Registry;
use crate::support::scene::{Scene, statuses};
use crate::support::script::Fault;

/// A source, a target, and mirrors of the source.
struct Mirrored {
    scene: Scene,
    mirrors: Vec<Registry>,
}

impl Mirrored {
    async fn new(mirrors: usize) -> Self {
        let (scene, mut started) = (Scene::new().await, Vec::new());
        for _ in 0..mirrors {
            started.push(Registry::start().await);
        }
        Self { scene, mirrors: started }
    }

    /// mirror.yaml with these entries; the mirrors keep everything below `copies`.
    fn list(&self, entries: &str) {
        let mirrors: Vec<String> = self.mirrors.iter().map(|mirror| format!("{}/copies", mirror.name())).collect();
        let registries = format!("registries:\n  \"SRC\": {{mirrors: [{}]}}\n", quoted(&mirrors));
        let head = "target: DST/mirror\nlayout: \"{repository}\"\n";
        self.scene.write("mirror.yaml", &format!("{head}images:\n{entries}{registries}"));
    }

    /// An index at the source and at some of the mirrors.
    async fn publish(&self, name: &str, at: &[usize]) -> Image {
        let image = multi_platform(name, &["linux/amd64", "linux/arm64"]);
        image.push(&self.scene.source.inside(name), "1").await;
        for mirror in at {
            image.push(&self.mirrors[*mirror].inside(&format!("copies/{name}")), "1").await;
        }
        image
    }

    async fn sync(&self) -> Run {
        self.scene.clear();
        self.mirrors.iter().for_each(|mirror| mirror.script.clear());
        self.scene.cli.run("sync --json").await
    }

    fn name(&self, mirror: usize) -> String {
        self.mirrors[mirror].name().to_string()
    }
}

fn quoted(names: &[String]) -> String {
    names.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ")
}

fn via(run: &Run) -> Vec<Value> {
    run.json()["images"].as_array().expect("images").iter().map(|image| image["via"].clone()).collect()
}

#[tokio::test]
async fn content_of_a_mirror_isnt_read_from_the_origin() {
    let mirrored = Mirrored::new(2).await;
    let (first, second) = (mirrored.publish("first", &[0, 1]).await, mirrored.publish("second", &[1]).await);
    let nowhere = mirrored.publish("nowhere", &[]).await;
    mirrored.list("  - SRC/first:1\n  - SRC/second:1\n  - SRC/nowhere:1\n");
    let run = mirrored.sync().await;
    assert_eq!((run.code, statuses(&run)), (0, vec!["copied".to_owned(); 3]), "{run}");
    for (name, image) in [("first", &first), ("second", &second), ("nowhere", &nowhere)] {
        mirrored.scene.assert_mirrored(image, name, "1").await;
        let reads = mirrored.scene.source.script.count("GET", &format!("/v2/{name}/manifests/sha256:"))
            + mirrored.scene.source.script.count("GET", &format!("/v2/{name}/blobs/"));
        let all = image.manifests().len() + image.blobs().len();
        assert_eq!(reads, if name == "nowhere" { all } else { 0 }, "{name}");
    }
    assert_eq!(via(&run), [mirrored.name(0).into(), mirrored.name(1).into(), Value::Null]);
    for mirror in &mirrored.mirrors {
        // Only by digest: no tag, no list, no referrers.
        let lines = mirror.script.lines();
        let others =
            lines.iter().filter(|line| !line.contains("/manifests/sha256:") && !line.contains("/blobs/sha256:"));
        assert_eq!(others.count(), 0, "{lines:#?}");
    }
    // The blobs come from where their manifest came from.
    let blobs = |mirror: usize, name: &str| mirrored.mirrors[mirror].script.count("GET", &format!("{name}/blobs/"));
    assert_eq!((blobs(0, "first"), blobs(1, "first")), (first.blobs().len(), 0));
    assert_eq!((blobs(0, "second"), blobs(1, "second")), (0, second.blobs().len()));

    let again = mirrored.sync().await;
    assert_eq!(statuses(&again), ["up_to_date"; 3]);
    assert_eq!(via(&again), [Value::Null, Value::Null, Value::Null]);
    let asked = [&mirrored.scene.source, &mirrored.mirrors[0], &mirrored.mirrors[1]].map(|one| one.script.lines());
    assert!(asked.iter().all(Vec::is_empty), "{asked:#?}");
}

/// A broken mirror is skipped: each image is copied as if the mirror didn't exist.
#[tokio::test]
async fn a_broken_mirror_is_skipped() {
    let faults = [
        ("other manifests", "/manifests/", Fault::Corrupt),
        ("other blobs", "/blobs/", Fault::Corrupt),
        ("blobs that end early", "/blobs/", Fault::Cut { after: 10 }),
        ("web pages", "/v2/", Fault::html(200)),
        ("pages for blobs", "/blobs/", Fault::html(200)),
        ("a login page", "/v2/", Fault::html(403)),
        ("403", "/v2/", Fault::refuse(403, "DENIED")),
        ("401 without a challenge", "/v2/", Fault::refuse(401, "UNAUTHORIZED")),
        ("no blobs", "/blobs/", Fault::refuse(404, "BLOB_UNKNOWN")),
        ("its own rate limit", "/v2/", Fault::throttle(3600)),
        ("500", "/v2/", Fault::refuse(500, "UNKNOWN")),
        ("503", "/v2/", Fault::refuse(503, "UNAVAILABLE")),
        ("a redirect in a circle", "/v2/", Fault::redirect(307, "/v2/")),
        ("another media type", "/manifests/", Fault::Set("content-type", "text/plain".into())),
        ("a wrong length", "/blobs/", Fault::Set("content-length", "3".into())),
    ];
    for (what, path, fault) in faults {
        let mirrored = Mirrored::new(1).await;
        let image = mirrored.publish("app", &[0]).await;
        mirrored.list("  - SRC/app:1\n");
        mirrored.mirrors[0].script.always("GET", path, fault);
        let started = std::time::Instant::now();
        let run = mirrored.sync().await;
        assert_eq!((run.code, statuses(&run)), (0, vec!["copied".to_owned()]), "{what}: {run}");
        mirrored.scene.assert_mirrored(&image, "app", "1").await;
        assert!(started.elapsed().as_secs() < 10, "{what} was waited for: {run}");
    }
}

#[tokio::test]
async fn an_unreachable_mirror_costs_no_time() {
    let mirrored = Mirrored::new(1).await;
    let mut images = Vec::new();
    let mut entries = String::new();
    for n in 0..10 {
        images.push((format!("app{n}"), mirrored.publish(&format!("app{n}"), &[]).await));
        entries.push_str(&format!("  - SRC/app{n}:1\n"));
    }
    mirrored.list(&entries);
    // Nothing listens at the address of a server that has just stopped.
    let Mirrored { scene, mirrors } = mirrored;
    drop(mirrors);
    let started = std::time::Instant::now();
    let run = scene.cli.run("sync --json").await;
    assert_eq!((run.code, statuses(&run)), (0, vec!["copied".to_owned(); 10]), "{run}");
    assert!(started.elapsed().as_secs() < 5, "it has ended");
    for (name, image) in &images {
        scene.assert_mirrored(image, name, "1").await;
    }
}

#[tokio::test]
async fn mirrors_of_each_other_cause_no_loop() {
    let scene = Scene::new().await;
    let other = Registry::start().await;
    let image = image("app").build();
    image.push(&scene.source.inside("app"), "1").await;
    let registries =
        format!("registries: {{\"SRC\": {{mirrors: [\"{0}\"]}}, \"{0}\": {{mirrors: [\"SRC\"]}}}}\n", other.name());
    scene.write(
        "mirror.yaml",
        &format!("target: DST/mirror\nlayout: \"{{repository}}\"\nimages: [\"SRC/app:1\"]\n{registries}"),
    );
    assert_eq!(scene.cli.run("sync").await.code, 0);
    scene.assert_mirrored(&image, "app", "1").await;
    assert_eq!(other.script.lines().len(), 1, "{:#?}", other.script.lines());
}
