//! Detects plain HTTP sent to a server that expects TLS: many answer with an error in plain text, each with
//! different words.

use crate::error::{Error, Kind};
use crate::registry::Host;
use crate::registry::answer::Answer;
use crate::registry::request::Request;

/// The words of each server, in lower case; all words of a row must occur.
const REFUSALS: &[&[&str]] = &[
    // Go, and servers written in it: docker-registry, Traefik, Caddy.
    &["http request to an https server"],
    // nginx, and with it Harbor and others.
    &["plain http request was sent to https port"],
    // Apache.
    &["speaking plain http to an ssl-enabled server port"],
    // Tomcat, and with it Artifactory and Nexus.
    &["host and port requires tls"],
    &["requires", "https"],
    &["requires", "tls"],
    &["required", "https"],
    &["required", "ssl"],
    &["plain", "http", "tls"],
    &["plain", "http", "ssl"],
    &["http request", "https port"],
];

/// Whether the answer says that TLS is expected.
fn says_so(answer: &Answer) -> bool {
    let said = || String::from_utf8_lossy(&answer.body).to_lowercase();
    let is_told = |said: String| REFUSALS.iter().any(|words| words.iter().all(|word| said.contains(word)));
    match answer.status.as_u16() {
        // These have no other meaning.
        426 | 497 => true,
        400 | 403 => is_told(said()),
        _ => false,
    }
}

impl Host {
    /// The error for an answer which says that the server expects TLS; `None` for other answers.
    pub(super) fn tls_expected(&self, request: &Request, answer: &Answer) -> Option<Error> {
        if self.base().scheme() != "http" || answer.foreign || !says_so(answer) {
            return None;
        }
        let way = self.transport.clients.way(&request.url);
        let error = request.error(Kind::Configuration, "the server expects TLS, but the request was plain HTTP");
        Some(error.with_status(answer.status.as_u16()).with_hint(way.tls_hint()))
    }
}
