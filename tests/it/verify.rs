//! `verify`: a mirror compared with its lock: missing, moved, damaged and unknown content.

mod deep;
mod disk;
mod output;
mod referrers;
mod turns;

use serde_json::Value;

use crate::support::cli::Run;
use crate::support::gate::Gate;
use crate::support::images::{Image, image, multi_platform};
use crate::support::registry::Registry;
use crate::support::scene::{Scene, statuses};
use crate::support::script::Fault;

/// A handwritten lock with only pins.
#[derive(Default)]
struct Pins(String);

impl Pins {
    fn pin(self, source: &str, image: &Image) -> Self {
        let root = image.descriptor();
        let (digest, media_type, size) = (&root.digest, &root.media_type, root.size);
        self.line(&format!("- source: {source}"))
            .line(&format!("  digest: {digest}\n  media_type: {media_type}\n  size: {size}"))
    }

    /// Adds referrers of the last image, found by subject or under a tag.
    fn referrers(self, referrers: &[(&Image, Option<&str>)]) -> Self {
        referrers.iter().fold(self.line("  referrers:"), |pins, (referrer, tag)| {
            let of = referrer.descriptor();
            let pins = pins.line(&format!("  - digest: {}\n    media_type: {}", of.digest, of.media_type));
            tag.iter().fold(pins, |pins, tag| pins.line(&format!("    tag: {tag}")))
        })
    }

    fn line(mut self, line: &str) -> Self {
        self.0.push_str(line);
        self.0.push('\n');
        self
    }
}

impl Scene {
    /// mirror.yaml with these images, and a lock with these pins.
    fn mirror(&self, entries: &str, pins: &Pins) {
        self.list(entries);
        self.write("mirror.lock", &format!("version: 1\nimages:\n{}", pins.0));
        self.clear();
    }

    /// An image in the mirror.
    async fn mirrored(&self, name: &str, tag: &str, image: &Image) {
        image.push(&self.target.inside(&format!("mirror/{name}")), tag).await;
    }

    /// From now on the target answers that this path is unknown.
    fn delete(&self, path: &str) {
        for method in ["HEAD", "GET"] {
            self.target.script.always(method, path, Fault::refuse(404, "MANIFEST_UNKNOWN"));
        }
    }

    /// Runs `verify`, which must send no request to the sources.
    async fn verify(&self, flags: &str) -> Run {
        let run = self.cli.run(&format!("verify --json {flags}")).await;
        assert_eq!(self.source.script.lines(), Vec::<String>::new(), "{run}");
        run
    }

    /// The requests to the target, sorted: some are sent side by side.
    fn asked(&self) -> Vec<String> {
        let mut lines = self.target.script.lines();
        lines.sort();
        lines
    }

    /// Each difference as `TARGET WHAT EXPECTED FOUND`, with `DST` for the registry.
    fn differences(&self, run: &Run) -> Vec<String> {
        let report = run.json();
        let text = |value: &Value| value.as_str().unwrap_or("-").replace(self.target.name().as_str(), "DST");
        let line = |one: &Value| ["target", "what", "expected", "found"].map(|key| text(&one[key])).join(" ");
        report["differences"].as_array().unwrap_or_else(|| panic!("{run}")).iter().map(line).collect()
    }
}

fn reasons(run: &Run) -> Vec<String> {
    let report = run.json();
    let images = report["images"].as_array().expect("images");
    images.iter().map(|image| image["reason"].as_str().unwrap_or("-").to_owned()).collect()
}

/// Two images in one repository and one in another, all in the mirror.
async fn three() -> (Scene, [Image; 3]) {
    let scene = Scene::new().await;
    let images = ["app:1", "app:2", "db:1"].map(|name| image(name).build());
    let mut pins = Pins::default();
    for (name, tag, image) in [("app", "1", &images[0]), ("app", "2", &images[1]), ("db", "1", &images[2])] {
        scene.mirrored(name, tag, image).await;
        pins = pins.pin(&format!("SRC/{name}:{tag}"), image);
    }
    scene.mirror("  - {image: SRC/app, tags: [\"1\", \"2\"]}\n  - SRC/db:1\n", &pins);
    (scene, images)
}

