use super::*;

const D: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

#[test]
fn references_have_one_canonical_text() {
    let pinned = format!("nginx@{D}");
    let pinned_canonical = format!("docker.io/library/nginx@{D}");
    let both = format!("ghcr.io/a/b:v1@{D}");
    for (text, canonical) in [
        ("nginx", "docker.io/library/nginx:latest"),
        ("nginx:1.27", "docker.io/library/nginx:1.27"),
        ("grafana/grafana:11", "docker.io/grafana/grafana:11"),
        ("docker.io/nginx:1", "docker.io/library/nginx:1"),
        ("index.docker.io/library/nginx:1", "docker.io/library/nginx:1"),
        ("registry-1.docker.io/a/b:1", "docker.io/a/b:1"),
        ("localhost/a:1", "localhost/a:1"),
        ("localhost:5000/a:1", "localhost:5000/a:1"),
        ("127.0.0.1:5000/a/b", "127.0.0.1:5000/a/b:latest"),
        ("[::1]:5000/a:1", "[::1]:5000/a:1"),
        ("GHCR.io/a/b__c/d---e:V_1.0-x", "ghcr.io/a/b__c/d---e:V_1.0-x"),
        (pinned.as_str(), pinned_canonical.as_str()),
        (both.as_str(), both.as_str()),
    ] {
        let reference: Reference = text.parse().unwrap_or_else(|e| panic!("{text}: {e}"));
        assert_eq!(reference.to_string(), canonical);
        assert_eq!(canonical.parse::<Reference>().unwrap(), reference);
    }
}

#[test]
fn references_outside_the_grammar_are_refused() {
    let long_tag = format!("nginx:{}", "a".repeat(129));
    let long_path = format!("ghcr.io/{}", "a".repeat(256));
    let short_digest = "nginx@sha256:abc";
    for bad in [
        "",
        "/",
        ":",
        "Nginx",
        "nginx:",
        "nginx:-x",
        "nginx:a b",
        "nginx:ä",
        "a//b",
        "ghcr.io/",
        "ghcr.io/a/",
        "_a",
        "a_",
        "a..b",
        "a___b",
        "a.-b",
        "https://ghcr.io/a",
        "ghcr.io:/a",
        "ghcr.io:99999/a",
        "user@host/a",
        short_digest,
        &long_tag,
        &long_path,
    ] {
        assert!(bad.parse::<Reference>().is_err(), "{bad}");
    }
}

#[test]
fn a_bare_repository_takes_no_tag() {
    assert_eq!("alpine".parse::<Repository>().unwrap().to_string(), "docker.io/library/alpine");
    assert!(matches!("alpine:3".parse::<Repository>(), Err(ReferenceError::NotBare(_))));
}

#[test]
fn the_host_of_a_registry_is_recognised_as_loopback_or_not() {
    for (text, host, loopback) in [
        ("localhost:5000", "localhost", true),
        ("127.0.0.2", "127.0.0.2", true),
        ("[::1]:5000", "::1", true),
        ("harbor.example.com", "harbor.example.com", false),
    ] {
        let registry: Registry = text.parse().unwrap();
        assert_eq!((registry.host(), registry.is_loopback()), (host, loopback));
    }
}
