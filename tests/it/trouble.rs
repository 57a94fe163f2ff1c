//! Hosts in trouble and damaged blobs: how long runs wait, when they give up, and which images fail.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::future::join_all;
use serde_json::Value;
use tokio::net::TcpListener;
use transship::oci::Digest;

use crate::support::cli::Run;
use crate::support::docker_registry::DockerRegistry;
use crate::support::gate::Gate;
use crate::support::images::{Image, image};
use crate::support::registry::Registry;
use crate::support::scene::{Scene, statuses};
use crate::support::script::{Fault, Script};
use crate::support::stores::registry_target;

const NAMES: usize = 20;

/// Twenty images at the source, all on the list.
async fn twenty(scene: &Scene, limits: &str) -> Vec<Image> {
    let mut images = Vec::new();
    for n in 0..NAMES {
        images.push(scene.publish(&format!("app{n}"), "1").await);
    }
    let entries: String = (0..NAMES).map(|n| format!("  - SRC/app{n}:1\n")).collect();
    scene.list(&format!("{entries}{limits}"));
    images
}

fn errors(run: &Run) -> Vec<Value> {
    let images = run.json()["images"].as_array().expect("images").clone();
    images.into_iter().map(|image| image["error"].clone()).filter(|error| !error.is_null()).collect()
}

/// A host answers four of these requests with `status`; no image fails.
async fn busy(at_source: bool, method: &'static str, path: &str, status: u16) {
    let scene = Scene::new().await;
    let images = twenty(&scene, "").await;
    let script = if at_source { &scene.source.script } else { &scene.target.script };
    script.times(4, method, path, Fault::Answer { status, headers: vec![], body: String::new() });
    let run = scene.cli.run("sync --json").await;
    assert_eq!(run.code, 0, "{status} {method} {path}: {run}");
    for (n, image) in images.iter().enumerate() {
        scene.assert_mirrored(image, &format!("app{n}"), "1").await;
    }
}

#[tokio::test]
async fn a_temporarily_busy_host_fails_no_image() {
    let requests = [
        (true, "HEAD", "/manifests/", 429),
        (true, "GET", "/manifests/", 503),
        (true, "GET", "/blobs/", 520),
        (false, "POST", "/uploads/", 429),
        (false, "PUT", "/uploads/", 502),
        (false, "PUT", "/manifests/", 504),
    ];
    join_all(requests.map(|(at_source, method, path, status)| busy(at_source, method, path, status))).await;
}

#[tokio::test]
async fn uploads_refused_for_some_seconds_fail_no_image() {
    let scene = Scene::new().await;
    let image = scene.publish("app", "1").await;
    let fault = Fault::Answer { status: 503, headers: vec![], body: String::new() };
    let layer = image.blobs[1].digest().hex().to_owned();
    scene.target.script.times(5, "PUT", layer.clone(), fault);
    scene.list("  - SRC/app:1\n");
    let run = scene.cli.run("sync --json").await;
    assert_eq!((run.code, scene.target.script.count("PUT", &layer)), (0, 6), "{run}");
    scene.assert_mirrored(&image, "app", "1").await;
}

#[tokio::test]
async fn a_failing_repository_is_given_up_without_its_host() {
    let scene = Scene::new().await;
    let image = scene.publish("app", "1").await;
    let fault = Fault::Answer { status: 503, headers: vec![], body: String::new() };
    // All other images are resolved before the repository is given up, and use the host afterwards.
    scene.source.script.always("HEAD", "/bad/", fault);
    scene.list("  - SRC/bad:1\n  - SRC/bad:2\n  - SRC/bad:3\n  - SRC/app:1\nlimits: {max_wait: 3s}\n");
    let run = scene.cli.run("sync --json").await;
    assert_eq!((run.code, errors(&run).len()), (1, 3), "{run}");
    scene.assert_mirrored(&image, "app", "1").await;
}

#[tokio::test]
async fn a_retry_after_beyond_max_wait_gives_up_the_host_at_once_and_names_the_time() {
    let scene = Scene::new().await;
    twenty(&scene, "").await;
    let fault = Fault::Answer { status: 429, headers: vec![("retry-after", "86400".into())], body: String::new() };
    scene.source.script.always("GET", "/blobs/", fault);
    let run = scene.cli.run("sync --json").await;
    let errors = errors(&run);
    assert_eq!((run.code, errors.len()), (1, NAMES), "{run}");
    for error in &errors {
        assert_eq!((&error["kind"], &error["http_status"]), (&"rate_limited".into(), &429.into()), "{run}");
        assert_eq!(error["message"], errors[0]["message"]);
        assert!(error["hint"].as_str().expect("a hint").starts_with("run it again after 2"), "{error}");
    }
}

