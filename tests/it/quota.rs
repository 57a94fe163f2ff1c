//! Pull quotas, as at Docker Hub: images within the quota are copied, no request gets a 429, and the rest is copied
//! by a later run.

use std::collections::HashSet;

use crate::support::cli::{Cli, Run};
use crate::support::docker_registry::DockerRegistry;
use crate::support::hub::Hub;
use crate::support::images::{Image, image, multi_platform};
use crate::support::registry::Registry;
use crate::support::scene::statuses;
use crate::support::script::Fault;
use crate::support::stores;

/// An origin behind a proxy that counts pulls, a target, and a folder to run in.
struct Limited {
    origin: Registry,
    hub: Hub,
    target: Registry,
    cli: Cli,
}

impl Limited {
    async fn new(left: u32) -> Self {
        let origin = Registry::start().await;
        let hub = Hub::before(origin.name(), 100, left).await;
        Self { origin, hub, target: Registry::start().await, cli: Cli::new() }
    }

    async fn publish(&self, name: &str, tag: &str, image: &Image) {
        image.push(&self.origin.inside(name), tag).await;
    }

    /// Writes mirror.yaml with these entries, and `reserve` pulls kept for others.
    fn list(&self, reserve: u32, entries: &str) {
        let (target, hub) = (self.target.name(), self.hub.settings());
        let text = format!(
            "target: {target}/mirror\nlayout: \"{{repository}}\"\nlimits: {{quota_reserve: {reserve}}}\n\
             registries:\n{hub}images:\n{entries}"
        );
        self.cli.write("mirror.yaml", text);
    }
}

fn count(run: &Run, status: &str) -> usize {
    statuses(run).iter().filter(|one| *one == status).count()
}

/// The report's row for the first deferred image.
fn put_off(run: &Run) -> serde_json::Value {
    let report = run.json();
    let images = report["images"].as_array().expect("images");
    images.iter().find(|image| image["status"] == "deferred").expect("a deferred image").clone()
}

/// With docker-registry as the origin: 20 images, 7 pulls left, 2 of them kept for others.
#[tokio::test]
async fn images_within_the_quota_are_copied_and_the_rest_after_the_window_without_repeated_pulls() {
    let Some(origin) = DockerRegistry::start() else { return };
    let hub = Hub::before(origin.name(), 100, 7).await;
    let target = Registry::start().await;
    let cli = Cli::new();
    let images: Vec<Image> = (0..20).map(|n| image(&format!("app{n}")).build()).collect();
    for (n, image) in images.iter().enumerate() {
        image.push(&*stores::registry_target(&origin.repository(&format!("library/app{n}"))), "1").await;
    }
    let entries: String = (0..20).map(|n| format!("  - app{n}:1\n")).collect();
    let (to, settings) = (target.name(), hub.settings());
    cli.write(
        "mirror.yaml",
        format!(
            "target: {to}/mirror\nlayout: \"{{repository}}\"\nlimits: {{quota_reserve: 2}}\n\
             registries:\n{settings}images:\n{entries}"
        ),
    );
    let run = cli.run("sync --json").await;
    assert_eq!((run.code, count(&run, "copied"), count(&run, "deferred")), (4, 5, 15), "{run}");
    assert_eq!(statuses(&run)[..5], ["copied"; 5], "in the order of the list: {run}");
    assert_eq!((hub.pulls().len(), hub.refused()), (5, 0), "{:?}", hub.seen());
    let first = put_off(&run);
    assert_eq!((&first["reason"], &first["error"]["kind"]), (&"quota_used".into(), &"quota_exceeded".into()));
    assert!(first["error"]["hint"].as_str().expect("a hint").starts_with("run it again after 20"), "{first}");
    assert_eq!(run.json()["registries"][1]["quota"]["remaining"], 2, "{run}");
    let text = cli.run("sync").await;
    assert!(text.code == 4 && text.stdout.contains("hint: run it again after 20"), "{text}");
    assert_eq!((hub.pulls().len(), hub.refused()), (5, 0));

    let before: HashSet<String> = hub.pulls().into_iter().collect();
    hub.reset(100);
    let run = cli.run("sync --json").await;
    assert_eq!((run.code, count(&run, "copied"), count(&run, "up_to_date")), (0, 15, 5), "{run}");
    let after: HashSet<String> = hub.pulls().into_iter().collect();
    assert_eq!((hub.pulls().len(), after.intersection(&before).count()), (15, 0));
    for (n, image) in images.iter().enumerate() {
        image.assert_in(&target.inside(&format!("mirror/library/app{n}")), "1").await;
    }
}

