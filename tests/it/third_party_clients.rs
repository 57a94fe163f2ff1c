//! Third-party clients with our registry, and third-party registries with our client.

use std::time::Duration;

use oci_client::Reference;
use oci_client::client::{Client, ClientConfig, ClientProtocol};
use oci_client::secrets::RegistryAuth;
use transship::oci::Manifest;

use crate::support::cli::environment;
use crate::support::docker_registry::{self, DockerRegistry};
use crate::support::http::{ask, get};
use crate::support::images::{self, Image, image};
use crate::support::registry::{Registry, Settings};
use crate::support::shapes::every_shape;
use crate::support::tokens::Tokens;

/// A third-party client, on plain HTTP.
fn stranger() -> Client {
    Client::new(ClientConfig { protocol: ClientProtocol::Http, ..ClientConfig::default() })
}

/// Pushes graphs with oci-client, each under its tag, and reads them back.
async fn pushes_and_pulls(host: &str, auth: &RegistryAuth, graphs: &[(&str, Image)]) {
    let client = stranger();
    client.store_auth_if_needed(host, auth).await;
    let reference = |name: String| name.parse::<Reference>().expect("a reference");
    for (tag, graph) in graphs {
        let tagged = reference(format!("{host}/strange/r:{tag}"));
        for blob in graph.blobs() {
            client.push_blob(&tagged, blob.bytes.clone(), blob.digest().as_str()).await.expect("push of a blob");
        }
        for manifest in graph.manifests() {
            let by_digest = reference(format!("{host}/strange/r@{}", manifest.digest()));
            push_manifest(&client, &by_digest, manifest).await;
            let pulled = client.pull_manifest_raw(&by_digest, auth, &[manifest.media_type().as_str()]).await;
            assert_eq!(&pulled.expect("pull of a manifest").0, manifest.bytes());
        }
        push_manifest(&client, &tagged, &graph.manifest).await;
        let (bytes, digest) = client
            .pull_manifest_raw(&tagged, auth, &[graph.manifest.media_type().as_str()])
            .await
            .expect("pull of a manifest");
        assert_eq!((&bytes, digest.as_str()), (graph.manifest.bytes(), graph.digest().as_str()));
        for blob in graph.blobs() {
            let mut pulled = Vec::new();
            client.pull_blob(&tagged, blob.digest().as_str(), &mut pulled).await.expect("pull of a blob");
            assert!(pulled == blob.bytes);
        }
    }
    let any = reference(format!("{host}/strange/r"));
    let mut tags = client.list_tags(&any, auth, None, None).await.expect("a list of tags").tags;
    let mut expected: Vec<&str> = graphs.iter().map(|(tag, _)| *tag).collect();
    tags.sort();
    expected.sort_unstable();
    assert_eq!(tags, expected);
}

async fn push_manifest(client: &Client, reference: &Reference, manifest: &Manifest) {
    let media_type = manifest.media_type().as_str().parse().expect("a header value");
    let pushed = client.push_manifest_raw(reference, manifest.bytes().clone(), media_type).await;
    pushed.unwrap_or_else(|e| panic!("push of {reference}: {e}"));
}

#[tokio::test]
async fn oci_client_works_with_our_registry() {
    let registry = Registry::start().await;
    let mut graphs = every_shape();
    graphs.retain(|(tag, _)| *tag != "build-cache");
    graphs.push(("big", image("big").layer(3_000_000).build()));
    pushes_and_pulls(registry.name().as_str(), &RegistryAuth::Anonymous, &graphs).await;
    for (tag, graph) in &graphs {
        graph.assert_in(&registry.inside("strange/r"), tag).await;
    }
}

