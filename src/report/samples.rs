//! Reports for tests: one of each shape.

use super::*;
use crate::error::{Error, Kind, Side, Stage};
use crate::oci::{Descriptor, Referrer};
use crate::plan::{Action, Cost, Transfer};

pub(super) fn digest(of: &str) -> Digest {
    Digest::of(of.as_bytes())
}

pub(super) fn transfer(source: &str, action: Action) -> Transfer {
    let source: crate::oci::Reference = source.parse().unwrap();
    let media_type = "application/vnd.oci.image.index.v1+json".parse().unwrap();
    let repository = source.repository();
    let target = format!("harbor.example.com/mirror/{repository}");
    let tag = source.tag().cloned();
    let root = Descriptor { media_type, digest: digest(&source.to_string()), size: 1862 };
    let target = target.parse().unwrap();
    Transfer::new(source, root, target, tag, action)
}

fn error(kind: Kind, attempted: &str, why: &str) -> Error {
    Error::new(kind, attempted, why)
}

pub(super) fn outcome(source: &str, status: Status, copied: u64, mounted: u64, seconds: f64) -> Outcome {
    let outcome = Outcome::of(&transfer(source, Action::Copy), status);
    Outcome { bytes: Bytes { copied, mounted, present: 31_000 }, seconds, ..outcome }
}

/// An image with three referrers, one of which its target rejects.
fn signed(outcome: Outcome) -> Outcome {
    let of = |seed: &str, kind: &str, status: Status, error: Option<Error>| {
        let (digest, media_type) = (digest(seed), "application/vnd.oci.image.manifest.v1+json".parse().unwrap());
        let referrer = Referrer { digest, media_type, artifact_type: Some(kind.to_owned()), tag: None };
        ReferrerOutcome { referrer: Some(referrer), status, error }
    };
    let attempted = "push referrer sha256:13fb9b3b2de2 to harbor.example.com/mirror/docker.io/library/nginx";
    let refused = error(Kind::Unsupported, attempted, "405 Method Not Allowed").with_status(405);
    let refused = refused.on(Side::Target).at(Stage::Copy).with_hint("exclude its type with artifact_types:");
    let bundle = "application/vnd.dev.sigstore.bundle.v0.3+json";
    let referrers = vec![
        of("bundle", bundle, Status::Copied, None),
        of("sbom", "application/spdx+json", Status::Failed, Some(refused)),
        of("old", bundle, Status::UpToDate, None),
    ];
    Outcome { referrers, via: Some("mirror.gcr.io".into()), ..outcome }
}

/// An image whose source doesn't list its referrers.
fn with_unlisted_referrers(outcome: Outcome) -> Outcome {
    let attempted = "list referrers of sha256:13fb9b3b2de2 in quay.io/a/b";
    let refused = error(Kind::Denied, attempted, "403 Forbidden").with_status(403).on(Side::Source).at(Stage::Copy);
    Outcome { referrers: vec![ReferrerOutcome::unknown(refused)], ..outcome }
}

fn registry(host: &str, manifest_gets: u64, quota: Option<Quota>) -> RegistryUse {
    RegistryUse {
        host: host.to_owned(),
        requests: 96,
        manifest_gets,
        throttled: 1,
        quota,
        meters_pulls: quota.is_some(),
    }
}

fn report(command: &str) -> Report {
    let started = "2026-11-24T03:00:01.25Z".parse().unwrap();
    Report { seconds: 72.3456, ..Report::new(command, started) }
}

pub(super) fn sync() -> Report {
    let gone = error(Kind::NotFound, "resolve docker.io/library/gone:1", "no such tag").on(Side::Source);
    let denied = error(
        Kind::Denied,
        "push blob sha256:77af4d6b9913 to harbor.example.com/mirror/quay.io/a/b",
        "denied: \u{1b}[2Jno",
    );
    let denied = denied.on(Side::Target).at(Stage::Copy).with_status(403).with_attempts(2);
    let lost = error(Kind::NotFound, "get manifest sha256:1234 of ghcr.io/c/d", "no such manifest").on(Side::Source);
    let taken = transfer("docker.io/library/redis:7", Action::Conflict { found: digest("x") });
    let outcomes = vec![
        signed(outcome("docker.io/library/nginx:1.27", Status::Copied, 52_300_000, 0, 1.23)),
        with_unlisted_referrers(outcome(
            "ghcr.io/prometheus/prometheus:v2.55.1",
            Status::Copied,
            104_000_000,
            29_000_000,
            65.0,
        )),
        Outcome::without_work(&Planned::Image(transfer("quay.io/cilium/cilium:v1.16.4", Action::UpToDate))).unwrap(),
        Outcome::without_work(&Planned::Failed {
            source: "docker.io/library/gone:1".to_owned(),
            target: "harbor.example.com/mirror/docker.io/library/gone:1".to_owned(),
            error: gone.at(Stage::Resolve).with_status(404),
        })
        .unwrap(),
        Outcome::failed(&transfer("quay.io/a/b:2", Action::Copy), denied),
        Outcome::without_work(&Planned::Image(taken)).unwrap(),
        Outcome::failed(&transfer("ghcr.io/c/d:1", Action::Copy), lost.at(Stage::Copy).with_status(404)),
        Outcome::interrupted(&transfer("ghcr.io/late/late:1", Action::Copy)),
    ];
    let target = "harbor.example.com/mirror/docker.io/library/nginx".to_owned();
    let changed = "harbor.example.com/mirror/quay.io/a/b".to_owned();
    let quota = Quota { limit: 100, remaining: 65, window_seconds: Some(21600) };
    Report {
        outcomes,
        interrupted: true,
        repositories: vec![
            RepositoryOutcome { target, created: true, changes: Vec::new() },
            RepositoryOutcome {
                target: changed,
                created: false,
                changes: vec!["lifecycle_policy", "repository_policy"],
            },
        ],
        proxy_caches: Some(vec![ProxyCacheOutcome {
            target: "harbor.example.com/dockerhub".to_owned(),
            upstream: "docker.io".to_owned(),
            created: true,
            changes: Vec::new(),
            error: None,
        }]),
        registries: vec![registry("docker.io", 35, Some(quota)), registry("harbor.example.com", 2, None)],
        ..report("sync")
    }
}

