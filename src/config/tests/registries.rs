//! Settings by registry, and the bounds of a run.

use std::num::NonZeroU64;
use std::time::Duration;

use super::*;

#[test]
fn registries_and_limits() {
    let text = with(&format!(
        "registries:\n  index.docker.io: {{username: me, password: {{env: HUB_TOKEN}}}}\n  h.example: {{ca: ./ca.pem, plain_http: false, \
         token: {{file: /run/t}}, client_cert: c.pem, client_key: k.pem, proxy: 'http://p:3128'}}\n  localhost:5000:\n  {ECR}:\n    endpoint: http://localhost:4566\n    ecr:\n      role_arn: \
         arn:aws:iam::123456789012:role/m\n      external_id: x\n      create: {{tag_mutability: IMMUTABLE, scan_on_push: true, \
         kms_key: alias/m, tags: {{team: 007}}}}\n  unused.example: {{username: {{env: UNSET}}, password: {{env: UNSET}}}}\n\
         limits: {{transfers: 8, idle_timeout: 90s, max_wait: 15m, bandwidth: 200MB/s, quota_reserve: 3, manifest_size: 8MiB}}\nversion: 1\n"
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
    let limits = Limits {
        transfers: 8,
        idle_timeout: Duration::from_secs(90),
        max_wait: Duration::from_secs(900),
        bandwidth: NonZeroU64::new(200_000_000),
        quota_reserve: 3,
        manifest_size: 8 << 20,
    };
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
fn wrong_registries_are_refused() {
    assert_problems(vec![
        (
            with("registries: {docker.io: {username: u, password: hunter2}}"),
            "3:49 registries.docker.io.password: a password can't be a literal value",
        ),
        (
            with("registries: {docker.io: {token: hunter2}}"),
            "3:33 registries.docker.io.token: a token can't be a literal value",
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
            "3:31 registries.x.io.endpoint: a URL can't contain a user and a password",
        ),
        (
            with("registries: {x.io: {proxy: 'http://u:hunter2@p:3128'}}"),
            "3:28 registries.x.io.proxy: a URL can't contain a user and a password",
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
            "3:92 registries.123456789012.dkr.ecr.eu-west-1.amazonaws.com.ecr.create.tag_mutability: `NO` isn't supported: expected MUTABLE or IMMUTABLE",
        ),
    ]);
}

#[test]
fn wrong_limits_are_refused() {
    assert_problems(vec![
        (with("limits: {transfers: 0}"), "3:21 limits.transfers: expected 1 or more"),
        (
            with("limits: {idle_timeout: 60}"),
            "3:24 limits.idle_timeout: `60` isn't a duration: time unit needed, for example 60sec or 60ms",
        ),
        (with("limits: {manifest_size: big}"), "3:25 limits.manifest_size: `big` isn't a size"),
        (with("limits: {max_wait: 0s}"), "3:20 limits.max_wait: expected more than 0"),
        (with("limits: {bandwidth: 1MB}"), "3:21 limits.bandwidth: `1MB` isn't a size"),
        (with("limits: {bandwidth: 0/s}"), "3:21 limits.bandwidth: expected more than 0"),
    ]);
}

#[test]
fn files_of_hosts_in_use_must_not_be_empty() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("good"), "x\n").unwrap();
    std::fs::write(folder.path().join("blank"), " \n").unwrap();
    std::fs::create_dir(folder.path().join("folder")).unwrap();
    let read = |host: &str, settings: &str| {
        let text = with(&format!("registries: {{{host}: {{{settings}}}}}"));
        Config::read(&text, &folder.path().join("mirror.yaml"), &env).unwrap().lacking
    };
    for (settings, path) in [
        ("username: u, password: {file: FILE}", "password.file"),
        ("username: {file: FILE}, password: {file: good}", "username.file"),
        ("token: {file: FILE}", "token.file"),
        ("proxy: {file: FILE}", "proxy.file"),
        ("ca: FILE", "ca"),
        ("client_cert: FILE, client_key: good", "client_cert"),
        ("client_cert: good, client_key: FILE", "client_key"),
    ] {
        for (file, why) in [
            ("missing", "can't be read: No such file or directory"),
            ("good/missing", "can't be read: Not a directory"),
            ("folder", "can't be read: Is a directory"),
            ("blank", "is empty"),
        ] {
            let settings = settings.replace("FILE", file);
            let problems = read("h.example", &settings).unwrap();
            let [problem] = problems.iter().collect::<Vec<_>>()[..] else { panic!("{problems}") };
            assert_eq!(problem.path.to_string(), format!("registries.h.example.{path}"));
            assert_eq!(problem.message, format!("{} {why}", folder.path().join(file).display()));
            assert!(problem.hint.is_some());
            // Unused settings aren't checked.
            assert!(read("x.example", &settings).is_none(), "{settings}");
        }
        assert!(read("h.example", &settings.replace("FILE", "good")).is_none(), "{settings}");
    }
}

#[test]
fn a_run_without_requests_needs_no_secret() {
    let folder = tempfile::tempdir().unwrap();
    let text = with("registries: {h.example: {username: {env: UNSET}, password: {file: missing}}}");
    let origin = folder.path().join("mirror.yaml");
    assert!(Config::read(&text, &origin, &|_| None).is_err());
    let overrides = Overrides { asks_nobody: true, ..Overrides::default() };
    let looked_up = std::cell::RefCell::new(Vec::new());
    let env = |name: &str| {
        looked_up.borrow_mut().push(name.to_owned());
        None
    };
    let config = Config::read_for(&text, &origin, &overrides, &env).unwrap();
    assert!(config.lacking.is_none() && looked_up.borrow().is_empty());
}
