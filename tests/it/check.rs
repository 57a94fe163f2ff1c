//! `check`: the permissions that can be proved before anything is copied, and that nothing stays behind.

use serde_json::{Value, json};

use crate::support::cli::{Cli, Run};
use crate::support::docker_registry::{self, DockerRegistry};
use crate::support::http;
use crate::support::images::image;
use crate::support::registry::{Registry, Settings};
use crate::support::script::Fault;
use crate::support::tokens::Tokens;

struct Scene {
    source: Registry,
    target: Registry,
    cli: Cli,
}

impl Scene {
    async fn new(source: Settings, target: Settings) -> Self {
        let source = Registry::with(source).await;
        image("app").build().push(&source.inside("app"), "1").await;
        let (target, cli) = (Registry::with(target).await, Cli::new());
        let scene = Self { source, target, cli };
        scene.list("  - SRC/app:1\n", "");
        scene
    }

    fn list(&self, entries: &str, more: &str) {
        let text = format!("target: DST/m\nlayout: \"{{repository}}\"\nimages:\n{entries}{more}");
        let text = text.replace("SRC", self.source.name().as_str()).replace("DST", self.target.name().as_str());
        self.cli.write("mirror.yaml", text);
    }
}

/// Each check as `HOST REPOSITORY ACTION OK`, with `SRC` and `DST` for the registries.
fn checks(scene: &Scene, run: &Run) -> Vec<String> {
    let report = run.json();
    let checks = report["checks"].as_array().unwrap_or_else(|| panic!("{run}"));
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let line = |check: &Value| {
        let host = text(&check["host"]);
        let host = host.replace(scene.source.name().as_str(), "SRC").replace(scene.target.name().as_str(), "DST");
        format!("{host} {} {} {}", text(&check["repository"]), text(&check["action"]), check["ok"])
    };
    let mut lines: Vec<_> = checks.iter().map(line).collect();
    lines.sort();
    lines
}

#[tokio::test]
async fn check_proves_every_permission_and_leaves_nothing_behind() {
    let scene = Scene::new(Settings::default(), Settings::default()).await;
    let run = scene.cli.run("check --json").await;
    assert_eq!(run.code, 0, "{run}");
    let all = [
        "DST - connect true",
        "DST - login true",
        "DST m/app pull true",
        "DST m/app push true",
        "SRC - connect true",
        "SRC - login true",
        "SRC app pull true",
    ];
    assert_eq!(checks(&scene, &run), all);
    assert!(scene.cli.read("mirror.lock").is_none(), "it writes no lock");
    let asked = scene.source.script.lines();
    let (first, rest) = asked.split_at(2);
    assert_eq!(first, ["GET /v2/ 200", "HEAD /v2/app/manifests/1 200"]);
    // The lookups of blobs and of referrers, in each form.
    for words in ["GET /v2/app/blobs/", "GET /v2/app/referrers/", ".sig 404", ".att 404", ".sbom 404"] {
        assert!(rest.iter().any(|line| line.contains(words)), "{words}: {asked:?}");
    }
    let asked = scene.target.script.lines();
    assert!(asked.last().is_some_and(|last| last.starts_with("DELETE /v2/m/app/blobs/uploads/")), "{asked:?}");
}

#[tokio::test]
async fn check_requests_the_pinned_digests() {
    let scene = Scene::new(Settings::default(), Settings::default()).await;
    assert_eq!(scene.cli.run("lock").await.code, 0);
    image("moved").build().push(&scene.source.inside("app"), "1").await;
    scene.source.script.clear();
    assert_eq!(scene.cli.run("check -q").await.code, 0);
    let asked = scene.source.script.lines();
    assert!(asked[1].starts_with("HEAD /v2/app/manifests/sha256:"), "{asked:?}");
}

