//! Harbor as target: its projects, its refusals, and the requests that it must not get.

mod check;
mod fake;
mod policy;
mod projects;
mod proxy;
mod proxy_caches;
mod quota;
mod refusals;
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

/// A source, a Harbor with a system robot, and a command line that mirrors from one to the other.
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

    /// mirror.yaml with these images; `settings` follow the credentials of the target.
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

    /// The number of requests to Harbor's API.
    fn api_calls(&self) -> usize {
        ["GET", "HEAD", "POST", "PUT", "DELETE"].iter().map(|m| self.harbor.script.count(m, "/api/")).sum()
    }

    /// Nothing but tags was resolved at the source.
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
async fn eight_images_for_a_missing_project_make_one_create_call() {
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
    assert_eq!(scene.harbor.state.lock().creations, Vec::<Value>::new(), "plan creates nothing");

    scene.clear();
    let sync = scene.cli.run("sync --json").await;
    assert_eq!(sync.code, 0, "{sync}");
    let metadata = json!({ "public": "false", "auto_scan": "true", "prevent_vul": "false", "severity": "high" });
    let expected = json!({ "project_name": "mirror", "storage_limit": 500_u64 << 30, "metadata": metadata });
    assert_eq!(scene.harbor.state.lock().creations, [expected]);
    // Robots get a 403 for a missing project, so HEAD is needed. They can't read whether the limit was set.
    assert_eq!(scene.api_calls(), 4, "{:#?}", scene.harbor.script.lines());
    for (name, image) in names.iter().zip(&images) {
        image.assert_in(&scene.harbor.inside(&format!("mirror/{name}")), "1").await;
    }
    let created = sync.json()["repositories"].as_array().unwrap().iter().filter(|r| r["created"] == true).count();
    assert_eq!(created, 8, "each was created");

    scene.clear();
    assert_eq!(scene.cli.run("sync").await.code, 0);
    assert_eq!((scene.api_calls(), scene.source.script.lines().len()), (0, 0), "{:#?}", scene.harbor.script.lines());
    assert_eq!(scene.harbor.state.lock().pulls, Vec::<String>::new());
}

#[tokio::test]
async fn a_harbor_is_recognised_and_a_private_project_is_created() {
    let scene = Scene::with(Harbor::start().await.account(ROBOT, SECRET, Role::Admin)).await;
    let app = scene.publish("app").await;
    scene.list(&["app:1"], "");
    let sync = scene.cli.run("sync").await;
    assert_eq!(sync.code, 0, "{sync}");
    let expected = json!({ "project_name": "mirror", "metadata": { "public": "false" } });
    assert_eq!(scene.harbor.state.lock().creations, [expected]);
    assert_eq!(scene.api_calls(), 2, "{:#?}", scene.harbor.script.lines());
    app.assert_in(&scene.harbor.inside("mirror/app"), "1").await;

    // An existing project is read once; a name that looks like a number is still a name.
    scene.harbor.state.lock().projects.insert("12".into(), Project::default());
    scene.clear();
    let copy = format!("copy {}/app:1 {}/12/app", scene.source.name(), scene.harbor.name());
    let copy = scene.cli.run(&copy).await;
    assert_eq!(copy.code, 0, "{copy}");
    assert_eq!((scene.api_calls(), scene.harbor.state.lock().creations.len()), (1, 1));
}

#[tokio::test]
async fn tokens_issued_before_the_project_was_created_are_not_used() {
    let scene = Scene::new().await;
    // A large blob is looked up before it is sent, with a token like that of the plan.
    let app = image("app").layer(9 << 20).build();
    app.push(&scene.source.inside("app"), "1").await;
    scene.list(&["app:1"], "");
    scene.harbor.state.lock().now = 1000;
    // More than a minute passes between the token of the plan and the creation.
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
async fn a_project_created_concurrently_is_a_success() {
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
async fn images_are_pushed_to_a_host_without_the_api() {
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
async fn an_immutable_tag_set_concurrently_to_the_same_digest_is_a_success() {
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
async fn the_name_of_a_robot_is_sent_unchanged() {
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
async fn manifests_at_the_target_are_never_read() {
    let scene = Scene::new().await;
    let app = multi_platform("app", &["linux/amd64", "linux/arm64"]);
    app.push(&scene.source.inside("app"), "1").await;
    app.push(&scene.source.inside("app"), "stable").await;
    // A metered source is spared by reading from the target, but not from a Harbor.
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
async fn a_refused_mount_becomes_an_upload() {
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
