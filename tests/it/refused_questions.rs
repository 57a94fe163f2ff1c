//! Registries that refuse optional lookups: images are mirrored from and to them nevertheless.

use serde_json::Value;
use transship::oci::Selector;
use transship::store::Source as _;

use crate::support::cli::Run;
use crate::support::cosign;
use crate::support::images::{image, multi_platform};
use crate::support::registry::{Registry, Settings};
use crate::support::scene::{Scene, statuses};
use crate::support::script::Fault;
use crate::support::tokens::Tokens;

/// The statuses of refusals. 500 stands for those that are retried first.
const REFUSALS: [(u16, &str); 11] = [
    (400, "UNSUPPORTED"),
    (401, "UNAUTHORIZED"),
    (403, "DENIED"),
    (403, "UNKNOWN"),
    (404, "NAME_UNKNOWN"),
    (405, "UNSUPPORTED"),
    (406, "UNKNOWN"),
    (415, "UNSUPPORTED"),
    (422, "UNKNOWN"),
    (500, "UNKNOWN"),
    (501, "UNSUPPORTED"),
];

/// The statuses with which a registry may refuse all lookups.
const STATUSES: [u16; 5] = [401, 403, 404, 405, 501];

/// Makes `registry` serve only GETs of manifests and blobs.
fn only_gives(registry: &Registry, status: u16) {
    let refuse = || Fault::refuse(status, "UNSUPPORTED");
    registry.script.always("HEAD", "/", refuse());
    registry.script.always("GET", "/tags/list", refuse());
    registry.script.always("GET", "/referrers/", refuse());
}

/// Makes `registry` accept only uploads and manifests.
fn only_takes(registry: &Registry, status: u16) {
    let refuse = || Fault::refuse(status, "UNSUPPORTED");
    registry.script.always("HEAD", "/", refuse());
    registry.script.always("GET", "/v2/mirror/", refuse());
    registry.script.always("POST", "mount=", refuse());
}

/// The statuses of the referrers of the first image.
fn rows(run: &Run) -> Vec<String> {
    let report = run.json();
    let rows = report["images"][0]["referrers"].as_array().expect("referrers").clone();
    rows.iter().map(|row| row["status"].as_str().expect("a status").to_owned()).collect()
}

fn warnings(run: &Run) -> usize {
    run.stderr.matches("can't tell whether its images have referrers").count()
}

#[tokio::test]
async fn a_read_only_source_is_mirrored_to_a_push_only_target() {
    for status in STATUSES {
        for policy in ["none", "all", "require"] {
            let scene = Scene::new().await;
            let app = multi_platform("app", &["linux/amd64", "linux/arm64"]);
            let tool = image("tool").layer(2000).build();
            app.push(&scene.source.inside("app"), "1").await;
            for tag in ["1", "2"] {
                tool.push(&scene.source.inside("app"), &format!("tool-{tag}")).await;
            }
            only_gives(&scene.source, status);
            only_takes(&scene.target, status);
            scene.list(&format!("  - {{image: SRC/app, tags: [\"1\", tool-1, tool-2], referrers: {policy}}}\n"));
            let run = scene.cli.run("sync --json").await;
            let told = format!("{status}, {policy}: {run}");
            if policy == "require" {
                assert_eq!(run.code, 1, "{told}");
                let error = run.json()["images"][0]["error"].clone();
                assert!(error["hint"].as_str().unwrap().contains("referrers: none"), "{told}");
                continue;
            }
            assert_eq!((run.code, statuses(&run)), (0, vec!["copied".to_owned(); 3]), "{told}");
            scene.assert_mirrored(&app, "app", "1").await;
            scene.assert_mirrored(&tool, "app", "tool-2").await;
            let unknown = if policy == "all" { vec!["unknown".to_owned()] } else { Vec::new() };
            assert_eq!((rows(&run), warnings(&run)), (unknown, usize::from(policy == "all")), "{told}");
            // Blobs that the target doesn't confirm are sent again, and cached manifests aren't read from the source.
            scene.clear();
            let again = scene.cli.run("sync --json").await;
            assert_eq!((again.code, statuses(&again)), (0, vec!["copied".to_owned(); 3]), "{status}: {again}");
        }
    }
}

