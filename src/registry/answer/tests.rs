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
fn every_status_and_code_has_a_kind() {
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
fn refusals_of_harbor_have_a_kind_and_a_hint() {
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
fn quota_headers_are_read_in_all_their_forms() {
    let read = |limit, remaining| {
        Quota::of(&answer(200, &[("ratelimit-limit", limit), ("ratelimit-remaining", remaining)], "").headers)
    };
    let of = |limit, remaining, window_seconds| Some(Quota { limit, remaining, window_seconds });
    assert_eq!(read("100;w=21600", "20;w=21600"), of(100, 20, Some(21600)));
    assert_eq!(read("100;w=60", "-3"), of(100, 0, Some(60)));
    assert_eq!(read("20", "9"), None, "requests a second, not pulls");
    let year = LONGEST_PAUSE.as_secs();
    assert_eq!(read("100;w=9223372036854775807", "0"), of(100, 0, Some(year)), "safe to add to a clock");
    assert_eq!(read(";w=21600", ";w=21600"), None);
}

#[test]
fn retry_after_is_seconds_or_a_date() {
    let read = |text: &str| retry_after(&answer(429, &[("retry-after", text)], "").headers);
    assert_eq!(read("7"), Some(Duration::from_secs(7)));
    assert_eq!(read("Wed, 21 Oct 2015 07:28:00 GMT"), Some(Duration::ZERO));
    for endless in ["18446744073709551615", "99999999999999999999", "Fri, 31 Dec 9999 23:59:59 GMT"] {
        assert_eq!(read(endless), Some(LONGEST_PAUSE), "safe to add to a clock");
    }
    for nothing in ["soon", "", "-5", "1.5"] {
        assert_eq!(read(nothing), None);
    }
}

#[test]
fn throttling_is_recognised_with_any_status() {
    use Action::{GetToken, OpenUpload, PullBlob, PullManifest, PushManifest, Resolve};
    let of = |code: &str| envelope(code, "m");
    let said = |text: &str| envelope("DENIED", text);
    for (status, body) in [
        (400, of("TOOMANYREQUESTS")),
        (403, of("TOOMANYREQUESTS")),
        (405, of("toomanyrequests")),
        (409, of("TOO_MANY_REQUESTS")),
        (500, of("TOOMANYREQUESTS")),
        (503, of("TOOMANYREQUESTS")),
        (400, r#"{"code":"TOOMANYREQUESTS","message":"m"}"#.into()),
        (400, r#"{"errors":{"code":"TOOMANYREQUESTS"}}"#.into()),
        (400, r#"{"errors":[{"code":"UNKNOWN"},{"code":"TOOMANYREQUESTS"}]}"#.into()),
        (403, said("Rate exceeded")),
        (400, "Rate exceeded".into()),
        (403, "rate limit exceeded".into()),
        (403, "<html><body>Too Many Requests</body></html>".into()),
        (503, "<Error><Code>SlowDown</Code></Error>".into()),
        (400, envelope("UNKNOWN", "toomanyrequests: slow down")),
        (429, String::new()),
        (429, "<html>".into()),
        (429, of("DENIED")),
        (429, of("NAME_UNKNOWN")),
    ] {
        for action in [PullManifest, PullBlob, Resolve, PushManifest, OpenUpload, GetToken] {
            assert_eq!(kind(action, status, &body), Kind::RateLimited, "{status} {body}");
        }
    }
    for (status, body) in [
        (429, "You have reached your pull rate limit. You may increase the limit".to_owned()),
        (403, said("You have reached your pull rate limit.")),
        (400, of("TOOMANYREQUESTS").replace("\"m\"", "\"You have reached your unauthenticated pull rate limit.\"")),
    ] {
        assert_eq!(kind(PullManifest, status, &body), Kind::QuotaExceeded, "{status} {body}");
    }
    // These aren't about the pace.
    for (status, body, expected) in [
        (401, of("TOOMANYREQUESTS"), Kind::Unauthorized),
        (404, "<html>too many requests</html>".into(), Kind::NotFound),
        (403, of("DENIED"), Kind::Denied),
        (400, "what".into(), Kind::Invalid),
    ] {
        assert_eq!(kind(PullManifest, status, &body), expected, "{status} {body}");
    }
}

#[test]
fn a_429_is_a_quota_error_only_with_a_window_or_a_quota_message() {
    let of = |limit: &str, remaining: &str, more: &[(&'static str, &str)], body: &str| {
        let headers = [&[("ratelimit-limit", limit), ("ratelimit-remaining", remaining)], more].concat();
        answer(429, &headers, body).failure(&Request::bare(Action::PullManifest)).kind()
    };
    for (limit, remaining, more, body, expected) in [
        ("100;w=21600", "0;w=21600", &[][..], "", Kind::QuotaExceeded),
        ("100;w=21600", "0", &[], "", Kind::QuotaExceeded),
        ("100", "0;w=21600", &[], "", Kind::QuotaExceeded),
        ("100", "0", &[], "You have reached your pull rate limit.", Kind::QuotaExceeded),
        // zot's requests per second.
        ("20", "0", &[], "", Kind::RateLimited),
        ("20", "0", &[("ratelimit-reset", "1")], "", Kind::RateLimited),
        ("20", "9", &[], "", Kind::RateLimited),
        ("100;w=21600", "5;w=21600", &[], "", Kind::RateLimited),
        ("100;w=21600", "0;w=21600", &[("retry-after", "3")], "", Kind::RateLimited),
        ("20", "0", &[], "<html>", Kind::RateLimited),
        ("", "", &[], "toomanyrequests", Kind::RateLimited),
    ] {
        assert_eq!(of(limit, remaining, more, body), expected, "{limit} {remaining} {body}");
    }
}

#[test]
fn error_codes_take_precedence_over_4xx_statuses() {
    use Action::{OpenUpload, PullManifest, Resolve};
    for (action, status, code, expected) in [
        (Resolve, 400, "NAME_INVALID", Kind::Invalid),
        (OpenUpload, 400, "NAME_INVALID", Kind::Invalid),
        (OpenUpload, 404, "NAME_INVALID", Kind::Invalid),
        (PullManifest, 400, "NAME_UNKNOWN", Kind::NotFound),
        (PullManifest, 403, "UNAUTHORIZED", Kind::Unauthorized),
        (PullManifest, 404, "DENIED", Kind::Denied),
        (OpenUpload, 405, "UNSUPPORTED", Kind::Unsupported),
        (PullManifest, 400, "manifest_unknown", Kind::NotFound),
        (PullManifest, 404, "OF_NOBODY", Kind::NotFound),
        (PullManifest, 500, "MANIFEST_UNKNOWN", Kind::Unavailable),
    ] {
        assert_eq!(kind(action, status, &envelope(code, "m")), expected, "{status} {code}");
    }
}

#[test]
fn the_reason_is_shown_from_any_member_of_the_body() {
    let said = |body: &str| answer(400, &[], body).message();
    for (body, expected) in [
        (
            r#"{"errors":[{"code":"MANIFEST_INVALID","message":"manifest invalid","detail":"layer 0: odd type"}]}"#,
            "MANIFEST_INVALID manifest invalid: layer 0: odd type",
        ),
        (r#"{"errors":[{"code":"X","message":"m","detail":{"reason":"r"}}]}"#, "X m: r"),
        (r#"{"errors":[{"code":"X","message":"m","detail":{"description":"d"}}]}"#, "X m: d"),
        (r#"{"errors":[{"code":"X","detail":[{"message":"one"},{"message":"two"}]}]}"#, "X: one"),
        (r#"{"errors":[{"code":"X","message":"m","detail":["one"]}]}"#, "X m: one"),
        (r#"{"errors":[{"code":"X","message":"the same","detail":"the same"}]}"#, "X the same"),
        (r#"{"errors":[{"code":"X","message":"a: a","detail":"b"}]}"#, "X a: b"),
        // These contain no reason.
        (r#"{"errors":[{"code":"X","message":"m","detail":null}]}"#, "X m"),
        (r#"{"errors":[{"code":"X","message":"m","detail":{}}]}"#, "X m"),
        (r#"{"errors":[{"code":"X","message":"m","detail":7}]}"#, "X m"),
        (r#"{"errors":[{"code":"X","message":"m","detail":""}]}"#, "X m"),
        (
            r#"{"errors":[{"code":"UNAUTHORIZED","message":"m","detail":[{"Type":"repository","Name":"a/b"}]}]}"#,
            "UNAUTHORIZED m",
        ),
        // Malformed envelopes.
        (r#"{"errors":[{"message":"m"}]}"#, "m"),
        (r#"{"errors":[{"code":7,"message":"m"}]}"#, "m"),
        (r#"{"errors":{"code":"X","message":"m"}}"#, "X m"),
        (r#"{"code":"X","message":"m"}"#, "X m"),
        (r#"{"details":"incorrect username or password"}"#, "incorrect username or password"),
        (r#"{"error":"invalid_grant","error_description":"expired"}"#, "expired: invalid_grant"),
        (r#"{"errors":[]}"#, r#"{"errors":[]}"#),
        (r#"{"errors":["x"]}"#, r#"{"errors":["x"]}"#),
        ("[7]", "[7]"),
        ("plain", "plain"),
    ] {
        assert_eq!(said(body), format!("400 Bad Request: {expected}"), "{body}");
    }
}
