//! The only way out: every request to a registry, including token requests and redirects, goes through
//! [`Transport::send`], which waits for admission, counts, sends, logs and reads the answer. Only here do requests
//! wait while a host is in trouble.
//!
//! Redirects are followed here: they lead only where `destination` allows, `Authorization` is sent only to the
//! registry's own scheme, host and port, and a redirected URL, whose query is a signature, is never logged whole.
//! There is no total timeout; `limits.idle_timeout` bounds each silence.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, HeaderValue, LOCATION};
use http::{Method, StatusCode};
use url::Url;

use crate::error::{Error, Kind, Result};
use crate::oci::bounds;
use crate::registry::action::{Action, Traits};
use crate::registry::admission::pulls::Ticket;
use crate::registry::admission::trouble::Trial;
use crate::registry::admission::{Admissions, Paces, Permit};
use crate::registry::answer::{self, Answer};
use crate::registry::counters::Counters;
use crate::registry::net::destination::Home;
use crate::registry::net::failure::{Failure, PROXY_HINT, in_time};
use crate::registry::net::http::{Response, ResponseBody};
use crate::registry::net::setup::Clients;
use crate::registry::net::shown;
use crate::registry::quota::Quota;
use crate::registry::request::Request;
use crate::registry::upload::{self, Outgoing};

const ASTRAY: &str = "nothing was sent there: configure the registry, or the proxy in front of it, to use its \
    external address (X-Forwarded-Proto, X-Forwarded-Host), or set endpoint: or plain_http: for this registry if \
    this is intended";

/// If a request broke off with no more bytes sent than this, the host may never have seen it: sockets buffer as
/// much.
const UNSEEN: u64 = 256 << 10;

/// Sends a registry's requests.
#[derive(Debug)]
pub(crate) struct Transport {
    pub(super) clients: Clients,
    pub(crate) home: Home,
    pub(crate) paces: Paces,
    pub(crate) admissions: Arc<Admissions>,
    pub(crate) counters: Counters,
    pub(crate) idle: Duration,
}

/// The URL and authorization of one hop.
struct Hop<'a> {
    request: &'a Request,
    url: &'a Url,
    authorization: Option<HeaderValue>,
}

/// Why a hop failed.
enum Failed {
    /// The host is in trouble: a retry may help.
    Trouble(Error),
    /// The connection was closed before the host can have seen the request.
    Unseen(Error),
    /// HTTP/2 broke: the request is sent again by HTTP/1.1.
    Downgraded(Error),
    /// Nothing was sent: there is no pull for it.
    Unsent(Error),
    Other(Error),
}

impl Transport {
    /// Sends `request`, following redirects, and reads the answer, except that of a successful bulk request. Waits
    /// while a host is in trouble.
    ///
    /// # Errors
    /// If there is no complete answer. HTTP statuses aren't errors here, except those of trouble.
    pub(crate) async fn exchange(&self, request: &Request, authorization: Option<HeaderValue>) -> Result<Answer> {
        let mut url = request.url.clone();
        for _ in 0..=bounds::REDIRECTS {
            self.check(request, &url)?;
            let authorization = authorization.clone().filter(|_| self.may_authorize(request.action, &url));
            let answer = self.persist(&Hop { request, url: &url, authorization }).await?;
            match self.redirection(request, &url, &answer)? {
                Some(next) => url = next,
                None => return Ok(answer),
            }
        }
        Err(request.error(Kind::Invalid, format!("more than {} redirects", bounds::REDIRECTS)))
    }

