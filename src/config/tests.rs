mod harbor;

use super::*;
use crate::oci::Registry;

const D: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
const ECR: &str = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";

fn env(name: &str) -> Option<String> {
    match name {
        "HUB_TOKEN" => Some("secret".into()),
        "EMPTY" => Some(String::new()),
        _ => None,
    }
}

fn read(text: &str) -> Result<Config, Problems> {
    Config::read(text, Path::new("conf/mirror.yaml"), &env)
}

/// Each problem as `LINE:COLUMN path: message`.
fn problems(text: &str) -> Vec<String> {
    let problems = read(text).expect_err(text);
    problems.iter().map(|p| format!("{}:{} {}: {}", p.line, p.column, p.path, p.message)).collect()
}

/// A file with a target, these further lines, and one image.
fn with(lines: &str) -> String {
    format!("target: h.example/m\nimages: [nginx]\n{lines}")
}

/// A file with these images, from line 3 on.
fn images(lines: &str) -> String {
    format!("target: h.example/m\nimages:\n{lines}")
}

fn destinations(text: &str) -> Vec<String> {
    let config = read(text).unwrap_or_else(|problems| panic!("{text}\n{problems}"));
    config.images.iter().flat_map(|rule| &rule.destinations).map(ToString::to_string).collect()
}

#[test]
fn the_example_is_valid() {
    let text = include_str!("../../mirror.yaml.example");
    let config = Config::read(text, Path::new("mirror.yaml"), &|_| Some("x".into())).unwrap_or_else(|p| panic!("{p}"));
    assert!(config.images.len() > 4 && config.registries.len() > 2);
}

#[test]
fn images_are_named_in_many_ways() {
    let text = images(&format!(
        "  - nginx\n  - ghcr.io/a/b:v1@{D}\n  - alpine@{D}\n  - image: alpine\n    tags: [1.10, 3.20, no, 007]\n    to: base/alpine\n    \
         overwrite: keep\n  - {{image: \"python@{D}\", as: 3.7-slim}}\n  - {{image: quay.io/c/c:v1, referrers: none}}\n  \
         - {{image: quay.io/c/d, select: {{semver: '>=1', latest: 2}}}}\ndefaults: {{overwrite: false, referrers: none}}\n"
    ));
    let config = read(&text).unwrap_or_else(|problems| panic!("{problems}"));
    let digest: Digest = D.parse().unwrap();
    let tag = |text: &str| -> (Tag, Option<Digest>) { (text.parse().unwrap(), None) };
    let wanted: Vec<&Wanted> = config.images.iter().map(|rule| &rule.wanted).collect();
    assert_eq!(*wanted[0], Wanted::Tags(vec![tag("latest")]));
    assert_eq!(*wanted[1], Wanted::Tags(vec![("v1".parse().unwrap(), Some(digest.clone()))]));
    assert_eq!(*wanted[2], Wanted::Digest(digest.clone(), None));
    assert_eq!(*wanted[3], Wanted::Tags(["1.10", "3.20", "no", "007"].map(tag).into()));
    assert_eq!(*wanted[4], Wanted::Digest(digest, Some("3.7-slim".parse().unwrap())));
    assert_eq!(*wanted[5], Wanted::Tags(vec![tag("v1")]));
    assert!(matches!(wanted[6], Wanted::Select(selection) if selection.spec().latest == Some(2)));
    assert_eq!(
        (config.images[0].handling.overwrite, config.images[3].handling.overwrite),
        (Overwrite::Refuse, Overwrite::Keep)
    );
    assert_eq!((config.images[3].line, config.images[3].path.to_string()), (6, "images[3]".into()));
    let sources: Vec<String> =
        config.images.iter().flat_map(|rule| rule.sources(&[])).map(|(r, _)| r.to_string()).collect();
    assert_eq!(
        sources[..3].join(" "),
        format!("docker.io/library/nginx:latest ghcr.io/a/b:v1@{D} docker.io/library/alpine@{D}")
    );
    assert_eq!((sources.len(), sources[3].as_str()), (9, "docker.io/library/alpine:1.10"));
    assert_eq!(config.images[3].destinations[0].to_string(), "h.example/m/base/alpine");
    assert_eq!(config.images[0].destinations[0].to_string(), "h.example/m/docker.io/library/nginx");
}

