//! Signatures added at the mirror: the `.sig` there holds the source's signatures and further ones.

use serde_json::Value;

use crate::support::cli::Run;
use crate::support::cosign;
use crate::support::images::{Image, image};
use crate::support::scene::{Scene, statuses};

/// An image that was mirrored with its signature, and signed again at the mirror; returns the signature there.
async fn resigned(overwrite: &str) -> (Scene, Image, String, Image, Image) {
    let scene = Scene::new().await;
    let app = scene.publish("app", "1").await;
    let (tag, upstream) = cosign::signature(app.digest());
    upstream.push(&scene.source.inside("app"), &tag).await;
    scene.list(&format!("  - {{image: \"SRC/app:1\", overwrite: {overwrite}}}\n"));
    let run = scene.cli.run("sync").await;
    assert_eq!(run.code, 0, "{run}");
    scene.assert_mirrored(&upstream, "app", &tag).await;
    let both = image("both signatures").build();
    both.push(&scene.target.inside("mirror/app"), &tag).await;
    scene.clear();
    (scene, app, tag, upstream, both)
}

/// The only referrer of the only image.
fn row(run: &Run) -> Value {
    let report = run.json();
    let rows = report["images"][0]["referrers"].as_array().unwrap().clone();
    assert_eq!(rows.len(), 1, "{run}");
    rows[0].clone()
}

#[tokio::test]
async fn keep_leaves_the_signature_and_later_runs_do_nothing() {
    let (scene, app, tag, _, both) = resigned("keep").await;
    for line in ["plan --check", "sync --json", "sync --locked --json", "verify --json", "verify --deep --extra --json"]
    {
        let run = scene.cli.run(line).await;
        assert_eq!(run.code, 0, "{line}: {run}");
        assert!(!run.stderr.contains("WARN"), "{line}: {run}");
        if line.ends_with("--json") {
            assert_eq!(statuses(&run), ["up_to_date"], "{line}: {run}");
        }
        if line.starts_with("sync") {
            assert_eq!((&row(&run)["status"], &row(&run)["error"]), (&"skipped".into(), &Value::Null), "{run}");
        }
    }
    assert_eq!(scene.source.script.lines(), Vec::<String>::new());
    assert_eq!(scene.target.script.count("PUT", ""), 0);
    let update = scene.cli.run("sync --update --json").await;
    assert_eq!((update.code, &row(&update)["status"]), (0, &"skipped".into()), "{update}");
    scene.assert_mirrored(&both, "app", &tag).await;

    // A new image under the tag comes with a new signature, to which nothing was added yet.
    let next = image("next").build();
    let (next_tag, signature) = cosign::signature(next.digest());
    next.push(&scene.source.inside("app"), "1").await;
    signature.push(&scene.source.inside("app"), &next_tag).await;
    scene.target.script.clear();
    scene.list("  - {image: \"SRC/app:1\", to: other, overwrite: keep}\n");
    let run = scene.cli.run("sync --update --json").await;
    assert_eq!((run.code, &row(&run)["status"]), (0, &"copied".into()), "{run}");
    scene.assert_mirrored(&next, "other", "1").await;
    scene.assert_mirrored(&signature, "other", &next_tag).await;
    scene.assert_mirrored(&app, "app", "1").await;
}

#[tokio::test]
async fn with_keep_a_missing_signature_is_copied() {
    let (scene, app, ..) = resigned("keep").await;
    let (tag, attestation) = cosign::attestation(app.digest());
    attestation.push(&scene.source.inside("app"), &tag).await;
    assert_eq!(scene.cli.run("update").await.code, 0);
    let run = scene.cli.run("verify --json").await;
    let differences = run.json()["differences"].clone();
    assert_eq!((run.code, differences.as_array().unwrap().len()), (3, 1), "{run}");
    assert_eq!((&differences[0]["what"], &differences[0]["found"]), (&"referrer".into(), &Value::Null), "{run}");
}

#[tokio::test]
async fn false_is_a_conflict_for_the_signature_and_not_for_the_image() {
    let (scene, app, tag, _, both) = resigned("false").await;
    for _ in 0..2 {
        let run = scene.cli.run("sync --json").await;
        assert_eq!((run.code, statuses(&run)), (0, vec!["up_to_date".into()]), "{run}");
        let (row, error) = (row(&run), row(&run)["error"].clone());
        assert_eq!((&row["status"], &error["kind"]), (&"failed".into(), &"conflict".into()), "{run}");
        assert_eq!((&error["side"], &error["stage"]), (&"target".into(), &"copy".into()), "{run}");
    }
    let text = scene.cli.run("sync").await;
    assert!(text.stdout.contains("hint: remove the tag at the target, or set overwrite: true or keep"), "{text}");
    assert_eq!(scene.source.script.lines(), Vec::<String>::new());
    assert_eq!(scene.cli.run("verify").await.code, 3);
    scene.assert_mirrored(&both, "app", &tag).await;
    scene.assert_mirrored(&app, "app", "1").await;
}

#[tokio::test]
async fn true_replaces_the_signature_with_a_hint_how_to_keep_it() {
    let (scene, _, tag, upstream, both) = resigned("true").await;
    let run = scene.cli.run("sync --json").await;
    assert_eq!((run.code, &row(&run)["status"]), (0, &"copied".into()), "{run}");
    let warnings: Vec<&str> = run.stderr.lines().filter(|line| line.contains("overwrite: keep")).collect();
    assert_eq!(warnings.len(), 1, "{run}");
    for named in [tag.as_str(), both.digest().as_str(), upstream.digest().as_str()] {
        assert!(warnings[0].contains(named), "{named}: {run}");
    }
    scene.assert_mirrored(&upstream, "app", &tag).await;
    let again = scene.cli.run("sync --json").await;
    assert!(!again.stderr.contains("overwrite: keep"), "{again}");
}
