//! Hosts in trouble, and blobs that come wrong: what is waited for, what is given up, and what it costs the others.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::future::join_all;
use serde_json::Value;
use tokio::net::TcpListener;

use crate::support::cli::Run;
use crate::support::docker_registry::DockerRegistry;
use crate::support::gate::Gate;
use crate::support::images::{Image, image};
use crate::support::registry::Registry;
use crate::support::scene::{Scene, statuses};
use crate::support::script::Fault;
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

/// A host that is busy answers the next few of these requests so; no image is lost.
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
async fn a_host_that_is_busy_for_a_while_costs_no_image() {
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
async fn a_host_that_asks_for_more_than_is_allowed_is_given_up_at_once_with_the_time_to_come_back() {
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
async fn a_closed_target_ends_five_hundred_images_with_one_series_of_attempts() {
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

/// A host that accepts connections, and says nothing.
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

#[tokio::test]
async fn a_silent_blob_host_has_one_bound_and_one_error_for_all_who_need_it() {
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
    // A wave of all that were under way, and then one at a time.
    assert!(connections.load(Ordering::SeqCst) <= 10, "{}", connections.load(Ordering::SeqCst));
    assert!(!format!("{run}").contains("secret"), "{run}");
}

#[tokio::test]
async fn a_blob_host_that_breaks_off_is_named() {
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
async fn a_quota_that_is_used_up_costs_one_pull() {
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
async fn damaged_bytes_are_read_once_more_and_twice_damaged_ones_are_the_sources_fault() {
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
async fn a_manifest_that_lies_about_a_size_fails_alone_and_at_once() {
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
    let mut told = statuses(&run);
    told.sort();
    assert_eq!((run.code, told), (1, vec!["copied".to_owned(), "failed".to_owned()]), "{run}");
    let error = &errors(&run)[0];
    assert_eq!((&error["kind"], &error["attempts"]), (&"mismatch".into(), &1.into()), "{run}");
    scene.assert_mirrored(&good, "app", "good").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registry_that_is_stopped_and_started_in_the_middle_costs_no_image() {
    for at_source in [true, false] {
        let (Some(mut real), scene) = (DockerRegistry::start(), Scene::new().await) else { return };
        let (source, target) = match at_source {
            true => (real.name().to_string(), "DST".to_owned()),
            false => ("SRC".to_owned(), real.name().to_string()),
        };
        let mut entries = String::new();
        let mut images = Vec::new();
        for n in 0..30 {
            let image = image(&format!("app{n}")).layer(200_000).build();
            match at_source {
                true => image.push(&*registry_target(&real.repository(&format!("app{n}"))), "1").await,
                false => image.push(&scene.source.inside(&format!("app{n}")), "1").await,
            }
            entries += &format!("  - {source}/app{n}:1\n");
            images.push(image);
        }
        scene.write("mirror.yaml", &format!("target: {target}/mirror\nlayout: \"{{repository}}\"\nimages:\n{entries}"));
        // In the middle: the other side holds one image up until the registry is away.
        let gate = Gate::closed();
        let script = if at_source { &scene.target.script } else { &scene.source.script };
        let path = if at_source { "/uploads/" } else { "/blobs/" };
        script.after(20, if at_source { "PUT" } else { "GET" }, path, Fault::Wait(gate.clone()));
        let outage = async {
            gate.reached(1).await;
            real.stop();
            gate.open();
            // Nobody answers until it is up again.
            tokio::task::block_in_place(|| real.restart());
        };
        let (run, ()) = tokio::join!(scene.cli.run("sync --json"), outage);
        assert_eq!(run.code, 0, "{at_source}: {run}");
        for (n, image) in images.iter().enumerate() {
            match at_source {
                true => scene.assert_mirrored(image, &format!("app{n}"), "1").await,
                false => image.assert_in(&*registry_target(&real.repository(&format!("mirror/app{n}"))), "1").await,
            }
        }
    }
}

#[tokio::test]
async fn the_bandwidth_that_is_set_is_kept() {
    let scene = Scene::new().await;
    image("app").layer(300_000).build().push(&scene.source.inside("app"), "1").await;
    scene.list("  - SRC/app:1\nlimits: {bandwidth: 200kB/s}\n");
    let run = scene.cli.run("sync --json").await;
    let seconds = run.json()["images"][0]["seconds"].as_f64().expect("a number");
    assert!(run.code == 0 && seconds > 1.0, "300 kB in {seconds} s: {run}");
}
