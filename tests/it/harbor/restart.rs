//! Harbor's core is unavailable for a while during a run: its proxy answers 502.

use super::Scene;
use crate::support::script::Fault;

#[tokio::test]
async fn a_restart_of_the_core_during_a_run_fails_nothing() {
    let scene = Scene::new().await;
    let names: Vec<String> = (1..=20).map(|n| format!("app{n}")).collect();
    let mut images = Vec::new();
    for name in &names {
        images.push(scene.publish(name).await);
    }
    let tagged: Vec<String> = names.iter().map(|name| format!("{name}:1")).collect();
    scene.list(&tagged.iter().map(String::as_str).collect::<Vec<_>>(), "");
    let down = || Fault::html(502);
    // By then some uploads and a manifest have been received; the token service is a part of the core.
    for (method, path) in [("POST", "/blobs/uploads/"), ("PUT", "/blobs/uploads/"), ("PUT", "/manifests/")] {
        for skip in [2, 3, 4, 5, 6] {
            scene.harbor.script.after(skip, method, path, down());
        }
    }
    scene.harbor.script.after(2, "GET", "/service/token", down());
    let sync = scene.cli.run("sync --json").await;
    assert_eq!(sync.code, 0, "{sync}");
    for (name, image) in names.iter().zip(&images) {
        image.assert_in(&scene.harbor.inside(&format!("mirror/{name}")), "1").await;
    }
    assert!(scene.harbor.script.lines().iter().any(|line| line.ends_with(" 502")));
}
