//! Interprets a registry's answers: their headers, and refusals as errors. `refusal` reads the body of a refusal,
//! `diagnosis` determines the kind of error.

mod diagnosis;
mod refusal;

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::StatusCode;
use http::header::{AsHeaderName, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, LOCATION, RETRY_AFTER};
use url::Url;

use self::refusal::Refusal;
use crate::error::{Error, Kind, Result};
use crate::registry::action::Action;
use crate::registry::admission::pulls::{Budget, Mark};
use crate::registry::net::http::ResponseBody;
use crate::registry::net::shown;
use crate::registry::quota::Quota;
use crate::registry::request::Request;
use crate::retry::LONGEST_PAUSE;

const ENCODED: &str = "a proxy in front of the registry compresses answers, which changes the bytes: turn that off \
    for /v2/ (gzip off in nginx)";

/// `error` about wrong bytes, with the `encoding` that may have changed them.
pub(crate) fn encoded(error: Error, encoding: &str) -> Error {
    let why = format!("{}; the answer was encoded (Content-Encoding: {})", error.why(), encoding.escape_debug());
    error.reclassified(Kind::Mismatch, why).with_hint(ENCODED)
}

/// An answer: a small one with its body, or a bulk one whose body is still to be read.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// The rest of a bulk answer.
    pub(crate) rest: Option<ResponseBody>,
    /// Whether it came from a host other than the registry, after a redirect.
    pub(crate) foreign: bool,
    /// The URL that it came from, the base of relative URLs in it.
    pub(crate) url: Url,
}

