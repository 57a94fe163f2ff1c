//! Referrers that a target has accepted must be in its list of referrers.

use serde_json::{Value, json};
use transship::oci::{Digest, MediaType, Referrer};
use transship::serve::Options;
use transship::store::Source as _;

use crate::support::cli::Run;
use crate::support::cosign;
use crate::support::images::{Image, image, json_of, multi_platform};
use crate::support::registry::{Registry, Settings};
use crate::support::scene::Scene;
use crate::support::script::Fault;

async fn scene(target_has_api: bool) -> Scene {
    let options = Options { referrers: target_has_api, ..Options::default() };
    let target = Registry::with(Settings { options, ..Settings::default() }).await;
    Scene { target, ..Scene::new().await }
}

fn note(subject: &Image, seed: &str) -> Image {
    image(seed).artifact("application/x.note").layer(100).subject(subject.descriptor()).build()
}

/// A referrer that is an index.
fn whole(subject: &Image) -> Image {
    let members = json!({
        "schemaVersion": 2, "mediaType": MediaType::OCI_INDEX, "artifactType": "application/x.whole", "manifests": [],
        "subject": json_of(subject.descriptor()),
    });
    Image::of(MediaType::OCI_INDEX, members, Vec::new())
}

/// An answer of the referrers API that lists only `referrers`.
fn list(referrers: &[&Image]) -> Fault {
    let entries: Vec<Value> = referrers.iter().map(|referrer| Referrer::entry(&referrer.manifest)).collect();
    let index = json!({ "schemaVersion": 2, "mediaType": MediaType::OCI_INDEX, "manifests": entries });
    let headers = vec![("content-type", MediaType::OCI_INDEX.to_owned())];
    Fault::Answer { status: 200, headers, body: index.to_string() }
}

async fn publish(scene: &Scene, app: &Image, referrers: &[&Image]) {
    app.push(&scene.source.inside("app"), "1").await;
    for referrer in referrers {
        referrer.try_push(&scene.source.inside("app"), None).await.unwrap();
    }
}

/// The status and error of the row of each of `referrers`.
fn rows(run: &Run, referrers: &[&Image]) -> Vec<(String, Value)> {
    let report = run.json();
    let rows = report["images"][0]["referrers"].as_array().expect("referrers").clone();
    let row = |digest: &Digest| {
        let row = rows.iter().find(|row| row["digest"] == digest.as_str()).unwrap_or_else(|| panic!("{digest}: {run}"));
        (row["status"].as_str().unwrap().to_owned(), row["error"].clone())
    };
    referrers.iter().map(|referrer| row(referrer.digest())).collect()
}

fn words(rows: &[(String, Value)]) -> Vec<&str> {
    rows.iter().map(|(status, _)| status.as_str()).collect()
}

#[tokio::test]
async fn a_referrer_that_the_registry_loses_once_is_pushed_again() {
    // Of the root, and of its children, which exist by then.
    for of_root in [true, false] {
        for lost in 1..=3 {
            let scene = scene(true).await;
            let app = multi_platform("app", &["linux/amd64"]);
            let subject = if of_root { &app } else { &app.children[0] };
            let notes = ["a", "b", "c"].map(|seed| note(subject, seed));
            let notes: Vec<&Image> = notes.iter().collect();
            publish(&scene, &app, &notes).await;
            scene.target.script.once("GET", format!("/referrers/{}", subject.digest()), list(&notes[lost..]));
            scene.list("  - SRC/app:1\n");
            let run = scene.cli.run("sync --json").await;
            assert_eq!((run.code, words(&rows(&run, &notes))), (0, vec!["copied"; 3]), "{run}");
            let again = |note: &&&Image| scene.target.script.count("PUT", note.digest().as_str()) == 2;
            let expected = if of_root { 0 } else { lost };
            assert_eq!(notes.iter().filter(again).count(), expected, "{:?}", scene.target.script.lines());
            scene.assert_mirrored(&app, "app", "1").await;
            for (line, code) in [("plan --check", 0), ("verify", 0)] {
                assert_eq!(scene.cli.run(line).await.code, code, "{line}");
            }
        }
    }
}

