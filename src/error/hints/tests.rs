use super::*;
use crate::error::Error;

/// The hint for a failure of this kind, with `also` applied.
fn hint_of(kind: Kind, also: impl FnOnce(Error) -> Error) -> String {
    also(Error::new(kind, "attempt", "why")).hint().unwrap_or_default().to_owned()
}

#[test]
fn each_row_is_the_first_match_of_some_error() {
    for (place, row) in ROWS.iter().enumerate() {
        let case = Case {
            kind: row.kind,
            code: Some(row.code).filter(|code| !code.is_empty()),
            why: row.says,
            status: Some(row.status).filter(|status| *status > 0),
            task: row.tasks.first().copied(),
            side: row.side,
            stage: row.stage,
        };
        let first = ROWS.iter().position(|row| row.fits(&case));
        assert_eq!(first, Some(place), "{}", row.hint);
        assert_eq!(hint(&case), Some(row.hint));
    }
}

#[test]
fn every_kind_with_a_next_step_always_has_a_hint() {
    use Kind::{
        Conflict, Denied, Interrupted, Invalid, Mismatch, MissingContent, NotFound, QuotaExceeded, RateLimited,
        Unauthorized, Unavailable,
    };
    for kind in [
        Conflict,
        Denied,
        Interrupted,
        Invalid,
        Mismatch,
        MissingContent,
        NotFound,
        QuotaExceeded,
        RateLimited,
        Unauthorized,
        Unavailable,
    ] {
        assert_ne!(hint_of(kind, |error| error), "", "{kind:?}");
        for side in [Side::Source, Side::Target] {
            for task in [Task::Resolve, Task::ReadBlob, Task::ListReferrers, Task::PushBlob, Task::GetToken] {
                assert_ne!(hint_of(kind, |error| error.of_task(task).on(side)), "", "{kind:?} {task:?} {side:?}");
            }
        }
    }
}

#[test]
fn hints_depend_on_the_action_the_side_and_the_stage() {
    use Task::{
        CreateProject, GetToken, ListReferrers, ListTags, LogIn, PushBlob, PushManifest, ReadBlob, ReadManifest,
        Resolve,
    };
    let (source, target) = (Some(Side::Source), Some(Side::Target));
    for (kind, code, status, task, side, words) in [
        // A missing owner isn't a missing tag.
        (Kind::NotFound, "", 404, PushBlob, target, "its owner doesn't exist"),
        (Kind::NotFound, "NAME_UNKNOWN", 404, PushBlob, target, "its owner doesn't exist"),
        (Kind::NotFound, "", 404, PushManifest, target, "to:"),
        (Kind::NotFound, "", 404, GetToken, source, "token service"),
        (Kind::NotFound, "", 404, LogIn, None, "endpoint:"),
        (Kind::NotFound, "BLOB_UNKNOWN", 404, ReadBlob, source, "push the image again"),
        (Kind::NotFound, "", 404, ReadManifest, target, "missing at the target"),
        (Kind::NotFound, "NAME_UNKNOWN", 404, ReadManifest, source, "spelling of the repository"),
        (Kind::NotFound, "", 404, ListTags, source, "spelling of the repository"),
        (Kind::NotFound, "", 404, Resolve, source, "that the tag still exists"),
        // A missing permission isn't a wrong password, and vice versa.
        (Kind::Denied, "DENIED", 403, PushBlob, target, "not authorized"),
        (Kind::Denied, "", 401, PushManifest, target, "not authorized"),
        (Kind::Denied, "", 403, GetToken, target, "the login is accepted"),
        (Kind::Denied, "", 403, ListReferrers, source, "referrers: none"),
        (Kind::Denied, "", 403, ReadManifest, source, "not authorized"),
        (Kind::Denied, "FORBIDDEN", 403, CreateProject, target, "system permission"),
        (Kind::Unauthorized, "", 401, PushBlob, target, "the login is wrong"),
        (Kind::Unauthorized, "", 403, GetToken, source, "the login is wrong"),
        // A refused name isn't a web page.
        (Kind::Invalid, "NAME_INVALID", 400, PushBlob, target, "to: or layout:"),
        (Kind::Invalid, "NAME_INVALID", 400, PushManifest, target, "to: or layout:"),
        (Kind::Invalid, "NAME_INVALID", 400, Resolve, target, "to: or layout:"),
        (Kind::Invalid, "NAME_INVALID", 400, Resolve, source, "check its spelling"),
        (Kind::Invalid, "TAG_INVALID", 400, PushManifest, target, "as:"),
        (Kind::Invalid, "TAG_INVALID", 400, Resolve, source, "spelling of the tag"),
        (Kind::Invalid, "", 200, Resolve, source, "a registry's address"),
        // Read-only, or a pull-through cache.
        (Kind::Unsupported, "", 405, PushBlob, target, "pull-through cache"),
        (Kind::Unsupported, "UNSUPPORTED", 405, PushBlob, target, "read-only"),
        (Kind::Unsupported, "UNSUPPORTED", 405, PushManifest, target, ""),
        (Kind::Unsupported, "", 405, Resolve, source, ""),
        (Kind::Unsupported, "", 413, PushManifest, target, "too large"),
        (Kind::Unsupported, "MANIFEST_INVALID", 400, PushManifest, target, "manifests of this kind"),
        // A rate limit isn't a quota, and a source's quota isn't a target's.
        (Kind::RateLimited, "", 429, ReadManifest, source, "higher limit"),
        (Kind::RateLimited, "", 429, PushManifest, target, "limits.transfers"),
        (Kind::QuotaExceeded, "", 429, ReadManifest, source, "window"),
        (Kind::QuotaExceeded, "DENIED", 403, PushBlob, target, "delete unused images"),
        (Kind::Mismatch, "DIGEST_INVALID", 400, PushBlob, target, "received different bytes"),
        (Kind::Mismatch, "", 200, ReadManifest, source, "damaged"),
        (Kind::Configuration, "BAD_REQUEST", 400, CreateProject, target, "harbor.create"),
    ] {
        let of = |error: Error| {
            let error = error.of_task(task).with_status(status);
            let error = if code.is_empty() { error } else { error.with_code(code) };
            side.map_or(error.clone(), |side| error.on(side))
        };
        let hint = hint_of(kind, of);
        assert!(
            hint.contains(words) && hint.is_empty() == words.is_empty(),
            "{kind:?} {code} {task:?} {side:?}: {hint}"
        );
    }
    let lost = |error: Error| error.of_task(Task::Resolve).on(Side::Target).at(Stage::Verify);
    assert!(hint_of(Kind::NotFound, lost).contains("transship sync"));
    assert_eq!(hint_of(Kind::Denied, |error| error.of_task(Task::PushBlob).with_hint("mine")), "mine");
}
