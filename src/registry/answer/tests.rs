use super::*;

fn answer(status: u16, headers: &[(&'static str, &str)], body: &str) -> Answer {
    Answer::of(status, headers, body)
}

fn kind(action: Action, status: u16, body: &str) -> Kind {
    answer(status, &[], body).failure(&Request::bare(action)).kind()
}

fn envelope(code: &str, message: &str) -> String {
    format!(r#"{{"errors":[{{"code":"{code}","message":"{message}"}}]}}"#)
}

#[test]
fn statuses_and_codes_have_a_kind() {
    use Action::{PullManifest, PushBlob, PushManifest};
    for (action, status, body, expected) in [
        (PushManifest, 400, envelope("MANIFEST_BLOB_UNKNOWN", "x"), Kind::MissingContent),
        (PushManifest, 404, envelope("MANIFEST_UNKNOWN", "x"), Kind::MissingContent),
        (PullManifest, 404, envelope("MANIFEST_UNKNOWN", "x"), Kind::NotFound),
        (
            PushManifest,
            404,
            envelope("BLOB_UPLOAD_UNKNOWN", "Layers with digests '[x]' required"),
            Kind::MissingContent,
        ),
        (PushBlob, 404, envelope("BLOB_UPLOAD_UNKNOWN", "x"), Kind::NotFound),
        (PushManifest, 400, envelope("TAG_INVALID", "the repository is immutable"), Kind::Conflict),
        (PushManifest, 412, envelope("PRECONDITION", "x"), Kind::Conflict),
        (PushManifest, 413, String::new(), Kind::Unsupported),
        (PushManifest, 403, envelope("DENIED", "x"), Kind::Denied),
        (PushBlob, 403, envelope("DENIED", "a will exceed the configured upper limit of b"), Kind::QuotaExceeded),
        (PushBlob, 400, envelope("DIGEST_INVALID", "x"), Kind::Mismatch),
        (PullManifest, 401, envelope("UNAUTHORIZED", "x"), Kind::Unauthorized),
        (PullManifest, 429, envelope("TOOMANYREQUESTS", "Rate exceeded"), Kind::RateLimited),
        (PullManifest, 429, envelope("TOOMANYREQUESTS", "You have reached your pull rate limit."), Kind::QuotaExceeded),
        (PullManifest, 429, "You have reached your unauthenticated pull rate limit".into(), Kind::QuotaExceeded),
        (PullManifest, 503, "<html>".into(), Kind::Unavailable),
        (PullManifest, 400, "what".into(), Kind::Invalid),
    ] {
        assert_eq!(kind(action, status, &body), expected, "{status} {body}");
    }
}

#[test]
fn what_harbor_refuses_has_a_kind_and_a_next_step() {
    use Action::{CreateProject, OpenUpload, PullManifest, PushManifest, Resolve, ShowProject};
    let hinted = |action, status, code: &str, message: &str| {
        let error = answer(status, &[], &envelope(code, message)).failure(&Request::bare(action));
        (error.kind(), error.hint().unwrap_or_default().to_owned())
    };
    for (action, status, code, message, kind, hint) in [
        (
            OpenUpload,
            403,
            "DENIED",
            "A will exceed the configured upper limit of B.",
            Kind::QuotaExceeded,
            "storage quota",
        ),
        (OpenUpload, 403, "DENIED", "The system is in read only mode.", Kind::Denied, "read-only mode"),
        (OpenUpload, 403, "DENIED", "can not push artifact to a proxy project", Kind::Unsupported, "another project"),
        (
            PushManifest,
            412,
            "PRECONDITION",
            "due to 'a:1' configured as immutable.",
            Kind::Conflict,
            "rule of the project",
        ),
        (PullManifest, 412, "PROJECTPOLICYVIOLATION", "x", Kind::Denied, "policy"),
        (PushManifest, 413, "REQUEST_ENTITY_TOO_LARGE", "x", Kind::Unsupported, "too large"),
        (Resolve, 400, "BAD_REQUEST", "invalid repository name: a", Kind::Invalid, "PROJECT/NAME"),
        (CreateProject, 403, "FORBIDDEN", "Only system level robot can create project", Kind::Denied, "system robot"),
        (CreateProject, 403, "FORBIDDEN", "Only system admin can create project", Kind::Denied, "system permission"),
        (CreateProject, 400, "BAD_REQUEST", "invalid hard limit", Kind::Configuration, "registries.HOST"),
        (CreateProject, 409, "CONFLICT", "already exists", Kind::Conflict, ""),
        (ShowProject, 404, "NOT_FOUND", "project a not found", Kind::NotFound, ""),
        (ShowProject, 404, "", "404 page not found", Kind::Unsupported, ""),
        (ShowProject, 403, "FORBIDDEN", "forbidden", Kind::Denied, ""),
    ] {
        let (found, said) = hinted(action, status, code, message);
        assert!(found == kind && said.contains(hint), "{status} {code} {message}: {found:?} {said}");
    }
}

#[test]
fn messages_are_short_and_printable() {
    let said = |body: &str| answer(500, &[], body).failure(&Request::bare(Action::Resolve)).to_string();
    assert_eq!(said(""), "attempt: 500 Internal Server Error");
    assert_eq!(said("a\u{1b}[1mb"), "attempt: 500 Internal Server Error: a\\u{1b}[1mb");
    assert_eq!(said(&envelope("X", "y")), "attempt: 500 Internal Server Error: X y");
    assert_eq!(said("<html>"), "attempt: the answer is a web page, with status 500 Internal Server Error");
    assert!(said(&"ü".repeat(10_000)).chars().count() < 400);
}

#[test]
fn quota_headers_are_read_with_their_oddities() {
    let read = |limit, remaining| {
        quota(&answer(200, &[("ratelimit-limit", limit), ("ratelimit-remaining", remaining)], "").headers)
    };
    let of = |limit, remaining, window_seconds| Some(Quota { limit, remaining, window_seconds });
    assert_eq!(read("100;w=21600", "20;w=21600"), of(100, 20, Some(21600)));
    assert_eq!(read("100", "-3"), of(100, 0, None));
    assert_eq!(read(";w=21600", ";w=21600"), None);
}

#[test]
fn retry_after_is_seconds_or_a_date() {
    let read = |text: &str| retry_after(&answer(429, &[("retry-after", text)], "").headers);
    assert_eq!(read("7"), Some(Duration::from_secs(7)));
    assert_eq!(read("Wed, 21 Oct 2015 07:28:00 GMT"), Some(Duration::ZERO));
    assert_eq!(read("soon"), None);
}
