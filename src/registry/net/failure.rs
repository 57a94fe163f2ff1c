//! Why there is no answer: silence, or a connection that failed or broke, with advice.

use std::io::ErrorKind;
use std::time::Duration;

use crate::error::{Error, Kind};
use crate::registry::net::handshake;
use crate::registry::net::http::HttpError;
use crate::registry::net::way::Way;
use crate::registry::request::Request;

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Silence for longer than `idle_timeout`.
    Idle(Duration),
    /// The connection failed or broke.
    Http(HttpError),
}

/// The explanation, independent of a request.
struct Meaning {
    kind: Kind,
    why: String,
    hint: Option<String>,
}

impl Failure {
    pub(crate) fn why(&self) -> String {
        match self {
            Self::Idle(limit) => {
                format!("nothing moved for {} (limits.idle_timeout)", humantime::format_duration(*limit))
            }
            Self::Http(error) => chain(error),
        }
    }

    /// The connection was established, and closed without a byte of an answer.
    pub(crate) fn is_closed_before_answer(&self) -> bool {
        let Self::Http(error) = self else { return false };
        let mut cause: Option<&dyn std::error::Error> = Some(error);
        while let Some(error) = cause {
            let by_peer = |kind| {
                matches!(kind, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::ConnectionAborted)
            };
            let io = error.downcast_ref::<std::io::Error>().is_some_and(|error| by_peer(error.kind()));
            if io || error.to_string().contains("connection closed before message completed") {
                return true;
            }
            cause = error.source();
        }
        false
    }

    /// Whether HTTP/2 itself failed: a stream or a connection ended early, or violated the protocol. A GOAWAY for a
    /// stream that wasn't begun never gets here, because the client has already sent it again.
    pub(crate) fn is_of_http2(&self) -> bool {
        let Self::Http(error) = self else { return false };
        std::iter::successors(Some(error as &dyn std::error::Error), |error| error.source())
            .map(ToString::to_string)
            .any(|text| text.starts_with("http2 error") || text.contains("ALPN upgraded to HTTP/2"))
    }

    /// The error of a request whose answer broke off.
    pub(crate) fn into_error(self, request: &Request) -> Error {
        let (kind, why) = (Kind::Unavailable, self.why());
        self.error(request, Meaning { kind, why, hint: None })
    }

    /// The error of a request that got no answer on this way.
    pub(crate) fn on(self, way: &Way<'_>, request: &Request) -> Error {
        let mut meaning = self.meaning(way, request);
        if let Some(place) = way.description() {
            meaning.why = format!("{place}: {}", meaning.why);
        }
        self.error(request, meaning)
    }

    fn meaning(&self, way: &Way<'_>, request: &Request) -> Meaning {
        let why = self.why();
        let settled = |why: String, hint: String| Meaning { kind: Kind::Configuration, why, hint: Some(hint) };
        if let Self::Http(error) = self {
            if matches!(error, HttpError::Url(_)) {
                return Meaning { kind: Kind::Invalid, why, hint: None };
            }
            if let Some(diagnosis) = handshake::find(error).and_then(|error| handshake::diagnose(error, way)) {
                return settled(diagnosis.why, diagnosis.hint);
            }
            if why.contains("proxy authorization required") {
                return settled(
                    "the proxy requires a user and a password, or rejects them".to_owned(),
                    PROXY_HINT.to_owned(),
                );
            }
            // A server that speaks TLS greets like this, or refuses plain text.
            if way.url.scheme() == "http" && NOT_HTTP.iter().any(|words| why.contains(words)) {
                return settled("the server doesn't speak plain HTTP".to_owned(), way.tls_hint());
            }
        }
        Meaning { kind: Kind::Unavailable, why, hint: way.silence_hint(request) }
    }

    fn error(self, request: &Request, meaning: Meaning) -> Error {
        let mut error = request.error(meaning.kind, meaning.why);
        if let Some(hint) = meaning.hint {
            error = error.with_hint(hint);
        }
        match self {
            Self::Idle(_) => error,
            Self::Http(source) => error.with_source(source),
        }
    }
}

pub(crate) const PROXY_HINT: &str =
    "set proxy: for this registry, from env or file, to a URL with the user and the password";

/// The HTTP parser's messages for bytes that aren't HTTP.
const NOT_HTTP: &[&str] = &["invalid HTTP version parsed", "invalid HTTP status-code parsed"];

/// The innermost cause, with context; the URL may contain a signature and is left out.
fn chain(error: &HttpError) -> String {
    let mut cause: &dyn std::error::Error = error;
    let mut texts: Vec<String> = Vec::new();
    while let Some(next) = cause.source() {
        let text = plain(&next.to_string());
        if !text.is_empty() && texts.last().is_none_or(|last| !last.contains(&text)) {
            texts.push(text);
        }
        cause = next;
    }
    if texts.is_empty() {
        return "the connection broke".to_owned();
    }
    texts.join(": ")
}

/// Removes technical details: the client's layers, and numbers of errors that have a text.
fn plain(text: &str) -> String {
    let text = text.split(" (os error").next().unwrap_or_default();
    let layers = ["client error (", "tcp connect error"];
    let text = text.replace("tunnel error: unsuccessful", "it refuses to connect there");
    if layers.iter().any(|layer| text.starts_with(layer)) { String::new() } else { text }
}

pub(crate) async fn in_time<T>(
    idle: Duration,
    work: impl Future<Output = std::result::Result<T, HttpError>>,
) -> std::result::Result<T, Failure> {
    match tokio::time::timeout(idle, work).await {
        Ok(result) => result.map_err(Failure::Http),
        Err(_) => Err(Failure::Idle(idle)),
    }
}