#[tokio::test]
async fn if_a_target_refuses_lookups_the_push_decides() {
    let questions: [&[(&str, &str)]; 5] = [
        &[("HEAD", "/manifests/")],
        &[("HEAD", "/manifests/"), ("GET", "/manifests/")],
        &[("HEAD", "/blobs/")],
        &[("GET", "/tags/list"), ("GET", "/referrers/")],
        &[("POST", "mount=")],
    ];
    for (asked, (status, code)) in questions.iter().flat_map(|asked| REFUSALS.map(|refusal| (asked, refusal))) {
        let scene = Scene::new().await;
        let images = ["a", "b"].map(|name| image(name).shared_layer("base", 3000).build());
        for (name, image) in ["a", "b"].iter().zip(&images) {
            image.push(&scene.source.inside(name), "1").await;
        }
        let signature = cosign::bundle(images[0].descriptor());
        signature.try_push(&scene.source.inside("a"), None).await.unwrap();
        // The repository has content, so that there is something to look up.
        image("old").build().push(&scene.target.inside("mirror/a"), "1").await;
        for (method, path) in *asked {
            scene.target.script.always(method, *path, Fault::refuse(status, code));
        }
        scene.list("  - SRC/a:1\n  - SRC/b:1\n");
        let run = scene.cli.run("sync --json").await;
        assert_eq!((run.code, statuses(&run)), (0, vec!["copied".to_owned(); 2]), "{asked:?} {status}: {run}");
        for (name, image) in ["a", "b"].iter().zip(&images) {
            scene.assert_mirrored(image, name, "1").await;
        }
        assert_eq!(rows(&run), ["copied"], "{asked:?} {status}: {run}");
    }
}

#[tokio::test]
async fn the_error_of_the_push_is_reported() {
    for status in [401, 403, 404] {
        let scene = Scene::new().await;
        scene.publish("app", "1").await;
        only_takes(&scene.target, status);
        scene.target.script.always("POST", "/blobs/uploads/", Fault::refuse(403, "DENIED"));
        scene.list("  - SRC/app:1\n");
        let run = scene.cli.run("sync --json").await;
        assert_eq!(run.code, 1, "{run}");
        let error = run.json()["images"][0]["error"].clone();
        assert_eq!(
            (&error["stage"], &error["kind"], &error["side"]),
            (&"copy".into(), &"denied".into(), &"target".into())
        );
        assert!(error["message"].as_str().unwrap().starts_with("open an upload"), "{error:#}");
    }
}

#[tokio::test]
async fn without_overwrite_the_digest_of_the_tag_has_to_be_known() {
    for overwrite in ["false", "keep"] {
        let scene = Scene::new().await;
        scene.publish("app", "1").await;
        only_takes(&scene.target, 403);
        scene.list(&format!("  - {{image: SRC/app:1, overwrite: {overwrite}}}\n"));
        let run = scene.cli.run("sync --json").await;
        assert_eq!(run.code, 1, "{run}");
        assert!(run.json()["images"][0]["error"]["hint"].as_str().unwrap().contains("overwrite: true"), "{run}");
        assert_eq!(scene.target.script.count("PUT", "/"), 0);
    }
}

#[tokio::test]
async fn a_blob_is_sent_if_its_lookup_is_redirected_astray() {
    // The storage URL is signed for GET; the length is missing; the location is invalid.
    let storage = Registry::start().await;
    storage.script.always("HEAD", "/signed", Fault::refuse(403, "SignatureDoesNotMatch"));
    let answers = [
        Fault::redirect(307, format!("http://{}/signed?for=GET", storage.name())),
        Fault::Strip("content-length"),
        Fault::Set("content-length", "0".into()),
        Fault::redirect(307, "http://"),
        Fault::Answer { status: 200, headers: Vec::new(), body: String::new() },
    ];
    for fault in answers {
        let scene = Scene::new().await;
        let app = scene.publish("app", "1").await;
        image("old").build().push(&scene.target.inside("mirror/app"), "old").await;
        scene.target.script.always("HEAD", "/blobs/", fault.clone());
        scene.list("  - SRC/app:1\n");
        let run = scene.cli.run("sync --json").await;
        assert_eq!(run.code, 0, "{fault:?}: {run}");
        scene.assert_mirrored(&app, "app", "1").await;
    }
}

