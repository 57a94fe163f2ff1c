//! Proxy-cache projects: never a target, and a source that can't list referrers.

use serde_json::json;
use transship::oci::{Manifest, MediaType, Referrer, Selector};
use transship::store::Target as _;

use super::{ROBOT, SECRET, Scene};
use crate::support::cosign;
use crate::support::harbor::{Harbor, Project, Role};
use crate::support::images::{Image, image, multi_platform};
use crate::support::registry::Registry;
use crate::support::script::Fault;

/// `mirror` is a proxy cache of the source, so every image to be mirrored seems to exist there.
async fn as_target(role: Role) -> Scene {
    let scene = Scene::with(Harbor::start().await.account(ROBOT, SECRET, role)).await;
    let project = Project::proxy_of(&scene.source.name());
    scene.harbor.state.lock().projects.insert("mirror".into(), project);
    scene
}

#[tokio::test]
async fn no_command_accepts_a_proxy_cache_as_target() {
    let scene = as_target(Role::SystemRobot).await;
    scene.publish("app").await;
    multi_platform("index", &["linux/amd64", "linux/arm64"]).push(&scene.source.inside("index"), "1").await;
    scene.list(&["app:1", "index:1"], "");
    assert_eq!(scene.cli.run("lock").await.code, 0);
    let copy = format!("copy {}/app:1 {}/mirror/app --json", scene.source.name(), scene.harbor.name());
    for verb in ["plan --json", "sync --json", "verify --json", "verify --deep --json", "sync --dry-run --json", &copy]
    {
        let run = scene.cli.run(verb).await;
        assert_eq!(run.code, 1, "{run}");
        let report = run.json();
        let images = report["images"].as_array().unwrap();
        assert_eq!(images.len(), if verb.starts_with("copy") { 1 } else { 2 });
        for image in images {
            assert_eq!(image["error"]["kind"], "unsupported", "{run}");
            assert!(image["error"]["message"].as_str().unwrap().contains("proxy cache"), "{run}");
            assert!(image["error"]["hint"].as_str().unwrap().contains("another project"), "{run}");
        }
        assert_eq!(report["differences"].as_array().map_or(0, Vec::len), 0, "{run}");
    }
    let check = scene.cli.run("check --json").await;
    assert_eq!(check.code, 1, "{check}");
    assert!(check.stdout.contains("proxy cache"), "{check}");
    assert_eq!(scene.harbor.script.count("PUT", "/v2/"), 0);
}

#[tokio::test]
async fn without_access_to_the_api_blobs_show_what_the_cache_holds() {
    for (keeps, cached) in [(false, false), (false, true), (true, true)] {
        let scene = as_target(Role::SystemRobotOn("mirror")).await;
        let app = scene.publish("app").await;
        scene.list(&["app:1"], "");
        if cached {
            // A copy to another target leaves the manifest in the cache.
            let elsewhere = Registry::start().await;
            let copy = format!("copy {}/app:1 {}/app", scene.source.name(), elsewhere.name());
            assert_eq!(scene.cli.run(&copy).await.code, 0);
        }
        if keeps {
            scene.harbor.hold(&app, "mirror/app", "1").await;
        }
        // Without a lock, the run can't tell that nothing was mirrored there before. It resolves the tag, which seems
        // to exist.
        let sync = scene.cli.run("sync --no-lock --json").await;
        match (keeps, cached) {
            (false, true) => {
                assert_eq!(sync.code, 1, "{sync}");
                super::assert_error(&sync, "unsupported", "proxy cache", "another project");
            }
            (_, cached) => {
                assert_eq!(sync.code, 0, "{sync}");
                assert_eq!(sync.stderr.contains("can't determine whether project"), !cached, "{sync}");
            }
        }
    }
}

/// A first run isn't deceived by the cache's upstream: the cache lists no tag.
#[tokio::test]
async fn without_access_to_the_api_the_first_refusal_reveals_a_proxy_cache() {
    let scene = as_target(Role::SystemRobotOn("mirror")).await;
    scene.publish("app").await;
    scene.list(&["app:1"], "");
    let sync = scene.cli.run("sync --json").await;
    assert_eq!(sync.code, 1, "{sync}");
    super::assert_error(&sync, "unsupported", "proxy project", "another project");
}

