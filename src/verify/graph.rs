//! Checks an image at its target: the tag, the referrers, and with `--deep` all manifests and blobs.
//!
//! Manifests and blobs are checked once per target repository, or layout, however many images share them. Requests
//! and downloads have separate permits, so that no request waits for a download; no permit is held while waiting
//! for other work.

use std::collections::{HashMap, HashSet};
use std::fmt::Display;
use std::sync::{Arc, Mutex, PoisonError};

use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::{Depth, Request};
use crate::error::{Error, Kind, Result, Side, Stage, unless_stopped};
use crate::oci::{Descriptor, Digest, Edge, Mismatch, Referrer, Repository, Selector, bounds};
use crate::once::{Lost, OnceMap};
use crate::plan::Transfer;
use crate::progress::{Progress, Step};
use crate::referrers::{Claims, Presence, presence};
use crate::report::Part;
use crate::store::{AsPinned, Stores, Target, as_pinned, cached_image, content};

/// Concurrent requests to the targets.
const QUESTIONS: usize = 64;
/// Branches of one manifest that are followed concurrently.
const BRANCHES: usize = 16;

/// A difference from the lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) part: Part,
    pub(super) expected: Digest,
    /// `None` if it is missing or unreadable.
    pub(super) found: Option<Digest>,
    /// How it is damaged, or why it can't be reached.
    pub(super) why: Option<String>,
}

/// The result of checking an image or a branch of it.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    pub(super) findings: Vec<Finding>,
    /// The first error that prevented a check.
    pub(super) error: Option<Error>,
    /// The only digest that the target knows the image by, if that isn't the pinned one.
    pub(super) known_as: Option<Digest>,
    /// Bytes that are right; repeated checks don't count.
    pub(super) bytes: u64,
}

impl Seen {
    fn right(bytes: u64) -> Self {
        Self { bytes, ..Self::default() }
    }

    fn differs(finding: Finding) -> Self {
        Self { findings: vec![finding], ..Self::default() }
    }

    /// The finding that follows from an error about `digest`: missing, damaged, or none.
    fn of(error: Error, part: Part, digest: &Digest) -> Self {
        let finding = |why| Finding { part, expected: digest.clone(), found: None, why };
        match error.kind() {
            Kind::NotFound => Self::differs(finding(None)),
            Kind::Mismatch => Self::differs(finding(Some(error.why().to_owned()))),
            _ => Self { error: Some(error), ..Self::default() },
        }
    }

    fn is_right(&self) -> bool {
        self.findings.is_empty() && self.error.is_none()
    }

    fn add(&mut self, other: Self) {
        self.findings.extend(other.findings);
        self.error = self.error.take().or(other.error);
        self.bytes += other.bytes;
    }
}

/// The content of a name at a target.
#[derive(Debug, Clone)]
struct Held {
    /// The digest that the target uses.
    called: Digest,
    /// The comparison with the pin.
    pinned: AsPinned,
}

/// Where manifests and blobs are checked, and for which image first.
#[derive(Debug, Clone)]
struct Place {
    target: Repository,
    image: String,
}

impl Place {
    fn of(transfer: &Transfer) -> Self {
        Self { target: transfer.target.clone(), image: transfer.source.to_string() }
    }
}

/// The repository, the subject, and its expected referrers.
type ReferrersOf = (Repository, Digest, Vec<Referrer>);

/// The shared state of a run.
pub(super) struct Inspector {
    stores: Arc<dyn Stores>,
    progress: Arc<dyn Progress>,
    stop: CancellationToken,
    depth: Depth,
    questions: Semaphore,
    transfers: Semaphore,
    names: OnceMap<(Repository, Selector), Result<Held>>,
    referrers: OnceMap<ReferrersOf, Result<Arc<Vec<Presence>>>>,
    seen: OnceMap<(Repository, Digest), Seen>,
    /// The manifests that were read, by blob scope.
    met: Mutex<HashMap<Repository, HashSet<Digest>>>,
}

