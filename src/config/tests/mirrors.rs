//! `registries.HOST.mirrors`.

use super::*;

#[test]
fn mirrors_are_in_use_if_their_origin_is() {
    let text = with(
        "registries: {docker.io: {mirrors: [mirror.gcr.io, public.ecr.aws/docker/, 'h.example:5000/a/b']}, \
         quay.io: {mirrors: [unused.example]}, mirror.gcr.io: {mirrors: [docker.io/x]}}",
    );
    let config = read(&text).unwrap_or_else(|problems| panic!("{problems}"));
    let nginx = &config.images[0].repository;
    let settings = &config.registries[nginx.registry()];
    let there: Vec<String> = settings.mirrors.iter().map(|m| m.repository(nginx).unwrap().to_string()).collect();
    let expected =
        ["mirror.gcr.io/library/nginx", "public.ecr.aws/docker/library/nginx", "h.example:5000/a/b/library/nginx"];
    assert_eq!(there, expected);
    let used: Vec<&str> = config.used.iter().map(Registry::as_str).collect();
    assert_eq!(used, ["docker.io", "h.example", "h.example:5000", "mirror.gcr.io", "public.ecr.aws"]);
}

#[test]
fn secrets_of_a_mirror_are_required_only_if_its_origin_is_in_use() {
    let mirrored = "docker.io: {mirrors: [m.example/x]}, m.example: {token: {env: UNSET}}";
    let elsewhere = "quay.io: {mirrors: [m.example/x]}, m.example: {token: {env: UNSET}}";
    assert!(problems(&with(&format!("registries: {{{mirrored}}}")))[0].contains("UNSET isn't set"));
    assert!(read(&with(&format!("registries: {{{elsewhere}}}"))).is_ok());
}

#[test]
fn invalid_mirrors_are_refused() {
    let of = |mirror: &str| with(&format!("registries: {{docker.io: {{mirrors: [{mirror}]}}}}"));
    let long = "a/".repeat(120);
    let too_long = format!(
        "3:36 registries.docker.io.mirrors[0]: it gives docker.io/library/nginx an invalid name: {}",
        Repository::below(&"m.example".parse().unwrap(), long.trim_end_matches('/'), "library/nginx").unwrap_err()
    );
    assert_problems(vec![
        (of("'https://m.example'"), "3:36 registries.docker.io.mirrors[0]: `https://m.example` has a scheme"),
        (of("oci:images"), "3:36 registries.docker.io.mirrors[0]: `oci:images` isn't a registry"),
        (of("index.docker.io"), "3:36 registries.docker.io.mirrors[0]: `index.docker.io` is the registry itself"),
        (of("m.example/a, m.example/a/"), "3:49 registries.docker.io.mirrors[1]: `m.example/a/` is a mirror already"),
        (of(&format!("m.example/{long}")), &too_long),
        (
            with("registries: {h.example: {mirrors: [m.example]}}"),
            "3:35 registries.h.example.mirrors: h.example is a target, not a source",
        ),
    ]);
    for mirror in ["m.example/UPPER", "m.example/a//b", "m.example/..", "''", "m.example/a:tag"] {
        let found = problems(&of(mirror));
        assert!(found.len() == 1 && found[0].starts_with("3:36 registries.docker.io.mirrors[0]: "), "{found:?}");
    }
}
