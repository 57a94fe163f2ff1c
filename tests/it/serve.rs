//! The registry that we serve, over HTTP: it follows distribution-spec 1.1.

use serde_json::{Value, json};
use transship::oci::{Digest, MediaType};
use transship::serve::Options;
use transship::store::memory::Memory;

use crate::support::http::{Answer, ask, get};
use crate::support::images::{Blob, Image, image};
use crate::support::registry::{Registry, Settings};

mod literal;
mod strict;

#[tokio::test]
async fn manifests_keep_bytes_type_and_digest() {
    let registry = Registry::start().await;
    let graph = image("a").docker().build();
    for blob in graph.blobs() {
        blob.push(&registry.inside("deep/er/name")).await.unwrap();
    }
    let body = graph.manifest.bytes().to_vec();
    let digest = graph.digest().as_str();
    let content_type = [("content-type", MediaType::DOCKER_MANIFEST)];
    let put = ask(&registry, "PUT /v2/deep/er/name/manifests/v1", &content_type, body.clone()).await;
    assert_eq!((put.status, put.header("docker-content-digest")), (201, digest));
    assert_eq!(put.header("location"), format!("/v2/deep/er/name/manifests/{digest}"));
    for name in ["v1", digest] {
        let got = get(&registry, &format!("/v2/deep/er/name/manifests/{name}")).await;
        assert_eq!((got.status, &got.body), (200, &body));
        let head = ask(&registry, &format!("HEAD /v2/deep/er/name/manifests/{name}"), &[], "").await;
        assert_eq!((head.status, head.body.len()), (200, 0));
        for answer in [got, head] {
            assert_eq!(answer.header("content-type"), MediaType::DOCKER_MANIFEST);
            assert_eq!(answer.header("docker-content-digest"), digest);
            assert_eq!(answer.header("content-length"), body.len().to_string());
        }
    }
}

#[tokio::test]
async fn manifests_are_checked() {
    let registry = Registry::start().await;
    let graph = image("a").build();
    let bytes = graph.manifest.bytes().to_vec();
    let oci = [("content-type", MediaType::OCI_MANIFEST)];
    let put = async |name: &str, headers: &[(&str, &str)], body: Vec<u8>| {
        ask(&registry, &format!("PUT /v2/a/manifests/{name}"), headers, body).await
    };
    let lacking = put("1", &oci, bytes.clone()).await;
    assert_eq!(lacking.refusal(), (400, "MANIFEST_BLOB_UNKNOWN".into()));
    let named: Vec<Value> =
        lacking.json()["errors"].as_array().unwrap().iter().map(|error| error["detail"]["digest"].clone()).collect();
    let expected: Vec<Value> = graph.blobs().iter().map(|blob| json!(blob.digest())).collect();
    assert_eq!(named, expected);

    let other = Digest::of(b"other");
    let docker = [("content-type", MediaType::DOCKER_MANIFEST)];
    for (name, headers, body, status, code) in [
        (other.as_str(), &oci, bytes.clone(), 400, "DIGEST_INVALID"),
        ("1", &docker, bytes, 400, "MANIFEST_INVALID"),
        ("1", &oci, b"<html>".to_vec(), 400, "MANIFEST_INVALID"),
        ("-1", &oci, b"{}".to_vec(), 404, "MANIFEST_UNKNOWN"),
        ("sha256:abc", &oci, b"{}".to_vec(), 400, "DIGEST_INVALID"),
        ("1", &oci, vec![b' '; 4 * 1024 * 1024 + 1], 413, "SIZE_INVALID"),
    ] {
        assert_eq!(put(name, headers, body).await.refusal(), (status, code.into()), "{name}");
    }
}

