//! What one image takes, seen by itself: which manifests are pulled, and what its target lacks of their content.
//!
//! The manifests of what is to be copied, and of what the lock knows to refer to it, are read where that may be, and the
//! target is asked for their parts, so that bytes and pulls are exact for all that is known. What refers to the children of
//! an index is found only by the copy.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use futures::{StreamExt as _, TryStreamExt as _};
use tokio::sync::OnceCell;

use super::super::{Action, Bytes, Holes, Plan, Planned, Spared, Transfer};
use super::elsewhere::Elsewhere;
use super::{IMAGES, Spending, may_have_more};
use crate::error::{Error, Kind, Result};
use crate::oci::{Descriptor, Digest, Edge, Manifest, Repository, Selector};
use crate::store::{Source, Stores, Target, cached_graph};

/// What an image takes.
pub(super) struct Needs {
    /// Manifests to read at the source, which counts them.
    pub(super) pulls: Vec<Digest>,
    pub(super) spared: Spared,
    /// Whether what the image consists of may take more pulls than are known.
    pub(super) is_open: bool,
    /// What the target lacks; `None` while manifests are unread.
    pub(super) content: Option<Content>,
    /// What was seen to be missing below a tag that is right, where somebody has looked.
    pub(super) missing: Option<Bytes>,
}

/// What the target lacks of an image.
pub(super) struct Content {
    pub(super) blobs: Vec<Descriptor>,
    /// What it has, in bytes.
    pub(super) present: u64,
}

/// A manifest, once somebody has read it.
type Reading = Arc<OnceCell<Manifest>>;

/// Reads what images consist of.
pub(super) struct Reader<'a> {
    stores: &'a Arc<dyn Stores>,
    empty: &'a HashSet<Repository>,
    holes: &'a Holes,
    /// Manifests by repository: read once, for however many tags and targets.
    read: Mutex<HashMap<(Repository, Digest), Reading>>,
    spending: Spending,
    elsewhere: &'a Elsewhere,
}

impl<'a> Reader<'a> {
    pub(super) fn new(
        plan: &'a Plan,
        stores: &'a Arc<dyn Stores>,
        spending: Spending,
        elsewhere: &'a Elsewhere,
    ) -> Self {
        Self { stores, empty: &plan.empty, holes: &plan.holes, read: Mutex::default(), spending, elsewhere }
    }

    /// What the image at `place` in the plan takes; `None` where there is no work, or nobody to ask.
    pub(super) async fn needs(&self, place: usize, planned: &Planned) -> Option<Needs> {
        let transfer = planned.work()?;
        let source = self.stores.source(transfer.source.repository()).ok()?;
        let counts = source.meters_pulls();
        let repaired = self.holes.images.get(&place);
        if transfer.action == Action::Tag {
            let is_open = counts && !transfer.referrers.is_empty();
            let content = Some(Content { blobs: Vec::new(), present: 0 });
            return Some(Needs { pulls: Vec::new(), spared: Spared::default(), is_open, content, missing: None });
        }
        if let Some(bytes) = repaired {
            // Its manifests are read where they are: below a tag that is right.
            let missing = bytes.map(|bytes| Bytes { copied: bytes, ..Bytes::default() });
            return Some(Needs {
                pulls: Vec::new(),
                spared: Spared::default(),
                is_open: counts,
                content: None,
                missing,
            });
        }
        let may_read = !counts || self.spending == Spending::Pulls || is_all_cached(&*source, transfer).await;
        if may_read && let Ok((manifests, content)) = self.content(&*source, transfer).await {
            let (pulls, spared) = match counts {
                true => not_cached(&*source, manifests).await,
                false => (Vec::new(), 0),
            };
            let spared = Spared { by_cache: spared, elsewhere: 0 };
            let is_open = counts && may_have_more(transfer);
            return Some(Needs { pulls, spared, is_open, content: Some(content), missing: None });
        }
        // What an unread index points at is unknown, and so is what refers to it, and to the referrers.
        let is_unread = transfer.root.media_type.is_index() || !transfer.referrers.is_empty();
        let known = if counts { known_manifests(transfer) } else { Vec::new() };
        let (pulls, spared) = self.spare(&*source, transfer, known).await;
        Some(Needs { pulls, spared, is_open: counts && is_unread, content: None, missing: None })
    }

