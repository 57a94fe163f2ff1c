//! Interprets a registry's answers: their headers, and refusals as errors.
//!
//! Error bodies follow the distribution specification ("Error Codes"), or are plain text, or a proxy's web page.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::StatusCode;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, LOCATION, RETRY_AFTER};
use serde_json::Value;
use url::Url;

use crate::error::{Error, Kind, Result};
use crate::registry::action::Action;
use crate::registry::admission::pulls::{Budget, Mark};
use crate::registry::auth::challenge;
use crate::registry::net::http::Response;
use crate::registry::net::shown;
use crate::registry::quota::Quota;
use crate::registry::request::Request;
use crate::retry::LONGEST_PAUSE;
use crate::terminal::escape;

/// The longest message that is passed on, in characters.
const LONGEST_MESSAGE: usize = 300;

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
    pub(crate) rest: Option<Response>,
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
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    pub(crate) fn content_type(&self) -> Option<&str> {
        self.header(CONTENT_TYPE.as_str())
    }

    /// The encoding of the body, although none was requested.
    pub(crate) fn encoding(&self) -> Option<&str> {
        self.header(CONTENT_ENCODING.as_str()).map(str::trim).filter(|text| !matches!(*text, "" | "identity"))
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

    /// The answer, if it is a success, or says clearly that there are no referrers to list.
    ///
    /// # Errors
    /// The registry's refusal, as an error of the right kind.
    pub(crate) fn check(self, request: &Request) -> Result<Self> {
        let tells_absence = request.action == Action::ListReferrers && self.absence().is_some();
        // A proxy's page doesn't show whether the registry has done anything. A registry that labels an empty
        // answer as a page has.
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
    pub(super) fn tell(&self, request: &Request, budget: &Budget, mark: Mark) {
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
        self.is_pull_limit(&Refusal::read(self)).then(|| self.failure(request))
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
        let location = self.header(LOCATION.as_str()).filter(|_| self.status.is_redirection())?;
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

    /// The kind, and the code that determined it.
    fn diagnosis(&self, action: Action, refusal: &Refusal) -> (Kind, Option<&'static str>) {
        let status = self.status.as_u16();
        // Limits come first: registries report them with many statuses.
        if self.is_pull_limit(refusal) {
            return (Kind::QuotaExceeded, None);
        }
        if self.is_throttled(refusal) {
            return (Kind::RateLimited, None);
        }
        // Storage behind the registry refuses a URL that the registry signed. Asking the registry again gives a new
        // signature. If only HEAD is refused, the signature is for a GET.
        if self.foreign && matches!(status, 400 | 401 | 403) {
            if matches!(action, Action::FindBlob | Action::Resolve) {
                return (Kind::Unsupported, None);
            }
            return (Kind::Unavailable, None);
        }
        if status == 401 && challenge::insufficient_scope(&self.headers) {
            return (Kind::Denied, None);
        }
        let by_code = BY_CODE.iter().find(|row| {
            refusal.codes.iter().any(|code| code == row.code)
                && refusal.lower.contains(row.says)
                && row.action.is_none_or(|wanted| wanted == action)
        });
        // Codes say more than a 4xx; other statuses are clear by themselves.
        let kind = match (by_code, status) {
            (Some(row), 400..=499) if status != 401 => return (row.kind, Some(row.code)),
            (_, 401) => Kind::Unauthorized,
            (_, 403) => Kind::Denied,
            // Harbor would answer with a code.
            (_, 404) if matches!(action, Action::ShowProject | Action::CreateProject) => Kind::Unsupported,
            (_, 404 | 410) => Kind::NotFound,
            (_, 409 | 412) => Kind::Conflict,
            (_, 408 | 500 | 502..=504 | 507 | 520..=529) => Kind::Unavailable,
            (_, 405 | 413 | 415 | 416 | 501 | 505) => Kind::Unsupported,
            _ => Kind::Invalid,
        };
        (kind, None)
    }

    /// Whether it reports an exhausted pull quota, which no pause of this program outlasts: by its text, or by
    /// headers with a window in which nothing is left. Without a window the headers are a rate limit, and so is a
    /// bare 429.
    fn is_pull_limit(&self, refusal: &Refusal) -> bool {
        let used_up = || {
            self.status == StatusCode::TOO_MANY_REQUESTS
                && !self.headers.contains_key(RETRY_AFTER)
                && Quota::of(&self.headers).is_some_and(|quota| quota.remaining == 0 && quota.window_seconds.is_some())
        };
        self.is_error() && (PULL_LIMIT.iter().any(|text| refusal.lower.contains(text)) || used_up())
    }

    fn is_throttled(&self, refusal: &Refusal) -> bool {
        let said = || refusal.codes.iter().any(|code| THROTTLE_CODES.contains(&code.as_str()));
        let written = || THROTTLE_TEXTS.iter().any(|text| refusal.lower.contains(text));
        match self.status.as_u16() {
            429 => true,
            // Credentials and existence aren't about the pace.
            401 | 404 => false,
            _ => self.is_error() && (said() || written()),
        }
    }

    fn is_error(&self) -> bool {
        self.status.is_client_error() || self.status.is_server_error()
    }
}

/// Messages about a used-up pull quota, in lower case.
const PULL_LIMIT: &[&str] = &["reached your pull rate limit", "reached your unauthenticated pull rate limit"];

/// Codes that ask to slow down, in capitals; the last is from S3 and compatible storage.
const THROTTLE_CODES: &[&str] = &[
    "TOOMANYREQUESTS",
    "TOO_MANY_REQUESTS",
    "TOO_MANY_REQUEST",
    "RATE_LIMITED",
    "RATE_LIMIT_EXCEEDED",
    "RATELIMITEXCEEDED",
    "THROTTLED",
    "THROTTLING",
    "THROTTLINGEXCEPTION",
    "SLOWDOWN",
];

/// Messages that ask to slow down, in lower case.
const THROTTLE_TEXTS: &[&str] =
    &["rate exceeded", "rate limit exceeded", "rate limited", "too many requests", "toomanyrequests", "<code>slowdown"];

/// A code that says more than its status. `says` must occur in the message; `action` is the requested action, if it
/// matters.
struct ByCode {
    code: &'static str,
    says: &'static str,
    action: Option<Action>,
    kind: Kind,
}

const fn row(code: &'static str, says: &'static str, action: Option<Action>, kind: Kind) -> ByCode {
    ByCode { code, says, action, kind }
}

/// The first match counts.
const BY_CODE: &[ByCode] = &[
    row("MANIFEST_BLOB_UNKNOWN", "", Some(Action::PushManifest), Kind::MissingContent),
    row("BLOB_UNKNOWN", "", Some(Action::PushManifest), Kind::MissingContent),
    row("MANIFEST_UNKNOWN", "", Some(Action::PushManifest), Kind::MissingContent),
    row("BLOB_UPLOAD_UNKNOWN", "with digests", Some(Action::PushManifest), Kind::MissingContent),
    row("TAG_INVALID", "immutable", None, Kind::Conflict),
    row("TAG_INVALID", "", None, Kind::Invalid),
    row("PRECONDITION", "configured as immutable", None, Kind::Conflict),
    row("DENIED", "will exceed the configured upper limit", None, Kind::QuotaExceeded),
    row("DENIED", "proxy project", None, Kind::Unsupported),
    row("PROJECTPOLICYVIOLATION", "", None, Kind::Denied),
    row("NOT_FOUND", "", Some(Action::ShowProject), Kind::NotFound),
    row("FORBIDDEN", "", Some(Action::CreateProject), Kind::Denied),
    row("BAD_REQUEST", "", Some(Action::CreateProject), Kind::Configuration),
    row("BAD_REQUEST", "invalid repository name", None, Kind::Invalid),
    row("MANIFEST_INVALID", "", Some(Action::PushManifest), Kind::Unsupported),
    row("DENIED", "", None, Kind::Denied),
    row("UNAUTHORIZED", "", None, Kind::Unauthorized),
    row("DIGEST_INVALID", "", None, Kind::Mismatch),
    row("SIZE_INVALID", "", None, Kind::Mismatch),
    row("UNSUPPORTED", "", None, Kind::Unsupported),
    row("NAME_INVALID", "", None, Kind::Invalid),
    row("NAME_UNKNOWN", "", None, Kind::NotFound),
    row("BLOB_UPLOAD_UNKNOWN", "", None, Kind::NotFound),
    row("BLOB_UNKNOWN", "", None, Kind::NotFound),
    row("MANIFEST_UNKNOWN", "", None, Kind::NotFound),
];

/// The contents of an error body.
struct Refusal {
    codes: Vec<String>,
    message: String,
    /// The whole text in lower case, for searching.
    lower: String,
}

impl Refusal {
    fn read(answer: &Answer) -> Self {
        let status = answer.status;
        let text = String::from_utf8_lossy(&answer.body);
        let lower = text.to_lowercase();
        if answer.is_web_page() {
            return Self {
                codes: Vec::new(),
                lower,
                message: format!("the answer is a web page, with status {status}"),
            };
        }
        let body: Option<Value> = serde_json::from_slice(&answer.body).ok();
        let entries: Vec<&Value> = match body.as_ref().map(|body| &body["errors"]) {
            Some(Value::Array(entries)) => entries.iter().collect(),
            Some(Value::Null) | None => body.iter().filter(|body| body.is_object()).collect(),
            Some(one) => vec![one],
        };
        // Verbatim, including codes that no specification defines.
        let code = |entry: &Value| entry["code"].as_str().map(str::to_ascii_uppercase);
        let codes = entries.iter().filter_map(|entry| code(entry)).collect();
        // With one entry for each missing blob, the same words occur many times.
        let mut each: Vec<String> = entries.iter().map(|entry| words(code(entry), entry)).collect();
        each.retain(|words| !words.is_empty());
        each.dedup();
        let said = match each.is_empty() {
            true => printable(text.trim()),
            false => printable(&each.join("; ")),
        };
        let message = if said.is_empty() { status.to_string() } else { format!("{status}: {said}") };
        Self { codes, lower, message }
    }
}

/// The code, message and reason in one entry of an error body; the reason is often only in `detail`.
fn words(code: Option<String>, entry: &Value) -> String {
    let told = entry["message"].as_str().map_or("", |told| once(told.trim()));
    let mut words: Vec<String> = code.into_iter().collect();
    words.extend(Some(told.to_owned()).filter(|told| !told.is_empty()));
    let mut words = words.join(" ");
    for detail in DETAILS.iter().filter(|name| **name != "message").filter_map(|name| reason(&entry[*name])) {
        if !words.contains(&detail) {
            let between = if words.is_empty() { "" } else { ": " };
            words = format!("{words}{between}{detail}");
        }
    }
    words
}

/// Members that contain the reason, in an entry or in its `detail` object.
const DETAILS: &[&str] = &["detail", "details", "reason", "description", "error_description", "error", "message"];

/// The text of a reason: the value itself, the first item of a list, or a usual member of an object.
fn reason(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.trim().to_owned()).filter(|text| !text.is_empty()),
        Value::Array(values) => values.iter().find_map(reason),
        Value::Object(_) => DETAILS.iter().find_map(|name| reason(&value[*name])),
        _ => None,
    }
}

/// Removes a repetition: Harbor repeats some messages after a colon.
fn once(message: &str) -> &str {
    let half = message.len().saturating_sub(2) / 2;
    match (message.get(..half), message.get(half..)) {
        (Some(first), Some(rest)) if rest.strip_prefix(": ") == Some(first) => first,
        _ => message,
    }
}

/// Shortened, and safe for a terminal, because a server's text may be displayed.
fn printable(text: &str) -> String {
    let mut shown = escape(&text.chars().take(LONGEST_MESSAGE).collect::<String>()).into_owned();
    if text.chars().nth(LONGEST_MESSAGE).is_some() {
        shown.push('…');
    }
    shown
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
