//! `platforms`: images filtered by platform, with the same digest everywhere.

use serde_json::Value;
use transship::oci::{Digest, Edge, Selector};
use transship::store::Source as _;

use crate::support::cli::Run;
use crate::support::images::{Image, image, index, multi_platform, tagged};
use crate::support::scene::{Scene, statuses};
use crate::support::script::Fault;

/// Two attested platforms, a third one, and a child without platform.
fn app() -> Image {
    let of = |platform: &str| image(&format!("app {platform}")).platform(platform).build();
    index()
        .child("linux/amd64", of("linux/amd64"))
        .attested()
        .child("linux/arm64", of("linux/arm64"))
        .attested()
        .child("linux/arm/v7", of("linux/arm/v7"))
        .nested(image("for no platform").build())
        .annotation("org.example", "kept as it is")
        .build()
}

fn digest(value: &Value) -> Digest {
    value.as_str().unwrap_or_else(|| panic!("{value} is no digest")).parse().expect("a digest")
}

/// The first image of a report: its digest and that at the target.
fn both(run: &Run) -> (Digest, Digest) {
    let image = &run.json()["images"][0];
    (digest(&image["digest"]), digest(&image["mirrored"]))
}

impl Scene {
    /// One image, `SRC/app:1`, for these platforms, without referrers.
    fn only(&self, platforms: &str) {
        self.list(&format!("  - {{image: 'SRC/app:1', platforms: [{platforms}], referrers: none}}\n"));
    }

    async fn publish_app(&self, app: &Image) {
        app.push(&self.source.inside("app"), "1").await;
    }

    /// Fails unless the tag at the target is an index of exactly these children, with their content.
    async fn assert_holds(&self, mirrored: &Digest, children: &[&Image]) {
        let target = self.target.inside("mirror/app");
        assert_eq!(target.resolve(&tagged("1")).await.expect("a tag").digest, *mirrored);
        let root = target.manifest(mirrored).await.expect("the index");
        let found: Vec<_> = root.successors().iter().map(Edge::descriptor).collect();
        let expected: Vec<_> = children.iter().map(|child| child.descriptor()).collect();
        assert_eq!(found, expected);
        for child in children {
            for blob in child.blobs() {
                assert_eq!(target.blob_size(blob.digest()).await.expect("an answer"), Some(blob.descriptor.size));
            }
            target.manifest(child.digest()).await.expect("a child");
        }
    }
}

#[tokio::test]
async fn a_filtered_image_keeps_its_attestations_and_both_digests_are_reported() {
    let scene = Scene::new().await;
    let app = app();
    scene.publish_app(&app).await;
    scene.only("linux/amd64");
    let sync = scene.cli.run("sync --json").await;
    assert_eq!((sync.code, statuses(&sync)), (0, vec!["copied".to_owned()]), "{sync}");
    let (source, mirrored) = both(&sync);
    assert_eq!(source, *app.digest());
    scene.assert_holds(&mirrored, &[&app.children[0], &app.children[1]]).await;
    let target = scene.target.inside("mirror/app");
    for left_out in &app.children[2..] {
        assert!(target.resolve(&Selector::Digest(left_out.digest().clone())).await.is_err());
        assert_eq!(target.blob_size(left_out.blobs[1].digest()).await.expect("an answer"), None);
        assert_eq!(scene.source.script.count("GET", &format!("/v2/app/manifests/{}", left_out.digest())), 0);
    }
    let nameless = app.children[5].digest().as_str();
    assert!(sync.stderr.contains(nameless), "what is for no platform is dropped by name: {sync}");
    assert!(!sync.stderr.contains(app.children[3].digest().as_str()), "{sync}");
    let lock = scene.cli.read("mirror.lock").expect("a lock");
    for line in ["- linux/amd64", &format!("digest: {source}"), &format!("mirrored: {mirrored}")] {
        assert!(lock.contains(line), "{lock}");
    }

    // With the lock, the source gets no request, and the target one HEAD.
    for line in ["sync --json", "sync --locked --json"] {
        scene.clear();
        let again = scene.cli.run(line).await;
        assert_eq!(statuses(&again), ["up_to_date"]);
        assert_eq!(both(&again), (source.clone(), mirrored.clone()));
        assert_eq!(scene.source.script.lines(), Vec::<String>::new());
        assert_eq!(scene.target.script.lines(), ["HEAD /v2/mirror/app/manifests/1 200"]);
    }
    let shown = scene.cli.run("sync -v").await;
    assert!(shown.stdout.contains(&format!("{}, mirrored as {}", source.short(), mirrored.short())), "{shown}");
    assert_eq!(scene.cli.read("mirror.lock").as_deref(), Some(lock.as_str()));
}

