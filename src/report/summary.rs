//! The last line of the text report: a whole run in numbers.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::phrase::{count, duration, escape, size};
use super::{CacheProof, Check, Outcome, Part, Reason, Report, Status};
use crate::plan::{Action, Plan, Transfer};

/// `30 images: 28 copied, 1 up to date, 1 failed; 1.2 GB copied in 12.3 s; pulls: docker.io 35`, or what a plan comes to.
pub(super) fn summary(report: &Report) -> String {
    let mut parts = Vec::new();
    if let Some(changes) = &report.changes {
        let referrers = changes.iter().filter(|change| change.what == Part::Referrer).count();
        let mut changed = count(changes.len() - referrers, "pin", "pins");
        if referrers > 0 {
            let _ = write!(changed, ", {}", count(referrers, "referrer", "referrers"));
        }
        parts.push(format!("{changed} changed"));
    }
    if report.verified {
        return verification_summary(report);
    }
    if report.of_caches {
        return caches_summary(report);
    }
    if let Some(differences) = &report.differences {
        parts.push(count(differences.len(), "difference", "differences"));
    }
    if let Some(checks) = &report.checks {
        parts.push(check_summary(checks, report.seconds));
    }
    if let Some(quotas) = &report.quotas {
        let limited = quotas.iter().filter(|one| one.quota.is_some()).count();
        parts.push(format!("{}, {limited} limited", count(quotas.len(), "account", "accounts")));
    }
    match &report.plan {
        Some(plan) => parts.extend(plan_summary(report, plan)),
        // A command that copies nothing has no images to speak of, unless they failed.
        None if report.outcomes.is_empty() && !parts.is_empty() => {}
        None => parts.extend(run_summary(report)),
    }
    parts.join("; ")
}

/// `28 copied, 1 up to date, 1 failed`, without the work that is left to do.
fn by_status(outcomes: &[Outcome]) -> Vec<String> {
    let of = |status| outcomes.iter().filter(|outcome| outcome.status == status).count();
    let counts = Status::ALL.into_iter().map(|status| (of(status), status.word()));
    counts.filter(|(count, _)| *count > 0).map(|(count, word)| format!("{count} {word}")).collect()
}

/// `12 checks: 10 ok, 1 unknown, 1 failed in 0.4 s`.
fn check_summary(checks: &[Check], seconds: f64) -> String {
    let of = |ok: Option<bool>| checks.iter().filter(|check| check.proof.ok() == ok).count();
    let counts = [(of(Some(true)), "ok"), (of(None), "unknown"), (of(Some(false)), "failed")];
    let counts = counts.iter().filter(|(count, _)| *count > 0).map(|(count, word)| format!("{count} {word}"));
    let counts = counts.collect::<Vec<_>>().join(", ");
    format!("{}: {counts} in {}", count(checks.len(), "check", "checks"), duration(seconds))
}

/// `12 images at 1 target: 11 as pinned, 1 differs; 2 differences, 1.2 GB checked in 12.3 s`.
fn verification_summary(report: &Report) -> String {
    let mut targets: BTreeMap<&str, usize> = BTreeMap::new();
    report.outcomes.iter().for_each(|outcome| *targets.entry(&outcome.source).or_default() += 1);
    let of = |wanted: &dyn Fn(&Outcome) -> bool| report.outcomes.iter().filter(|outcome| wanted(outcome)).count();
    let with = |reason| of(&|outcome| outcome.status == Status::Skipped && outcome.reason == Some(reason));
    let differ = of(&|outcome| outcome.status == Status::Differs);
    let counts = [
        (of(&|outcome| outcome.status == Status::UpToDate), "as pinned"),
        (differ, if differ == 1 { "differs" } else { "differ" }),
        (with(Reason::Kept), "kept"),
        (with(Reason::Interrupted), "not finished"),
        (of(&Outcome::is_failure), "failed"),
    ];
    let counts = counts.iter().filter(|(count, _)| *count > 0).map(|(count, word)| format!("{count} {word}"));
    let images = count(targets.len(), "image", "images");
    let targets = count(targets.values().copied().max().unwrap_or(0), "target", "targets");
    let differences = count(report.differences.as_ref().map_or(0, Vec::len), "difference", "differences");
    let bytes = Some(report.bytes().present).filter(|bytes| *bytes > 0);
    let bytes = bytes.map(|bytes| format!(", {} checked", size(bytes))).unwrap_or_default();
    let counts = counts.collect::<Vec<_>>().join(", ");
    format!("{images} at {targets}: {counts}; {differences}{bytes} in {}", duration(report.seconds))
}

