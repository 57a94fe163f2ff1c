//! What may be shown of a request and its answer in the log: nothing that is a secret, or may hold one.

use reqwest::header::HeaderMap;
use url::Url;

/// Query keys of ours, which hold no secret; everything else does, or may.
const QUERY_KEYS: &[&str] = &["n", "last", "digest", "mount", "from", "service", "scope", "project_name"];

/// A URL without user and without any query value that isn't known to be harmless; none is on a host that isn't the
/// registry's own.
pub(crate) fn url(url: &Url, own: bool) -> String {
    let mut shown = url.clone();
    // A URL without host can't carry either, and none of those is sent.
    let _ = shown.set_username("");
    let _ = shown.set_password(None);
    let kept: Vec<_> = url.query_pairs().filter(|(key, _)| own && QUERY_KEYS.contains(&key.as_ref())).collect();
    shown.set_query(None);
    if !kept.is_empty() {
        shown.query_pairs_mut().extend_pairs(kept);
    }
    shown.into()
}

/// Headers of answers whose values are of use and never a secret. Of all others only the name is shown.
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

/// Writes the headers of an answer to the log.
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

#[cfg(test)]
mod tests {
    use super::*;

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
