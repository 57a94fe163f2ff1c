//! The one way out: every request to a registry, token requests and hops of redirects included, goes through
//! [`Transport::hop`], which waits for admission, counts, sends, logs and reads the headers.
//!
//! Redirects are ours: `Authorization` stays with the registry's own scheme, host and port, and a redirected URL, whose
//! query is a signature, is never shown whole. No total timeout; `limits.idle_timeout` bounds each silence.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue, LOCATION};
use reqwest::{Method, StatusCode};
use url::Url;

use super::admit::{Admission, Permit};
use super::answer::{self, Answer};
use super::auth::Scopes;
use super::counters::Counters;
use super::retry::Backoff;
use super::setup::Clients;
use super::shown;
use super::upload::{self, Outgoing};
use crate::error::{Error, Kind, Result};

const MOST_REDIRECTS: usize = 10;

/// As much of an error's body as is read, in bytes.
const ERROR_BODY: u64 = 64 << 10;

/// What a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Resolve,
    PullManifest,
    PullBlob,
    FindBlob,
    ListTags,
    ListReferrers,
    PushManifest,
    OpenUpload,
    PushBlob,
    PushChunk,
    AbandonUpload,
    MountBlob,
    GetToken,
    RefreshToken,
    /// The base of the API: answered with success to whoever is signed in.
    Ping,
    /// Of Harbor, whose API wants the credentials themselves and takes no token.
    ShowProject,
    FindProject,
    CreateProject,
}

/// What is peculiar to an action.
pub(crate) struct Traits {
    pub(crate) method: Method,
    /// What is done, and the word between its object and the repository.
    pub(crate) words: (&'static str, &'static str),
    /// A blob's bytes are in the body, of whichever direction.
    pub(crate) bulk: bool,
    /// Needs the right to push.
    pub(crate) writes: bool,
}

impl Action {
    /// Goes to a token service, which is often another host.
    pub(crate) const fn is_for_token(self) -> bool {
        matches!(self, Self::GetToken | Self::RefreshToken)
    }

    /// Goes to Harbor's API beside the registry's.
    pub(crate) const fn is_about_project(self) -> bool {
        matches!(self, Self::ShowProject | Self::FindProject | Self::CreateProject)
    }

    pub(crate) const fn traits(self) -> Traits {
        const fn of(method: Method, words: (&'static str, &'static str), bulk: bool, writes: bool) -> Traits {
            Traits { method, words, bulk, writes }
        }
        match self {
            Self::Resolve => of(Method::HEAD, ("resolve", "in"), false, false),
            Self::PullManifest => of(Method::GET, ("get manifest", "from"), false, false),
            Self::PullBlob => of(Method::GET, ("get blob", "from"), true, false),
            Self::FindBlob => of(Method::HEAD, ("look for blob", "in"), false, false),
            Self::ListTags => of(Method::GET, ("list tags", "of"), false, false),
            Self::ListReferrers => of(Method::GET, ("list referrers", "in"), false, false),
            Self::PushManifest => of(Method::PUT, ("push manifest", "to"), false, true),
            Self::OpenUpload => of(Method::POST, ("open an upload", "to"), false, true),
            Self::PushBlob => of(Method::PUT, ("push blob", "to"), true, true),
            Self::PushChunk => of(Method::PATCH, ("push a chunk of blob", "to"), true, true),
            Self::AbandonUpload => of(Method::DELETE, ("give an upload up", "to"), false, true),
            Self::MountBlob => of(Method::POST, ("mount blob", "in"), false, true),
            Self::GetToken => of(Method::GET, ("get a token", "for"), false, false),
            Self::RefreshToken => of(Method::POST, ("get a token", "for"), false, false),
            Self::Ping => of(Method::GET, ("log in", "to"), false, false),
            Self::ShowProject => of(Method::GET, ("look at", "at"), false, false),
            Self::FindProject => of(Method::HEAD, ("look for", "at"), false, false),
            Self::CreateProject => of(Method::POST, ("create", "at"), false, true),
        }
    }
}

