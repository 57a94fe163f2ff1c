//! One registry host: its settings, its credentials, and the one path for all requests to it.
//!
//! `hosts` sets up each host on first use. `action` defines what a request is for, `transport` sends it,
//! `net/destination` decides where it may go, `admission` when (with `trouble`, `window` and `pulls`), `auth` with
//! which credentials (with `challenge`, `credentials`, `docker`, `token`), and `elsewhere` authenticates where a
//! redirect leads. `net/http` is the client (with `connect`), and `net/setup` (with `tls` and `proxies`) derives it
//! from the settings. `answer` interprets answers, `net/failure` (with `handshake` and `way`) explains a missing
//! answer, and `net/shown` redacts log output. `probe` checks a host before anything is copied, `referrers` knows
//! whether it has the referrers API, `types` which media types have to be requested by name, and `services` the
//! peculiarities of services. `store/registry.rs` defines what a request *means*.
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
mod services;
mod transport;
mod types;
mod upload;

use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use http::header::HeaderMap;
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
use self::auth::{ANONYMOUS, Auth, Scopes, Unauthorized};
pub use self::counters::HostStats;
pub use self::hosts::Hosts;
pub(crate) use self::net::failure::in_time;
pub(crate) use self::net::http::Response;
pub(crate) use self::probe::{Login, Probe};
pub use self::quota::Quota;
pub(crate) use self::referrers::{Absence, ReferrersApi};
pub(crate) use self::request::Request;
use self::services::harbor;
pub(crate) use self::services::harbor::{Caching, Endpoint, FILTER, Project, project};
use self::services::quirks::Quirks;
use self::transport::Transport;
pub(crate) use self::types::OddTypes;
pub(crate) use self::upload::ChunkedBody;
use self::upload::{ChunkPolicy, Outgoing, Progress};
use crate::error::{Error, Kind, Result};
use crate::oci::{Registry, Repository, bounds};
use crate::retry::Backoff;

const UNTOLD: &str = "the answer has no WWW-Authenticate header, nor has that of /v2/: check whether a proxy in front \
    removes it. A token: under registries: is sent without a challenge";

const DOUBTED_TOKEN: &str = "the registry rejects a token that its own token service has just issued: compare their \
    clocks, and the issuer and key that the registry trusts";

/// The refusals that one request may meet: for an old token or password, and for the new one.
const MOST_REFUSALS: u32 = 2;

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

/// Why a streamed upload failed.
#[derive(Debug)]
pub(crate) enum UploadError {
    /// The body failed, with this error.
    Body(Error),
    /// The host refused it or broke the connection.
    Host {
        error: Error,
        /// Whether all bytes had been sent: then it may have succeeded.
        all_sent: bool,
    },
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
    pub(crate) fn asks_who_we_are(&self) -> bool {
        self.auth.wants_credentials()
    }

    /// Whether it serves manifests by GET, but refuses HEAD.
    pub(crate) fn refuses_heads(&self) -> bool {
        self.refuses_heads.load(Ordering::Relaxed)
    }

    /// Records that it refuses HEAD.
    pub(crate) fn has_refused_heads(&self) {
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
        let url = Url::parse(&format!("{}/{path}", self.base().as_str().trim_end_matches('/')))
            .map_err(|e| Error::new(Kind::Invalid, &attempted, format!("its URL is invalid: {e}")))?;
        Ok(Request {
            action,
            attempted,
            url,
            headers: HeaderMap::new(),
            scopes: Scopes::default(),
            repository: of.to_owned(),
            body: Bytes::new(),
            limit: (bounds::ANSWER, "an answer"),
            ticket: None,
            waits: true,
        })
    }

    /// A request about `object` in `repository`, to `path` below the repository's URL.
    ///
    /// # Errors
    /// `Invalid` if the URL is invalid.
    pub(crate) fn request(&self, action: Action, repository: &Repository, object: &str, path: &str) -> Result<Request> {
        let base = self.base().as_str().trim_end_matches('/');
        let url = Url::parse(&format!("{base}/v2/{}/{path}", repository.path()));
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
        let limit = match action {
            Action::PullManifest => (self.manifest_size, "limits.manifest_size"),
            _ => (bounds::ANSWER, "an answer"),
        };
        let url = url.map_err(|e| Error::new(Kind::Invalid, &attempted, format!("its URL is invalid: {e}")))?;
        Ok(Request {
            action,
            attempted,
            url,
            headers: HeaderMap::new(),
            scopes: Scopes::of(repository.path(), traits.writes),
            repository: repository.path().to_owned(),
            body: Bytes::new(),
            limit,
            ticket: None,
            waits: true,
        })
    }

    /// Sends `request` until it succeeds or a retry can't help.
    ///
    /// # Errors
    /// The error of the last attempt, with the number of attempts.
    pub(crate) async fn send(&self, request: &Request) -> Result<Answer> {
        let mut tries = self.backoff().tries();
        loop {
            match self.attempt(request).await {
                Ok(answer) => return Ok(answer),
                Err(error) if request.action == Action::AbandonUpload || !request.waits => return Err(error),
                // An upload is as good as another attempt to mount.
                Err(error) if request.action == Action::MountBlob => return Err(error),
                Err(error) => tries.again(error).await?,
            }
        }
    }

    /// One attempt, following redirects.
    ///
    /// # Errors
    /// The error of the attempt.
    pub(crate) async fn attempt(&self, request: &Request) -> Result<Answer> {
        let answer = self.attempt_here(request).await?;
        if elsewhere::asks(&answer) { self.attempt_elsewhere(request, answer).await } else { Ok(answer) }
    }

