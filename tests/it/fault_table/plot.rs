//! The fault of a cell of the table: a layer before each host that records requests, and makes requests of one kind
//! fail in one way at one time.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{ConnectInfo, Request, State};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderValue, Method, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures::StreamExt as _;
use tokio::time::Instant;
use transship::oci::Digest;

use super::network::{Closed, Cord, Network};
use crate::support::script;
use crate::support::tokens::Tokens;

/// The duration of a temporary fault: a small part of `limits.max_wait`, as eight seconds are of five minutes.
const WHILE: Duration = Duration::from_millis(1200);
/// How long a host that is closed once stays closed.
const ONCE: Duration = Duration::from_millis(100);
/// The delay of a late answer that is still in time.
const LATE: Duration = Duration::from_millis(300);

/// The host of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Host {
    Source,
    Blobs,
    Tokens,
    /// The target that has the faults.
    First,
    /// The target that has none.
    Second,
}

/// The purpose of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    ListTags,
    Resolve,
    Referrers,
    Manifest,
    /// A blob at the source, which redirects to its bytes.
    Redirect,
    Blob,
    Token,
    /// The manifest at the target under a name.
    Held,
    HasBlob,
    OpenUpload,
    Mount,
    Upload,
    PushChild,
    PushTag,
}

impl Kind {
    pub(super) const ALL: [Self; 14] = [
        Self::ListTags,
        Self::Resolve,
        Self::Referrers,
        Self::Manifest,
        Self::Redirect,
        Self::Blob,
        Self::Token,
        Self::Held,
        Self::HasBlob,
        Self::OpenUpload,
        Self::Mount,
        Self::Upload,
        Self::PushChild,
        Self::PushTag,
    ];

    /// The hosts at which it occurs.
    pub(super) fn host(self) -> Host {
        match self {
            Self::ListTags | Self::Resolve | Self::Referrers | Self::Manifest | Self::Redirect => Host::Source,
            Self::Blob => Host::Blobs,
            Self::Token => Host::Tokens,
            Self::Held | Self::HasBlob | Self::OpenUpload | Self::Mount | Self::Upload => Host::First,
            Self::PushChild | Self::PushTag => Host::First,
        }
    }

    fn of(host: Host, method: &Method, path: &str) -> Option<Self> {
        let has = |part: &str| path.contains(part);
        let kind = match (host, method.as_str()) {
            (Host::Source, "HEAD") if has("/manifests/") => Self::Resolve,
            (Host::Source, "GET") if has("/manifests/") => Self::Manifest,
            (Host::Source, "GET") if has("/tags/list") => Self::ListTags,
            (Host::Source, "GET") if has("/referrers/") => Self::Referrers,
            (Host::Source, "GET") if has("/blobs/") => Self::Redirect,
            (Host::Blobs, "GET") => Self::Blob,
            (Host::Tokens, "GET") => Self::Token,
            (Host::First, "HEAD") if has("/manifests/") => Self::Held,
            (Host::First, "HEAD") if has("/blobs/") => Self::HasBlob,
            (Host::First, "POST") if has("mount=") => Self::Mount,
            (Host::First, "POST") => Self::OpenUpload,
            (Host::First, "PUT") if has("/blobs/") => Self::Upload,
            (Host::First, "PUT") if has("/manifests/sha256:") => Self::PushChild,
            (Host::First, "PUT") => Self::PushTag,
            _ => return None,
        };
        Some(kind)
    }
}

/// The fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Fault {
    /// All connections break, and the host refuses new ones.
    NoConnection,
    /// The connection breaks before a byte of the answer.
    Reset,
    /// The connection breaks in the middle of the body, of the answer or of the request.
    Cut,
    /// The host never answers.
    Stall,
    /// The answer is late.
    Late,
    Status(u16),
    /// The same, with a pause in seconds to make.
    Busy(u16, u32),
    Html,
    WrongDigest,
    WrongLength,
    /// The work is done, and the connection breaks instead of an answer.
    Lost,
    /// Its token has expired.
    Expired,
}

/// When the fault occurs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum When {
    First,
    Middle,
    /// Once for each object.
    Each,
    /// For this long, from the middle on.
    While,
    /// Always, in one repository.
    One,
    ForEver,
}