/// A request: what for, where to, with what.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) action: Action,
    /// A verb and its object, for messages.
    pub(crate) attempted: String,
    pub(crate) url: Url,
    pub(crate) headers: HeaderMap,
    pub(crate) scopes: Scopes,
    /// The repository's path, by which credentials are chosen.
    pub(crate) repository: String,
    pub(crate) body: Bytes,
    /// The largest answer that is taken, in bytes, and what sets it.
    pub(crate) limit: (u64, &'static str),
}

impl Request {
    pub(crate) fn error(&self, kind: Kind, why: impl Into<String>) -> Error {
        Error::new(kind, &self.attempted, why)
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
        }
    }
}

/// What sends a host's requests.
#[derive(Debug)]
pub(crate) struct Transport {
    pub(super) clients: Clients,
    /// What the registry's URLs begin with.
    pub(crate) base: Url,
    pub(crate) admission: Admission,
    pub(crate) counters: Counters,
    pub(crate) backoff: Backoff,
    pub(crate) idle: Duration,
}

impl Transport {
    /// Sends `request` once, following redirects, and reads the answer unless it is a successful bulk one.
    ///
    /// # Errors
    /// If there is no whole answer. An HTTP status of whatever kind isn't an error here.
    pub(crate) async fn exchange(&self, request: &Request, authorization: Option<HeaderValue>) -> Result<Answer> {
        let mut url = request.url.clone();
        for _ in 0..=MOST_REDIRECTS {
            let own = authorization.clone().filter(|_| self.may_authorize(request.action, &url));
            let (response, permit) = self.hop(request, &url, own, None).await?;
            match self.redirection(request, &url, &response)? {
                Some(next) => url = next,
                None => return self.read(request, &url, response, permit).await,
            }
        }
        Err(request.error(Kind::Invalid, format!("more than {MOST_REDIRECTS} redirects")))
    }

    /// Sends `request` with a body that streams, once, and reads the answer. No redirect is followed: the body is gone.
    pub(crate) async fn upload(
        &self,
        request: &Request,
        authorization: Option<HeaderValue>,
        outgoing: Outgoing,
    ) -> Result<Answer> {
        let own = authorization.filter(|_| self.may_authorize(request.action, &request.url));
        let (response, permit) = self.hop(request, &request.url, own, Some(outgoing)).await?;
        self.read(request, &request.url, response, permit).await
    }

    fn is_own(&self, url: &Url) -> bool {
        url.origin() == self.base.origin()
    }

    /// Tokens are fetched wherever the (checked) realm is, everything else is for the registry alone.
    fn may_authorize(&self, action: Action, url: &Url) -> bool {
        action.is_for_token() || self.is_own(url)
    }

    /// One request and its answer's head.
    async fn hop(
        &self,
        request: &Request,
        url: &Url,
        authorization: Option<HeaderValue>,
        outgoing: Option<Outgoing>,
    ) -> Result<(reqwest::Response, Permit)> {
        let traits = request.action.traits();
        let own = self.is_own(url);
        let permit = if own { self.admission.admit(request.action, traits.bulk).await } else { None };
        if own {
            self.counters.sent(request.action);
        }
        let mut builder =
            self.clients.to(url)?.request(traits.method.clone(), url.clone()).headers(request.headers.clone());
        if let Some(value) = authorization {
            builder = builder.header(AUTHORIZATION, value);
        }
        let started = Instant::now();
        let sent = match outgoing {
            Some(outgoing) => upload::send(builder, outgoing, self.idle).await,
            None if request.body.is_empty() => in_time(self.idle, builder.send()).await,
            None => in_time(self.idle, builder.body(request.body.clone()).send()).await,
        };
        let shown = shown::url(url, own);
        let response = match sent {
            Ok(response) => response,
            Err(failure) => {
                tracing::debug!(method = %traits.method, url = %shown, error = %failure.why(), "no answer");
                return Err(failure.into_error(request));
            }
        };
        let milliseconds = started.elapsed().as_millis();
        tracing::debug!(method = %traits.method, url = %shown, status = response.status().as_u16(), milliseconds, "request");
        shown::trace(response.headers());
        if response.status() == StatusCode::PROXY_AUTHENTICATION_REQUIRED {
            let refused = request.error(Kind::Configuration, "the proxy wants a user and a password, or others");
            return Err(refused.with_status(response.status().as_u16()).with_hint(PROXY_HINT));
        }
        if own {
            self.learn(&response);
        }
        Ok((response, permit))
    }

