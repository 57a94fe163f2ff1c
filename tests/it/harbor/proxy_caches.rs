//! `proxy_caches`: projects that cache another registry; sync creates them with their endpoints.

use serde_json::{Value, json};

use super::{ROBOT, SECRET, Scene};
use crate::support::cli::Run;
use crate::support::harbor::{Endpoint, Harbor, Project, Role};

/// The permissions that a robot needs to create them.
const RIGHTS: [&str; 5] =
    ["project: create", "registry: list", "registry: create", "registry: read", "metadata: update"];

async fn entitled(rights: &[&'static str]) -> Scene {
    let harbor = Harbor::start().await.account(ROBOT, SECRET, Role::SystemRobot);
    Scene::with(rights.iter().fold(harbor, |harbor, right| harbor.grant(ROBOT, right))).await
}

impl Scene {
    /// mirror.yaml with a proxy cache of the source.
    fn list_cached(&self, images: &[&str]) {
        let caches = format!("[{{project: hub, upstream: \"{}\", public: true}}]", self.source.name());
        self.list(images, &format!(", harbor: {{proxy_caches: {caches}}}"));
    }

    fn endpoint(&self, id: u64, url: &str) {
        let endpoint = Endpoint { name: format!("made-{id}"), kind: "docker-registry".into(), url: url.into() };
        self.harbor.state.lock().endpoints.insert(id, endpoint);
    }

    /// The URL of the source's endpoint.
    fn source_url(&self) -> String {
        format!("http://{}", self.source.name())
    }

    fn hub(&self) -> Option<Project> {
        self.harbor.state.lock().projects.get("hub").cloned()
    }

    /// The number of creations and changes through the API.
    fn api_writes(&self) -> usize {
        ["POST", "PUT"].iter().map(|method| self.harbor.script.count(method, "/api/")).sum()
    }
}

fn row(run: &Run) -> Value {
    run.json()["proxy_caches"][0].clone()
}

#[tokio::test]
async fn sync_creates_the_endpoint_and_project_and_plan_announces_them() {
    let scene = entitled(&RIGHTS).await;
    scene.publish("app").await;
    scene.list_cached(&["app:1"]);
    let (target, upstream) = (format!("{}/hub", scene.harbor.name()), scene.source.name().to_string());
    let expected = json!({ "target": target, "upstream": upstream, "created": true, "changes": [], "error": null });

    let plan = scene.cli.run("plan --json --check").await;
    assert_eq!((plan.code, row(&plan)), (3, expected.clone()), "{plan}");
    let dry = scene.cli.run("sync --dry-run --json").await;
    assert_eq!((dry.code, row(&dry)), (0, expected.clone()), "{dry}");
    assert_eq!(scene.api_writes(), 0, "{:#?}", scene.harbor.script.lines());
    let plan = scene.cli.run("plan").await;
    assert!(plan.stdout.contains(&format!("create      {target}  proxy cache of {upstream}\n")), "{plan}");

    let sync = scene.cli.run("sync --json").await;
    assert_eq!((sync.code, row(&sync)), (0, expected), "{sync}");
    let world = scene.hub().expect("the project");
    assert_eq!((world.public, world.upstream.as_deref()), (true, Some(upstream.as_str())));
    assert_eq!(world.filter, None, "this version has no filters");
    let body = scene.harbor.state.lock().creations.iter().find(|body| body["project_name"] == "hub").cloned();
    let body = body.expect("a request");
    assert_eq!(body, json!({ "project_name": "hub", "registry_id": 1, "metadata": { "public": "true" } }));

    // It exists now, plan and sync report no change, and images can be pulled through it.
    scene.clear();
    for verb in ["plan --check --json", "sync --json"] {
        let run = scene.cli.run(verb).await;
        assert_eq!((run.code, &row(&run)["created"]), (0, &json!(false)), "{run}");
    }
    assert_eq!(scene.api_writes(), 0, "{:#?}", scene.harbor.script.lines());
    let warm = scene.cli.run(&format!("warm {target}")).await;
    assert_eq!(warm.code, 0, "{warm}");
}

#[tokio::test]
async fn runs_with_only_or_other_targets_leave_proxy_caches_alone() {
    let scene = entitled(&RIGHTS).await;
    scene.publish("app").await;
    scene.list_cached(&["app:1"]);
    let elsewhere = format!("--target {}/other", scene.harbor.name());
    for flags in ["--only *app*", &elsewhere] {
        for verb in ["plan", "sync"] {
            let run = scene.cli.run(&format!("{verb} {flags} --json")).await;
            assert_eq!((run.code, &run.json()["proxy_caches"]), (0, &Value::Null), "{run}");
        }
    }
    assert!(scene.hub().is_none());
}

#[tokio::test]
async fn a_host_that_isnt_a_target_is_provisioned_too() {
    let scene = entitled(&RIGHTS).await;
    scene.publish("app").await;
    let (source, harbor) = (scene.source.name(), scene.harbor.name());
    let text = format!(
        "target: oci:mirror\nimages: [\"{source}/app:1\"]\nregistries:\n  \"{harbor}\":\n    username: {{env: ROBOT}}\n    \
         password: {{env: SECRET}}\n    harbor: {{proxy_caches: [{{project: hub, upstream: \"{source}\"}}]}}\n"
    );
    scene.cli.write("mirror.yaml", text);
    let sync = scene.cli.run("sync --json").await;
    assert_eq!((sync.code, &row(&sync)["created"]), (0, &json!(true)), "{sync}");
    assert!(!scene.hub().expect("the project").public);
}

#[tokio::test]
async fn an_existing_endpoint_is_found_on_any_page() {
    let scene = entitled(&RIGHTS).await;
    scene.publish("app").await;
    for id in 1..=150 {
        scene.endpoint(id, &format!("https://r{id}.example"));
    }
    scene.endpoint(151, &format!("{}/", scene.source_url()));
    scene.list_cached(&["app:1"]);
    let sync = scene.cli.run("sync --json").await;
    assert_eq!((sync.code, &row(&sync)["error"]), (0, &Value::Null), "{sync}");
    assert_eq!(scene.hub().expect("the project").registry_id, Some(151));
    assert_eq!(scene.harbor.state.lock().endpoints.len(), 151);
}

#[tokio::test]
async fn a_project_that_caches_another_registry_is_reported_and_kept() {
    for (project, told) in [
        (Project { registry_id: Some(7), ..Project::default() }, "a proxy cache of https://other.example, not of"),
        (Project::default(), "isn't a proxy cache"),
    ] {
        let scene = entitled(&RIGHTS).await;
        scene.publish("app").await;
        scene.endpoint(7, "https://other.example");
        scene.harbor.state.lock().projects.insert("hub".into(), project.clone());
        scene.list_cached(&["app:1"]);
        for verb in ["plan --json", "sync --json"] {
            let run = scene.cli.run(verb).await;
            assert_eq!((run.code, &row(&run)["error"]["kind"]), (1, &json!("conflict")), "{run}");
            assert!(row(&run)["error"]["message"].as_str().unwrap().contains(told), "{run}");
            assert!(row(&run)["error"]["hint"].as_str().unwrap().contains("name another project"), "{run}");
            // The images aren't affected.
            assert_eq!(run.json()["images"][0]["error"], Value::Null, "{run}");
        }
        assert_eq!(scene.hub().expect("the project").registry_id, project.registry_id);
        let sync = scene.cli.run("sync").await;
        assert!(sync.stdout.contains("failed      ") && sync.stdout.contains("hint: "), "{sync}");
    }
}

#[tokio::test]
async fn missing_permissions_are_named() {
    for (rights, message) in [
        (&[][..], "list the registry endpoints"),
        (&["registry: list"], "create a registry endpoint"),
        (&["registry: list", "registry: create"], "create project hub"),
    ] {
        let scene = entitled(rights).await;
        scene.publish("app").await;
        scene.list_cached(&["app:1"]);
        let sync = scene.cli.run("sync --json").await;
        let error = row(&sync)["error"].clone();
        assert_eq!((sync.code, &error["kind"]), (1, &json!("denied")), "{sync}");
        assert!(error["message"].as_str().unwrap().contains(message), "{sync}");
        assert!(error["hint"].as_str().unwrap().contains("`registry: create`"), "{sync}");
        assert_eq!(sync.json()["images"][0]["status"], "copied", "{sync}");
    }
}

#[tokio::test]
async fn without_permission_to_read_the_unknown_settings_are_reported() {
    let scene = entitled(&[]).await;
    scene.publish("app").await;
    scene.endpoint(7, &scene.source_url());
    let project = Project { registry_id: Some(7), ..Project::default() };
    scene.harbor.state.lock().projects.insert("hub".into(), project);
    scene.list_cached(&["app:1"]);
    let plan = scene.cli.run("plan --json").await;
    assert_eq!((plan.code, &row(&plan)["error"]), (0, &Value::Null), "{plan}");
    assert!(plan.stderr.contains("is unknown") && plan.stderr.contains("`registry: read`"), "{plan}");
}

#[tokio::test]
async fn an_upstream_that_harbor_cant_reach_is_reported() {
    let scene = entitled(&RIGHTS).await;
    scene.publish("app").await;
    scene.harbor.state.lock().unreachable = Some(scene.source_url());
    scene.list_cached(&["app:1"]);
    let sync = scene.cli.run("sync --json").await;
    let error = row(&sync)["error"].clone();
    assert_eq!((sync.code, &error["kind"]), (1, &json!("configuration")), "{sync}");
    assert!(error["message"].as_str().unwrap().contains("unhealthy"), "{sync}");
    assert!(error["hint"].as_str().unwrap().contains("Harbor must be able to reach the upstream"), "{sync}");
}

#[tokio::test]
async fn the_filter_follows_the_list_if_harbor_supports_filters() {
    let scene = entitled(&RIGHTS).await;
    scene.publish("app").await;
    scene.publish("lib/base").await;
    scene.harbor.state.lock().minor = Some(16);
    scene.list_cached(&["app:1"]);
    assert_eq!(scene.cli.run("sync").await.code, 0);
    assert_eq!(scene.hub().unwrap().filter.as_deref(), Some("app"));

    scene.list_cached(&["lib/base:1", "app:1"]);
    let plan = scene.cli.run("plan --json").await;
    assert_eq!(row(&plan)["changes"], json!(["repository_filter"]), "{plan}");
    assert_eq!(scene.hub().unwrap().filter.as_deref(), Some("app"));
    let sync = scene.cli.run("sync").await;
    assert!(sync.stdout.contains("changed  ") && sync.stdout.contains("repository filter"), "{sync}");
    assert_eq!(scene.hub().unwrap().filter.as_deref(), Some("{app,lib/base}"));
    scene.clear();
    assert_eq!(scene.cli.run("plan --check").await.code, 0);

    // A filter set by an administrator is kept, and so is a missing one.
    for theirs in [Some("lib/**"), None] {
        scene.harbor.state.lock().projects.get_mut("hub").unwrap().filter = theirs.map(str::to_owned);
        assert_eq!(scene.cli.run("sync").await.code, 0);
        assert_eq!(scene.hub().unwrap().filter.as_deref(), theirs);
    }
    assert_eq!(scene.api_writes(), 0, "{:#?}", scene.harbor.script.lines());
}
