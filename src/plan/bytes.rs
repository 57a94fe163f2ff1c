//! What a plan comes to: reads the manifests of what is to be copied, and of what the lock knows to refer to it, and asks
//! the targets for their parts, so that bytes and pulls are exact for all that is known. What refers to the children of an
//! index is found only by the copy. The manifest GETs count where pulls are counted, and are sent there only with
//! `plan --bytes`; a cache spares the copy the same ones.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use futures::{StreamExt as _, TryStreamExt as _};
use tokio::sync::OnceCell;

use super::pulls::is_all_cached;
use super::{Action, Bytes, Plan, Planned, ReferrerPolicy, Transfer};
use crate::error::{Error, Kind, Result};
use crate::oci::{Descriptor, Digest, Edge, Manifest, Registry, Repository, Selector};
use crate::store::{Source, Stores, Target};

/// Images that are estimated side by side, and questions about the blobs of one.
const IMAGES: usize = 16;

/// What an estimate may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spending {
    /// No counted pull: images whose manifests can't be had without one stay as they are.
    Nothing,
    /// The pulls that it takes.
    Pulls,
}

/// What of an image its target lacks.
struct Lacking {
    /// Manifests to read; the source counts them.
    pulls: Vec<Digest>,
    blobs: Vec<Descriptor>,
    /// What the target has of it.
    present: u64,
}

/// Fills in `bytes` and `pulls` of each image to copy, as a sync will have them: a blob is sent to each target registry once,
/// for the first image that needs it, and mounted for the others. An image whose manifests can't be read keeps what it has.
pub async fn estimate_bytes(plan: &mut Plan, stores: &Arc<dyn Stores>, spending: Spending) {
    let estimator = Estimator { stores, empty: &plan.empty, read: Mutex::default(), spending };
    let to_estimate = plan.images.iter().filter_map(|planned| match planned {
        Planned::Image(transfer) if is_weighed(transfer) => Some(transfer),
        _ => None,
    });
    let estimates: Vec<_> = to_estimate.map(|transfer| estimator.estimate(transfer)).collect();
    let lacking: Vec<_> = futures::stream::iter(estimates).buffered(IMAGES).collect().await;
    let (mut arrived, mut pulled, mut roots) = (Arrived::default(), HashSet::new(), HashSet::new());
    let transfers = plan.images.iter_mut().filter_map(|planned| match planned {
        Planned::Image(transfer) if is_weighed(transfer) => Some(transfer),
        _ => None,
    });
    for (transfer, lacking) in transfers.zip(lacking) {
        let Ok(Some(Lacking { pulls, blobs, present })) = lacking else { continue };
        let mut bytes = Bytes { present, ..Bytes::default() };
        blobs.iter().for_each(|blob| bytes += arrived.bring(blob, &transfer.target));
        transfer.bytes = Some(bytes);
        let source = transfer.source.repository();
        let fresh = pulls.into_iter().filter(|digest| pulled.insert((source.clone(), digest.clone())));
        let counts = stores.source(source).is_ok_and(|source| source.meters_pulls());
        let may_have_more =
            counts && may_have_more(transfer) && roots.insert((source.clone(), transfer.root.digest.clone()));
        (transfer.pulls, transfer.pulls_exact) = (fresh.count() as u64, !may_have_more);
    }
}

/// Where blobs will be by the time that an image's turn comes.
#[derive(Default)]
struct Arrived {
    registries: HashSet<(Registry, Digest)>,
    scopes: HashSet<(String, Digest)>,
}

impl Arrived {
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

fn is_weighed(transfer: &Transfer) -> bool {
    matches!(transfer.action, Action::Copy | Action::Refer)
}

/// Nobody has asked yet what refers to the children of an index, and to referrers.
pub(super) fn may_have_more(transfer: &Transfer) -> bool {
    let has_parts = transfer.root.media_type.is_index() && transfer.action == Action::Copy;
    let follows = transfer.handling.referrers.policy != ReferrerPolicy::None;
    follows && (has_parts || !transfer.referrers.is_empty())
}

/// A manifest, once somebody has read it.
type Reading = Arc<OnceCell<Manifest>>;

struct Estimator<'a> {
    stores: &'a Arc<dyn Stores>,
    empty: &'a HashSet<Repository>,
    /// Manifests by repository: read once, for however many tags and targets.
    read: Mutex<HashMap<(Repository, Digest), Reading>>,
    spending: Spending,
}

