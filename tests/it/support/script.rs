//! A layer around a registry: it records every request, and makes some fail by script.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures::{StreamExt as _, stream};

use super::gate::Gate;

/// One request, in the order of arrival.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) method: String,
    /// Path and query, as sent.
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    /// `None` until it is answered, and permanently if the client gave up.
    pub(crate) status: Option<u16>,
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} ", self.method, without_session(&self.path))?;
        match self.status {
            Some(status) => status.fmt(f),
            None => f.write_str("-"),
        }
    }
}

/// Upload sessions are numbered by arrival, which expectations mustn't depend on.
fn without_session(path: &str) -> String {
    let Some((before, session)) = path.split_once("/blobs/uploads/") else { return path.to_owned() };
    let digest = session.split_once("digest=").map(|(_, digest)| format!("?digest={}", digest.replace("%3A", ":")));
    match session.split(['?', '&']).next() {
        Some("") | None => path.to_owned(),
        Some(_) => format!("{before}/blobs/uploads/ID{}", digest.unwrap_or_default()),
    }
}

/// A side effect of the test.
#[derive(Clone)]
pub(crate) struct Event(Arc<dyn Fn() + Send + Sync>);

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Event")
    }
}

/// A fault.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    /// This is the answer, instead of the registry's.
    Answer { status: u16, headers: Vec<(&'static str, String)>, body: String },
    /// Requests whose body contains this are refused.
    RefuseBody { says: String, status: u16, code: &'static str },
    /// This is called before the request reaches the registry.
    Run(Event),
    /// The request reaches the registry when the gate opens.
    Wait(Gate),
    /// The registry handles the request, but this is the answer.
    Lose { status: u16 },
    /// The connection breaks after this many bytes of the answer's body.
    Cut { after: usize },
    /// After this many bytes of the answer's body the rest waits for the gate.
    Hold { after: usize, gate: Gate },
    /// The connection breaks after this many bytes of the request's body, and the registry gets nothing.
    CutUpload { after: usize },
    /// The answer lacks this header.
    Strip(&'static str),
    /// The answer has this header, with this value.
    Set(&'static str, String),
    /// The answer has the headers of a pull quota of 100, with this much remaining.
    Quota { remaining: u32 },
    /// The first byte of the answer's body is changed.
    Corrupt,
    /// The query is removed: a mount becomes an upload, a page of tags the whole list.
    DropQuery,
    /// This header of the request is removed.
    Ignore(&'static str),
}

impl Fault {
    /// An error envelope with one code.
    pub(crate) fn refuse(status: u16, code: &str) -> Self {
        let body = serde_json::json!({ "errors": [{ "code": code, "message": "as the script has it" }] });
        Self::Answer { status, headers: vec![("content-type", "application/json".into())], body: body.to_string() }
    }

    /// Calls `event` just before the request reaches the registry.
    pub(crate) fn meanwhile(event: impl Fn() + Send + Sync + 'static) -> Self {
        Self::Run(Event(Arc::new(event)))
    }

    /// 429, with `Retry-After`.
    pub(crate) fn throttle(retry_after: u32) -> Self {
        let headers = vec![("retry-after", retry_after.to_string())];
        Self::Answer { status: 429, headers, body: "You have reached your pull rate limit.".into() }
    }

    /// A web page, like that of a proxy or a login.
    pub(crate) fn html(status: u16) -> Self {
        let headers = vec![("content-type", "text/html; charset=utf-8".into())];
        Self::Answer { status, headers, body: "<html><body>Please log in</body></html>".into() }
    }

    /// A redirect.
    pub(crate) fn redirect(status: u16, location: impl Into<String>) -> Self {
        Self::Answer { status, headers: vec![("location", location.into())], body: String::new() }
    }
}

#[derive(Debug, Clone)]
struct Rule {
    method: &'static str,
    path: String,
    skip: usize,
    times: usize,
    fault: Fault,
}

/// The log and the rules. A clone is another handle to them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Script(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    seen: Vec<Seen>,
    rules: Vec<Rule>,
}

impl Script {
    /// The next request with this method whose path and query contain `path` gets `fault`.
    pub(crate) fn once(&self, method: &'static str, path: impl Into<String>, fault: Fault) {
        self.times(1, method, path, fault);
    }

    /// The next `times` such requests do.
    pub(crate) fn times(&self, times: usize, method: &'static str, path: impl Into<String>, fault: Fault) {
        self.lock().rules.push(Rule { method, path: path.into(), skip: 0, times, fault });
    }

    /// All such requests do.
    pub(crate) fn always(&self, method: &'static str, path: impl Into<String>, fault: Fault) {
        self.times(usize::MAX, method, path, fault);
    }

    /// The one after the next `skip` such requests does.
    pub(crate) fn after(&self, skip: usize, method: &'static str, path: impl Into<String>, fault: Fault) {
        self.lock().rules.push(Rule { method, path: path.into(), skip, times: 1, fault });
    }

    /// Removes all rules.
    pub(crate) fn heal(&self) {
        self.lock().rules.clear();
    }

    /// The requests so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.lock().seen.clone()
    }

    /// The requests so far, each as `METHOD PATH STATUS`.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.seen().iter().map(Seen::to_string).collect()
    }

    /// The number of requests with this method whose path and query contain `path`.
    pub(crate) fn count(&self, method: &str, path: &str) -> usize {
        self.seen().iter().filter(|seen| seen.method == method && seen.path.contains(path)).count()
    }

    /// The number of manifests and blobs that were read.
    pub(crate) fn reads(&self) -> usize {
        self.count("GET", "/manifests/") + self.count("GET", "/blobs/")
    }

    /// Clears the recorded requests; the rules stay.
    pub(crate) fn clear(&self) {
        self.lock().seen.clear();
    }

    /// Wraps `router` in the script.
    pub(crate) fn around(&self, router: Router) -> Router {
        router.layer(middleware::from_fn_with_state(self.clone(), pass))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().expect("no request panics while it is written down")
    }

    /// Records `request`; returns its place in the log, and its fault.
    fn arrive(&self, request: &Request) -> (usize, Option<Fault>) {
        let path = request.uri().path_and_query().map_or_else(String::new, ToString::to_string);
        let method = request.method().to_string();
        let mut inner = self.lock();
        let mut fault = None;
        for rule in inner.rules.iter_mut().filter(|rule| rule.times > 0) {
            if rule.method != method || !path.contains(&rule.path) {
                continue;
            }
            if rule.skip > 0 {
                rule.skip -= 1;
                continue;
            }
            rule.times -= 1;
            fault = Some(rule.fault.clone());
            break;
        }
        inner.seen.push(Seen { method, path, headers: request.headers().clone(), status: None });
        (inner.seen.len() - 1, fault)
    }
}

async fn pass(State(script): State<Script>, request: Request, next: Next) -> Response {
    let (place, fault) = script.arrive(&request);
    let response = match fault {
        None => next.run(request).await,
        Some(fault) => befall(fault, request, next).await,
    };
    if let Some(seen) = script.lock().seen.get_mut(place) {
        seen.status = Some(response.status().as_u16());
    }
    response
}

async fn befall(fault: Fault, mut request: Request, next: Next) -> Response {
    match fault {
        Fault::Answer { status, headers, body } => {
            // Read to the end, so that the client isn't cut off while it sends.
            let _ = to_bytes(request.into_body(), usize::MAX).await;
            answer(status, &headers, body)
        }
        Fault::RefuseBody { says, status, code } => {
            let (head, body) = request.into_parts();
            let bytes = to_bytes(body, usize::MAX).await.expect("a whole body");
            if String::from_utf8_lossy(&bytes).contains(&says) {
                let Fault::Answer { status, headers, body } = Fault::refuse(status, code) else { unreachable!() };
                return answer(status, &headers, body);
            }
            next.run(Request::from_parts(head, Body::from(bytes))).await
        }
        Fault::Run(Event(event)) => {
            event();
            next.run(request).await
        }
        Fault::Wait(gate) => {
            gate.pass().await;
            next.run(request).await
        }
        Fault::Lose { status } => {
            next.run(request).await;
            answer(status, &[], String::new())
        }
        Fault::Cut { after } => next.run(request).await.map(|body| cut(body, after)),
        Fault::Hold { after, gate } => next.run(request).await.map(|body| hold(body, after, gate)),
        Fault::CutUpload { after } => {
            let mut body = request.into_body().into_data_stream();
            let mut seen = 0;
            while let Some(Ok(chunk)) = body.next().await {
                seen += chunk.len();
                if seen >= after {
                    break;
                }
            }
            (StatusCode::OK, [("content-length", "1")], cut(Body::from("x"), 0)).into_response()
        }
        Fault::Strip(name) => {
            let mut response = next.run(request).await;
            response.headers_mut().remove(name);
            response
        }
        Fault::Set(name, value) => {
            let mut response = next.run(request).await;
            let value = HeaderValue::try_from(value).expect("a header value");
            response.headers_mut().insert(HeaderName::from_static(name), value);
            response
        }
        Fault::Quota { remaining } => {
            let mut response = next.run(request).await;
            response.headers_mut().insert("ratelimit-limit", HeaderValue::from_static("100;w=21600"));
            response.headers_mut().insert("ratelimit-remaining", HeaderValue::from(remaining));
            response
        }
        Fault::Corrupt => {
            let (head, body) = next.run(request).await.into_parts();
            let mut bytes = to_bytes(body, usize::MAX).await.expect("a body from memory").to_vec();
            if let Some(first) = bytes.first_mut() {
                *first = !*first;
            }
            Response::from_parts(head, Body::from(bytes))
        }
        Fault::DropQuery => {
            *request.uri_mut() = request.uri().path().parse::<Uri>().expect("the path of a URI");
            next.run(request).await
        }
        Fault::Ignore(name) => {
            request.headers_mut().remove(name);
            next.run(request).await
        }
    }
}

fn answer(status: u16, headers: &[(&'static str, String)], body: String) -> Response {
    let mut response = body.into_response();
    *response.status_mut() = StatusCode::from_u16(status).expect("a status");
    for (name, value) in headers {
        let value = HeaderValue::try_from(value).expect("a header value");
        response.headers_mut().insert(HeaderName::from_static(name), value);
    }
    response
}

/// The first `after` bytes of `body`, then the rest when the gate opens.
fn hold(body: Body, after: usize, gate: Gate) -> Body {
    let pieces = body.into_data_stream().scan(after, |left, chunk| {
        let chunk = chunk.expect("a body of ours");
        let head = chunk.slice(..chunk.len().min(*left));
        *left -= head.len();
        let rest = chunk.slice(head.len()..);
        std::future::ready(Some([(head, false), (rest, true)]))
    });
    let pieces = pieces.flat_map(|both| stream::iter(both).filter(|(piece, _)| std::future::ready(!piece.is_empty())));
    Body::from_stream(pieces.then(move |(piece, is_held)| {
        let gate = gate.clone();
        async move {
            if is_held {
                gate.pass().await;
            }
            Ok::<_, axum::Error>(piece)
        }
    }))
}

/// The first `after` bytes of `body`, then an error: the connection is closed in the middle of the answer.
pub(crate) fn cut(body: Body, after: usize) -> Body {
    let whole = body.into_data_stream();
    let head = whole.scan(after, |left, chunk| {
        let chunk = chunk.map(|mut bytes: Bytes| {
            bytes.truncate(*left);
            *left -= bytes.len();
            bytes
        });
        let over = matches!(&chunk, Ok(bytes) if bytes.is_empty());
        std::future::ready((!over).then_some(chunk))
    });
    let error = stream::once(async {
        // hyper discards unwritten bytes when the body fails, and writes them when the body is pending.
        tokio::task::yield_now().await;
        Err(axum::Error::new(std::io::Error::other("as the script has it")))
    });
    Body::from_stream(head.chain(error))
}