    /// Takes from an answer's head what is of use to all requests.
    fn learn(&self, response: &reqwest::Response) {
        let status = response.status();
        let quota = answer::quota(response.headers());
        // A 401 is for nobody in particular: its numbers aren't ours.
        if status != StatusCode::UNAUTHORIZED
            && let Some(quota) = quota
        {
            self.counters.learn(quota);
        }
        if status == StatusCode::TOO_MANY_REQUESTS {
            self.counters.throttled();
        }
        if matches!(status.as_u16(), 429 | 503)
            && let Some(pause) = answer::retry_after(response.headers())
        {
            // A longer one ends the request that met it; the others see for themselves.
            if pause <= self.backoff.longest_asked {
                self.admission.pause(pause);
            }
        }
    }

    fn redirection(&self, request: &Request, from: &Url, response: &reqwest::Response) -> Result<Option<Url>> {
        let method = request.action.traits().method;
        let follows = match response.status().as_u16() {
            // GHCR's way to say that it has no referrers API: what it leads to is a page for people.
            303 if request.action == Action::ListReferrers => false,
            301..=303 => matches!(method, Method::GET | Method::HEAD),
            307 | 308 => true,
            _ => false,
        };
        if !follows || request.action.is_for_token() {
            return Ok(None);
        }
        let Some(location) = response.headers().get(LOCATION).and_then(|value| value.to_str().ok()) else {
            return Ok(None);
        };
        let next = from.join(location).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        next.map(Some).ok_or_else(|| request.error(Kind::Invalid, "it redirects to what is no URL"))
    }

    async fn read(&self, request: &Request, url: &Url, response: reqwest::Response, permit: Permit) -> Result<Answer> {
        let (status, headers) = (response.status(), response.headers().clone());
        let foreign = !request.action.is_for_token() && !self.is_own(url);
        let mut answer = Answer { status, headers, body: Bytes::new(), rest: None, foreign };
        if status.is_success() && request.action == Action::PullBlob {
            answer.rest = Some(response);
            return Ok(answer);
        }
        let (limit, name) = if status.is_success() { request.limit } else { (ERROR_BODY, "") };
        let (body, whole) = match self.collect(request, response, limit).await {
            Ok(collected) => collected,
            // The status says enough.
            Err(_) if !status.is_success() => (Bytes::new(), true),
            Err(error) => return Err(error),
        };
        if !whole && status.is_success() {
            let why = format!("the answer is larger than the {limit} bytes of {name}");
            return Err(request.error(Kind::Unsupported, why).with_status(status.as_u16()));
        }
        drop(permit);
        answer.body = body;
        Ok(answer)
    }

    /// The body, up to `limit` bytes, and whether that is all of it.
    async fn collect(&self, request: &Request, mut response: reqwest::Response, limit: u64) -> Result<(Bytes, bool)> {
        let mut body = BytesMut::new();
        while let Some(chunk) =
            in_time(self.idle, response.chunk()).await.map_err(|failure| failure.into_error(request))?
        {
            let room = usize::try_from(limit).unwrap_or(usize::MAX).saturating_sub(body.len());
            body.extend_from_slice(&chunk[..chunk.len().min(room)]);
            if chunk.len() > room {
                return Ok((body.freeze(), false));
            }
        }
        Ok((body.freeze(), true))
    }
}

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

const PROXY_HINT: &str = "set proxy: for this registry, from env or file, to a URL with the user and the password";
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