    /// Sends `request` once, with a streamed body, and reads the answer. Redirects aren't followed, because the
    /// body is consumed.
    ///
    /// # Errors
    /// As [`Transport::exchange`]; with zero attempts if the host can't have seen the request.
    pub(crate) async fn upload(
        &self,
        request: &Request,
        authorization: Option<HeaderValue>,
        outgoing: Outgoing,
    ) -> Result<Answer> {
        let url = &request.url;
        self.check(request, url)?;
        let progress = Arc::clone(&outgoing.progress);
        let hop =
            Hop { request, url, authorization: authorization.filter(|_| self.may_authorize(request.action, url)) };
        let mut permit = self.admit(&hop, false).await?;
        // It may take hours, so others may test meanwhile whether the host is well.
        permit.let_others_probe();
        match self.send(&hop, Some(outgoing), &mut permit).await {
            Ok(answer) => Ok(answer),
            Err(Failed::Unseen(error)) if progress.handed() <= UNSEEN => Err(error.with_attempts(0)),
            Err(Failed::Trouble(error) | Failed::Unseen(error) | Failed::Downgraded(error)) => {
                // An error of the body itself doesn't count as trouble of this host.
                if progress.failed().is_none() {
                    permit.went_well_until(progress.moved());
                    permit.failed(&error, &self.admissions.subject(request));
                    return Err(error.with_trouble(self.admissions.patience_with_one()));
                }
                Err(error)
            }
            Err(Failed::Other(error) | Failed::Unsent(error)) => Err(error),
        }
    }

