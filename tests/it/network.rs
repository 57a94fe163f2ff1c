//! Networks of organisations: client certificates, proxies, and no request to instance metadata unless it is needed.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::future::join_all;
use tokio::net::TcpListener;

use crate::support::certificates::{Authority, FAR_HOST};
use crate::support::cli::{Cli, Run};
use crate::support::images::{Image, image};
use crate::support::proxy::Proxy;
use crate::support::registry::Registry;
use crate::support::script::Fault;
use crate::support::tls::TlsFront;

async fn app_in(registry: &Registry) -> Image {
    let app = image("app").layer(50_000).build();
    app.push(&registry.inside("app"), "1").await;
    app
}

fn list(from: &str, to: &Registry, settings: &str) -> String {
    format!(
        "target: {}/m\nlayout: \"{{name}}\"\nimages: [\"{from}/app:1\"]\nregistries:\n  \"{from}\": {settings}\n",
        to.name()
    )
}

#[tokio::test]
async fn a_client_certificate_is_sent_to_a_registry_that_requests_one() {
    let (source, target, authority) = (Registry::start().await, Registry::start().await, Authority::new());
    let app = app_in(&source).await;
    let front = TlsFront::start(source.address(), &authority, true).await;
    let (right, wrong) = (authority.client(), Authority::new().client());
    let cli = Cli::new().file("ca.pem", authority.pem());
    for (name, pair) in [("right", &right), ("wrong", &wrong)] {
        cli.write(&format!("{name}.pem"), &pair.certificate);
        cli.write(&format!("{name}.key"), &pair.key);
    }
    let from = front.address.to_string();
    let with = |name: &str| format!("{{ca: ca.pem, client_cert: {name}.pem, client_key: {name}.key}}");
    for (settings, words) in [("{ca: ca.pem}".to_owned(), "client_cert"), (with("wrong"), "client_cert")] {
        cli.write("mirror.yaml", list(&from, &target, &settings));
        let run = cli.run("sync").await;
        assert!(run.code == 1 && run.stdout.contains(words), "{settings}: {run}");
    }
    cli.write("mirror.yaml", list(&from, &target, &with("right")));
    let run = cli.run("sync").await;
    assert_eq!(run.code, 0, "{run}");
    app.assert_in(&target.inside("m/app"), "1").await;
}

#[tokio::test]
async fn a_configured_proxy_is_used_with_its_password() {
    let (source, target, authority) = (Registry::start().await, Registry::start().await, Authority::new());
    let app = app_in(&source).await;
    let front = TlsFront::start(source.address(), &authority, false).await;
    let (plain, secure) = (format!("{FAR_HOST}:80"), format!("{FAR_HOST}:443"));
    let hosts = [(FAR_HOST, source.address()), (plain.as_str(), source.address()), (secure.as_str(), front.address)];
    let proxy = Proxy::start("me", "p@ss", &hosts).await;
    let cli = Cli::new()
        .file("ca.pem", authority.pem())
        .env("PROXY_URL", proxy.url("me:p%40ss@"))
        // Nothing listens there: the setting takes precedence.
        .env("HTTP_PROXY", "http://127.0.0.1:1")
        .env("HTTPS_PROXY", "http://127.0.0.1:1");
    for scheme in ["plain_http: true", "ca: ca.pem"] {
        cli.write("mirror.yaml", list(FAR_HOST, &target, &format!("{{{scheme}, proxy: {{env: PROXY_URL}}}}")));
        let run = cli.run("sync --no-lock -v").await;
        assert_eq!(run.code, 0, "{run}");
        app.assert_in(&target.inside("m/app"), "1").await;
        let seen = proxy.seen();
        assert!(!seen.is_empty() && seen.iter().all(|host| host.starts_with(FAR_HOST)), "{seen:?}");
        // Without the password.
        cli.write("mirror.yaml", list(FAR_HOST, &target, &format!("{{{scheme}, proxy: '{}'}}", proxy.url(""))));
        let run = cli.run("sync --no-lock").await;
        assert!(run.code == 1 && run.stdout.contains("hint: set proxy:"), "{run}");
        assert_eq!(proxy.seen().len(), 1, "tried once: {run}");
    }
}

