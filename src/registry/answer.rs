//! What a registry answered: its headers understood, and its refusals as errors.
//!
//! Error bodies follow the distribution specification ("Error Codes"), or are plain text, or a proxy's web page.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use oci_client::errors::OciEnvelope;
use reqwest::StatusCode;
use reqwest::header::{CONTENT_TYPE, HeaderMap, LOCATION, RETRY_AFTER};
use url::Url;

use super::action::{Action, Request};
use super::challenge;
use super::shown;
use crate::error::{Error, Kind, Result};

/// The longest message that is passed on, in characters.
const LONGEST_MESSAGE: usize = 300;

/// A pull quota as a host's `ratelimit-*` headers tell it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// Pulls in a window.
    pub limit: u64,
    /// Pulls left.
    pub remaining: u64,
    /// The length of the window in seconds, where it is told.
    pub window_seconds: Option<u64>,
}

/// A whole answer: a small one with its body read, or a bulk one with its body still to come.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// The rest of a bulk answer.
    pub(crate) rest: Option<reqwest::Response>,
    /// It came from another host than the registry, after a redirect.
    pub(crate) foreign: bool,
    /// The URL that it came from: what it names relatively is relative to that.
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

    /// The text of header `name`, if it is one.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    pub(crate) fn content_type(&self) -> Option<&str> {
        self.header(CONTENT_TYPE.as_str())
    }

    /// Says what came instead where something unreadable came.
    pub(crate) fn is_web_page(&self) -> bool {
        self.content_type().is_some_and(|text| text.starts_with("text/html"))
            || self.body.trim_ascii_start().first() == Some(&b'<')
    }

    /// The error `Invalid`, for a body that can't be read.
    pub(crate) fn unreadable(&self, request: &Request, why: impl std::fmt::Display) -> Error {
        let why = match self.is_web_page() {
            true => "the answer is a web page, perhaps of a proxy or a login".to_owned(),
            false => format!("the answer can't be read: {why}"),
        };
        request.error(Kind::Invalid, why).with_status(self.status.as_u16())
    }

    /// Itself, if it is a success, or the clear word that there are no referrers to list.
    ///
    /// # Errors
    /// What the registry says instead, as an error of the right kind.
    pub(crate) fn check(self, request: &Request) -> Result<Self> {
        let tells_absence = request.action == Action::ListReferrers && self.absence().is_some();
        if self.status.is_success() || tells_absence { Ok(self) } else { Err(self.failure(request)) }
    }

    /// The codes of an error envelope, as they are spelled, in capitals.
    pub(super) fn codes(&self) -> Vec<String> {
        Refusal::read(self).codes
    }

    /// What the registry says, fit to be shown.
    pub(crate) fn message(&self) -> String {
        Refusal::read(self).message
    }

    pub(crate) fn failure(&self, request: &Request) -> Error {
        if let Some(error) = self.unfollowed(request) {
            return error;
        }
        let refusal = Refusal::read(self);
        let (kind, hint) = self.verdict(request.action, &refusal);
        let mut error = request
            .error(kind, refusal.message)
            .with_status(self.status.as_u16())
            .with_retry_after(retry_after(&self.headers));
        if let Some(hint) = hint {
            error = error.with_hint(hint);
        }
        error
    }

    /// The error for a redirect that isn't followed: its request would have to be another one there.
    fn unfollowed(&self, request: &Request) -> Option<Error> {
        let location = self.header(LOCATION.as_str()).filter(|_| self.status.is_redirection())?;
        let url = self.url.join(location).ok()?;
        let why = format!("{}: it leads to {}", self.status, shown::url(&url, false));
        let hint = match request.action {
            _ if request.action.is_for_token() => {
                "credentials don't follow a redirect: have the registry's challenge name this URL as realm"
            }
            Action::PushBlob | Action::PushChunk => {
                "the bytes are on their way by then, and can't be sent twice: set endpoint: of this registry to where it leads"
            }
            _ => {
                "set endpoint: of this registry to where it leads, or plain_http: false if that is the same with https"
            }
        };
        Some(request.error(Kind::Unsupported, why).with_status(self.status.as_u16()).with_hint(hint))
    }

    /// The kind, and a hint that knows more than the kind's.
    fn verdict(&self, action: Action, refusal: &Refusal) -> (Kind, Option<&'static str>) {
        let status = self.status.as_u16();
        // A storage behind the registry refuses what the registry signed: asking the registry again gives a new signature.
        if self.foreign && matches!(status, 400 | 401 | 403) {
            return (Kind::Unavailable, None);
        }
        if status == 401 && challenge::insufficient_scope(&self.headers) {
            return (Kind::Denied, None);
        }
        if status == 429 && self.is_pull_limit(refusal) {
            return (Kind::QuotaExceeded, None);
        }
        let by_code = BY_CODE.iter().find(|row| {
            refusal.codes.iter().any(|code| code == row.code)
                && refusal.lower.contains(row.says)
                && row.action.is_none_or(|wanted| wanted == action)
        });
        // Codes tell more than a 4xx; everything else speaks for itself.
        let kind = match (by_code, status) {
            (Some(row), 400..=428 | 430..=499) if status != 401 => return (row.kind, row.hint),
            (_, 401) => Kind::Unauthorized,
            (_, 403) => Kind::Denied,
            // Nothing of Harbor's answers there: else there were a code.
            (_, 404) if matches!(action, Action::ShowProject | Action::CreateProject) => Kind::Unsupported,
            (_, 404 | 410) => Kind::NotFound,
            (_, 409 | 412) => Kind::Conflict,
            (_, 408 | 500 | 502 | 503 | 504) => Kind::Unavailable,
            (_, 429) => Kind::RateLimited,
            (_, 405 | 413 | 415 | 416 | 501 | 505) => Kind::Unsupported,
            _ => Kind::Invalid,
        };
        (kind, BY_STATUS.iter().find(|(of, _)| *of == status).map(|(_, hint)| *hint))
    }

    /// Docker Hub's pull limit, which no pause of ours outlasts; not its abuse limit, which is a bare 429.
    fn is_pull_limit(&self, refusal: &Refusal) -> bool {
        let used_up = quota(&self.headers).is_some_and(|quota| quota.remaining == 0);
        refusal.lower.contains("reached your pull rate limit")
            || refusal.lower.contains("reached your unauthenticated pull rate limit")
            || (used_up && self.header(RETRY_AFTER.as_str()).is_none())
    }
}