impl Estimator<'_> {
    /// `None` where it would cost what may not be spent.
    async fn estimate(&self, transfer: &Transfer) -> Result<Option<Lacking>> {
        let from = transfer.source.repository();
        let target = self.stores.target(&transfer.target)?;
        let source = self.stores.source(from)?;
        let counts = source.meters_pulls();
        if counts && self.spending == Spending::Nothing && !is_all_cached(&*source, transfer).await {
            return Ok(None);
        }
        let empty = self.empty.contains(&transfer.target);
        let (mut manifests, mut blobs, mut present) = (HashSet::new(), Vec::new(), 0);
        let mut to_read: Vec<Digest> = Vec::new();
        if transfer.action == Action::Copy {
            to_read.push(transfer.root.digest.clone());
        }
        for referrer in transfer.referrers.iter().filter(|one| !transfer.left.contains(one)) {
            if empty || !has_manifest(&*target, &referrer.digest).await {
                to_read.push(referrer.digest.clone());
            }
        }
        while let Some(digest) = to_read.pop() {
            if !manifests.insert(digest.clone()) {
                continue;
            }
            let mut manifest = self.manifest(from, &digest).await?;
            if digest == transfer.root.digest {
                manifest = part(&manifest, transfer)?;
            }
            for edge in manifest.successors() {
                match edge {
                    Edge::Blob(blob) => blobs.push(blob.clone()),
                    // As the copy does: what is there ends a branch.
                    Edge::Manifest(child) if (!empty || counts) && has_manifest(&*target, &child.digest).await => {
                        present += child.size;
                    }
                    Edge::Manifest(child) => to_read.push(child.digest.clone()),
                }
            }
        }
        let pulls = if counts { not_cached(&*source, manifests).await } else { Vec::new() };
        if !empty {
            let needed: u64 = blobs.iter().map(|blob| blob.size).sum();
            blobs = lacking(&*target, blobs).await?;
            present += needed - blobs.iter().map(|blob| blob.size).sum::<u64>();
        }
        Ok(Some(Lacking { pulls, blobs, present }))
    }

    async fn manifest(&self, repository: &Repository, digest: &Digest) -> Result<Manifest> {
        let key = (repository.clone(), digest.clone());
        let cell = Arc::clone(self.read.lock().unwrap_or_else(PoisonError::into_inner).entry(key).or_default());
        let read = cell.get_or_try_init(|| async { self.stores.source(repository)?.manifest(digest).await });
        read.await.cloned()
    }
}

/// What of its root an image consists of.
pub(super) fn part(root: &Manifest, transfer: &Transfer) -> Result<Manifest> {
    let part = root.part(&transfer.handling.platforms, transfer.target_digest());
    part.map_err(|e| Error::new(Kind::Invalid, format!("weigh {}", transfer.source), e.to_string()))
}

/// Those that a copy will have to read: where there is a cache, it holds by now what was read for the plan.
async fn not_cached(source: &dyn Source, manifests: HashSet<Digest>) -> Vec<Digest> {
    let mut to_read = Vec::new();
    for digest in manifests {
        if source.cached_manifest(&digest).await.is_none() {
            to_read.push(digest);
        }
    }
    to_read
}

async fn has_manifest(target: &dyn Target, digest: &Digest) -> bool {
    target.resolve(&Selector::Digest(digest.clone())).await.is_ok()
}

/// Those of `blobs` that `target` doesn't have.
async fn lacking(target: &dyn Target, blobs: Vec<Descriptor>) -> Result<Vec<Descriptor>> {
    let asked = blobs.into_iter().map(|blob| async move {
        let there = target.blob_size(&blob.digest).await?;
        Ok((there != Some(blob.size)).then_some(blob))
    });
    let answers: Vec<_> = futures::stream::iter(asked).buffered(IMAGES).try_collect().await?;
    Ok(answers.into_iter().flatten().collect())
}