#[tokio::test]
async fn a_never_listed_referrer_is_reported_by_all_commands_and_not_read_again() {
    for (policy, kept, code) in [("all", 1, 0), ("all", 0, 0), ("require", 1, 0), ("require", 0, 1)] {
        let scene = scene(true).await;
        let app = image("app").build();
        let notes = ["a", "b"].map(|seed| note(&app, seed));
        let notes: Vec<&Image> = notes.iter().collect();
        publish(&scene, &app, &notes).await;
        scene.target.script.always("GET", "/referrers/", list(&notes[..kept]));
        scene.list(&format!("  - {{image: SRC/app:1, referrers: {policy}}}\n"));
        let run = scene.cli.run("sync --json").await;
        let told = rows(&run, &notes);
        let mut expected = vec!["copied"; kept];
        expected.resize(2, "failed");
        assert_eq!((run.code, words(&told)), (code, expected), "{policy} {kept}: {run}");
        let error = &told[1].1;
        assert!(error["message"].as_str().unwrap().contains("doesn't list it"), "{error:#}");
        assert_eq!((&error["side"], &error["kind"]), (&"target".into(), &"unsupported".into()), "{error:#}");
        let has_tag = scene.target.inside("mirror/app").resolve(&crate::support::images::tagged("1")).await.is_ok();
        assert_eq!(has_tag, code == 0, "{policy} {kept}");
        if code == 1 {
            continue;
        }
        scene.clear();
        for (line, code) in [("plan --check", 3), ("verify", 3), ("sync", 0), ("plan --check", 3)] {
            let run = scene.cli.run(line).await;
            assert_eq!(run.code, code, "{line}: {run}");
        }
        assert_eq!(scene.source.script.lines(), Vec::<String>::new());
        // The list works again: missing entries are restored.
        scene.target.script.heal();
        for line in ["sync", "plan --check", "verify"] {
            assert_eq!(scene.cli.run(line).await.code, 0, "{line}");
        }
    }
}

