//! The end of the text report: the run in numbers, and the next command.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;

use super::phrase::{count, duration};
use super::{CacheProof, Check, Outcome, Part, Quota, Reason, Report, Status};
use crate::plan::{Action, Plan, Planned, Spared, Transfer};
use crate::terminal::{escape, size};

/// The lines of the summary: images and targets by status, bytes and time, and the next command.
pub(super) fn summary(report: &Report) -> Vec<String> {
    let mut parts = Vec::new();
    if let Some(changes) = report.changes.as_ref().filter(|_| !report.verified && !report.of_caches) {
        let referrers = changes.iter().filter(|change| change.what == Part::Referrer).count();
        let mut changed = count(changes.len() - referrers, "pin", "pins");
        if referrers > 0 {
            let _ = write!(changed, ", {}", count(referrers, "referrer", "referrers"));
        }
        parts.push(format!("{changed} changed"));
    }
    if let Some(differences) = report.differences.as_ref().filter(|_| !report.verified && !report.of_caches) {
        parts.push(count(differences.len(), "difference", "differences"));
    }
    if let Some(checks) = &report.checks {
        parts.push(check_summary(checks, report.seconds));
    }
    if let Some(quotas) = &report.quotas {
        let limited = quotas.iter().filter(|one| one.quota.is_some()).count();
        parts.push(format!("{}, {limited} limited", count(quotas.len(), "account", "accounts")));
    }
    let mut lines = Vec::new();
    match &report.plan {
        _ if report.of_caches => lines.push(caches_summary(report)),
        _ if report.verified => lines.push(verification_summary(report)),
        Some(plan) => lines.extend(plan_summary(report, plan)),
        // A command that copies nothing only mentions images that failed.
        None if report.outcomes.is_empty() && !parts.is_empty() => {}
        None => lines.extend(run_summary(report)),
    }
    if !parts.is_empty() {
        lines.insert(0, parts.join("; "));
    }
    lines.extend(next(report).map(|command| format!("next: `transship {command}`")));
    lines
}

/// The suggested next command, if there is anything to do.
fn next(report: &Report) -> Option<String> {
    let has_failed = report.outcomes.iter().any(Outcome::is_failure);
    let verb = match report.command.as_str() {
        "sync" if report.plan.is_some() => report.plan.as_ref()?.with_work().next().map(|_| "sync")?,
        "sync" | "update" if has_failed || report.interrupted => report.command.as_str(),
        "sync" => report.outcomes.iter().any(|outcome| outcome.status == Status::Copied).then_some("verify")?,
        "plan" if has_failed => "plan",
        "plan" => report.plan.as_ref()?.with_work().next().map(|_| "sync")?,
        "verify" if has_failed || report.interrupted => "verify",
        "verify" => is_lacking(report, &|_| true).then_some("sync")?,
        "lock" if report.differences.is_some() => {
            report.differences.as_ref().filter(|found| !found.is_empty()).map(|_| "update")?
        }
        "lock" if has_failed || report.interrupted => "lock",
        "check" if report.checks.iter().flatten().any(Check::is_failure) => "check",
        "update" | "lock" | "check" => "sync",
        _ => return None,
    };
    if verb == "verify" && report.given.iter().any(|(_, words)| words == "--no-lock") {
        return None;
    }
    let given = report.given.iter().filter(|(verbs, _)| verbs.iter().any(|one| one == verb));
    let given = given.map(|(_, words)| words.as_str());
    let words = std::iter::once(verb).chain(remedies(report, verb)).chain(given);
    Some(words.collect::<Vec<_>>().join(" "))
}

/// The command that restores what `verify` found missing below a tag.
fn remedies(report: &Report, verb: &str) -> Option<&'static str> {
    let is_below_a_tag = |part| matches!(part, Part::Manifest | Part::Blob);
    (report.verified && verb == "sync" && is_lacking(report, &is_below_a_tag)).then_some("--repair")
}

/// Whether a sync would restore something at the targets.
fn is_lacking(report: &Report, is_meant: &dyn Fn(Part) -> bool) -> bool {
    let differences = report.differences.iter().flatten();
    differences.filter(|difference| difference.expected.is_some()).any(|difference| is_meant(difference.what))
}

/// `30 images, 2 targets`: the number of images, and of targets of each.
fn extent<'a>(outcomes: impl Iterator<Item = (&'a str, Option<String>, bool)>) -> String {
    let mut images: HashMap<&str, BTreeMap<Option<String>, usize>> = HashMap::new();
    for (source, digest, has_target) in outcomes {
        *images.entry(source).or_default().entry(digest).or_default() += usize::from(has_target);
    }
    for places in images.values_mut() {
        // What failed at one target before its digest was asked for is the image that another target knows.
        if let Some(unknown) = places.remove(&None) {
            *places.entry(places.keys().next().cloned().flatten()).or_default() += unknown;
        }
    }
    let targets = images.values().flat_map(BTreeMap::values).copied().max().unwrap_or(0);
    let images = count(images.values().map(BTreeMap::len).sum(), "image", "images");
    if targets == 0 { images } else { format!("{images}, {}", count(targets, "target", "targets")) }
}

