//! Serves any world of repositories as a registry over HTTP: for `demo` and the tests, later for `serve`.
//!
//! It follows distribution-spec 1.1 strictly, so that a client that works with it makes no lucky guesses: upload
//! locations are relative and change with each chunk, chunks out of order are refused, and a manifest must be
//! complete and match its name and media type (`strict`). Content sent by PATCH, or without a length, is held in
//! memory until its upload ends or expires (`expiry`); all other content is streamed.

mod blobs;
mod expiry;
mod listing;
mod manifests;
mod reply;
mod route;
mod strict;
mod uploads;

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{ALLOW, CONTENT_TYPE};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse as _, Response};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::error::{self, Kind};
use crate::oci::{Manifest, Registry, Repository};
use crate::store::Stores;
use crate::store::memory::Memory;
use reply::{Code, Refusal};
use route::Route;
use uploads::Uploads;

/// Repositories that can be served, with a list of the manifests of each, from which referrers are found.
#[async_trait]
pub trait World: Stores {
    /// All manifests of `repository`, in a stable order.
    ///
    /// # Errors
    /// `NotFound` if it doesn't exist.
    async fn manifests(&self, repository: &Repository) -> error::Result<Vec<Manifest>>;
}

#[async_trait]
impl World for Memory {
    async fn manifests(&self, repository: &Repository) -> error::Result<Vec<Manifest>> {
        self.repository(repository).manifests()
    }
}

/// The options of a server.
#[derive(Debug, Clone)]
pub struct Options {
    /// The registry whose repositories are served. The address isn't used for this because it isn't known before
    /// the start.
    pub registry: Registry,
    /// The port on 127.0.0.1; 0 selects a free one.
    pub port: u16,
    /// Whether the referrers API is available.
    pub referrers: bool,
    /// Whether any JSON object is accepted as a manifest, and served whatever `Accept` says, as by some registries.
    pub lenient: bool,
    /// The most tags, or referrers, in a page.
    pub page: usize,
}

impl Default for Options {
    /// `localhost`, on a free port, strict, with referrers and pages of 1000.
    fn default() -> Self {
        let registry = "localhost".parse().expect("a constant host");
        Self { registry, port: 0, referrers: true, lenient: false, page: 1000 }
    }
}

/// The registry as an HTTP service, for callers that add layers around it or listen themselves.
pub fn router(world: Arc<dyn World>, options: Options) -> Router {
    let state = Arc::new(Served { world, options, uploads: Uploads::default() });
    // Repository names have any number of segments, which no route pattern can express.
    Router::new().fallback(handle).with_state(state)
}

/// A registry that listens on 127.0.0.1 until it is stopped or dropped.
pub struct Server {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    task: Option<JoinHandle<()>>,
}

impl Server {
    /// Serves `world`.
    ///
    /// # Errors
    /// If the port isn't available.
    pub async fn start(world: Arc<dyn World>, options: Options) -> io::Result<Self> {
        let port = options.port;
        Self::start_router(router(world, options), port).await
    }

    /// Serves `router`, with any layers around it.
    ///
    /// # Errors
    /// As [`Server::start`].
    pub async fn start_router(router: Router, port: u16) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
        let address = listener.local_addr()?;
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = axum::serve(listener, router).with_graceful_shutdown(async {
            // An error means that the server was dropped, which stops it as well.
            let _ = stopped.await;
        });
        let task = tokio::spawn(async {
            // axum::serve never fails: it continues after a failed accept.
            let _ = serving.await;
        });
        Ok(Self { address, stop: Some(stop), task: Some(task) })
    }

    /// The address on which it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The registry in references, `127.0.0.1:PORT`.
    ///
    /// # Panics
    /// Never: an address is a valid registry.
    pub fn registry(&self) -> Registry {
        self.address.to_string().parse().expect("an address is host:port")
    }

    /// Accepts no more requests, and returns when those in flight are answered, within 5 seconds.
    pub async fn stop(mut self) {
        drop(self.stop.take());
        if let Some(mut task) = self.task.take()
            && tokio::time::timeout(Duration::from_secs(5), &mut task).await.is_err()
        {
            task.abort();
        }
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Server({})", self.address)
    }
}

/// The state of all handlers.
struct Served {
    world: Arc<dyn World>,
    options: Options,
    uploads: Uploads,
}

async fn handle(State(served): State<Arc<Served>>, request: Request) -> Response {
    let response = served.answer(request).await.unwrap_or_else(reply::Refusal::into_response);
    served.watch_uploads();
    response
}

impl Served {
    async fn answer(&self, request: Request) -> Result<Response, Refusal> {
        let route = Route::of(&self.options.registry, request.uri().path())?;
        let head = *request.method() == Method::HEAD;
        match (request.method().clone(), route) {
            (Method::GET | Method::HEAD, Route::Base) => {
                Ok(([(CONTENT_TYPE, "application/json")], "{}").into_response())
            }
            (Method::GET | Method::HEAD, Route::Manifest(repository, name)) => {
                self.get_manifest(&repository, &name, head, request.headers()).await
            }
            (Method::PUT, Route::Manifest(repository, name)) => self.put_manifest(&repository, &name, request).await,
            (Method::GET | Method::HEAD, Route::Blob(repository, digest)) => {
                self.get_blob(&repository, &digest, head, request.headers()).await
            }
            (Method::POST, Route::Uploads(repository)) => self.open_upload(&repository, request).await,
            (Method::GET, Route::Upload(repository, id)) => self.upload_status(&repository, &id).await,
            (Method::PATCH, Route::Upload(repository, id)) => self.append(&repository, &id, request).await,
            (Method::PUT, Route::Upload(repository, id)) => self.finish_upload(&repository, &id, request).await,
            (Method::DELETE, Route::Upload(repository, id)) => self.abandon_upload(&repository, &id).await,
            (Method::GET, Route::Tags(repository)) => self.list_tags(&repository, request.uri().query()).await,
            (Method::GET, Route::Referrers(repository, digest)) if self.options.referrers => {
                self.list_referrers(&repository, &digest, request.uri().query()).await
            }
            (_, Route::Referrers(..)) if !self.options.referrers => Ok(not_found()),
            (method, route) => {
                let refusal = Refusal::new(Code::Unsupported, format!("{method} isn't supported here"));
                Err(refusal.with_header(ALLOW, route.methods()))
            }
        }
    }

    /// The answer to a failed read: it may be the repository that doesn't exist.
    async fn refuse_read(&self, repository: &Repository, error: &error::Error, unknown: Code) -> Refusal {
        let exists = async {
            let source = self.world.source(repository)?;
            source.tags().await
        };
        match (error.kind(), exists.await) {
            (Kind::NotFound, Err(e)) if e.kind() == Kind::NotFound => Refusal::of(&e, Code::NameUnknown),
            _ => Refusal::of(error, unknown),
        }
    }
}

/// The 404 of an ordinary web server, without a registry's error envelope.
fn not_found() -> Response {
    (StatusCode::NOT_FOUND, Body::from("404 page not found\n")).into_response()
}

/// The values of a query's parameter `name`, decoded.
fn parameter(query: Option<&str>, name: &str) -> Option<String> {
    let pairs = url::form_urlencoded::parse(query.unwrap_or_default().as_bytes());
    pairs.into_iter().find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}
