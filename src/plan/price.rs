//! What a plan costs, each image by itself and then in the order of the plan: what one image brings is there for the next.
//!
//! Only a plan that is to be shown has a price. It is worked out by the rules of the copy: what is read from the cache, from a
//! mirror or from another target isn't pulled, and a blob enters each target registry once.

mod elsewhere;
mod needs;
mod quota;

use std::collections::HashSet;
use std::sync::Arc;

use futures::StreamExt as _;

use self::elsewhere::Elsewhere;
use self::needs::{Content, Needs, Reader};
use self::quota::Allowance;
use super::{Action, Bytes, Cost, Plan, Planned, ReferrerPolicy, Transfer};
use crate::oci::{Descriptor, Digest, Edge, Registry, Repository};
use crate::store::{Stores, cached_graph};

/// Images that are priced side by side, and questions about the blobs of one.
const IMAGES: usize = 16;

/// What a price may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spending {
    /// No counted pull: what images consist of whose manifests can't be had without one stays unknown.
    Nothing,
    /// The pulls that it takes; a cache spares the copy the same ones.
    Pulls,
}

/// Gives each image of `plan` its cost, as a sync will have it.
pub async fn price(plan: &mut Plan, stores: &Arc<dyn Stores>, spending: Spending) {
    let elsewhere = Elsewhere::new(plan, stores);
    let reader = Reader::new(plan, stores, spending, &elsewhere);
    let needs: Vec<_> = plan.images.iter().enumerate().map(|(place, planned)| reader.needs(place, planned)).collect();
    let needs: Vec<Option<Needs>> = futures::stream::iter(needs).buffered(IMAGES).collect().await;
    let mut bill = Bill { allowance: Allowance::new(stores), ..Bill::default() };
    bill.note_what_is_there(plan, stores).await;
    let mut costs = Vec::new();
    for (planned, needs) in plan.images.iter().zip(needs) {
        costs.push(match (planned, needs) {
            (Planned::Image(transfer), Some(needs)) => Some(bill.add(transfer, needs).await),
            _ => None,
        });
    }
    for (planned, cost) in plan.images.iter_mut().zip(costs) {
        if let (Planned::Image(transfer), Some(cost)) = (planned, cost) {
            transfer.cost = cost;
        }
    }
}

/// What the images so far have brought and taken.
#[derive(Default)]
struct Bill<'a> {
    pulled: HashSet<(Repository, Digest)>,
    /// Roots of which more may be pulled than is known: for one target, as long as they are unread.
    open: HashSet<(Repository, Digest, Option<Repository>)>,
    registries: HashSet<(Registry, Digest)>,
    scopes: HashSet<(String, Digest)>,
    allowance: Allowance<'a>,
}

impl Bill<'_> {
    /// What the images that are right consist of, as far as the manifests in the cache tell, can be mounted for the others.
    async fn note_what_is_there(&mut self, plan: &Plan, stores: &Arc<dyn Stores>) {
        if !plan.with_work().any(|transfer| transfer.action == Action::Copy) {
            return;
        }
        for transfer in plan.right() {
            let Ok(source) = stores.source(transfer.source.repository()) else { continue };
            let Some(root) = source.cached_manifest(&transfer.root.digest).await else { continue };
            let Ok(root) = needs::part(&root, transfer) else { continue };
            for manifest in cached_graph(&*source, root).await.0 {
                for edge in manifest.successors() {
                    if let Edge::Blob(blob) = edge {
                        self.bring(blob, &transfer.target);
                    }
                }
            }
        }
    }

    /// The cost of the next image. A manifest is pulled once from its repository in a run, however many tags and targets it
    /// is for.
    async fn add(&mut self, transfer: &Transfer, needs: Needs) -> Cost {
        let source = transfer.source.repository();
        let fresh = needs.pulls.into_iter().filter(|digest| self.pulled.insert((source.clone(), digest.clone())));
        let pulls = fresh.count() as u64;
        let whose = needs.content.is_none().then(|| transfer.target.clone());
        let is_open = needs.is_open && self.open.insert((source.clone(), transfer.root.digest.clone(), whose));
        let bytes = needs.content.map(|Content { blobs, present }| {
            let mut bytes = Bytes { present, ..Bytes::default() };
            blobs.iter().for_each(|blob| bytes += self.bring(blob, &transfer.target));
            bytes
        });
        let cost =
            Cost { pulls, pulls_exact: !is_open, spared: needs.spared, bytes: bytes.or(needs.missing), put_off: None };
        let put_off = self.allowance.take(transfer, &cost).await;
        Cost { put_off, ..cost }
    }

    /// How `blob` gets to `target`, which lacks it.
    fn bring(&mut self, blob: &Descriptor, target: &Repository) -> Bytes {
        let is_in_registry = !self.registries.insert((target.registry().clone(), blob.digest.clone()));
        let is_here = !self.scopes.insert((target.blob_scope().to_string(), blob.digest.clone()));
        let (size, none) = (blob.size, Bytes::default());
        match (is_here, is_in_registry) {
            (true, _) => Bytes { present: size, ..none },
            (false, true) => Bytes { mounted: size, ..none },
            (false, false) => Bytes { copied: size, ..none },
        }
    }
}

/// Nobody has asked yet what refers to the children of an index, and to referrers.
fn may_have_more(transfer: &Transfer) -> bool {
    let has_parts = transfer.root.media_type.is_index() && transfer.action == Action::Copy;
    let follows = transfer.handling.referrers.policy != ReferrerPolicy::None;
    follows && (has_parts || !transfer.referrers.is_empty())
}
