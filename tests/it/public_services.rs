//! Public services accept blobs in different ways: the client finds the right one without settings, and each stand-in
//! refuses a client that doesn't.

use crate::support::cli::Cli;
use crate::support::http::ask;
use crate::support::images::{Blob, Image, image};
use crate::support::moto::{ACCOUNT, Moto};
use crate::support::registry::{Registry, Settings};
use crate::support::script::Fault;
use crate::support::services::Service;
use crate::support::tokens::Tokens;
use transship::oci::MediaType;

const MIB: usize = 1 << 20;

async fn registry(service: Service) -> Registry {
    Registry::with(Settings { service: Some(service), ..Settings::default() }).await
}

/// An image with a layer of this many MiB.
fn large(mebibytes: usize) -> Image {
    let part = Blob::seeded(MediaType::OCI_LAYER, "large", MIB).bytes;
    image("large").blob(Blob::new(MediaType::OCI_LAYER, part.repeat(mebibytes))).build()
}

/// A run in which `registry` acts as `host`.
fn cli(host: &str, registry: &Registry) -> Cli {
    let registries = format!("registries:\n  {host}: {{endpoint: \"{}\"}}\n", registry.url(""));
    Cli::new().file("mirror.yaml", format!("target: {host}\nimages: []\n{registries}"))
}

/// Copies 100 MB to a stand-in for `host`; returns the number of chunks.
async fn copy_large(service: Service, host: &str, configure: impl Fn(Cli) -> Cli) -> usize {
    let (source, target) = (Registry::start().await, registry(service).await);
    let large = large(100);
    large.push(&source.inside("app"), "1").await;
    let cli = configure(cli(host, &target));
    let run = cli.run(&format!("copy {}/app:1 {host}/me/app:1", source.name())).await;
    assert_eq!(run.code, 0, "{run}");
    large.assert_in(&target.inside("me/app"), "1").await;
    // Nothing was refused.
    let refused =
        target.script.seen().into_iter().find(|seen| seen.path.contains("/uploads/") && seen.status >= Some(400));
    assert!(refused.is_none(), "{refused:?}");
    target.script.count("PATCH", "/blobs/uploads/")
}

#[tokio::test]
async fn a_large_blob_is_uploaded_to_every_service_without_settings() {
    for (service, host, chunks) in [
        (Service::Ghcr, "ghcr.io", 0),
        (Service::Acr, "myregistry.azurecr.io", 7),
        (Service::Google, "europe-docker.pkg.dev", 0),
    ] {
        assert_eq!(copy_large(service, host, |cli| cli).await, chunks, "{host}");
    }
}

#[tokio::test]
async fn a_large_blob_is_uploaded_to_ecr_without_settings() {
    let Some(moto) = Moto::start() else { return };
    let host = format!("{ACCOUNT}.dkr.ecr.eu-west-1.amazonaws.com");
    let configure = |cli: Cli| {
        let cli = cli.env("AWS_ENDPOINT_URL_ECR", moto.endpoint());
        cli.env("AWS_ACCESS_KEY_ID", "test").env("AWS_SECRET_ACCESS_KEY", "test")
    };
    assert_eq!(copy_large(Service::Ecr, &host, configure).await, 0);
}

#[tokio::test]
async fn a_blob_too_large_for_an_unknown_proxy_is_sent_in_chunks() {
    let (source, target) = (Registry::start().await, registry(Service::Proxy(5 << 20)).await);
    let large = large(18);
    large.push(&source.inside("app"), "1").await;
    let run = Cli::new().run(&format!("copy {}/app:1 {}/app:1", source.name(), target.name())).await;
    assert_eq!(run.code, 0, "{run}");
    large.assert_in(&target.inside("app"), "1").await;
    // Refused whole and in chunks of 16 MiB; then five of 4 MiB at most.
    let seen = target.script.seen();
    let refused: Vec<_> =
        seen.iter().filter(|seen| seen.status == Some(413)).map(|seen| seen.method.as_str()).collect();
    assert_eq!(refused, ["PUT", "PATCH"]);
    assert_eq!(target.script.count("PATCH", "/blobs/uploads/"), 1 + 5);
}

/// Sends `chunks` by PATCH to the location of the last answer, then commits `blob` with `rest`; returns the statuses.
async fn send(registry: &Registry, blob: &Blob, chunks: &[&[u8]], rest: &[u8]) -> Vec<u16> {
    let opened = ask(registry, "POST /v2/app/blobs/uploads/", &[], "").await;
    let mut location = opened.header("location").to_owned();
    let mut statuses = Vec::new();
    for chunk in chunks {
        let answer = ask(registry, &format!("PATCH {location}"), &[], chunk.to_vec()).await;
        statuses.push(answer.status);
        if answer.status < 300 {
            location = answer.header("location").to_owned();
        }
    }
    let commit = format!("PUT {location}&digest={}", blob.digest());
    statuses.push(ask(registry, &commit, &[], rest.to_vec()).await.status);
    statuses
}