#[tokio::test]
async fn unknown_content_has_its_error_code() {
    let registry = Registry::start().await;
    image("a").build().push(&registry.inside("a"), "1").await;
    let digest = Digest::of(b"nowhere");
    for (request, status, code) in [
        ("GET /v2/a/manifests/2".to_owned(), 404, "MANIFEST_UNKNOWN"),
        (format!("GET /v2/a/manifests/{digest}"), 404, "MANIFEST_UNKNOWN"),
        (format!("GET /v2/a/blobs/{digest}"), 404, "BLOB_UNKNOWN"),
        ("GET /v2/b/manifests/1".into(), 404, "NAME_UNKNOWN"),
        (format!("GET /v2/b/blobs/{digest}"), 404, "NAME_UNKNOWN"),
        ("GET /v2/b/tags/list".into(), 404, "NAME_UNKNOWN"),
        ("GET /v2/A/tags/list".into(), 400, "NAME_INVALID"),
        ("GET /v2/a/manifests/.INVALID_MANIFEST_NAME".into(), 404, "MANIFEST_UNKNOWN"),
        ("GET /v2/b/manifests/-1".into(), 404, "MANIFEST_UNKNOWN"),
        ("GET /v2/a/manifests/sha256:abc".into(), 400, "DIGEST_INVALID"),
        ("PUT /v2/a/blobs/uploads/99?digest=x".into(), 400, "DIGEST_INVALID"),
        (format!("PUT /v2/a/blobs/uploads/99?digest={digest}"), 404, "BLOB_UPLOAD_UNKNOWN"),
    ] {
        assert_eq!(ask(&registry, &request, &[], "").await.refusal(), (status, code.into()), "{request}");
    }
    let head = ask(&registry, "HEAD /v2/a/manifests/.INVALID_MANIFEST_NAME", &[], "").await;
    assert_eq!((head.status, head.body.len()), (404, 0));
    assert_eq!(get(&registry, "/v2/").await.status, 200);
}

#[tokio::test]
async fn unsupported_requests_name_the_supported_ones() {
    let registry = Registry::start().await;
    let digest = Digest::of(b"nowhere");
    for (request, allowed) in [
        ("DELETE /v2/a/manifests/1".to_owned(), "GET, HEAD, PUT"),
        (format!("DELETE /v2/a/manifests/{digest}"), "GET, HEAD, PUT"),
        (format!("DELETE /v2/a/blobs/{digest}"), "GET, HEAD"),
        ("POST /v2/a/tags/list".into(), "GET"),
        (format!("POST /v2/a/referrers/{digest}"), "GET"),
        ("GET /v2/a/blobs/uploads/".into(), "POST"),
        ("POST /v2/a/blobs/uploads/0".into(), "GET, PATCH, PUT, DELETE"),
        ("POST /v2/".into(), "GET, HEAD"),
    ] {
        let answer = ask(&registry, &request, &[], "").await;
        assert_eq!((answer.refusal(), answer.header("allow")), ((405, "UNSUPPORTED".into()), allowed), "{request}");
    }
}

#[tokio::test]
async fn blobs_are_served_by_range() {
    let registry = Registry::start().await;
    let blob = Blob::seeded(MediaType::OCI_LAYER, "parts", 150_000);
    blob.push(&registry.inside("a")).await.unwrap();
    let path = format!("GET /v2/a/blobs/{}", blob.digest());
    for (range, status, content_range, expected) in [
        ("bytes=0-", 206, "bytes 0-149999/150000", &blob.bytes[..]),
        ("bytes=100000-", 206, "bytes 100000-149999/150000", &blob.bytes[100_000..]),
        ("bytes=65535-65536", 206, "bytes 65535-65536/150000", &blob.bytes[65_535..65_537]),
        ("bytes=149999-", 206, "bytes 149999-149999/150000", &blob.bytes[149_999..]),
        ("bytes=149000-200000", 206, "bytes 149000-149999/150000", &blob.bytes[149_000..]),
        ("bytes=-500", 206, "bytes 149500-149999/150000", &blob.bytes[149_500..]),
        ("lines=1-2", 200, "", &blob.bytes[..]),
    ] {
        let part = ask(&registry, &path, &[("range", range)], "").await;
        assert_eq!((part.status, part.header("content-range")), (status, content_range));
        assert_eq!(part.header("content-length"), expected.len().to_string());
        assert!(part.body == expected, "{range}");
    }
    for range in ["bytes=150000-", "bytes=150000-200000", "bytes=500-0"] {
        let outside = ask(&registry, &path, &[("range", range)], "").await;
        assert_eq!((outside.status, outside.header("content-range")), (416, "bytes */150000"), "{range}");
    }
    let head = ask(&registry, &path.replace("GET", "HEAD"), &[], "").await;
    assert_eq!((head.status, head.header("content-length"), head.body.len()), (200, "150000", 0));
}

