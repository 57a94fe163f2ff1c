//! Harbor as target: its projects, its refusals, and what it is never asked for.

mod check;
mod fake;
mod policy;
mod projects;
mod proxy;
mod proxy_caches;
mod quota;
mod restart;
mod tokens;

use serde_json::{Value, json};

use crate::support::cli::{Cli, Run};
use crate::support::harbor::{Harbor, Project, Role};
use crate::support::images::{Image, image, multi_platform};
use crate::support::registry::Registry;
use crate::support::script::Fault;

const ROBOT: &str = "robot$mirror";
const SECRET: &str = "s3cr$t-of-the-robot";

/// A source, a Harbor with a system robot, and somebody who mirrors from one to the other.
struct Scene {
    source: Registry,
    harbor: Harbor,
    cli: Cli,
}

impl Scene {
    async fn new() -> Self {
        Self::with(Harbor::start().await.account(ROBOT, SECRET, Role::SystemRobot)).await
    }

    async fn with(harbor: Harbor) -> Self {
        let cli = Cli::new().env("ROBOT", ROBOT).env("SECRET", SECRET);
        Self { source: Registry::start().await, harbor, cli }
    }

    /// mirror.yaml with these images; `settings` stands beside the credentials of the target.
    fn list(&self, images: &[&str], settings: &str) {
        self.list_as("{username: {env: ROBOT}, password: {env: SECRET}", images, settings);
    }

    fn list_as(&self, credentials: &str, images: &[&str], settings: &str) {
        let (source, harbor) = (self.source.name(), self.harbor.name());
        let mut text = format!("target: {harbor}/mirror\nlayout: \"{{repository}}\"\nimages:\n");
        for image in images {
            text.push_str(&format!("  - {source}/{image}\n"));
        }
        text.push_str(&format!("registries:\n  \"{harbor}\": {credentials}{settings}}}\n"));
        self.cli.write("mirror.yaml", text);
    }

    /// [`Scene::list`] with a setting for all images.
    fn list_with(&self, images: &[&str], defaults: &str) {
        self.list(images, "");
        let text = self.cli.read("mirror.yaml").unwrap_or_default();
        self.cli.write("mirror.yaml", format!("{text}defaults: {{{defaults}}}\n"));
    }

    async fn publish(&self, name: &str) -> Image {
        let image = image(name).shared_layer("base", 5000).build();
        image.push(&self.source.inside(name), "1").await;
        image
    }

    fn clear(&self) {
        self.source.script.clear();
        self.harbor.script.clear();
    }

    /// How often Harbor's API was asked.
    fn api_calls(&self) -> usize {
        ["GET", "HEAD", "POST", "PUT", "DELETE"].iter().map(|m| self.harbor.script.count(m, "/api/")).sum()
    }

    /// Nothing was read from the source but what tags name.
    fn assert_nothing_pulled(&self) {
        assert_eq!(self.source.script.reads(), 0, "{:#?}", self.source.script.lines());
    }
}

/// The error of the first image.
fn error(run: &Run) -> Value {
    let report = run.json();
    report["images"][0]["error"].clone()
}

fn assert_error(run: &Run, kind: &str, message: &str, hint: &str) {
    let error = error(run);
    let text = |key: &str| error[key].as_str().unwrap_or_default().to_owned();
    assert_eq!(text("kind"), kind, "{run}");
    assert!(text("message").contains(message), "{message} isn't in {error:#}");
    assert!(text("hint").contains(hint), "{hint} isn't in {error:#}");
}

