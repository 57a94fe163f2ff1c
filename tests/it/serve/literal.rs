//! The bytes on the wire. The registry and the client of this crate share their parsers, so a mistake in both would
//! pass every test between them: here the expectation is the text of the specification.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use transship::serve::Options;

use crate::support::registry::{Registry, Settings};
use crate::support::tokens::Tokens;

const CONFIG: &str = "{}";
const CONFIG_DIGEST: &str = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";
const HELLO: &str = "hello world";
const HELLO_DIGEST: &str = "sha256:b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9";

/// An artifact of the two blobs above, and its digest by `sha256sum`.
const IMAGE: &str = r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.empty.v1+json","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2},"layers":[{"mediaType":"text/plain","digest":"sha256:b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9","size":11}]}"#;
const IMAGE_DIGEST: &str = "sha256:09ceeec75ea3013bca517729319ed405164586ba0bc9a138adf3b93b952d539f";

/// A referrer of it, and its digest by `sha256sum`.
const REFERRER: &str = r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","artifactType":"text/x.note","config":{"mediaType":"application/vnd.oci.empty.v1+json","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2},"layers":[],"subject":{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:09ceeec75ea3013bca517729319ed405164586ba0bc9a138adf3b93b952d539f","size":358},"annotations":{"a":"b"}}"#;
const REFERRER_DIGEST: &str = "sha256:5272ff4a05c23f9e053c2658401e16f38f7bfc916283590cab0af6136e598d4d";

/// Sends a request, and returns the raw answer without its date.
async fn wire(registry: &Registry, request: &str, headers: &[&str], body: &str) -> String {
    let mut text = format!("{request} HTTP/1.1\r\nHost: registry.test\r\nConnection: close\r\n");
    for header in headers {
        text.push_str(&format!("{header}\r\n"));
    }
    text.push_str(&format!("Content-Length: {}\r\n\r\n{body}", body.len()));
    let mut connection = TcpStream::connect(registry.address()).await.expect("a connection");
    connection.write_all(text.as_bytes()).await.expect("it is taken");
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await.expect("UTF-8 to the end");
    let lines = answer.split("\r\n").filter(|line| !line.starts_with("date: ") && *line != "connection: close");
    lines.collect::<Vec<_>>().join("\n")
}

async fn push_all(registry: &Registry) {
    for (digest, blob) in [(CONFIG_DIGEST, CONFIG), (HELLO_DIGEST, HELLO)] {
        let post = format!("POST /v2/a/b/blobs/uploads/?digest={digest}");
        assert!(wire(registry, &post, &[], blob).await.starts_with("HTTP/1.1 201 "));
    }
    let kind = ["Content-Type: application/vnd.oci.image.manifest.v1+json"];
    for (name, manifest) in [("v1", IMAGE), ("v2", IMAGE), ("note", REFERRER)] {
        let put = format!("PUT /v2/a/b/manifests/{name}");
        assert!(wire(registry, &put, &kind, manifest).await.starts_with("HTTP/1.1 201 "));
    }
}

#[tokio::test]
async fn a_blob_is_pushed_in_steps_and_pulled() {
    let registry = Registry::start().await;
    insta::assert_snapshot!(wire(&registry, "GET /v2/", &[], "").await, @"
    HTTP/1.1 200 OK
    content-type: application/json
    content-length: 2

    {}
    ");
    insta::assert_snapshot!(wire(&registry, "POST /v2/a/b/blobs/uploads/", &[], "").await, @"
    HTTP/1.1 202 Accepted
    location: /v2/a/b/blobs/uploads/0?received=0
    range: 0-0
    docker-upload-uuid: 0
    content-length: 0
    ");
    let chunk = ["Content-Range: 0-5", "Content-Type: application/octet-stream"];
    let patch = "PATCH /v2/a/b/blobs/uploads/0?received=0";
    insta::assert_snapshot!(wire(&registry, patch, &chunk, "hello ").await, @"
    HTTP/1.1 202 Accepted
    location: /v2/a/b/blobs/uploads/0?received=6
    range: 0-5
    docker-upload-uuid: 0
    content-length: 0
    ");
    insta::assert_snapshot!(wire(&registry, patch, &chunk, "hello ").await, @r#"
    HTTP/1.1 416 Range Not Satisfiable
    content-type: application/json
    location: /v2/a/b/blobs/uploads/0?received=6
    range: 0-5
    docker-upload-uuid: 0
    content-length: 120

    {"errors":[{"code":"BLOB_UPLOAD_INVALID","detail":null,"message":"6 bytes were received, the location is from before"}]}
    "#);
    insta::assert_snapshot!(wire(&registry, "GET /v2/a/b/blobs/uploads/0", &[], "").await, @"
    HTTP/1.1 204 No Content
    location: /v2/a/b/blobs/uploads/0?received=6
    range: 0-5
    docker-upload-uuid: 0
    ");
    let put = format!("PUT /v2/a/b/blobs/uploads/0?received=6&digest={HELLO_DIGEST}");
    insta::assert_snapshot!(wire(&registry, &put, &["Content-Range: 6-10"], "world").await, @"
    HTTP/1.1 201 Created
    location: /v2/a/b/blobs/sha256:b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9
    docker-content-digest: sha256:b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9
    content-length: 0
    ");
    let blob = format!("/v2/a/b/blobs/{HELLO_DIGEST}");
    insta::assert_snapshot!(wire(&registry, &format!("HEAD {blob}"), &[], "").await, @"
    HTTP/1.1 200 OK
    content-type: application/octet-stream
    accept-ranges: bytes
    content-length: 11
    docker-content-digest: sha256:b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9
    ");
    insta::assert_snapshot!(wire(&registry, &format!("GET {blob}"), &["Range: bytes=6-"], "").await, @"
    HTTP/1.1 206 Partial Content
    content-type: application/octet-stream
    accept-ranges: bytes
    content-length: 5
    docker-content-digest: sha256:b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9
    content-range: bytes 6-10/11

    world
    ");
    let mount = format!("POST /v2/c/blobs/uploads/?mount={HELLO_DIGEST}&from=a%2Fb");
    insta::assert_snapshot!(wire(&registry, &mount, &[], "").await, @"
    HTTP/1.1 201 Created
    location: /v2/c/blobs/sha256:b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9
    docker-content-digest: sha256:b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9
    content-length: 0
    ");
    let elsewhere = format!("POST /v2/c/blobs/uploads/?mount={HELLO_DIGEST}&from=nowhere");
    insta::assert_snapshot!(wire(&registry, &elsewhere, &[], "").await, @"
    HTTP/1.1 202 Accepted
    location: /v2/c/blobs/uploads/1?received=0
    range: 0-0
    docker-upload-uuid: 1
    content-length: 0
    ");
    insta::assert_snapshot!(wire(&registry, "DELETE /v2/c/blobs/uploads/1", &[], "").await, @"
    HTTP/1.1 204 No Content
    ");
}

#[tokio::test]
async fn a_manifest_is_pushed_and_pulled() {
    let registry = Registry::start().await;
    push_all(&registry).await;
    let kind = ["Content-Type: application/vnd.oci.image.manifest.v1+json"];
    let put = format!("PUT /v2/a/b/manifests/{REFERRER_DIGEST}");
    insta::assert_snapshot!(wire(&registry, &put, &kind, REFERRER).await, @"
    HTTP/1.1 201 Created
    location: /v2/a/b/manifests/sha256:5272ff4a05c23f9e053c2658401e16f38f7bfc916283590cab0af6136e598d4d
    docker-content-digest: sha256:5272ff4a05c23f9e053c2658401e16f38f7bfc916283590cab0af6136e598d4d
    oci-subject: sha256:09ceeec75ea3013bca517729319ed405164586ba0bc9a138adf3b93b952d539f
    content-length: 0
    ");
    let accept = ["Accept: application/vnd.oci.image.manifest.v1+json"];
    insta::assert_snapshot!(wire(&registry, "GET /v2/a/b/manifests/v1", &accept, "").await, @r#"
    HTTP/1.1 200 OK
    content-type: application/vnd.oci.image.manifest.v1+json
    content-length: 358
    docker-content-digest: sha256:09ceeec75ea3013bca517729319ed405164586ba0bc9a138adf3b93b952d539f

    {"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.empty.v1+json","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2},"layers":[{"mediaType":"text/plain","digest":"sha256:b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9","size":11}]}
    "#);
    let head = format!("HEAD /v2/a/b/manifests/{IMAGE_DIGEST}");
    insta::assert_snapshot!(wire(&registry, &head, &accept, "").await, @"
    HTTP/1.1 200 OK
    content-type: application/vnd.oci.image.manifest.v1+json
    content-length: 358
    docker-content-digest: sha256:09ceeec75ea3013bca517729319ed405164586ba0bc9a138adf3b93b952d539f
    ");
}

#[tokio::test]
async fn lists_come_in_pages() {
    let options = Options { page: 2, ..Options::default() };
    let registry = Registry::with(Settings { options, ..Settings::default() }).await;
    push_all(&registry).await;
    insta::assert_snapshot!(wire(&registry, "GET /v2/a/b/tags/list", &[], "").await, @r#"
    HTTP/1.1 200 OK
    content-type: application/json
    link: </v2/a/b/tags/list?n=2&last=v1>; rel="next"
    content-length: 35

    {"name":"a/b","tags":["note","v1"]}
    "#);
    insta::assert_snapshot!(wire(&registry, "GET /v2/a/b/tags/list?n=1&last=v1", &[], "").await, @r#"
    HTTP/1.1 200 OK
    content-type: application/json
    content-length: 28

    {"name":"a/b","tags":["v2"]}
    "#);
    let referrers = format!("GET /v2/a/b/referrers/{IMAGE_DIGEST}?artifactType=text%2Fx.note");
    insta::assert_snapshot!(wire(&registry, &referrers, &[], "").await, @r#"
    HTTP/1.1 200 OK
    content-type: application/vnd.oci.image.index.v1+json
    oci-filters-applied: artifactType
    content-length: 293

    {"manifests":[{"annotations":{"a":"b"},"artifactType":"text/x.note","digest":"sha256:5272ff4a05c23f9e053c2658401e16f38f7bfc916283590cab0af6136e598d4d","mediaType":"application/vnd.oci.image.manifest.v1+json","size":455}],"mediaType":"application/vnd.oci.image.index.v1+json","schemaVersion":2}
    "#);
    let nowhere = format!("GET /v2/nowhere/referrers/{IMAGE_DIGEST}");
    insta::assert_snapshot!(wire(&registry, &nowhere, &[], "").await, @r#"
    HTTP/1.1 200 OK
    content-type: application/vnd.oci.image.index.v1+json
    content-length: 88

    {"manifests":[],"mediaType":"application/vnd.oci.image.index.v1+json","schemaVersion":2}
    "#);
}

#[tokio::test]
async fn refusals_have_the_envelope_of_the_specification() {
    let registry = Registry::start().await;
    insta::assert_snapshot!(wire(&registry, "GET /v2/a/b/manifests/v1", &[], "").await, @r#"
    HTTP/1.1 404 Not Found
    content-type: application/json
    content-length: 119

    {"errors":[{"code":"NAME_UNKNOWN","detail":null,"message":"list tags of localhost/a/b: the repository doesn't exist"}]}
    "#);
    let kind = ["Content-Type: application/vnd.oci.image.manifest.v1+json"];
    insta::assert_snapshot!(wire(&registry, "PUT /v2/a/b/manifests/v1", &kind, IMAGE).await, @r#"
    HTTP/1.1 400 Bad Request
    content-type: application/json
    content-length: 442

    {"errors":[{"code":"MANIFEST_BLOB_UNKNOWN","detail":{"digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"},"message":"a manifest or blob that the manifest refers to is unknown to the repository"},{"code":"MANIFEST_BLOB_UNKNOWN","detail":{"digest":"sha256:b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9"},"message":"a manifest or blob that the manifest refers to is unknown to the repository"}]}
    "#);
    insta::assert_snapshot!(wire(&registry, "DELETE /v2/a/b/manifests/v1", &[], "").await, @r#"
    HTTP/1.1 405 Method Not Allowed
    content-type: application/json
    allow: GET, HEAD, PUT
    content-length: 89

    {"errors":[{"code":"UNSUPPORTED","detail":null,"message":"DELETE isn't supported here"}]}
    "#);
    let tokens = Tokens::new();
    let registry = Registry::with(Settings { tokens: Some(tokens), ..Settings::default() }).await;
    insta::assert_snapshot!(wire(&registry, "POST /v2/a/b/blobs/uploads/", &[], "").await, @r#"
    HTTP/1.1 401 Unauthorized
    content-type: text/plain; charset=utf-8
    www-authenticate: Bearer realm="http://registry.test/token",service="tests",scope="repository:a/b:pull,push"
    content-length: 72

    {"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}
    "#);
}

/// The grammar of the specification ("Pulling manifests"), by examples that it allows and forbids.
#[tokio::test]
async fn names_tags_and_digests_are_those_of_the_specification() {
    let registry = Registry::start().await;
    let hex = &IMAGE_DIGEST["sha256:".len()..];
    let known = async |path: String| {
        let answer = wire(&registry, &format!("GET {path}"), &[], "").await;
        // Well-formed names of missing content have other codes.
        let code = answer.split("\"code\":\"").nth(1).and_then(|rest| rest.split('"').next()).map(str::to_owned);
        code.unwrap_or_else(|| panic!("{path}: {answer}"))
    };
    let long = "a".repeat(128);
    for name in ["a", "0", "a.b", "a_b", "a__b", "a-b", "a---b", "a/b/c", "a1.b2/c-d", &long] {
        assert_eq!(known(format!("/v2/{name}/tags/list")).await, "NAME_UNKNOWN", "{name}");
    }
    for name in ["A", "a..b", "a___b", "a._b", ".a", "a.", "-a", "a-", "a//b", "a+b", "a@b", "%C3%A4", "a%2Fb"] {
        assert_eq!(known(format!("/v2/{name}/tags/list")).await, "NAME_INVALID", "{name}");
    }
    for tag in ["a", "A", "_", "_a.b-c", "1.27", "V1_", &long] {
        assert_eq!(known(format!("/v2/a/manifests/{tag}")).await, "NAME_UNKNOWN", "{tag}");
    }
    for tag in [".a", "-a", "a+b", "a%20b", "a@b", "%C3%A4", &format!("{long}a")] {
        assert_eq!(known(format!("/v2/a/manifests/{tag}")).await, "MANIFEST_UNKNOWN", "{tag}");
    }
    for digest in [IMAGE_DIGEST.to_owned(), format!("sha512:{hex}{hex}"), format!("sha256%3A{hex}")] {
        assert_eq!(known(format!("/v2/a/blobs/{digest}")).await, "NAME_UNKNOWN", "{digest}");
    }
    for digest in [
        format!("sha256:{}", hex.to_uppercase()),
        format!("SHA256:{hex}"),
        format!("sha256:{}", &hex[1..]),
        format!("sha256:{hex}0"),
        format!("sha512:{hex}"),
        "sha256:".into(),
        "sha256".into(),
        ":".into(),
    ] {
        assert_eq!(known(format!("/v2/a/blobs/{digest}")).await, "DIGEST_INVALID", "{digest}");
    }
}
