//! Sources that list wrong or missing referrers, and targets that refuse them.

use serde_json::json;
use transship::oci::{Digest, MediaType, Referrer};
use transship::store::Source as _;

use crate::support::cli::Run;
use crate::support::cosign;
use crate::support::gate::Gate;
use crate::support::images::{Image, image, multi_platform, tagged};
use crate::support::scene::{Scene, statuses};
use crate::support::script::Fault;

/// An answer of the referrers API that lists these.
fn listing(referrers: &[&Image]) -> Fault {
    let entries: Vec<_> = referrers.iter().map(|image| Referrer::entry(&image.manifest)).collect();
    let body = json!({ "schemaVersion": 2, "mediaType": MediaType::OCI_INDEX, "manifests": entries }).to_string();
    Fault::Answer { status: 200, headers: vec![("content-type", MediaType::OCI_INDEX.into())], body }
}

/// The digest and status of each referrer of the first image.
fn rows(run: &Run) -> Vec<(String, String)> {
    let rows = run.json()["images"][0]["referrers"].clone();
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    rows.as_array().unwrap().iter().map(|row| (text(&row["digest"]), text(&row["status"]))).collect()
}

fn row(digest: &Digest, status: &str) -> (String, String) {
    (digest.to_string(), status.to_owned())
}

/// An image with a signature at the source.
async fn signed() -> (Scene, Image, Image) {
    let scene = Scene::new().await;
    let app = multi_platform("app", &["linux/amd64"]);
    app.push(&scene.source.inside("app"), "1").await;
    let signature = cosign::bundle(app.descriptor());
    signature.try_push(&scene.source.inside("app"), None).await.unwrap();
    scene.list("  - SRC/app:1\n");
    (scene, app, signature)
}

#[tokio::test]
async fn a_wrong_list_of_referrers_adds_nothing_and_ends() {
    let (scene, app, signature) = signed().await;
    let child = &app.children[0];
    let about_else = cosign::bundle(child.descriptor());
    about_else.try_push(&scene.source.inside("app"), None).await.unwrap();
    // It lists one referrer twice, a referrer of something else, the image itself, and a circle.
    let lies = [&signature, &about_else, &signature, &app];
    for subject in [&app, &signature, &about_else] {
        let path = format!("/referrers/{}", subject.digest());
        scene.source.script.always("GET", path, listing(&lies));
    }
    let run = scene.cli.run("sync --json").await;
    assert_eq!((run.code, statuses(&run)), (0, vec!["copied".to_owned()]), "{run}");
    let mut told = rows(&run);
    told.sort();
    // The child's signature is also listed for the child; the image is listed as a referrer of its signatures.
    let signatures = [&signature, &about_else].map(|image| row(image.digest(), "copied"));
    let mut wanted = [&signatures[..], &[row(app.digest(), "skipped")]].concat();
    wanted.sort();
    assert_eq!(told, wanted, "{run}");

    let (scene, app, _) = signed().await;
    scene.source.script.always("GET", format!("/referrers/{}", app.digest()), listing(&[&about_else]));
    about_else.try_push(&scene.source.inside("app"), None).await.unwrap();
    scene.source.script.always("GET", format!("/referrers/{}", child.digest()), listing(&[]));
    for (verb, status) in [("sync --json", "copied"), ("sync --locked --json", "up_to_date")] {
        let run = scene.cli.run(verb).await;
        assert_eq!((run.code, statuses(&run)), (0, vec![status.to_owned()]), "{run}");
        assert_eq!(rows(&run), [row(about_else.digest(), "skipped")]);
    }
    assert!(scene.target.inside("mirror/app").manifest(about_else.digest()).await.is_err());
}

#[tokio::test]
async fn a_referrer_refused_in_every_run_isnt_reported_as_copied() {
    let (scene, app, signature) = signed().await;
    let path = format!("/manifests/{}", signature.digest());
    scene.target.script.always("PUT", path, Fault::refuse(405, "UNSUPPORTED"));
    for (verb, status) in [("sync --json", "copied"), ("sync --locked --json", "up_to_date")] {
        let run = scene.cli.run(verb).await;
        assert_eq!((run.code, statuses(&run)), (0, vec![status.to_owned()]), "{run}");
        assert_eq!(rows(&run), [row(signature.digest(), "failed")]);
    }
    scene.assert_mirrored(&app, "app", "1").await;
    let run = scene.cli.run("sync").await;
    assert!(run.stdout.contains("up to date") && run.stdout.contains("exclude its type"), "{run}");
}