#[test]
fn layout_and_targets_place_images() {
    for (top, image, expected) in [
        ("target: docker.io/myorg", "ghcr.io/a/b:1", "docker.io/myorg/ghcr.io/a/b"),
        ("target: harbor/mirror/", "nginx", "harbor/mirror/docker.io/library/nginx"),
        ("target: h.example", "localhost:5000/a:1", "h.example/localhost-5000/a"),
        ("target: h.example", "'[::1]:5000/a:1'", "h.example/1-5000/a"),
        ("target: h.example\nlayout: x/{name}", "quay.io/a/b/c:1", "h.example/x/c"),
        ("targets: [h.example/a, g.example]", "quay.io/c:1", "h.example/a/quay.io/c g.example/quay.io/c"),
    ] {
        assert_eq!(destinations(&format!("{top}\nimages: [{image}]")).join(" "), expected);
    }
    // Both give the same digest: they may share a reference.
    let same = images(&format!(
        "  - {{image: 'a/x:1@{D}', to: x}}\n  - {{image: 'b/x:1@{D}', to: x}}\n  - {{image: 'c/x@{D}', as: '1', to: x}}\n"
    ));
    assert_eq!(destinations(&same).len(), 3);
}

#[test]
fn registries_and_limits() {
    let text = with(&format!(
        "registries:\n  index.docker.io: {{username: me, password: {{env: HUB_TOKEN}}}}\n  h.example: {{ca: ./ca.pem, plain_http: false, \
         token: {{file: /run/t}}, client_cert: c.pem, client_key: k.pem, proxy: 'http://p:3128'}}\n  localhost:5000:\n  {ECR}:\n    endpoint: http://localhost:4566\n    ecr:\n      role_arn: \
         arn:aws:iam::123456789012:role/m\n      external_id: x\n      create: {{tag_mutability: IMMUTABLE, scan_on_push: true, \
         kms_key: alias/m, tags: {{team: 007}}}}\n  unused.example: {{username: {{env: UNSET}}, password: {{env: UNSET}}}}\n\
         limits: {{transfers: 8, idle_timeout: 90s, manifest_size: 8MiB}}\nversion: 1\n"
    ));
    let config = read(&text).unwrap_or_else(|problems| panic!("{problems}"));
    let settings = |host: &str| &config.registries[&host.parse::<Registry>().unwrap()];
    assert_eq!(settings("docker.io").username, Some(Secret::Plain("me".into())));
    assert_eq!(settings("docker.io").password, Some(Secret::Env("HUB_TOKEN".into())));
    assert_eq!(settings("h.example").ca, Some("conf/./ca.pem".into()));
    assert_eq!(settings("h.example").token, Some(Secret::File("/run/t".into())));
    let client = ClientCertificate { certificate: "conf/c.pem".into(), key: "conf/k.pem".into() };
    assert_eq!(settings("h.example").client, Some(client));
    assert_eq!(settings("h.example").proxy, Some(Secret::Plain("http://p:3128/".into())));
    assert_eq!(settings("localhost:5000"), &RegistrySettings::default());
    let create = settings(ECR).ecr.create.as_ref().unwrap();
    assert_eq!((create.tag_mutability.as_deref(), create.tags["team"].as_str()), (Some("IMMUTABLE"), "007"));
    assert_eq!(settings(ECR).endpoint.as_ref().unwrap().as_str(), "http://localhost:4566/");
    let limits = Limits { transfers: 8, idle_timeout: Duration::from_secs(90), manifest_size: 8 << 20 };
    assert_eq!(config.limits, limits);
    assert_eq!(RegistrySettings::default().ecr.create, Some(EcrCreate::default()), "created unless told otherwise");
    for (create, expected) in
        [("false", None), ("true", Some(EcrCreate::default())), ("{}", Some(EcrCreate::default()))]
    {
        let config = read(&with(&format!("registries: {{{ECR}: {{ecr: {{create: {create}}}}}}}"))).unwrap();
        assert_eq!(config.registries.values().next().unwrap().ecr.create, expected);
    }
}

