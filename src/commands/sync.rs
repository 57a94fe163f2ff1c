//! `sync`: list → lock → repositories → copy → report.

use super::detour::detour;
use super::plan::{warn_of_subsets, warn_of_untagged};
use super::run_lock::RunLock;
use super::session::{Session, Start};
use crate::cli::Sync;
use crate::lock::{self, Lock, LockedImage};
use crate::oci::{Digest, Selector};
use crate::plan::{Spending, price};
use crate::report::{Change, Part, Report, gone};
use crate::resolve::{self, Resolution, Update};

pub(super) async fn run(start: Start, arguments: &Sync) -> anyhow::Result<Report> {
    let _run_lock = RunLock::take(&start, arguments.wait, !arguments.dry_run).await;
    let only = &arguments.selection.only;
    let detour = detour(arguments.target.as_deref(), arguments.from.as_deref(), only)?;
    let (session, pins) = start.session_for(&detour)?;
    if let Some(from) = &detour.from {
        session.layouts.check(from).await?;
    }
    let only = session.only(only, &pins.old)?;
    let unusable = session.unusable_targets().await;
    let mut prefetch = session.prefetch(&pins, &only);
    let mut resolution = if arguments.locked {
        Resolution { lock: pins.locked(&session.images)?, ..Resolution::default() }
    } else if let Some(error) = &unusable {
        resolve::without_asking(&session.images, &pins.old, error)
    } else {
        let update = if arguments.update { Update::All } else { Update::Nothing };
        prefetch.during(session.resolve(&pins.old, &update, &only)).await
    };
    // An interrupted resolution is incomplete, so the lock file isn't written.
    let is_whole = !session.stop.is_cancelled();
    // A pin records what upstream serves, which a layout doesn't show.
    let may_write = is_whole && unusable.is_none() && !arguments.dry_run && detour.from.is_none();
    if may_write && !arguments.locked {
        resolution.lock = pins.write(resolution.lock)?;
    }
    if detour.from.is_some() {
        resolution.lock = as_mirrored(&session, &resolution.lock).await;
    }
    // Without a lock, each run is an update.
    let follow = arguments.update || !pins.are_kept();
    let mut plan = session.plan((pins.before(), &resolution), &only, prefetch, follow, arguments.repair).await;
    resolution.reserved.clear();
    let mut report = if arguments.dry_run {
        warn_of_untagged(&plan, "name one with as:");
        warn_of_subsets(&plan);
        session.stop.run_until_cancelled(price(&mut plan, &session.stores, Spending::Nothing)).await;
        session.report("sync").with_plan(plan)
    } else {
        let mut report = session.execute(plan).await;
        if detour.from.is_none() {
            gone::explain(&mut report.outcomes);
        }
        report
    };
    if detour.provisions {
        report.proxy_caches = session.proxy_caches(!arguments.dry_run).await;
    }
    if is_whole && arguments.update {
        report.changes = Some(changes(&pins.old, &resolution.lock));
    }
    session.bound_cache(&resolution.lock);
    Ok(session.finish("sync", report))
}

/// The pins with the digests that a mirror holds: the lock's own digests may exist only upstream. If the layout has the
/// whole image, its subset is computed from that, as it would be upstream.
pub(super) async fn as_mirrored(session: &Session, lock: &Lock) -> Lock {
    let mut here = lock.clone();
    for image in lock.images() {
        let Some(digest) = &image.mirrored else { continue };
        let Ok(source) = session.stores.source(image.source.repository()) else { continue };
        let find = async |digest: &Digest| source.resolve(&Selector::Digest(digest.clone())).await.ok();
        let found = find(digest).await;
        if found.is_none() && find(&image.digest).await.is_some() {
            continue;
        }
        // A missing image fails when it is copied, under the name that it has in the layout.
        let size = found.map_or(image.size, |found| found.size);
        here.pin(LockedImage { digest: digest.clone(), size, mirrored: None, ..image.clone() });
    }
    here
}

/// The differences between two locks, for the report.
pub(super) fn changes(old: &Lock, new: &Lock) -> Vec<Change> {
    let differ = old.diff(new).into_iter();
    let spoken = differ.map(|change| {
        let lock::Change { source, old, new, referrer, .. } = change;
        let what = if referrer { Part::Referrer } else { Part::Pin };
        Change { source: source.to_string(), what, old, new }
    });
    spoken.collect()
}
