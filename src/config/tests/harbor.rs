//! `registries.HOST.harbor`.

use super::*;

#[test]
fn harbor_settings_for_new_projects_are_read() {
    let create = |text: &str| {
        let config = read(&with(&format!("registries: {{h.example: {{harbor: {text}}}}}"))).unwrap();
        config.registries.values().next().unwrap().harbor.as_ref().unwrap().create.clone()
    };
    let private = Some(HarborCreate::default());
    for (text, expected) in [
        ("{}", private.clone()),
        ("{create: true}", private.clone()),
        ("{create: {}}", private),
        ("{create: false}", None),
    ] {
        assert_eq!(create(text), expected, "{text}");
    }
    let limit = |text: &str| create(&format!("{{create: {{storage_limit: {text}}}}}")).unwrap().storage_limit;
    assert_eq!(limit("500GiB"), Some(StorageLimit::Bytes(500 << 30)));
    assert_eq!((limit("-1"), limit("unlimited")), (Some(StorageLimit::Unlimited), Some(StorageLimit::Unlimited)));
    let all = "{create: {public: true, storage_limit: 1GB, auto_scan: true, auto_sbom_generation: false, \
        prevent_vul: true, severity: high, reuse_sys_cve_allowlist: false}}";
    let expected = HarborCreate {
        public: true,
        storage_limit: Some(StorageLimit::Bytes(1_000_000_000)),
        auto_scan: Some(true),
        auto_sbom_generation: Some(false),
        prevent_vul: Some(true),
        severity: Some("high".into()),
        reuse_sys_cve_allowlist: Some(false),
    };
    assert_eq!(create(all), Some(expected));
    assert_eq!(read(&with("registries: {h.example: {}}")).unwrap().registries.values().next().unwrap().harbor, None);
}

#[test]
fn invalid_harbor_settings_are_refused_with_position() {
    for (text, expected) in [
        (
            with(&format!("registries: {{{ECR}: {{harbor: {{}}}}}}")),
            "3:69 registries.123456789012.dkr.ecr.eu-west-1.amazonaws.com.harbor: 123456789012.dkr.ecr.eu-west-1.amazonaws.com is another kind of registry, not a Harbor",
        ),
        (
            with("registries: {x.io: {harbor: {create: maybe}}}"),
            "3:38 registries.x.io.harbor.create: expected true, false or a map of settings",
        ),
        (
            with("registries: {x.io: {harbor: {create: {storage_limit: lots}}}}"),
            "3:54 registries.x.io.harbor.create.storage_limit: `lots` isn't a size",
        ),
        (
            with("registries: {x.io: {harbor: {create: {storage_limit: 0}}}}"),
            "3:54 registries.x.io.harbor.create.storage_limit: expected more than 0",
        ),
        (
            with("registries: {x.io: {harbor: {create: {severity: bad}}}}"),
            "3:49 registries.x.io.harbor.create.severity: `bad` isn't supported: expected one of none, low, medium, high, critical",
        ),
        (
            with("registries: {x.io: {harbor: {create: {quota: 5}}}}"),
            "3:39 registries.x.io.harbor.create.quota: unknown key `quota`",
        ),
        (
            "target: h.example\nimages: [a]\nlayout: a\nregistries: {h.example: {harbor: {}}}".into(),
            "2:10 images[0]: Harbor refuses the repository name `a`: it is PROJECT/NAME there",
        ),
        (
            "target: h.example/a__b\nimages: [a]\nregistries: {h.example: {harbor: {}}}".into(),
            "2:10 images[0]: Harbor refuses the project name `a__b`",
        ),
    ] {
        assert_eq!(problems(&text), [expected]);
    }
}

#[test]
fn proxy_caches_list_the_repositories_of_their_upstream() {
    let text = "target: h.example/m\nimages: [nginx, grafana/grafana, nginx:1, quay.io/a/b]\nregistries: {h.example: {harbor: \
        {proxy_caches: [{project: hub, upstream: index.docker.io, public: true}, {project: quay, upstream: quay.io}, \
        {project: gh.io-1, upstream: ghcr.io}]}}}";
    let config = read(text).unwrap();
    let caches = &config.registries.values().next().unwrap().harbor.as_ref().unwrap().proxy_caches;
    let shown: Vec<_> = caches.iter().map(|c| (c.project.as_str(), c.upstream.to_string(), c.public)).collect();
    let expected = [("hub", "docker.io", true), ("quay", "quay.io", false), ("gh.io-1", "ghcr.io", false)];
    assert_eq!(shown, expected.map(|(project, upstream, public)| (project, upstream.to_owned(), public)));
    let repositories: Vec<_> = caches.iter().map(|cache| cache.repositories.join(" ")).collect();
    assert_eq!(repositories, ["grafana/grafana library/nginx", "a/b", ""]);
}

#[test]
fn invalid_proxy_caches_are_refused_with_position() {
    for (caches, expected) in [
        ("[{upstream: ghcr.io}]", "[0]: project is missing"),
        ("[{project: hub}]", "[0]: upstream is missing"),
        ("[{project: Hub, upstream: ghcr.io}]", "[0].project: Harbor refuses the project `Hub`"),
        ("[{project: a/b, upstream: ghcr.io}]", "[0].project: Harbor refuses the project `a/b`"),
        ("[{project: a, upstream: ghcr.io/x}]", "[0].upstream: `ghcr.io/x` isn't a registry"),
        ("[{project: a, upstream: \"https://ghcr.io\"}]", "[0].upstream: `https://ghcr.io` isn't a registry"),
        ("[{project: a, upstream: h.example}]", "[0].upstream: `h.example` is the Harbor itself"),
        (
            "[{project: m, upstream: ghcr.io}]",
            "[0].project: h.example/m/docker.io/library/a is mirrored to project m, and a proxy cache accepts no pushes",
        ),
        (
            "[{project: a, upstream: ghcr.io}, {project: a, upstream: quay.io}]",
            "[1].project: project a is a proxy cache already",
        ),
        ("[{project: a, upstream: ghcr.io, filter: x}]", "[0].filter: unknown key `filter`"),
    ] {
        let text = format!(
            "target: h.example/m\nimages: [a]\nregistries: {{h.example: {{harbor: {{proxy_caches: {caches}}}}}}}"
        );
        let [problem] = &problems(&text)[..] else { panic!("{caches}: {:?}", problems(&text)) };
        let (_, told) = problem.split_once("proxy_caches").expect("the place");
        assert!(told.starts_with(expected), "{caches}: {problem}");
    }
}