#[tokio::test]
async fn eight_images_into_a_missing_project_make_one_call_with_the_settings() {
    let scene = Scene::new().await;
    let names: Vec<String> = (1..=8).map(|n| format!("library/app{n}")).collect();
    let mut images = Vec::new();
    for name in &names {
        images.push(scene.publish(name).await);
    }
    let tagged: Vec<String> = names.iter().map(|name| format!("{name}:1")).collect();
    let tagged: Vec<&str> = tagged.iter().map(String::as_str).collect();
    scene.list(
        &tagged,
        ", harbor: {create: {public: false, storage_limit: 500GiB, auto_scan: true, prevent_vul: false, severity: high}}",
    );

    let plan = scene.cli.run("plan --json").await;
    assert_eq!(plan.code, 0, "{plan}");
    assert_eq!(scene.harbor.state.lock().creations, Vec::<Value>::new(), "a plan creates nothing");

    scene.clear();
    let sync = scene.cli.run("sync --json").await;
    assert_eq!(sync.code, 0, "{sync}");
    let metadata = json!({ "public": "false", "auto_scan": "true", "prevent_vul": "false", "severity": "high" });
    let expected = json!({ "project_name": "mirror", "storage_limit": 500_u64 << 30, "metadata": metadata });
    assert_eq!(scene.harbor.state.lock().creations, [expected]);
    // Robots get a 403 for what isn't there, and HEAD tells them. Whether the limit was set, they can't read.
    assert_eq!(scene.api_calls(), 4, "{:#?}", scene.harbor.script.lines());
    for (name, image) in names.iter().zip(&images) {
        image.assert_in(&scene.harbor.inside(&format!("mirror/{name}")), "1").await;
    }
    let created = sync.json()["repositories"].as_array().unwrap().iter().filter(|r| r["created"] == true).count();
    assert_eq!(created, 8, "each of them came into being");

    scene.clear();
    assert_eq!(scene.cli.run("sync").await.code, 0);
    assert_eq!((scene.api_calls(), scene.source.script.lines().len()), (0, 0), "{:#?}", scene.harbor.script.lines());
    assert_eq!(scene.harbor.state.lock().pulls, Vec::<String>::new());
}

#[tokio::test]
async fn it_is_recognised_by_itself_and_a_private_project_is_created() {
    let scene = Scene::with(Harbor::start().await.account(ROBOT, SECRET, Role::Admin)).await;
    let app = scene.publish("app").await;
    scene.list(&["app:1"], "");
    let sync = scene.cli.run("sync").await;
    assert_eq!(sync.code, 0, "{sync}");
    let expected = json!({ "project_name": "mirror", "metadata": { "public": "false" } });
    assert_eq!(scene.harbor.state.lock().creations, [expected]);
    assert_eq!(scene.api_calls(), 2, "{:#?}", scene.harbor.script.lines());
    app.assert_in(&scene.harbor.inside("mirror/app"), "1").await;

    // One that is there is looked at once; one that looks like a number is a name all the same.
    scene.harbor.state.lock().projects.insert("12".into(), Project::default());
    scene.clear();
    let copy = format!("copy {}/app:1 {}/12/app", scene.source.name(), scene.harbor.name());
    let copy = scene.cli.run(&copy).await;
    assert_eq!(copy.code, 0, "{copy}");
    assert_eq!((scene.api_calls(), scene.harbor.state.lock().creations.len()), (1, 1));
}

#[tokio::test]
async fn tokens_from_before_the_project_are_not_used() {
    let scene = Scene::new().await;
    // A big blob is asked for before it is sent, with a token like that of the plan.
    let app = image("app").layer(9 << 20).build();
    app.push(&scene.source.inside("app"), "1").await;
    scene.list(&["app:1"], "");
    scene.harbor.state.lock().now = 1000;
    // Between the token that the plan was made with and the creation more than a minute goes by.
    let state = scene.harbor.state.clone();
    scene.harbor.script.once("POST", "/api/v2.0/projects", Fault::meanwhile(move || state.lock().now += 61));
    let sync = scene.cli.run("sync").await;
    assert_eq!(sync.code, 0, "{sync}");
    app.assert_in(&scene.harbor.inside("mirror/app"), "1").await;
    let refused =
        scene.harbor.script.lines().iter().filter(|line| line.contains("/blobs/") && line.ends_with("401")).count();
    assert_eq!(refused, 0, "{:#?}", scene.harbor.script.lines());
}

