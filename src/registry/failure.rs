//! Why there is no answer: silence, or a connection that wasn't made or broke, and what to do about it.

use std::time::Duration;

use super::action::Request;
use crate::error::{Error, Kind};

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Silence for longer than `idle_timeout`.
    Idle(Duration),
    /// The connection wasn't made, or broke.
    Http(reqwest::Error),
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

    pub(crate) fn into_error(self, request: &Request) -> Error {
        let why = self.why();
        match self {
            Self::Idle(_) => request.error(Kind::Unavailable, why),
            Self::Http(error) if error.is_builder() => request.error(Kind::Invalid, why),
            Self::Http(error) if let Some(hint) = settings_hint(&why) => {
                request.error(Kind::Configuration, why).with_hint(hint).with_source(error.without_url())
            }
            Self::Http(error) => request.error(Kind::Unavailable, why).with_source(error.without_url()),
        }
    }
}

pub(super) const PROXY_HINT: &str =
    "set proxy: for this registry, from env or file, to a URL with the user and the password";
const CLIENT_HINT: &str = "the server wants to know who connects: set client_cert: and client_key: for this registry";

/// What the failure of a connection says when it is for the settings to change, and how.
const SETTINGS_HINTS: &[(&str, &str)] = &[
    ("proxy authorization required", PROXY_HINT),
    ("fatal alert: CertificateRequired", CLIENT_HINT),
    ("fatal alert: CertificateUnknown", CLIENT_HINT),
    ("fatal alert: BadCertificate", CLIENT_HINT),
    ("fatal alert: UnknownCA", CLIENT_HINT),
    // The client's certificate was signed by another authority of the same name.
    ("fatal alert: DecryptError", CLIENT_HINT),
    ("fatal alert: AccessDenied", CLIENT_HINT),
    ("certificate", "set ca: for this registry if its certificate comes from an authority of your own"),
];

fn settings_hint(why: &str) -> Option<&'static str> {
    SETTINGS_HINTS.iter().find(|(words, _)| why.contains(words)).map(|(_, hint)| *hint)
}

/// The innermost cause with words before it; the URL may hold a signature and is left out.
fn chain(error: &reqwest::Error) -> String {
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
        return if error.is_timeout() { "timed out".to_owned() } else { "the connection broke".to_owned() };
    }
    texts.join(": ")
}

/// Without what only a programmer wants to know: the client's layers, and numbers of errors that have a text.
fn plain(text: &str) -> String {
    let text = text.split(" (os error").next().unwrap_or_default();
    let layers = ["client error (", "tcp connect error"];
    if layers.iter().any(|layer| text.starts_with(layer)) { String::new() } else { text.to_owned() }
}

pub(crate) async fn in_time<T>(
    idle: Duration,
    work: impl Future<Output = reqwest::Result<T>>,
) -> std::result::Result<T, Failure> {
    match tokio::time::timeout(idle, work).await {
        Ok(result) => result.map_err(Failure::Http),
        Err(_) => Err(Failure::Idle(idle)),
    }
}
