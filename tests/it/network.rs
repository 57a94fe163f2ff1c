//! Networks of organisations: client certificates, proxies, and no word to the machine's cloud unless it is needed.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::net::TcpListener;

use crate::support::certificates::{Authority, FAR_HOST};
use crate::support::cli::{Cli, Run};
use crate::support::images::{Image, image};
use crate::support::proxy::Proxy;
use crate::support::registry::Registry;
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
async fn a_client_certificate_opens_a_registry_that_asks_for_one() {
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
async fn a_proxy_of_the_settings_is_used_with_its_password() {
    let (source, target, authority) = (Registry::start().await, Registry::start().await, Authority::new());
    let app = app_in(&source).await;
    let front = TlsFront::start(source.address(), &authority, false).await;
    let (plain, secure) = (format!("{FAR_HOST}:80"), format!("{FAR_HOST}:443"));
    let hosts = [(FAR_HOST, source.address()), (plain.as_str(), source.address()), (secure.as_str(), front.address)];
    let proxy = Proxy::start("me", "p@ss", &hosts).await;
    let cli = Cli::new()
        .file("ca.pem", authority.pem())
        .env("PROXY_URL", proxy.url("me:p%40ss@"))
        // Nobody listens there: the settings win.
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
async fn the_proxies_of_the_environment_are_used_but_not_for_this_machine() {
    let (source, target) = (Registry::start().await, Registry::start().await);
    app_in(&source).await;
    // The one name of this machine that isn't known to be one, and needs no resolver.
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

/// Where the instance metadata would be: counts who comes, and answers nobody.
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
async fn the_instance_metadata_is_asked_only_for_ecr_without_credentials() {
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
            // No cloud: whatever the API is asked, nobody answers.
            .env("AWS_ENDPOINT_URL", "http://127.0.0.1:1");
        if keys {
            cli = cli.env("AWS_ACCESS_KEY_ID", "id").env("AWS_SECRET_ACCESS_KEY", "key");
        }
        let run = cli.run("sync").await;
        assert_eq!(connections.load(Ordering::SeqCst) > 0, expected, "{list} {keys}: {run}");
    }
}