/// Opens an upload and returns its location, which is relative.
async fn open(registry: &Registry) -> String {
    let opened = ask(registry, "POST /v2/a/blobs/uploads/", &[], "").await;
    assert_eq!((opened.status, opened.header("range")), (202, "0-0"));
    let location = opened.header("location").to_owned();
    assert!(location.starts_with("/v2/a/blobs/uploads/"), "{location}");
    location
}

#[tokio::test]
async fn uploads_in_one_two_and_many_requests() {
    let registry = Registry::start().await;
    let digest = Digest::of(b"hello world");
    let created = |answer: &Answer| {
        assert_eq!((answer.status, answer.header("docker-content-digest")), (201, digest.as_str()), "{answer:?}");
        assert_eq!(answer.header("location"), format!("/v2/a/blobs/{digest}"));
    };
    let one = format!("POST /v2/a/blobs/uploads/?digest={digest}");
    created(&ask(&registry, &one, &[], "hello world").await);
    let two = format!("PUT {}&digest={digest}", open(&registry).await);
    created(&ask(&registry, &two, &[], "hello world").await);
    let unmeasured = futures::stream::iter(["hello", " world"].map(Ok::<_, std::io::Error>));
    let two = format!("PUT {}&digest={digest}", open(&registry).await);
    created(&ask(&registry, &two, &[], reqwest::Body::wrap_stream(unmeasured)).await);

    for last in ["", "world"] {
        let first = open(&registry).await;
        let patched = ask(&registry, &format!("PATCH {first}"), &[("content-range", "0-5")], "hello ").await;
        assert_eq!((patched.status, patched.header("range")), (202, "0-5"));
        let mut location = patched.header("location").to_owned();
        if last.is_empty() {
            let patched = ask(&registry, &format!("PATCH {location}"), &[], "world").await;
            assert_eq!((patched.status, patched.header("range")), (202, "0-10"));
            location = patched.header("location").to_owned();
            let status = get(&registry, &location).await;
            assert_eq!((status.status, status.header("range"), status.header("location")), (204, "0-10", &*location));
        }
        created(&ask(&registry, &format!("PUT {location}&digest={digest}"), &[], last).await);
        assert_eq!(get(&registry, &location).await.refusal(), (404, "BLOB_UPLOAD_UNKNOWN".into()));
    }
    assert_eq!(registry.inside("a").open_uploads(), 0);
}

