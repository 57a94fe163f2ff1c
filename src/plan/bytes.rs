//! `plan --bytes`: reads the manifests of what is to be copied, and of what the lock knows to refer to it, and asks the
//! targets for their parts, so that bytes and pulls are exact for all that is known. What refers to the children of an index
//! is found only by the copy. The manifest GETs count where pulls are counted; a cache spares the copy the same ones.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use futures::{StreamExt as _, TryStreamExt as _};
use tokio::sync::OnceCell;

use super::{Action, Plan, Planned, ReferrerPolicy, Transfer};
use crate::error::{Error, Kind, Result};
use crate::oci::{Descriptor, Digest, Edge, Manifest, Repository, Selector};
use crate::store::{Source, Stores, Target};

/// Images that are estimated side by side, and questions about the blobs of one.
const IMAGES: usize = 16;

/// What of an image its target lacks.
struct Lacking {
    /// Manifests to read; the source counts them.
    pulls: Vec<Digest>,
    blobs: Vec<Descriptor>,
}

/// Fills in `bytes` and `pulls` of each image to copy: what leaves the upstream, each blob and each manifest once, credited
/// to the first image that needs it. An image whose manifests can't be read keeps what it has.
pub async fn estimate_bytes(plan: &mut Plan, stores: &Arc<dyn Stores>) {
    let estimator = Estimator { stores, empty: &plan.empty, read: Mutex::default() };
    let to_estimate = plan.images.iter().filter_map(|planned| match planned {
        Planned::Image(transfer) if is_weighed(transfer) => Some(transfer),
        _ => None,
    });
    let estimates: Vec<_> = to_estimate.map(|transfer| estimator.estimate(transfer)).collect();
    let lacking: Vec<_> = futures::stream::iter(estimates).buffered(IMAGES).collect().await;
    let (mut moved, mut pulled, mut roots) = (HashSet::new(), HashSet::new(), HashSet::new());
    let transfers = plan.images.iter_mut().filter_map(|planned| match planned {
        Planned::Image(transfer) if is_weighed(transfer) => Some(transfer),
        _ => None,
    });
    for (transfer, lacking) in transfers.zip(lacking) {
        let Ok(Lacking { pulls, blobs }) = lacking else { continue };
        let fresh = blobs.into_iter().filter(|blob| moved.insert(blob.digest.clone()));
        transfer.bytes = Some(fresh.map(|blob| blob.size).sum());
        let source = transfer.source.repository();
        let fresh = pulls.into_iter().filter(|digest| pulled.insert((source.clone(), digest.clone())));
        let counts = stores.source(source).is_ok_and(|source| source.meters_pulls());
        let may_have_more =
            counts && may_have_more(transfer) && roots.insert((source.clone(), transfer.root.digest.clone()));
        (transfer.pulls, transfer.pulls_exact) = (fresh.count() as u64, !may_have_more);
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
}

impl Estimator<'_> {
    async fn estimate(&self, transfer: &Transfer) -> Result<Lacking> {
        let from = transfer.source.repository();
        let target = self.stores.target(&transfer.target)?;
        let source = self.stores.source(from)?;
        let counts = source.meters_pulls();
        let empty = self.empty.contains(&transfer.target);
        let (mut manifests, mut blobs) = (HashSet::new(), Vec::new());
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
                    Edge::Manifest(child) if (!empty || counts) && has_manifest(&*target, &child.digest).await => {}
                    Edge::Manifest(child) => to_read.push(child.digest.clone()),
                }
            }
        }
        let pulls = if counts { not_cached(&*source, manifests).await } else { Vec::new() };
        Ok(Lacking { pulls, blobs: if empty { blobs } else { lacking(&*target, blobs).await? } })
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
    let part = root.subset(&transfer.handling.platforms);
    let part = part.map_err(|e| Error::new(Kind::Invalid, format!("estimate {}", transfer.source), e.to_string()));
    part.map(|part| part.manifest)
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