#[tokio::test]
async fn verify_needs_no_secrets_of_sources() {
    let scene = Scene::new().await;
    scene.publish("app", "1").await;
    let list = "target: DST/m\nimages: [SRC/app:1]\n";
    scene.write("mirror.yaml", list);
    assert_eq!(scene.cli.run("sync").await.code, 0);
    let of = |host: &str| format!("{list}registries: {{\"{host}\": {{username: u, password: {{env: NOT_SET}}}}}}\n");
    scene.write("mirror.yaml", &of("SRC"));
    let run = scene.cli.run("verify --deep").await;
    assert_eq!(run.code, 0, "{run}");
    scene.write("mirror.yaml", &of("DST"));
    let run = scene.cli.run("verify").await;
    assert!(run.code == 2 && run.stderr.contains("NOT_SET isn't set"), "{run}");
}

#[tokio::test]
async fn an_intact_mirror_costs_one_head_per_tag() {
    let (scene, _) = three().await;
    let run = scene.verify("").await;
    assert_eq!((run.code, scene.differences(&run)), (0, Vec::new()), "{run}");
    assert_eq!(statuses(&run), ["up_to_date"; 3]);
    let heads = ["app/manifests/1", "app/manifests/2", "db/manifests/1"];
    assert_eq!(scene.asked(), heads.map(|path| format!("HEAD /v2/mirror/{path} 200")));

    scene.clear();
    assert_eq!(scene.verify("--only */db:*").await.code, 0);
    assert_eq!(scene.asked(), ["HEAD /v2/mirror/db/manifests/1 200"]);
    let none = scene.verify("--only nothing").await;
    assert_eq!((none.code, &none.json()["error"]["kind"]), (2, &"configuration".into()), "{none}");
}

#[tokio::test]
async fn deleted_and_moved_tags_are_found_without_requests_below_them() {
    let (scene, [first, second, _]) = three().await;
    scene.delete("/v2/mirror/app/manifests/1");
    let moved = image("moved").build();
    scene.mirrored("app", "2", &moved).await;
    for flags in ["", "--deep"] {
        let run = scene.verify(flags).await;
        let expected = [
            format!("DST/mirror/app:1 tag {} -", first.digest()),
            format!("DST/mirror/app:2 tag {} {}", second.digest(), moved.digest()),
        ];
        assert_eq!((run.code, scene.differences(&run)), (3, expected.to_vec()), "{run}");
        assert_eq!(statuses(&run), ["differs", "differs", "up_to_date"]);
        assert_eq!(reasons(&run), ["differs", "differs", "unchanged"]);
    }
    assert_eq!(scene.target.script.count("GET", "/v2/mirror/app/"), 0, "no request below them");
    assert_eq!(scene.target.script.count("HEAD", "/v2/mirror/app/"), 4);
}

#[tokio::test]
async fn a_tag_conflict_is_a_failure_and_not_a_difference() {
    let scene = Scene::new().await;
    let images = ["one", "two"].map(|name| image(name).build());
    for (name, image) in ["one", "two"].iter().zip(&images) {
        image.push(&scene.source.inside(name), "1").await;
    }
    scene.mirrored("app", "1", &images[0]).await;
    let entry = |name: &str| format!("  - {{image: SRC/{name}, select: {{latest: 1}}, to: app}}\n");
    scene.list(&[entry("one"), entry("two")].concat());
    let lock = scene.cli.run("lock").await;
    assert_eq!(lock.code, 0, "{lock}");
    scene.clear();
    let run = scene.verify("").await;
    assert_eq!(
        (run.code, statuses(&run), scene.differences(&run).len()),
        (1, vec!["up_to_date".into(), "conflict".into()], 0)
    );
    assert_eq!(run.json()["images"][1]["error"]["kind"], "conflict", "{run}");
}

#[tokio::test]
async fn a_kept_tag_is_not_a_difference() {
    let scene = Scene::new().await;
    scene.mirrored("app", "1", &image("theirs").build()).await;
    let pins = Pins::default().pin("SRC/app:1", &image("ours").build());
    scene.mirror("  - {image: \"SRC/app:1\", overwrite: keep}\n", &pins);
    let run = scene.verify("--deep").await;
    assert_eq!((run.code, statuses(&run), reasons(&run)), (0, vec!["skipped".into()], vec!["kept".into()]), "{run}");
    scene.delete("/v2/mirror/app/manifests/1");
    assert_eq!(scene.verify("").await.code, 3, "a missing tag isn't kept");
}