#[tokio::test]
async fn uploads_are_checked() {
    let registry = Registry::start().await;
    let first = open(&registry).await;
    let patch = format!("PATCH {first}");
    let early = ask(&registry, &patch, &[("content-range", "5-9")], "world").await;
    assert_eq!((early.status, early.header("location")), (416, &*first));
    let short = ask(&registry, &patch, &[("content-range", "0-9")], "hello").await;
    assert_eq!(short.refusal(), (400, "SIZE_INVALID".into()));
    let odd = ask(&registry, &patch, &[("content-range", "bytes 0-4/5")], "hello").await;
    assert_eq!(odd.refusal(), (400, "BLOB_UPLOAD_INVALID".into()));
    assert_eq!(ask(&registry, &patch, &[], "hello").await.status, 202);
    // The location of an earlier step is out of order, with a range or without; the answer says how to continue.
    for (method, headers) in [("PATCH", &[("content-range", "0-4")][..]), ("PATCH", &[]), ("PUT", &[])] {
        let again =
            ask(&registry, &format!("{method} {first}&digest={}", Digest::of(b"hello")), headers, "hello").await;
        assert_eq!((again.status, again.header("range")), (416, "0-4"), "{method} {headers:?}");
        let status = get(&registry, &first).await;
        assert_eq!((status.status, status.header("location")), (204, again.header("location")));
    }
    // A location without its query, with another query, or in another repository is refused too.
    let bare = first.split('?').next().unwrap();
    for made_up in ["", "?received=", "?received=-1", "?received=6"] {
        let answer = ask(&registry, &format!("PATCH {bare}{made_up}"), &[], "").await;
        assert_eq!(answer.refusal(), (400, "BLOB_UPLOAD_INVALID".into()), "{made_up}");
    }
    let elsewhere = first.replace("/v2/a/", "/v2/b/");
    assert_eq!(get(&registry, &elsewhere).await.refusal(), (404, "BLOB_UPLOAD_UNKNOWN".into()));

    let wrong = format!("PUT {}&digest={}", open(&registry).await, Digest::of(b"other"));
    assert_eq!(ask(&registry, &wrong, &[], "hello").await.refusal(), (400, "DIGEST_INVALID".into()));
    let nameless = format!("PUT {}", open(&registry).await);
    assert_eq!(ask(&registry, &nameless, &[], "hello").await.refusal(), (400, "DIGEST_INVALID".into()));
    let given_up = open(&registry).await;
    assert_eq!(ask(&registry, &format!("DELETE {given_up}"), &[], "").await.status, 204);
    assert_eq!(get(&registry, &given_up).await.refusal(), (404, "BLOB_UPLOAD_UNKNOWN".into()));
    assert_eq!(registry.inside("a").blobs().unwrap(), []);
}

#[tokio::test]
async fn mounts_require_the_blob() {
    let registry = Registry::start().await;
    let graph = image("a").build();
    graph.push(&registry.inside("from/here"), "1").await;
    let blob = graph.blobs[0].digest();
    let mount =
        async |query: String| ask(&registry, &format!("POST /v2/to/there/blobs/uploads/?{query}"), &[], "").await;
    let mounted = mount(format!("mount={blob}&from=from%2Fhere")).await;
    assert_eq!((mounted.status, mounted.header("docker-content-digest")), (201, blob.as_str()));
    for query in [
        format!("mount={blob}"),
        format!("mount={}&from=from/here", Digest::of(b"nowhere")),
        format!("mount={blob}&from=nowhere"),
    ] {
        let declined = mount(query).await;
        assert_eq!(declined.status, 202);
        let digest = Digest::of(b"x");
        let put = format!("PUT {}&digest={digest}", declined.header("location"));
        assert_eq!(ask(&registry, &put, &[], "x").await.status, 201);
    }
}