#[tokio::test]
async fn if_the_registry_refuses_an_entry_the_others_are_listed() {
    for (status, code) in [(400, "MANIFEST_INVALID"), (404, "MANIFEST_UNKNOWN"), (422, "UNKNOWN"), (405, "UNSUPPORTED")]
    {
        let scene = scene(false).await;
        let app = multi_platform("app", &["linux/amd64"]);
        let (notes, index) = (["a", "b"].map(|seed| note(&app, seed)), whole(&app));
        let all = [&notes[0], &index, &notes[1]];
        publish(&scene, &app, &all).await;
        let says = format!(r#""digest":"{}""#, index.digest());
        let refuse = Fault::RefuseBody { says, status, code };
        scene.target.script.always("PUT", format!("/manifests/{}", app.digest().referrers_tag()), refuse);
        scene.list("  - SRC/app:1\n");
        let run = scene.cli.run("sync --json").await;
        let told = rows(&run, &all);
        assert_eq!((run.code, words(&told)), (0, vec!["copied", "failed", "copied"]), "{status}: {run}");
        let message = told[1].1["message"].as_str().unwrap().to_owned();
        assert!(message.contains(app.digest().referrers_tag().as_str()), "the whole tag: {message}");
        assert!(message.contains("index"), "{message}");
        let target = scene.target.inside("mirror/app");
        let listed = target.resolve(&app.digest().referrers_tag().into()).await.unwrap();
        let listed = Referrer::in_index(target.manifest(&listed.digest).await.unwrap().bytes()).unwrap();
        let mut listed: Vec<&Digest> = listed.iter().map(|one| &one.digest).collect();
        let mut expected = notes.each_ref().map(Image::digest).to_vec();
        listed.sort();
        expected.sort();
        assert_eq!(listed, expected, "{status}");
        scene.clear();
        for (line, code) in [("plan --check", 3), ("verify", 3), ("sync", 0), ("plan --check", 3)] {
            let run = scene.cli.run(line).await;
            assert_eq!(run.code, code, "{line}, {status}: {run}");
        }
        assert_eq!(scene.source.script.lines(), Vec::<String>::new(), "{status}");
    }
}

#[tokio::test]
async fn a_refused_fallback_index_fails_its_referrers_and_not_the_image() {
    let scene = scene(false).await;
    let app = image("app").build();
    let notes = ["a", "b"].map(|seed| note(&app, seed));
    let notes: Vec<&Image> = notes.iter().collect();
    publish(&scene, &app, &notes).await;
    scene.target.script.always("PUT", "/manifests/sha256-", Fault::refuse(400, "MANIFEST_INVALID"));
    scene.list("  - SRC/app:1\n");
    let run = scene.cli.run("sync --json").await;
    assert_eq!((run.code, words(&rows(&run, &notes))), (0, vec!["failed"; 2]), "{run}");
    scene.assert_mirrored(&app, "app", "1").await;
    scene.clear();
    let again = scene.cli.run("sync --json").await;
    assert_eq!((again.code, words(&rows(&again, &notes))), (0, vec!["failed"; 2]), "{again}");
    assert_eq!(scene.source.script.lines(), Vec::<String>::new());
}

#[tokio::test]
async fn a_registry_that_sends_oci_subject_without_the_api_gets_a_fallback_index() {
    let scene = scene(false).await;
    let app = multi_platform("app", &["linux/amd64"]);
    let note = note(&app.children[0], "a");
    publish(&scene, &app, &[&note]).await;
    let subject = app.children[0].digest();
    scene.target.script.always("PUT", note.digest().as_str(), Fault::Set("oci-subject", subject.to_string()));
    scene.list("  - SRC/app:1\n");
    for line in ["sync", "plan --check", "verify"] {
        let run = scene.cli.run(line).await;
        assert_eq!(run.code, 0, "{line}: {run}");
    }
    let target = scene.target.inside("mirror/app");
    let listed = target.resolve(&subject.referrers_tag().into()).await.unwrap();
    let listed = Referrer::in_index(target.manifest(&listed.digest).await.unwrap().bytes()).unwrap();
    assert_eq!(listed[0].digest, *note.digest());
}

#[tokio::test]
async fn a_hundred_referrers_are_verified_with_a_few_requests() {
    for has_api in [true, false] {
        let scene = scene(has_api).await;
        let app = image("app").build();
        let notes: Vec<Image> = (0..100).map(|number| note(&app, &number.to_string())).collect();
        publish(&scene, &app, &notes.iter().collect::<Vec<_>>()).await;
        scene.list("  - SRC/app:1\n");
        assert_eq!(scene.cli.run("sync").await.code, 0);
        scene.clear();
        let run = scene.cli.run("verify --json").await;
        assert_eq!(run.code, 0, "{run}");
        let asked = scene.target.script.lines();
        assert!(asked.len() <= 6, "{asked:?}");
    }
}

/// GHCR lists bundles by the type of their empty config.
#[tokio::test]
async fn the_type_of_an_empty_config_counts_as_no_artifact_type() {
    let options = Options { referrers: false, ..Options::default() };
    let source = Registry::with(Settings { options, ..Settings::default() }).await;
    let scene = Scene { source, ..Scene::new().await };
    let app = image("app").build();
    let (bundle, note) = (cosign::bundle(app.descriptor()), note(&app, "a"));
    publish(&scene, &app, &[&bundle, &note]).await;
    let empty = "application/vnd.oci.empty.v1+json";
    let entry = |image: &Image| {
        let mut entry = Referrer::entry(&image.manifest);
        entry["artifactType"] = empty.into();
        entry
    };
    let index =
        json!({ "schemaVersion": 2, "mediaType": MediaType::OCI_INDEX, "manifests": [entry(&bundle), entry(&note)] });
    let index = Image::of(MediaType::OCI_INDEX, index, Vec::new());
    index.push(&scene.source.inside("app"), app.digest().referrers_tag().as_str()).await;
    scene.list(&format!("  - {{image: SRC/app:1, referrers: require, artifact_types: [{}]}}\n", cosign::BUNDLE));
    let run = scene.cli.run("sync --json").await;
    assert_eq!((run.code, words(&rows(&run, &[&bundle]))), (0, vec!["copied"]), "{run}");
    let report = run.json();
    let rows = report["images"][0]["referrers"].as_array().unwrap();
    assert_eq!((rows.len(), &rows[0]["artifact_type"]), (1, &cosign::BUNDLE.into()), "{run}");
}