#[tokio::test]
async fn the_certificate_of_a_tls_proxy_is_checked() {
    let (source, target, authority) = (Registry::start().await, Registry::start().await, Authority::new());
    let app = app_in(&source).await;
    let front = TlsFront::start(source.address(), &authority, false).await;
    let (plain, secure) = (format!("{FAR_HOST}:80"), format!("{FAR_HOST}:443"));
    let hosts = [(FAR_HOST, source.address()), (plain.as_str(), source.address()), (secure.as_str(), front.address)];
    let proxy = Proxy::start("me", "pass", &hosts).await;
    let secured = TlsFront::start(proxy.address(), &authority, false).await;
    let url = format!("https://me:pass@{}", secured.address);
    let cli = Cli::new().file("ca.pem", authority.pem()).env("PROXY_URL", url);
    for (settings, is_trusted) in [
        ("plain_http: true, ca: ca.pem", true),
        ("ca: ca.pem", true),
        // The client certificate is for the registry, and not for the proxy.
        ("insecure: true", false),
        ("plain_http: true", false),
    ] {
        cli.write("mirror.yaml", list(FAR_HOST, &target, &format!("{{{settings}, proxy: {{env: PROXY_URL}}}}")));
        let run = cli.run("sync --no-lock").await;
        assert_eq!(run.code, if is_trusted { 0 } else { 1 }, "{settings}: {run}");
        assert_eq!(proxy.seen().is_empty(), !is_trusted, "{settings}: {run}");
        if is_trusted {
            app.assert_in(&target.inside("m/app"), "1").await;
        } else {
            assert!(
                run.stdout.contains("certificate") && run.stdout.contains("through the proxy"),
                "{settings}: {run}"
            );
        }
    }
}

#[tokio::test]
async fn proxies_from_the_environment_are_used_but_not_for_loopback() {
    let (source, target) = (Registry::start().await, Registry::start().await);
    app_in(&source).await;
    // A name of this machine that isn't recognised as loopback, and needs no resolver.
    let from = format!("0.0.0.0:{}", source.address().port());
    let proxy = Proxy::start("me", "pass", &[(&from, source.address())]).await;
    let run = async |no_proxy: &str| -> Run {
        let cli = Cli::new()
            .file("mirror.yaml", list(&from, &target, "{plain_http: true}"))
            .env("HTTP_PROXY", proxy.url("me:pass@"))
            .env("NO_PROXY", no_proxy);
        cli.run("sync").await
    };
    let proxied = run("other.example.com").await;
    assert_eq!(proxied.code, 0, "{proxied}");
    let seen = proxy.seen();
    assert!(!seen.is_empty() && seen.iter().all(|host| *host == from), "{seen:?}");
    let direct = run("0.0.0.0").await;
    assert_eq!((direct.code, proxy.seen()), (0, Vec::new()), "{direct}");
}

/// Stands in for the instance metadata: counts connections, and answers none.
async fn metadata() -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("it is bound"));
    let connections = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&connections);
    tokio::spawn(async move {
        while listener.accept().await.is_ok() {
            count.fetch_add(1, Ordering::SeqCst);
        }
    });
    (url, connections)
}

#[tokio::test]
async fn instance_metadata_is_requested_only_for_ecr_without_credentials() {
    let source = Registry::start().await;
    app_in(&source).await;
    let ecr = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";
    let image = format!("images: [\"{}/app:1\"]\n", source.name());
    for (to_ecr, keys, expected) in [(false, false, false), (true, true, false), (true, false, true)] {
        let target = Registry::start().await;
        let registries = format!("registries: {{{ecr}: {{endpoint: \"http://{}\"}}}}\n", target.name());
        let list = match to_ecr {
            true => format!("target: {ecr}/m\n{image}{registries}"),
            false => format!("target: {}/m\n{image}", target.name()),
        };
        let (url, connections) = metadata().await;
        let mut cli = Cli::new()
            .file("mirror.yaml", &list)
            .env("AWS_EC2_METADATA_DISABLED", "false")
            .env("AWS_EC2_METADATA_SERVICE_ENDPOINT", url)
            .env("AWS_MAX_ATTEMPTS", "1")
            // No cloud: the API never answers.
            .env("AWS_ENDPOINT_URL", "http://127.0.0.1:1");
        if keys {
            cli = cli.env("AWS_ACCESS_KEY_ID", "id").env("AWS_SECRET_ACCESS_KEY", "key");
        }
        let run = cli.run("sync").await;
        assert_eq!(connections.load(Ordering::SeqCst) > 0, expected, "{list} {keys}: {run}");
    }
}

