//! `warm`: pull-through caches are filled, and what they lack is reported.

use std::time::{Duration, Instant};

use serde_json::Value;
use transship::oci::Digest;

use crate::support::cli::{Cli, Run};
use crate::support::docker_registry::{DockerRegistry, Settings};
use crate::support::harbor::{Harbor, Project, Role};
use crate::support::hub::Hub;
use crate::support::images::{Image, image, index, multi_platform};
use crate::support::registry::Registry;
use crate::support::script::Fault;
use crate::support::stores::registry_target;

const ROBOT: &str = "robot$reader";
const SECRET: &str = "s3cret";

/// An upstream, a Harbor with a proxy cache of it, `hub`, and an account that may pull there.
struct Scene {
    upstream: Registry,
    harbor: Harbor,
    cli: Cli,
}

impl Scene {
    /// The same, with a robot that has this additional permission, if any.
    async fn new(right: Option<&'static str>) -> Self {
        let upstream = Registry::start().await;
        let harbor = Harbor::start().await.account(ROBOT, SECRET, Role::SystemRobotOn("hub"));
        let harbor = right.into_iter().fold(harbor, |harbor, right| harbor.grant(ROBOT, right));
        let harbor = harbor.project("hub", Project::proxy_of(&upstream.name()));
        let cli = Cli::new().env("ROBOT", ROBOT).env("SECRET", SECRET);
        Self { upstream, harbor, cli }
    }

    /// mirror.yaml with these entries, `SRC` for the upstream, and the lock that pins them.
    async fn pin(&self, entries: &str) {
        let harbor = self.harbor.name();
        let text = format!(
            "target: mirror.example.com\nimages:\n{}registries:\n  \"{harbor}\": {{username: {{env: ROBOT}}, password: {{env: \
             SECRET}}}}\n",
            entries.replace("SRC", self.upstream.name().as_str())
        );
        self.cli.write("mirror.yaml", text);
        let lock = self.cli.run("lock").await;
        assert_eq!(lock.code, 0, "{lock}");
        self.clear();
    }

    fn clear(&self) {
        self.upstream.script.clear();
        self.harbor.script.clear();
    }

    async fn warm(&self, flags: &str) -> Run {
        self.cli.run(&format!("warm {}/hub {flags}", self.harbor.name())).await
    }
}

fn first(run: &Run) -> Value {
    run.json()["images"][0].clone()
}

fn digests(images: &Value) -> Vec<String> {
    images.as_array().expect("a list").iter().map(|digest| digest.as_str().expect("a digest").to_owned()).collect()
}