fn extent_of_outcomes(outcomes: &[Outcome]) -> String {
    extent(outcomes.iter().map(|outcome| {
        let digest = outcome.mirrored.as_ref().or(outcome.digest.as_ref()).map(ToString::to_string);
        (outcome.source.as_str(), digest, !outcome.target.is_empty())
    }))
}

fn extent_of_plan(plan: &Plan) -> String {
    let sources = plan.images.iter().map(|planned| match planned {
        Planned::Image(transfer) => (transfer.source.to_string(), Some(transfer.target_digest().to_string()), true),
        Planned::Failed { source, target, .. } => (source.clone(), None, !target.is_empty()),
    });
    let sources: Vec<_> = sources.collect();
    extent(sources.iter().map(|(source, digest, has_target)| (source.as_str(), digest.clone(), *has_target)))
}

/// `28 copied, 1 up to date, 1 failed`, without planned work.
fn by_status(outcomes: &[Outcome]) -> Vec<String> {
    let mut counts: BTreeMap<(Status, &str), usize> = BTreeMap::new();
    for Outcome { status, reason, .. } in outcomes {
        let word = match (status, reason) {
            (Status::Skipped, Some(Reason::Kept)) => "kept",
            (Status::Skipped, Some(Reason::Interrupted)) => "not done",
            _ => status.word(),
        };
        *counts.entry((*status, word)).or_default() += 1;
    }
    let order = |status| Status::ALL.into_iter().position(|one| one == status);
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|((status, _), _)| order(*status));
    counts.into_iter().map(|((_, word), count)| format!("{count} {word}")).collect()
}

/// `12 checks: 10 ok, 1 unknown, 1 failed in 0.4 s`.
fn check_summary(checks: &[Check], seconds: f64) -> String {
    let of = |ok: Option<bool>| checks.iter().filter(|check| check.proof.ok() == ok).count();
    let counts = [(of(Some(true)), "ok"), (of(None), "unknown"), (of(Some(false)), "failed")];
    let counts = counts.iter().filter(|(count, _)| *count > 0).map(|(count, word)| format!("{count} {word}"));
    let counts = counts.collect::<Vec<_>>().join(", ");
    format!("{}: {counts} in {}", count(checks.len(), "check", "checks"), duration(seconds))
}

/// `12 images, 1 target: 11 as pinned, 1 differs; 2 differences, 1.2 GB checked in 12.3 s`.
fn verification_summary(report: &Report) -> String {
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
    let differences = count(report.differences.as_ref().map_or(0, Vec::len), "difference", "differences");
    let bytes = Some(report.bytes().present).filter(|bytes| *bytes > 0);
    let bytes = bytes.map(|bytes| format!(", {} checked", size(bytes))).unwrap_or_default();
    let counts = counts.collect::<Vec<_>>().join(", ");
    let extent = extent_of_outcomes(&report.outcomes);
    format!("{extent}: {counts}; {differences}{bytes} in {}", duration(report.seconds))
}

/// `12 images at 1 cache: 10 warmed, 2 kept; 1.2 GB read in 12.3 s`, or with `--check`: `8 kept, 1 lacking; 3
/// differences in 1 s`.
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
    let pulls = report.pulls_by_caches.iter().map(|(registry, pulls)| {
        format!(
            "up to {} of {}",
            count(usize::try_from(*pulls).unwrap_or(usize::MAX), "pull", "pulls"),
            escape(registry)
        )
    });
    let facts: Vec<String> = differences.into_iter().chain(read).chain(pulls).collect();
    let facts = if facts.is_empty() { String::new() } else { format!("; {}", facts.join(", ")) };
    let counts = counts.collect::<Vec<_>>().join(", ");
    format!("{images} at {caches}: {counts}{facts} in {}", duration(report.seconds))
}

fn run_summary(report: &Report) -> Vec<String> {
    let mut lines = vec![extent_of_outcomes(&report.outcomes)];
    let statuses = by_status(&report.outcomes);
    if !statuses.is_empty() {
        let _ = write!(lines[0], ": {}", statuses.join(", "));
    }
    let bytes = report.bytes();
    let moved = [(bytes.copied, "copied"), (bytes.mounted, "mounted"), (bytes.present, "already there")];
    let moved = moved.iter().filter(|(bytes, _)| *bytes > 0).map(|(bytes, word)| format!("{} {word}", size(*bytes)));
    let moved = moved.collect::<Vec<_>>().join(", ");
    match moved.as_str() {
        "" => lines[0] += &format!(" in {}", duration(report.seconds)),
        moved => lines.push(format!("{moved} in {}", duration(report.seconds))),
    }
    lines.extend(pulls_spent(report));
    lines
}