    /// Returns as soon as the registry is in trouble.
    pub(crate) async fn in_trouble(&self) {
        self.admissions.of(&self.home.base).in_trouble().await;
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

    /// Token requests are authorized at the (checked) realm, all others only at the registry itself.
    fn may_authorize(&self, action: Action, url: &Url) -> bool {
        action.is_for_token() || self.is_own(url)
    }

    async fn admit(&self, hop: &Hop<'_>, met: bool) -> Result<Permit> {
        let Request { action, repository, waits, .. } = hop.request;
        let action = *action;
        if self.is_own(hop.url) {
            self.paces.wait(action).await;
        }
        let admission = self.admissions.of(hop.url);
        if *waits {
            admission.admit(action, repository, met).await
        } else {
            admission.admit_now(action, repository).await
        }
    }

    /// One hop, repeated while its host is in trouble, unless it doesn't wait. A request that fails repeatedly
    /// while the host serves others has separate pauses, and fails alone.
    async fn persist(&self, hop: &Hop<'_>) -> Result<Answer> {
        let admission = self.admissions.of(hop.url);
        let (subject, backoff) = (self.admissions.subject(hop.request), self.admissions.backoff());
        let (mut attempts, mut pauses) = (0, backoff.pauses());
        // The time of its first failure, and the number of the host's answers until then.
        let mut met = None;
        let mut may_be_unseen = admission.answers() > 0;
        loop {
            let mut permit = self.admit(hop, met.is_some()).await?;
            attempts += 1;
            let error = match self.send(hop, None, &mut permit).await {
                Ok(answer) => return Ok(answer),
                Err(Failed::Other(error)) => return Err(error.with_attempts(attempts)),
                Err(Failed::Unsent(error)) => return Err(error.with_attempts(attempts - 1)),
                // This isn't trouble of the host, and can't recur: HTTP/2 isn't used any more.
                Err(Failed::Downgraded(_)) => {
                    attempts -= 1;
                    continue;
                }
                // A server may close an idle connection just as it is reused.
                Err(Failed::Unseen(_)) if std::mem::take(&mut may_be_unseen) => {
                    attempts -= 1;
                    continue;
                }
                Err(Failed::Trouble(error) | Failed::Unseen(error)) => error,
            };
            let (since, answers) = *met.get_or_insert_with(|| (Instant::now(), admission.answers()));
            let is_alone = permit.failed(&error, &subject) == Trial::Alone;
            let others_are_served = admission.answers() > answers;
            let is_enough = attempts >= backoff.attempts && since.elapsed() >= self.admissions.patience_with_one();
            let fails_alone = is_alone || !hop.request.waits || others_are_served && is_enough;
            if fails_alone || hop.request.action == Action::AbandonUpload {
                return Err(error.with_attempts(attempts).as_final());
            }
            // Other answers have ended the trouble, but not for this request.
            if others_are_served && !admission.is_given_up() {
                tokio::time::sleep(pauses.next().unwrap_or_default()).await;
            }
        }
    }

    /// One request and its answer.
    async fn send(&self, hop: &Hop<'_>, outgoing: Option<Outgoing>, permit: &mut Permit) -> Result<Answer, Failed> {
        let ticket = self.begin(hop).map_err(Failed::Unsent)?;
        let response = self.head(hop, outgoing, permit.within()).await;
        let response = response.inspect_err(|_| ticket.into_iter().for_each(Ticket::unanswered))?;
        let (request, status) = (hop.request, response.status());
        if status == StatusCode::PROXY_AUTHENTICATION_REQUIRED {
            let refused =
                request.error(Kind::Configuration, "the proxy requires a user and a password, or rejects them");
            return Err(Failed::Other(refused.with_status(status.as_u16()).with_hint(PROXY_HINT)));
        }
        if self.is_own(hop.url) {
            self.learn(&response);
        }
        let may_be_trouble = status.is_client_error() || status.is_server_error();
        if !may_be_trouble {
            permit.answered();
        }
        let quota = Quota::of(response.headers());
        let answer = self.read(hop, response).await;
        match ticket {
            Some(ticket) if status == StatusCode::UNAUTHORIZED => ticket.unanswered(),
            Some(ticket) => {
                let refused = answer.as_ref().ok().and_then(|answer| answer.pull_limit(request));
                ticket.answered(quota, refused.as_ref());
            }
            None => {}
        }
        let answer = answer.map_err(Failed::Other)?;
        if may_be_trouble {
            if let Some(error) = answer.trouble(request) {
                return Err(Failed::Trouble(error));
            }
            permit.answered();
        }
        Ok(answer)
    }

    /// One request and the head of its answer; `within` limits how long a probe waits.
    async fn head(
        &self,
        hop: &Hop<'_>,
        outgoing: Option<Outgoing>,
        within: Option<Duration>,
    ) -> Result<Response, Failed> {
        let Hop { request, url, authorization } = hop;
        let Traits { method, bulk, .. } = request.action.traits();
        let own = self.is_own(url);
        if own {
            self.counters.sent(request.action);
        }
        let client = self.clients.to(url, bulk).map_err(Failed::Other)?;
        let authorization = authorization.as_ref();
        let started = Instant::now();
        let idle = within.map_or(self.idle, |within| within.min(self.idle));
        let sent = match outgoing {
            Some(outgoing) => {
                let mut headers = request.headers.clone();
                headers.insert(CONTENT_LENGTH, outgoing.size.into());
                let send = |body| client.stream(&method, url, &headers, authorization, body);
                upload::send(outgoing, self.idle, send).await
            }
            None => in_time(idle, client.send(&method, url, &request.headers, authorization, &request.body)).await,
        };
        let shown = || shown::url(url, own);
        let response = match sent {
            Ok(response) => response,
            Err(failure) => {
                tracing::debug!(method = %method, url = %shown(), error = %failure.why(), "no answer");
                let (is_unseen, is_of_http2) = (failure.is_closed_before_answer(), failure.is_of_http2());
                let error = failure.on(&self.clients.way(url), request);
                if is_of_http2 {
                    self.clients.avoid_http2();
                    return Err(Failed::Downgraded(error));
                }
                return Err(no_answer(error, is_unseen));
            }
        };
        let milliseconds = started.elapsed().as_millis();
        tracing::debug!(method = %method, url = %shown(), status = response.status().as_u16(), milliseconds, "request");
        shown::trace(response.headers());
        Ok(response)
    }

    /// The ticket of a pull that is about to be sent, counted as one pull. Redirects of it don't cost another one.
    fn begin<'a>(&self, hop: &Hop<'a>) -> Result<Option<&'a Ticket>> {
        let Hop { request, url, .. } = hop;
        if request.action != Action::PullManifest || **url != request.url {
            return Ok(None);
        }
        let Some(ticket) = &request.ticket else {
            return Err(request.error(Kind::Invalid, "a manifest is pulled without a ticket: this is a defect"));
        };
        ticket.begin(&request.attempted).map(|()| Some(ticket))
    }

    /// Learns from the head of an answer what applies to all requests.
    fn learn(&self, response: &Response) {
        if response.is_http2() {
            self.clients.record_http2();
        }
        let status = response.status();
        let asks_to_wait = answer::retry_after(response.headers()).is_some();
        if status == StatusCode::TOO_MANY_REQUESTS || status == StatusCode::SERVICE_UNAVAILABLE && asks_to_wait {
            self.counters.throttled();
        }
    }

    fn redirection(&self, request: &Request, from: &Url, answer: &Answer) -> Result<Option<Url>> {
        let method = request.action.traits().method;
        let follows = match answer.status.as_u16() {
            // GHCR's answer if it has no referrers API: it redirects to a web page.
            303 if request.action == Action::ListReferrers => false,
            301..=303 => matches!(method, Method::GET | Method::HEAD),
            307 | 308 => true,
            _ => false,
        };
        if !follows || request.action.is_for_token() {
            return Ok(None);
        }
        let Some(location) = answer.headers.get(LOCATION).and_then(|value| value.to_str().ok()) else {
            return Ok(None);
        };
        let next = from.join(location).map_err(|_| request.error(Kind::Invalid, "it redirects to an invalid URL"))?;
        Ok(Some(self.home.settle_redirect(from, next)))
    }

    async fn read(&self, hop: &Hop<'_>, response: Response) -> Result<Answer> {
        let (request, url) = (hop.request, hop.url);
        let status = response.status();
        let (headers, rest) = response.into_parts();
        let foreign = !request.action.is_for_token() && !self.is_own(url);
        let mut answer = Answer { status, headers, body: Bytes::new(), rest: None, foreign, url: url.clone() };
        if status.is_success() && request.action == Action::PullBlob {
            answer.rest = Some(rest);
            return Ok(answer);
        }
        let (limit, name) = if status.is_success() { request.limit } else { (bounds::ERROR_BODY, "") };
        let (body, whole) = match self.collect(request, rest, limit).await {
            Ok(collected) => collected,
            // The status is enough.
            Err(_) if !status.is_success() => (Bytes::new(), true),
            Err(error) => return Err(error),
        };
        if !whole && status.is_success() {
            let why = format!("the answer is larger than the {limit} bytes of {name}");
            return Err(request.error(Kind::Unsupported, why).with_status(status.as_u16()));
        }
        answer.body = body;
        Ok(answer)
    }

    /// The body, up to `limit` bytes, and whether it is complete.
    async fn collect(&self, request: &Request, mut rest: ResponseBody, limit: u64) -> Result<(Bytes, bool)> {
        let mut body = BytesMut::new();
        let broken = |failure: Failure| {
            if failure.is_of_http2() {
                self.clients.avoid_http2();
            }
            failure.into_error(request)
        };
        while let Some(chunk) = in_time(self.idle, rest.chunk()).await.map_err(broken)? {
            let room = usize::try_from(limit).unwrap_or(usize::MAX).saturating_sub(body.len());
            body.extend_from_slice(&chunk[..chunk.len().min(room)]);
            if chunk.len() > room {
                return Ok((body.freeze(), false));
            }
        }
        Ok((body.freeze(), true))
    }
}

fn no_answer(error: Error, is_unseen: bool) -> Failed {
    match error.kind() {
        Kind::Unavailable if is_unseen => Failed::Unseen(error),
        Kind::Unavailable => Failed::Trouble(error),
        _ => Failed::Other(error),
    }
}
