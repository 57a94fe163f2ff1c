//! Tokens are few, as each covers many repositories, and none is requested without need.

use super::{ROBOT, SECRET, Scene};
use crate::support::harbor::{Harbor, Project, Role};
use crate::support::images::image;
use crate::support::script::Fault;

fn tokens(scene: &Scene) -> usize {
    scene.harbor.script.count("GET", "/service/token")
}

#[tokio::test]
async fn fifty_repositories_take_few_tokens() {
    let scene = Scene::new().await;
    let names: Vec<String> = (1..=50).map(|n| format!("library/application-{n}")).collect();
    for (n, name) in names.iter().enumerate() {
        // Neighbours share a layer, so that blobs are mounted from many repositories.
        let image = image(name).shared_layer(&format!("base {}", n / 2), 5000).layer(100).build();
        image.push(&scene.source.inside(name), "1").await;
    }
    let tagged: Vec<String> = names.iter().map(|name| format!("{name}:1")).collect();
    scene.list(&tagged.iter().map(String::as_str).collect::<Vec<_>>(), "");
    let cold = scene.cli.run("sync").await;
    assert_eq!(cold.code, 0, "{cold}");
    assert!(tokens(&scene) <= 20, "{} tokens: {:#?}", tokens(&scene), scene.harbor.script.lines());
    assert!(scene.harbor.script.count("POST", "?mount=") >= 25);
    scene.clear();
    let again = scene.cli.run("sync").await;
    assert_eq!(again.code, 0, "{again}");
    let lines = scene.harbor.script.lines();
    assert!(lines.len() <= 55, "{} requests: {lines:#?}", lines.len());
    scene.clear();
    let verify = scene.cli.run("verify").await;
    assert_eq!(verify.code, 0, "{verify}");
    let lines = scene.harbor.script.lines();
    assert!(lines.len() <= 55, "{} requests: {lines:#?}", lines.len());
}

#[tokio::test]
async fn a_missing_permission_costs_no_token_per_image() {
    let harbor = Harbor::start().await.account(ROBOT, SECRET, Role::Reader).project("mirror", Project::default());
    let scene = Scene::with(harbor).await;
    let names: Vec<String> = (1..=10).map(|n| format!("app{n}")).collect();
    for name in &names {
        scene.publish(name).await;
    }
    let tagged: Vec<String> = names.iter().map(|name| format!("{name}:1")).collect();
    scene.list(&tagged.iter().map(String::as_str).collect::<Vec<_>>(), "");
    let sync = scene.cli.run("sync --json").await;
    assert_eq!(sync.code, 1, "{sync}");
    super::assert_error(&sync, "denied", "action: push", "both pull and push");
    let error = super::error(&sync);
    assert_eq!(error["message"].as_str().unwrap().matches("action: push").count(), 1, "said once: {error:#}");
    // One to check the password, one for the repositories, one without scope to find the cause of the refusal.
    assert!(tokens(&scene) <= 3, "{:#?}", scene.harbor.script.lines());
}

#[tokio::test]
async fn an_upload_is_cancelled_once_and_without_a_new_token() {
    for (right, status) in [(None, "401"), (Some("repository: delete"), "204")] {
        let harbor = Harbor::start().await.account(ROBOT, SECRET, Role::SystemRobot);
        let harbor = right.into_iter().fold(harbor, |harbor, right| harbor.grant(ROBOT, right));
        let scene = Scene::with(harbor.project("mirror", Project::default())).await;
        scene.publish("app").await;
        scene.list(&["app:1"], "");
        // `check` opens an upload and cancels it.
        let check = scene.cli.run("check --json").await;
        assert_eq!(check.code, 0, "{check}");
        let deletes = |scene: &Scene| -> Vec<String> {
            let lines = scene.harbor.script.lines().into_iter();
            lines.filter(|line| line.starts_with("DELETE")).collect()
        };
        assert_eq!(deletes(&scene).len(), 1, "{:#?}", scene.harbor.script.lines());
        assert!(deletes(&scene)[0].ends_with(status), "{:#?}", deletes(&scene));
        let before = tokens(&scene);
        assert!(before <= 2, "{:#?}", scene.harbor.script.lines());

        // A blob that the source doesn't have.
        scene.clear();
        scene.source.script.always("GET", "/blobs/", Fault::refuse(404, "BLOB_UNKNOWN"));
        let sync = scene.cli.run("sync").await;
        assert_eq!(sync.code, 1, "{sync}");
        let opened = scene.harbor.script.lines().iter().filter(|line| line.ends_with("/blobs/uploads/ 202")).count();
        assert!(opened > 0 && deletes(&scene).len() == opened, "{:#?}", scene.harbor.script.lines());
        assert!(tokens(&scene) <= 2, "{:#?}", scene.harbor.script.lines());
    }
}