#[tokio::test]
async fn a_missing_or_too_large_referrer_fails_the_image_with_a_hint() {
    let (scene, app, signature) = signed().await;
    let path = format!("/manifests/{}", signature.digest());
    scene.source.script.always("GET", path, Fault::refuse(404, "MANIFEST_UNKNOWN"));
    let run = scene.cli.run("sync").await;
    assert_eq!(run.code, 1, "{run}");
    let said = format!(
        "as a referrer of {}, but doesn't have it: exclude its type with artifact_types:",
        app.digest().short()
    );
    assert!(run.stdout.contains(&said), "{run}");
    scene.source.script.heal();
    let large = image("large").artifact("application/x.large").annotation("x", &"x".repeat(5 << 20));
    let large = large.subject(app.descriptor()).build();
    large.try_push(&scene.source.inside("app"), None).await.unwrap();
    let run = scene.cli.run("sync --update").await;
    assert_eq!(run.code, 1, "{run}");
    assert!(run.stdout.contains("limits.manifest_size"), "{run}");
    assert!(scene.target.inside("mirror/app").resolve(&tagged("1")).await.is_err());
}

/// Signed after it was pinned: the lock doesn't have the signature.
#[tokio::test]
async fn an_image_that_was_signed_too_late_has_a_hint() {
    let scene = Scene::new().await;
    let app = scene.publish("app", "1").await;
    scene.list("  - {image: SRC/app:1, referrers: require}\n");
    assert_eq!(scene.cli.run("sync").await.code, 1);
    cosign::bundle(app.descriptor()).try_push(&scene.source.inside("app"), None).await.unwrap();
    let run = scene.cli.run("sync").await;
    assert_eq!(run.code, 1, "{run}");
    assert!(run.stdout.contains("`transship sync --update`"), "{run}");
    assert_eq!(scene.cli.run("sync --update").await.code, 0);
}

#[cfg(unix)]
#[tokio::test]
async fn a_run_interrupted_at_the_referrers_reports_it_and_the_next_completes_it() {
    let (scene, app, signature) = signed().await;
    let second = cosign::bundle(signature.descriptor());
    second.try_push(&scene.source.inside("app"), None).await.unwrap();
    let gate = Gate::closed();
    let path = format!("/manifests/{}", signature.digest());
    scene.target.script.once("PUT", path, Fault::Wait(gate.clone()));
    let run = scene.cli.interrupted("sync --json", gate.reached(1)).await;
    gate.open();
    assert_eq!((run.code, statuses(&run)), (130, vec!["skipped".to_owned()]), "{run}");
    assert!(scene.target.inside("mirror/app").resolve(&tagged("1")).await.is_err());
    let run = scene.cli.run("sync --json").await;
    assert_eq!((run.code, statuses(&run)), (0, vec!["copied".to_owned()]), "{run}");
    scene.assert_mirrored(&app, "app", "1").await;
    assert_eq!(rows(&run).len(), 2, "{run}");
}

/// A filtered image counts as signed only if its children are.
#[tokio::test]
async fn a_signed_platform_satisfies_require_for_a_filtered_image() {
    let scene = Scene::new().await;
    let app = multi_platform("app", &["linux/amd64", "linux/arm64"]);
    let inside = scene.source.inside("app");
    app.push(&inside, "1").await;
    for subject in [&app, &app.children[1]] {
        cosign::bundle(subject.descriptor()).try_push(&inside, None).await.unwrap();
    }
    for (platform, code) in [("linux/amd64", 1), ("linux/arm64", 0)] {
        scene.list(&format!("  - {{image: SRC/app:1, referrers: require, platforms: [{platform}]}}\n"));
        let run = scene.cli.run("sync --json").await;
        assert_eq!(run.code, code, "{platform}: {run}");
        let arrived: Vec<_> = rows(&run).into_iter().map(|(_, status)| status).collect();
        assert_eq!(arrived, vec!["copied"; 1 - code as usize], "{run}");
        assert_eq!(run.stdout.contains("referrers of the whole image don't cover a subset"), code == 1, "{run}");
    }
}

/// A referrer that is also listed as an image with a tag: it is copied for both.
#[tokio::test]
async fn a_referrer_can_also_be_mirrored_as_a_tagged_image() {
    let (scene, app, signature) = signed().await;
    signature.push(&scene.source.inside("app"), "signature").await;
    scene.list("  - SRC/app:1\n  - SRC/app:signature\n");
    let run = scene.cli.run("sync --json").await;
    assert_eq!(statuses(&run), ["copied"; 2], "{run}");
    scene.assert_mirrored(&app, "app", "1").await;
    scene.assert_mirrored(&signature, "app", "signature").await;
    assert_eq!(statuses(&scene.cli.run("sync --locked --json").await), ["up_to_date"; 2]);
}

/// Both forms, at a target that refuses a second push to a tag.
#[tokio::test]
async fn with_immutable_tags_a_second_signature_is_refused_and_reported() {
    let (scene, app, _) = signed().await;
    let tag = cosign::signature(app.digest()).0;
    image("one").build().push(&scene.source.inside("app"), &tag).await;
    assert_eq!(scene.cli.run("sync").await.code, 0);
    image("two").build().push(&scene.source.inside("app"), &tag).await;
    scene.target.script.always("PUT", format!("/manifests/{tag}"), Fault::refuse(409, "TAG_ALREADY_EXISTS"));
    let run = scene.cli.run("sync --update").await;
    assert_eq!(run.code, 0, "{run}");
    assert!(run.stdout.contains("exempt sha256-* from that"), "{run}");
}