/// The message and the hint of the only image's error.
fn told(run: &Run) -> String {
    let error = &run.json()["images"][0]["error"];
    format!("{} | {}", error["message"].as_str().unwrap_or_default(), error["hint"].as_str().unwrap_or_default())
}

/// A port of this machine on which nothing listens.
async fn closed() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    listener.local_addr().expect("it is bound").to_string()
}

/// A source that redirects blob downloads to `place`.
async fn sending_to(place: &str) -> Registry {
    let source = Registry::start().await;
    for blob in app_in(&source).await.blobs() {
        let path = format!("/v2/app/blobs/{}", blob.digest());
        let signed = format!("http://{place}{path}?X-Amz-Signature=secret");
        source.script.always("GET", path, Fault::redirect(307, signed));
    }
    source
}

#[tokio::test]
async fn errors_name_the_failed_host_and_the_hosts_to_allow() {
    let (closed, target) = (closed().await, Registry::start().await);
    let blobs = [closed.as_str(), "cdn.invalid:80", "cdn.invalid:8080"].map(async |place| {
        let source = sending_to(place).await;
        let own = source.name();
        let cli = Cli::new().file("mirror.yaml", list(own.as_str(), &target, "{}"));
        let run = cli.run("sync --json").await;
        let told = told(&run);
        let hint = format!("allow connections from here to {place}: {own} keeps its blobs there");
        assert!(
            run.code == 1
                && told.contains(&format!("reach {}: ", place.trim_end_matches(":80")))
                && told.contains(&hint),
            "{told}"
        );
        assert!(!format!("{run}").contains("secret"), "{run}");
    });
    // An unreachable token service.
    let source = Registry::start().await;
    let own = source.name();
    let challenge = format!("Bearer realm=\"http://{closed}/token\",service=\"x\"");
    let refusal = Fault::Answer { status: 401, headers: vec![("www-authenticate", challenge)], body: String::new() };
    source.script.always("HEAD", "/v2/", refusal.clone());
    source.script.always("GET", "/v2/", refusal);
    let tokens = ["sync --json", "check --json"].map(async |line| {
        let cli = Cli::new().file("mirror.yaml", list(own.as_str(), &target, "{}"));
        let run = cli.run(line).await;
        let hint = format!("allow connections from here to {closed}: {own} has its tokens issued there");
        let all = [format!("{closed}: Connection refused"), hint];
        assert!(run.code == 1 && all.iter().all(|words| run.stdout.contains(words)), "{run}");
    });
    // An unreachable endpoint.
    let endpoint = async {
        let settings = format!("{{endpoint: \"http://{closed}\"}}");
        let cli = Cli::new().file("mirror.yaml", list("registry.example", &target, &settings));
        let told = told(&cli.run("sync --json").await);
        assert!(told.contains(&format!("reach {closed}: Connection refused")), "{told}");
        assert!(told.contains("check endpoint: of registries.registry.example"), "{told}");
    };
    tokio::join!(join_all(blobs), join_all(tokens), endpoint);
}