#[tokio::test]
async fn somebody_faster_is_a_success() {
    let scene = Scene::new().await;
    let app = scene.publish("app").await;
    scene.list(&["app:1"], "");
    let state = scene.harbor.state.clone();
    let create = move || state.lock().projects.extend([("mirror".to_owned(), Project::default())]);
    scene.harbor.script.once("POST", "/api/v2.0/projects", Fault::meanwhile(create));
    let sync = scene.cli.run("sync --json").await;
    assert_eq!(sync.code, 0, "{sync}");
    assert_eq!(sync.json()["repositories"][0]["created"], false);
    assert_eq!(scene.harbor.script.lines().iter().filter(|line| line.ends_with("projects 409")).count(), 1);
    app.assert_in(&scene.harbor.inside("mirror/app"), "1").await;
}

#[tokio::test]
async fn who_may_not_create_pulls_nothing() {
    for (role, only_admins, settings, kind, message, hint) in [
        (
            Role::ProjectRobot("other"),
            false,
            "",
            "denied",
            "Only system level robot can create project",
            "system robot",
        ),
        (Role::SystemRobot, true, "", "denied", "Only system admin", "permission to create projects"),
        (
            Role::SystemRobot,
            false,
            ", harbor: {create: false}",
            "not_found",
            "`create: false` prevents",
            "create the project",
        ),
    ] {
        let scene = Scene::with(Harbor::start().await.account(ROBOT, SECRET, role)).await;
        scene.harbor.state.lock().only_admins_create = only_admins;
        scene.publish("app").await;
        scene.publish("other").await;
        scene.list(&["app:1", "other:1"], settings);
        let sync = scene.cli.run("sync --json").await;
        assert_eq!(sync.code, 1, "{sync}");
        assert_error(&sync, kind, message, hint);
        assert_eq!(error(&sync)["stage"], "provision");
        scene.assert_nothing_pulled();
        let calls = scene.harbor.state.lock().creations.len();
        assert_eq!(calls, usize::from(settings.is_empty()), "at most one for both images");
    }
}

#[tokio::test]
async fn settings_that_harbor_refuses_are_told() {
    let scene = Scene::new().await;
    scene.publish("app").await;
    scene.list(&["app:1"], "");
    let refused = Fault::Answer {
        status: 400,
        headers: vec![("content-type", "application/json".into())],
        body: json!({"errors": [{"code": "BAD_REQUEST", "message": "invalid hard limit value"}]}).to_string(),
    };
    scene.harbor.script.always("POST", "/api/v2.0/projects", refused);
    let sync = scene.cli.run("sync --json").await;
    assert_error(&sync, "configuration", "invalid hard limit value", "registries.HOST.harbor.create");
    scene.assert_nothing_pulled();
}

#[tokio::test]
async fn a_host_without_the_api_is_pushed_to_all_the_same() {
    let scene = Scene::new().await;
    scene.harbor.state.lock().projects.insert("mirror".into(), Project::default());
    scene.publish("app").await;
    scene.list(&["app:1"], "");
    scene.harbor.script.always("GET", "/api/", Fault::html(404));
    let sync = scene.cli.run("sync").await;
    assert_eq!(sync.code, 0, "{sync}");
    assert_eq!(scene.harbor.state.lock().creations, Vec::<Value>::new());
}

#[tokio::test]
async fn a_proxy_cache_is_refused_by_plan() {
    let scene = Scene::new().await;
    scene.publish("app").await;
    scene.list(&["app:1"], "");
    let cache = Project { registry_id: Some(1), ..Project::default() };
    scene.harbor.state.lock().projects.insert("mirror".into(), cache);
    let plan = scene.cli.run("plan --json").await;
    assert_eq!(plan.code, 1, "{plan}");
    assert_error(&plan, "unsupported", "proxy cache of another registry", "another project");

    // Who may not look at the project hears it at the first push.
    let refused = Fault::refuse(403, "FORBIDDEN");
    scene.harbor.script.always("GET", "/api/v2.0/projects/mirror", refused);
    let sync = scene.cli.run("sync --json").await;
    assert_error(&sync, "unsupported", "can not push artifact to a proxy project", "another project");
}