#[tokio::test]
async fn a_wrong_password_is_found_also_where_anonymous_pulls_work() {
    // Anonymous reads work here, and a request for a token with a scope gets an anonymous one.
    let tokens = Tokens::new().user("me", "right").public();
    let scene = Scene::new(Settings { tokens: Some(tokens), ..Settings::default() }, Settings::default()).await;
    let more = "registries:\n  SRC: {username: me, password: {file: ./password}}\n";
    scene.list("  - SRC/app:1\n", more);
    for (password, code, ok) in [("right\n", 0, json!(true)), ("wrong\n", 1, json!(false))] {
        scene.cli.write("password", password);
        let run = scene.cli.run("check --json").await;
        assert_eq!(run.code, code, "{run}");
        let report = run.json();
        let login = report["checks"]
            .as_array()
            .unwrap()
            .iter()
            .find(|check| check["action"] == "login" && check["host"] == scene.source.name().as_str());
        assert_eq!(login.unwrap()["ok"], ok, "{run}");
    }
}

#[tokio::test]
async fn a_missing_push_permission_is_reported_before_any_upload() {
    let scene = Scene::new(Settings::default(), Settings { strict: true, ..Settings::default() }).await;
    let run = scene.cli.run("check --json").await;
    assert_eq!(run.code, 1, "{run}");
    let report = run.json();
    let push = report["checks"].as_array().unwrap().iter().find(|check| check["action"] == "push").unwrap();
    assert_eq!((&push["ok"], &push["kind"]), (&json!(false), &json!("not_found")), "{run}");
    assert!(push["hint"].is_string(), "{run}");
}

#[tokio::test]
async fn an_unreachable_host_is_reported_on_one_line() {
    let scene = Scene::new(Settings::default(), Settings::default()).await;
    scene.list("  - SRC/app:1\n  - SRC/gone:1\n  - 127.0.0.1:1/a:1\n  - 127.0.0.1:1/b:1\n", "");
    let run = scene.cli.run("check --json").await;
    assert_eq!(run.code, 1, "{run}");
    let failed: Vec<_> = checks(&scene, &run).into_iter().filter(|line| line.ends_with("false")).collect();
    assert_eq!(failed, ["127.0.0.1:1 - connect false", "SRC gone pull false"]);
    assert_eq!(scene.cli.run("check --only */app:*").await.code, 0);
    assert_eq!(scene.cli.run("check --only nothing").await.code, 2);
}

#[tokio::test]
async fn an_unverifiable_permission_is_not_a_failure() {
    let scene = Scene::new(Settings::default(), Settings::default()).await;
    scene.list("  - {image: SRC/app, select: {latest: 1}}\n", "");
    let run = scene.cli.run("check --json").await;
    assert_eq!(run.code, 0, "{run}");
    assert!(checks(&scene, &run).contains(&"SRC app pull null".to_owned()), "{run}");
    assert!(!scene.source.script.lines().iter().any(|line| line.contains("tags/list")), "it resolves nothing");
}

#[tokio::test]
async fn a_request_to_a_failing_server_is_retried() {
    let scene = Scene::new(Settings::default(), Settings::default()).await;
    scene.source.script.once("GET", "/v2/", Fault::refuse(503, "UNAVAILABLE"));
    assert_eq!(scene.cli.run("check").await.code, 0);
}

