//! What the registry refuses and accepts, and the option that makes it lenient.

use serde_json::{Value, json};
use transship::oci::{Digest, MediaType};

use crate::support::http::{Answer, ask};
use crate::support::images::{Blob, DOCKER_FOREIGN_LAYER, FOREIGN_LAYER, Image, image, index, json_of};
use crate::support::registry::Registry;

const ARTIFACT: &str = "application/vnd.oci.artifact.manifest.v1+json";

/// Manifests that a lenient registry refuses too, because it can't read them.
const UNREADABLE: &str = "a schemaVersion in quotes";

async fn put(registry: &Registry, name: &str, content_type: Option<&str>, body: &Value) -> Answer {
    let headers: Vec<(&str, &str)> = content_type.into_iter().map(|text| ("content-type", text)).collect();
    ask(registry, &format!("PUT /v2/a/manifests/{name}"), &headers, body.to_string()).await
}

/// A registry with the content of an image: the image, its layer and its config.
async fn with_parts(registry: &Registry) -> (Image, Value, Value) {
    let of = image("parts").docker().build();
    of.push(&registry.inside("a"), "parts").await;
    let [config, layer] = [0, 1].map(|i: usize| json_of(&of.blobs[i].descriptor));
    (of, config, layer)
}

#[tokio::test]
async fn incomplete_manifests_are_refused_unless_lenient() {
    let (oci, docker) = (MediaType::OCI_MANIFEST, MediaType::DOCKER_MANIFEST);
    let (oci_index, list) = (MediaType::OCI_INDEX, MediaType::DOCKER_LIST);
    let (strict, lenient) = (Registry::start().await, Registry::lenient().await);
    let (of, config, layer) = with_parts(&strict).await;
    with_parts(&lenient).await;
    let child = json_of(of.descriptor());
    let layers = json!([layer]);
    let good = |kind: &str| json!({ "schemaVersion": 2, "mediaType": kind, "config": config, "layers": layers });
    let good_index = |kind: &str| json!({ "schemaVersion": 2, "mediaType": kind, "manifests": [child] });
    let without = |mut from: Value, member: &str| {
        from.as_object_mut().unwrap().remove(member);
        from
    };
    let with = |mut from: Value, member: &str, value: Value| {
        from[member] = value;
        from
    };
    let invalid = Some("MANIFEST_INVALID");
    for (what, content_type, body, refusal) in [
        ("an image", Some(oci), good(oci), None),
        ("Docker's image", Some(docker), good(docker), None),
        ("an index", Some(oci_index), good_index(oci_index), None),
        ("Docker's list", Some(list), good_index(list), None),
        (
            "a type with a parameter",
            Some("application/vnd.oci.image.index.v1+json; charset=utf-8"),
            good_index(oci_index),
            None,
        ),
        ("an image that leaves its type out", Some(oci), without(good(oci), "mediaType"), None),
        ("an image without layers", Some(oci), with(good(oci), "layers", json!([])), None),
        ("an index of nothing", Some(oci_index), with(good_index(oci_index), "manifests", json!([])), None),
        ("members that nobody knows", Some(oci), with(good(oci), "x", json!({"y": 1.50})), None),
        ("nothing", Some(oci), json!({}), invalid),
        ("no type at all", None, good(oci), invalid),
        ("no config", Some(oci), without(good(oci), "config"), invalid),
        ("a config that is null", Some(oci), with(good(oci), "config", Value::Null), invalid),
        ("Docker's without config", Some(docker), without(good(docker), "config"), invalid),
        ("no schemaVersion", Some(oci), without(good(oci), "schemaVersion"), invalid),
        ("an index without schemaVersion", Some(oci_index), without(good_index(oci_index), "schemaVersion"), invalid),
        ("another schemaVersion", Some(oci), with(good(oci), "schemaVersion", json!(3)), invalid),
        ("a schemaVersion in quotes", Some(oci), with(good(oci), "schemaVersion", json!("2")), invalid),
        ("Docker's that leaves its type out", Some(docker), without(good(docker), "mediaType"), invalid),
        ("a list that leaves its type out", Some(list), without(good_index(list), "mediaType"), invalid),
        ("an image that is an index as well", Some(oci), with(good(oci), "manifests", json!([])), invalid),
        (
            "an index that is an image as well",
            Some(oci_index),
            with(good_index(oci_index), "layers", json!([])),
            invalid,
        ),
        ("an image sent as an index", Some(oci_index), without(good(oci), "mediaType"), invalid),
        ("an index without manifests", Some(oci_index), without(good_index(oci_index), "manifests"), invalid),
        ("a type that nobody knows", Some("application/vnd.example.x+json"), without(good(oci), "mediaType"), invalid),
        ("the artifact manifest", Some(ARTIFACT), json!({ "mediaType": ARTIFACT, "blobs": layers }), invalid),
        (
            "an index of layers",
            Some(oci_index),
            with(good_index(oci_index), "manifests", layers.clone()),
            Some("MANIFEST_BLOB_UNKNOWN"),
        ),
    ] {
        let answer = put(&strict, "x", content_type, &body).await;
        match refusal {
            None => assert_eq!(answer.status, 201, "{what}: {answer:?}"),
            Some(code) => assert_eq!(answer.refusal(), (400, code.into()), "{what}"),
        }
        let answer = put(&lenient, "x", content_type, &body).await;
        assert_eq!(answer.status == 201, what != UNREADABLE, "{what}: {answer:?}");
    }
}