#[tokio::test]
async fn a_filtered_image_has_the_same_digest_from_every_host_and_in_every_run() {
    let (one, other) = (Scene::new().await, Scene::new().await);
    let mut found = Vec::new();
    for (scene, platforms) in [(&one, "linux/arm64, linux/arm/v7"), (&other, "linux/arm/v7, linux/arm64/v8")] {
        scene.publish_app(&app()).await;
        scene.only(platforms);
        found.push(both(&scene.cli.run("sync --json").await));
        found.push(both(&scene.cli.run("sync --json --no-lock").await));
    }
    assert!(found.iter().all(|both| *both == found[0]), "{found:?}");
    // Never change it: users' locks contain it.
    let expected = "sha256:803603e9a9c7454fbf22deaf3f15724479fe4bd2395546c0dad8ee322b57e136";
    assert_eq!(found[0].1.as_str(), expected);
}

#[tokio::test]
async fn a_filter_that_matches_everything_keeps_the_original_index() {
    let scene = Scene::new().await;
    let app = multi_platform("app", &["linux/amd64", "linux/arm64"]);
    scene.publish_app(&app).await;
    scene.only("linux/arm64, linux/amd64");
    let sync = scene.cli.run("sync --json").await;
    assert_eq!((statuses(&sync), &sync.json()["images"][0]["mirrored"]), (vec!["copied".into()], &Value::Null));
    scene.assert_mirrored(&app, "app", "1").await;
}

#[tokio::test]
async fn no_match_is_an_error_with_the_available_platforms_and_a_partial_match_is_a_warning() {
    let scene = Scene::new().await;
    let app = app();
    scene.publish_app(&app).await;
    scene.publish("other", "1").await;
    scene.list("  - {image: 'SRC/app:1', platforms: [linux/s390x, linux/riscv64]}\n  - SRC/other:1\n");
    let sync = scene.cli.run("sync --json").await;
    assert_eq!((sync.code, statuses(&sync)), (1, vec!["failed".into(), "copied".into()]), "{sync}");
    let error = &sync.json()["images"][0]["error"];
    let message = error["message"].as_str().expect("a message");
    let says = "it has no linux/riscv64, linux/s390x: it has linux/amd64, linux/arm64, linux/arm/v7";
    assert!(message.contains(says), "{message}");
    assert_eq!((&error["stage"], &error["side"]), (&"resolve".into(), &"source".into()));
    assert!(error["hint"].as_str().is_some_and(|hint| hint.contains("platforms")), "{error}");
    assert!(!scene.cli.read("mirror.lock").expect("a lock").contains("app:1"));
    assert!(scene.target.inside("mirror/app").resolve(&tagged("1")).await.is_err());

    scene.only("linux/s390x, linux/arm");
    let sync = scene.cli.run("sync --json").await;
    assert_eq!(statuses(&sync), ["copied"], "{sync}");
    assert!(sync.stderr.contains("has no linux/s390x"), "{sync}");
    scene.assert_holds(&both(&sync).1, &[&app.children[4]]).await;
}

#[tokio::test]
async fn a_single_image_is_copied_if_its_platform_matches() {
    let scene = Scene::new().await;
    let single = image("single").platform("linux/arm64").build();
    scene.publish_app(&single).await;
    scene.only("linux/amd64, linux/arm64/v8");
    let sync = scene.cli.run("sync --json").await;
    assert_eq!((statuses(&sync), &sync.json()["images"][0]["mirrored"]), (vec!["copied".into()], &Value::Null));
    scene.assert_mirrored(&single, "app", "1").await;
    let config = format!("/v2/app/blobs/{}", single.blobs[0].digest());
    let lie = r#"{"os":"linux","architecture":"amd64"}"#.to_owned();
    scene.source.script.once("GET", config, Fault::Answer { status: 200, headers: Vec::new(), body: lie });
    scene.only("linux/amd64");
    let sync = scene.cli.run("sync --json --no-cache").await;
    assert_eq!(
        sync.json()["images"][0]["error"]["kind"],
        "mismatch",
        "what a config says is believed by its digest: {sync}"
    );

    let artifact = image("artifact").artifact("application/vnd.example.sbom.v1").build();
    let bare = image("bare").without_config().build();
    for (image, says) in [
        (&single, "it has no linux/amd64: it has linux/arm64"),
        (&artifact, "without a platform"),
        (&bare, "without a platform"),
    ] {
        scene.publish_app(image).await;
        scene.only("linux/amd64");
        let sync = scene.cli.run("sync").await;
        assert_eq!(sync.code, 1, "{sync}");
        assert!(sync.stdout.contains(says) && sync.stdout.contains("hint: "), "{sync}");
    }
}