/// One request.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) method: Method,
    /// Path and query.
    pub(super) path: String,
    pub(super) kind: Option<Kind>,
    /// Whether it got the fault.
    pub(super) hit: bool,
    pub(super) status: Option<u16>,
}

/// The plan of a cell. A clone is another handle to it.
#[derive(Debug, Clone)]
pub(super) struct Plot(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    act: Option<(Fault, Kind, When)>,
    /// The number of such requests before the middle of the run.
    middle: usize,
    met: usize,
    began: Option<Instant>,
    /// Objects that have got the fault.
    each: HashSet<String>,
    /// The repository that gets the fault.
    one: Option<String>,
    seen: Vec<Seen>,
}

impl Plot {
    /// Without `act`, no request fails.
    pub(super) fn new(act: Option<(Fault, Kind, When)>, middle: usize) -> Self {
        let (each, seen) = (HashSet::new(), Vec::new());
        Self(Arc::new(Mutex::new(Inner { act, middle, met: 0, began: None, each, one: None, seen })))
    }

    pub(super) fn seen(&self) -> Vec<Seen> {
        self.lock().seen.clone()
    }

    /// Ends the faults.
    pub(super) fn heal(&self) {
        self.lock().act = None;
    }

    /// Puts the layer around `router`, which is reached by `network`.
    pub(super) fn around(&self, host: Host, network: &Network, tokens: &Tokens, router: Router) -> Router {
        let stage = Stage { host, plot: self.clone(), network: network.clone(), tokens: tokens.clone() };
        router.layer(middleware::from_fn_with_state(stage, pass))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().expect("no request panics while it is written down")
    }
}

impl Inner {
    /// Whether a request of the kind gets the fault.
    fn hits(&mut self, when: When, path: &str) -> bool {
        self.met += 1;
        let is_middle = self.met > self.middle;
        match when {
            When::First => self.met == 1,
            When::Middle => self.met == self.middle + 1,
            When::Each => self.each.insert(object(path)),
            When::While => is_middle && self.began.get_or_insert_with(Instant::now).elapsed() < WHILE,
            When::One => {
                let repository = repository(path);
                *self.one.get_or_insert_with(|| repository.clone()) == repository
            }
            When::ForEver => true,
        }
    }
}

/// The object of a request, equal for its retries: upload sessions are left out.
fn object(path: &str) -> String {
    match path.split_once("/blobs/uploads/") {
        Some((repository, session)) => {
            let digest = session.split_once("digest=").map(|(_, digest)| digest).unwrap_or_default();
            format!("{repository} {digest}")
        }
        None => path.to_owned(),
    }
}

/// The repository that a path names, or the first that a token is for.
pub(super) fn repository(path: &str) -> String {
    if let Some((_, scope)) = path.split_once("scope=repository%3A").or_else(|| path.split_once("scope=repository:")) {
        let scope = scope.replace("%2F", "/").replace("%3A", ":");
        return scope.split(':').next().unwrap_or_default().to_owned();
    }
    let path = path.split('?').next().unwrap_or_default();
    let path = path.strip_prefix("/v2/").unwrap_or(path);
    let ends = ["/manifests/", "/blobs/", "/tags/", "/referrers/"];
    let end = ends.iter().filter_map(|end| path.rfind(end)).max();
    path[..end.unwrap_or_default()].to_owned()
}

#[derive(Debug, Clone)]
struct Stage {
    host: Host,
    plot: Plot,
    network: Network,
    tokens: Tokens,
}

async fn pass(
    State(stage): State<Stage>,
    ConnectInfo(cord): ConnectInfo<Cord>,
    request: Request,
    next: Next,
) -> Response {
    let path = request.uri().path_and_query().map_or_else(String::new, ToString::to_string);
    let (place, fault) = {
        let mut plot = stage.plot.lock();
        let kind = Kind::of(stage.host, request.method(), &path);
        let act = plot.act.filter(|(_, of, when)| kind == Some(*of) && plot.hits(*when, &path));
        let method = request.method().clone();
        plot.seen.push(Seen { method, path, kind, hit: act.is_some(), status: None });
        (plot.seen.len() - 1, act)
    };
    let response = match fault {
        None => next.run(request).await,
        Some((fault, _, when)) => stage.befall(fault, when, cord, request, next).await,
    };
    if let Some(seen) = stage.plot.lock().seen.get_mut(place) {
        seen.status = Some(response.status().as_u16());
    }
    response
}

