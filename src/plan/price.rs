//! The cost of a plan, first for each image alone and then in plan order: what one image copies is available to the
//! next.
//!
//! Only a plan that is displayed has a price. It follows the rules of the copy: manifests from the cache, a mirror
//! or another target aren't pulled, and a blob is sent to each target registry once.

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
use crate::oci::{Descriptor, Digest, Edge, Manifest, Registry, Repository};
use crate::store::Stores;

/// Images that are priced concurrently, and concurrent blob checks for one image.
const IMAGES: usize = 16;

/// How many pulls pricing may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spending {
    /// No metered pull: the bytes of images whose manifests need one stay unknown.
    Nothing,
    /// The pulls that it needs; with a cache, the copy doesn't need the same ones again.
    Pulls,
}

/// Sets the cost of each image of `plan`, as a sync will have it.
pub async fn price(plan: &mut Plan, stores: &Arc<dyn Stores>, spending: Spending) {
    let elsewhere = Elsewhere::new(plan, stores);
    let reader = Reader::new(plan, stores, spending, &elsewhere);
    let needs: Vec<_> = plan.images.iter().enumerate().map(|(place, planned)| reader.needs(place, planned)).collect();
    let needs: Vec<Option<Needs>> = futures::stream::iter(needs).buffered(IMAGES).collect().await;
    let mut bill = Bill { allowance: Allowance::new(stores), ..Bill::default() };
    bill.note_present(plan, stores).await;
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

/// What the images so far have copied and cost.
#[derive(Default)]
struct Bill<'a> {
    pulled: HashSet<(Repository, Digest)>,
    /// Roots that may need more pulls than are known, for one target, as long as they are unread.
    open: HashSet<(Repository, Digest, Option<Repository>)>,
    registries: HashSet<(Registry, Digest)>,
    scopes: HashSet<(String, Digest)>,
    allowance: Allowance<'a>,
}

impl Bill<'_> {
    /// Records the parts of images that are already right, as far as cached manifests tell: the others can mount
    /// them.
    async fn note_present(&mut self, plan: &Plan, stores: &Arc<dyn Stores>) {
        let mut contents = std::pin::pin!(plan.known_contents(stores));
        while let Some((transfer, manifests)) = contents.next().await {
            for edge in manifests.iter().flat_map(Manifest::successors) {
                if let Edge::Blob(blob) = edge {
                    self.arrival(blob, &transfer.target);
                }
            }
        }
    }

    /// The cost of the next image. A run pulls a manifest once from its repository, however many tags and targets
    /// it has.
    async fn add(&mut self, transfer: &Transfer, needs: Needs) -> Cost {
        let source = transfer.source.repository();
        let fresh = needs.pulls.into_iter().filter(|digest| self.pulled.insert((source.clone(), digest.clone())));
        let pulls = fresh.count() as u64;
        let unread_target = needs.content.is_none().then(|| transfer.target.clone());
        let is_open = needs.is_open && self.open.insert((source.clone(), transfer.root.digest.clone(), unread_target));
        let bytes = needs.content.map(|Content { blobs, present }| {
            let mut bytes = Bytes { present, ..Bytes::default() };
            blobs.iter().for_each(|blob| bytes += self.arrival(blob, &transfer.target));
            bytes
        });
        let cost =
            Cost { pulls, pulls_exact: !is_open, spared: needs.spared, bytes: bytes.or(needs.missing), put_off: None };
        let put_off = self.allowance.take(transfer, &cost).await;
        Cost { put_off, ..cost }
    }

    /// How `blob` gets to `target`, which lacks it.
    fn arrival(&mut self, blob: &Descriptor, target: &Repository) -> Bytes {
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

/// Whether referrers of the index's children and of referrers haven't been looked up yet.
fn may_have_more(transfer: &Transfer) -> bool {
    let has_parts = transfer.root.media_type.is_index() && transfer.action == Action::Copy;
    let follows = transfer.handling.referrers.policy != ReferrerPolicy::None;
    follows && (has_parts || !transfer.referrers.is_empty())
}