    /// Those of `manifests` that no other place has, so that the source has to give them.
    async fn spare(&self, source: &dyn Source, transfer: &Transfer, manifests: Vec<Digest>) -> (Vec<Digest>, Spared) {
        let (to_pull, by_cache) = not_cached(source, manifests).await;
        let (mut pulls, mut elsewhere) = (Vec::new(), 0);
        for digest in to_pull {
            match self.elsewhere.has(transfer, source, &digest).await {
                true => elsewhere += 1,
                false => pulls.push(digest),
            }
        }
        (pulls, Spared { by_cache, elsewhere })
    }

    /// The manifests that are read for an image, and what the target lacks of what they point at.
    async fn content(&self, source: &dyn Source, transfer: &Transfer) -> Result<(Vec<Digest>, Content)> {
        let target = self.stores.target(&transfer.target)?;
        let is_empty = self.empty.contains(&transfer.target);
        let may_ask = !is_empty || source.meters_pulls();
        let (mut read, mut blobs, mut present) = (HashSet::new(), Vec::new(), 0);
        let mut to_read = Vec::new();
        for digest in known_manifests(transfer) {
            let is_root = digest == transfer.root.digest;
            if is_root || is_empty || transfer.action == Action::Refer || !has_manifest(&*target, &digest).await {
                to_read.push(digest);
            }
        }
        while let Some(digest) = to_read.pop() {
            if !read.insert(digest.clone()) {
                continue;
            }
            let mut manifest = self.manifest(transfer.source.repository(), &digest).await?;
            if digest == transfer.root.digest {
                manifest = part(&manifest, transfer)?;
            }
            for edge in manifest.successors() {
                match edge {
                    Edge::Blob(blob) => blobs.push(blob.clone()),
                    // As the copy does: what is there ends a branch.
                    Edge::Manifest(child) if may_ask && has_manifest(&*target, &child.digest).await => {
                        present += child.size;
                    }
                    Edge::Manifest(child) => to_read.push(child.digest.clone()),
                }
            }
        }
        if !is_empty {
            let needed: u64 = blobs.iter().map(|blob| blob.size).sum();
            blobs = lacking(&*target, blobs).await?;
            present += needed - blobs.iter().map(|blob| blob.size).sum::<u64>();
        }
        Ok((read.into_iter().collect(), Content { blobs, present }))
    }

    async fn manifest(&self, repository: &Repository, digest: &Digest) -> Result<Manifest> {
        let key = (repository.clone(), digest.clone());
        let cell = Arc::clone(self.read.lock().unwrap_or_else(PoisonError::into_inner).entry(key).or_default());
        let read = cell.get_or_try_init(|| async { self.stores.source(repository)?.manifest(digest).await });
        read.await.cloned()
    }
}

/// The manifests that are known to be sent: the root's, where the image is copied, and its referrers'.
fn known_manifests(transfer: &Transfer) -> Vec<Digest> {
    let root = (transfer.action == Action::Copy).then_some(&transfer.root.digest);
    let referrers = if transfer.action == Action::Refer { &transfer.lacking } else { &transfer.referrers };
    let referrers = referrers.iter().filter(|referrer| !transfer.left.contains(referrer));
    root.into_iter().chain(referrers.map(|referrer| &referrer.digest)).cloned().collect()
}

/// Whether all manifests of `transfer` that are known of are in the cache, so that looking at them costs nothing.
async fn is_all_cached(source: &dyn Source, transfer: &Transfer) -> bool {
    for digest in known_manifests(transfer) {
        let Some(mut manifest) = source.cached_manifest(&digest).await else { return false };
        if digest == transfer.root.digest {
            let Ok(part) = part(&manifest, transfer) else { return false };
            manifest = part;
        }
        if !cached_graph(source, manifest).await.1 {
            return false;
        }
    }
    true
}

/// Those of `manifests` that the cache lacks, and how many it has.
async fn not_cached(source: &dyn Source, manifests: Vec<Digest>) -> (Vec<Digest>, u64) {
    let (mut absent, mut cached) = (Vec::new(), 0);
    for digest in manifests {
        match source.cached_manifest(&digest).await {
            Some(_) => cached += 1,
            None => absent.push(digest),
        }
    }
    (absent, cached)
}

/// What of its root an image consists of.
pub(super) fn part(root: &Manifest, transfer: &Transfer) -> Result<Manifest> {
    let part = root.part(&transfer.handling.platforms, transfer.target_digest());
    part.map_err(|e| Error::new(Kind::Invalid, format!("price {}", transfer.source), e.to_string()))
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
