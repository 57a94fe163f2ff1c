//! Pulls that a copy won't need as another place has the manifest: another target, or a mirror, which is asked by HEAD. A copy
//! finds that out by itself, so only a plan that is to be shown is priced by it.

use std::collections::HashSet;
use std::sync::Arc;

use futures::StreamExt as _;

use super::request::QUESTIONS;
use super::{Action, Plan, Planned, Transfer};
use crate::oci::{Digest, Repository};
use crate::store::Stores;

/// Takes off what the images of `plan` don't pull as another place has it.
pub async fn spare_elsewhere(plan: &mut Plan, stores: &Arc<dyn Stores>) {
    let right: HashSet<(Digest, Repository)> = plan.images.iter().filter_map(at_its_target).collect();
    let readable = |repository: &Repository| stores.target(repository).is_ok_and(|t| !t.records_pull_time());
    let right: HashSet<Digest> = right.into_iter().filter(|(_, at)| readable(at)).map(|(digest, _)| digest).collect();
    let asked: Vec<_> = plan.images.iter().map(|planned| spared(stores, planned, &right)).collect();
    let spared: Vec<u64> = futures::stream::iter(asked).buffered(QUESTIONS).collect().await;
    for (planned, spared) in plan.images.iter_mut().zip(spared) {
        if let Planned::Image(transfer) = planned {
            transfer.pulls = transfer.pulls.saturating_sub(spared);
        }
    }
}

fn at_its_target(planned: &Planned) -> Option<(Digest, Repository)> {
    match planned {
        Planned::Image(transfer) if matches!(transfer.action, Action::UpToDate | Action::Tag | Action::Refer) => {
            Some((transfer.target_digest().clone(), transfer.target.clone()))
        }
        _ => None,
    }
}

/// How many of the pulls of an image aren't needed.
async fn spared(stores: &Arc<dyn Stores>, planned: &Planned, right: &HashSet<Digest>) -> u64 {
    let Planned::Image(transfer @ Transfer { pulls: 1.., .. }) = planned else { return 0 };
    if right.contains(transfer.target_digest()) {
        return transfer.pulls;
    }
    let Ok(source) = stores.source(transfer.source.repository()) else { return 0 };
    let root = (transfer.action == Action::Copy).then_some(&transfer.root.digest);
    let mut spared = 0;
    for digest in root.into_iter().chain(transfer.referrers.iter().map(|referrer| &referrer.digest)) {
        // What the cache has isn't among them any more.
        let is_cached = source.cached_manifest(digest).await.is_some();
        spared += u64::from(!is_cached && !source.costs_pull(digest).await);
    }
    spared
}