/// `pulls: docker.io 35 spent, 65 of 100 left (spared: 3 by the cache)`, if there were any, spent or spared.
fn pulls_spent(report: &Report) -> Option<String> {
    let mut hosts: BTreeMap<&str, (u64, Option<Quota>, Spared)> = BTreeMap::new();
    for host in report.registries.iter().filter(|host| host.meters_pulls) {
        if host.manifest_gets > 0 || host.quota.is_some() {
            hosts.insert(&host.host, (host.manifest_gets, host.quota, Spared::default()));
        }
    }
    for outcome in report.outcomes.iter().filter(|outcome| outcome.spared != Spared::default()) {
        let host = outcome.source.split('/').next().unwrap_or_default();
        hosts.entry(host).or_default().2 += outcome.spared;
    }
    let pulls = hosts.iter().map(|(host, (spent, quota, spared))| {
        let left = quota.map(|quota| format!(", {} of {} left", quota.remaining, quota.limit)).unwrap_or_default();
        format!("{} {spent} spent{left}{}", escape(host), spared_by(*spared))
    });
    let pulls: Vec<String> = pulls.collect();
    (!pulls.is_empty()).then(|| format!("pulls: {}", pulls.join("; ")))
}

fn plan_summary(report: &Report, plan: &Plan) -> Vec<String> {
    let todo: Vec<_> = plan.with_work().collect();
    let of = |action: &Action| todo.iter().filter(|image| image.action == *action).count();
    let put_off = todo.iter().filter(|image| image.cost.put_off.is_some()).count();
    let copies = of(&Action::Copy) + of(&Action::Refer) - put_off;
    let actions = [(copies, "to copy"), (of(&Action::Tag), "to tag"), (put_off, "to put off")];
    let actions = actions.iter().filter(|(count, _)| *count > 0).map(|(count, word)| format!("{count} {word}"));
    let statuses: Vec<_> = actions.chain(by_status(&report.outcomes)).collect();
    let mut images = extent_of_plan(plan);
    if !statuses.is_empty() {
        let _ = write!(images, ": {}", statuses.join(", "));
    }
    let mut parts = Vec::new();
    let known: u64 = todo.iter().filter_map(|image| image.cost.bytes).map(|bytes| bytes.copied).sum();
    if known > 0 {
        let least = at_least(todo.iter().all(|image| image.cost.bytes.is_some()));
        parts.push(format!("{least}{} to move", size(known)));
    }
    if !plan.missing.is_empty() {
        parts.push(format!("{} to create", count(plan.missing.len(), "repository", "repositories")));
    }
    if !plan.changes.is_empty() {
        parts.push(format!("{} to change", count(plan.changes.len(), "repository", "repositories")));
    }
    parts.extend(pulls_summary(report, &todo));
    [images, parts.join("; ")].into_iter().filter(|line| !line.is_empty()).collect()
}

/// `pulls: docker.io at least 12 of 88 left (spared: 3 by the cache)`, if there are any.
fn pulls_summary(report: &Report, todo: &[&Transfer]) -> Option<String> {
    let mut hosts: BTreeMap<&str, (u64, Spared, bool)> = BTreeMap::new();
    for image in todo.iter().filter(|image| image.cost.pulls > 0 || image.cost.spared != Spared::default()) {
        let host = image.source.repository().registry().as_str();
        let (pulls, spared, exact) = hosts.entry(host).or_insert((0, Spared::default(), true));
        *pulls += image.cost.pulls;
        *spared += image.cost.spared;
        *exact &= image.cost.pulls_exact;
    }
    let pulls = hosts.iter().map(|(host, (pulls, spared, exact))| {
        let quota = report.registries.iter().find(|registry| registry.host == *host).and_then(|one| one.quota);
        let left = quota.map(|quota| format!(" of {} left", quota.remaining)).unwrap_or_default();
        format!("{} {}{pulls}{left}{}", escape(host), at_least(*exact), spared_by(*spared))
    });
    let pulls: Vec<String> = pulls.collect();
    (!pulls.is_empty()).then(|| format!("pulls: {}", pulls.join(", ")))
}

/// ` (spared: 3 by the cache, 2 by mirrors or targets)`
fn spared_by(spared: Spared) -> String {
    let by = [(spared.by_cache, "by the cache"), (spared.elsewhere, "by mirrors or targets")];
    let by = by.iter().filter(|(pulls, _)| *pulls > 0).map(|(pulls, whom)| format!("{pulls} {whom}"));
    let by = by.collect::<Vec<_>>().join(", ");
    if by.is_empty() { by } else { format!(" (spared: {by})") }
}

fn at_least(exact: bool) -> &'static str {
    if exact { "" } else { "at least " }
}

#[cfg(test)]
mod tests {
    use super::super::samples::outcome;
    use super::*;

    #[test]
    fn an_image_counts_once_if_its_digest_is_known() {
        let known = outcome("a.io/b:1", Status::UpToDate, 0, 0, 0.0);
        let unknown = Outcome { digest: None, target: "down.io/b:1".to_owned(), ..known.clone() };
        let other = outcome("a.io/b:2", Status::UpToDate, 0, 0, 0.0);
        assert_eq!(extent_of_outcomes(&[unknown.clone(), known, other]), "2 images, 2 targets");
        assert_eq!(extent_of_outcomes(&[unknown]), "1 image, 1 target");
    }
}
