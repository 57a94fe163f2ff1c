use super::super::samples;
use super::*;
use crate::error::{Error, Kind};
use crate::plan::{Action, Plan, Planned, Transfer};
use crate::report::Outcome;

fn text(report: &Report, style: Style) -> String {
    let mut out = Vec::new();
    report.write_text(&mut out, style).unwrap();
    String::from_utf8(out).unwrap()
}

fn plain(report: &Report) -> String {
    text(report, Style::default())
}

#[test]
fn a_run() {
    insta::assert_snapshot!(plain(&samples::sync()), @r"
    copied      docker.io/library/nginx:1.27            52.3 MB  1.2 s, +2 referrers
      failed      sha256:98f3ae1ef671  application/spdx+json
        push referrer sha256:13fb9b3b2de2 to harbor.example.com/mirror/docker.io/library/nginx: 405 Method Not Allowed
        hint: exclude its type with artifact_types:
    copied      ghcr.io/prometheus/prometheus:v2.55.1  104.0 MB  1 min 5 s, 29.0 MB mounted
    created     harbor.example.com/mirror/docker.io/library/nginx
    changed     harbor.example.com/mirror/quay.io/a/b  lifecycle policy, repository policy
    created     harbor.example.com/dockerhub  proxy cache of docker.io

    not done    1 image:
        ghcr.io/late/late:1

    failed      docker.io/library/gone:1
      resolve docker.io/library/gone:1: no such tag (HTTP 404)
    failed      ghcr.io/c/d:1
      get manifest sha256:1234 of ghcr.io/c/d: no such manifest (HTTP 404)
      hint: check the spelling, and that the tag still exists

    failed      quay.io/a/b:2
      push blob sha256:77af4d6b9913 to harbor.example.com/mirror/quay.io/a/b: denied: \u{1b}[2Jno (HTTP 403, 2 attempts)
      hint: authenticated but not authorized: ask the registry's owner for permission

    conflict    docker.io/library/redis:7
      set harbor.example.com/mirror/docker.io/library/redis:7: it holds sha256:2d711642b726, not the pinned sha256:a0ed741ac6ba, and must not be replaced
      hint: remove the tag at the target, or set overwrite: true or keep

    8 images, 1 target: 2 copied, 1 up to date, 1 not done, 1 conflict, 3 failed
    156.3 MB copied, 29.0 MB mounted, 62.0 kB already there in 1 min 12 s
    pulls: docker.io 35 spent, 65 of 100 left
    next: `transship sync`
    interrupted: run it again, it goes on where it stopped
    ");
}

#[test]
fn a_run_with_more_to_say() {
    insta::assert_snapshot!(text(&samples::sync(), Style { verbose: true, ..Style::default() }), @r"
    copied      docker.io/library/nginx:1.27            52.3 MB  1.2 s, +2 referrers  sha256:6965a10c1529
      copied      sha256:1e6ed65d77d6  application/vnd.dev.sigstore.bundle.v0.3+json
      failed      sha256:98f3ae1ef671  application/spdx+json
        push referrer sha256:13fb9b3b2de2 to harbor.example.com/mirror/docker.io/library/nginx: 405 Method Not Allowed
        hint: exclude its type with artifact_types:
      up to date  sha256:cba06b5736fa  application/vnd.dev.sigstore.bundle.v0.3+json
    copied      ghcr.io/prometheus/prometheus:v2.55.1  104.0 MB  1 min 5 s, 29.0 MB mounted  sha256:5dfb0e8b6bd6
      unknown     whether it has referrers
        list referrers of sha256:13fb9b3b2de2 in quay.io/a/b: 403 Forbidden
        hint: authenticated but not authorized: ask the registry's owner for permission
    up to date  quay.io/cilium/cilium:v1.16.4          sha256:db457abf4342
    skipped     ghcr.io/late/late:1                    interrupted  sha256:aca6002b5bda
    created     harbor.example.com/mirror/docker.io/library/nginx
    changed     harbor.example.com/mirror/quay.io/a/b  lifecycle policy, repository policy
    created     harbor.example.com/dockerhub  proxy cache of docker.io

    not done    1 image:
        ghcr.io/late/late:1

    failed      docker.io/library/gone:1
      resolve docker.io/library/gone:1: no such tag (HTTP 404)
    failed      ghcr.io/c/d:1
      get manifest sha256:1234 of ghcr.io/c/d: no such manifest (HTTP 404)
      hint: check the spelling, and that the tag still exists

    failed      quay.io/a/b:2
      push blob sha256:77af4d6b9913 to harbor.example.com/mirror/quay.io/a/b: denied: \u{1b}[2Jno (HTTP 403, 2 attempts)
      hint: authenticated but not authorized: ask the registry's owner for permission

    conflict    docker.io/library/redis:7
      set harbor.example.com/mirror/docker.io/library/redis:7: it holds sha256:2d711642b726, not the pinned sha256:a0ed741ac6ba, and must not be replaced
      hint: remove the tag at the target, or set overwrite: true or keep

    8 images, 1 target: 2 copied, 1 up to date, 1 not done, 1 conflict, 3 failed
    156.3 MB copied, 29.0 MB mounted, 62.0 kB already there in 1 min 12 s
    pulls: docker.io 35 spent, 65 of 100 left
    next: `transship sync`
    interrupted: run it again, it goes on where it stopped
    ");
}

#[test]
fn a_plan_names_the_target_if_only_one_of_two_lacks_something() {
    let elsewhere = Transfer {
        target: "other.example.com/docker.io/library/nginx".parse().unwrap(),
        ..samples::transfer("nginx:1.27", Action::UpToDate)
    };
    let images = vec![samples::transfer("nginx:1.27", Action::Copy), elsewhere];
    let plan = Plan { images: images.into_iter().map(Planned::Image).collect(), ..Plan::default() };
    let text = plain(&Report::new("plan", jiff::Timestamp::UNIX_EPOCH).with_plan(plan));
    assert!(text.starts_with("copy        docker.io/library/nginx:1.27 → harbor.example.com/mirror/…\n"), "{text}");
}

#[test]
fn a_plan_marks_images_of_which_only_referrers_are_missing() {
    let transfer = |pulls, source| {
        let cost = crate::plan::Cost { pulls, pulls_exact: true, ..Default::default() };
        Transfer { cost, ..samples::transfer(source, Action::Refer) }
    };
    let images = vec![transfer(0, "quay.io/a/b:1"), transfer(2, "nginx:1.27")];
    let plan = Plan { images: images.into_iter().map(Planned::Image).collect(), ..Plan::default() };
    insta::assert_snapshot!(plain(&Report::new("plan", jiff::Timestamp::UNIX_EPOCH).with_plan(plan)), @"
    copy        quay.io/a/b:1                           referrers only
    copy        docker.io/library/nginx:1.27            2 pulls, referrers only

    2 images, 1 target: 2 to copy
    pulls: docker.io 2
    next: `transship sync`
    ");
}

#[test]
fn a_plan() {
    insta::assert_snapshot!(plain(&samples::plan()), @"
    copy        docker.io/library/nginx:1.27            52.3 MB  3 pulls
    copy        docker.io/library/alpine:3.21                    1+ pulls
    tag         ghcr.io/prometheus/prometheus:v2.55.1
    kept        quay.io/minio/minio:1
    create      harbor.example.com/mirror/docker.io/library/nginx

    conflict    docker.io/library/redis:7
      set harbor.example.com/mirror/docker.io/library/redis:7: it holds sha256:2d711642b726, not the pinned sha256:a0ed741ac6ba, and must not be replaced
      hint: remove the tag at the target, or set overwrite: true or keep

    failed      quay.io/a/b:2
      head harbor.example.com/mirror/quay.io/a/b:2: connection refused
      hint: check the network and the registry's status, then run it again

    7 images, 1 target: 2 to copy, 1 to tag, 1 up to date, 1 kept, 1 conflict, 1 failed
    at least 52.3 MB to move; 1 repository to create; pulls: docker.io at least 4
    next: `transship plan`
    ");
}

#[test]
fn pins_that_moved() {
    insta::assert_snapshot!(plain(&samples::update()), @"
    docker.io/library/nginx:1.27  sha256:ca978112ca1b → sha256:3e23e8160039
    docker.io/library/alpine:3.21  new → sha256:2e7d2c03a950
    docker.io/library/alpine:3.18  sha256:18ac3e7343f0 → dropped
    quay.io/cilium/cilium:v1.16.4  referrer new → sha256:a543997d84f1

    3 pins, 1 referrer changed
    next: `transship sync`
    ");
}

#[test]
fn pins_that_differ() {
    insta::assert_snapshot!(plain(&samples::lock_check()), @"
    differs     docker.io/library/nginx:1.27  pinned to sha256:ca978112ca1b, upstream has sha256:bcc649cfdb8c
    differs     docker.io/library/alpine:3.21  not pinned yet, upstream has sha256:bcc649cfdb8c
    differs     quay.io/cilium/cilium:v1.16.4  upstream has a new referrer sha256:bcc649cfdb8c
    differs     quay.io/minio/minio:1  pinned to referrer sha256:a543997d84f1, upstream has sha256:bcc649cfdb8c
    differs     quay.io/a/b:2  upstream lacks the pinned referrer sha256:98f3ae1ef671
      hint: `transship update` pins what upstream serves now, `transship lock` only images without a pin

    5 differences
    next: `transship update`
    ");
}

#[test]
fn proofs() {
    insta::assert_snapshot!(plain(&samples::check()), @"
    docker.io
      ok          connect  TLS
      ok          log in   anonymous
      ok          pull     library/nginx

    down.example.com
      failed      connect
        connect to down.example.com: connection refused (5 attempts)
        hint: check the network and the registry's status, then run it again

    harbor.example.com
      ok          pull     mirror/a
      failed      push     mirror/a
        open an upload to harbor.example.com/mirror/a: 403 Forbidden: DENIED no
      failed      push     mirror/b
        open an upload to harbor.example.com/mirror/b: 403 Forbidden: DENIED no
        hint: authenticated but not authorized: ask the registry's owner for permission
      unknown     create   mirror/c
        only doing it would tell
        hint: do it

    8 checks: 4 ok, 1 unknown, 3 failed in 1 min 12 s
    next: `transship check`
    ");
    let quiet = text(&samples::check(), Style { quiet: true, ..Style::default() });
    assert!(!quiet.contains("docker.io") && quiet.contains("down.example.com\n  failed"), "{quiet}");
}

#[test]
fn quiet_prints_failures_and_the_summary() {
    let run = Report { outcomes: samples::sync().outcomes.drain(..4).collect(), interrupted: false, ..samples::sync() };
    insta::assert_snapshot!(text(&run, Style { quiet: true, ..Style::default() }), @"
    failed      docker.io/library/gone:1
      resolve docker.io/library/gone:1: no such tag (HTTP 404)
      hint: check the spelling, and that the tag still exists

    4 images, 1 target: 2 copied, 1 up to date, 1 failed
    156.3 MB copied, 29.0 MB mounted, 62.0 kB already there in 1 min 12 s
    pulls: docker.io 35 spent, 65 of 100 left
    next: `transship sync`
    ");
}

#[test]
fn a_target_is_named_only_if_there_are_several() {
    let mut run = samples::sync();
    run.outcomes.truncate(2);
    run.interrupted = false;
    run.outcomes[1].target = "other.example.com/prometheus:v2.55.1".to_owned();
    insta::assert_snapshot!(plain(&run), @"
    copied      docker.io/library/nginx:1.27          → harbor.example.com/mirror/…            52.3 MB  1.2 s, +2 referrers
      failed      sha256:98f3ae1ef671  application/spdx+json
        push referrer sha256:13fb9b3b2de2 to harbor.example.com/mirror/docker.io/library/nginx: 405 Method Not Allowed
        hint: exclude its type with artifact_types:
    copied      ghcr.io/prometheus/prometheus:v2.55.1 → other.example.com/prometheus:v2.55.1  104.0 MB  1 min 5 s, 29.0 MB mounted
    created     harbor.example.com/mirror/docker.io/library/nginx
    changed     harbor.example.com/mirror/quay.io/a/b  lifecycle policy, repository policy
    created     harbor.example.com/dockerhub  proxy cache of docker.io

    2 images, 1 target: 2 copied
    156.3 MB copied, 29.0 MB mounted, 62.0 kB already there in 1 min 12 s
    pulls: docker.io 35 spent, 65 of 100 left
    next: `transship verify`
    ");
}

#[test]
fn colours_only_decorate_the_text() {
    let coloured = text(&samples::sync(), Style { color: true, ..Style::default() });
    let bare = [GOOD, BAD, WAITING, "0"].iter().fold(coloured, |text, code| text.replace(&format!("\x1b[{code}m"), ""));
    assert_eq!(bare, plain(&samples::sync()));
}

#[test]
fn a_verification_fits_a_terminal() {
    let shown = plain(&samples::verify());
    let differences = shown.lines().take_while(|line| !line.contains("hint: "));
    let wide: Vec<_> = differences.filter(|line| line.chars().count() > 80).collect();
    assert!(wide.is_empty(), "{wide:#?}");
    insta::assert_snapshot!(shown, @"
    harbor.example.com/mirror/docker.io/library/nginx:1.27
      different   tag       expected sha256:6965a10c1529, found sha256:5edd1832df25
    harbor.example.com/mirror/docker.io/library/redis:7
      missing     manifest  sha256:ddc9e6691942
      missing     blob      sha256:dac1d7cfa950
      damaged     blob      sha256:378bfce5cda2: 3409 of 3410 bytes are there
      damaged     blob      expected sha256:bf6e7814c35d, found sha256:d9298a10d1b0
      missing     referrer  sha256:1a2fc26dc7ea
    harbor.example.com/mirror/docker.io/library/nginx:old
      extra       tag       sha256:cba06b5736fa, which isn't in the lock
      hint: tag, referrer: `transship sync` sets it again, or reports why it can't
      hint: missing part: `transship sync --repair` restores it
      hint: damaged part: delete it there, run the registry's garbage collection, then `transship sync --repair`
      hint: extra tag: transship deletes nothing; remove it at the target, or add it to mirror.yaml

    3 images, 1 target: 1 as pinned, 2 differ; 7 differences, 44.8 MB checked in 1 min 12 s
    next: `transship sync --repair`
    ");
}

#[test]
fn the_contents_of_caches_and_their_proofs_are_printed() {
    insta::assert_snapshot!(plain(&samples::warm_check()), @r"
      blobs kept: only Harbor's API shows which manifests it stores, to accounts with the permission `artifact: read`
      served: this cache forwards each HEAD, so the image is available through it, but may not be stored
    moved       harbor.example.com/mirror/quay.io/a/b:2  the tag no longer exists upstream, the lock pins sha256:7fb0835016da
    moved       harbor.example.com/mirror/docker.io/library/redis:7  the tag names sha256:5edd1832df25 upstream, the lock pins sha256:a0ed741ac6ba
      hint: clients get the pinned image by digest; `transship update` pins what the tag names

    only the upstream answers to these digests, because Harbor stores an index under another one:
      sha256:6965a10c15290ad0b29ca7fd1866de1850408b3cb15fb11a3bbbbc2fddb158bd  harbor.example.com/mirror/docker.io/library/nginx:1.27
      sha256:7fb0835016dada5d7b77e7c111ec57254167f27b49a5523ec64774e45fb504f0  harbor.example.com/mirror/quay.io/a/b:2
      sha256:a0ed741ac6ba1c5759e6d93b088e5e315e089f8a2a6a17a0c16f6456ff434700  harbor.example.com/mirror/docker.io/library/redis:7
      hint: pulls by digest while the upstream is down need copies in an ordinary project: `transship sync`

    harbor.example.com/mirror/docker.io/library/redis:7
      missing     blob      sha256:dac1d7cfa950
      hint: `transship warm` without --check makes the cache fetch what it lacks

    3 images at 1 cache: 1 with all blobs kept, 1 served, 1 lacking something; 1 difference in 1 min 12 s
    ");
}

/// 50 images whose target is down, 2 that aren't upstream, and one that was copied.
fn much_that_failed() -> Report {
    let dead = |number: usize| {
        let error = Error::new(Kind::Unavailable, "reach harbor.example.com", "connection refused").with_attempts(5);
        let name = format!("ghcr.io/department/team/service-{number}:v1.27.{number}");
        Outcome { error: Some(error), ..samples::outcome(&name, Status::Failed, 0, 0, 0.0) }
    };
    let gone = |tag: &str| {
        let error = Error::new(Kind::NotFound, format!("resolve {tag} in quay.io/a/b"), "404 Not Found");
        Outcome { error: Some(error), ..samples::outcome(&format!("quay.io/a/b:{tag}"), Status::Failed, 0, 0, 0.0) }
    };
    let copied = samples::outcome("docker.io/library/nginx:1.27", Status::Copied, 52_300_000, 0, 1.23);
    let outcomes = (1..=50).map(dead).chain([gone("1"), gone("2"), copied]).collect();
    Report {
        outcomes,
        interrupted: false,
        registries: Vec::new(),
        repositories: Vec::new(),
        proxy_caches: None,
        ..samples::sync()
    }
}

#[test]
fn failures_with_one_cause_are_one_block() {
    insta::assert_snapshot!(plain(&much_that_failed()), @"
    copied      docker.io/library/nginx:1.27   52.3 MB  1.2 s

    failed      reach harbor.example.com: connection refused (5 attempts)
      hint: check the network and the registry's status, then run it again
      50 images:
        ghcr.io/department/team/service-1:v1.27.1
        ghcr.io/department/team/service-2:v1.27.2
        ghcr.io/department/team/service-3:v1.27.3
        … and 47 more (--json lists all)

    failed      resolve IMAGE: 404 Not Found
      hint: check the spelling, and that the tag still exists
      2 images:
        quay.io/a/b:1
        quay.io/a/b:2

    53 images, 1 target: 1 copied, 52 failed
    52.3 MB copied, 1.6 MB already there in 1 min 12 s
    next: `transship sync`
    ");
}

#[test]
fn every_line_fits_a_narrow_terminal() {
    let narrow = |report: &Report, width| text(report, Style { width: Some(width), ..Style::default() });
    insta::assert_snapshot!(narrow(&much_that_failed(), 40), @"
    copied      docker.io/library/nginx:1.27
                52.3 MB  1.2 s

    failed      reach harbor.example.com:
                connection refused (5
                attempts)
      hint: check the network and the
        registry's status, then run it again
      50 images:
        ghcr.io/d…ent/team/service-1:v1.27.1
        ghcr.io/d…ent/team/service-2:v1.27.2
        ghcr.io/d…ent/team/service-3:v1.27.3
        … and 47 more (--json lists all)

    failed      resolve IMAGE: 404 Not Found
      hint: check the spelling, and that the
        tag still exists
      2 images:
        quay.io/a/b:1
        quay.io/a/b:2

    53 images, 1 target: 1 copied, 52 failed
    52.3 MB copied, 1.6 MB already there in
      1 min 12 s
    next: `transship sync`
    ");
    let reports = [samples::sync(), samples::plan(), samples::check(), samples::verify(), samples::lock_check()];
    for (report, width) in reports.iter().flat_map(|report| [20, 40, 80, 120].map(|width| (report, width))) {
        let shown = narrow(report, width);
        let wide: Vec<_> = shown.lines().filter(|line| crate::terminal::width(line) > width).collect();
        assert!(wide.is_empty(), "{width}: {wide:#?}");
    }
}
