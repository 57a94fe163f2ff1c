//! Refusals of a Harbor: each has a kind of error and a hint with the next step.

use serde_json::json;

use super::{ROBOT, SECRET, Scene, assert_error, error};
use crate::support::harbor::{Harbor, Project, Role};
use crate::support::images::image;
use crate::support::script::Fault;

#[tokio::test]
async fn without_permission_to_create_the_project_nothing_is_pulled() {
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
async fn settings_that_harbor_refuses_are_reported() {
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
async fn a_proxy_cache_is_refused_by_plan() {
    let scene = Scene::new().await;
    scene.publish("app").await;
    scene.list(&["app:1"], "");
    let cache = Project { registry_id: Some(1), ..Project::default() };
    scene.harbor.state.lock().projects.insert("mirror".into(), cache);
    let plan = scene.cli.run("plan --json").await;
    assert_eq!(plan.code, 1, "{plan}");
    assert_error(&plan, "unsupported", "proxy cache of another registry", "another project");

    // Without permission to read the project, the first push is refused.
    let refused = Fault::refuse(403, "FORBIDDEN");
    scene.harbor.script.always("GET", "/api/v2.0/projects/mirror", refused);
    let sync = scene.cli.run("sync --json").await;
    assert_error(&sync, "unsupported", "can not push artifact to a proxy project", "another project");
}

#[tokio::test]
async fn each_refusal_has_a_kind_and_a_hint() {
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
async fn read_only_mode_and_a_missing_permission_give_different_errors() {
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
async fn the_body_limit_of_a_proxy_is_reported() {
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
async fn a_policy_that_blocks_pulls_is_reported_for_a_source() {
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
async fn a_wrong_password_is_found_with_any_kind_of_project() {
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
async fn a_secret_changed_during_the_run_isnt_reported_as_a_missing_permission() {
    let scene = Scene::new().await;
    scene.publish("app").await;
    scene.list(&["app:1"], "");
    let state = scene.harbor.state.clone();
    scene.harbor.script.once("POST", "/v2/", Fault::meanwhile(move || state.lock().renew(ROBOT, "another")));
    let sync = scene.cli.run("sync --json").await;
    assert_error(&sync, "unauthorized", "doesn't accept the user name or the password", "robot$");
}

#[tokio::test]
async fn a_name_without_a_project_is_reported() {
    let scene = Scene::new().await;
    scene.publish("app").await;
    let run = scene.cli.run(&format!("copy {}/app:1 {}/app", scene.source.name(), scene.harbor.name())).await;
    assert_eq!(run.code, 1, "{run}");
    assert!(run.stdout.contains("invalid repository name") && run.stdout.contains("PROJECT/NAME"), "{run}");
}
