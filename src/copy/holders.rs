//! The ledger of blobs: which target repositories have which, who is bringing one, and from whom it may be mounted.
//!
//! A registry that mounts only what a committed manifest refers to makes a blob's needers wait for a donor's manifest.
//! They wait only for images that stand before the first image of their own repository in the plan. Whoever is waited
//! for has been started by then, and waits in turn only for what stands before it: there is no circle.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};

use tokio::sync::watch;

use super::route::Route;
use crate::error::{Error, Kind};
use crate::oci::{Descriptor, Digest, Edge, Manifest, Registry, Repository};
use crate::plan::{Plan, Planned};
use crate::store::MountRule;

/// Which target repositories have which blob, and who is bringing it.
#[derive(Debug, Default)]
pub(super) struct Holders {
    ledger: Mutex<Ledger>,
    /// Something was committed, or an image has ended.
    changed: watch::Sender<()>,
}

/// A manifest that gives a blob another size than the rest do is wrong, and must not profit from what these copied.
type Key = (Digest, u64);

#[derive(Debug, Default)]
struct Ledger {
    blobs: HashMap<Key, Held>,
    /// The place in the plan of the first image of each target repository.
    first: HashMap<Repository, usize>,
    /// The places of those of its images that may still commit something.
    open: HashMap<Repository, BTreeSet<usize>>,
}

#[derive(Debug, Default)]
struct Held {
    at: Vec<Holder>,
    /// Who is bringing it to each registry.
    coming: Vec<(Registry, watch::Receiver<()>)>,
    /// Sources that can't give it.
    failed: Vec<Failed>,
}

/// Why a source can't give a blob.
#[derive(Debug)]
struct Failed {
    source: Repository,
    error: Error,
}

impl Failed {
    /// Whether `source` can't give it either: what one repository refuses or lacks, another may have; a registry in trouble
    /// or with wrong bytes has them for all of its repositories.
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
    /// A manifest that refers to the blob is there too.
    committed: bool,
}

/// What there is to do for a blob.
#[derive(Debug)]
pub(super) enum Claim<'a> {
    /// It is there.
    Here,
    /// The source can't give it, and nobody has it.
    Failed(Error),
    /// A neighbour has it or brings it: the target's rule has to be known first.
    AskRule,
    /// It can be mounted from here.
    Mount(Repository),
    /// It has to be read from here.
    Read(Repository),
    /// Somebody brings it, or is going to commit it: claim again when this changes.
    Wait(watch::Receiver<()>),
    /// Its registry lacks it, or has it where it pays to wait for nobody: stream it, from this holder if there is one, else
    /// from upstream.
    Lead(Lead<'a>, Option<Repository>),
}

/// The duty to bring a blob; dropping it lets the next take over.
#[derive(Debug)]
pub(super) struct Lead<'a> {
    holders: &'a Holders,
    blob: Descriptor,
    registry: Registry,
    /// Dropped with the lead, which wakes all who wait.
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
        for (edge, repository) in &plan.holes.there {
            if let Edge::Blob(blob) = edge {
                ledger.holder(blob, repository).committed = true;
            }
        }
        Self { ledger: Mutex::new(ledger), changed: watch::Sender::default() }
    }

    /// `repository` has the blob.
    pub(super) fn add(&self, blob: &Descriptor, repository: &Repository) {
        self.with(|ledger| {
            ledger.holder(blob, repository);
        });
    }

    /// `repository` has `manifest`, and so all that it refers to.
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

    /// `source` can't give the blob: whoever waits for it, or comes later, need not ask again.
    pub(super) fn fail(&self, blob: &Descriptor, source: &Repository, error: &Error) {
        let failed = Failed { source: source.clone(), error: error.clone() };
        self.with(|ledger| ledger.held(blob).failed.push(failed));
    }

    /// `repository` hasn't got the blob after all.
    pub(super) fn remove(&self, blob: &Descriptor, repository: &Repository) {
        self.with(|ledger| {
            let held = ledger.held(blob);
            held.at.retain(|holder| holder.repository != *repository);
        });
    }

    /// The image at this place of the plan has come to its end, whichever: it commits nothing more.
    pub(super) fn ended(&self, repository: &Repository, place: usize) {
        self.with(|ledger| {
            if let Some(open) = ledger.open.get_mut(repository) {
                open.remove(&place);
            }
        });
        self.changed.send_replace(());
    }

    /// Whether an image on its way to `registry` may still commit something.
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

    /// Wakes all that wait for a change.
    pub(super) fn announce(&self) {
        self.changed.send_replace(());
    }

    /// Whether no image of `repository` before `place` is still under way.
    pub(super) fn is_first(&self, repository: &Repository, place: usize) -> bool {
        self.with(|ledger| ledger.open.get(repository).and_then(BTreeSet::first).is_none_or(|first| *first >= place))
    }

    /// What to do for the target of `route` to have the blob. `rule` is that of its registry, as soon as it is known.
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
        // While nobody has it, whoever fetches it from upstream fetches it for all registries.
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

    /// Where a repository stands in the plan.
    fn place(&self, repository: &Repository) -> usize {
        self.first.get(repository).copied().unwrap_or(usize::MAX)
    }

    /// Whether an image of `donor` that stands before all those of `here` may still commit something.
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