#[tokio::test]
async fn each_stand_in_refuses_a_client_that_the_service_would_refuse() {
    let blob = Blob::seeded(MediaType::OCI_LAYER, "blob", 21 * MIB);
    let whole: &[u8] = &blob.bytes;
    let (first, second) = whole.split_at(4 * MIB);
    for (service, chunks, rest, expected) in [
        // All but ACR accept the whole blob.
        (Service::Ghcr, vec![], whole, vec![201]),
        (Service::Google, vec![], whole, vec![201]),
        (Service::Ecr, vec![], whole, vec![201]),
        (Service::Acr, vec![], whole, vec![413]),
        (Service::Acr, vec![first, second], &[], vec![202, 202, 201]),
        (
            Service::Ghcr,
            vec![first, &second[..MIB], &second[MIB..2 * MIB]],
            &second[2 * MIB..],
            vec![202, 202, 202, 400],
        ),
        (Service::Ghcr, vec![&whole[..4 * MIB + 1]], &[], vec![413, 400]),
        (Service::Google, vec![first], second, vec![405, 400]),
        (Service::Ecr, vec![first, second], &[], vec![201, 201, 400]),
        (Service::Proxy(1 << 20), vec![first], &[], vec![413, 400]),
    ] {
        let registry = registry(service).await;
        let parts: Vec<usize> = chunks.iter().map(|chunk| chunk.len()).collect();
        assert_eq!(send(&registry, &blob, &chunks, rest).await, expected, "{service:?} {parts:?}");
    }
    let empty = Blob::new(MediaType::OCI_LAYER, "");
    assert_eq!(send(&registry(Service::Google).await, &empty, &[], &[]).await, [400]);
    let unmeasured = reqwest::Body::wrap_stream(futures::stream::iter([Ok::<_, std::io::Error>(blob.bytes.clone())]));
    let google = registry(Service::Google).await;
    let location = ask(&google, "POST /v2/app/blobs/uploads/", &[], "").await.header("location").to_owned();
    let commit = format!("PUT {location}&digest={}", blob.digest());
    assert_eq!(ask(&google, &commit, &[], unmeasured).await.status, 411);
}

#[tokio::test]
async fn a_refused_empty_blob_is_explained() {
    let (source, target) = (Registry::start().await, registry(Service::Google).await);
    let odd = image("odd").layer(0).layer(5).build();
    odd.push(&source.inside("app"), "1").await;
    let cli = Cli::new();
    let run = cli.run(&format!("copy {}/app:1 {}/app:1", source.name(), target.name())).await;
    assert_eq!(run.code, 1, "{run}");
    assert!(run.to_string().contains("doesn't accept empty blobs"), "{run}");
}

#[tokio::test]
async fn a_mount_refused_in_any_way_becomes_an_upload() {
    // Old Quay, GitLab and Harbor without permission on the source repository, Artifactory and ECR.
    for refusal in [Fault::refuse(400, "NAME_INVALID"), Fault::refuse(401, "UNAUTHORIZED"), Fault::DropQuery] {
        let (source, target) = (Registry::start().await, Registry::start().await);
        let shared = |seed: &str| image(seed).shared_layer("base", 200_000).build();
        let (a, b) = (shared("a"), shared("b"));
        a.push(&source.inside("a"), "1").await;
        b.push(&source.inside("b"), "1").await;
        target.script.always("POST", "mount=", refusal);
        let list = "target: DST\nlayout: \"{name}\"\nimages: [\"SRC/a:1\", \"SRC/b:1\"]\n";
        let list = list.replace("SRC", source.name().as_str()).replace("DST", target.name().as_str());
        let run = Cli::new().file("mirror.yaml", list).run("sync").await;
        assert_eq!(run.code, 0, "{run}");
        a.assert_in(&target.inside("a"), "1").await;
        b.assert_in(&target.inside("b"), "1").await;
        assert!(target.script.count("POST", "mount=") > 0);
        assert_eq!(
            source.script.count("GET", a.blobs[1].digest().as_str()),
            1,
            "the layer is read from the source once"
        );
    }
}

#[tokio::test]
async fn docker_hub_is_read_and_written_under_all_its_names() {
    let tokens = Tokens::new();
    let hub = Registry::with(Settings { tokens: Some(tokens.clone()), ..Settings::default() }).await;
    let alpine = image("alpine").build();
    alpine.push(&hub.inside("library/alpine"), "3").await;
    let run = cli("docker.io", &hub).run("copy alpine:3 index.docker.io/me/alpine").await;
    assert_eq!(run.code, 0, "{run}");
    alpine.assert_in(&hub.inside("me/alpine"), "3").await;
    let asked: std::collections::BTreeSet<_> = tokens.requests().into_iter().flatten().collect();
    let expected = ["repository:library/alpine:pull", "repository:me/alpine:pull", "repository:me/alpine:pull,push"];
    assert_eq!(asked.iter().map(String::as_str).collect::<Vec<_>>(), expected);
}