#[tokio::test]
async fn a_smaller_image_is_copied_if_a_larger_one_exceeds_the_quota() {
    let scene = Limited::new(5).await;
    let platforms = ["linux/amd64", "linux/arm64", "linux/s390x", "linux/ppc64le", "linux/riscv64"];
    scene.publish("library/large", "1", &multi_platform("large", &platforms)).await;
    let small = multi_platform("small", &platforms[..2]);
    scene.publish("library/small", "1", &small).await;
    scene.publish("library/single", "1", &image("single").build()).await;
    scene.list(0, "  - large:1\n  - small:1\n  - single:1\n");
    let run = scene.cli.run("sync --json").await;
    // One pull for the index of the large image, three for the small image, and the last for the single manifest.
    assert_eq!(statuses(&run), ["deferred", "copied", "copied"], "{run}");
    assert_eq!((run.code, scene.hub.pulls().len(), scene.hub.refused()), (4, 5, 0), "{:?}", scene.hub.seen());
    small.assert_in(&scene.target.inside("mirror/library/small"), "1").await;
    // The cache has the index of the large image, so it needs five pulls instead of six.
    scene.hub.reset(5);
    let run = scene.cli.run("sync").await;
    assert_eq!((run.code, scene.hub.pulls().len()), (0, 5), "{run}");
    let pulls = "pulls: docker.io 5 spent, 0 of 100 left (spared: 1 by the cache)";
    assert!(run.stdout.contains(pulls), "{run}");
}

#[tokio::test]
async fn a_quota_exhausted_by_others_costs_one_refused_pull() {
    let scene = Limited::new(50).await;
    for n in 0..12 {
        scene.publish(&format!("library/app{n}"), "1", &image(&format!("app{n}")).build()).await;
    }
    scene.list(10, &(0..12).map(|n| format!("  - app{n}:1\n")).collect::<String>());
    assert_eq!(scene.cli.run("lock").await.code, 0);
    let run = scene.cli.run("sync --json --only docker.io/library/app0:1").await;
    assert_eq!((run.code, scene.hub.pulls().len()), (0, 1), "{run}");
    scene.hub.reset(0);
    let run = scene.cli.run("sync --json").await;
    assert_eq!((run.code, count(&run, "deferred"), scene.hub.pulls().len()), (4, 11, 0), "{run}");
    assert!(scene.hub.seen().iter().filter(|line| line.starts_with("HEAD")).count() == 1, "{:?}", scene.hub.seen());
}

#[tokio::test]
async fn an_exempt_repository_is_neither_queried_again_nor_limited() {
    let scene = Limited::new(0).await;
    for n in 0..3 {
        scene.publish("exempt/app", &n.to_string(), &image(&format!("app{n}")).build()).await;
    }
    scene.list(10, "  - {image: exempt/app, tags: [\"0\", \"1\", \"2\"]}\n");
    assert_eq!(scene.cli.run("lock").await.code, 0);
    scene.hub.reset(0);
    let run = scene.cli.run("sync --json").await;
    assert_eq!((run.code, count(&run, "copied")), (0, 3), "{run}");
    let heads = scene.hub.seen().iter().filter(|line| line.starts_with("HEAD") && !line.contains("/sha256-")).count();
    assert_eq!(heads, 1, "{:?}", scene.hub.seen());
}

