use std::path::Path;

use serde_json::Value;

use super::super::keys;
use super::*;

fn schema() -> Value {
    serde_json::from_str(&Config::schema()).unwrap()
}

/// The places that an editor would mark in a file.
fn marked(text: &str) -> Vec<String> {
    let instance: Value = serde_yaml::from_str(text).unwrap();
    let validator = jsonschema::validator_for(&schema()).unwrap();
    validator.iter_errors(&instance).map(|error| error.instance_path.to_string()).collect()
}

#[test]
fn the_example_is_valid() {
    assert_eq!(marked(include_str!("../../../mirror.yaml.example")), Vec::<String>::new());
}

/// A file with a target, one image and these lines, in which `IMAGE` is an additional image.
fn file(lines: &str) -> String {
    match lines.strip_prefix("IMAGE ") {
        Some(image) => format!("target: h.example/m\nimages:\n  - {image}\n"),
        None => format!("target: h.example/m\nimages: [nginx]\n{lines}\n"),
    }
}

#[test]
fn every_accepted_config_is_valid_by_the_schema() {
    let digest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let by_digest = format!("IMAGE {{image: \"python@{digest}\", as: 3.7}}");
    for lines in [
        "",
        "version: 1",
        "version: \"1\"",
        "IMAGE {image: a, tags: 1.10, platforms: linux/amd64, artifact_types: a/b}",
        "IMAGE {image: a, select: {glob: 1.*, exclude: \"*-rc\"}}",
        "IMAGE nginx:1.27",
        "IMAGE {image: alpine, tags: [1.10, 3.20, no, 007], overwrite: keep, to: base/alpine, referrers: none}",
        &by_digest,
        "IMAGE {image: alpine, select: {glob: [a*], regex: x, semver: '>=1', exclude: [b], sort: text, latest: 2, min: 1}}",
        "defaults: {overwrite: false, referrers: none}",
        "defaults: {platforms: [linux/amd64], referrers: require, artifact_types: [application/spdx+json], foreign: fail, missing_attestations: drop}",
        "IMAGE {image: \"a:1\", platforms: [all], referrers: all, artifact_types: [a/b, c/d], foreign: fetch}",
        "defaults:",
        "limits:\n  transfers: 8\n  idle_timeout: 30s\n  manifest_size: 4MiB",
        "registries:\n  h.example:",
        "registries:\n  h.example: {username: me, password: {file: ./p}, ca: ca.pem, insecure: false}",
        "registries:\n  h.example: {username: {file: ./u}, password: {file: ./p}}",
        "registries:\n  docker.io: {mirrors: [mirror.gcr.io, public.ecr.aws/docker]}",
        "registries:\n  h.example: {token: {file: ./t}, plain_http: true, endpoint: \"http://h.example:1\"}",
        "registries:\n  123456789012.dkr.ecr.eu-west-1.amazonaws.com: {ecr: {profile: p, create: false}}",
        "registries:\n  123456789012.dkr.ecr.eu-west-1.amazonaws.com:\n    ecr: {create: {tag_mutability: MUTABLE, tags: {a: 1}}}",
    ] {
        let text = file(lines);
        if let Err(problems) = Config::read(&text, Path::new("mirror.yaml"), &|_| None) {
            panic!("{problems}");
        }
        assert_eq!(marked(&text), Vec::<String>::new(), "{text}");
    }
}

#[test]
fn every_config_of_a_wrong_shape_is_invalid_by_the_schema() {
    for (lines, place) in [
        ("imagez: []", ""),
        ("version: 2", "/version"),
        ("targets: {h: example}", "/targets"),
        ("IMAGE {tags: [\"1\"]}", "/images/0"),
        ("IMAGE {image: a, tag: \"1\"}", "/images/0"),
        ("IMAGE {image: a, tags: []}", "/images/0"),
        ("IMAGE {image: a, select: {newest: 2}}", "/images/0"),
        ("IMAGE {image: a, select: {sort: date}}", "/images/0"),
        ("IMAGE {image: \"a:1\", overwrite: never}", "/images/0"),
        ("defaults: {referrers: some}", "/defaults/referrers"),
        ("defaults: {platforms: []}", "/defaults/platforms"),
        ("IMAGE {image: \"a:1\", platforms: {os: linux}}", "/images/0"),
        ("IMAGE {image: \"a:1\", artifact_types: []}", "/images/0"),
        ("IMAGE {image: \"a:1\", foreign: skip}", "/images/0"),
        ("defaults: {missing_attestations: keep}", "/defaults/missing_attestations"),
        ("registries:\n  h.example: {username: u, password: hunter2}", "/registries/h.example/password"),
        ("registries:\n  h.example: {token: {env: A, file: b}}", "/registries/h.example/token"),
        ("registries:\n  h.example: {passwort: {env: A}}", "/registries/h.example"),
        ("registries:\n  h.example: {insecure: maybe}", "/registries/h.example/insecure"),
        ("limits: {transfers: 0}", "/limits/transfers"),
        ("limits: {transfers: many}", "/limits/transfers"),
    ] {
        let text = file(lines);
        assert!(Config::read(&text, Path::new("mirror.yaml"), &|_| None).is_err(), "{text}");
        // An optional map with an error in it is marked as a whole.
        let marked = marked(&text);
        assert!(marked.iter().any(|at| place.starts_with(at)), "{text}: {marked:?}");
    }
}

#[test]
fn each_map_is_strict_and_describes_its_keys() {
    let root = schema();
    let maps = keys::maps(&root);
    let places: Vec<&str> = maps.iter().map(|(place, _)| place.as_str()).filter(|place| !place.is_empty()).collect();
    let expected = [
        "defaults",
        "images[]",
        "images[].select",
        "limits",
        "registries.*",
        "registries.*.ecr",
        "registries.*.ecr.create",
        "registries.*.harbor",
        "registries.*.harbor.create",
        "registries.*.harbor.proxy_caches[]",
        "registries.*.password",
        "registries.*.proxy",
        "registries.*.token",
        "registries.*.username",
    ];
    assert_eq!(places, expected);
    for (place, map) in maps {
        assert_eq!(map["additionalProperties"], false, "{place}");
        let silent: Vec<_> =
            keys::names(map).into_iter().filter(|key| map["properties"][key]["description"].is_null()).collect();
        assert!(silent.is_empty(), "{place}: {silent:?}");
    }
}