#[tokio::test]
async fn each_refusal_has_a_kind_and_a_next_step() {
    type Change = fn(&mut Project);
    let rows: [(Change, &str, &str, &str); 2] = [
        (
            |project| project.storage_limit = Some(1),
            "quota_exceeded",
            "will exceed the configured upper limit",
            "storage quota",
        ),
        (|project| project.immutable = true, "conflict", "configured as immutable", "immutable"),
    ];
    for (change, kind, message, hint) in rows {
        let scene = Scene::new().await;
        let mut project = Project::default();
        change(&mut project);
        scene.harbor.state.lock().projects.insert("mirror".into(), project);
        let old = image("old").build();
        scene.harbor.hold(&old, "mirror/app", "1").await;
        scene.publish("app").await;
        scene.list(&["app:1"], "");
        let sync = scene.cli.run("sync --json").await;
        assert_eq!(sync.code, 1, "{sync}");
        assert_error(&sync, kind, message, hint);
        assert_eq!(error(&sync)["side"], "target");
    }
}

#[tokio::test]
async fn read_only_and_a_missing_right_are_told_apart() {
    for (role, read_only, kind, message, hint) in [
        (Role::SystemRobot, true, "denied", "read only mode", "read-only mode"),
        (Role::Reader, false, "denied", "action: push", "both pull and push"),
    ] {
        let harbor = Harbor::start().await.account(ROBOT, SECRET, role).project("mirror", Project::default());
        harbor.state.lock().read_only = read_only;
        let scene = Scene::with(harbor).await;
        scene.publish("app").await;
        scene.list(&["app:1"], "");
        assert_error(&scene.cli.run("sync --json").await, kind, message, hint);
    }
}

#[tokio::test]
async fn a_limit_of_a_proxy_in_front_is_told() {
    let scene = Scene::with(
        Harbor::start().await.account(ROBOT, SECRET, Role::SystemRobot).project("mirror", Project::default()),
    )
    .await;
    scene.publish("app").await;
    scene.list(&["app:1"], "");
    scene.harbor.script.always("PUT", "/blobs/uploads/", Fault::html(413));
    assert_error(&scene.cli.run("sync --json").await, "unsupported", "413", "limit of the proxy");
}

#[tokio::test]
async fn a_policy_keeps_an_image_from_being_a_source() {
    let harbor = Harbor::start().await.account(ROBOT, SECRET, Role::SystemRobot);
    let scene = Scene::with(harbor.project("team", Project { prevents: true, ..Project::default() })).await;
    scene.harbor.hold(&image("app").build(), "team/app", "1").await;
    let (harbor, target) = (scene.harbor.name(), scene.source.name());
    let text = format!(
        "target: {target}/mirror\nimages: [\"{harbor}/team/app:1\"]\nregistries:\n  \"{harbor}\": {{username: {{env: ROBOT}}, password: {{env: SECRET}}}}\n"
    );
    scene.cli.write("mirror.yaml", text);
    assert_error(&scene.cli.run("sync --json").await, "denied", "the project's policy", "policy");
}

#[tokio::test]
async fn an_immutable_tag_that_came_meanwhile_with_the_same_digest_is_fine() {
    let project = Project { immutable: true, ..Project::default() };
    let harbor = Harbor::start().await.account(ROBOT, SECRET, Role::SystemRobot).project("mirror", project);
    let scene = Scene::with(harbor).await;
    let app = scene.publish("app").await;
    scene.harbor.hold(&app, "mirror/app", "1").await;
    scene.list(&["app:1"], "");
    // The plan doesn't see it yet.
    scene.harbor.script.times(1, "HEAD", "/manifests/1", Fault::refuse(404, "NOT_FOUND"));
    let sync = scene.cli.run("sync --json").await;
    assert_eq!(sync.code, 0, "{sync}");
    assert!(scene.harbor.script.lines().iter().any(|line| line.ends_with("/manifests/1 412")));
}