#[tokio::test]
async fn a_new_index_with_the_same_filtered_content_moves_the_pin_and_pushes_nothing() {
    let scene = Scene::new().await;
    let of =
        |arm: &str| index().child("linux/amd64", image("amd").build()).child("linux/arm64", image(arm).build()).build();
    let (old, new) = (of("arm"), of("arm moved"));
    scene.publish_app(&old).await;
    scene.only("linux/amd64");
    let first = both(&scene.cli.run("sync --json").await);

    // An equal digest means equal content: it isn't read again.
    scene.clear();
    assert_eq!(statuses(&scene.cli.run("sync --update --json").await), ["up_to_date"]);
    assert_eq!(scene.source.script.lines(), ["HEAD /v2/app/manifests/1 200"]);

    scene.publish_app(&new).await;
    let check = scene.cli.run("lock --check").await;
    assert_eq!(check.code, 3, "{check}");
    scene.clear();
    let update = scene.cli.run("sync --update --json").await;
    assert_eq!((update.code, statuses(&update)), (0, vec!["up_to_date".to_owned()]), "{update}");
    assert_eq!(both(&update), (new.digest().clone(), first.1));
    assert_eq!(scene.source.script.lines().len(), 1, "a HEAD of the tag: the check has read the index");
    assert_eq!(scene.target.script.lines(), ["HEAD /v2/mirror/app/manifests/1 200"]);
    assert!(scene.cli.read("mirror.lock").expect("a lock").contains(new.digest().as_str()));
    assert_eq!(scene.cli.run("sync --locked").await.code, 0);
}

#[tokio::test]
async fn several_filters_of_one_image_have_separate_pins_and_errors() {
    let scene = Scene::new().await;
    let app = app();
    scene.publish_app(&app).await;
    let entry = |platform: &str| format!("  - {{image: 'SRC/app:1', platforms: [linux/{platform}], to: {platform}}}\n");
    scene.list(&(entry("amd64") + &entry("s390x") + &entry("arm64")));
    let sync = scene.cli.run("sync --json").await;
    assert_eq!(statuses(&sync), ["copied", "failed", "copied"], "{sync}");
    let lock = scene.cli.read("mirror.lock").expect("a lock");
    assert_eq!(lock.matches("app:1").count(), 2, "{lock}");
    for (name, child) in [("amd64", 0), ("arm64", 2)] {
        let target = scene.target.inside(&format!("mirror/{name}"));
        target.manifest(app.children[child].digest()).await.expect("the child");
    }
    let locked = scene.cli.run("sync --locked").await;
    assert!(locked.code == 2 && locked.stderr.contains("app:1 for linux/s390x"), "{locked}");
    let plan = scene.cli.run("plan --json --only *app*").await;
    let actions: Vec<_> = plan.json()["images"].as_array().unwrap().iter().map(|i| i["action"].clone()).collect();
    assert_eq!(actions, ["none", "none", "none"], "{plan}");
    assert_eq!(plan.json()["images"][1]["error"]["kind"], "not_found", "{plan}");
}

#[tokio::test]
async fn a_plan_counts_only_the_filtered_content_and_warns_of_signatures() {
    let scene = Scene::new().await;
    let app = app();
    scene.publish_app(&app).await;
    scene.list("  - {image: 'SRC/app:1', platforms: [linux/amd64]}\n");
    let plan = scene.cli.run("plan --bytes --json").await;
    let bytes: u64 = app.children[..2].iter().flat_map(Image::blobs).map(|blob| blob.descriptor.size).sum();
    assert_eq!(plan.json()["images"][0]["bytes"]["copied"], bytes, "{plan}");
    assert_ne!(plan.json()["images"][0]["mirrored"], Value::Null);
    let warning = "signatures of the whole image don't cover it";
    assert_eq!(plan.stderr.matches(warning).count(), 1, "{plan}");
    scene.only("linux/amd64");
    assert!(!scene.cli.run("plan").await.stderr.contains(warning));
}