#[tokio::test]
async fn errors_name_the_failed_proxy_and_the_setting_it_comes_from() {
    let (closed, target) = (closed().await, Registry::start().await);
    // It knows no host, and so refuses to connect.
    let refusing = Proxy::start("me", "pass", &[]).await;
    let with_password = format!("http://me:hunter2@{closed}");
    let set = format!("{{proxy: \"http://{closed}\"}}");
    let cases = [
        ("HTTPS_PROXY", with_password.clone(), "{}", ":443"),
        ("https_proxy", with_password.clone(), "{}", ":443"),
        ("ALL_PROXY", with_password.clone(), "{}", ":443"),
        ("HTTP_PROXY", with_password.clone(), "{plain_http: true}", ":80"),
        ("all_proxy", with_password, "{plain_http: true}", ":80"),
        ("HTTPS_PROXY", refusing.url("me:pass@"), "{}", ":443"),
        ("HTTPS_PROXY", "http://127.0.0.1:1".to_owned(), &set, ":443"),
    ];
    let runs = cases.into_iter().map(async |(variable, url, settings, port)| {
        let proxy = url.rsplit(['@', '/']).next().expect("a host").to_owned();
        let (refuses, is_set) = (refusing.url("me:pass@") == url, settings.contains("proxy"));
        let cli = Cli::new().file("mirror.yaml", list(FAR_HOST, &target, settings)).env(variable, url);
        let run = cli.run("sync --json").await;
        let told = told(&run);
        let named_by = if is_set { format!("proxy: of registries.{FAR_HOST}") } else { variable.to_owned() };
        let proxy = if is_set { closed.as_str() } else { &proxy };
        let why = if refuses { "it refuses to connect there" } else { "" };
        let way = format!("reach {FAR_HOST}: {FAR_HOST}{port}, through the proxy {proxy} ({named_by}): {why}");
        assert!(run.code == 1 && told.contains(&way) && told.contains(&format!("check {named_by}")), "{way}: {told}");
        assert!(told.contains("NO_PROXY") != is_set && !format!("{run}").contains("hunter2"), "{run}");
    });
    join_all(runs).await;
}

#[tokio::test]
async fn an_invalid_proxy_ends_the_run_before_any_request() {
    let target = Registry::start().await;
    let run = async |variable: &str, value: &str, from: &str, settings: &str, line: &str| {
        let cli = Cli::new().file("mirror.yaml", list(from, &target, settings)).env(variable, value);
        let run = cli.run(line).await;
        (run, target.script.lines().len())
    };
    for value in [
        "http://",
        "%",
        "socks5://127.0.0.1:1",
        "ftp://p",
        "http://me:hunter2@",
        "http://hunter2:x:y",
        "http://p:99999",
    ] {
        for variable in ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"] {
            let (run, asked) = run(variable, value, FAR_HOST, "{}", "sync").await;
            assert_eq!((run.code, asked, run.stdout.as_str()), (2, 0, ""), "{variable}={value}: {run}");
            assert!(run.stderr.contains(&format!("variable {variable}")) && run.stderr.contains("hint: "), "{run}");
            assert!(!run.stderr.contains("hunter2"), "{run}");
        }
    }
    for line in ["plan", "lock", "update", "check"] {
        let (run, asked) = run("HTTP_PROXY", "%", FAR_HOST, "{plain_http: true}", line).await;
        assert_eq!((run.code, asked), (2, 0), "{line}: {run}");
    }
    // No host would use it.
    let source = Registry::start().await;
    app_in(&source).await;
    for variable in ["HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY"] {
        let (run, _) = run(variable, "%", source.name().as_str(), "{}", "sync --no-lock").await;
        assert_eq!(run.code, 0, "{variable}: {run}");
    }
}

#[tokio::test]
async fn an_explicit_proxy_is_used_for_a_loopback_endpoint_too() {
    let (source, target) = (Registry::start().await, Registry::start().await);
    let app = app_in(&source).await;
    let address = source.address().to_string();
    let proxy = Proxy::start("me", "pass", &[(&address, source.address())]).await;
    let set = format!("proxy: {{env: PROXY_URL}}, endpoint: \"http://{address}\"");
    for (from, settings) in
        [("registry.example", format!("{{{set}}}")), (address.as_str(), "{proxy: {env: PROXY_URL}}".to_owned())]
    {
        let cli =
            Cli::new().file("mirror.yaml", list(from, &target, &settings)).env("PROXY_URL", proxy.url("me:pass@"));
        let run = cli.run("sync --no-lock").await;
        assert_eq!(run.code, 0, "{run}");
        app.assert_in(&target.inside("m/app"), "1").await;
        let seen = proxy.seen();
        assert!(!seen.is_empty() && seen.iter().all(|host| *host == address), "{seen:?}");
    }
}
