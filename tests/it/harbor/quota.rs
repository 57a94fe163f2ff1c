//! A full project: after its first refusal no further image is tried.

use super::{ROBOT, SECRET, Scene, error};
use crate::support::harbor::{Harbor, Project, Role};
use crate::support::images::image;

/// Twenty images of 480 kB, and room for 700.
async fn crowded(jobs: usize) -> (Scene, crate::support::cli::Run) {
    let project = Project { storage_limit: Some(700_000), ..Project::default() };
    let scene = Scene::with(Harbor::start().await.account(ROBOT, SECRET, Role::SystemRobot).project("mirror", project));
    let scene = scene.await;
    let names: Vec<String> = (1..=20).map(|n| format!("app{n:02}:1")).collect();
    for name in &names {
        let name = name.trim_end_matches(":1");
        let image = (0..8).fold(image(name), |image, _| image.layer(60_000)).build();
        image.push(&scene.source.inside(name), "1").await;
    }
    scene.list(&names.iter().map(String::as_str).collect::<Vec<_>>(), "");
    let sync = scene.cli.run(&format!("sync -j {jobs} --json")).await;
    (scene, sync)
}

#[tokio::test]
async fn no_further_image_is_started() {
    for jobs in [1, 4, 32] {
        let (scene, sync) = crowded(jobs).await;
        assert_eq!(sync.code, 1, "{sync}");
        let report = sync.json();
        let images = report["images"].as_array().unwrap();
        for image in images.iter().filter(|image| image["status"] != "copied") {
            assert_eq!(image["error"]["kind"], "quota_exceeded", "{image:#}");
            assert!(image["error"]["hint"].as_str().unwrap().contains("storage quota"), "{image:#}");
        }
        let refused = scene.harbor.script.lines().iter().filter(|line| line.ends_with(" 403")).count();
        let read = scene.source.script.count("GET", "/blobs/");
        // Eleven blobs fit. For each image with one of them stored or in flight, one more is tried; small blobs fit.
        let begun = 11 + jobs;
        assert!(refused <= begun + jobs, "{jobs}: {refused} refused");
        assert!(read <= begun + jobs + begun, "{jobs}: {read} blobs read");
        assert_eq!(error(&sync)["side"].as_str().or(Some("target")), Some("target"));
    }
}

#[tokio::test]
async fn transfers_in_progress_are_completed() {
    let project = Project { storage_limit: Some(700_000), ..Project::default() };
    let harbor = Harbor::start().await.account(ROBOT, SECRET, Role::SystemRobot).project("mirror", project);
    let scene = Scene::with(harbor).await;
    // The image that comes first leaves no room for the large blob of the other. Its own small blobs fit at the end.
    for (name, size) in [("big", 600_000), ("small", 200_000)] {
        image(name).layer(size).build().push(&scene.source.inside(name), "1").await;
    }
    scene.list(&["big:1", "small:1"], "");
    let sync = scene.cli.run("sync -j 1 --json").await;
    let report = sync.json();
    let copied = report["images"].as_array().unwrap().iter().filter(|image| image["status"] == "copied").count();
    assert_eq!((sync.code, copied), (1, 1), "{sync}");
    let refused = scene.harbor.script.lines().iter().filter(|line| line.ends_with(" 403")).count();
    assert_eq!(refused, 1, "{:#?}", scene.harbor.script.lines());
}

#[tokio::test]
async fn another_project_isnt_affected() {
    let (scene, _) = crowded(1).await;
    image("late").layer(600_000).build().push(&scene.source.inside("late"), "1").await;
    let roomy = Project::default();
    scene.harbor.state.lock().projects.insert("roomy".into(), roomy);
    let (source, harbor) = (scene.source.name(), scene.harbor.name());
    let text = format!(
        "targets: [\"{harbor}/mirror\", \"{harbor}/roomy\"]\nlayout: \"{{repository}}\"\nimages: [\"{source}/late:1\"]\n\
         registries:\n  \"{harbor}\": {{username: {{env: ROBOT}}, password: {{env: SECRET}}}}\n"
    );
    scene.cli.write("mirror.yaml", text);
    let sync = scene.cli.run("sync --json").await;
    let report = sync.json();
    let statuses: Vec<_> = report["images"].as_array().unwrap().iter().map(|image| image["status"].clone()).collect();
    assert_eq!(statuses, ["failed", "copied"], "{sync}");
}