#[tokio::test]
async fn copy_accepts_platforms() {
    let scene = Scene::new().await;
    let app = app();
    scene.publish_app(&app).await;
    let line =
        |text: &str| text.replace("SRC", scene.source.name().as_str()).replace("DST", scene.target.name().as_str());
    let copy = "copy SRC/app:1 DST/mirror/app --platform linux/arm/v7 --platform linux/amd64";
    let copy = scene.cli.run(&line(&format!("{copy} --json"))).await;
    assert_eq!((copy.code, statuses(&copy)), (0, vec!["copied".to_owned()]), "{copy}");
    let (source, mirrored) = both(&copy);
    assert_eq!(source, *app.digest());
    scene.assert_holds(&mirrored, &[&app.children[0], &app.children[1], &app.children[4]]).await;
    let none = scene.cli.run(&line("copy SRC/app:1 DST/mirror/none --platform linux/s390x")).await;
    assert!(none.code == 1 && none.stdout.contains("it has linux/amd64, linux/arm64, linux/arm/v7"), "{none}");
    assert!(none.stdout.contains("app:1"), "the image is named as it was asked for: {none}");
}

#[tokio::test]
async fn a_wrong_target_digest_in_the_lock_is_an_error() {
    let scene = Scene::new().await;
    scene.publish_app(&app()).await;
    scene.only("linux/amd64");
    assert_eq!(scene.cli.run("lock").await.code, 0);
    let lock = scene.cli.read("mirror.lock").expect("a lock");
    let mirrored = lock.lines().find_map(|line| line.trim().strip_prefix("mirrored: ")).expect("the digest");
    let other = Digest::of(b"something else");
    scene.cli.write("mirror.lock", lock.replace(mirrored, other.as_str()));
    let sync = scene.cli.run("sync --json").await;
    assert_eq!(statuses(&sync), ["failed"], "{sync}");
    let error = &sync.json()["images"][0]["error"];
    assert_eq!(error["kind"], "mismatch", "{error}");
    assert!(error["message"].as_str().is_some_and(|text| text.contains(mirrored) && text.contains(other.as_str())));
    assert!(scene.target.inside("mirror/app").resolve(&tagged("1")).await.is_err());
}

#[tokio::test]
async fn a_filtered_image_at_the_target_only_gets_another_tag() {
    let scene = Scene::new().await;
    let app = app();
    scene.publish_app(&app).await;
    app.push(&scene.source.inside("app"), "1.0").await;
    scene.only("linux/amd64");
    let mirrored = both(&scene.cli.run("sync --json").await).1;
    scene.list("  - {image: SRC/app, tags: ['1', '1.0'], platforms: [linux/amd64], referrers: none}\n");
    scene.clear();
    assert_eq!(statuses(&scene.cli.run("sync --json").await), ["up_to_date", "copied"]);
    let written: Vec<_> = scene.target.script.lines().into_iter().filter(|line| !line.starts_with("HEAD ")).collect();
    assert_eq!(written, ["PUT /v2/mirror/app/manifests/1.0 201"]);
    let target = scene.target.inside("mirror/app");
    assert_eq!(target.resolve(&tagged("1.0")).await.expect("a tag").digest, mirrored);
}

#[tokio::test]
async fn each_tag_of_a_filtered_selection_has_a_pin() {
    let scene = Scene::new().await;
    for tag in ["1", "2"] {
        app().push(&scene.source.inside("app"), tag).await;
    }
    scene.list("  - {image: SRC/app, select: {latest: 2}, platforms: [linux/arm64]}\n");
    let sync = scene.cli.run("sync --json").await;
    assert_eq!(statuses(&sync), ["copied", "copied"], "{sync}");
    let lock = scene.cli.read("mirror.lock").expect("a lock");
    assert_eq!((lock.matches("- linux/arm64").count(), lock.matches("mirrored: ").count()), (2, 2), "{lock}");
    // The tags can't be listed any more: both pins stay, and both images are reported as failed.
    scene.source.script.always("GET", "/tags/list", Fault::refuse(403, "DENIED"));
    let update = scene.cli.run("sync --update --json").await;
    assert_eq!((update.code, statuses(&update)), (1, vec!["failed".to_owned(); 2]), "{update}");
    assert_eq!(update.json()["images"][0]["error"]["kind"], "denied", "{update}");
    assert_eq!(scene.cli.read("mirror.lock").as_deref(), Some(lock.as_str()));
}