#[tokio::test]
async fn skopeo_works_with_our_registry() {
    let registry = Registry::start().await;
    let graph = images::index().child("linux/amd64", image("skopeo").build()).attested().build();
    graph.push(&registry.inside("from/here"), "1").await;
    let host = registry.name();
    let mut copy = tokio::process::Command::new("skopeo");
    copy.args([
        "copy",
        "--all",
        "--preserve-digests",
        "--insecure-policy",
        "--src-tls-verify=false",
        "--dest-tls-verify=false",
    ]);
    copy.args([format!("docker://{host}/from/here:1"), format!("docker://{host}/to/there:2")]);
    let home = tempfile::tempdir().unwrap();
    copy.env_clear().envs(environment(home.path())).kill_on_drop(true);
    let output = tokio::time::timeout(Duration::from_secs(60), copy.output()).await.expect("it doesn't hang");
    let Some(output) = docker_registry::installed("skopeo", output) else { return };
    assert!(output.status.success(), "{output:?}");
    graph.assert_in(&registry.inside("to/there"), "2").await;
}

#[tokio::test]
async fn oci_client_gets_a_token_first() {
    let tokens = Tokens::new().user("me", "secret").expires_in(300);
    let registry = Registry::with(Settings { tokens: Some(tokens.clone()), ..Settings::default() }).await;
    let denied = get(&registry, "/v2/a/tags/list").await;
    let realm = registry.url("/token");
    let challenge = format!(r#"Bearer realm="{realm}",service="tests",scope="repository:a:pull""#);
    assert_eq!((denied.status, denied.header("www-authenticate")), (401, &*challenge));
    let auth = RegistryAuth::Basic("me".into(), "secret".into());
    pushes_and_pulls(registry.name().as_str(), &auth, &[("1", image("token").build())]).await;
    assert!(tokens.issued() > 0);

    let token =
        ask(&registry, "GET /token?scope=repository:a:pull", &[("authorization", "Basic bWU6c2VjcmV0")], "").await;
    let bearer = format!("Bearer {}", token.json()["token"].as_str().unwrap());
    let with_token = async |request: &str| ask(&registry, request, &[("authorization", &bearer)], "").await;
    assert_eq!(with_token("GET /v2/a/tags/list").await.status, 404);
    let push = with_token("POST /v2/a/blobs/uploads/").await;
    assert!(push.header("www-authenticate").contains(r#"error="insufficient_scope""#), "{push:?}");
    tokens.revoke();
    let revoked = with_token("GET /v2/a/tags/list").await;
    assert!(revoked.header("www-authenticate").contains(r#"error="invalid_token""#), "{revoked:?}");
}

#[tokio::test]
async fn docker_registry_accepts_every_shape() {
    let Some(registry) = DockerRegistry::start() else { return };
    pushes_and_pulls(registry.name().as_str(), &RegistryAuth::Anonymous, &every_shape()).await;
}

#[tokio::test]
async fn docker_registry_requires_a_password() {
    let settings = docker_registry::Settings { user: Some(("me", "secret")), ..Default::default() };
    let Some(registry) = DockerRegistry::with(settings) else { return };
    let url = format!("http://{}/v2/", registry.name());
    assert_eq!(reqwest::get(url).await.unwrap().status(), 401);
    let auth = RegistryAuth::Basic("me".into(), "secret".into());
    pushes_and_pulls(registry.name().as_str(), &auth, &[("1", image("password").build())]).await;
}

#[tokio::test]
async fn docker_registry_serves_tls() {
    let settings = docker_registry::Settings { tls: true, ..Default::default() };
    let Some(registry) = DockerRegistry::with(settings) else { return };
    let ca = reqwest::Certificate::from_pem(&std::fs::read(registry.ca()).unwrap()).unwrap();
    let url = format!("https://{}/v2/", registry.name());
    let trusting = reqwest::Client::builder().tls_certs_merge([ca]).build().unwrap();
    assert_eq!(trusting.get(&url).send().await.unwrap().status(), 200);
    assert!(reqwest::get(&url).await.is_err());
    assert_eq!(registry.repository("a").to_string(), format!("{}/a", registry.name()));
}