#[tokio::test]
async fn a_wrong_password_is_found_out_wherever_it_hides() {
    for project in [None, Some(Project::default()), Some(Project { public: true, ..Project::default() })] {
        let scene = Scene::new().await;
        scene.harbor.state.lock().projects.extend(project.map(|project| ("mirror".to_owned(), project)));
        scene.publish("app").await;
        scene.publish("other").await;
        scene.cli.write("secret", "wrong\n");
        scene.list_as("{username: {env: ROBOT}, password: {file: secret}", &["app:1", "other:1"], "");
        let sync = scene.cli.run("sync --json").await;
        assert!(sync.code == 1 || sync.code == 2, "{sync}");
        let error = error(&sync);
        assert_eq!((&error["kind"], &error["http_status"]), (&json!("unauthorized"), &json!(401)), "{error:#}");
        scene.assert_nothing_pulled();
        assert!(error["hint"].as_str().unwrap_or_default().contains("robot$"), "{error:#}");
        let lines = scene.harbor.script.lines();
        assert_eq!(lines.iter().filter(|line| line.starts_with("GET /service/token")).count(), 1, "{lines:#?}");
        assert!(lines.contains(&"GET /service/token?service=harbor-registry 401".to_owned()), "{lines:#?}");
    }
}

#[tokio::test]
async fn a_secret_that_is_renewed_meanwhile_is_told_from_a_missing_right() {
    let scene = Scene::new().await;
    scene.publish("app").await;
    scene.list(&["app:1"], "");
    let state = scene.harbor.state.clone();
    scene.harbor.script.once("POST", "/v2/", Fault::meanwhile(move || state.lock().renew(ROBOT, "another")));
    let sync = scene.cli.run("sync --json").await;
    assert_error(&sync, "unauthorized", "doesn't accept the user name or the password", "robot$");
}

#[tokio::test]
async fn a_robots_name_arrives_as_it_is() {
    let scene = Scene::new().await;
    scene.publish("app").await;
    scene.cli.write("name", format!("{ROBOT}\n"));
    scene.cli.write("secret", format!("{SECRET}\n"));
    for credentials in [
        "{username: {env: ROBOT}, password: {env: SECRET}",
        "{username: {file: name}, password: {file: secret}",
        "{username: robot$mirror, password: {file: secret}",
    ] {
        scene.harbor.state.lock().projects.clear();
        scene.list_as(credentials, &["app:1"], "");
        let sync = scene.cli.run("sync -vvv").await;
        assert_eq!(sync.code, 0, "{credentials}: {sync}");
        assert!(!sync.stderr.contains(SECRET) && !sync.stdout.contains(SECRET), "{sync}");
    }
}

#[tokio::test]
async fn a_manifest_there_is_never_read() {
    let scene = Scene::new().await;
    let app = multi_platform("app", &["linux/amd64", "linux/arm64"]);
    app.push(&scene.source.inside("app"), "1").await;
    app.push(&scene.source.inside("app"), "stable").await;
    // A source that counts pulls is spared by reading elsewhere: not here.
    scene.source.script.always("HEAD", "/manifests/", Fault::Quota { remaining: 50 });
    scene.list(&["app:1"], "");
    assert_eq!(scene.cli.run("sync").await.code, 0);
    scene.list(&["app:1", "app:stable"], "");
    let sync = scene.cli.run("sync").await;
    assert_eq!(sync.code, 0, "{sync}");
    app.assert_in(&scene.harbor.inside("mirror/app"), "stable").await;
    assert_eq!(scene.harbor.state.lock().pulls, Vec::<String>::new());
}

#[tokio::test]
async fn a_mount_that_is_refused_becomes_an_upload() {
    for status in [400, 401, 403, 404] {
        let scene = Scene::new().await;
        let (one, two) = (scene.publish("one").await, scene.publish("two").await);
        scene.list(&["one:1", "two:1"], "");
        scene.harbor.script.always("POST", "?mount=", Fault::refuse(status, "UNAUTHORIZED"));
        let sync = scene.cli.run("sync").await;
        assert_eq!(sync.code, 0, "{status}: {sync}");
        one.assert_in(&scene.harbor.inside("mirror/one"), "1").await;
        two.assert_in(&scene.harbor.inside("mirror/two"), "1").await;
    }
}

#[tokio::test]
async fn a_name_without_project_is_told() {
    let scene = Scene::new().await;
    scene.publish("app").await;
    let run = scene.cli.run(&format!("copy {}/app:1 {}/app", scene.source.name(), scene.harbor.name())).await;
    assert_eq!(run.code, 1, "{run}");
    assert!(run.stdout.contains("invalid repository name") && run.stdout.contains("PROJECT/NAME"), "{run}");
}