/// A code that tells more than its status; `says` must stand in the message, `action` is what was asked for, if it matters.
struct ByCode {
    code: &'static str,
    says: &'static str,
    action: Option<Action>,
    kind: Kind,
    /// What knows more than the kind's hint.
    hint: Option<&'static str>,
}

const fn row(code: &'static str, says: &'static str, action: Option<Action>, kind: Kind) -> ByCode {
    ByCode { code, says, action, kind, hint: None }
}

impl ByCode {
    const fn hint(self, hint: &'static str) -> Self {
        Self { hint: Some(hint), ..self }
    }
}

/// `reference/registries.md` section C3; the first row that fits counts.
const BY_CODE: &[ByCode] = &[
    row("MANIFEST_BLOB_UNKNOWN", "", Some(Action::PushManifest), Kind::MissingContent),
    row("BLOB_UNKNOWN", "", Some(Action::PushManifest), Kind::MissingContent),
    row("MANIFEST_UNKNOWN", "", Some(Action::PushManifest), Kind::MissingContent),
    row("BLOB_UPLOAD_UNKNOWN", "with digests", Some(Action::PushManifest), Kind::MissingContent),
    row("TAG_INVALID", "immutable", None, Kind::Conflict),
    row("PRECONDITION", "configured as immutable", None, Kind::Conflict)
        .hint("a rule of the project makes the tag immutable: remove the rule or the tag, or set overwrite: keep"),
    row("DENIED", "will exceed the configured upper limit", None, Kind::QuotaExceeded).hint(
        "the project's storage quota is full: have it raised, or delete what is no longer needed and collect garbage",
    ),
    row("DENIED", "read only mode", None, Kind::Denied).hint(
        "the registry is in read-only mode, perhaps for maintenance: run it again later, or have the mode switched off",
    ),
    row("DENIED", "proxy project", None, Kind::Unsupported).hint(PROXY_CACHE),
    row("PROJECTPOLICYVIOLATION", "", None, Kind::Denied).hint(POLICY),
    row("NOT_FOUND", "", Some(Action::ShowProject), Kind::NotFound),
    row("FORBIDDEN", "only system level robot", Some(Action::CreateProject), Kind::Denied)
        .hint("a project's robot creates none: use a system robot, or have the project created beforehand"),
    row("FORBIDDEN", "", Some(Action::CreateProject), Kind::Denied)
        .hint("give the account the system permission to create projects, or have the project created beforehand"),
    row("BAD_REQUEST", "", Some(Action::CreateProject), Kind::Configuration)
        .hint("compare registries.HOST.harbor.create in mirror.yaml with what this Harbor allows"),
    row("BAD_REQUEST", "invalid repository name", None, Kind::Invalid)
        .hint("Harbor wants PROJECT/NAME: name a project in target:, layout: or to:"),
    row("MANIFEST_INVALID", "", Some(Action::PushManifest), Kind::Unsupported)
        .hint("the registry takes no manifest of this kind: leave it out, or mirror it to one that does"),
    row("DENIED", "", None, Kind::Denied),
    row("DIGEST_INVALID", "", None, Kind::Mismatch),
    row("SIZE_INVALID", "", None, Kind::Mismatch),
    row("UNSUPPORTED", "", None, Kind::Unsupported),
    row("NAME_UNKNOWN", "", None, Kind::NotFound)
        .hint("check the spelling of the repository, and that it exists and may be seen"),
    row("BLOB_UPLOAD_UNKNOWN", "", None, Kind::NotFound),
    row("BLOB_UNKNOWN", "", None, Kind::NotFound),
    row("MANIFEST_UNKNOWN", "", None, Kind::NotFound),
];