#[tokio::test]
async fn a_filtered_image_is_verified_by_its_target_digest() {
    let scene = Scene::new().await;
    let (whole, part) = (multi_platform("app", &["linux/amd64", "linux/arm64"]), image("app linux/amd64").build());
    scene.mirrored("app", "1", &part).await;
    let pins = Pins::default().pin("SRC/app:1", &whole).line(&format!("  mirrored: {}", part.digest()));
    scene.mirror("  - SRC/app:1\n", &pins);
    let run = scene.verify("--deep").await;
    assert_eq!(run.code, 0, "{run}");
    assert_eq!(run.json()["images"][0]["mirrored"], part.digest().as_str());
    scene.mirrored("app", "1", &whole).await;
    let run = scene.verify("").await;
    let expected = format!("DST/mirror/app:1 tag {} {}", part.digest(), whole.digest());
    assert_eq!((run.code, scene.differences(&run)), (3, vec![expected]), "{run}");
}

#[tokio::test]
async fn a_filtered_image_verifies_after_sync() {
    let scene = Scene::new().await;
    let app = multi_platform("app", &["linux/amd64", "linux/arm64", "linux/s390x"]);
    app.push(&scene.source.inside("app"), "1").await;
    scene.list("  - {image: \"SRC/app:1\", platforms: [linux/amd64, linux/arm64], referrers: none}\n");
    assert_eq!(scene.cli.run("sync").await.code, 0);
    scene.clear();
    let run = scene.verify("--content --extra").await;
    assert_eq!((run.code, statuses(&run)), (0, vec!["up_to_date".into()]), "{run}");
    assert_eq!(scene.target.script.count("GET", "/manifests/"), 3);
}

#[tokio::test]
async fn an_image_without_a_tag_is_verified_by_its_digest() {
    let scene = Scene::new().await;
    let app = image("app").build();
    app.try_push(&scene.target.inside("mirror/app"), None).await.expect("it is taken");
    let source = format!("SRC/app@{}", app.digest());
    scene.mirror(&format!("  - image: {source}\n"), &Pins::default().pin(&source, &app));
    assert_eq!(scene.verify("").await.code, 0);
    assert_eq!(scene.asked(), [format!("HEAD /v2/mirror/app/manifests/{} 200", app.digest())]);
    scene.delete("/manifests/");
    let run = scene.verify("").await;
    let expected = format!("DST/mirror/app@{0} manifest {0} -", app.digest());
    assert_eq!((run.code, scene.differences(&run)), (3, vec![expected]), "{run}");
}

#[tokio::test]
async fn extra_lists_tags_that_arent_in_the_lock() {
    let scene = Scene::new().await;
    let app = multi_platform("app", &["linux/amd64"]);
    let (stray, signature) = (image("stray").build(), image("signature").artifact("application/x").build());
    let own = app.children[0].digest().cosign_tags().next().expect("a tag").to_string();
    let foreign = stray.digest().cosign_tags().next().expect("a tag").to_string();
    let fallback = app.digest().referrers_tag().to_string();
    for (tag, image) in [("1", &app), ("2", &app), ("old", &stray)] {
        scene.mirrored("app", tag, image).await;
    }
    for tag in [&own, &foreign, &fallback] {
        scene.mirrored("app", tag, &signature).await;
    }
    let pins = Pins::default().pin("SRC/app:1", &app).pin("SRC/app:2", &app);
    scene.mirror("  - SRC/app:1\n  - SRC/app:2\n", &pins);
    assert_eq!(scene.verify("").await.code, 0);
    let old = format!("DST/mirror/app:old tag - {}", stray.digest());
    for flags in ["--extra", "--extra --only */app:1", "--extra --deep --only */app:1"] {
        let run = scene.verify(flags).await;
        assert_eq!((run.code, scene.differences(&run)), (3, vec![old.clone()]), "{flags}: {run}");
    }
    assert!(scene.verify("--extra").await.json()["differences"][0]["source"].as_str().unwrap().ends_with("/app"));
    let run = scene.verify("--extra --deep").await;
    let mut found = scene.differences(&run);
    found.sort();
    assert_eq!(found, [old, format!("DST/mirror/app:{foreign} tag - {}", signature.digest())], "{run}");
}

#[tokio::test]
async fn verify_without_a_lock_is_an_error() {
    let (scene, _) = three().await;
    std::fs::remove_file(scene.cli.path("mirror.lock")).expect("a lock");
    for (line, says) in [
        ("verify", "error: mirror.lock doesn't exist: nothing to compare with\nhint: pin"),
        ("verify --no-lock", "error: --no-lock: nothing to compare with\nhint: leave out"),
    ] {
        let run = scene.cli.run(line).await;
        assert_eq!((run.code, run.stdout.as_str()), (2, ""), "{run}");
        assert!(run.stderr.contains(says), "{run}");
    }
    assert_eq!(scene.asked(), Vec::<String>::new());
}

