//! `--repair`: checks each manifest and blob below correct tags by HEAD, and adds work for images with missing
//! content.
//!
//! Each manifest and blob is checked once per target repository. The bytes of a manifest come from the cache, or
//! otherwise from the target or the source, whichever neither meters pulls nor records pull times.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::request::QUESTIONS;
use super::{Action, Plan, Planned, Transfer};
use crate::error::{Error, Kind, Result, Side, Stage, unless_stopped};
use crate::oci::{Algorithm, Digest, Edge, Manifest, Repository, Selector, bounds};
use crate::once::OnceMap;
use crate::store::{Source, Stores, Target};

/// Images that are checked concurrently, and concurrent branches of one manifest.
const IMAGES: usize = 16;

/// The results of checking below the tags of the targets.
#[derive(Debug, Clone, Default)]
pub struct RepairFindings {
    /// Manifests that are missing or damaged, or have missing or damaged content below them.
    pub broken: HashSet<(Repository, Digest)>,
    /// Manifests with nothing missing below them; `None` if this wasn't checked.
    pub whole: Option<HashSet<(Repository, Digest)>>,
    /// Content seen at the targets: content that is missing in one place can be copied from another.
    pub there: Vec<(Edge, Repository)>,
    /// The images to be repaired, by plan position, and the bytes of the blobs they lack. Each blob counts for the
    /// first image. `None` if more content has to be sent.
    pub images: HashMap<usize, Option<u64>>,
}

/// What is missing below a manifest, including the manifest.
#[derive(Debug, Clone, Copy, Default)]
struct Missing {
    any: bool,
    /// Bytes of blobs; manifests aren't counted.
    bytes: u64,
}

/// The shared view of the targets.
struct Inspector {
    stores: Arc<dyn Stores>,
    questions: Semaphore,
    looked: OnceMap<(Repository, Digest), Result<Missing>>,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    broken: HashSet<(Repository, Digest)>,
    there: HashMap<(Repository, Digest), Edge>,
}

/// The source and the target of an image.
#[derive(Clone)]
struct Ends {
    source: Arc<dyn Source>,
    target: Arc<dyn Target>,
    place: Repository,
}

/// Checks below the tags that `plan` found right, and adds missing content to the plan.
pub async fn repair(plan: &mut Plan, stores: &Arc<dyn Stores>, stop: &CancellationToken) {
    let inspector = Arc::new(Inspector {
        stores: Arc::clone(stores),
        questions: Semaphore::new(QUESTIONS),
        looked: OnceMap::default(),
        seen: Mutex::default(),
    });
    let looked = plan.images.iter().enumerate().filter_map(|(index, planned)| match planned {
        Planned::Image(transfer) if matches!(transfer.action, Action::UpToDate | Action::Refer) => {
            Some((index, transfer.clone()))
        }
        _ => None,
    });
    let looked = looked.map(|(index, transfer)| {
        let inspector = Arc::clone(&inspector);
        async move {
            let looked = unless_stopped(stop, inspector.image(&transfer)).await;
            (index, looked.map_err(|error| error.at(Stage::Plan)))
        }
    });
    let looked: Vec<_> = futures::stream::iter(looked.collect::<Vec<_>>()).buffered(IMAGES).collect().await;
    let mut images = HashMap::new();
    for (index, looked) in looked {
        let Planned::Image(transfer) = &mut plan.images[index] else { continue };
        match looked {
            Ok((root, referrers)) if root.any || referrers.any => {
                let is_all = transfer.action != Action::Refer;
                images.insert(index, is_all.then_some(root.bytes + referrers.bytes));
                transfer.decide(if root.any { Action::Copy } else { Action::Refer });
            }
            Ok(_) => {}
            Err(error) => plan.images[index] = transfer.failed(error),
        }
    }
    let seen = std::mem::take(&mut *inspector.seen.lock().unwrap_or_else(PoisonError::into_inner));
    let is_whole = |place: &&(Repository, Digest)| !seen.broken.contains(place);
    let manifests = seen.there.iter().filter(|(_, edge)| matches!(edge, Edge::Manifest(_))).map(|(place, _)| place);
    let whole = manifests.filter(is_whole).cloned().collect();
    let there = seen.there.into_iter().map(|((repository, _), edge)| (edge, repository)).collect();
    plan.repair_findings = RepairFindings { broken: seen.broken, whole: Some(whole), there, images };
}

impl Inspector {
    /// What is missing below the root, and below its referrers in the lock.
    async fn image(self: &Arc<Self>, transfer: &Transfer) -> Result<(Missing, Missing)> {
        let source = self.stores.source(transfer.source.repository())?;
        let target = self.stores.target(&transfer.target)?;
        let ends = Ends { source, target, place: transfer.target.clone() };
        let root = called(&*ends.target, transfer).await?;
        let root = self.manifest(&ends, &root, 0).await?;
        let mut lack = Missing::default();
        for referrer in transfer.wanted_referrers().filter(|one| !transfer.left.contains(one)) {
            let below = self.manifest(&ends, &referrer.digest, 0).await?;
            lack = Missing { any: lack.any || below.any, bytes: lack.bytes + below.bytes };
        }
        Ok((root, lack))
    }