/// Hints for statuses that come without a code, perhaps from a proxy in front.
const BY_STATUS: &[(u16, &str)] =
    &[(413, "it is too large for the registry, or for a proxy in front of it: have the limit raised there")];

/// Harbor's, both when it says so itself and when its project does.
pub(crate) const PROXY_CACHE: &str =
    "Harbor fills a proxy cache itself and takes no pushes there: name another project in target: or to:";

/// Harbor's, where a project's policy keeps an image from being served.
pub(super) const POLICY: &str =
    "the project's policy (vulnerabilities or signatures) keeps the image from being served: see its configuration";

/// What an error body says.
struct Refusal {
    codes: Vec<String>,
    message: String,
    /// All that was said, in lower case, to look for words in.
    lower: String,
}

impl Refusal {
    fn read(answer: &Answer) -> Self {
        let status = answer.status;
        if answer.is_web_page() {
            let message = format!("the answer is a web page, with status {status}");
            return Self { codes: Vec::new(), lower: message.to_lowercase(), message };
        }
        let text = String::from_utf8_lossy(&answer.body);
        let Some(envelope) = serde_json::from_slice::<OciEnvelope>(&answer.body).ok().filter(|e| !e.errors.is_empty())
        else {
            let said = printable(text.trim());
            let message = if said.is_empty() { status.to_string() } else { format!("{status}: {said}") };
            return Self { codes: Vec::new(), lower: text.to_lowercase(), message };
        };
        // The codes as they are spelled, also those that the enum of oci-client doesn't know.
        let spelled: Option<serde_json::Value> = serde_json::from_slice(&answer.body).ok();
        let code = |i: usize| spelled.as_ref()?["errors"][i]["code"].as_str().map(str::to_ascii_uppercase);
        let codes: Vec<String> = (0..envelope.errors.len()).filter_map(code).collect();
        let each = envelope.errors.iter().enumerate().map(|(i, error)| match (code(i), once(error.message.trim())) {
            (Some(code), "") => code,
            (Some(code), message) => format!("{code} {message}"),
            (None, message) => message.to_owned(),
        });
        // One entry a missing blob makes the same words many times.
        let mut each: Vec<String> = each.collect();
        each.dedup();
        let said = printable(&each.join("; "));
        Self { codes, lower: text.to_lowercase(), message: format!("{status}: {said}") }
    }
}

/// Harbor says some things twice in one message, with a colon between.
fn once(message: &str) -> &str {
    let half = message.len().saturating_sub(2) / 2;
    match (message.get(..half), message.get(half..)) {
        (Some(first), Some(rest)) if rest.strip_prefix(": ") == Some(first) => first,
        _ => message,
    }
}

/// Shortened, and with control characters escaped: what a server says may end up on a terminal.
fn printable(text: &str) -> String {
    let mut shown: String = text
        .chars()
        .take(LONGEST_MESSAGE)
        .flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] })
        .collect();
    if text.chars().nth(LONGEST_MESSAGE).is_some() {
        shown.push('…');
    }
    shown
}

/// `Retry-After`: seconds, or the date of an HTTP clock.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    match text.parse::<u64>() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => {
            let until = httpdate::parse_http_date(text).ok()?;
            Some(until.duration_since(SystemTime::now()).unwrap_or_default())
        }
    }
}

/// `ratelimit-limit: 100;w=21600` and `ratelimit-remaining: 20;w=21600`. Values were seen empty and below zero.
pub(crate) fn quota(headers: &HeaderMap) -> Option<Quota> {
    let read = |name: &str| {
        let text = headers.get(name)?.to_str().ok()?;
        let mut parts = text.split(';').map(str::trim);
        let count = parts.next()?.parse::<i64>().ok()?;
        let window = parts.find_map(|part| part.strip_prefix("w=")?.trim().parse::<u64>().ok());
        Some((u64::try_from(count).unwrap_or(0), window))
    };
    let (limit, window) = read("ratelimit-limit")?;
    let (remaining, own_window) = read("ratelimit-remaining")?;
    Some(Quota { limit, remaining, window_seconds: window.or(own_window) })
}

#[cfg(test)]
mod tests;
