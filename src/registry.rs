//! One registry host: its settings, its credentials, and the one path for all requests to it.
//!
//! `hosts` sets up each host on first use. `action` defines what a request is for, `send` repeats it until it succeeds
//! or can't, and `transport` makes one exchange. `net/destination` decides where it may go, `admission` when (with
//! `trouble`, `window` and `pulls`), `auth` with which credentials (with `challenge`, `credentials`, `docker`,
//! `token`), and `elsewhere` authenticates where a redirect leads. `net/http` is the client (with `connect`), and
//! `net/setup` (with `tls` and `proxies`) derives it from the settings. `answer` interprets answers, `net/failure`
//! (with `handshake` and `way`) explains a missing answer, and `net/shown` redacts log output. `probe` checks a host
//! before anything is copied, `referrers` knows whether it has the referrers API, `types` which media types have to be
//! requested by name, and `services` the quirks of services. `store/registry.rs` defines what a request
//! *means*.
//!
//! Follows the OCI distribution specification 1.1.

mod action;
mod admission;
mod answer;
mod auth;
mod counters;
mod elsewhere;
mod hosts;
mod net;
mod probe;
mod quota;
mod referrers;
mod request;
mod scheme;
mod send;
mod services;
mod transport;
mod types;
mod upload;

use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use url::Url;

pub(crate) use self::action::Action;
pub(crate) use self::admission::pulls::Reservation;
use self::admission::pulls::{Budget, Budgets, Known};
pub(crate) use self::answer::{Answer, encoded};
pub(crate) use self::auth::challenge::read as read_challenge;
pub use self::auth::credentials::BasicTokens;
pub(crate) use self::auth::credentials::Credential;
#[cfg(test)]
pub(crate) use self::auth::credentials::Environment;
use self::auth::{Auth, Scopes};
pub use self::counters::HostStats;
pub use self::hosts::Hosts;
pub(crate) use self::net::destination::is_same_origin;
pub(crate) use self::net::failure::in_time;
pub(crate) use self::net::http::ResponseBody;
pub(crate) use self::probe::{Login, Probe};
pub use self::quota::Quota;
pub(crate) use self::referrers::{Absence, ReferrersApi};
pub(crate) use self::request::Request;
pub(crate) use self::send::UploadError;
use self::services::harbor;
pub(crate) use self::services::harbor::{Caching, Endpoint, FILTER, Project, project};
use self::services::quirks::Quirks;
use self::transport::Transport;
pub(crate) use self::types::OddTypes;
use self::upload::ChunkPolicy;
pub(crate) use self::upload::ChunkedBody;
use crate::error::{Error, Kind, Result};
use crate::oci::{Registry, Repository};
use crate::retry::Backoff;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One registry host.
#[derive(Debug)]
pub struct Host {
    registry: Registry,
    quirks: Quirks,
    chunk_policy: ChunkPolicy,
    transport: Arc<Transport>,
    auth: Arc<Auth>,
    manifest_size: u64,
    /// Whether the settings say that it is a Harbor.
    set_as_harbor: bool,
    harbor: harbor::Facts,
    referrers: ReferrersApi,
    budgets: Budgets,
    /// Whether it has refused a HEAD for a manifest that it served by GET.
    refuses_heads: AtomicBool,
    /// All hosts of the run.
    others: Weak<Hosts>,
    odd_types: OddTypes,
}

impl Host {
    /// Whether a manifest GET counts against a quota, as far as is known yet.
    pub(crate) fn meters_pulls(&self) -> bool {
        self.quirks.meters_pulls || self.budgets.tightest().is_some()
    }

    /// The budget for pulls from the repository at `path`.
    pub(crate) async fn budget(&self, path: &str) -> Arc<Budget> {
        self.budgets.of(&self.auth.account(path).await)
    }

    /// What is known about the quota for pulls from the repository at `path`.
    pub(crate) async fn account_quota(&self, path: &str) -> Known {
        self.budget(path).await.known()
    }

    /// Learns the quota by the free request `ask`, if the host meters pulls and the numbers aren't known. Done once
    /// per repository, as some are exempt and have no numbers.
    pub(crate) async fn learn_quota<F: Future>(&self, path: &str, ask: impl FnOnce() -> F) {
        if !self.meters_pulls() || !self.budget(path).await.is_unknown() {
            return;
        }
        let mut asked = self.budgets.asked.lock().await;
        if self.budget(path).await.is_unknown() && asked.insert(path.to_owned()) {
            ask().await;
        }
    }