impl Inspector {
    pub(super) fn new(request: Request<'_>) -> Self {
        Self {
            stores: Arc::clone(request.stores),
            progress: Arc::clone(request.progress),
            stop: request.stop.clone(),
            depth: request.depth,
            questions: Semaphore::new(QUESTIONS),
            transfers: Semaphore::new(request.transfers.max(1)),
            names: OnceMap::default(),
            referrers: OnceMap::default(),
            seen: OnceMap::default(),
            met: Mutex::default(),
        }
    }

    /// The manifests that were read in `target`.
    pub(super) fn met(&self, target: &Repository) -> HashSet<Digest> {
        self.met.lock().unwrap_or_else(PoisonError::into_inner).get(&target.blob_scope()).cloned().unwrap_or_default()
    }

    fn meet(&self, target: &Repository, digest: &Digest) {
        let mut met = self.met.lock().unwrap_or_else(PoisonError::into_inner);
        met.entry(target.blob_scope()).or_default().insert(digest.clone());
    }

    /// Sends a request to `repository` with a permit.
    pub(super) async fn ask<T, F>(
        &self,
        repository: &Repository,
        question: impl FnOnce(Arc<dyn Target>) -> F,
    ) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        self.within(&self.questions, repository, question).await
    }

    async fn within<T, F>(
        &self,
        permits: &Semaphore,
        repository: &Repository,
        work: impl FnOnce(Arc<dyn Target>) -> F,
    ) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let asked = async {
            let _permit = permits.acquire().await.map_err(|closed| Error::defect("wait for a permit", closed))?;
            work(self.stores.target(repository)?).await
        };
        unless_stopped(&self.stop, asked).await
    }

    /// Checks an image at its target. If the tag is wrong, nothing else is checked.
    pub(super) async fn image(self: &Arc<Self>, transfer: &Transfer) -> Seen {
        let (name, part) = match &transfer.tag {
            Some(tag) => (Selector::Tag(tag.clone()), Part::Tag),
            None => (Selector::Digest(transfer.target_digest().clone()), Part::Manifest),
        };
        // Without an answer here, nothing else would be answered.
        let mut seen = self.named(&transfer.target, name.clone(), transfer.target_digest(), part, Stage::Plan).await;
        if !seen.is_right() {
            return seen;
        }
        let referrers = self.referrers(transfer).await;
        if self.depth > Depth::Tags {
            // The target may not know it by the pinned digest.
            let root = self.held(&transfer.target, name, transfer.target_digest()).await;
            let root = root.map_or_else(|_| transfer.target_digest().clone(), |held| held.called);
            seen.add(self.shared_manifest(&Place::of(transfer), &root, 0).await);
        }
        referrers.into_iter().for_each(|referrer| seen.add(referrer));
        seen
    }

    /// Checks whether the referrers of the image are where `plan` looks for them. Content below them is checked
    /// only with `--deep`.
    async fn referrers(self: &Arc<Self>, transfer: &Transfer) -> Vec<Seen> {
        let (target, expected) = (&transfer.target, &transfer.referrers);
        let found = match self.presence(transfer).await {
            Ok(found) => found,
            Err(error) => return vec![Seen { error: Some(error.at(Stage::Verify)), ..Seen::default() }],
        };
        let place = &Place::of(transfer);
        let each = expected.iter().zip(&*found).map(|(referrer, found)| async move {
            let seen = self.seen_as(target, referrer, found.clone()).await;
            match seen.is_right() && self.depth > Depth::Tags {
                true => self.shared_manifest(place, &referrer.digest, 0).await,
                false => seen,
            }
        });
        futures::stream::iter(each).buffered(BRANCHES).boxed().collect().await
    }

    /// What the target has for each referrer of the image, asked once.
    async fn presence(self: &Arc<Self>, transfer: &Transfer) -> Result<Arc<Vec<Presence>>> {
        if transfer.referrers.is_empty() {
            return Ok(Arc::default());
        }
        let key = (transfer.target.clone(), transfer.target_digest().clone(), transfer.referrers.clone());
        let work = {
            let (inspector, (target, subject, expected)) = (Arc::clone(self), key.clone());
            || async move {
                let ask = |target: Arc<dyn Target>| async move {
                    presence(&*target, &subject, &expected, Claims::Believed).await.map(Arc::new)
                };
                inspector.ask(&target, ask).await
            }
        };
        shared(self.referrers.get_or_work(key, work).await)
    }

    /// Interprets what was `found` for `referrer`. An unlisted referrer is requested, to report the reason.
    async fn seen_as(self: &Arc<Self>, target: &Repository, referrer: &Referrer, found: Presence) -> Seen {
        let finding = |found, why| Finding { part: Part::Referrer, expected: referrer.digest.clone(), found, why };
        match found {
            Presence::There => Seen::default(),
            Presence::Other(holds) => Seen::differs(finding(Some(holds), None)),
            Presence::Withheld(error) | Presence::Unknown(error) => {
                Seen { error: Some(error.at(Stage::Verify)), ..Seen::default() }
            }
            Presence::Absent if referrer.tag.is_some() => Seen::differs(finding(None, None)),
            Presence::Absent => {
                let name = Selector::Digest(referrer.digest.clone());
                let seen = self.named(target, name, &referrer.digest, Part::Referrer, Stage::Verify).await;
                let why = Some("it isn't listed as a referrer of its image".to_owned());
                if seen.is_right() { Seen::differs(finding(None, why)) } else { seen }
            }
        }
    }

    /// Whether `name` is `expected`: one HEAD. If the pin uses another digest algorithm than the target, the
    /// manifest has to be read as well.
    async fn named(
        self: &Arc<Self>,
        target: &Repository,
        name: Selector,
        expected: &Digest,
        part: Part,
        stage: Stage,
    ) -> Seen {
        match self.held(target, name, expected).await {
            Ok(Held { pinned, .. }) if pinned.is == *expected => Seen { known_as: pinned.known_as, ..Seen::default() },
            Ok(Held { pinned, .. }) => {
                Seen::differs(Finding { part, expected: expected.clone(), found: Some(pinned.is), why: None })
            }
            Err(error) => Seen::of(error.at(stage), part, expected),
        }
    }

    /// The content of `name`, asked once.
    async fn held(self: &Arc<Self>, target: &Repository, name: Selector, pinned: &Digest) -> Result<Held> {
        let key = (target.clone(), name);
        let work = {
            let (inspector, (target, name), pinned) = (Arc::clone(self), key.clone(), pinned.clone());
            let (stores, repository) = (Arc::clone(&self.stores), target.clone());
            let ask = |target: Arc<dyn Target>| async move {
                let missing = || absent(&name, &*target);
                let called = target.held(&name).await?.digest()?.ok_or_else(missing)?;
                target.check_holds(cached_image(&*stores, &repository, &pinned).boxed()).await?;
                Ok(Held { pinned: as_pinned(&*target, called.clone(), &pinned).await, called })
            };
            || async move { inspector.ask(&target, ask).await }
        };
        shared(self.names.get_or_work(key, work).await)
    }

    /// [`Inspector::manifest`], once per blob scope.
    fn shared_manifest(self: &Arc<Self>, place: &Place, digest: &Digest, level: usize) -> BoxFuture<'static, Seen> {
        let (inspector, key) = (Arc::clone(self), (place.target.blob_scope(), digest.clone()));
        let place = place.clone();
        async move {
            let work = {
                let (inspector, digest) = (Arc::clone(&inspector), key.1.clone());
                || async move { inspector.manifest(&place, &digest, level).await }
            };
            credited(inspector.seen.get_or_work(key, work).await)
        }
        .boxed()
    }

    /// [`Inspector::blob`], once per blob scope.
    fn shared_blob(self: &Arc<Self>, place: &Place, blob: &Descriptor) -> BoxFuture<'static, Seen> {
        let (inspector, place, blob) = (Arc::clone(self), place.clone(), blob.clone());
        async move {
            let key = (place.target.blob_scope(), blob.digest.clone());
            let work = {
                let inspector = Arc::clone(&inspector);
                || async move { inspector.blob(&place, &blob).await }
            };
            credited(inspector.seen.get_or_work(key, work).await)
        }
        .boxed()
    }

    /// Reads a manifest and checks what it points at.
    async fn manifest(self: &Arc<Self>, place: &Place, digest: &Digest, level: usize) -> Seen {
        let target = &place.target;
        if level > bounds::DEPTH {
            let why = format!("indexes nest deeper than {}", bounds::DEPTH);
            let error = Error::new(Kind::Invalid, format!("follow {digest} in {target}"), why);
            return Seen { error: Some(error.on(Side::Target)), ..Seen::default() };
        }
        let read = self.ask(target, |from| async move { from.manifest(digest).await }).await;
        let manifest = match read {
            Ok(manifest) => manifest,
            Err(error) => return Seen::of(error, Part::Manifest, digest),
        };
        self.meet(target, digest);
        let branches: Vec<_> = manifest.successors().iter().map(|edge| self.edge(place, edge, level)).collect();
        let mut branches = futures::stream::iter(branches).buffered(BRANCHES);
        let mut seen = Seen::right(manifest.descriptor().size);
        while let Some(branch) = branches.next().await {
            seen.add(branch);
        }
        seen
    }

    fn edge(self: &Arc<Self>, place: &Place, edge: &Edge, level: usize) -> BoxFuture<'static, Seen> {
        match edge {
            Edge::Manifest(child) => self.shared_manifest(place, &child.digest, level + 1),
            Edge::Blob(blob) => self.shared_blob(place, blob),
        }
    }

    async fn blob(&self, Place { target, image }: &Place, blob: &Descriptor) -> Seen {
        let looked = if self.depth == Depth::Content {
            self.progress.step(image, Step::Expects(blob.size));
            let heard = |bytes| self.progress.step(image, Step::Bytes(bytes));
            self.within(&self.transfers, target, |from| async move { content::read(&*from, blob, &heard).await }).await
        } else {
            self.ask(target, |from| async move { size(&*from, blob).await }).await
        };
        match looked {
            // A HEAD alone doesn't verify any bytes.
            Ok(Ok(())) => Seen::right(if self.depth == Depth::Content { blob.size } else { 0 }),
            Ok(Err(mismatch)) => Seen::differs(damaged(blob, &mismatch)),
            Err(error) => Seen::of(error, Part::Blob, &blob.digest),
        }
    }
}

