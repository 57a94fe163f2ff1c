//! HTTP/2 if offered: short requests share a connection, and a broken HTTP/2 fails nothing.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::support::certificates::Authority;
use crate::support::cli::Cli;
use crate::support::images::image;
use crate::support::nginx::{Nginx, Settings};
use crate::support::registry::Registry;
use crate::support::tls::TlsFront;

/// Counts the connections that it forwards.
struct Relay {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Relay {
    async fn to(behind: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&connections);
        let task = tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(async move {
                    if let Ok(mut server) = TcpStream::connect(behind).await {
                        // Either side may end it in any way.
                        let _ = copy_bidirectional(&mut client, &mut server).await;
                    }
                });
            }
        });
        Self { address, connections, task }
    }

    /// The number of connections since the last call.
    fn count(&self) -> usize {
        self.connections.swap(0, Ordering::Relaxed)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A registry behind an nginx that speaks HTTP/2.
struct Front {
    registry: Registry,
    nginx: Nginx,
    relay: Relay,
}

impl Front {
    /// `more` are further directives of nginx.
    async fn start(more: &str) -> Option<Self> {
        let registry = Registry::start().await;
        let location = "proxy_set_header Host $http_host; proxy_set_header X-Forwarded-Proto $scheme; \
                        proxy_pass http://REGISTRY;";
        let (location, more) = (location.to_owned(), more.to_owned());
        let settings = Settings { tls: true, http2: true, location, more, ..Settings::default() };
        let nginx = Nginx::start(registry.address(), &settings)?;
        let relay = Relay::to(nginx.address).await;
        Some(Self { registry, nginx, relay })
    }
}

const TAGS: usize = 40;

/// Mirrors [`TAGS`] images between two such registries, and runs again with nothing left to do. Returns for each run
/// the number of connections to the source and to the target.
async fn mirrored_twice(more: &str) -> Option<[(usize, usize); 2]> {
    let (source, target) = (Front::start(more).await?, Front::start(more).await?);
    let mut images = Vec::new();
    for number in 0..TAGS {
        let app = image(&format!("app {number}")).layer(1000).build();
        app.push(&source.registry.inside("app"), &format!("v{number}")).await;
        images.push(app);
    }
    let (from, to) = (source.relay.address, target.relay.address);
    let tags: Vec<String> = (0..TAGS).map(|number| format!("v{number}")).collect();
    let cli = Cli::new();
    cli.write(
        "mirror.yaml",
        format!(
            "target: {to}/m\nlayout: \"{{name}}\"\ndefaults: {{referrers: none}}\nlimits: {{idle_timeout: 10s}}\nregistries:\n  \"{from}\": {{ca: {}}}\n  \"{to}\": {{ca: {}}}\n\
             images:\n  - image: {from}/app\n    tags: [{}]\n",
            source.nginx.ca().display(),
            target.nginx.ca().display(),
            tags.join(", ")
        ),
    );
    let mut counts = [(0, 0); 2];
    for count in &mut counts {
        let run = cli.run("sync --update").await;
        assert_eq!(run.code, 0, "{run}\n{}\n{}", source.nginx.log(), target.nginx.log());
        *count = (source.relay.count(), target.relay.count());
    }
    for (app, tag) in images.iter().zip(&tags) {
        app.assert_in(&target.registry.inside("m/app"), tag).await;
    }
    Some(counts)
}

#[tokio::test]
async fn short_requests_share_one_connection() {
    let Some([_, warm]) = mirrored_twice("").await else { return };
    assert_eq!(warm, (1, 1), "a run that finds nothing to do");
}

/// nginx sends GOAWAY after 30 requests (by default after a thousand). Requests that it drops then time out after
/// `idle_timeout`, and are sent again.
#[tokio::test]
async fn requests_continue_on_new_connections_after_goaway() {
    mirrored_twice("keepalive_requests 30;").await;
}

#[tokio::test]
async fn a_servers_limit_of_concurrent_streams_is_respected() {
    let Some([_, warm]) = mirrored_twice("http2_max_concurrent_streams 1;").await else { return };
    assert_eq!(warm, (1, 1));
}

/// The server offers HTTP/2 but can't serve it.
#[tokio::test]
async fn a_broken_http2_falls_back_to_http1() {
    let (source, target) = (Registry::start().await, Registry::start().await);
    let app = image("app").layer(50_000).build();
    app.push(&source.inside("app"), "1").await;
    let authority = Authority::new();
    let (from, to) = (
        TlsFront::pretending_http2(source.address(), &authority.server()).await,
        TlsFront::pretending_http2(target.address(), &authority.server()).await,
    );
    let (from, to, cli) = (from.address, to.address, Cli::new());
    cli.write("ca.pem", authority.pem());
    cli.write(
        "mirror.yaml",
        format!(
            "target: {to}/m\nlayout: \"{{name}}\"\nimages: [\"{from}/app:1\"]\n\
             registries:\n  \"{from}\": {{ca: ca.pem}}\n  \"{to}\": {{ca: ca.pem}}\n"
        ),
    );
    let run = cli.run("sync --json").await;
    let json = run.json();
    assert_eq!((run.code, &json["images"][0]["status"]), (0, &"copied".into()), "{run}");
    app.assert_in(&target.inside("m/app"), "1").await;
}