    /// Like [`Host::attempt`], but without authentication at another host that a redirect leads to.
    async fn attempt_here(&self, request: &Request) -> Result<Answer> {
        let mut refusals = 0;
        loop {
            let authorization = self.auth.authorize(request).await.map_err(|error| self.about_account(error))?;
            let budget = self.budget(&request.repository).await;
            let mark = budget.mark();
            let outcome = self.transport.exchange(request, authorization.header.clone()).await;
            let answer = match outcome {
                Ok(answer) => answer,
                Err(error) => {
                    authorization.unanswered();
                    return Err(error);
                }
            };
            if request.ticket.is_none() && !answer.foreign {
                answer.tell(request, &budget, mark);
            }
            if elsewhere::asks(&answer) {
                authorization.accepted();
                return Ok(answer);
            }
            if let Some(error) = self.lacks_project(request, &answer) {
                authorization.accepted();
                return Err(error);
            }
            // Status 400 is ambiguous, so it is taken for a refusal only once.
            let may_be_stale = refusals == 0 && self.quirks.stale_is_400 && authorization.is_kept_token();
            let refused = refuses_us(&answer) || (may_be_stale && may_mean_stale(&answer));
            if !refused && authorization.is_unknown() && may_hide(&answer) {
                match self.auth.refused(authorization, request, &answer).await? {
                    (_, true) => continue,
                    (_, false) => return answer.check(request),
                }
            }
            if !refused {
                authorization.accepted();
                let checked = self.wants_tls(request, &answer).map_or_else(|| answer.check(request), Err);
                return checked.map_err(|error| self.explain(request, error));
            }
            // Without credentials, a refusal only tells which ones are wanted.
            refusals += u32::from(authorization.header.is_some());
            let (meaning, again) = self.auth.refused(authorization, request, &answer).await?;
            if !again || refusals == MOST_REFUSALS {
                return Err(self.refusal(request, &answer, meaning).await);
            }
        }
    }

    /// The error for an answer that refuses the credentials.
    async fn refusal(&self, request: &Request, answer: &Answer, meaning: Unauthorized) -> Error {
        let error = answer.failure(request);
        if self.auth.is_anonymous(&request.repository).await {
            return error.reclassified(Kind::Unauthorized, answer.message()).with_hint(ANONYMOUS);
        }
        let error = match meaning {
            Unauthorized::NotSent => {
                let why =
                    format!("{}; it doesn't say how to log in, so the credentials for it weren't sent", error.why());
                error.reclassified(Kind::Unauthorized, why).with_hint(UNTOLD)
            }
            Unauthorized::OwnToken => error.with_hint(DOUBTED_TOKEN),
            Unauthorized::Permission if error.kind() == Kind::Unauthorized => {
                let why = error.why().to_owned();
                error.reclassified(Kind::Denied, why)
            }
            Unauthorized::Login => error.about_login(),
            Unauthorized::Permission => error,
        };
        self.explain_unauthorized(request, error).await
    }

    /// Sends `request` at most once and without requesting a token: it is a courtesy, and its result is ignored. Returns
    /// whether nothing is left to do: it isn't sent to a host in trouble.
    pub(crate) async fn give_up(&self, request: &Request) -> bool {
        let Some(header) = self.auth.cached_manifest(request).await else { return true };
        let sent = self.transport.exchange(request, header).await;
        !sent.is_err_and(|error| error.kind() == Kind::Interrupted)
    }

    /// Sends `request` once, with a streamed body of `size` bytes.
    ///
    /// # Errors
    /// See [`UploadError`].
    pub(crate) async fn upload(&self, request: &Request, body: upload::Body, size: u64) -> Result<Answer, UploadError> {
        let nothing_sent = |error| UploadError::Host { error: self.about_account(error), all_sent: false };
        let authorization = self.auth.authorize(request).await.map_err(nothing_sent)?;
        let progress = Progress::new();
        let outgoing = Outgoing { body, size, progress: Arc::clone(&progress) };
        let outcome = self.transport.upload(request, authorization.header.clone(), outgoing).await;
        if let Some(error) = progress.failed() {
            return Err(UploadError::Body(error));
        }
        let failed = |error| UploadError::Host { error, all_sent: progress.handed() >= size };
        let answer = match outcome {
            Ok(answer) => answer,
            Err(error) => {
                authorization.unanswered();
                return Err(failed(error));
            }
        };
        if let Some(error) = self.lacks_project(request, &answer) {
            authorization.accepted();
            return Err(failed(error));
        }
        if !refuses_us(&answer) {
            authorization.accepted();
            return answer.check(request).map_err(failed);
        }
        let (meaning, again) = self.auth.refused(authorization, request, &answer).await.map_err(failed)?;
        let error = match again {
            // The body is consumed, but a new upload will use new credentials.
            true => {
                request.error(Kind::Unavailable, "its credentials are refused now").with_status(answer.status.as_u16())
            }
            false => self.refusal(request, &answer, meaning).await,
        };
        Err(failed(error))
    }
}

/// 401 from the registry itself, or 403, which ECR answers to an expired token.
fn refuses_us(answer: &Answer) -> bool {
    let expired = || String::from_utf8_lossy(&answer.body).contains("authorization token has expired");
    match answer.status.as_u16() {
        401 => !answer.foreign,
        403 => !answer.foreign && expired(),
        _ => false,
    }
}

/// The statuses with which registries hide content from anonymous clients.
fn may_hide(answer: &Answer) -> bool {
    matches!(answer.status.as_u16(), 403 | 404) && !answer.foreign
}

/// Whether a 400 may be about the token: it names no other cause, like every answer to a HEAD.
fn may_mean_stale(answer: &Answer) -> bool {
    let said = String::from_utf8_lossy(&answer.body);
    answer.status == 400 && !answer.foreign && (said.is_empty() || said.contains("Authorization Token is invalid"))
}