#[tokio::test]
async fn an_up_to_date_run_requests_one_blob_and_no_api() {
    let scene = Scene::new().await;
    scene.publish("app").await;
    multi_platform("index", &["linux/amd64", "linux/arm64"]).push(&scene.source.inside("index"), "1").await;
    for name in ["app:1", "index:1"] {
        scene.list(&[name], "");
        assert_eq!(scene.cli.run("sync").await.code, 0);
        scene.clear();
        assert_eq!(scene.cli.run("sync").await.code, 0);
        assert_eq!((scene.api_calls(), scene.harbor.script.count("HEAD", "/blobs/")), (0, 1));
    }
    // Without a manifest cache no blob is known that could be looked up.
    scene.clear();
    assert_eq!(scene.cli.run("sync --no-cache").await.code, 0);
    assert_eq!((scene.api_calls(), scene.harbor.script.count("HEAD", "/blobs/")), (1, 0));
}

#[tokio::test]
async fn verify_needs_no_access_to_the_api() {
    // An anonymous reader of a public project, and a robot that may only pull and push.
    for (role, credentials) in [
        (Role::SystemRobot, "{plain_http: true"),
        (Role::SystemRobotOn("mirror"), "{username: {env: ROBOT}, password: {env: SECRET}"),
    ] {
        let project = Project { public: true, ..Project::default() };
        let scene = Scene::with(Harbor::start().await.account(ROBOT, SECRET, role).project("mirror", project)).await;
        scene.publish("app").await;
        scene.list(&["app:1"], "");
        assert_eq!(scene.cli.run("sync").await.code, 0);
        scene.list_as(credentials, &["app:1"], "");
        let verify = scene.cli.run("verify").await;
        assert_eq!((verify.code, verify.stderr.contains("unknown")), (0, false), "{verify}");
        let verify = scene.cli.run("verify --no-cache").await;
        assert_eq!((verify.code, verify.stderr.contains("can't determine whether project")), (0, true), "{verify}");
    }
}

/// The source's fallback index of `of`.
fn index_of(referrer: &Image) -> Manifest {
    let entries = [Referrer::entry(&referrer.manifest)];
    let index = json!({ "schemaVersion": 2, "mediaType": MediaType::OCI_INDEX, "manifests": entries });
    let bytes = index.to_string();
    let digest = transship::oci::Digest::of(bytes.as_bytes());
    Manifest::new(digest, Some(MediaType::OCI_INDEX), bytes.into()).unwrap()
}

#[tokio::test]
async fn as_a_source_the_fallback_tag_is_read_and_other_referrers_are_unknown() {
    for (is_proxy, has_index) in [(true, true), (true, false), (false, true), (false, false)] {
        let scene = Scene::new().await;
        let (app, target) = (image("app").build(), Registry::start().await);
        let bundle = cosign::bundle(app.descriptor());
        let (project, upstream) = match is_proxy {
            true => (Project::proxy_of(&scene.source.name()), scene.source.inside("team/app")),
            false => (Project::default(), scene.harbor.inside("hub/team/app")),
        };
        scene.harbor.state.lock().projects.insert("hub".into(), project);
        app.push(&upstream, "1").await;
        if has_index {
            // As at registries where clients keep the index: the API, if there is one, doesn't list it.
            bundle.try_push(&upstream, None).await.unwrap();
            let fallback = Selector::Tag(app.digest().referrers_tag());
            upstream.push_manifest(&index_of(&bundle), &fallback).await.unwrap();
            scene.harbor.script.always("GET", "/referrers/", empty_list());
        }
        let harbor = scene.harbor.name();
        let text = format!(
            "target: {}/mirror\nlayout: \"{{repository}}\"\nimages: [\"{harbor}/hub/team/app:1\"]\nregistries:\n  \
             \"{harbor}\": {{username: {{env: ROBOT}}, password: {{env: SECRET}}}}\n",
            target.name()
        );
        scene.cli.write("mirror.yaml", text);
        let sync = scene.cli.run("sync --json").await;
        assert_eq!(sync.code, 0, "{sync}");
        let here = target.inside("mirror/hub/team/app");
        app.assert_in(&here, "1").await;
        let rows = sync.json()["images"][0]["referrers"].as_array().unwrap().len();
        assert_eq!(rows, usize::from(has_index), "{sync}");
        assert_eq!(
            sync.stderr.matches("doesn't ask its upstream for referrers").count(),
            usize::from(is_proxy),
            "{sync}"
        );
    }
}

fn empty_list() -> Fault {
    let body = json!({ "schemaVersion": 2, "mediaType": MediaType::OCI_INDEX, "manifests": [] }).to_string();
    Fault::Answer { status: 200, headers: vec![("content-type", MediaType::OCI_INDEX.to_owned())], body }
}