#[tokio::test]
async fn images_missing_in_the_lock_fail_and_images_missing_in_the_list_are_ignored() {
    let (scene, _) = three().await;
    scene.list("  - SRC/db:1\n  - SRC/new:1\n  - {image: SRC/some, select: {latest: 1}}\n");
    let run = scene.verify("").await;
    assert_eq!((run.code, scene.differences(&run)), (1, Vec::new()), "{run}");
    assert_eq!(statuses(&run), ["up_to_date", "failed", "failed"], "images removed from the list aren't looked up");
    let error = &run.json()["images"][1]["error"];
    assert_eq!((&error["stage"], &error["kind"]), (&"resolve".into(), &"not_found".into()));
    assert!(error["hint"].as_str().is_some_and(|hint| hint.contains("transship lock")), "{error}");
    assert_eq!(scene.asked(), ["HEAD /v2/mirror/db/manifests/1 200"]);
}

#[tokio::test]
async fn an_error_is_a_failure_and_not_a_difference() {
    let (scene, images) = three().await;
    scene.target.script.always("HEAD", "/v2/mirror/app/manifests/1", Fault::refuse(403, "DENIED"));
    scene.delete("/v2/mirror/app/manifests/2");
    let blob = images[2].blobs[0].digest();
    scene.target.script.always("HEAD", format!("/blobs/{blob}"), Fault::refuse(403, "DENIED"));
    let run = scene.verify("--deep --extra").await;
    assert_eq!((run.code, statuses(&run)), (1, ["failed", "differs", "failed"].map(String::from).to_vec()), "{run}");
    let expected = format!("DST/mirror/app:2 tag {} -", images[1].digest());
    assert_eq!(scene.differences(&run), [expected], "{run}");
    let report = run.json();
    let stages = [0, 2]
        .map(|at| (report["images"][at]["error"]["stage"].clone(), report["images"][at]["error"]["side"].clone()));
    assert_eq!(stages, [("plan".into(), "target".into()), ("verify".into(), "target".into())]);
}

#[tokio::test]
async fn each_target_has_separate_differences_and_an_unreachable_one_fails() {
    let (scene, [app, ..]) = three().await;
    let second = Registry::start().await;
    app.push(&second.inside("m/app"), "1").await;
    let list = |first: &str, second: &str| {
        let text = format!(
            "targets: [{first}, {second}]\nlayout: \"{{repository}}\"\nlimits: {{idle_timeout: 1s}}\nimages: [\"SRC/app:1\"]\n"
        );
        scene.write("mirror.yaml", &text);
    };
    list("DST/mirror", &format!("{}/m", second.name()));
    assert_eq!(scene.verify("").await.code, 0);
    scene.delete("/v2/mirror/app/manifests/1");
    let run = scene.verify("").await;
    assert_eq!(
        (run.code, scene.differences(&run).len(), reasons(&run)),
        (3, 1, vec!["differs".into(), "unchanged".into()])
    );
    list("127.0.0.1:1/m", &format!("{}/m", second.name()));
    let run = scene.verify("--deep").await;
    assert_eq!((run.code, statuses(&run)), (1, vec!["failed".into(), "up_to_date".into()]), "{run}");
    list("127.0.0.1:1/m", "127.0.0.1:1/n");
    let run = scene.verify("--extra").await;
    assert_eq!((run.code, statuses(&run)), (2, vec!["failed".into(), "failed".into()]), "{run}");
}

#[cfg(unix)]
#[tokio::test]
async fn an_interrupted_run_reports_its_results_so_far() {
    let (scene, images) = three().await;
    scene.delete("/v2/mirror/app/manifests/1");
    let gate = Gate::closed();
    scene.target.script.always(
        "GET",
        format!("/v2/mirror/db/manifests/{}", images[2].digest()),
        Fault::Wait(gate.clone()),
    );
    let run = scene.cli.interrupted("verify --json --deep", gate.reached(1)).await;
    assert_eq!(run.code, 130, "{run}");
    assert_eq!(run.json()["images"][2]["reason"], "interrupted", "{run}");
    assert_eq!(run.json()["images"][2]["status"], "skipped");
}