#[tokio::test]
async fn an_unreachable_target_fails_five_hundred_images_with_one_series_of_attempts() {
    let scene = Scene::new().await;
    let image = image("app").build();
    image.push(&scene.source.inside("app"), "1").await;
    let closed = TcpListener::bind("127.0.0.1:0").await.expect("a free port").local_addr().expect("it is bound");
    let entries: String = (0..500).map(|n| format!("  - {{image: SRC/app:1, to: m/n{n}}}\n")).collect();
    scene.write("mirror.yaml", &format!("target: {closed}\nimages:\n{entries}"));
    let run = scene.cli.run("sync --json").await;
    let errors = errors(&run);
    assert_eq!((run.code, errors.len()), (2, 500), "{}", run.stderr);
    assert!(
        errors.iter().all(|error| error["message"] == errors[0]["message"] && error["attempts"] == 5),
        "{}",
        errors[0]
    );
}

/// A host that accepts connections but never answers; its name, and its number of connections.
async fn silent() -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let name = listener.local_addr().expect("it is bound").to_string();
    let connections = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&connections);
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((connection, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::SeqCst);
            held.push(connection);
        }
    });
    (name, connections)
}

/// The target is asked while the sources are being resolved, but nothing depends on its answer.
#[tokio::test]
async fn a_silent_target_is_not_waited_for_if_nothing_could_be_resolved() {
    for (line, method, path) in
        [("sync --json", "GET", "/tags/list"), ("sync --no-lock --json", "HEAD", "/manifests/1")]
    {
        let scene = Scene::new().await;
        scene.list("  - SRC/absent:1\n");
        let (asked, resolving) = (Gate::closed(), Gate::closed());
        scene.target.script.always(method, path, Fault::Wait(asked.clone()));
        scene.source.script.once("HEAD", "/manifests/1", Fault::Wait(resolving.clone()));
        let answer = async {
            asked.reached(1).await;
            resolving.open();
        };
        let both = async { tokio::join!(scene.cli.run(line), answer).0 };
        let run = tokio::time::timeout(Duration::from_secs(30), both).await;
        let run = run.expect("the target is asked, and the run ends without its answer");
        let errors = errors(&run);
        assert_eq!((run.code, errors.len(), &errors[0]["side"]), (1, 1, &"source".into()), "{line}: {run}");
    }
}

#[tokio::test]
async fn a_silent_blob_host_gives_one_error_for_all_its_images() {
    let scene = Scene::new().await;
    for name in ["a", "b", "c"] {
        image(name).shared_layer("base", 10_000).build().push(&scene.source.inside(name), "1").await;
    }
    let (blobs, connections) = silent().await;
    let redirect = Fault::redirect(307, format!("http://{blobs}/signed?x=secret"));
    scene.source.script.always("GET", "/blobs/", redirect);
    scene.list("  - SRC/a:1\n  - SRC/b:1\n  - SRC/c:1\nlimits: {idle_timeout: 1s, max_wait: 3s}\n");
    let run = scene.cli.run("sync --json").await;
    let errors = errors(&run);
    assert_eq!((run.code, errors.len()), (1, 3), "{run}");
    for error in &errors {
        assert!(
            error["message"] == errors[0]["message"] && error["message"].as_str().unwrap().contains(&blobs),
            "{run}"
        );
    }
    // All requests that are in progress at first, then one at a time.
    assert!(connections.load(Ordering::SeqCst) <= 10, "{}", connections.load(Ordering::SeqCst));
    assert!(!format!("{run}").contains("secret"), "{run}");
}

#[tokio::test]
async fn a_blob_host_that_breaks_the_connection_is_named() {
    let scene = Scene::new().await;
    let blobs = Registry::start().await;
    let image = image("app").layer(5000).build();
    for registry in [&scene.source, &blobs] {
        image.push(&registry.inside("app"), "1").await;
    }
    let layer = format!("/v2/app/blobs/{}", image.blobs[1].digest());
    scene.source.script.always("GET", &layer, Fault::redirect(307, format!("{}?sig=secret", blobs.url(&layer))));
    blobs.script.always("GET", &layer, Fault::Cut { after: 100 });
    scene.list("  - SRC/app:1\n");
    let run = scene.cli.run("sync --json").await;
    let error = errors(&run)[0]["message"].as_str().expect("a message").to_owned();
    assert!(run.code == 1 && error.contains(&format!(": {}: ", blobs.name())), "{run}");
    assert!(!format!("{run}").contains("secret"), "{run}");
}

