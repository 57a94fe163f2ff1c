//! Redacts requests, answers, and the output of other programs: secrets are never displayed or logged.

use std::sync::LazyLock;

use http::header::HeaderMap;
use regex::Regex;
use url::Url;

use crate::terminal::escape;

/// Query keys that contain no secret; all others do, or may.
const QUERY_KEYS: &[&str] = &["n", "last", "digest", "mount", "from", "service", "scope", "project_name"];

/// A URL without the user, and without query values that aren't known to be harmless; on a foreign host none is.
pub(crate) fn url(url: &Url, own: bool) -> String {
    let mut shown = url.clone();
    // A URL without a host has neither, and is never used.
    let _ = shown.set_username("");
    let _ = shown.set_password(None);
    let kept: Vec<_> = url.query_pairs().filter(|(key, _)| own && QUERY_KEYS.contains(&key.as_ref())).collect();
    shown.set_query(None);
    if !kept.is_empty() {
        shown.query_pairs_mut().extend_pairs(kept);
    }
    shown.into()
}

/// The host and port of a URL.
pub(crate) fn place(url: &Url) -> String {
    let port = url.port_or_known_default().map(|port| format!(":{port}"));
    format!("{}{}", url.host_str().unwrap_or_default(), port.unwrap_or_default())
}

/// Headers whose values are useful and never secret. For all others only the name is shown.
const HEADERS: &[&str] = &[
    "accept-ranges",
    "connection",
    "content-encoding",
    "content-length",
    "content-range",
    "content-type",
    "date",
    "docker-content-digest",
    "docker-distribution-api-version",
    "oci-chunk-min-length",
    "oci-filters-applied",
    "oci-subject",
    "oci-tag",
    "range",
    "ratelimit-limit",
    "ratelimit-remaining",
    "retry-after",
    "server",
    "transfer-encoding",
    "via",
    "www-authenticate",
];

/// Logs the headers of an answer.
pub(crate) fn trace(headers: &HeaderMap) {
    if !tracing::enabled!(tracing::Level::TRACE) {
        return;
    }
    for (name, value) in headers {
        let is_known = HEADERS.contains(&name.as_str());
        let shown =
            if is_known { String::from_utf8_lossy(value.as_bytes()).escape_debug().to_string() } else { "…".into() };
        tracing::trace!(header = %name, value = %shown, "answer");
    }
}

/// Patterns of secrets in the output of other programs, and their replacements.
static SECRETS: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
    let rows = [
        // A user and a password in a URL.
        (r"(?i)([a-z][a-z0-9+.-]*://)[^/\s@]+@", "$1…@"),
        (r"(?i)\b(bearer|basic)\s+[a-z0-9._~+/=-]{6,}", "$1 …"),
        // A value after a name such as `access_token`: quoted, or up to its end.
        (
            r#"(?i)([a-z0-9_-]*(?:passw(?:or)?d|passphrase|pwd|secret|token|auth(?:orization)?|api[_-]?key|access[_-]?key(?:[_-]?id)?|signature)["']?\s*[:=]\s*)("[^"]*"?|'[^']*'?|[^\s"',;&}]+)"#,
            "$1…",
        ),
        (r"\beyJ[A-Za-z0-9_-]{6,}(?:\.[A-Za-z0-9_-]*)*", "…"),
        (r"\b(?:gh[a-z]_|github_pat_|glpat-|dckr_pat_|dckr_oat_|xox[a-z]-|AKIA|ASIA)[A-Za-z0-9_-]{6,}", "…"),
        // Long and uninterrupted: not a word.
        (r"[A-Za-z0-9+_=-]{40,}", "…"),
    ];
    rows.into_iter().filter_map(|(pattern, shown)| Some((Regex::new(pattern).ok()?, shown))).collect()
});

/// The output of another program, on one line and with secrets removed.
pub(crate) fn redacted(text: &str) -> String {
    let redacted =
        SECRETS.iter().fold(text.to_owned(), |text, (secret, shown)| secret.replace_all(&text, *shown).into_owned());
    escape(&redacted).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_that_looks_like_a_secret_is_redacted() {
        for (text, shown) in [
            ("no keychain here", "no keychain here"),
            ("error getting credentials for \"h.io\"", "error getting credentials for \"h.io\""),
            ("get https://me:hunter2@h.io/v2/: 401", "get https://…@h.io/v2/: 401"),
            ("get https://token@h.io:5000/", "get https://…@h.io:5000/"),
            (
                r#"{"ServerURL":"h.io","Username":"u","Secret":"hunter 2"}"#,
                r#"{"ServerURL":"h.io","Username":"u","Secret":…}"#,
            ),
            ("password=hunter2, user=u", "password=…, user=u"),
            ("AWS_SECRET_ACCESS_KEY=abc/def", "AWS_SECRET_ACCESS_KEY=…"),
            ("aws_session_token: 'a b'", "aws_session_token: …"),
            ("Authorization: Basic dTpwdw==", "Authorization: … …"),
            ("sent Bearer abc.def-ghi", "sent Bearer …"),
            ("token eyJhbGciOi.eyJzdWIi.c2ln was refused", "token … was refused"),
            ("ghp_0123456789abcdef expired", "… expired"),
            ("?X-Amz-Signature=0123&x=1", "?X-Amz-Signature=…&x=1"),
            ("0123456789012345678901234567890123456789", "…"),
            ("a\u{1b}[2J\r\n\t\u{202e}é", "a\\u{1b}[2J\\r\\n\\t\\u{202e}é"),
        ] {
            assert_eq!(redacted(text), shown);
        }
        assert_eq!(SECRETS.len(), 6, "all are patterns");
    }

    #[test]
    fn urls_are_shown_without_secrets() {
        for (text, own, shown) in [
            ("https://u:p@h/v2/a?n=1000&last=x", true, "https://h/v2/a?n=1000&last=x"),
            ("https://h/v2/a/blobs/uploads/1?_state=secret&digest=d", true, "https://h/v2/a/blobs/uploads/1?digest=d"),
            ("https://cdn/blob?X-Amz-Signature=s&n=1", false, "https://cdn/blob"),
        ] {
            assert_eq!(url(&text.parse().unwrap(), own), shown);
        }
    }
}