    /// What is missing at and below the manifest `digest`, checked once.
    fn manifest(self: &Arc<Self>, ends: &Ends, digest: &Digest, depth: usize) -> BoxFuture<'static, Result<Missing>> {
        let (inspector, ends, digest) = (Arc::clone(self), ends.clone(), digest.clone());
        async move {
            let key = (ends.place.clone(), digest.clone());
            let work = {
                let inspector = Arc::clone(&inspector);
                || async move { inspector.look(&ends, &digest, depth).await }
            };
            let looked = inspector.looked.get_or_work(key, work).await;
            let (lack, is_first) = looked.map_err(|lost| Error::defect("check the content of the target", lost))?;
            // The bytes count only for the first image.
            lack.map(|lack| if is_first { lack } else { Missing { bytes: 0, ..lack } })
        }
        .boxed()
    }

    async fn look(self: &Arc<Self>, ends: &Ends, digest: &Digest, depth: usize) -> Result<Missing> {
        if depth > bounds::DEPTH {
            let why = format!("indexes nest deeper than {}", bounds::DEPTH);
            return Err(Error::new(Kind::Invalid, format!("follow {digest} in {}", ends.place), why).on(Side::Target));
        }
        let found = self.asked(ends.target.resolve(&Selector::Digest(digest.clone()))).await?;
        let manifest = if found.is_some() { self.read(ends, digest).await? } else { None };
        // The copy finds what is missing below a missing manifest.
        let Some(manifest) = manifest else {
            self.note(|seen| {
                seen.broken.insert((ends.place.clone(), digest.clone()));
            });
            return Ok(Missing { any: true, bytes: 0 });
        };
        let edge = Edge::Manifest(manifest.descriptor().clone());
        self.note(|seen| {
            seen.there.insert((ends.place.clone(), digest.clone()), edge);
        });
        let branches: Vec<_> = manifest.successors().iter().map(|edge| self.edge(ends, edge, depth)).collect();
        let mut branches = futures::stream::iter(branches).buffered(IMAGES);
        let mut lack = Missing::default();
        while let Some(branch) = branches.next().await {
            let branch = branch?;
            lack = Missing { any: lack.any || branch.any, bytes: lack.bytes + branch.bytes };
        }
        if lack.any {
            self.note(|seen| {
                seen.broken.insert((ends.place.clone(), digest.clone()));
            });
        }
        Ok(lack)
    }

    fn edge(self: &Arc<Self>, ends: &Ends, edge: &Edge, depth: usize) -> BoxFuture<'static, Result<Missing>> {
        let (inspector, ends, edge) = (Arc::clone(self), ends.clone(), edge.clone());
        let blob = match &edge {
            Edge::Manifest(child) => return self.manifest(&ends, &child.digest, depth + 1),
            Edge::Blob(blob) => blob.clone(),
        };
        async move {
            let key = (ends.place.clone(), blob.digest.clone());
            let work = {
                let inspector = Arc::clone(&inspector);
                || async move {
                    let size = inspector.asked(async { ends.target.blob_size(&blob.digest).await }).await?.flatten();
                    let is_there = size == Some(blob.size);
                    if is_there {
                        inspector.note(|seen| {
                            seen.there.insert((ends.place.clone(), blob.digest.clone()), edge);
                        });
                    }
                    Ok(Missing { any: !is_there, bytes: if is_there { 0 } else { blob.size } })
                }
            };
            let looked = inspector.looked.get_or_work(key, work).await;
            let (lack, is_first) = looked.map_err(|lost| Error::defect("check the content of the target", lost))?;
            lack.map(|lack| if is_first { lack } else { Missing { bytes: 0, ..lack } })
        }
        .boxed()
    }

    /// The bytes of a manifest that the target has; `None` if they are damaged.
    async fn read(&self, ends: &Ends, digest: &Digest) -> Result<Option<Manifest>> {
        if let Some(manifest) = ends.source.cached_manifest(digest).await {
            return Ok(Some(manifest));
        }
        if ends.target.records_pull_time()
            && !ends.source.meters_pulls()
            && let Ok(manifest) = ends.source.manifest(digest).await
        {
            return Ok(Some(manifest));
        }
        match self.asked(ends.target.manifest(digest)).await {
            Err(error) if error.kind() == Kind::Mismatch => Ok(None),
            read => read,
        }
    }

    /// A target's answer, requested with a permit; `None` if the content doesn't exist.
    async fn asked<T>(&self, question: impl Future<Output = Result<T>>) -> Result<Option<T>> {
        let _permit = self.questions.acquire().await.map_err(|closed| Error::defect("wait for a permit", closed))?;
        match question.await {
            Ok(answer) => Ok(Some(answer)),
            Err(error) if error.kind() == Kind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn note(&self, note: impl FnOnce(&mut Seen)) {
        note(&mut self.seen.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// The digest of the root at the target, which differs from the pin if its algorithm does.
async fn called(target: &dyn Target, transfer: &Transfer) -> Result<Digest> {
    match &transfer.tag {
        Some(tag) if transfer.target_digest().algorithm() != Algorithm::Sha256 => {
            Ok(target.resolve(&Selector::Tag(tag.clone())).await?.digest)
        }
        _ => Ok(transfer.target_digest().clone()),
    }
}