/// Otherwise, resolving would spend all pulls on indexes.
#[tokio::test]
async fn a_filtered_index_and_its_children_are_reserved_together() {
    let scene = Limited::new(5).await;
    let platforms = ["linux/amd64", "linux/arm64", "linux/s390x"];
    for n in 0..4 {
        scene.publish("library/app", &n.to_string(), &multi_platform(&format!("app{n}"), &platforms)).await;
    }
    let tags = "tags: [\"0\", \"1\", \"2\", \"3\"]";
    scene.list(0, &format!("  - {{image: app, {tags}, platforms: [linux/amd64], referrers: none}}\n"));
    let run = scene.cli.run("sync --json").await;
    assert_eq!(statuses(&run), ["copied", "copied", "deferred", "deferred"], "{run}");
    assert_eq!((run.code, scene.hub.pulls().len(), scene.hub.refused()), (4, 4, 0), "{:?}", scene.hub.seen());
    scene.hub.reset(100);
    let run = scene.cli.run("sync --json").await;
    assert_eq!((run.code, scene.hub.pulls().len()), (0, 4), "{run}");
}

/// To pin a platform, the index is pulled. The copy then reads it from the cache.
#[tokio::test]
async fn manifests_pulled_by_the_same_run_dont_count_as_spared() {
    let scene = Limited::new(100).await;
    scene.publish("library/app", "1", &multi_platform("app", &["linux/amd64", "linux/arm64"])).await;
    scene.list(0, "  - {image: \"app:1\", platforms: [linux/amd64], referrers: none}\n");
    let run = scene.cli.run("sync").await;
    assert!(run.code == 0 && run.stdout.contains("2 spent") && !run.stdout.contains("spared"), "{run}");
    let elsewhere = scene.cli.run(&format!("sync --target {}/other", scene.target.name())).await;
    assert!(elsewhere.code == 0 && elsewhere.stdout.contains("spared: 2 by the cache"), "{elsewhere}");
}

#[tokio::test]
async fn a_plan_reports_its_pulls_the_quota_and_deferred_images() {
    let scene = Limited::new(7).await;
    for n in 0..8 {
        scene.publish("library/app", &n.to_string(), &image(&format!("app{n}")).build()).await;
    }
    scene
        .list(2, "  - {image: app, tags: [\"0\", \"1\", \"2\", \"3\", \"4\", \"5\", \"6\", \"7\"], referrers: none}\n");
    for line in ["plan --json", "sync --dry-run --json"] {
        let plan = scene.cli.run(line).await;
        let report = plan.json();
        let actions: Vec<_> =
            report["images"].as_array().expect("images").iter().map(|image| &image["action"]).collect();
        assert_eq!(actions, ["copy", "copy", "copy", "copy", "copy", "defer", "defer", "defer"], "{plan}");
        let last = &report["images"][7];
        assert_eq!((&last["pulls"], &last["pulls_exact"], &last["status"]), (&1.into(), &true.into(), &().into()));
        assert!(last["error"]["hint"].as_str().expect("a hint").starts_with("run it again after 20"), "{plan}");
        let hub = report["registries"].as_array().expect("hosts").iter().find(|one| one["host"] == "docker.io");
        assert_eq!(hub.expect("the hub")["quota"]["remaining"], 7, "{plan}");
    }
    let plan = scene.cli.run("plan").await;
    assert!(plan.stdout.contains("8 images, 1 target: 5 to copy, 3 to put off"), "{plan}");
    assert!(plan.stdout.contains("pulls: docker.io 8 of 7 left") && plan.stdout.contains("and 2 more"), "{plan}");
    assert_eq!((plan.code, scene.hub.pulls().len()), (0, 0), "{plan}");
    // The sync does what the plan says.
    let run = scene.cli.run("sync --json").await;
    assert_eq!((run.code, count(&run, "copied"), count(&run, "deferred")), (4, 5, 3), "{run}");
}