pub(super) fn plan() -> Report {
    let bytes = Some(Bytes { copied: 52_300_000, ..Bytes::default() });
    let known = Cost { pulls: 3, pulls_exact: true, bytes, ..Cost::default() };
    let known = Transfer { cost: known, ..transfer("docker.io/library/nginx:1.27", Action::Copy) };
    let unread = Cost { pulls: 1, ..Cost::default() };
    let unread = Transfer { cost: unread, ..transfer("docker.io/library/alpine:3.21", Action::Copy) };
    let tagged = Cost { pulls_exact: true, ..Cost::default() };
    let tagged = Transfer { cost: tagged, ..transfer("ghcr.io/prometheus/prometheus:v2.55.1", Action::Tag) };
    let kept = Action::Kept { found: Some(digest("kept")) };
    let silent = error(Kind::Unavailable, "head harbor.example.com/mirror/quay.io/a/b:2", "connection refused");
    let images = vec![
        Planned::Image(known),
        Planned::Image(unread),
        Planned::Image(tagged),
        Planned::Image(transfer("quay.io/cilium/cilium:v1.16.4", Action::UpToDate)),
        Planned::Image(transfer("quay.io/minio/minio:1", kept)),
        Planned::Image(transfer("docker.io/library/redis:7", Action::Conflict { found: digest("x") })),
        Planned::Failed {
            source: "quay.io/a/b:2".to_owned(),
            target: "harbor.example.com/mirror/quay.io/a/b:2".to_owned(),
            error: silent.on(Side::Target).at(Stage::Plan),
        },
    ];
    let missing = vec!["harbor.example.com/mirror/docker.io/library/nginx".parse().unwrap()];
    report("plan").with_plan(Plan { images, missing, ..Plan::default() })
}

pub(super) fn update() -> Report {
    let change = |source: &str, old: Option<&str>, new: Option<&str>| Change {
        source: source.to_owned(),
        what: Part::Pin,
        old: old.map(digest),
        new: new.map(digest),
    };
    let signed = Change { what: Part::Referrer, ..change("quay.io/cilium/cilium:v1.16.4", None, Some("sig")) };
    let changes = vec![
        change("docker.io/library/nginx:1.27", Some("a"), Some("b")),
        change("docker.io/library/alpine:3.21", None, Some("c")),
        change("docker.io/library/alpine:3.18", Some("d"), None),
        signed,
    ];
    Report { changes: Some(changes), ..report("update") }
}

pub(super) fn lock_check() -> Report {
    let difference = |source: &str, expected: Option<&str>| Difference {
        source: source.to_owned(),
        target: None,
        what: Part::Pin,
        expected: expected.map(digest),
        found: Some(digest("found")),
        why: None,
    };
    let referrer = |difference: Difference| Difference { what: Part::Referrer, ..difference };
    let differences = vec![
        difference("docker.io/library/nginx:1.27", Some("a")),
        difference("docker.io/library/alpine:3.21", None),
        referrer(difference("quay.io/cilium/cilium:v1.16.4", None)),
        referrer(difference("quay.io/minio/minio:1", Some("sig"))),
        Difference { found: None, ..referrer(difference("quay.io/a/b:2", Some("sbom"))) },
    ];
    Report { differences: Some(differences), ..report("lock") }
}