/// Whether the target's `blob` has the expected size: one HEAD.
async fn size(target: &dyn Target, blob: &Descriptor) -> Result<Result<(), Mismatch>> {
    match target.blob_size(&blob.digest).await? {
        Some(size) if size == blob.size => Ok(Ok(())),
        Some(got) => Ok(Err(Mismatch::Length { expected: blob.size, got })),
        None => Err(absent(&format!("blob {}", blob.digest), target)),
    }
}

fn absent(what: &dyn Display, target: &dyn Target) -> Error {
    Error::new(Kind::NotFound, format!("find {what} in {target}"), "it isn't there").on(Side::Target)
}

fn damaged(blob: &Descriptor, mismatch: &Mismatch) -> Finding {
    let (found, why) = match mismatch {
        Mismatch::Digest { got, .. } => (Some(got.clone()), format!("digest mismatch: got {got}")),
        Mismatch::Length { expected, got } if got < expected => {
            (None, format!("size mismatch: {got} of {expected} bytes"))
        }
        Mismatch::Length { expected, .. } => (None, format!("size mismatch: more than {expected} bytes")),
    };
    Finding { part: Part::Blob, expected: blob.digest.clone(), found, why: Some(why) }
}

/// A result that other tasks may have waited for, too.
fn shared<T>(worked: Result<(Result<T>, bool), Lost>) -> Result<T> {
    worked.unwrap_or_else(|lost| (Err(Error::defect("look at it", lost)), true)).0
}

/// Credits the bytes only to the first task.
fn credited(worked: Result<(Seen, bool), Lost>) -> Seen {
    match worked {
        Ok((seen, true)) => seen,
        Ok((seen, false)) => Seen { bytes: 0, ..seen },
        Err(lost) => Seen { error: Some(Error::defect("look at it", lost)), ..Seen::default() },
    }
}