#[tokio::test]
async fn a_failed_mount_becomes_an_upload() {
    let nowhere =
        |status| Fault::Answer { status, headers: vec![("location", "/v2/nowhere".into())], body: String::new() };
    let mut answers: Vec<Fault> = REFUSALS.iter().map(|(status, code)| Fault::refuse(*status, code)).collect();
    answers.extend([200, 204, 301, 302, 303, 307].map(nowhere));
    answers.extend([200, 202, 204].map(|status| Fault::Answer { status, headers: Vec::new(), body: String::new() }));
    answers.push(Fault::html(200));
    for fault in answers {
        let scene = Scene::new().await;
        let images = ["a", "b"].map(|name| image(name).shared_layer("base", 3000).build());
        for (name, image) in ["a", "b"].iter().zip(&images) {
            image.push(&scene.source.inside(name), "1").await;
        }
        scene.target.script.always("POST", "mount=", fault.clone());
        scene.list("  - SRC/a:1\n  - SRC/b:1\n");
        let run = scene.cli.run("sync --json").await;
        assert_eq!(run.code, 0, "{fault:?}: {run}");
        for (name, image) in ["a", "b"].iter().zip(&images) {
            scene.assert_mirrored(image, name, "1").await;
        }
        // Once for each blob at most.
        assert!(scene.target.script.count("POST", "mount=") <= 1, "{:?}", scene.target.script.lines());
    }
}

/// A target that issues tokens to this user, and its entry in mirror.yaml.
async fn with_login(password: &str) -> (Scene, String) {
    let tokens = Tokens::new().user("me", "right");
    let target = Registry::with(Settings { tokens: Some(tokens), ..Settings::default() }).await;
    let scene = Scene { target, ..Scene::new().await };
    scene.publish("app", "1").await;
    scene.cli.write("password", password);
    let login = "registries:\n  DST: {username: me, password: {file: ./password}}\n";
    scene.list(&format!("  - {{image: SRC/app:1, referrers: none}}\n{login}"));
    (scene, login.to_owned())
}

#[tokio::test]
async fn a_token_service_may_refuse_to_read_a_repository_before_it_is_created() {
    for status in [401, 403] {
        let (scene, _) = with_login("right").await;
        let script = &scene.target.script;
        script.always("GET", "pull%2Cpush", Fault::Strip("x-none"));
        script.always("GET", "scope=", Fault::refuse(status, "DENIED"));
        let run = scene.cli.run("sync --json").await;
        assert_eq!((run.code, statuses(&run)), (0, vec!["copied".to_owned()]), "{status}: {run}");
    }
}

#[tokio::test]
async fn a_wrong_login_costs_no_pull() {
    let (scene, _) = with_login("wrong").await;
    scene.cli.run("lock").await;
    scene.clear();
    let run = scene.cli.run("sync --json --no-cache").await;
    assert_eq!(run.json()["images"][0]["error"]["kind"], "unauthorized", "{run}");
    assert_eq!(scene.source.script.reads(), 0, "{:?}", scene.source.script.lines());
}

