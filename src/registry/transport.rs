//! The one way out: every request to a registry, token requests and hops of redirects included, goes through
//! [`Transport::hop`], which waits for admission, counts, sends, logs and reads the headers.
//!
//! Redirects are ours: they lead where `destination` allows, `Authorization` stays with the registry's own scheme, host and
//! port, and a redirected URL, whose query is a signature, is never shown whole. No total timeout; `limits.idle_timeout` bounds each silence.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use reqwest::header::{AUTHORIZATION, HeaderValue, LOCATION};
use reqwest::{Method, StatusCode};
use url::Url;

use super::action::{Action, Request};
use super::admit::{Admission, Permit};
use super::answer::{self, Answer};
use super::counters::Counters;
use super::destination::Home;
use super::failure::{PROXY_HINT, in_time};
use super::retry::Backoff;
use super::setup::Clients;
use super::shown;
use super::upload::{self, Outgoing};
use crate::error::{Kind, Result};

const MOST_REDIRECTS: usize = 10;

const ASTRAY: &str = "nothing was sent there: have the registry, or the proxy before it, name itself as it is reached from here \
    (X-Forwarded-Proto, X-Forwarded-Host), or set endpoint: or plain_http: for this registry if it is meant so";

/// As much of an error's body as is read, in bytes.
const ERROR_BODY: u64 = 64 << 10;

/// What sends a host's requests.
#[derive(Debug)]
pub(crate) struct Transport {
    pub(super) clients: Clients,
    pub(crate) home: Home,
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
            self.check(request, &url)?;
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
        self.check(request, &request.url)?;
        let own = authorization.filter(|_| self.may_authorize(request.action, &request.url));
        let (response, permit) = self.hop(request, &request.url, own, Some(outgoing)).await?;
        self.read(request, &request.url, response, permit).await
    }

    fn is_own(&self, url: &Url) -> bool {
        self.home.is_own(url)
    }

    /// # Errors
    /// `Denied` if `request` may not go to `url`.
    fn check(&self, request: &Request, url: &Url) -> Result<()> {
        let what = match url == &request.url {
            _ if request.action.is_for_token() => "token realm",
            true => "address for it",
            false => "redirect",
        };
        let refused =
            |why| request.error(Kind::Denied, format!("the registry's {what} {} {why}", shown::url(url, false)));
        self.home.check(url).map_err(|why| refused(why).with_hint(ASTRAY))
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
                return Err(failure.on(&self.clients.way(url), request));
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
        let next = from.join(location).map_err(|_| request.error(Kind::Invalid, "it redirects to what is no URL"))?;
        Ok(Some(self.home.settle_redirect(from, next)))
    }

    async fn read(&self, request: &Request, url: &Url, response: reqwest::Response, permit: Permit) -> Result<Answer> {
        let (status, headers) = (response.status(), response.headers().clone());
        let foreign = !request.action.is_for_token() && !self.is_own(url);
        let mut answer = Answer { status, headers, body: Bytes::new(), rest: None, foreign, url: url.clone() };
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
