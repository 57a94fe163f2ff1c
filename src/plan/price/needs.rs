//! What one image needs on its own: the manifests that are pulled, and the content that its target lacks.
//!
//! The manifests of the image and of its locked referrers are read if that is allowed, and the target is asked for
//! their parts, so that bytes and pulls are exact for everything that is known. Only the copy finds the referrers
//! of an index's children.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use futures::{StreamExt as _, TryStreamExt as _};
use tokio::sync::OnceCell;

use super::super::{Action, Bytes, Plan, Planned, RepairFindings, Spared, Transfer};
use super::elsewhere::Elsewhere;
use super::{IMAGES, Spending, may_have_more};
use crate::error::{Error, Kind, Result};
use crate::oci::{Descriptor, Digest, Edge, Manifest, Repository, Selector};
use crate::store::{Source, Stores, Target, cached_graph};

/// What an image needs.
pub(super) struct Needs {
    /// Manifests to read at the source by a metered pull.
    pub(super) pulls: Vec<Digest>,
    pub(super) spared: Spared,
    /// Whether the parts of the image may need more pulls than are known.
    pub(super) is_open: bool,
    /// The content that the target lacks; `None` while manifests are unread.
    pub(super) content: Option<Content>,
    /// What is missing below a correct tag, if that was checked.
    pub(super) missing: Option<Bytes>,
}

/// The content of an image that the target lacks.
pub(super) struct Content {
    pub(super) blobs: Vec<Descriptor>,
    /// The content that it has, in bytes.
    pub(super) present: u64,
}

/// A manifest, once it was read.
type Reading = Arc<OnceCell<Manifest>>;

/// Reads the manifests of images.
pub(super) struct Reader<'a> {
    stores: &'a Arc<dyn Stores>,
    empty: &'a HashSet<Repository>,
    repair_findings: &'a RepairFindings,
    /// Manifests by repository: each is read once for all tags and targets.
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
        Self {
            stores,
            empty: &plan.empty,
            repair_findings: &plan.repair_findings,
            read: Mutex::default(),
            spending,
            elsewhere,
        }
    }

    /// What the image at `place` in the plan needs; `None` if there is no work or its source can't be opened.
    pub(super) async fn needs(&self, place: usize, planned: &Planned) -> Option<Needs> {
        let transfer = planned.work()?;
        let source = self.stores.source(transfer.source.repository()).ok()?;
        let counts = source.meters_pulls();
        let repaired = self.repair_findings.images.get(&place);
        if transfer.action == Action::Tag {
            let is_open = counts && !transfer.referrers.is_empty();
            let content = Some(Content { blobs: Vec::new(), present: 0 });
            return Some(Needs { pulls: Vec::new(), spared: Spared::default(), is_open, content, missing: None });
        }
        if let Some(bytes) = repaired {
            // Its manifests are read at the target, below a correct tag.
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
        // The children of an unread index are unknown, and so are their referrers and those of the referrers.
        let is_unread = transfer.root.media_type.is_index() || !transfer.referrers.is_empty();
        let known = if counts { known_manifests(transfer) } else { Vec::new() };
        let (pulls, spared) = self.spare(&*source, transfer, known).await;
        Some(Needs { pulls, spared, is_open: counts && is_unread, content: None, missing: None })
    }

    /// The members of `manifests` that no other place has, so that the source has to serve them.
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

    /// The manifests that are read for an image, and the content below them that the target lacks.
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
                    // As in the copy, a branch ends at content that is there.
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

/// The manifests that are known to be sent: the root, if the image is copied, and its referrers.
fn known_manifests(transfer: &Transfer) -> Vec<Digest> {
    let root = (transfer.action == Action::Copy).then_some(&transfer.root.digest);
    let referrers = if transfer.action == Action::Refer { &transfer.lacking } else { &transfer.referrers };
    let referrers = referrers.iter().filter(|referrer| !transfer.left.contains(referrer));
    root.into_iter().chain(referrers.map(|referrer| &referrer.digest)).cloned().collect()
}

/// Whether all known manifests of `transfer` are in the cache, so that reading them is free.
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

/// The members of `manifests` that the cache lacks, and how many it has.
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

/// The part of `root` that the image consists of.
fn part(root: &Manifest, transfer: &Transfer) -> Result<Manifest> {
    let part = root.part(&transfer.handling.platforms, transfer.target_digest());
    part.map_err(|e| Error::new(Kind::Invalid, format!("price {}", transfer.source), e.to_string()))
}

async fn has_manifest(target: &dyn Target, digest: &Digest) -> bool {
    target.resolve(&Selector::Digest(digest.clone())).await.is_ok()
}

/// The members of `blobs` that `target` lacks.
async fn lacking(target: &dyn Target, blobs: Vec<Descriptor>) -> Result<Vec<Descriptor>> {
    let asked = blobs.into_iter().map(|blob| async move {
        let there = target.blob_size(&blob.digest).await?;
        Ok((there != Some(blob.size)).then_some(blob))
    });
    let answers: Vec<_> = futures::stream::iter(asked).buffered(IMAGES).try_collect().await?;
    Ok(answers.into_iter().flatten().collect())
}
