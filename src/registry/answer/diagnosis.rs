//! The kind of a refusal: by the code in its body where that says more than the status, otherwise by the status.

use http::StatusCode;
use http::header::RETRY_AFTER;

use super::Answer;
use super::refusal::Refusal;
use crate::error::Kind;
use crate::registry::action::Action;
use crate::registry::auth::challenge;
use crate::registry::quota::Quota;

impl Answer {
    /// The kind, and the code that determined it.
    pub(super) fn diagnosis(&self, action: Action, refusal: &Refusal) -> (Kind, Option<&'static str>) {
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
    pub(super) fn is_pull_limit(&self, refusal: &Refusal) -> bool {
        let used_up = || {
            self.status == StatusCode::TOO_MANY_REQUESTS
                && !self.headers.contains_key(RETRY_AFTER)
                && Quota::of(&self.headers).is_some_and(|quota| quota.remaining == 0 && quota.window_seconds.is_some())
        };
        self.is_error() && (PULL_LIMIT.iter().any(|text| refusal.lower.contains(text)) || used_up())
    }

    pub(super) fn is_throttled(&self, refusal: &Refusal) -> bool {
        let said = || refusal.codes.iter().any(|code| THROTTLE_CODES.contains(&code.as_str()));
        let written = || THROTTLE_TEXTS.iter().any(|text| refusal.lower.contains(text));
        match self.status.as_u16() {
            429 => true,
            // An answer about credentials or missing content isn't a rate limit.
            401 | 404 => false,
            _ => self.is_error() && (said() || written()),
        }
    }

    pub(super) fn is_error(&self) -> bool {
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
