//! The HTTP client. No other file knows which library it is made of.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, TryStreamExt as _};
use http::header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, PROXY_AUTHORIZATION, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Version, response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::client::legacy;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use url::Url;

use crate::registry::net::connect::Connector;
use crate::registry::net::proxies::Proxies;
use crate::registry::net::tls::Protocol;

/// Less than a minute, after which common load balancers drop a silent connection.
const POOL_IDLE: Duration = Duration::from_secs(45);

/// The interval at which an HTTP/2 connection with requests in flight is pinged, and the time limit for the answer.
const PING: Duration = Duration::from_secs(10);

/// The most that a connection reads at once. Larger buffers cost memory and gain no speed.
const BUFFER: usize = 64 << 10;

/// How often a request is sent again because the server has declared that it didn't process it.
const REPEATS: usize = 2;

/// A client, with a pool of connections.
#[derive(Debug)]
pub(crate) struct Client {
    pool: legacy::Client<Connector, RequestBody>,
    proxies: Arc<Proxies>,
}

/// The body of a request.
pub(crate) type RequestBody = UnsyncBoxBody<Bytes, io::Error>;

/// A body that is in memory.
fn whole(bytes: Bytes) -> RequestBody {
    Full::new(bytes).map_err(|never: Infallible| match never {}).boxed_unsync()
}

/// A body that is made while it is sent.
pub(crate) fn streamed(chunks: impl Stream<Item = io::Result<Bytes>> + Send + 'static) -> RequestBody {
    UnsyncBoxBody::new(StreamBody::new(chunks.map_ok(Frame::data)))
}

impl Client {
    /// `idle` limits the wait for the answer to a ping.
    pub(crate) fn new(connector: Connector, proxies: Arc<Proxies>, protocol: Protocol, idle: Duration) -> Self {
        let mut builder = legacy::Client::builder(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(POOL_IDLE)
            .http1_max_buf_size(BUFFER);
        if protocol == Protocol::Offered {
            // A dead connection must not make one request after the other time out.
            builder.http2_keep_alive_interval(PING).http2_keep_alive_timeout(idle.min(PING));
        }
        Self { pool: builder.build(connector), proxies }
    }

    /// Sends a request whose body is in memory; returns when the head of its answer has arrived. Redirects aren't
    /// followed.
    ///
    /// # Errors
    /// If there is no answer.
    pub(crate) async fn send(
        &self,
        method: &Method,
        url: &Url,
        headers: &HeaderMap,
        authorization: Option<&HeaderValue>,
        body: &Bytes,
    ) -> Result<Response, HttpError> {
        let mut repeats = 0;
        loop {
            match self.stream(method, url, headers, authorization, whole(body.clone())).await {
                Err(error) if error.is_unprocessed() && repeats < REPEATS => repeats += 1,
                end => return end,
            }
        }
    }

    /// [`Client::send`] with a body that is made while it is sent.
    ///
    /// # Errors
    /// If there is no answer.
    pub(crate) async fn stream(
        &self,
        method: &Method,
        url: &Url,
        headers: &HeaderMap,
        authorization: Option<&HeaderValue>,
        body: RequestBody,
    ) -> Result<Response, HttpError> {
        let mut request = Request::new(body);
        *request.method_mut() = method.clone();
        *request.uri_mut() = url.as_str().parse().map_err(HttpError::Url)?;
        *request.headers_mut() = headers.clone();
        let headers = request.headers_mut();
        if let Some(authorization) = authorization {
            headers.insert(AUTHORIZATION, authorization.clone());
        }
        headers.entry(ACCEPT).or_insert(HeaderValue::from_static("*/*"));
        // Digests are those of the stored bytes.
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        headers.insert(USER_AGENT, HeaderValue::from_static(concat!("transship/", env!("CARGO_PKG_VERSION"))));
        if let Some(authorization) = self.proxy_authorization(url) {
            headers.insert(PROXY_AUTHORIZATION, authorization);
        }
        let (head, body) = self.pool.request(request).await.map_err(HttpError::Sent)?.into_parts();
        Ok(Response { head, body: ResponseBody(body) })
    }

    /// For the proxy on the way to a URL without TLS. Others are authorized at when a connection is made.
    fn proxy_authorization(&self, url: &Url) -> Option<HeaderValue> {
        if url.scheme() != "http" {
            return None;
        }
        self.proxies.of(url).ok()??.authorization().cloned()
    }
}

/// The head of an answer, and its unread body.
#[derive(Debug)]
pub(crate) struct Response {
    head: response::Parts,
    body: ResponseBody,
}

/// The unread rest of the body of an answer.
#[derive(Debug)]
pub(crate) struct ResponseBody(Incoming);

impl Response {
    pub(crate) fn status(&self) -> StatusCode {
        self.head.status
    }

    pub(crate) fn headers(&self) -> &HeaderMap {
        &self.head.headers
    }

    pub(crate) fn is_http2(&self) -> bool {
        self.head.version == Version::HTTP_2
    }

    pub(crate) fn into_parts(self) -> (HeaderMap, ResponseBody) {
        (self.head.headers, self.body)
    }
}

impl ResponseBody {
    /// The next bytes of the body; `None` after the last.
    ///
    /// # Errors
    /// If the connection breaks.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, HttpError> {
        while let Some(frame) = self.0.frame().await {
            // Trailers are ignored.
            if let Ok(data) = frame.map_err(HttpError::Received)?.into_data() {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }
}

/// Why a request has no answer, or its body broke off.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HttpError {
    /// The URL can't be used for HTTP.
    #[error("the URL is invalid")]
    Url(#[source] http::uri::InvalidUri),
    /// There is no answer.
    #[error("the request has no answer")]
    Sent(#[source] legacy::Error),
    /// The body of the answer broke off.
    #[error("the answer broke off")]
    Received(#[source] hyper::Error),
}

impl HttpError {
    /// Whether the server has declared that it didn't process the request, for example because it closes an HTTP/2
    /// connection after a number of requests (RFC 9113 section 8.7).
    fn is_unprocessed(&self) -> bool {
        std::iter::successors(Some(self as &dyn std::error::Error), |error| error.source())
            .find_map(|error| error.downcast_ref::<h2::Error>())
            .filter(|error| error.is_remote())
            .is_some_and(|error| {
                error.is_go_away() && error.reason() == Some(h2::Reason::NO_ERROR)
                    || error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM)
            })
    }
}
