//! Finds the referrers of an image and of its parts level by level, and copies them before the image gets its tag.
//!
//! The referrers of the root come from the lock; for all other manifests the source is asked. The referrers of a
//! referrer come after it. A cycle is impossible: a manifest names its subject by digest, and a list entry that
//! contradicts its manifest is ignored.

use std::collections::HashSet;
use std::sync::Arc;

use futures::future::join_all;

use super::Engine;
use super::referrer_set::{self, Fate, ReferrerSet};
use super::route::Route;
use super::walk;
use crate::error::{Error, Kind, Result, Side, Stage};
use crate::oci::{Digest, Manifest, Referrer, bounds};
use crate::plan::{Action, ReferrerPolicy, Transfer};
use crate::report::{Bytes, ReferrerOutcome, Status};

/// The result of copying referrers.
#[derive(Debug, Default)]
pub(super) struct CopiedReferrers {
    pub(super) bytes: Bytes,
    /// Whether other content is kept in place of one of them.
    pub(super) kept: bool,
}

/// The referrers of the root, from the lock. `seen`: the plan has already compared them with the target.
pub(super) fn of_root(transfer: &Transfer, seen: bool) -> ReferrerSet {
    ReferrerSet {
        subject: transfer.root.digest.clone(),
        members: transfer.wanted_referrers().cloned().collect(),
        overwrite: transfer.handling.overwrite,
        seen: seen.then(|| transfer.left.clone()),
        is_late: transfer.action == Action::Refer,
        awaits_subject: false,
    }
}

/// The referrers at the source of each of `subjects`; manifests without referrers are omitted.
pub(super) async fn find(
    engine: &Engine,
    route: &Route,
    transfer: &Transfer,
    subjects: &[Digest],
) -> Result<Vec<ReferrerSet>> {
    let rule = &transfer.handling.referrers;
    if rule.policy == ReferrerPolicy::None || subjects.is_empty() {
        return Ok(Vec::new());
    }
    engine.check_stop()?;
    let found = engine.finder.find(route.source_repository(), subjects).await?;
    let sets = subjects.iter().zip(found).map(|(subject, found)| {
        let members = found.referrers.iter().filter(|referrer| rule.wants(referrer)).cloned().collect();
        let (subject, overwrite) = (subject.clone(), transfer.handling.overwrite);
        ReferrerSet { subject, members, overwrite, seen: None, is_late: false, awaits_subject: false }
    });
    Ok(sets.filter(|set| !set.members.is_empty()).collect())
}

/// Copies `sets` and their referrers, and records each outcome in `rows`. `absent` is the root if the target doesn't
/// have it yet. If the target refuses a referrer for that reason, the root is pushed by digest, and then the referrer
/// again. `all`: also look for the referrers of referrers that are already there.
pub(super) async fn copy_all(
    engine: &Arc<Engine>,
    route: &Arc<Route>,
    transfer: &Transfer,
    mut absent: Option<&Arc<Manifest>>,
    mut sets: Vec<ReferrerSet>,
    all: bool,
    rows: &mut Vec<ReferrerOutcome>,
) -> Result<CopiedReferrers> {
    let (mut tally, mut followed) = (CopiedReferrers::default(), HashSet::new());
    for _ in 0..=bounds::DEPTH {
        sets.retain(|set| !set.members.is_empty());
        if sets.is_empty() {
            return Ok(tally);
        }
        for set in &mut sets {
            set.awaits_subject = absent.is_some_and(|root| *root.digest() == set.subject);
        }
        let mut copied = join_all(sets.iter().map(|set| referrer_set::copy_all(engine, route, set))).await;
        if let Some(root) = absent.take() {
            for (set, fates) in sets.iter().zip(&mut copied) {
                copy_after_root(engine, route, set, fates, root).await?;
            }
        }
        let (mut next, mut failed) = (Vec::new(), None);
        for (referrer, fate) in sets.iter().flat_map(|set| &set.members).zip(copied.into_iter().flatten()) {
            let follow = matches!(fate, Fate::Arrived { .. }) || (all && matches!(fate, Fate::There));
            if follow && followed.insert(referrer.digest.clone()) {
                next.push(referrer.digest.clone());
            }
            if let Fate::Arrived { bytes, .. } = fate {
                tally.bytes += bytes;
            }
            tally.kept |= matches!(fate, Fate::Kept);
            if let Fate::Failed(error) = &fate {
                failed.get_or_insert_with(|| error.clone());
            }
            add_row(rows, referrer, fate);
        }
        match failed {
            Some(error) => return Err(error),
            None => sets = find(engine, route, transfer, &next).await?,
        }
    }
    let attempted = format!("follow referrers of {} in {}", transfer.root.digest, route.source);
    let why = format!("referrers of referrers nest deeper than {}", bounds::DEPTH);
    Err(Error::new(Kind::Invalid, attempted, why).on(Side::Source))
}

/// Copies the referrers that the target refuses as long as their subject, the root, is missing.
async fn copy_after_root(
    engine: &Arc<Engine>,
    route: &Arc<Route>,
    set: &ReferrerSet,
    fates: &mut [Fate],
    root: &Arc<Manifest>,
) -> Result<()> {
    let is_early = |fate: &&mut Fate| matches!(fate, Fate::TooEarly(_));
    let members = set.members.iter().zip(&*fates).filter(|(_, fate)| matches!(fate, Fate::TooEarly(_)));
    let members: Vec<Referrer> = members.map(|(member, _)| member.clone()).collect();
    if members.is_empty() {
        return Ok(());
    }
    tracing::debug!("{}: pushing {} before its referrers", route.target, root.digest());
    walk::copy_node(engine, route, root).await?;
    let (subject, overwrite) = (set.subject.clone(), set.overwrite);
    let late = ReferrerSet { subject, members, overwrite, seen: None, is_late: false, awaits_subject: false };
    let late = referrer_set::copy_all(engine, route, &late).await;
    let now = late.into_iter().map(|fate| match fate {
        // It was sent before, and counts as arrived now that its subject is there.
        Fate::There => Fate::Arrived { bytes: Bytes::default(), new: true, to_list: None },
        fate => fate,
    });
    fates.iter_mut().filter(is_early).zip(now).for_each(|(fate, now)| *fate = now);
    Ok(())
}

/// Each digest has one row, even if it was found in two ways.
fn add_row(rows: &mut Vec<ReferrerOutcome>, referrer: &Referrer, fate: Fate) {
    let (status, error) = match fate {
        Fate::There | Fate::Arrived { new: false, .. } => (Status::UpToDate, None),
        Fate::Arrived { .. } => (Status::Copied, None),
        Fate::NotAReferrer | Fate::Kept => (Status::Skipped, None),
        Fate::Failed(error) if error.kind() == Kind::Interrupted => (Status::Skipped, Some(error.at(Stage::Copy))),
        Fate::Refused(error) | Fate::TooEarly(error) | Fate::Failed(error) => {
            (Status::Failed, Some(error.at(Stage::Copy)))
        }
    };
    let weight = |status| {
        let weights = [Status::Skipped, Status::UpToDate, Status::Copied, Status::Failed];
        weights.iter().position(|one| *one == status)
    };
    let is_same = |row: &&mut ReferrerOutcome| row.referrer.as_ref().is_some_and(|one| one.digest == referrer.digest);
    match rows.iter_mut().find(is_same) {
        Some(row) if weight(row.status) >= weight(status) => {}
        Some(row) => (row.status, row.error) = (status, error),
        None => rows.push(ReferrerOutcome { referrer: Some(referrer.clone()), status, error }),
    }
}