    /// Whether the AWS account lets repositories mount each other's blobs; `None` if the host belongs to no AWS
    /// account.
    pub(crate) async fn account_mounts(&self) -> Option<bool> {
        if self.quirks.aws { Some(self.auth.account_mounts().await) } else { None }
    }

    /// The largest supported page of tags.
    pub(crate) fn tag_page(&self) -> u32 {
        self.quirks.tag_page
    }

    /// What is known about its referrers API.
    pub(crate) fn referrers_api(&self) -> &ReferrersApi {
        &self.referrers
    }

    /// Media types that have to be requested by name.
    pub(crate) fn odd_types(&self) -> &OddTypes {
        &self.odd_types
    }

    /// Whether it has ever asked for credentials.
    pub(crate) fn has_asked_for_credentials(&self) -> bool {
        self.auth.wants_credentials()
    }

    /// Whether it serves manifests by GET, but refuses HEAD.
    pub(crate) fn refuses_heads(&self) -> bool {
        self.refuses_heads.load(Ordering::Relaxed)
    }

    /// Records that it refuses HEAD.
    pub(crate) fn record_refused_head(&self) {
        self.refuses_heads.store(true, Ordering::Relaxed);
    }

    /// How much of a blob it accepts at once.
    pub(crate) fn chunk_policy(&self) -> &ChunkPolicy {
        &self.chunk_policy
    }

    /// The prefix of its URLs.
    pub(crate) fn base(&self) -> &Url {
        &self.transport.home.base
    }

    /// The URL of `location` in `answer`; rewritten to the registry's known address if it means the registry.
    ///
    /// # Errors
    /// If it isn't a URL.
    pub(crate) fn located(&self, answer: &Answer, location: &str) -> Result<Url, url::ParseError> {
        answer.url.join(location).map(|url| self.transport.home.settle(url))
    }

    /// The longest silence of a connection.
    pub(crate) fn idle_timeout(&self) -> Duration {
        self.transport.idle
    }

    /// Returns as soon as it is in trouble.
    pub(crate) async fn in_trouble(&self) {
        self.transport.in_trouble().await;
    }

    /// The number of retries, and the pauses between them.
    pub(crate) fn backoff(&self) -> Backoff {
        self.transport.admissions.backoff()
    }

    /// A request about the host itself, to `path` below its base, with the credentials for the repository `of`.
    fn own_request(&self, action: Action, attempted: String, path: &str, of: &str) -> Result<Request> {
        let url = self.transport.home.below(path);
        let url = url.map_err(|e| Error::new(Kind::Invalid, &attempted, format!("its URL is invalid: {e}")))?;
        Ok(Request { repository: of.to_owned(), ..Request::new(action, attempted, url) })
    }

    /// A request about `object` in `repository`, to `path` below the repository's URL.
    ///
    /// # Errors
    /// `Invalid` if the URL is invalid.
    pub(crate) fn request(&self, action: Action, repository: &Repository, object: &str, path: &str) -> Result<Request> {
        let url = self.transport.home.below(&format!("v2/{}/{path}", repository.path()));
        self.request_to(action, repository, object, url)
    }

    /// A request to a URL from the registry.
    ///
    /// # Errors
    /// `Invalid` if the URL is invalid.
    pub(crate) fn request_to(
        &self,
        action: Action,
        repository: &Repository,
        object: &str,
        url: Result<Url, url::ParseError>,
    ) -> Result<Request> {
        let traits = action.traits();
        let (verb, preposition) = traits.words;
        let mut attempted = verb.to_owned();
        for word in [object, preposition].into_iter().filter(|word| !word.is_empty()) {
            // Writing to a String can't fail.
            let _ = write!(attempted, " {word}");
        }
        let _ = write!(attempted, " {repository}");
        let url = url.map_err(|e| Error::new(Kind::Invalid, &attempted, format!("its URL is invalid: {e}")))?;
        let (scopes, path) = (Scopes::of(repository.path(), traits.writes), repository.path().to_owned());
        let mut request = Request { scopes, repository: path, ..Request::new(action, attempted, url) };
        if action == Action::PullManifest {
            request.limit = (self.manifest_size, "limits.manifest_size");
        }
        Ok(request)
    }
}
