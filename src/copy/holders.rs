//! The ledger of blobs: which target repositories have a blob, which image is copying it, and from where it can be
//! mounted.
//!
//! Some registries mount only blobs that a committed manifest refers to, so an image may have to wait for the
//! manifest of a donor. It waits only for images that precede the first image of its own repository in the plan.
//! Those have started by then, and in turn wait only for earlier images, so there can be no deadlock.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};

use tokio::sync::watch;

use super::route::Route;
use crate::error::{Error, Kind};
use crate::oci::{Descriptor, Digest, Edge, Manifest, Registry, Repository};
use crate::plan::{Plan, Planned};
use crate::store::MountRule;

/// The target repositories that have each blob, and the images that are copying it.
#[derive(Debug, Default)]
pub(super) struct Holders {
    ledger: Mutex<Ledger>,
    /// Signals a commit or the end of an image.
    changed: watch::Sender<()>,
}

/// The size is part of the key: a manifest that declares a wrong size must not profit from blobs that others
/// copied.
type Key = (Digest, u64);

#[derive(Debug, Default)]
struct Ledger {
    blobs: HashMap<Key, Held>,
    /// The plan position of the first image of each target repository.
    first: HashMap<Repository, usize>,
    /// The plan positions of those images of a repository that may still commit something.
    open: HashMap<Repository, BTreeSet<usize>>,
}

#[derive(Debug, Default)]
struct Held {
    at: Vec<Holder>,
    /// The registries that the blob is being copied to.
    coming: Vec<(Registry, watch::Receiver<()>)>,
    /// Sources that can't serve the blob.
    failed: Vec<Failed>,
}

/// Why a source can't serve a blob.
#[derive(Debug)]
struct Failed {
    source: Repository,
    error: Error,
}

impl Failed {
    /// Whether the failure also applies to `source`. A refused or missing blob may exist in another repository; a
    /// registry that is failing or serves wrong bytes does so for all its repositories.
    fn holds_for(&self, source: &Repository) -> bool {
        match self.error.kind() {
            Kind::NotFound | Kind::Denied | Kind::Unauthorized => self.source == *source,
            _ => self.source.registry() == source.registry(),
        }
    }
}

#[derive(Debug, Clone)]
struct Holder {
    repository: Repository,
    /// Whether a manifest that refers to the blob is there too.
    committed: bool,
}

/// The next step for a blob.
#[derive(Debug)]
pub(super) enum Claim<'a> {
    /// The target has it.
    Here,
    /// The source can't serve it, and no target has it.
    Failed(Error),
    /// A repository of the same registry has it or is getting it: the registry's mount rule has to be known first.
    AskRule,
    /// Mount it from this repository.
    Mount(Repository),
    /// Read it from this repository.
    Read(Repository),
    /// Another image is copying it, or will commit it: claim again when this changes.
    Wait(watch::Receiver<()>),
    /// Stream it, because its registry lacks it or because waiting doesn't pay off there. Read from this holder if
    /// there is one, else from the source.
    Lead(Lead<'a>, Option<Repository>),
}

/// The duty to copy a blob. When it is dropped, a waiting image can take over.
#[derive(Debug)]
pub(super) struct Lead<'a> {
    holders: &'a Holders,
    blob: Descriptor,
    registry: Registry,
    /// Dropped with the lead, which wakes all waiting images.
    _done: watch::Sender<()>,
}

impl Holders {
    pub(super) fn new(plan: &Plan) -> Self {
        let mut ledger = Ledger::default();
        for (place, planned) in plan.images.iter().enumerate() {
            if let Planned::Image(transfer) = planned
                && super::may_push(transfer)
            {
                ledger.first.entry(transfer.target.clone()).or_insert(place);
                ledger.open.entry(transfer.target.clone()).or_default().insert(place);
            }
        }
        for (edge, repository) in &plan.repair_findings.there {
            if let Edge::Blob(blob) = edge {
                ledger.holder(blob, repository).committed = true;
            }
        }
        Self { ledger: Mutex::new(ledger), changed: watch::Sender::default() }
    }

    /// Records that `repository` has the blob.
    pub(super) fn add(&self, blob: &Descriptor, repository: &Repository) {
        self.with(|ledger| {
            ledger.holder(blob, repository);
        });
    }

    /// Records that `repository` has `manifest`, and therefore everything it refers to.
    pub(super) fn commit(&self, manifest: &Manifest, repository: &Repository) {
        self.with(|ledger| {
            for edge in manifest.successors() {
                if let Edge::Blob(blob) = edge {
                    ledger.holder(blob, repository).committed = true;
                }
            }
        });
        self.changed.send_replace(());
    }

    /// Records that `source` can't serve the blob, so that no other image asks for it again.
    pub(super) fn fail(&self, blob: &Descriptor, source: &Repository, error: &Error) {
        let failed = Failed { source: source.clone(), error: error.clone() };
        self.with(|ledger| ledger.held(blob).failed.push(failed));
    }