#[tokio::test]
async fn quota_reports_the_remaining_pulls_without_a_pull() {
    let scene = Limited::new(42).await;
    scene.publish("exempt/app", "1", &image("app").build()).await;
    scene.publish("library/app", "1", &image("app").build()).await;
    let plain = Registry::start().await;
    image("app").build().push(&plain.inside("app"), "1").await;
    scene.list(10, &format!("  - exempt/app:1\n  - app:1\n  - {}/app:1\n", plain.name()));
    let run = scene.cli.run("quota").await;
    assert_eq!((run.code, scene.hub.pulls().len()), (0, 0), "{run}");
    for text in
        ["42 of 100 pulls left in 6 h 0 min, for 192.0.2.1", "it reports no pull quota", "2 accounts, 1 limited"]
    {
        assert!(run.stdout.contains(text), "{run}");
    }
    let run = scene.cli.run("quota --json").await;
    let rows = run.json()["quotas"].clone();
    assert_eq!(
        (run.code, &rows[0]["host"], &rows[0]["quota"]["remaining"]),
        (0, &"docker.io".into(), &42.into()),
        "{run}"
    );
    assert_eq!((&rows[0]["counted"], &rows[1]["quota"]), (&"192.0.2.1".into(), &().into()), "{run}");
}

/// The target answers 405 to every upload, like a read-only registry or a pull-through cache.
#[tokio::test]
async fn a_target_that_refuses_pushes_costs_no_pull_and_no_blob() {
    let scene = Limited::new(100).await;
    let mut entries = String::new();
    for n in 0..30 {
        let app = multi_platform(&format!("app{n}"), &["linux/amd64", "linux/arm64"]);
        scene.publish(&format!("library/app{n}"), "1", &app).await;
        entries.push_str(&format!("  - app{n}:1\n"));
    }
    scene.target.script.always("POST", "/blobs/uploads/", Fault::refuse(405, "UNSUPPORTED"));
    scene.list(0, &entries);
    let run = scene.cli.run("sync --json").await;
    assert_eq!((run.code, count(&run, "failed")), (1, 30), "{run}");
    assert_eq!((scene.hub.pulls().len(), scene.hub.blobs()), (0, 0), "{:?}", scene.hub.seen());
    assert_eq!(scene.target.script.count("POST", "/blobs/uploads/"), 1);
}

#[tokio::test]
async fn a_repository_that_refuses_pushes_is_tried_once_for_all_its_tags() {
    let scene = Limited::new(100).await;
    for n in 0..4 {
        scene.publish("library/app", &n.to_string(), &image(&format!("app{n}")).build()).await;
    }
    let good = image("good").build();
    scene.publish("library/good", "1", &good).await;
    scene.target.script.always("POST", "/library/app/blobs/uploads/", Fault::refuse(403, "DENIED"));
    scene.list(0, "  - {image: app, tags: [\"0\", \"1\", \"2\", \"3\"]}\n  - good:1\n");
    let run = scene.cli.run("sync --json").await;
    assert_eq!((run.code, count(&run, "failed"), count(&run, "copied")), (1, 4, 1), "{run}");
    assert_eq!(scene.hub.pulls().len(), 1, "{:?}", scene.hub.seen());
    assert_eq!(scene.target.script.count("POST", "/library/app/blobs/uploads/"), 1);
    good.assert_in(&scene.target.inside("mirror/library/good"), "1").await;
}

/// The upload that is opened to check for the permission to push isn't wasted.
#[tokio::test]
async fn the_first_opened_upload_receives_the_first_blob() {
    let scene = Limited::new(100).await;
    let app = image("app").build();
    scene.publish("library/app", "1", &app).await;
    scene.list(0, "  - app:1\n");
    let run = scene.cli.run("sync --json").await;
    assert_eq!(run.code, 0, "{run}");
    assert_eq!(
        scene.target.script.count("POST", "/blobs/uploads/"),
        app.blobs.len(),
        "{:?}",
        scene.target.script.lines()
    );
    assert_eq!(scene.target.script.count("DELETE", ""), 0);
}