impl Stage {
    async fn befall(&self, fault: Fault, when: When, cord: Cord, request: Request, next: Next) -> Response {
        match fault {
            Fault::NoConnection => {
                self.network.close(match when {
                    When::ForEver => Closed::ForGood,
                    When::While => Closed::Until(Instant::now() + WHILE),
                    _ => Closed::Until(Instant::now() + ONCE),
                });
                std::future::pending().await
            }
            Fault::Reset => cord.cut().await,
            Fault::Cut => cut(cord, request, next).await,
            Fault::Stall => std::future::pending().await,
            Fault::Late => {
                tokio::time::sleep(LATE).await;
                next.run(request).await
            }
            Fault::Status(status) => answer(status, request).await,
            Fault::Busy(status, pause) => {
                let mut response = answer(status, request).await;
                response.headers_mut().insert("retry-after", HeaderValue::from(pause));
                response
            }
            Fault::Html => {
                let mut response = answer(200, request).await;
                response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/html"));
                *response.body_mut() = Body::from("<html>Please log in</html>");
                response
            }
            Fault::WrongDigest => wrong_digest(next.run(request).await).await,
            Fault::WrongLength => wrong_length(request, next).await,
            Fault::Lost => {
                next.run(request).await;
                cord.cut().await
            }
            Fault::Expired => {
                self.tokens.revoke_that_of(&request);
                next.run(request).await
            }
        }
    }
}

/// Reads the request to its end, so that the client isn't cut off while it sends.
async fn answer(status: u16, request: Request) -> Response {
    let _ = to_bytes(request.into_body(), usize::MAX).await;
    StatusCode::from_u16(status).expect("a status").into_response()
}

async fn cut(cord: Cord, request: Request, next: Next) -> Response {
    if request.method() == Method::PUT {
        let length = request.headers().get(CONTENT_LENGTH).and_then(|text| text.to_str().ok()?.parse::<usize>().ok());
        let mut body = request.into_body().into_data_stream();
        let mut left = length.unwrap_or_default() / 2;
        while let Some(Ok(chunk)) = body.next().await {
            left = left.saturating_sub(chunk.len());
            if left == 0 {
                break;
            }
        }
        return cord.cut().await;
    }
    let response = next.run(request).await;
    let length = response.headers().get(CONTENT_LENGTH).and_then(|text| text.to_str().ok()?.parse::<usize>().ok());
    response.map(|body| script::cut(body, length.unwrap_or(2) / 2))
}

/// Answers with another digest or with other bytes.
async fn wrong_digest(response: Response) -> Response {
    let (mut head, body) = response.into_parts();
    let mut bytes = to_bytes(body, usize::MAX).await.expect("a body from memory").to_vec();
    match bytes.first_mut() {
        Some(first) => *first = !*first,
        None => {
            let other = HeaderValue::try_from(Digest::of(b"other").as_str()).expect("plain text");
            head.headers.insert("docker-content-digest", other);
        }
    }
    Response::from_parts(head, Body::from(bytes))
}

/// Removes the last byte of the body; an answer to a HEAD announces one byte too many.
async fn wrong_length(request: Request, next: Next) -> Response {
    let is_head = request.method() == Method::HEAD;
    let (mut head, body) = next.run(request).await.into_parts();
    if is_head {
        if let Some(length) = head.headers.get_mut(CONTENT_LENGTH) {
            let size: u64 = length.to_str().expect("a number").parse().expect("a number");
            *length = HeaderValue::from(size + 1);
        }
        return Response::from_parts(head, body);
    }
    let bytes = to_bytes(body, usize::MAX).await.expect("a body from memory");
    let short: Bytes = bytes.slice(..bytes.len().saturating_sub(1));
    head.headers.insert(CONTENT_LENGTH, HeaderValue::from(short.len()));
    Response::from_parts(head, Body::from(short))
}
