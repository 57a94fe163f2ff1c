//! Manifest GETs at the source that count against a quota, as far as can be told without one.

use std::collections::HashSet;
use std::sync::Arc;

use super::bytes::{may_have_more, part};
use super::{Action, Bytes, Plan, Planned, Transfer};
use crate::oci::{Digest, Edge, Manifest, Repository};
use crate::store::{Source, Stores};

/// What `transfer` takes if nothing of it is at hand.
pub(super) fn estimate(stores: &Arc<dyn Stores>, transfer: &mut Transfer) {
    let action = &transfer.action;
    let counts = action.has_work() && stores.source(transfer.source.repository()).is_ok_and(|s| s.meters_pulls());
    let copies = counts && *action == Action::Copy;
    // What an unread index points at is unknown, and so is what refers to it, and to the referrers.
    let is_open = copies && transfer.root.media_type.is_index() || counts && !transfer.referrers.is_empty();
    transfer.bytes = (*action != Action::Copy).then(Bytes::default);
    transfer.pulls = if copies { 1 + transfer.referrers.len() as u64 } else { 0 };
    transfer.pulls_exact = !is_open;
}

/// Takes off what is at hand, or is pulled for an image before.
pub(super) async fn spare(stores: &Arc<dyn Stores>, plan: &mut Plan) {
    let mut pulled = HashSet::new();
    for planned in &mut plan.images {
        if let Planned::Image(transfer) = planned {
            spare_cached(stores, transfer).await;
            count_once(transfer, &mut pulled);
        }
    }
}

/// What is at hand isn't pulled. Of an index that is, the children may be to pull or not: the target may have them.
async fn spare_cached(stores: &Arc<dyn Stores>, transfer: &mut Transfer) {
    let Ok(source) = stores.source(transfer.source.repository()) else { return };
    if transfer.pulls == 0 {
        return;
    }
    let mut spared = 0;
    for referrer in &transfer.referrers {
        spared += u64::from(source.cached_manifest(&referrer.digest).await.is_some());
    }
    if transfer.action == Action::Copy
        && let Some(root) = source.cached_manifest(&transfer.root.digest).await
    {
        spared += 1;
        let part = part(&root, transfer).ok().filter(|_| !may_have_more(transfer));
        transfer.pulls_exact |= match part {
            Some(part) => is_below_cached(&*source, part).await,
            None => false,
        };
    }
    transfer.pulls = transfer.pulls.saturating_sub(spared);
    transfer.pulls_spared = spared;
}

/// Whether all manifests of `transfer` that are known of are at hand, so that looking at them costs nothing.
pub(super) async fn is_all_cached(source: &dyn Source, transfer: &Transfer) -> bool {
    for referrer in &transfer.referrers {
        let Some(referrer) = source.cached_manifest(&referrer.digest).await else { return false };
        if !is_below_cached(source, referrer).await {
            return false;
        }
    }
    if transfer.action != Action::Copy {
        return true;
    }
    let Some(root) = source.cached_manifest(&transfer.root.digest).await else { return false };
    match part(&root, transfer) {
        Ok(part) => is_below_cached(source, part).await,
        Err(_) => false,
    }
}

/// Whether all manifests below `root` are at hand.
async fn is_below_cached(source: &dyn Source, root: Manifest) -> bool {
    let (mut to_follow, mut seen) = (vec![root], HashSet::new());
    while let Some(manifest) = to_follow.pop() {
        for edge in manifest.successors() {
            if let Edge::Manifest(child) = edge
                && seen.insert(child.digest.clone())
            {
                let Some(child) = source.cached_manifest(&child.digest).await else { return false };
                to_follow.push(child);
            }
        }
    }
    true
}

/// A manifest, and what refers to it, is pulled once from its repository in a run, however many tags and targets it is for.
fn count_once(transfer: &mut Transfer, pulled: &mut HashSet<(Repository, Digest)>) {
    let manifest = (transfer.source.repository().clone(), transfer.root.digest.clone());
    if transfer.pulls > 0 && !pulled.insert(manifest) {
        (transfer.pulls, transfer.pulls_exact) = (0, true);
    }
}