#[tokio::test]
async fn a_real_cache_serves_every_image_when_its_upstream_is_gone() {
    let Some(mut upstream) = DockerRegistry::start() else { return };
    let settings = Settings { upstream: Some(format!("http://{}", upstream.name())), ..Settings::default() };
    let Some(cache) = DockerRegistry::with(settings) else { return };
    let images = [
        ("library/app", "1", image("app").shared_layer("base", 200_000).build()),
        ("library/app", "2", image("app2").shared_layer("base", 200_000).docker().build()),
        ("team/tools/index", "v1", multi_platform("index", &["linux/amd64", "linux/arm64"])),
        ("attested", "1", index().child("linux/amd64", image("attested").build()).attested().build()),
    ];
    let mut list = "target: mirror.example.com\nimages:\n".to_owned();
    for (path, tag, image) in &images {
        image.push(&*registry_target(&upstream.repository(path)), tag).await;
        list.push_str(&format!("  - {}/{path}:{tag}\n", upstream.name()));
    }
    let cli = Cli::new().file("mirror.yaml", list);
    assert_eq!(cli.run("lock").await.code, 0);
    let before = cli.run(&format!("warm {} --check --json --no-cache", cache.name())).await;
    assert_eq!(before.code, 1, "nobody knows what the images consist of: {before}");

    let warm = cli.run(&format!("warm {} --json", cache.name())).await;
    assert_eq!(warm.code, 0, "{warm}");
    let report = warm.json();
    for row in report["images"].as_array().unwrap() {
        assert_eq!((&row["status"], &row["cache"]["proof"]), (&"copied".into(), &"served".into()), "{warm}");
        assert_eq!(row["cache"]["tag"], "as_pinned", "{warm}");
    }
    let check = cli.run(&format!("warm {} --check", cache.name())).await;
    assert_eq!(check.code, 0, "{check}");
    assert!(check.stdout.contains("4 images at 1 cache: 4 served; 0 differences"), "{check}");

    // It stores in the background, in the order of the requests.
    let deadline = Instant::now() + Duration::from_secs(60);
    let is_kept = |path: &str, digest: &Digest, kind: &str| {
        cache.repository_folder(path).join(kind).join("sha256").join(digest.hex()).join("link").exists()
            && cache.blob_file(digest).exists()
    };
    for (path, _, image) in &images {
        for (kind, all) in [
            ("_manifests/revisions", image.manifests().into_iter().map(|one| one.digest().clone()).collect::<Vec<_>>()),
            ("_layers", image.blobs().into_iter().map(|one| one.digest().clone()).collect()),
        ] {
            for digest in all {
                while !is_kept(path, &digest, kind) {
                    assert!(Instant::now() < deadline, "{digest} of {path} isn't kept");
                    // Another process stores it, without a notification.
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
        }
    }
    upstream.stop();
    for (path, tag, image) in &images {
        image.assert_in(&*registry_target(&cache.repository(path)), tag).await;
    }
}

#[tokio::test]
async fn a_harbor_is_filled_and_proves_what_it_keeps() {
    let scene = Scene::new(Some("artifact: read")).await;
    let app = image("app").build();
    let both = multi_platform("both", &["linux/amd64", "linux/arm64"]);
    app.push(&scene.upstream.inside("library/app"), "1").await;
    both.push(&scene.upstream.inside("team/both"), "2").await;
    scene.pin("  - SRC/library/app:1\n  - SRC/team/both:2\n").await;

    let warm = scene.warm("").await;
    assert_eq!(warm.code, 0, "{warm}");
    let harbor = scene.harbor.name();
    assert!(warm.stdout.contains(&format!("  {}  {harbor}/hub/team/both:2\n", both.digest())), "{warm}");
    assert!(warm.stdout.contains("2 images at 1 cache: 2 warmed;"), "{warm}");
    // First the tag, then the manifests in sequence, then the blobs. Each is checked by HEAD before it is read.
    let asked: Vec<String> =
        scene.harbor.script.lines().into_iter().filter(|line| line.contains("/v2/hub/team/both/")).collect();
    let of = |method: &str, kind: &str, digest: &Digest| format!("{method} /v2/hub/team/both/{kind}/{digest}");
    assert!(asked[0].starts_with("HEAD /v2/hub/team/both/manifests/2"), "{asked:#?}");
    let manifests: Vec<&str> = asked
        .iter()
        .filter(|line| line.contains("GET") && line.contains("/manifests/"))
        .map(|line| line.rsplit_once(' ').unwrap().0)
        .collect();
    let expected = [both.digest(), both.children[0].digest(), both.children[1].digest()];
    assert_eq!(manifests, expected.map(|digest| of("GET", "manifests", digest)));
    for blob in both.blobs() {
        let position = |method| asked.iter().position(|line| line.starts_with(&of(method, "blobs", blob.digest())));
        assert!(position("HEAD").unwrap() < position("GET").unwrap(), "{asked:#?}");
    }

    scene.harbor.settle().await;
    scene.clear();
    let check = scene.warm("--check --json").await;
    assert_eq!(check.code, 0, "{check}");
    let report = check.json();
    assert_eq!(
        (&report["images"][0]["cache"]["proof"], &report["images"][1]["cache"]["proof"]),
        (&"kept".into(), &"kept".into())
    );
    assert_eq!(digests(&report["images"][1]["cache"]["only_upstream"]), [both.digest().to_string()]);
    assert_eq!(scene.upstream.script.reads(), 0, "{:#?}", scene.upstream.script.lines());
    // A second run pulls nothing, not even the index that Harbor rewrites.
    let again = scene.warm("--json").await;
    assert_eq!((again.code, first(&again)["status"].as_str()), (0, Some("up_to_date")), "{again}");
    assert_eq!(scene.upstream.script.reads(), 0, "{:#?}", scene.upstream.script.lines());
}

#[tokio::test]
async fn images_missing_in_a_harbor_are_differences() {
    let scene = Scene::new(None).await;
    let app = image("app").build();
    app.push(&scene.upstream.inside("app"), "1").await;
    scene.pin("  - SRC/app:1\n").await;
    assert_eq!(scene.warm("").await.code, 0);
    let check = scene.warm("--check --json").await;
    assert_eq!(check.code, 3, "{check}");
    let report = check.json();
    let found: Vec<_> = report["differences"].as_array().unwrap().iter().map(|one| one["what"].clone()).collect();
    assert_eq!(found, vec![Value::from("blob"); app.blobs().len()], "{check}");
    let text = scene.warm("--check").await;
    assert!(text.stdout.contains("1 image at 1 cache: 1 lacking something;"), "{text}");
    assert!(text.stdout.contains("without --check makes the cache fetch"), "{text}");
    // The account may not list the stored manifests.
    scene.harbor.settle().await;
    let check = scene.warm("--check --json").await;
    assert_eq!((check.code, &first(&check)["cache"]["proof"]), (0, &"blobs_kept".into()), "{check}");
    let check = scene.warm("--check -v").await;
    assert!(check.stdout.contains("`artifact: read`"), "{check}");
}

#[tokio::test]
async fn only_the_wanted_platforms_are_pulled() {
    let scene = Scene::new(Some("artifact: read")).await;
    let both = multi_platform("both", &["linux/amd64", "linux/arm64"]);
    both.push(&scene.upstream.inside("both"), "1").await;
    scene.pin("  - {image: SRC/both, tags: [\"1\"], platforms: [linux/arm64]}\n").await;
    assert_eq!(scene.warm("").await.code, 0);
    let other: &Image = &both.children[0];
    assert_eq!(scene.harbor.script.count("GET", other.digest().as_str()), 0);
    assert_eq!(scene.harbor.script.count("GET", both.children[1].digest().as_str()), 1);
}

#[tokio::test]
async fn a_moved_or_deleted_tag_is_reported_and_the_pin_is_warmed() {
    let scene = Scene::new(None).await;
    let (old, new) = (image("old").build(), image("new").build());
    old.push(&scene.upstream.inside("app"), "1").await;
    scene.pin("  - SRC/app:1\n").await;
    new.push(&scene.upstream.inside("app"), "1").await;
    let warm = scene.warm("--json").await;
    assert_eq!(warm.code, 0, "{warm}");
    let row = first(&warm);
    assert_eq!((&row["cache"]["tag"], &row["cache"]["tag_digest"]), (&"moved".into(), &new.digest().as_str().into()));
    let text = scene.warm("").await;
    assert!(text.stdout.contains("moved") && text.stdout.contains("`transship update`"), "{text}");
}

#[tokio::test]
async fn a_wrong_cache_is_reported() {
    let scene = Scene::new(None).await;
    image("app").build().push(&scene.upstream.inside("app"), "1").await;
    let elsewhere = Registry::start().await;
    image("other").build().push(&elsewhere.inside("other"), "1").await;
    scene.pin(&format!("  - SRC/app:1\n  - {}/other:1\n", elsewhere.name())).await;
    // Only the image of another upstream fails.
    let warm = scene.warm("--json").await;
    assert_eq!(warm.code, 1, "{warm}");
    let report = warm.json();
    assert_eq!((&report["images"][0]["status"], &report["images"][1]["status"]), (&"copied".into(), &"failed".into()));
    assert!(report["images"][1]["error"]["hint"].as_str().unwrap().contains("--only"), "{warm}");
    assert_eq!(scene.warm("--only */app:*").await.code, 0);
    // A project that fetches nothing.
    scene.harbor.state.lock().projects.insert("hub".into(), Project::default());
    let admin = scene.warm("--json --only */app:*").await;
    assert_eq!(admin.code, 1, "{admin}");
    for (line, says) in [
        ("warm", "required"),
        ("warm oci:dir", "is a directory"),
        ("warm https://h.example", "isn't a cache"),
        ("warm h.example --no-lock", "nothing to compare with"),
        ("warm h.example --only nothing", "--only matches"),
    ] {
        let run = scene.cli.run(line).await;
        assert!(run.code == 2 && run.stderr.contains(says) && run.stdout.is_empty(), "{run}");
    }
}

#[tokio::test]
async fn images_beyond_the_quota_are_deferred() {
    let scene = Scene::new(None).await;
    let app = image("app").build();
    app.push(&scene.upstream.inside("app"), "1").await;
    scene.pin("  - SRC/app:1\n").await;
    // A cache that passes on the quota headers of its upstream.
    let cache = Registry::start().await;
    app.push(&cache.inside("hub/app"), "1").await;
    cache.script.always("HEAD", "/manifests/", Fault::Quota { remaining: 0 });
    let warm = scene.cli.run(&format!("warm {}/hub --json", cache.name())).await;
    assert_eq!(warm.code, 4, "{warm}");
    let row = first(&warm);
    assert_eq!((&row["status"], &row["reason"]), (&"deferred".into(), &"quota_used".into()), "{warm}");
    assert_eq!(cache.script.count("GET", "/manifests/"), 0, "{:#?}", cache.script.lines());
}

/// docker.io with this many pulls left, behind a proxy cache, and three images: `one` and `two` with two platforms.
async fn limited(left: u32) -> (Scene, Hub) {
    let scene = Scene::new(Some("artifact: read")).await;
    let hub = Hub::before(scene.upstream.name(), 100, left).await;
    let project = Project { upstream: Some(hub.address()), ..Project::proxy_of(&scene.upstream.name()) };
    scene.harbor.state.lock().projects.insert("hub".into(), project);
    for name in ["one", "two"] {
        let image = multi_platform(name, &["linux/amd64", "linux/arm64"]);
        image.push(&scene.upstream.inside(&format!("library/{name}")), "1").await;
    }
    image("three").build().push(&scene.upstream.inside("library/three"), "1").await;
    let harbor = scene.harbor.name();
    let text = format!(
        "target: mirror.example.com\nlimits: {{quota_reserve: 2}}\nimages: [\"one:1\", \"two:1\", \"three:1\"]\nregistries:\n{}  \
         \"{harbor}\": {{username: {{env: ROBOT}}, password: {{env: SECRET}}}}\n",
        hub.settings()
    );
    scene.cli.write("mirror.yaml", text);
    let lock = scene.cli.run("lock").await;
    assert_eq!((lock.code, hub.pulls().len()), (0, 0), "{lock}");
    (scene, hub)
}

fn statuses(run: &Run) -> Vec<String> {
    let report = run.json();
    let images = report["images"].as_array().expect("images");
    images.iter().map(|image| image["status"].as_str().expect("a status").to_owned()).collect()
}

#[tokio::test]
async fn a_cache_of_docker_hub_is_filled_within_its_quota() {
    let (scene, hub) = limited(7).await;
    // Two are reserved. Only the index of the second image is pulled, and the third fits.
    let warm = scene.warm("--json").await;
    assert_eq!(
        (warm.code, statuses(&warm)),
        (4, ["copied", "deferred", "copied"].map(str::to_owned).to_vec()),
        "{warm}"
    );
    assert_eq!((hub.pulls().len(), hub.refused()), (5, 0), "{:#?}", hub.seen());
    let report = warm.json();
    assert_eq!(report["totals"]["pulls"], 5, "{warm}");
    let error = &report["images"][1]["error"];
    assert_eq!((&error["kind"], &error["side"]), (&"quota_exceeded".into(), &"source".into()), "{warm}");
    assert!(error["message"].as_str().unwrap().contains("the quota of docker.io"), "{warm}");

    // In a new window the rest is pulled, and stored content costs nothing.
    scene.harbor.settle().await;
    hub.reset(5);
    let warm = scene.warm("").await;
    assert_eq!((warm.code, hub.pulls().len(), hub.refused()), (0, 3, 0), "{warm}");
    assert!(warm.stdout.contains("up to 3 pulls of docker.io"), "{warm}");
    // Nothing of it is stored yet: fetching it now would cost as much.
    let check = scene.warm("--check").await;
    assert!(check.stdout.contains("up to 3 pulls of docker.io"), "{check}");
    assert_eq!((check.code, hub.pulls().len()), (3, 3), "{check}");
}

#[tokio::test]
async fn with_an_exhausted_quota_a_cache_pulls_nothing() {
    let (scene, hub) = limited(2).await;
    let warm = scene.warm("--json").await;
    assert_eq!((warm.code, statuses(&warm)), (4, vec!["deferred".to_owned(); 3]), "{warm}");
    assert_eq!((hub.pulls().len(), hub.refused()), (0, 0), "{:#?}", hub.seen());
}

#[tokio::test]
async fn an_upstream_reachable_only_by_the_cache_sets_no_limit() {
    let (scene, hub) = limited(50).await;
    let text = scene.cli.read("mirror.yaml").expect("the file");
    scene.cli.write("mirror.yaml", text.replace(&hub.address(), "127.0.0.1:1"));
    let warm = scene.warm("--json").await;
    assert_eq!((warm.code, &warm.json()["totals"]["pulls"]), (0, &7.into()), "{warm}");
    assert_eq!(hub.pulls().len(), 7);
}