#[tokio::test]
async fn only_foreign_layers_may_be_missing() {
    let registry = Registry::start().await;
    for foreign in [FOREIGN_LAYER, DOCKER_FOREIGN_LAYER] {
        for (urls, path) in [(true, "with"), (false, "without")] {
            let windows = image(&format!("{foreign} {path}")).docker().layer(100).layer_of(foreign, 900);
            let windows = if urls { windows.urls().build() } else { windows.build() };
            let sent = async || {
                let headers = [("content-type", MediaType::DOCKER_MANIFEST)];
                let body = windows.manifest.bytes().to_vec();
                ask(&registry, &format!("PUT /v2/{path}/manifests/1"), &headers, body).await
            };
            let inside = registry.inside(path);
            windows.blobs[0].push(&inside).await.unwrap();
            let lacking = sent().await;
            let errors = lacking.json()["errors"].as_array().unwrap().clone();
            let named: Vec<&Value> = errors.iter().map(|error| &error["detail"]["digest"]).collect();
            assert_eq!((lacking.status, named), (400, vec![&json!(windows.blobs[1].digest())]), "{foreign}");
            windows.blobs[1].push(&inside).await.unwrap();
            assert_eq!(sent().await.status, 201, "{foreign}");
            let absent = format!("HEAD /v2/{path}/blobs/{}", windows.blobs[2].digest());
            assert_eq!(ask(&registry, &absent, &[], "").await.status, 404);
        }
    }
}

#[tokio::test]
async fn only_explicitly_accepted_types_are_served() {
    let types = [MediaType::OCI_MANIFEST, MediaType::OCI_INDEX, MediaType::DOCKER_MANIFEST, MediaType::DOCKER_LIST];
    let (strict, lenient) = (Registry::start().await, Registry::lenient().await);
    let graphs = [
        image("oci").build(),
        index().child("linux/amd64", image("child").build()).build(),
        image("docker").docker().build(),
        index().docker().child("linux/amd64", image("of list").docker().build()).build(),
    ];
    for (graph, own) in graphs.iter().zip(types) {
        for registry in [&strict, &lenient] {
            graph.push(&registry.inside("a"), "1").await;
        }
        let others: Vec<&str> = types.into_iter().filter(|other| *other != own).collect();
        for (accept, served) in [
            (own.to_owned(), true),
            (own.to_uppercase(), true),
            (format!("text/html, {own};q=0.5, */*;q=0.1"), true),
            (others.join(", "), false),
            ("*/*".into(), false),
            ("application/*, application/json".into(), false),
            (format!("{own}x"), false),
            (String::new(), false),
        ] {
            for name in ["1", graph.digest().as_str()] {
                let headers = [("accept", accept.as_str())];
                for method in ["GET", "HEAD"] {
                    let request = format!("{method} /v2/a/manifests/{name}");
                    let answer = ask(&strict, &request, &headers, "").await;
                    assert_eq!(answer.status, if served { 200 } else { 404 }, "{own} by {accept}");
                    if !served && method == "GET" {
                        assert_eq!(answer.refusal().1, "MANIFEST_UNKNOWN");
                    }
                    assert_eq!(ask(&lenient, &request, &headers, "").await.status, 200, "{own} by {accept}");
                }
            }
        }
        // Several lines are one list.
        let lines: Vec<(&str, &str)> = types.iter().map(|named| ("accept", *named)).collect();
        assert_eq!(ask(&strict, "GET /v2/a/manifests/1", &lines, "").await.status, 200);
    }
    // A missing manifest is unknown with any Accept header.
    let absent = format!("GET /v2/a/manifests/{}", Digest::of(b"nowhere"));
    assert_eq!(ask(&strict, &absent, &[("accept", "*/*")], "").await.refusal(), (404, "MANIFEST_UNKNOWN".into()));
}

#[tokio::test]
async fn an_index_of_layers_is_refused_even_if_the_layers_exist() {
    let registry = Registry::start().await;
    let layer = Blob::seeded(MediaType::OCI_LAYER, "cached", 100);
    layer.push(&registry.inside("a")).await.unwrap();
    let cache = json!({ "schemaVersion": 2, "manifests": [json_of(&layer.descriptor)] });
    let answer = put(&registry, "cache", Some(MediaType::OCI_INDEX), &cache).await;
    assert_eq!(answer.json()["errors"][0]["detail"]["digest"], json!(layer.digest()));
}
