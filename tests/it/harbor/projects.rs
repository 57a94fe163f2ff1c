//! Projects: who may create them, their storage limit, and their names.

use serde_json::json;

use super::{ROBOT, SECRET, Scene, assert_error, error};
use crate::support::harbor::{Harbor, Project, Role};
use crate::support::images::{Blob, image};

#[tokio::test]
async fn a_storage_limit_that_harbor_ignores_is_reported() {
    const LIMIT: &str = ", harbor: {create: {storage_limit: 5GiB}}";
    for (role, right, settings, told) in [
        (Role::Admin, None, LIMIT, None),
        (Role::SystemRobot, Some("project: create"), LIMIT, Some("isn't allowed to read it")),
        (Role::SystemRobot, None, LIMIT, Some("isn't allowed to read it")),
        (Role::User, None, LIMIT, Some("it has none")),
        (Role::User, None, ", harbor: {create: {storage_limit: unlimited}}", None),
        (Role::SystemRobot, None, "", None),
    ] {
        let harbor = Harbor::start().await.account(ROBOT, SECRET, role);
        let harbor = right.into_iter().fold(harbor, |harbor, right| harbor.grant(ROBOT, right));
        let scene = Scene::with(harbor).await;
        scene.publish("app").await;
        scene.list(&["app:1"], settings);
        let sync = scene.cli.run("sync").await;
        assert_eq!(sync.code, 0, "{role:?}: {sync}");
        assert_eq!(sync.stderr.contains("storage_limit"), told.is_some(), "{role:?}: {sync}");
        assert!(sync.stderr.contains(told.unwrap_or_default()), "{role:?}: {sync}");
        let set = scene.harbor.state.lock().projects["mirror"].storage_limit;
        let is_entitled = role == Role::Admin || right.is_some();
        assert_eq!(set, (is_entitled && settings == LIMIT).then_some(5 << 30), "{role:?}");
    }
}

#[tokio::test]
async fn a_project_without_push_permission_is_reported() {
    let harbor = Harbor::start().await.account(ROBOT, SECRET, Role::SystemRobotOn("team"));
    let scene = Scene::with(harbor).await;
    scene.publish("app").await;
    scene.list(&["app:1"], "");
    let check = scene.cli.run("check").await;
    assert_eq!(check.code, 0, "{check}");
    assert!(check.stdout.contains("project mirror doesn't exist yet"), "{check}");
    assert!(check.stdout.contains("a project that nobody may push to stays empty"), "{check}");
    assert!(check.stdout.contains("Harbor v2.15.2"), "{check}");
    let sync = scene.cli.run("sync --json").await;
    assert_eq!(sync.code, 1, "{sync}");
    assert_error(&sync, "denied", "action: push", "project mirror was created just now, is empty");
}

#[tokio::test]
async fn check_reports_whether_a_project_can_be_created() {
    for (only_admins, read_only, ok, told) in [
        (true, false, json!(null), "only administrators and system robots"),
        (false, false, json!(null), "a project robot may not"),
        (false, true, json!(false), "read-only mode"),
    ] {
        let scene = Scene::new().await;
        {
            let mut world = scene.harbor.state.lock();
            (world.only_admins_create, world.read_only) = (only_admins, read_only);
        }
        scene.publish("app").await;
        scene.list(&["app:1"], "");
        let check = scene.cli.run("check --json").await;
        let report = check.json();
        let create = report["checks"].as_array().unwrap().iter().find(|check| check["action"] == "create").unwrap();
        assert_eq!(create["ok"], ok, "{check}");
        assert!(create["message"].as_str().unwrap().contains(told), "{check}");
        assert_eq!(check.code, i32::from(read_only), "{check}");
        assert!(scene.harbor.state.lock().creations.is_empty());
    }
}

#[tokio::test]
async fn names_are_checked_equally_once_harbor_is_recognised() {
    for to in ["plain", "a--b/x", "a__b/x"] {
        let scene = Scene::new().await;
        scene.publish("app").await;
        let (source, harbor) = (scene.source.name(), scene.harbor.name());
        let text = format!(
            "target: {harbor}\nimages: [{{image: \"{source}/app\", tags: [\"1\"], to: {to}}}]\nregistries:\n  \
             \"{harbor}\": {{username: {{env: ROBOT}}, password: {{env: SECRET}}}}\n"
        );
        scene.cli.write("mirror.yaml", text);
        let check = scene.cli.run("check --json").await;
        assert_eq!(check.code, 1, "{to}: {check}");
        assert!(check.stdout.contains("Harbor refuses the"), "{to}: {check}");
        assert!(check.stdout.contains("PROJECT/NAME"), "{to}: {check}");
        assert!(!check.stdout.contains("will create"), "{to}: {check}");
        scene.clear();
        for verb in ["plan --json", "sync --json"] {
            let run = scene.cli.run(verb).await;
            assert_eq!(run.code, 1, "{to}: {run}");
            assert_error(&run, "invalid", "", "PROJECT/NAME");
        }
        assert!(scene.harbor.state.lock().creations.is_empty());
        scene.assert_nothing_pulled();
    }
}

#[tokio::test]
async fn a_config_that_isnt_json_is_reported() {
    let scene = Scene::new().await;
    let odd = image("odd").config(Blob::seeded("application/vnd.oci.image.config.v1+json", "odd", 100)).build();
    odd.push(&scene.source.inside("odd"), "1").await;
    scene.publish("app").await;
    scene.list(&["odd:1", "app:1"], "");
    let sync = scene.cli.run("sync --json").await;
    assert_eq!(sync.code, 1, "{sync}");
    assert_error(&sync, "unavailable", "500", "config is JSON");
    assert_eq!(sync.json()["images"][1]["status"], "copied", "{sync}");
}

#[tokio::test]
async fn a_missing_project_at_a_source_is_reported_as_misspelt() {
    let scene = Scene::with(Harbor::start().await.account(ROBOT, SECRET, Role::Reader)).await;
    scene.harbor.state.lock().projects.insert("team".into(), Project::default());
    let (harbor, target) = (scene.harbor.name(), scene.source.name());
    let text = format!(
        "target: {target}/mirror\nimages: [\"{harbor}/taem/app:1\"]\nregistries:\n  \"{harbor}\": {{username: {{env: ROBOT}}, \
         password: {{env: SECRET}}}}\n"
    );
    scene.cli.write("mirror.yaml", text);
    let sync = scene.cli.run("sync --json").await;
    assert_error(&sync, "not_found", "project taem doesn't exist", "spelling of the project");
    assert!(!error(&sync)["hint"].as_str().unwrap().contains("create"), "{sync}");
}

#[tokio::test]
async fn the_hint_for_a_refused_robot_names_every_possible_cause() {
    let scene = Scene::with(Harbor::start().await.account("ci+mirror", SECRET, Role::SystemRobot)).await;
    scene.publish("app").await;
    scene.list(&["app:1"], "");
    let sync = scene.cli.run("sync --json").await;
    for word in ["prefix", "disabled", "expired"] {
        assert_error(&sync, "unauthorized", "", word);
    }
}
