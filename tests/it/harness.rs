//! The support of the tests itself: a fault that doesn't happen would make tests pass that shouldn't.

use std::sync::Arc;

use futures::StreamExt as _;
use transship::error::Kind;
use transship::oci::Repository;
use transship::store::memory::Memory;
use transship::store::{Mount, Stores as _};

use crate::support::cli::{self, Cli};
use crate::support::gate::Gate;
use crate::support::http::{ask, get};
use crate::support::images::{self, image, read};
use crate::support::recorded::{self, Recorded, What};
use crate::support::registry::Registry;
use crate::support::script::Fault;

#[tokio::test]
async fn a_script_makes_requests_fail() {
    let registry = Registry::start().await;
    let graph = image("a").layer(100_000).build();
    graph.push(&registry.inside("a"), "1").await;
    let blob = graph.blobs[1].digest();
    let script = &registry.script;
    script.times(2, "GET", "/manifests/1", Fault::throttle(7));
    script.once("GET", "/blobs/", Fault::Cut { after: 70_000 });
    script.once("HEAD", "/manifests/1", Fault::Strip("docker-content-digest"));
    for status in [429, 429, 200] {
        assert_eq!(get(&registry, "/v2/a/manifests/1").await.status, status);
    }
    let head = ask(&registry, "HEAD /v2/a/manifests/1", &[], "").await;
    assert_eq!((head.status, head.header("docker-content-digest")), (200, ""));
    let cut = reqwest::get(registry.url(&format!("/v2/a/blobs/{blob}"))).await.unwrap();
    assert_eq!(cut.content_length(), Some(100_000));
    assert!(cut.bytes().await.is_err());
    insta::assert_snapshot!(script.lines().join("\n").replace(blob.as_str(), "BLOB"), @"
    GET /v2/a/manifests/1 429
    GET /v2/a/manifests/1 429
    GET /v2/a/manifests/1 200
    HEAD /v2/a/manifests/1 200
    GET /v2/a/blobs/BLOB 200
    ");

    let gate = Gate::closed();
    script.once("GET", "/tags/list", Fault::Wait(gate.clone()));
    let (tags, ()) = tokio::join!(get(&registry, "/v2/a/tags/list"), async {
        gate.reached(1).await;
        assert_eq!(registry.script.lines().last().unwrap(), "GET /v2/a/tags/list -");
        gate.open();
    });
    assert_eq!(tags.status, 200);

    script.once("POST", "mount=", Fault::DropQuery);
    let mount = format!("POST /v2/b/blobs/uploads/?mount={blob}&from=a");
    assert_eq!(ask(&registry, &mount, &[], "").await.status, 202);
    script.once("PUT", "/blobs/uploads/", Fault::CutUpload { after: 10 });
    let location = ask(&registry, "POST /v2/a/blobs/uploads/", &[], "").await.header("location").to_owned();
    let put = registry.url(&format!("{location}&digest={blob}"));
    let broken = reqwest::Client::new().put(put).body(vec![0; 1_000_000]).send().await;
    assert!(broken.is_err() || broken.unwrap().bytes().await.is_err());
}

#[tokio::test]
async fn the_same_seed_gives_the_same_image() {
    let build = || images::index().child("linux/amd64", image("a").build()).attested().build();
    assert_eq!(build().digests(), build().digests());
    assert_eq!(build().manifests().len(), 3);
    insta::assert_snapshot!(build().digest().short(), @"sha256:55c85d2f1386");
}

#[tokio::test]
async fn a_recording_shows_calls_and_makes_them_fail() {
    let name: Repository = "registry.test/a".parse().unwrap();
    let stores = Recorded::new(Arc::new(Memory::new()));
    let target = stores.target(&name).unwrap();
    let graph = image("a").build();
    graph.push(&*target, "1").await;
    assert_eq!((stores.count(What::PushBlob), stores.count(What::PushManifest)), (3, 2));
    assert!(
        stores.position(What::PushBlob, graph.blobs[0].digest().as_str()) < stores.position(What::PushManifest, "1")
    );
    stores.clear();

    let blob = &graph.blobs[1];
    stores.on(What::Blob).of(&name).for_subject(blob.digest()).times(2).fails(Kind::RateLimited);
    stores.on(What::Blob).then(recorded::Fault::Corrupts);
    stores.on(What::Blob).then(recorded::Fault::BreaksAfter(10));
    stores.on(What::PushManifest).then(recorded::Fault::LosesAnswer(Kind::Unavailable));
    stores.on(What::Mount).then(recorded::Fault::Declines);
    for _ in 0..2 {
        assert_eq!(read(target.blob(blob.descriptor(), 0).await).await.unwrap_err().kind(), Kind::RateLimited);
    }
    let corrupted = read(target.blob(blob.descriptor(), 0).await).await.unwrap();
    assert!(corrupted != blob.bytes && corrupted[1..] == blob.bytes[1..]);
    let broken: Vec<_> = target.blob(blob.descriptor(), 0).await.unwrap().collect().await;
    assert_eq!(
        (broken.iter().flatten().map(bytes::Bytes::len).sum::<usize>(), broken.last().unwrap().is_err()),
        (10, true)
    );
    let lost = target.push_manifest(&graph.manifest, &images::tagged("2")).await;
    assert_eq!(lost.unwrap_err().kind(), Kind::Unavailable);
    graph.assert_in(&*target, "2").await;
    assert_eq!(target.mount(blob.digest(), &name).await.unwrap(), Mount::Declined(None));

    stores.clear();
    stores.chunk(300);
    let chunks = target.blob(blob.descriptor(), 400).await.unwrap().count().await;
    assert_eq!((blob.bytes.len(), chunks), (1000, 2));
    insta::assert_snapshot!(cli::filtered(&stores.calls()[0].to_string()), @"Blob registry.test/a sha256:[DIGEST]@400");
}

#[tokio::test]
async fn the_binary_runs_isolated_from_the_machines_environment() {
    let cli = Cli::new().file("a/mirror.yaml", "x");
    assert_eq!(cli.read("a/mirror.yaml").as_deref(), Some("x"));
    assert_eq!(cli.run("--help").await.code, 0);
    let text = format!("at 127.0.0.1:4567 {} in 1.2 s on 2026-01-02T03:04:05.678Z", image("a").build().digest());
    insta::assert_snapshot!(cli::filtered(&text), @"at 127.0.0.1:[PORT] sha256:[DIGEST] in [SECONDS] on [TIME]");
}