    /// Records that `repository` lacks the blob after all.
    pub(super) fn remove(&self, blob: &Descriptor, repository: &Repository) {
        self.with(|ledger| {
            let held = ledger.held(blob);
            held.at.retain(|holder| holder.repository != *repository);
        });
    }

    /// Records that the image at `place` of the plan has ended and commits nothing more.
    pub(super) fn ended(&self, repository: &Repository, place: usize) {
        self.with(|ledger| {
            if let Some(open) = ledger.open.get_mut(repository) {
                open.remove(&place);
            }
        });
        self.changed.send_replace(());
    }

    /// Whether an image bound for `registry` may still commit something.
    pub(super) fn is_open(&self, registry: &Registry) -> bool {
        let is_open = |(repository, places): (&Repository, &BTreeSet<usize>)| {
            repository.registry() == registry && !places.is_empty()
        };
        self.with(|ledger| ledger.open.iter().any(is_open))
    }

    /// Changes with each commit, each image that ends, and each announcement.
    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Wakes everything that waits for a change.
    pub(super) fn announce(&self) {
        self.changed.send_replace(());
    }

    /// Whether no image of `repository` before `place` is still in flight.
    pub(super) fn is_first(&self, repository: &Repository, place: usize) -> bool {
        self.with(|ledger| ledger.open.get(repository).and_then(BTreeSet::first).is_none_or(|first| *first >= place))
    }

    /// The next step for the target of `route` to get the blob. `rule`: the mount rule of its registry, once it is
    /// known.
    pub(super) fn claim(&self, blob: &Descriptor, route: &Route, rule: Option<MountRule>) -> Claim<'_> {
        let here = route.target_repository();
        let registry = here.registry();
        self.with(|ledger| {
            let at = ledger.held(blob).at.clone();
            if at.iter().any(|holder| holder.repository == *here) {
                return Claim::Here;
            }
            let near: Vec<&Holder> = at.iter().filter(|holder| holder.repository.registry() == registry).collect();
            let rule = match rule {
                None if !near.is_empty() => return Claim::AskRule,
                rule => rule.unwrap_or_default(),
            };
            let gives = |holder: &&&Holder| match rule {
                MountRule::AtOnce => true,
                MountRule::Committed => holder.committed,
                MountRule::Never => false,
            };
            let donors = near.iter().filter(gives);
            if let Some(donor) = donors.min_by_key(|holder| ledger.place(&holder.repository)) {
                return Claim::Mount(donor.repository.clone());
            }
            if let (MountRule::Never, Some(holder)) = (rule, near.first()) {
                return Claim::Read(holder.repository.clone());
            }
            if near.iter().any(|holder| ledger.is_awaited(&holder.repository, here)) {
                return Claim::Wait(self.changed.subscribe());
            }
            let failed = ledger.held(blob).failed.iter().find(|failed| failed.holds_for(route.source_repository()));
            if let Some(failed) = failed.filter(|_| at.is_empty()) {
                return Claim::Failed(failed.error.clone());
            }
            let giver = near.first().copied().or(at.first()).map(|holder| holder.repository.clone());
            self.lead(ledger.held(blob), blob, registry, giver)
        })
    }

    fn lead(&self, held: &mut Held, blob: &Descriptor, registry: &Registry, giver: Option<Repository>) -> Claim<'_> {
        // While no target has it, one read from the source serves all registries.
        let mut coming = held.coming.iter();
        if let Some((_, coming)) = coming.find(|(to, _)| to == registry || held.at.is_empty()) {
            return Claim::Wait(coming.clone());
        }
        let (done, coming) = watch::channel(());
        held.coming.push((registry.clone(), coming));
        let lead = Lead { holders: self, blob: blob.clone(), registry: registry.clone(), _done: done };
        Claim::Lead(lead, giver)
    }

    fn with<T>(&self, act: impl FnOnce(&mut Ledger) -> T) -> T {
        act(&mut self.ledger.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Ledger {
    fn held(&mut self, blob: &Descriptor) -> &mut Held {
        self.blobs.entry((blob.digest.clone(), blob.size)).or_default()
    }

    fn holder(&mut self, blob: &Descriptor, repository: &Repository) -> &mut Holder {
        let at = &mut self.held(blob).at;
        let known = at.iter().position(|holder| holder.repository == *repository);
        let index = known.unwrap_or_else(|| {
            at.push(Holder { repository: repository.clone(), committed: false });
            at.len() - 1
        });
        &mut at[index]
    }

    /// The plan position of the first image of a repository.
    fn place(&self, repository: &Repository) -> usize {
        self.first.get(repository).copied().unwrap_or(usize::MAX)
    }

    /// Whether an image of `donor` that precedes all those of `here` may still commit something.
    fn is_awaited(&self, donor: &Repository, here: &Repository) -> bool {
        let next = self.open.get(donor).and_then(BTreeSet::first);
        next.is_some_and(|place| *place < self.place(here))
    }
}

impl Drop for Lead<'_> {
    fn drop(&mut self) {
        self.holders.with(|ledger| {
            ledger.held(&self.blob).coming.retain(|(to, _)| *to != self.registry);
        });
    }
}