pub(super) fn verify() -> Report {
    let outcome = |source: &str, status, reason, present| {
        let outcome = Outcome::of(&transfer(source, Action::UpToDate), status);
        Outcome { reason: Some(reason), bytes: Bytes { present, ..Bytes::default() }, seconds: 0.21, ..outcome }
    };
    let (nginx, redis, alpine) =
        ("docker.io/library/nginx:1.27", "docker.io/library/redis:7", "docker.io/library/alpine:3.21");
    let difference = |source: &str, what, of: &str, found: Option<&str>, why: Option<&str>| Difference {
        source: source.to_owned(),
        target: Some(format!("harbor.example.com/mirror/{source}")),
        what,
        expected: Some(digest(of)),
        found: found.map(digest),
        why: why.map(str::to_owned),
    };
    let extra =
        Difference { expected: None, ..difference("docker.io/library/nginx:old", Part::Tag, "", Some("old"), None) };
    let differences = vec![
        difference(nginx, Part::Tag, nginx, Some("moved"), None),
        difference(redis, Part::Manifest, "child", None, None),
        difference(redis, Part::Blob, "layer", None, None),
        difference(redis, Part::Blob, "cut", None, Some("3409 of 3410 bytes are there")),
        difference(redis, Part::Blob, "flipped", Some("other"), Some("digest mismatch: got sha256:…")),
        difference(redis, Part::Referrer, "signature", None, None),
        extra,
    ];
    let outcomes = vec![
        outcome(nginx, Status::Differs, Reason::Differs, 0),
        outcome(redis, Status::Differs, Reason::Differs, 3_620_000),
        outcome(alpine, Status::UpToDate, Reason::Unchanged, 41_200_000),
    ];
    Report { outcomes, differences: Some(differences), verified: true, ..report("verify") }
}

pub(super) fn check() -> Report {
    let check = |host: &str, repository: Option<&str>, right, proof| Check {
        host: host.to_owned(),
        repository: repository.map(str::to_owned),
        right,
        proof,
    };
    let down = error(Kind::Unavailable, "connect to down.example.com", "connection refused").with_attempts(5);
    let denied = |name: &str| {
        let attempted = format!("open an upload to harbor.example.com/mirror/{name}");
        Proof::Fails(error(Kind::Denied, &attempted, "403 Forbidden: DENIED no").with_status(403))
    };
    let unprovable = Proof::Unknown { why: "only doing it would tell".to_owned(), hint: Some("do it".to_owned()) };
    let (hub, harbor) = ("docker.io", "harbor.example.com");
    let anonymous = Proof::Holds(Some("anonymous".to_owned()));
    let checks = vec![
        check(hub, None, Right::Connect, Proof::Holds(Some("TLS".to_owned()))),
        check(hub, None, Right::Login, anonymous),
        check(hub, Some("library/nginx"), Right::Pull, Proof::Holds(None)),
        check("down.example.com", None, Right::Connect, Proof::Fails(down)),
        check(harbor, Some("mirror/a"), Right::Pull, Proof::Holds(None)),
        check(harbor, Some("mirror/a"), Right::Push, denied("a")),
        check(harbor, Some("mirror/b"), Right::Push, denied("b")),
        check(harbor, Some("mirror/c"), Right::Create, unprovable),
    ];
    Report { checks: Some(checks), ..report("check") }
}

pub(super) fn warm_check() -> Report {
    let outcome = |source: &str, status, reason, proof, tag| {
        let cached = Cached { proof, only_upstream: vec![digest(source)], tag: Some(tag) };
        let outcome = Outcome::of(&transfer(source, Action::UpToDate), status);
        Outcome { reason: Some(reason), cached: Some(cached), seconds: 0.21, ..outcome }
    };
    let (nginx, redis) = ("docker.io/library/nginx:1.27", "docker.io/library/redis:7");
    let moved = CachedTag::Moved(digest("moved"));
    let outcomes = vec![
        outcome(nginx, Status::UpToDate, Reason::Unchanged, CacheProof::BlobsKept, CachedTag::AsPinned),
        outcome("quay.io/a/b:2", Status::UpToDate, Reason::Unchanged, CacheProof::Served, CachedTag::Gone),
        outcome(redis, Status::Differs, Reason::Differs, CacheProof::Kept, moved),
    ];
    let lacking = Difference {
        source: redis.to_owned(),
        target: Some(format!("harbor.example.com/mirror/{redis}")),
        what: Part::Blob,
        expected: Some(digest("layer")),
        found: None,
        why: None,
    };
    Report { outcomes, differences: Some(vec![lacking]), of_caches: true, ..report("warm") }
}

pub(super) fn quota() -> Report {
    let told = |host: &str, account: Option<&str>, counted: Option<&str>, quota| AccountQuota {
        host: host.to_owned(),
        account: account.map(str::to_owned),
        counted: counted.map(str::to_owned),
        quota,
        error: None,
    };
    let left = |limit, remaining| Some(Quota { limit, remaining, window_seconds: Some(21600) });
    let refused = error(Kind::Unauthorized, "resolve 1 in down.example.com/a", "401 Unauthorized").with_status(401);
    let quotas = vec![
        told("docker.io", None, Some("192.0.2.1"), left(100, 0)),
        told("docker.io", Some("me"), Some("192.0.2.1"), left(200, 188)),
        told("ghcr.io", None, None, None),
        AccountQuota {
            error: Some(refused.on(Side::Source).at(Stage::Resolve)),
            ..told("down.example.com", None, None, None)
        },
    ];
    Report { quotas: Some(quotas), ..report("quota") }
}

pub(super) fn all() -> [Report; 8] {
    [sync(), plan(), update(), lock_check(), verify(), check(), warm_check(), quota()]
}
