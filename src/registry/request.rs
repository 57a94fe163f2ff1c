//! A request: its purpose, URL and headers. Knows nothing about sending.

use bytes::Bytes;
use http::header::HeaderMap;
use url::Url;

use crate::error::{Error, Kind, Side};
use crate::oci::bounds;
use crate::registry::action::Action;
use crate::registry::admission::pulls::Ticket;
use crate::registry::auth::scopes::Scopes;

/// A request.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) action: Action,
    /// A verb and its object, for messages.
    pub(crate) attempted: String,
    pub(crate) url: Url,
    pub(crate) headers: HeaderMap,
    pub(crate) scopes: Scopes,
    /// The path of the repository whose credentials are used.
    pub(crate) repository: String,
    pub(crate) body: Bytes,
    /// The largest accepted answer in bytes, and the name of the limit.
    pub(crate) limit: (u64, &'static str),
    /// The ticket of a pull: a pull isn't sent without one.
    pub(crate) ticket: Option<Ticket>,
    /// Whether to wait while the host is in trouble; not if another place can be asked.
    pub(crate) waits: bool,
    /// The side of the store that sends it; `None` for a request about the host itself.
    pub(crate) side: Option<Side>,
}

impl Request {
    /// A request about the host itself: it has no headers, scopes or body, and its answer is small.
    pub(crate) fn new(action: Action, attempted: String, url: Url) -> Self {
        Self {
            action,
            attempted,
            url,
            headers: HeaderMap::new(),
            scopes: Scopes::default(),
            repository: String::new(),
            body: Bytes::new(),
            limit: (bounds::ANSWER, "an answer"),
            ticket: None,
            waits: true,
            side: None,
        }
    }

    pub(crate) fn error(&self, kind: Kind, why: impl Into<String>) -> Error {
        Error::new(kind, &self.attempted, why).of_task(self.action.task()).on(self.side)
    }

    #[cfg(test)]
    pub(crate) fn bare(action: Action) -> Self {
        Self::new(action, "attempt".into(), "http://127.0.0.1/".parse().unwrap())
    }
}