#[tokio::test]
async fn an_exhausted_quota_costs_one_pull() {
    let scene = Scene::new().await;
    twenty(&scene, "").await;
    let body = "You have reached your pull rate limit. You may increase the limit by authenticating".to_owned();
    scene.source.script.always("GET", "/manifests/", Fault::Answer { status: 429, headers: vec![], body });
    let run = scene.cli.run("sync --json").await;
    let errors = errors(&run);
    assert_eq!((run.code, errors.len(), scene.source.script.count("GET", "/manifests/")), (4, NAMES, 1), "{run}");
    assert!(errors.iter().all(|error| error["kind"] == "quota_exceeded"), "{run}");
    assert!(statuses(&run).iter().all(|status| status == "deferred"), "{run}");
}

#[tokio::test]
async fn damaged_bytes_are_read_again_once_and_then_reported_for_the_source() {
    for (times, code) in [(1, 0), (usize::MAX, 1)] {
        let scene = Scene::new().await;
        let image = image("app").layer(5000).build();
        image.push(&scene.source.inside("app"), "1").await;
        let layer = image.blobs[1].digest().to_string();
        scene.source.script.times(times, "GET", format!("/blobs/{layer}"), Fault::Corrupt);
        scene.list("  - SRC/app:1\n");
        let run = scene.cli.run("sync --json").await;
        assert_eq!((run.code, scene.source.script.count("GET", &layer)), (code, 2), "{run}");
        if code == 1 {
            let error = &errors(&run)[0];
            assert_eq!((&error["kind"], &error["side"]), (&"mismatch".into(), &"source".into()), "{run}");
        }
    }
}

#[tokio::test]
async fn a_manifest_with_a_wrong_size_fails_alone_and_at_once() {
    let scene = Scene::new().await;
    let good = image("good").shared_layer("base", 50_000).build();
    let mut layer = good.blobs[1].clone();
    layer.descriptor.size += 1;
    let mut liar = image("liar").blob(layer).build();
    liar.blobs[1] = good.blobs[1].clone();
    good.push(&scene.source.inside("app"), "good").await;
    liar.push(&scene.source.inside("app"), "liar").await;
    scene.list("  - {image: SRC/app, tags: [liar, good]}\n");
    let run = scene.cli.run("sync --json").await;
    let mut found = statuses(&run);
    found.sort();
    assert_eq!((run.code, found), (1, vec!["copied".to_owned(), "failed".to_owned()]), "{run}");
    let error = &errors(&run)[0];
    assert_eq!((&error["kind"], &error["attempts"]), (&"mismatch".into(), &1.into()), "{run}");
    scene.assert_mirrored(&good, "app", "good").await;
}

/// Thirty images, each fifth with a layer of 8 MiB.
fn thirty() -> Vec<Image> {
    let size = |n: usize| if n.is_multiple_of(5) { 8 << 20 } else { 20_000 };
    (0..30).map(|n| image(&format!("app{n}")).layer(size(n)).build()).collect()
}

/// The repository of image number `n`.
fn name(n: usize) -> String {
    if n.is_multiple_of(5) { format!("app{n}/large") } else { format!("app{n}") }
}

/// Stops and restarts `real` in the middle of a run. The images with large layers have twelve blobs. `script`, on the
/// other side, holds the tenth request with `method` for one of them until `real` has stopped. By then, at least four
/// large layers have been started and two are stored. The next attempt checks which ones are stored.
async fn with_an_outage<T>(
    scene: &Scene,
    (real, script): (&mut DockerRegistry, &Script),
    method: &'static str,
    arrived: impl FnOnce(&DockerRegistry) -> T,
) -> (Run, T) {
    let gate = Gate::closed();
    script.after(9, method, "/large/blobs/", Fault::Wait(gate.clone()));
    let outage = async {
        gate.reached(1).await;
        real.stop();
        let arrived = arrived(real);
        gate.open();
        // Nothing answers until it is up again.
        tokio::task::block_in_place(|| real.restart());
        arrived
    };
    tokio::join!(scene.cli.run("sync --json"), outage)
}