/// The lookups of referrers that a source refuses, its other answers, and the outcome of the image.
#[tokio::test]
async fn a_source_that_refuses_to_list_referrers() {
    let tags = ("GET", "/tags/list");
    let api = ("GET", "/referrers/");
    let (head, get) = (("HEAD", "/manifests/sha256-"), ("GET", "/manifests/sha256-"));
    // The refused requests; whether further referrers may exist.
    let cases: [(&[(&'static str, &'static str)], bool); 6] = [
        (&[api], true),
        (&[api, tags], true),
        (&[api, head], true),
        (&[api, head, get], true),
        (&[head, get], false),
        (&[head, get, tags], true),
    ];
    for ((refused, open), (status, code)) in
        cases.iter().flat_map(|case| [(401, "UNAUTHORIZED"), (403, "DENIED")].map(|r| (case, r)))
    {
        let scene = Scene::new().await;
        let app = image("app").layer(500).build();
        app.push(&scene.source.inside("app"), "1").await;
        for (method, path) in *refused {
            scene.source.script.always(method, *path, Fault::refuse(status, code));
        }
        let told = format!("{refused:?} {status}");
        for (policy, expected) in [("all", 0), ("none", 0), ("require", 1)] {
            let list = format!("  - {{image: SRC/app:1, referrers: {policy}, to: {policy}}}\n");
            scene.list(&list);
            let run = scene.cli.run("sync --json --no-lock").await;
            assert_eq!(run.code, expected, "{told}, {policy}: {run}");
            let unknown = *open && policy == "all";
            assert_eq!(warnings(&run), usize::from(unknown), "{told}, {policy}: {run}");
            match policy {
                "require" if *open => {
                    let hint = run.json()["images"][0]["error"]["hint"].clone();
                    assert!(hint.as_str().unwrap().contains("referrers: none"), "{told}: {run}");
                }
                "require" => {}
                _ => assert_eq!(rows(&run), vec!["unknown"; usize::from(unknown)], "{told}, {policy}: {run}"),
            }
        }
    }
}

/// If one lookup is refused, the others find nothing.
#[tokio::test]
async fn referrers_found_by_other_means_are_mirrored() {
    for status in [401, 403] {
        let scene = Scene::new().await;
        let app = image("app").layer(500).build();
        app.push(&scene.source.inside("app"), "1").await;
        let (tag, signature) = cosign::signature(app.digest());
        signature.push(&scene.source.inside("app"), &tag).await;
        scene.source.script.always("GET", "/referrers/", Fault::refuse(status, "DENIED"));
        scene.list("  - {image: SRC/app:1, referrers: require}\n");
        let run = scene.cli.run("sync --json").await;
        assert_eq!((run.code, rows(&run)), (0, vec!["copied".to_owned(), "unknown".to_owned()]), "{run}");
        let there = scene.target.inside("mirror/app").resolve(&Selector::Tag(tag.parse().unwrap())).await.unwrap();
        assert_eq!(there.digest, *signature.digest());
        // An update keeps a locked referrer whose lookup is refused.
        scene.source.script.always("HEAD", "/manifests/sha256-", Fault::refuse(status, "DENIED"));
        scene.source.script.always("GET", "/manifests/sha256-", Fault::refuse(status, "DENIED"));
        let again = scene.cli.run("sync --update --json").await;
        assert_eq!(again.code, 0, "{again}");
        assert!(scene.cli.read("mirror.lock").unwrap().contains(signature.digest().as_str()), "{again}");
    }
}

/// One warning per repository, for any number of images.
#[tokio::test]
async fn each_repository_gets_one_warning() {
    let scene = Scene::new().await;
    for name in ["a", "b"] {
        for tag in ["1", "2", "3"] {
            multi_platform(&format!("{name}{tag}"), &["linux/amd64"]).push(&scene.source.inside(name), tag).await;
        }
    }
    scene.source.script.always("GET", "/referrers/", Fault::refuse(403, "DENIED"));
    scene.list("  - {image: SRC/a, tags: [\"1\", \"2\", \"3\"]}\n  - {image: SRC/b, tags: [\"1\", \"2\", \"3\"]}\n");
    let run = scene.cli.run("sync --json").await;
    assert_eq!((run.code, warnings(&run)), (0, 2), "{run}");
    let report = run.json();
    let unknown =
        |image: &&Value| image["referrers"][0]["status"] == "unknown" && image["referrers"][0]["digest"].is_null();
    assert_eq!(report["images"].as_array().unwrap().iter().filter(unknown).count(), 6, "{run}");
}