#[test]
fn settings_alone_need_no_list() {
    let text = "registries: {h.example: {username: u, password: {env: UNSET}}}\nlimits: {transfers: 2}";
    let read = |hosts: &[&str]| {
        let hosts: Vec<Registry> = hosts.iter().map(|host| host.parse().unwrap()).collect();
        Config::read_settings(text, Path::new("mirror.yaml"), &hosts, &env)
    };
    assert_eq!(read(&["docker.io"]).unwrap().limits.transfers, 2);
    assert_eq!(read(&["h.example"]).unwrap_err().len(), 1);
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn wrong_files_are_refused_with_position() {
    let mut wrong = Vec::new();
    for (text, expected) in [
        // The shape.
        (with("layot: x"), "3:1 layot: unknown key `layot`"),
        (with("defaults: {tags: [a]}"), "3:12 defaults.tags: unknown key `tags`"),
        (with("target: b.example"), "3:1 target: the key stands twice in one map, first in line 1"),
        (with("limits:\n  transfers: many"), "4:14 limits.transfers: expected a whole number, 0 or more"),
        (images("  - image: a\n    tags: 1.10"), "4:11 images[0].tags: expected a list, found a single value"),
        (images("  - [a]"), "3:5 images[0]: expected an image reference or a map with the key image, found a list"),
        (with("version: 2"), "3:10 version: version `2` isn't known: this transship reads version 1"),
        (
            "target: [\n".into(),
            "2:1 target[0]: it isn't valid YAML: while parsing a node, did not find expected node content",
        ),
        (
            with(&format!("registries: {{{ECR}: {{ecr: {{reconcile: true, create: {{scan_on_push: true}}}}}}}}")),
            "3:78 registries.123456789012.dkr.ecr.eu-west-1.amazonaws.com.ecr.reconcile: there is no policy to be had by existing repositories",
        ),
        // Targets and layout.
        ("images: [a]".into(), "1:1 targets: there is no target"),
        (with("targets: [a.example]"), "3:10 targets: there is target: already"),
        ("target: https://h\nimages: [a]".into(), "1:9 target: `https://h` has a scheme"),
        (
            "target: oci:dir\nimages: [a]".into(),
            "1:9 target: an OCI layout as target isn't supported yet by this version of transship",
        ),
        ("targets: [h/a, h/a/]\nimages: [a]".into(), "1:16 targets[1]: `h/a` is a target already"),
        (
            with("layout: '{host}/{name}'"),
            "3:9 layout: `{host}/` isn't a placeholder: expected {registry}, {repository} or {name}",
        ),
        // Images.
        ("target: h/m\nimages: []".into(), "2:9 images: there is nothing to mirror"),
        (
            images("  - nginx:a b"),
            "3:5 images[0]: `a b` isn't a tag: expected up to 128 letters, digits, _ . - and none of . - first",
        ),
        (
            images("  - nginx@sha256:abc"),
            "3:5 images[0]: `sha256:abc` isn't a digest: expected sha256:<64 hex digits> or sha512:<128 hex digits>",
        ),
        (
            images("  - image: a\n    tags: [x, -y]"),
            "4:15 images[0].tags[1]: `-y` isn't a tag: expected up to 128 letters, digits, _ . - and none of . - first",
        ),
        (images("  - image: a\n    tags: [x, x]"), "4:15 images[0].tags[1]: the tag `x` stands twice"),
        (images("  - image: a\n    tags: []"), "4:11 images[0].tags: the list is empty"),
        (images("  - image: a"), "3:12 images[0].image: it doesn't say which images of the repository"),
        (images("  - {image: a:1, tags: [x]}"), "3:5 images[0]: there are several ways of choosing images"),
        (images("  - {tags: [x]}"), "3:5 images[0]: the key `image` is missing"),
        (
            images("  - {image: a:1, as: x}"),
            "3:22 images[0].as: as: names the tag of an image that is given by a digest alone",
        ),
        (
            images("  - {image: a, select: {glob: [x, '[']}}"),
            "3:35 images[0].select.glob[1]: `[` isn't a glob: unclosed character class; missing ']'",
        ),
        (
            images("  - {image: a, select: {semver: one}}"),
            "3:33 images[0].select.semver: `one` isn't a version requirement: unexpected character 'o' while parsing major version number",
        ),
        (
            images("  - {image: a:1, to: X}"),
            "3:22 images[0].to: it can't be placed under h.example/m: `m/X` isn't a repository name: expected lower-case letters, digits and single . _ - between them, divided by /",
        ),
        (
            images("  - {image: a:1, overwrite: maybe}"),
            "3:29 images[0].overwrite: `maybe` isn't understood: expected true, false or keep",
        ),
        (
            images("  - {image: a:1, referrers: some}"),
            "3:29 images[0].referrers: `some` isn't understood: expected all, none or require",
        ),
        (
            images("  - {image: a:1, platforms: [linux/amd64]}"),
            "3:18 images[0].platforms: the key `platforms` isn't supported yet by this version of transship",
        ),
        (
            images("  - a:1\n  - b:1\n  - a:1"),
            "5:5 images[2]: h.example/m/docker.io/library/a:1 is where images[0] in line 3 lands, too",
        ),
        (
            images("  - a/x:1\n  - {image: b/x, tags: ['2', '1'], to: docker.io/a/x}"),
            "4:5 images[1]: h.example/m/docker.io/a/x:1 is where images[0] in line 3 lands, too",
        ),
        (images("  - h.example/m/a:1\nlayout: a"), "3:5 images[0]: h.example/m/a would be mirrored onto itself"),
        (
            images("  - {image: a, select: {latest: 1}}\n  - {image: a, select: {latest: 1}}"),
            "4:5 images[1]: it is the same selection as images[0] in line 3",
        ),
        (
            format!("target: {ECR}\nimages: [a]\nlayout: a"),
            "2:10 images[0]: ECR would refuse the repository name `a`: it must have 2 to 256 characters",
        ),
        // Registries.
        (
            with("registries: {docker.io: {username: u, password: hunter2}}"),
            "3:49 registries.docker.io.password: a password doesn't stand in the file itself",
        ),
        (
            with("registries: {docker.io: {token: hunter2}}"),
            "3:33 registries.docker.io.token: a token doesn't stand in the file itself",
        ),
        (
            with("registries: {docker.io: {username: u, password: {env: UNSET}}}"),
            "3:55 registries.docker.io.password.env: the environment variable UNSET isn't set",
        ),
        (
            with("registries: {h.example: {token: {env: EMPTY}}}"),
            "3:39 registries.h.example.token.env: the environment variable EMPTY is empty",
        ),
        (
            with("registries: {x.io: {token: {env: $A}}}"),
            "3:34 registries.x.io.token.env: `$A` isn't the name of an environment variable",
        ),
        (with("registries: {x.io: {token: {}}}"), "3:28 registries.x.io.token: expected one of env and file"),
        (
            with("registries: {x.io: {password: {env: A}}}"),
            "3:31 registries.x.io.password: username is missing: username and password go together",
        ),
        (
            with("registries: {docker.io: {}, index.docker.io: {}}"),
            "3:46 registries.index.docker.io: there are settings for docker.io already",
        ),
        (
            with("registries: {'http://x': {}}"),
            "3:26 registries.http://x: `http://x` isn't a registry: expected host[:port] without scheme or path",
        ),
        (
            with("registries: {x.io: {endpoint: 'https://u:p@x'}}"),
            "3:31 registries.x.io.endpoint: a user and a password don't belong into a URL",
        ),
        (
            with("registries: {x.io: {proxy: 'http://u:hunter2@p:3128'}}"),
            "3:28 registries.x.io.proxy: a user and a password don't belong into a URL",
        ),
        (with("registries: {x.io: {proxy: 'p:3128'}}"), "3:28 registries.x.io.proxy: it isn't a URL"),
        (with("registries: {x.io: {proxy: 'socks5://p'}}"), "3:28 registries.x.io.proxy: it isn't a URL"),
        (
            with("registries: {h.example: {proxy: {env: UNSET}}}"),
            "3:39 registries.h.example.proxy.env: the environment variable UNSET isn't set",
        ),
        (
            with("registries: {x.io: {client_cert: c.pem}}"),
            "3:34 registries.x.io.client_cert: client_key is missing: client_cert and client_key go together",
        ),
        (
            with("registries: {x.io: {client_key: k.pem}}"),
            "3:33 registries.x.io.client_key: client_cert is missing: client_cert and client_key go together",
        ),
        (
            with("registries: {x.io: {client_key: '', client_cert: c.pem}}"),
            "3:33 registries.x.io.client_key: expected the path of a file",
        ),
        (with("registries: {x.io: {endpoint: x}}"), "3:31 registries.x.io.endpoint: it isn't a URL"),
        (with("registries: {x.io: {ecr: {}}}"), "3:26 registries.x.io.ecr: x.io isn't a registry of Amazon ECR"),
        (
            with(&format!("registries: {{{ECR}: {{ecr: {{create: {{tag_mutability: NO}}}}}}}}")),
            "3:92 registries.123456789012.dkr.ecr.eu-west-1.amazonaws.com.ecr.create.tag_mutability: `NO` isn't understood: expected MUTABLE or IMMUTABLE",
        ),
        // Limits.
        (with("limits: {transfers: 0}"), "3:21 limits.transfers: expected 1 or more"),
        (
            with("limits: {idle_timeout: 60}"),
            "3:24 limits.idle_timeout: `60` isn't a duration: time unit needed, for example 60sec or 60ms",
        ),
        (with("limits: {manifest_size: big}"), "3:25 limits.manifest_size: `big` isn't a size"),
        (
            with("limits: {bandwidth: 1MB/s}"),
            "3:10 limits.bandwidth: the key `bandwidth` isn't supported yet by this version of transship",
        ),
    ] {
        let found = problems(&text);
        if found != [expected] {
            wrong.push(format!("expected {expected}\n   found {found:#?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn all_problems_come_at_once_in_the_order_of_the_text() {
    let text = "\
target: h.example/m
image: nginx
images:
  - nginx:1:2
  - image: alpine
    tag: '3'
    tags: ['3.20', '3.21 ']
    tags: ['3.19']
registries:
  docker.io:
    username: me
    password: hunter2
limits: {bandwith: 5, transfers: 0}
";
    let shown = read(text).unwrap_err().to_string();
    let expected = "\
conf/mirror.yaml:2:1: image: unknown key `image`
hint: did you mean `images`?
conf/mirror.yaml:4:5: images[0]: `1:2` isn't a tag: expected up to 128 letters, digits, _ . - and none of . - first
conf/mirror.yaml:6:5: images[1].tag: unknown key `tag`
hint: did you mean `tags`?
conf/mirror.yaml:7:20: images[1].tags[1]: `3.21 ` isn't a tag: expected up to 128 letters, digits, _ . - and none of . - first
conf/mirror.yaml:8:5: images[1].tags: the key stands twice in one map, first in line 7
hint: remove one of them
conf/mirror.yaml:12:15: registries.docker.io.password: a password doesn't stand in the file itself
hint: write password: {env: VARIABLE} or password: {file: PATH}
conf/mirror.yaml:13:10: limits.bandwith: unknown key `bandwith`
hint: did you mean `bandwidth`? (it isn't supported yet)
conf/mirror.yaml:13:34: limits.transfers: expected 1 or more";
    assert_eq!(shown, expected);
    assert!(!shown.contains("hunter2"));
}

#[test]
fn a_wrong_type_is_told_with_what_was_seen_before() {
    assert_eq!(
        problems("a: 1\ntarget: x\ntarget: y\nimages: 5"),
        [
            "1:1 a: unknown key `a`",
            "3:1 target: the key stands twice in one map, first in line 2",
            "4:9 images: expected a list, found a single value",
        ]
    );
}

#[test]
fn hints_know_where_a_key_belongs() {
    for (text, expected) in [
        (with("hosts: {}"), "the keys here are"),
        (with("limits: {bandwith: 1}"), "did you mean `bandwidth`? (it isn't supported yet)"),
        (with("registrys: {}"), "did you mean `registries`?"),
        (with("transfers: 5"), "`transfers` belongs to limits"),
        (with("defaults: {<<: {}}"), "merge keys aren't supported"),
        (with("defaults: {limits: {}}"), "`limits` belongs to the top of the file"),
    ] {
        let problems = read(&text).unwrap_err();
        let hint = problems.iter().next().unwrap().hint.clone().unwrap_or_default();
        assert!(hint.starts_with(expected), "{hint}");
    }
}

#[test]
fn a_yaml_bomb_is_refused_with_position() {
    let bomb: String =
        (1..20).map(|n| format!("a{n}: &a{n} [{}]\n", vec![format!("*a{}", n - 1); 9].join(","))).collect();
    let text = format!("a0: &a0 [{}]\n{bomb}", ["x"; 9].join(","));
    assert_eq!(problems(&text), ["5:10 a4[0]: the file's aliases stand for more than 10000 values"]);
}

#[test]
fn the_table_of_keys_agrees_with_the_structs() {
    for (place, now, later) in keys::KEYS {
        for (key, known) in now.iter().map(|key| (key, true)).chain(later.iter().map(|key| (key, false))) {
            let mut text = format!("{{{key}: }}");
            for around in place.split('.').rev().filter(|around| !around.is_empty()) {
                text = match around {
                    "images[]" => format!("{{images: [{text}]}}"),
                    "*" => format!("{{x.io: {text}}}"),
                    other => format!("{{{other}: {text}}}"),
                };
            }
            let problems = problems(&text);
            let unknown = problems.iter().any(|problem| problem.contains("unknown key"));
            let refused =
                problems.iter().any(|problem| problem.contains(&format!("the key `{key}` isn't supported yet")));
            assert_eq!((unknown, refused), (false, !known), "{text}: {problems:?}");
        }
    }
}

#[test]
fn ecr_policies_are_read_and_checked_before_any_request() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    let rule = r#"{"rulePriority": 1, "selection": {"tagStatus": "untagged", "countType": "imageCountMoreThan"}}"#;
    file("good.json", &format!(r#"{{"rules": [{rule}]}}"#));
    file("broken.json", "{\n  \"rules\": [}\n");
    file("short.json", r#"{"rules": [{}]}"#);
    file("policy.json", r#"{"Version": "2012-10-17", "Statement": {"Effect": "Allow"}}"#);
    let read = |host: &str, create: &str| {
        let text = format!(
            "target: {ECR}/m\nimages: [nginx]\nregistries:\n  {host}:\n    ecr:\n      create:\n        {create}\n"
        );
        Config::read(&text, &folder.path().join("mirror.yaml"), &env)
    };
    let config = read(ECR, "{lifecycle_policy: good.json, repository_policy: ./policy.json}").unwrap();
    let create = config.registries[&ECR.parse::<Registry>().unwrap()].ecr.create.clone().unwrap();
    assert!(create.lifecycle_policy.unwrap().text.contains("rulePriority"));
    assert_eq!(create.repository_policy.unwrap().file, folder.path().join("./policy.json"));
    for (create, message) in [
        ("lifecycle_policy: none.json", "none.json can't be read: "),
        ("lifecycle_policy: broken.json", "broken.json:2:13: it isn't JSON: "),
        ("lifecycle_policy: short.json", "short.json has 15 characters, and ECR takes 100 to 30720"),
        ("lifecycle_policy: policy.json", "policy.json has no rules"),
        ("repository_policy: good.json", "good.json has no Statement"),
    ] {
        let problems = read(ECR, create).unwrap_err();
        let all: Vec<_> = problems.iter().collect();
        assert!(all.len() == 1 && all[0].message.contains(message), "{create}: {problems}");
        assert_eq!(all[0].line, 7, "{problems}");
        assert!(read("210987654321.dkr.ecr.eu-west-1.amazonaws.com", create).is_ok(), "that host isn't in use");
    }
}

#[test]
fn ecr_settings_have_to_agree() {
    let with = |create: &str| with(&format!("registries:\n  {ECR}: {{ecr: {{create: {{{create}}}}}}}\n"));
    for good in [
        "tag_mutability: MUTABLE, mutability_exclusions: ['v*', latest]",
        "encryption: KMS_DSSE, kms_key: alias/m",
        "encryption: AES256",
        "encryption: KMS",
    ] {
        assert!(read(&with(good)).is_ok(), "{good}");
    }
    for (bad, message) in [
        ("mutability_exclusions: [a]", "tag_mutability is missing"),
        ("tag_mutability: IMMUTABLE, mutability_exclusions: []", "expected 1 to 5 patterns"),
        ("tag_mutability: IMMUTABLE, mutability_exclusions: ['a b']", "`a b` isn't a pattern of tags"),
        ("tag_mutability: IMMUTABLE_WITH_EXCLUSION", "expected MUTABLE or IMMUTABLE"),
        ("encryption: AES256, kms_key: alias/m", "AES256 takes no key"),
        ("encryption: SSE", "expected AES256, KMS or KMS_DSSE"),
    ] {
        let problems = problems(&with(bad));
        assert!(problems.len() == 1 && problems[0].contains(message), "{bad}: {problems:?}");
    }
}