/// `12 images at 1 cache: 10 warmed, 2 kept; 1.2 GB read in 12.3 s`, or what was found: `8 kept, 1 lacking; 3 differences in 1 s`.
fn caches_summary(report: &Report) -> String {
    let mut caches: BTreeMap<&str, usize> = BTreeMap::new();
    report.outcomes.iter().for_each(|outcome| *caches.entry(&outcome.source).or_default() += 1);
    let of = |wanted: &dyn Fn(&Outcome) -> bool| report.outcomes.iter().filter(|outcome| wanted(outcome)).count();
    let proved = |proof| {
        let is_so = move |outcome: &Outcome| outcome.cached.as_ref().is_some_and(|cached| cached.proof == proof);
        of(&|outcome| outcome.status == Status::UpToDate && is_so(outcome))
    };
    let counts = [
        (of(&|outcome| outcome.status == Status::Copied), "warmed"),
        (proved(CacheProof::Kept), "kept"),
        (proved(CacheProof::BlobsKept), "with all blobs kept"),
        (proved(CacheProof::Served), "served"),
        (of(&|outcome| outcome.status == Status::Differs), "lacking something"),
        (of(&|outcome| outcome.status == Status::Skipped), "not finished"),
        (of(&Outcome::is_failure), "failed"),
    ];
    let counts = counts.iter().filter(|(count, _)| *count > 0).map(|(count, word)| format!("{count} {word}"));
    let images = count(caches.len(), "image", "images");
    let caches = count(caches.values().copied().max().unwrap_or(0), "cache", "caches");
    let differences = report.differences.as_ref().map(|all| count(all.len(), "difference", "differences"));
    let read = Some(report.bytes().copied).filter(|bytes| *bytes > 0).map(|bytes| format!("{} read", size(bytes)));
    let facts: Vec<String> = differences.into_iter().chain(read).collect();
    let facts = if facts.is_empty() { String::new() } else { format!("; {}", facts.join(", ")) };
    let counts = counts.collect::<Vec<_>>().join(", ");
    format!("{images} at {caches}: {counts}{facts} in {}", duration(report.seconds))
}

fn run_summary(report: &Report) -> Vec<String> {
    let mut images = count(report.outcomes.len(), "image", "images");
    let statuses = by_status(&report.outcomes);
    if !statuses.is_empty() {
        let _ = write!(images, ": {}", statuses.join(", "));
    }
    let bytes = report.bytes();
    let moved = [(bytes.copied, "copied"), (bytes.mounted, "mounted")];
    let moved = moved.iter().filter(|(bytes, _)| *bytes > 0).map(|(bytes, word)| format!("{} {word}", size(*bytes)));
    let moved = moved.collect::<Vec<_>>().join(", ");
    let mut parts = vec![images];
    match moved.as_str() {
        "" => parts[0] += &format!(" in {}", duration(report.seconds)),
        moved => parts.push(format!("{moved} in {}", duration(report.seconds))),
    }
    let counting = report.registries.iter().filter(|host| host.meters_pulls && host.manifest_gets > 0);
    let pulls: Vec<_> = counting.map(|host| format!("{} {}", escape(&host.host), host.manifest_gets)).collect();
    if !pulls.is_empty() {
        parts.push(format!("pulls: {}", pulls.join(", ")));
    }
    parts
}

fn plan_summary(report: &Report, plan: &Plan) -> Vec<String> {
    let todo: Vec<_> = plan.with_work().collect();
    let of = |action: &Action| todo.iter().filter(|image| image.action == *action).count();
    let put_off = todo.iter().filter(|image| image.put_off.is_some()).count();
    let copies = of(&Action::Copy) + of(&Action::Refer) - put_off;
    let actions = [(copies, "to copy"), (of(&Action::Tag), "to tag"), (put_off, "to put off")];
    let actions = actions.iter().filter(|(count, _)| *count > 0).map(|(count, word)| format!("{count} {word}"));
    let statuses: Vec<_> = actions.chain(by_status(&report.outcomes)).collect();
    let mut images = count(plan.images.len(), "image", "images");
    if !statuses.is_empty() {
        let _ = write!(images, ": {}", statuses.join(", "));
    }
    let mut parts = vec![images];
    let known: u64 = todo.iter().filter_map(|image| image.bytes).map(|bytes| bytes.copied).sum();
    if known > 0 {
        let least = at_least(todo.iter().all(|image| image.bytes.is_some()));
        parts.push(format!("{least}{} to move", size(known)));
    }
    if !plan.missing.is_empty() {
        parts.push(format!("{} to create", count(plan.missing.len(), "repository", "repositories")));
    }
    if !plan.changes.is_empty() {
        parts.push(format!("{} to change", count(plan.changes.len(), "repository", "repositories")));
    }
    parts.extend(pulls_summary(report, &todo));
    parts
}

/// `pulls: docker.io at least 12 of 88 left, 3 more are in the cache`, if there are any.
fn pulls_summary(report: &Report, todo: &[&Transfer]) -> Option<String> {
    let mut hosts: BTreeMap<&str, (u64, u64, bool)> = BTreeMap::new();
    for image in todo.iter().filter(|image| image.pulls > 0 || image.pulls_spared > 0) {
        let host = image.source.repository().registry().as_str();
        let (pulls, spared, exact) = hosts.entry(host).or_insert((0, 0, true));
        *pulls += image.pulls;
        *spared += image.pulls_spared;
        *exact &= image.pulls_exact;
    }
    let pulls = hosts.iter().map(|(host, (pulls, spared, exact))| {
        let quota = report.registries.iter().find(|registry| registry.host == *host).and_then(|one| one.quota);
        let left = quota.map(|quota| format!(" of {} left", quota.remaining)).unwrap_or_default();
        let spared = if *spared > 0 { format!(", {spared} more are in the cache") } else { String::new() };
        format!("{} {}{pulls}{left}{spared}", escape(host), at_least(*exact))
    });
    let pulls: Vec<String> = pulls.collect();
    (!pulls.is_empty()).then(|| format!("pulls: {}", pulls.join(", ")))
}

fn at_least(exact: bool) -> &'static str {
    if exact { "" } else { "at least " }
}