#[tokio::test]
async fn tags_come_sorted_and_in_pages() {
    let settings = Settings { options: Options { page: 3, ..Options::default() }, ..Settings::default() };
    let registry = Registry::with(settings).await;
    let graph = image("a").build();
    for tag in ["c", "a", "e", "B", "d"] {
        graph.push(&registry.inside("a"), tag).await;
    }
    let mut pages = Vec::new();
    let mut next = Some("/v2/a/tags/list".to_owned());
    while let Some(path) = next {
        let page = get(&registry, &path).await;
        pages.push(page.json()["tags"].clone());
        let link = page.header("link").strip_prefix('<').and_then(|rest| rest.strip_suffix(r#">; rel="next""#));
        next = link.map(str::to_owned);
    }
    assert_eq!(pages, [json!(["B", "a", "c"]), json!(["d", "e"])]);
    assert_eq!(get(&registry, "/v2/a/tags/list?n=2&last=c").await.json(), json!({ "name": "a", "tags": ["d", "e"] }));
    assert_eq!(get(&registry, "/v2/a/tags/list?n=0").await.json()["tags"], json!([]));
    assert_eq!(get(&registry, "/v2/a/tags/list?n=x").await.refusal(), (400, "PAGINATION_NUMBER_INVALID".into()));
}

#[tokio::test]
async fn referrers_are_listed_unless_switched_off() {
    let of = image("a").build();
    let signature =
        image("s").artifact("application/x.signature").subject(of.descriptor()).annotation("k", "v").build();
    let report = image("r").config_type("application/x.report").subject(of.descriptor()).build();
    let put = async |registry: &Registry, graph: &Image| {
        for blob in graph.blobs() {
            blob.push(&registry.inside("a")).await.unwrap();
        }
        let headers = [("content-type", graph.manifest.media_type().as_str())];
        let request = format!("PUT /v2/a/manifests/{}", graph.digest());
        ask(registry, &request, &headers, graph.manifest.bytes().to_vec()).await
    };
    let path = format!("/v2/a/referrers/{}", of.digest());

    let registry = Registry::start().await;
    for referrer in [&signature, &report] {
        assert_eq!(put(&registry, referrer).await.header("oci-subject"), of.digest().as_str());
    }
    let all = get(&registry, &path).await;
    assert_eq!((all.status, all.header("content-type")), (200, MediaType::OCI_INDEX));
    assert_eq!(all.json()["manifests"].as_array().unwrap().len(), 2);
    let some = get(&registry, &format!("{path}?artifactType=application/x.signature")).await;
    assert_eq!(some.header("oci-filters-applied"), "artifactType");
    assert_eq!(
        some.json()["manifests"],
        json!([{
            "mediaType": MediaType::OCI_MANIFEST, "digest": signature.digest(), "size": signature.descriptor().size,
            "artifactType": "application/x.signature", "annotations": { "k": "v" },
        }])
    );
    let by_config = get(&registry, &format!("{path}?artifactType=application/x.report")).await;
    assert_eq!(by_config.json()["manifests"][0]["digest"], json!(report.digest()));
    // A referrer, a missing manifest and a missing repository have no referrers.
    for path in [format!("a/referrers/{}", report.digest()), format!("nowhere/referrers/{}", of.digest())] {
        let none = get(&registry, &format!("/v2/{path}?artifactType=x/y")).await;
        assert_eq!((none.status, none.header("content-type")), (200, MediaType::OCI_INDEX));
        let empty = json!({ "schemaVersion": 2, "mediaType": MediaType::OCI_INDEX, "manifests": [] });
        assert_eq!((none.json(), none.header("oci-filters-applied")), (empty, "artifactType"));
    }

    let settings = Settings { options: Options { page: 1, ..Options::default() }, ..Settings::default() };
    let registry = Registry::with(settings).await;
    for referrer in [&signature, &report] {
        put(&registry, referrer).await;
    }
    let first = get(&registry, &path).await;
    let (next, relation) = first.header("link").split_once("; ").unwrap();
    let second = get(&registry, next.trim_matches(['<', '>'])).await;
    assert_eq!((relation, second.header("link")), ("rel=\"next\"", ""));
    let mut digests = [first, second].map(|page| page.json()["manifests"][0]["digest"].clone().to_string());
    digests.sort();
    let mut expected = [&signature, &report].map(|referrer| json!(referrer.digest()).to_string());
    expected.sort();
    assert_eq!(digests, expected);

    let settings = Settings { options: Options { referrers: false, ..Options::default() }, ..Settings::default() };
    let registry = Registry::with(settings).await;
    assert_eq!(put(&registry, &signature).await.header("oci-subject"), "");
    assert_eq!(get(&registry, &path).await.status, 404);
}

#[tokio::test]
async fn a_strict_registry_requires_existing_repositories() {
    let registry = Registry::with(Settings { strict: true, ..Settings::default() }).await;
    let post = "POST /v2/a/blobs/uploads/";
    assert_eq!(ask(&registry, post, &[], "").await.refusal(), (404, "NAME_UNKNOWN".into()));
    registry.create("a");
    assert_eq!(ask(&registry, post, &[], "").await.status, 202);
}

#[tokio::test]
async fn it_stops_when_asked() {
    let server = transship::serve::Server::start(std::sync::Arc::new(Memory::new()), Options::default()).await.unwrap();
    let url = format!("http://{}/v2/", server.address());
    let client = reqwest::Client::new();
    assert_eq!(client.get(&url).send().await.unwrap().status(), 200);
    server.stop().await;
    assert!(client.get(&url).send().await.unwrap_err().is_connect());
}