impl Answer {
    #[cfg(test)]
    pub(crate) fn of(status: u16, headers: &[(&'static str, &str)], body: &str) -> Self {
        Self {
            status: StatusCode::from_u16(status).unwrap(),
            headers: headers.iter().map(|(k, v)| (k.parse().unwrap(), v.parse().unwrap())).collect(),
            body: Bytes::copy_from_slice(body.as_bytes()),
            rest: None,
            foreign: false,
            url: "https://h.io/v2/".parse().unwrap(),
        }
    }

    /// The name in messages of the host that it came from, if that isn't the registry.
    pub(crate) fn elsewhere(&self) -> Option<String> {
        self.foreign.then(|| shown::place(&self.url))
    }

    /// The text of header `name`, if it is valid text.
    pub(crate) fn header(&self, name: impl AsHeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    pub(crate) fn content_type(&self) -> Option<&str> {
        self.header(CONTENT_TYPE)
    }

    /// The encoding of the body, although none was requested.
    pub(crate) fn encoding(&self) -> Option<&str> {
        self.header(CONTENT_ENCODING).map(str::trim).filter(|text| !matches!(*text, "" | "identity"))
    }

    /// The error `Mismatch` for wrong bytes, with the encoding that may have changed them.
    pub(crate) fn mismatch(&self, request: &Request, why: String) -> Error {
        self.by_encoding(request.error(Kind::Mismatch, why))
    }

    /// `error` about wrong bytes, with the encoding that may have changed them.
    pub(crate) fn by_encoding(&self, error: Error) -> Error {
        match self.encoding() {
            Some(encoding) => encoded(error, encoding),
            None => error,
        }
    }

    /// Whether the answer is a web page, by its content type.
    pub(crate) fn is_web_page(&self) -> bool {
        self.content_type().is_some_and(|text| text.starts_with("text/html")) || self.is_markup()
    }

    /// Whether the body looks like a web page.
    pub(crate) fn is_markup(&self) -> bool {
        self.body.trim_ascii_start().first() == Some(&b'<')
    }

    /// The error `Invalid`, for a body that can't be read.
    pub(crate) fn unreadable(&self, request: &Request, why: impl std::fmt::Display) -> Error {
        let why = match self.is_web_page() {
            true => "the answer is a web page, perhaps of a proxy or a login page".to_owned(),
            false => format!("the answer can't be read: {why}"),
        };
        request.error(Kind::Invalid, why).with_status(self.status.as_u16())
    }

    /// The answer, if it is a success or clearly means that there are no referrers to list.
    ///
    /// # Errors
    /// The registry's refusal, as an error of the right kind.
    pub(crate) fn check(self, request: &Request) -> Result<Self> {
        let tells_absence = request.action == Action::ListReferrers && self.absence().is_some();
        // A web page comes from a proxy, and doesn't show whether the registry has done anything. An empty answer that
        // is only labelled as a page comes from the registry.
        if self.status.is_success() && request.action.traits().writes && self.is_markup() {
            return Err(self.unreadable(request, ""));
        }
        if self.status.is_success() || tells_absence { Ok(self) } else { Err(self.failure(request)) }
    }

    /// The codes of an error envelope, in capitals.
    pub(super) fn codes(&self) -> Vec<String> {
        Refusal::read(self).codes
    }

    /// The registry's message, safe for display.
    pub(crate) fn message(&self) -> String {
        Refusal::read(self).message
    }

    /// The error, if the answer shows that the host itself is in trouble, rather than that the request is wrong.
    pub(super) fn trouble(&self, request: &Request) -> Option<Error> {
        let error = self.failure(request);
        let is_down = matches!(self.status.as_u16(), 502..=504 | 520..=529);
        (error.kind() == Kind::RateLimited || (is_down && error.kind() == Kind::Unavailable)).then_some(error)
    }

    /// Whether it asks to slow down, or reports an exhausted quota, with any status.
    pub(super) fn throttles(&self) -> bool {
        let refusal = Refusal::read(self);
        self.is_throttled(&refusal) || self.is_pull_limit(&refusal)
    }

    /// Passes the quota in the headers to `budget`, for an unmetered request that was sent at `mark`.
    pub(super) fn report_quota(&self, request: &Request, budget: &Budget, mark: Mark) {
        // A 401 is sent to an anonymous client: its numbers aren't those of the account.
        let told = Quota::of(&self.headers).filter(|_| self.status != StatusCode::UNAUTHORIZED);
        if let Some(quota) = told {
            budget.learn(quota, mark, false);
        }
        if let Some(counted) = self.header("docker-ratelimit-source").filter(|_| told.is_some()) {
            budget.counts(counted);
        }
        if request.action == Action::Resolve
            && let Some(error) = self.pull_limit(request)
        {
            budget.exhaust(&error);
        }
    }

    /// The error, if the answer says that a pull quota is used up.
    pub(super) fn pull_limit(&self, request: &Request) -> Option<Error> {
        (self.is_error() && self.is_pull_limit(&Refusal::read(self))).then(|| self.failure(request))
    }

    pub(crate) fn failure(&self, request: &Request) -> Error {
        if let Some(error) = self.unfollowed(request) {
            return error;
        }
        let refusal = Refusal::read(self);
        let (kind, code) = self.diagnosis(request.action, &refusal);
        let error = request
            .error(kind, refusal.message)
            .with_status(self.status.as_u16())
            .with_retry_after(retry_after(&self.headers));
        match code {
            Some(code) => error.with_code(code),
            None => error,
        }
    }

    /// The error for a redirect that isn't followed, because that would change the request.
    fn unfollowed(&self, request: &Request) -> Option<Error> {
        let location = self.header(LOCATION).filter(|_| self.status.is_redirection())?;
        let url = self.url.join(location).ok()?;
        let why = format!("{}: it leads to {}", self.status, shown::url(&url, false));
        let hint = match request.action {
            _ if request.action.is_for_token() => {
                "credentials aren't sent to a redirect: the registry's challenge has to name this URL as realm"
            }
            Action::PushBlob | Action::PushChunk => {
                "a streamed upload can't follow a redirect: set endpoint: of this registry to that address"
            }
            _ => "set endpoint: of this registry to that address, or plain_http: false if only the scheme differs",
        };
        Some(request.error(Kind::Unsupported, why).with_status(self.status.as_u16()).with_hint(hint))
    }
}

/// `Retry-After`: seconds, or an HTTP date.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let asked = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) => LONGEST_PAUSE,
        Err(_) => {
            let until = httpdate::parse_http_date(text).ok()?;
            until.duration_since(SystemTime::now()).unwrap_or_default()
        }
    };
    Some(asked.min(LONGEST_PAUSE))
}

#[cfg(test)]
mod tests;
