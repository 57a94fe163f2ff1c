//! A front that counts pulls like Docker Hub: each answered GET of a manifest takes one off the quota, a HEAD and a
//! blob none; every answer has the remaining quota; and once it is exhausted, a GET is answered 429 with Hub's
//! message.

use std::sync::{Arc, Mutex, MutexGuard};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use transship::serve::Server;

/// It stops when it is dropped.
#[derive(Debug)]
pub(crate) struct Hub {
    server: Server,
    counter: Counter,
}

/// Its counters. A clone is another handle to the same counters.
#[derive(Debug, Clone)]
struct Counter(Arc<Mutex<Count>>);

#[derive(Debug)]
struct Count {
    limit: u32,
    left: u32,
    /// Paths of the requested manifests, in order, including refused ones.
    pulls: Vec<String>,
    /// All requests.
    seen: Vec<String>,
    refused: usize,
    /// Repositories that aren't metered, and get no headers.
    exempt: &'static str,
    backend: String,
}

const REFUSAL: &str = r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"You have reached your pull rate limit. You may increase the limit by authenticating and upgrading: https://www.docker.com/increase-rate-limit"}]}"#;

impl Hub {
    /// In front of the registry at `backend`, a `host:port`, with this many pulls left of `limit` in six hours.
    pub(crate) async fn before(backend: impl ToString, limit: u32, left: u32) -> Self {
        let count = Count {
            limit,
            left,
            pulls: Vec::new(),
            seen: Vec::new(),
            refused: 0,
            exempt: "exempt/",
            backend: backend.to_string(),
        };
        let counter = Counter(Arc::new(Mutex::new(count)));
        let router = Router::new().fallback(serve).with_state(counter.clone());
        let server = Server::start_router(router, 0).await.expect("a free port on 127.0.0.1");
        Self { server, counter }
    }

    /// The settings that make it `docker.io`.
    pub(crate) fn settings(&self) -> String {
        format!("  docker.io: {{endpoint: \"http://{}\"}}\n", self.server.address())
    }

    /// Where it is, `HOST:PORT`.
    pub(crate) fn address(&self) -> String {
        self.server.address().to_string()
    }

    /// Sets the remaining pulls, and clears the recorded requests.
    pub(crate) fn reset(&self, left: u32) {
        let mut count = self.counter.lock();
        count.left = left;
        (count.pulls, count.seen, count.refused) = (Vec::new(), Vec::new(), 0);
    }

    /// Paths of the requested manifests.
    pub(crate) fn pulls(&self) -> Vec<String> {
        self.counter.lock().pulls.clone()
    }

    /// All requests, as `METHOD PATH`.
    pub(crate) fn seen(&self) -> Vec<String> {
        self.counter.lock().seen.clone()
    }

    /// How many blobs were read.
    pub(crate) fn blobs(&self) -> usize {
        self.counter.lock().seen.iter().filter(|line| line.starts_with("GET") && line.contains("/blobs/")).count()
    }

    /// How many pulls were refused.
    pub(crate) fn refused(&self) -> usize {
        self.counter.lock().refused
    }
}

impl Counter {
    fn lock(&self) -> MutexGuard<'_, Count> {
        self.0.lock().expect("no thread panics while counting")
    }

    /// Counts a request; returns the quota for the answer, and whether the request is refused.
    fn count(&self, method: &Method, path: &str) -> (Option<[(&'static str, String); 3]>, bool) {
        let mut count = self.lock();
        count.seen.push(format!("{method} {path}"));
        if path.contains(count.exempt) {
            return (None, false);
        }
        let is_pull = method == Method::GET && path.contains("/manifests/");
        let is_refused = is_pull && count.left == 0;
        if is_pull {
            count.pulls.push(path.to_owned());
            count.refused += usize::from(is_refused);
            count.left = count.left.saturating_sub(1);
        }
        let told = |number: u32| format!("{number};w=21600");
        let headers = [
            ("ratelimit-limit", told(count.limit)),
            ("ratelimit-remaining", told(count.left)),
            ("docker-ratelimit-source", "192.0.2.1".to_owned()),
        ];
        (path.contains("/manifests/").then_some(headers), is_refused)
    }
}

async fn serve(State(counter): State<Counter>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
    let (told, is_refused) = counter.count(&parts.method, &path);
    let backend = counter.lock().backend.clone();
    let mut response = match is_refused {
        true => (StatusCode::TOO_MANY_REQUESTS, [(header::CONTENT_TYPE, "application/json")], REFUSAL).into_response(),
        false => forward(&backend, parts.method, &path, parts.headers, body).await,
    };
    for (name, value) in told.into_iter().flatten() {
        response.headers_mut().insert(name, value.parse().expect("a header"));
    }
    response
}

async fn forward(backend: &str, method: Method, path: &str, mut headers: HeaderMap, body: Body) -> Response {
    headers.remove(header::HOST);
    let body = to_bytes(body, usize::MAX).await.expect("a whole body");
    let request = reqwest::Client::new().request(method, format!("http://{backend}{path}")).headers(headers);
    let answer = request.body(body).send().await.expect("the registry behind it answers");
    let mut response = Response::new(Body::empty());
    (*response.status_mut(), *response.headers_mut()) = (answer.status(), answer.headers().clone());
    *response.body_mut() = Body::from(answer.bytes().await.expect("a whole answer"));
    response
}
