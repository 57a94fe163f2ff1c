//! The registry room and this store as a whole, against a scripted registry on this machine.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request as Asked;
use axum::response::Response;
use bytes::Bytes;
use futures::StreamExt as _;

mod auth;
mod blobs;
mod chunks;
mod destinations;
mod listing;
mod permissions;
mod requests;

use super::*;
use crate::config::{EcrSettings, Limits, RegistrySettings, Secret};
use crate::oci::Registry;
use crate::registry::{BasicTokens, Environment, Quota};
use crate::retry::Backoff;

#[derive(Debug)]
struct NoChain;

#[async_trait]
impl BasicTokens for NoChain {
    async fn token(&self, _: &Registry, _: &EcrSettings) -> Result<(String, Duration)> {
        Err(Error::new(Kind::Configuration, "sign in to AWS", "there is no chain"))
    }
}

/// A blob's bytes as a body.
fn body(chunks: Vec<Result<Bytes>>) -> BlobStream {
    futures::stream::iter(chunks).boxed()
}

/// A recorded request, with its body.
struct Question {
    line: String,
    authorization: String,
    headers: axum::http::HeaderMap,
    body: Bytes,
}

/// A registry whose answers are a function of the request; it records all requests.
struct Script {
    address: SocketAddr,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Script {
    async fn start(answer: impl Fn(&Question) -> Response + Send + Sync + 'static) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let lines = Arc::new(Mutex::new(Vec::new()));
        let (kept, answer) = (Arc::clone(&lines), Arc::new(answer));
        let app = axum::Router::new().fallback(move |asked: Asked| {
            let (kept, answer) = (Arc::clone(&kept), Arc::clone(&answer));
            async move {
                let (head, body) = asked.into_parts();
                let body = axum::body::to_bytes(body, 1 << 24).await.unwrap_or_default();
                let authorization = head.headers.get("authorization").and_then(|v| v.to_str().ok()).unwrap_or_default();
                let line = format!("{} {}", head.method, head.uri);
                kept.lock().unwrap().push(line.clone());
                answer(&Question { line, authorization: authorization.to_owned(), headers: head.headers.clone(), body })
            }
        });
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { address, lines }
    }

    fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }

    fn count(&self, part: &str) -> usize {
        self.lines().iter().filter(|line| line.contains(part)).count()
    }

    fn repository(&self) -> Repository {
        format!("{}/a/b", self.address).parse().unwrap()
    }

    fn hosts(&self, settings: RegistrySettings) -> Arc<Hosts> {
        Self::hosts_of(self.repository().registry().clone(), settings)
    }

    fn hosts_of(registry: Registry, settings: RegistrySettings) -> Arc<Hosts> {
        Self::hosts_with(registry, settings, Duration::from_secs(1))
    }

    fn hosts_with(registry: Registry, settings: RegistrySettings, max_wait: Duration) -> Arc<Hosts> {
        let idle_timeout = Duration::from_secs(20);
        let limits = Limits { idle_timeout, manifest_size: 1000, max_wait, ..Limits::default() };
        let hosts = Hosts::with_environment(
            BTreeMap::from([(registry, settings)]),
            &limits,
            Arc::new(NoChain),
            Environment::new(|name| name.strip_prefix("SECRET_").map(ToOwned::to_owned)),
        );
        let pause = Duration::from_millis(1);
        Arc::new(hosts.with_backoff(Backoff { first: pause, longest: pause, ..Backoff::default() }))
    }

    fn store(&self) -> Arc<dyn Target> {
        self.store_with(RegistrySettings::default())
    }

    fn store_with(&self, settings: RegistrySettings) -> Arc<dyn Target> {
        RegistryStores::new(self.hosts(settings)).target(&self.repository()).unwrap()
    }

    /// A store under that registry name.
    fn store_called(&self, registry: &str) -> Arc<dyn Target> {
        let repository = Repository::new(registry.parse().unwrap(), "a/b").unwrap();
        let endpoint = Some(format!("http://{}", self.address).parse().unwrap());
        let settings = RegistrySettings { endpoint, ..RegistrySettings::default() };
        RegistryStores::new(Self::hosts_of(repository.registry().clone(), settings)).target(&repository).unwrap()
    }
}

fn reply(status: u16, headers: &[(&str, &str)], body: impl Into<Body>) -> Response {
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(*name, *value);
    }
    response.body(body.into()).unwrap()
}

/// A user whose password the environment of [`Script::hosts`] knows.
fn user(password: &str) -> RegistrySettings {
    RegistrySettings {
        username: Some(Secret::Plain("u".into())),
        password: Some(Secret::Env(format!("SECRET_{password}"))),
        ..RegistrySettings::default()
    }
}

const MANIFEST: &str = r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// `u:p` and `u:new`.
const RIGHT: &str = "Basic dTpw";
const ROTATED: &str = "Basic dTpuZXc=";

fn digest() -> Digest {
    Digest::of(MANIFEST.as_bytes())
}

/// A blob descriptor of `size` bytes.
fn blob_of(size: u64) -> Descriptor {
    Descriptor { media_type: INDEX.parse().unwrap(), digest: digest(), size }
}

fn tag(text: &str) -> Selector {
    Selector::Tag(text.parse().unwrap())
}

fn manifest_reply() -> Response {
    reply(200, &[("content-type", INDEX), ("docker-content-digest", digest().as_str())], MANIFEST)
}
