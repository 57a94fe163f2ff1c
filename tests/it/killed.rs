//! `kill -9` at more than a hundred points of a run: every visible tag has its whole graph, and the next run
//! completes.

use futures::StreamExt as _;
use futures::stream;

use crate::support::docker_registry::DockerRegistry;
use crate::support::gate::Gate;
use crate::support::images::{Image, image, index, tagged};
use crate::support::scene::Scene;
use crate::support::script::Fault;
use crate::support::stores::registry_target;

const IMAGES: usize = 6;

/// Reads at the source before the run is killed, of the 18 manifests and 24 blobs that it takes.
const READS: usize = 35;

fn graph(n: usize) -> Image {
    let child = |platform: &str| image(&format!("app{n} {platform}")).layer(20_000).build();
    index().child("linux/amd64", child("linux/amd64")).child("linux/arm64", child("linux/arm64")).build()
}

/// Kills a run with this many transfers at read number `skip` from the source, checks each tag of the target, and
/// resumes.
async fn killed_at(real: &DockerRegistry, jobs: usize, skip: usize) {
    let scene = Scene::new().await;
    let prefix = format!("m{jobs}-{skip}");
    let images: Vec<Image> = (0..IMAGES).map(graph).collect();
    let mut entries = String::new();
    for (n, image) in images.iter().enumerate() {
        image.push(&scene.source.inside(&format!("app{n}")), "1").await;
        entries += &format!("  - SRC/app{n}:1\n");
    }
    let target = real.name();
    scene.write("mirror.yaml", &format!("target: {target}/{prefix}\nlayout: \"{{repository}}\"\nimages:\n{entries}"));
    let gate = Gate::closed();
    scene.source.script.after(skip, "GET", "/v2/", Fault::Wait(gate.clone()));
    scene.cli.killed(&format!("sync -j {jobs} --no-cache"), gate.reached(1)).await;
    scene.source.script.heal();
    let at = |n: usize| registry_target(&real.repository(&format!("{prefix}/app{n}")));
    for (n, image) in images.iter().enumerate() {
        if at(n).resolve(&tagged("1")).await.is_ok() {
            image.assert_in(&*at(n), "1").await;
        }
    }
    let run = scene.cli.run("sync").await;
    assert_eq!(run.code, 0, "{prefix}: {run}");
    for (n, image) in images.iter().enumerate() {
        image.assert_in(&*at(n), "1").await;
    }
}

#[tokio::test]
async fn whenever_a_run_is_killed_every_tag_has_its_whole_graph() {
    let Some(real) = DockerRegistry::start() else { return };
    let points = [1, 4, 32].into_iter().flat_map(|jobs| (0..READS).map(move |skip| (jobs, skip)));
    stream::iter(points)
        .map(|(jobs, skip)| killed_at(&real, jobs, skip))
        .buffer_unordered(4)
        .collect::<Vec<()>>()
        .await;
}
