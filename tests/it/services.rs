//! Public services, each with its own way of taking blobs: the client finds it without being told, and each stand-in
//! refuses a client that doesn't.

use crate::support::cli::Cli;
use crate::support::http::ask;
use crate::support::images::{Blob, Image, image};
use crate::support::registry::{Registry, Settings};
use crate::support::script::Fault;
use crate::support::services::Service;
use crate::support::tokens::Tokens;
use transship::oci::MediaType;

const MIB: usize = 1 << 20;

async fn registry(service: Service) -> Registry {
    Registry::with(Settings { service: Some(service), ..Settings::default() }).await
}

/// An image with a layer of so many MiB.
fn large(mebibytes: usize) -> Image {
    let part = Blob::seeded(MediaType::OCI_LAYER, "large", MIB).bytes;
    image("large").blob(Blob::new(MediaType::OCI_LAYER, part.repeat(mebibytes))).build()
}

/// `copy` from `source` to a repository that is called by the service's name.
async fn copy(source: &str, target: &str, settings: &str) {
    let cli =
        Cli::new().file("mirror.yaml", format!("target: unused.example.com\nimages: []\nregistries:\n{settings}"));
    let run = cli.run(&format!("copy {source} {target}")).await;
    assert_eq!(run.code, 0, "{run}");
}

#[tokio::test]
async fn a_large_blob_goes_to_every_service_without_settings() {
    let source = Registry::start().await;
    let large = large(100);
    large.push(&source.inside("app"), "1").await;
    for (service, host, create) in [
        (Service::Ghcr, "ghcr.io", ""),
        (Service::Acr, "myregistry.azurecr.io", ""),
        (Service::Google, "europe-docker.pkg.dev", ""),
        (
            Service::Ecr,
            "123456789012.dkr.ecr.eu-west-1.amazonaws.com",
            ", username: AWS, password: {env: PASSWORD}, ecr: {create: false}",
        ),
    ] {
        let target = registry(service).await;
        if service == Service::Ecr {
            // With `create: false` the repository has to exist.
            image("first").build().push(&target.inside("me/app"), "first").await;
        }
        let endpoint = target.url("");
        let settings = format!("  {host}: {{endpoint: \"{endpoint}\"{create}}}\n");
        copy(&format!("{}/app:1", source.name()), &format!("{host}/me/app:1"), &settings).await;
        large.assert_in(&target.inside("me/app"), "1").await;
        // One attempt was enough: nothing was refused.
        assert!(target.script.seen().iter().all(|seen| seen.status < Some(400) || seen.status == Some(404)));
        let patches = if service == Service::Acr { 7 } else { 0 };
        assert_eq!(target.script.count("PATCH", "/blobs/uploads/"), patches, "{host}");
    }
}

#[tokio::test]
async fn what_an_unknown_proxy_finds_too_large_goes_in_chunks() {
    let (source, target) = (Registry::start().await, registry(Service::Proxy(5 << 20)).await);
    let large = large(18);
    large.push(&source.inside("app"), "1").await;
    copy(&format!("{}/app:1", source.name()), &format!("{}/app:1", target.name()), "  unused.example.com: {}\n").await;
    large.assert_in(&target.inside("app"), "1").await;
    // Refused whole and in chunks of 16 MiB; then five of 4 MiB at most.
    let seen = target.script.seen();
    let refused: Vec<_> =
        seen.iter().filter(|seen| seen.status == Some(413)).map(|seen| seen.method.as_str()).collect();
    assert_eq!(refused, ["PUT", "PATCH"]);
    assert_eq!(target.script.count("PATCH", "/blobs/uploads/"), 1 + 5);
}

/// Sends `chunks` by PATCH, each where the last answer said, then commits `blob` with `rest`; the status of each answer.
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
async fn each_stand_in_refuses_a_client_that_is_wrong_there() {
    let blob = Blob::seeded(MediaType::OCI_LAYER, "blob", 21 * MIB);
    let whole: &[u8] = &blob.bytes;
    let (first, second) = whole.split_at(4 * MIB);
    for (service, chunks, rest, expected) in [
        // Whole is what all but ACR take.
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
async fn an_empty_blob_that_is_refused_is_explained() {
    let (source, target) = (Registry::start().await, registry(Service::Google).await);
    let odd = image("odd").layer(0).layer(5).build();
    odd.push(&source.inside("app"), "1").await;
    let cli = Cli::new();
    let run = cli.run(&format!("copy {}/app:1 {}/app:1", source.name(), target.name())).await;
    assert_eq!(run.code, 1, "{run}");
    assert!(run.to_string().contains("takes no empty blob"), "{run}");
}

#[tokio::test]
async fn a_mount_that_is_refused_in_whatever_way_becomes_an_upload() {
    // Quay of old, GitLab and Harbor without a right on the donor, Artifactory and ECR.
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
        assert_eq!(source.script.count("GET", a.blobs[1].digest().as_str()), 1, "the layer leaves the upstream once");
    }
}

#[tokio::test]
async fn docker_hub_is_read_and_written_by_its_names() {
    let tokens = Tokens::new();
    let hub = Registry::with(Settings { tokens: Some(tokens.clone()), ..Settings::default() }).await;
    let alpine = image("alpine").build();
    alpine.push(&hub.inside("library/alpine"), "3").await;
    let settings = format!("  docker.io: {{endpoint: \"{}\"}}\n", hub.url(""));
    copy("alpine:3", "index.docker.io/me/alpine", &settings).await;
    alpine.assert_in(&hub.inside("me/alpine"), "3").await;
    let asked: std::collections::BTreeSet<_> = tokens.requests().into_iter().flatten().collect();
    let expected = ["repository:library/alpine:pull", "repository:me/alpine:pull", "repository:me/alpine:pull,push"];
    assert_eq!(asked.iter().map(String::as_str).collect::<Vec<_>>(), expected);
}