/// A fault of a registry, and whether a run succeeds despite it: `check` reports the same beforehand.
#[tokio::test]
async fn check_and_sync_agree() {
    let refuse = |status, code| Fault::refuse(status, code);
    let nowhere = || Fault::Answer {
        status: 202,
        headers: vec![("location", "http://127.0.0.1:1/upload".into())],
        body: String::new(),
    };
    let astray = || Fault::redirect(307, "http://169.254.169.254/blob");
    let source: [(&'static str, &str, Fault); 13] = [
        ("HEAD", "/manifests/", refuse(401, "UNAUTHORIZED")),
        ("HEAD", "/manifests/", refuse(403, "DENIED")),
        ("HEAD", "/manifests/", refuse(404, "NAME_UNKNOWN")),
        ("HEAD", "/manifests/", refuse(405, "UNSUPPORTED")),
        ("GET", "/manifests/", refuse(403, "DENIED")),
        ("GET", "/blobs/", refuse(403, "DENIED")),
        ("GET", "/blobs/", refuse(404, "BLOB_UNKNOWN")),
        ("GET", "/blobs/", astray()),
        ("GET", "/referrers/", refuse(401, "UNAUTHORIZED")),
        ("GET", "/referrers/", refuse(403, "DENIED")),
        ("GET", "/referrers/", refuse(404, "UNKNOWN")),
        ("GET", "/referrers/", Fault::html(200)),
        ("GET", "/tags/list", refuse(403, "DENIED")),
    ];
    let target: [(&'static str, &str, Fault); 12] = [
        ("HEAD", "/manifests/", refuse(401, "UNAUTHORIZED")),
        ("HEAD", "/manifests/", refuse(403, "DENIED")),
        ("HEAD", "/manifests/", refuse(405, "UNSUPPORTED")),
        ("HEAD", "/manifests/", refuse(501, "UNSUPPORTED")),
        ("HEAD", "/blobs/", refuse(403, "DENIED")),
        ("GET", "/tags/list", refuse(403, "DENIED")),
        ("POST", "/blobs/uploads/", refuse(401, "UNAUTHORIZED")),
        ("POST", "/blobs/uploads/", refuse(403, "DENIED")),
        ("POST", "/blobs/uploads/", refuse(404, "NAME_UNKNOWN")),
        ("POST", "/blobs/uploads/", refuse(405, "UNSUPPORTED")),
        ("POST", "/blobs/uploads/", nowhere()),
        ("DELETE", "/blobs/uploads/", refuse(405, "UNSUPPORTED")),
    ];
    let at_source = source.into_iter().map(|case| (true, case));
    let cases: Vec<_> = at_source.chain(target.into_iter().map(|case| (false, case))).collect();
    for policy in ["all", "none", "require"] {
        for (is_source, (method, path, fault)) in &cases {
            if policy != "all" && !(*is_source && *path == "/referrers/") {
                continue;
            }
            let scene = Scene::new(Settings::default(), Settings::default()).await;
            scene.list(&format!("  - {{image: SRC/app:1, referrers: {policy}}}\n"), "limits: {max_wait: 1s}\n");
            let script = if *is_source { &scene.source.script } else { &scene.target.script };
            script.always(method, *path, fault.clone());
            let check = scene.cli.run("check --json").await;
            let sync = scene.cli.run("sync --json").await;
            let case = format!("{policy}, {is_source}, {method} {path} {fault:?}");
            // If no target answers, a run ends with 2.
            assert_eq!(check.code == 0, sync.code == 0, "{case}: {check} {sync}");
        }
    }
}

#[tokio::test]
async fn an_upload_location_at_an_unreachable_host_is_found() {
    let scene = Scene::new(Settings::default(), Settings::default()).await;
    let headers = vec![("location", "http://127.0.0.1:1/upload".into())];
    scene.target.script.always("POST", "/blobs/uploads/", Fault::Answer { status: 202, headers, body: String::new() });
    let run = scene.cli.run("check --json").await;
    assert_eq!(run.code, 1, "{run}");
    let report = run.json();
    let push = report["checks"].as_array().unwrap().iter().find(|check| check["action"] == "push").unwrap();
    assert_eq!(push["ok"], json!(false), "{run}");
    assert!(push["message"].as_str().unwrap().contains("127.0.0.1:1"), "{run}");
}

#[tokio::test]
async fn check_leaves_no_trace_in_docker_registry() {
    let Some(target) = DockerRegistry::with(docker_registry::Settings::default()) else { return };
    let source = Registry::start().await;
    image("app").build().push(&source.inside("app"), "1").await;
    let list = format!("target: {}/m\nimages: [\"{}/app:1\"]\n", target.name(), source.name());
    let cli = Cli::new().file("mirror.yaml", list);
    let run = cli.run("check").await;
    assert_eq!(run.code, 0, "{run}");
    let catalog = http::ask(&source, &format!("GET http://{}/v2/_catalog", target.name()), &[], "").await;
    assert_eq!((catalog.status, catalog.json()), (200, json!({ "repositories": [] })));
}
