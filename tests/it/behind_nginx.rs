//! Debian's registry behind Debian's nginx, as organisations run it: `check` says ok, and `sync` works.

use transship::oci::Registry as Name;

use crate::support::cli::{Cli, Run};
use crate::support::docker_registry::{self, DockerRegistry};
use crate::support::images::{Image, image, multi_platform};
use crate::support::nginx::{Nginx, Settings};
use crate::support::registry::Registry;
use crate::support::stores::registry_target;

const HOST: &str = "proxy_set_header Host $http_host;";

/// A third-party registry, and the proxy in front of it.
struct Front {
    registry: DockerRegistry,
    nginx: Nginx,
    cli: Cli,
}

impl Front {
    fn start(settings: &Settings) -> Option<Self> {
        Self::before(docker_registry::Settings::default(), settings)
    }

    fn before(registry: docker_registry::Settings, settings: &Settings) -> Option<Self> {
        let registry = DockerRegistry::with(registry)?;
        let nginx = Nginx::start(registry.address(), settings)?;
        Some(Self { registry, nginx, cli: Cli::new().env("REGISTRY_PASSWORD", "p4ss") })
    }

    /// Runs `line` with a list of one image, from `from` to `to`; `settings` are those of the front.
    async fn run(&self, line: &str, from: &Name, to: &Name, settings: &str) -> Run {
        let list = format!(
            "target: {to}/m\nlayout: \"{{name}}\"\nimages: [\"{from}/app:1\"]\nregistries:\n  \"{}\": {settings}\n",
            self.nginx.name()
        );
        self.cli.write("mirror.yaml", list);
        let run = self.cli.run(line).await;
        assert_eq!(run.code, 0, "{line} from {from} to {to}: {run}\n{}", self.nginx.log());
        run
    }

    /// `app` through the front into the registry, and through it out again; checked before each.
    async fn carries(&self, app: &Image, settings: &str) {
        let (source, target) = (Registry::start().await, Registry::start().await);
        app.push(&source.inside("app"), "1").await;
        let (from, front, to) = (source.name(), self.nginx.name(), target.name());
        for line in ["check", "sync"] {
            self.run(line, &from, &front, settings).await;
        }
        app.assert_in(&*registry_target(&self.registry.repository("m/app")), "1").await;
        std::fs::remove_file(self.cli.path("mirror.lock")).expect("the lock of the first run");
        app.push(&*registry_target(&self.registry.repository("app")), "1").await;
        for line in ["check", "sync --no-cache"] {
            self.run(line, &front, &to, settings).await;
        }
        app.assert_in(&target.inside("m/app"), "1").await;
    }
}

fn app() -> Image {
    image("app").layer(3_000_000).layer(10_000).build()
}

#[tokio::test]
async fn a_proxy_that_forwards_all_headers() {
    let location = format!("{HOST} proxy_set_header X-Forwarded-Proto $scheme; proxy_pass http://REGISTRY;");
    let settings = Settings { tls: true, location, ..Settings::default() };
    let Some(front) = Front::start(&settings) else { return };
    front.carries(&app(), &format!("{{ca: {}}}", front.nginx.ca().display())).await;
}

/// The registry derives its URLs from the proxy's headers, which are wrong.
#[tokio::test]
async fn a_tls_proxy_with_a_wrong_location_header() {
    for (told, headers) in [
        ("http:// and the right port", HOST),
        ("http:// and no port", "proxy_set_header Host $host;"),
        ("https:// and no port", "proxy_set_header Host $host; proxy_set_header X-Forwarded-Proto https;"),
        ("the port of plain HTTP", "proxy_set_header Host $host:80;"),
    ] {
        let location = format!("{headers} proxy_pass http://REGISTRY;");
        let settings = Settings { tls: true, location, ..Settings::default() };
        let Some(front) = Front::start(&settings) else { return };
        println!("{told}");
        front.carries(&app(), &format!("{{ca: {}}}", front.nginx.ca().display())).await;
    }
}

/// nginx's default is one megabyte.
#[tokio::test]
async fn a_proxy_with_a_small_body_limit() {
    let location = format!("client_max_body_size 1m; {HOST} proxy_pass http://REGISTRY;");
    let Some(front) = Front::start(&Settings { location, ..Settings::default() }) else { return };
    front.carries(&app(), "{}").await;
}

/// As for any client that doesn't request an encoding.
#[tokio::test]
async fn a_proxy_that_compresses_on_request() {
    let more = "gzip on; gzip_min_length 1; gzip_proxied any; gzip_http_version 1.0; gzip_types *;".to_owned();
    let location = format!("{HOST} proxy_pass http://REGISTRY;");
    let Some(front) = Front::start(&Settings { location, more, ..Settings::default() }) else { return };
    front.carries(&multi_platform("app", &["linux/amd64", "linux/arm64"]), "{}").await;
}

/// A cache in front that requests gzip for every client.
#[tokio::test]
async fn a_proxy_that_always_compresses_json_works_or_is_named_in_the_error() {
    let inner = "gzip on; gzip_min_length 1; gzip_proxied any; gzip_http_version 1.0;
        gzip_types application/json application/vnd.oci.image.index.v1+json application/vnd.oci.image.manifest.v1+json;
        server { listen unix:FOLDER/inner; location / { proxy_set_header Host $http_host; proxy_pass http://REGISTRY; } }";
    let location = format!("{HOST} proxy_set_header Accept-Encoding gzip; proxy_pass http://unix:FOLDER/inner:;");
    let settings = Settings { location, more: inner.to_owned(), ..Settings::default() };
    let Some(front) = Front::start(&settings) else { return };
    let app = multi_platform("app", &["linux/amd64", "linux/arm64"]);
    app.push(&*registry_target(&front.registry.repository("app")), "1").await;
    let target = Registry::start().await;
    let list =
        format!("target: {}/m\nlayout: \"{{name}}\"\nimages: [\"{}/app:1\"]\n", target.name(), front.nginx.name());
    front.cli.write("mirror.yaml", list);
    let sync = front.cli.run("sync").await;
    if sync.code == 0 {
        app.assert_in(&target.inside("m/app"), "1").await;
    } else {
        assert!(sync.stdout.contains("gzip") && sync.stdout.contains("hint: "), "{sync}");
        assert!(!sync.stdout.contains("in transit"), "the bytes are whole: {sync}");
    }
}

#[tokio::test]
async fn a_password_for_all_requests_or_only_for_writes() {
    const LOGIN: &str = "{username: mirror, password: {env: REGISTRY_PASSWORD}}";
    let user = Some(("mirror", "p4ss"));
    let auth = "auth_basic tests; auth_basic_user_file FOLDER/htpasswd;";
    for (what, rule) in [("everything", auth.to_owned()), ("writing", format!("limit_except GET HEAD {{ {auth} }}"))] {
        let location = format!("{rule} {HOST} proxy_set_header Authorization \"\"; proxy_pass http://REGISTRY;");
        let Some(front) = Front::start(&Settings { location, user, ..Settings::default() }) else { return };
        println!("{what}");
        front.carries(&app(), LOGIN).await;
    }
    // By the registry itself.
    let registry = docker_registry::Settings { user, ..docker_registry::Settings::default() };
    let location = format!("{HOST} proxy_pass http://REGISTRY;");
    let Some(front) = Front::before(registry, &Settings { location, ..Settings::default() }) else { return };
    let source = Registry::start().await;
    app().push(&source.inside("app"), "1").await;
    for line in ["check", "sync", "verify --content"] {
        front.run(line, &source.name(), &front.nginx.name(), LOGIN).await;
    }
}
