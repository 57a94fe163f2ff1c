//! A request: its purpose, URL and headers. Knows nothing about sending.

use bytes::Bytes;
use http::header::HeaderMap;
use url::Url;

use crate::error::{Error, Kind};
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
}

impl Request {
    pub(crate) fn error(&self, kind: Kind, why: impl Into<String>) -> Error {
        Error::new(kind, &self.attempted, why).of_task(self.action.task())
    }

    #[cfg(test)]
    pub(crate) fn bare(action: Action) -> Self {
        Self {
            action,
            attempted: "attempt".into(),
            url: "http://127.0.0.1/".parse().unwrap(),
            headers: HeaderMap::new(),
            scopes: Scopes::default(),
            repository: String::new(),
            body: Bytes::new(),
            limit: (0, ""),
            ticket: None,
            waits: true,
        }
    }
}