/// The layers of 8 MiB, each with its repository.
fn large(images: &[Image]) -> impl Iterator<Item = (String, &Digest)> {
    images.iter().enumerate().step_by(5).map(|(n, image)| (name(n), image.blobs[1].digest()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_of_the_source_fails_no_image_and_repeats_no_large_blob() {
    let (Some(mut real), scene, images) = (DockerRegistry::start(), Scene::new().await, thirty()) else { return };
    let mut entries = String::new();
    for (n, image) in images.iter().enumerate() {
        image.push(&*registry_target(&real.repository(&name(n))), "1").await;
        entries += &format!("  - {}/{}:1\n", real.name(), name(n));
    }
    scene.list(&format!("{entries}limits: {{transfers: 2}}\n"));
    let script = scene.target.script.clone();
    let put = |digest: &Digest| script.lines().iter().filter(|line| is_commit(line, digest)).count();
    let arrived = |real: &DockerRegistry| {
        let arrived = large(&images).filter(|(_, digest)| put(digest) > 0).map(|(_, digest)| digest.clone());
        (arrived.collect::<Vec<_>>(), real.access_log().len())
    };
    let (run, (arrived, before)) = with_an_outage(&scene, (&mut real, &script), "PUT", arrived).await;
    assert_eq!(run.code, 0, "{run}");
    assert!(arrived.len() >= 2, "{arrived:?}");
    for (n, image) in images.iter().enumerate() {
        scene.assert_mirrored(image, &name(n), "1").await;
    }
    for (_, digest) in large(&images) {
        assert_eq!(put(digest), 1, "{:#?}", script.lines());
    }
    let log = real.access_log();
    let read_again = |digest: &Digest| log[before..].lines().any(|line| is_read(line, digest));
    assert!(!arrived.iter().any(read_again), "{log}");
    println!("{} of 6 large blobs had arrived when the source went away, and weren't read again", arrived.len());
}

/// Whether a line of a script's log is the commit of a blob.
fn is_commit(line: &str, digest: &Digest) -> bool {
    line.starts_with("PUT ") && line.contains(digest.hex()) && line.ends_with(" 201")
}

/// Whether a line of an access log is the read of a blob.
fn is_read(line: &str, digest: &Digest) -> bool {
    line.contains("\"GET ") && line.contains(&format!("/blobs/{digest}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_of_the_target_fails_no_image_and_repeats_no_large_blob() {
    let (Some(mut real), scene, images) = (DockerRegistry::start(), Scene::new().await, thirty()) else { return };
    let mut entries = String::new();
    for (n, image) in images.iter().enumerate() {
        image.push(&scene.source.inside(&name(n)), "1").await;
        entries += &format!("  - SRC/{}:1\n", name(n));
    }
    let target = real.name();
    let list =
        format!("target: {target}/mirror\nlayout: \"{{repository}}\"\nlimits: {{transfers: 2}}\nimages:\n{entries}");
    scene.write("mirror.yaml", &list);
    let script = scene.source.script.clone();
    // A blob on the disk counts, whether or not the answer was received.
    let arrived = |real: &DockerRegistry| {
        let is_there = |repository: &str, digest: &Digest| {
            let layers = real.repository_folder(&format!("mirror/{repository}")).join("_layers/sha256");
            layers.join(digest.hex()).join("link").exists()
        };
        let arrived = large(&images).filter(|(repository, digest)| is_there(repository, digest));
        (arrived.map(|(_, digest)| digest.clone()).collect::<Vec<_>>(), real.access_log().len())
    };
    let (run, (arrived, before)) = with_an_outage(&scene, (&mut real, &script), "GET", arrived).await;
    assert_eq!(run.code, 0, "{run}");
    assert!(arrived.len() >= 2, "{arrived:?}");
    for (n, image) in images.iter().enumerate() {
        image.assert_in(&*registry_target(&real.repository(&format!("mirror/{}", name(n)))), "1").await;
    }
    let log = real.access_log();
    let sent = |log: &str, digest: &Digest| {
        log.lines().filter(|line| line.contains("\"PUT ") && line.contains(digest.hex())).count()
    };
    for digest in &arrived {
        assert_eq!(sent(&log[before..], digest), 0, "{log}");
    }
    println!("{} of 6 large blobs had arrived when the target went away, and weren't sent again", arrived.len());
}

#[tokio::test]
async fn the_bandwidth_limit_is_kept() {
    let scene = Scene::new().await;
    image("app").layer(300_000).build().push(&scene.source.inside("app"), "1").await;
    scene.list("  - SRC/app:1\nlimits: {bandwidth: 200kB/s}\n");
    let run = scene.cli.run("sync --json").await;
    let seconds = run.json()["images"][0]["seconds"].as_f64().expect("a number");
    assert!(run.code == 0 && seconds > 1.0, "300 kB in {seconds} s: {run}");
}
