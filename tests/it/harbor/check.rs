//! `check` against a Harbor, which answers a wrong password with an anonymous token and serves public projects to
//! anybody.

use super::{Scene, image};
use crate::support::harbor::{Harbor, Project, Role};

/// Action and `ok` of each line about the target.
fn lines(scene: &Scene, run: &crate::support::cli::Run) -> Vec<(String, Option<bool>)> {
    let report = run.json();
    let checks = report["checks"].as_array().expect("checks").iter();
    let here = checks.filter(|check| check["host"] == scene.harbor.name().as_str());
    here.map(|check| (check["action"].as_str().expect("an action").to_owned(), check["ok"].as_bool())).collect()
}

#[tokio::test]
async fn a_wrong_password_is_detected_behind_a_public_project() {
    let harbor = Harbor::start().await.account(super::ROBOT, "another secret", Role::SystemRobot);
    let scene = Scene::with(harbor.project("mirror", Project { public: true, ..Project::default() })).await;
    scene.harbor.hold(&image("app").build(), "mirror/app", "1").await;
    scene.publish("app").await;
    scene.list(&["app:1"], "");
    let check = scene.cli.run("check --json").await;
    assert_eq!(check.code, 1, "{check}");
    let refused = lines(&scene, &check);
    assert!(refused.iter().any(|(action, ok)| action == "login" && *ok == Some(false)), "{check}");
    assert_eq!(scene.api_calls(), 0, "{check}");
}

#[tokio::test]
async fn a_missing_project_is_not_a_failure_and_nothing_is_created() {
    let scene = Scene::new().await;
    scene.publish("app").await;
    scene.list(&["app:1"], "");
    let check = scene.cli.run("check --json").await;
    assert_eq!(check.code, 0, "{check}");
    let lines = lines(&scene, &check);
    assert!(lines.contains(&("login".into(), Some(true))), "{check}");
    assert!(lines.contains(&("create".into(), None)), "only creating it would tell: {check}");
    assert!(scene.harbor.state.lock().creations.is_empty() && scene.harbor.state.lock().projects.is_empty());
    // One blob is looked up, if reading the manifest costs no pull.
    assert_eq!(scene.source.script.count("GET", "/manifests/sha256:"), 1, "{check}");
}
