//! Asks the targets what they hold: one HEAD for each tag, and for a repository in which none was found one list of tags.
//! What refers to an image is asked for where its tag is right (`refer`).

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use futures::StreamExt as _;
use tokio_util::sync::CancellationToken;

use super::bytes::{may_have_more, part};
use super::landing::Landings;
use super::{Action, Plan, Planned, Transfer, refer};
use crate::config::{Handling, ImageRule, Overwrite, ReferrerPolicy};
use crate::error::{Error, Kind, Result, Side, Stage, unless_stopped};
use crate::lock::{self, Lock, LockedImage};
use crate::oci::{Descriptor, Digest, Edge, Manifest, Reference, Referrer, Repository, Selector, Tag};
use crate::provision::Provisioners;
use crate::select::{Only, Selection};
use crate::store::{Source, Stores, Target};

/// Questions to the targets in flight.
pub(super) const QUESTIONS: usize = 64;

/// What to plan.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// What is asked for, and where it goes.
    pub images: &'a [ImageRule],
    /// The pins.
    pub lock: &'a Lock,
    /// Why a source has no pin, or has kept an old one.
    pub failed: &'a BTreeMap<lock::Name, Error>,
    /// Which images this run is about.
    pub only: &'a Only,
    /// Where repositories are opened.
    pub stores: &'a Arc<dyn Stores>,
    /// Who knows which repositories have to be created.
    pub provisioners: &'a Provisioners,
    /// Whether to look for new referrers of what the images consist of and of their referrers, also where nothing else is
    /// to be done.
    pub follow: bool,
    /// Cancelled when nothing more is to be asked.
    pub stop: &'a CancellationToken,
}

/// An image that is wanted at a target.
struct Want<'a> {
    source: Reference,
    tag: Option<Tag>,
    target: Repository,
    handling: &'a Handling,
    pin: Option<&'a LockedImage>,
    /// Why it can't have its tag: an image before it has.
    clash: Option<Error>,
}

/// Works out what there is to do.
pub async fn plan(request: Request<'_>) -> Plan {
    let wants = wants(request);
    let asked = wants.iter().map(|want| async { ask_tag(request, want).await });
    let found: Vec<Option<Result<Option<Digest>>>> = futures::stream::iter(asked).buffered(QUESTIONS).collect().await;
    let held = held(&wants, &found);
    let mut plan = Plan { images: unlisted(request), ..Plan::default() };
    let (mut pulled, mut replaced) = (HashSet::new(), Vec::new());
    for (want, found) in wants.iter().zip(found) {
        if let Some(Ok(Some(digest))) = &found {
            replaced.push((plan.images.len(), digest.clone()));
        }
        plan.images.push(planned(request, want, found, &held));
    }
    refer::find_lacking(request, &mut plan).await;
    for planned in &mut plan.images {
        if let Planned::Image(transfer) = planned {
            spare(request, transfer).await;
            count_once(transfer, &mut pulled);
        }
    }
    prepare(request, &mut plan, &held).await;
    keep_immutable(request, &mut plan, replaced);
    compare_settings(request, &mut plan).await;
    plan
}

/// Makes conflicts of the images whose tag holds something else and can't be moved, before a byte of them does.
fn keep_immutable(request: Request<'_>, plan: &mut Plan, replaced: Vec<(usize, Digest)>) {
    for (index, found) in replaced {
        if let Planned::Image(transfer) = &mut plan.images[index]
            && transfer.action.sets_tag()
            && transfer.tag.as_ref().is_some_and(|tag| request.provisioners.is_immutable(&transfer.target, tag))
        {
            transfer.action = Action::Conflict { found };
            (transfer.pulls, transfer.pulls_exact, transfer.bytes) = (0, true, Some(0));
        }
    }
}

/// The selections that have no tags to speak of: each is a failed image of its own, at each target.
fn unlisted(request: Request<'_>) -> Vec<Planned> {
    let rules = request.images.iter().filter(|rule| rule.selection().is_some());
    let failed = rules.filter_map(|rule| Some((rule, request.failed.get(&lock::name(&rule.repository, &[]))?)));
    let each = failed.flat_map(|(rule, error)| {
        rule.destinations.iter().map(|target| Planned::Failed {
            source: rule.repository.to_string(),
            target: target.to_string(),
            error: error.clone(),
        })
    });
    each.collect()
}

/// What is at hand isn't pulled. Of an index that is, the children may be to pull or not: the target may have them.
async fn spare(request: Request<'_>, transfer: &mut Transfer) {
    let Ok(source) = request.stores.source(transfer.source.repository()) else { return };
    if transfer.pulls == 0 {
        return;
    }
    let mut spared = 0;
    for referrer in &transfer.referrers {
        spared += u64::from(source.at_hand(&referrer.digest).await.is_some());
    }
    if transfer.action == Action::Copy
        && let Some(root) = source.at_hand(&transfer.root.digest).await
    {
        spared += 1;
        let part = part(&root, transfer).ok().filter(|_| !may_have_more(transfer));
        transfer.pulls_exact |= match part {
            Some(part) => is_all_at_hand(&*source, part).await,
            None => false,
        };
    }
    transfer.pulls = transfer.pulls.saturating_sub(spared);
}

/// Whether all manifests below `root` are at hand.
async fn is_all_at_hand(source: &dyn Source, root: Manifest) -> bool {
    let (mut to_follow, mut seen) = (vec![root], HashSet::new());
    while let Some(manifest) = to_follow.pop() {
        for edge in manifest.successors() {
            if let Edge::Manifest(child) = edge
                && seen.insert(child.digest.clone())
            {
                let Some(child) = source.at_hand(&child.digest).await else { return false };
                to_follow.push(child);
            }
        }
    }
    true
}

/// A manifest, and what refers to it, is pulled once from its repository in a run, however many tags and targets it is for.
fn count_once(transfer: &mut Transfer, pulled: &mut HashSet<(Repository, Digest)>) {
    let manifest = (transfer.source.repository().clone(), transfer.root.digest.clone());
    if transfer.pulls > 0 && !pulled.insert(manifest) {
        (transfer.pulls, transfer.pulls_exact) = (0, true);
    }
}

/// Each image at each target, in the order of the file, each pair once.
fn wants(request: Request<'_>) -> Vec<Want<'_>> {
    let mut seen = HashSet::new();
    // Whatever a run is about, a tag is for the same image.
    let mut landings = Landings::default();
    let mut wants = Vec::new();
    for rule in request.images {
        for (source, tag) in rule.sources(request.lock.tags(&rule.repository, rule.selection().map(Selection::spec))) {
            let asked_for = request.only.matches(&source);
            let pin = request.lock.image(&source, &rule.handling.platforms);
            for target in &rule.destinations {
                let clash = tag.as_ref().zip(pin).and_then(|(tag, pin)| landings.take(target, tag, pin));
                let name = lock::name(&source, &rule.handling.platforms);
                if asked_for && seen.insert((name, target.clone(), tag.clone())) {
                    let (source, tag, target) = (source.clone(), tag.clone(), target.clone());
                    wants.push(Want { source, tag, target, handling: &rule.handling, pin, clash });
                }
            }
        }
    }
    wants
}

/// What the target has under the name that the image is to get. Not asked for what has no pin, or can't have its tag.
async fn ask_tag(request: Request<'_>, want: &Want<'_>) -> Option<Result<Option<Digest>>> {
    let pin = want.pin.filter(|_| want.clash.is_none())?;
    let name = match &want.tag {
        Some(tag) => Selector::Tag(tag.clone()),
        None => Selector::Digest(pin.lands_as().clone()),
    };
    let answer = async {
        let target = request.stores.target(&want.target)?;
        let found = target.resolve(&name).await?.digest;
        Ok(if is_pin(&*target, &found, pin.lands_as()).await { pin.lands_as().clone() } else { found })
    };
    Some(match unless_stopped(request.stop, answer).await {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == Kind::NotFound => Ok(None),
        Err(error) => Err(error.on(Side::Target).at(Stage::Plan)),
    })
}

/// Whether `found` is `pin` by another algorithm: registries call what a tag holds by sha256, whatever it was pinned by.
/// Only its bytes can tell.
async fn is_pin(target: &dyn Target, found: &Digest, pin: &Digest) -> bool {
    found.algorithm() != pin.algorithm()
        && target.manifest(found).await.is_ok_and(|manifest| pin.matches(manifest.bytes()))
}

/// The manifests that the answers have shown to be in each target repository.
fn held(wants: &[Want<'_>], found: &[Option<Result<Option<Digest>>>]) -> HashMap<Repository, HashSet<Digest>> {
    let mut held: HashMap<Repository, HashSet<Digest>> = HashMap::new();
    for (want, found) in wants.iter().zip(found) {
        if let Some(Ok(Some(digest))) = found {
            held.entry(want.target.clone()).or_default().insert(digest.clone());
        }
    }
    held
}

fn planned(
    request: Request<'_>,
    want: &Want<'_>,
    found: Option<Result<Option<Digest>>>,
    held: &HashMap<Repository, HashSet<Digest>>,
) -> Planned {
    let stale = request.failed.get(&lock::name(&want.source, &want.handling.platforms));
    if let Some(clash) = &want.clash {
        return failed(want, clash.clone());
    }
    let (pin, found) = match (want.pin, found) {
        (Some(pin), Some(Ok(found))) => (pin, found),
        (Some(_), Some(Err(error))) => return failed(want, error),
        _ => return failed(want, stale.cloned().unwrap_or_else(|| unpinned(&want.source))),
    };
    let root = Descriptor { media_type: pin.media_type.clone(), digest: pin.digest.clone(), size: pin.size };
    let is_there = held.get(&want.target).is_some_and(|digests| digests.contains(pin.lands_as()));
    let action = match (found, want.handling.overwrite) {
        (Some(found), _) if found == *pin.lands_as() => Action::UpToDate,
        (Some(found), Overwrite::Refuse) => Action::Conflict { found },
        (Some(found), Overwrite::Keep) => Action::Kept { found },
        _ if is_there => Action::Tag,
        _ => Action::Copy,
    };
    let rule = &want.handling.referrers;
    let referrers: Vec<Referrer> = pin.referrers.iter().filter(|one| rule.wants(one)).cloned().collect();
    let counts = action.has_work() && request.stores.source(want.source.repository()).is_ok_and(|s| s.counts_pulls());
    let copies = counts && action == Action::Copy;
    let pulls = if copies { 1 + referrers.len() as u64 } else { 0 };
    // What an unread index points at is unknown, and so is what refers to it, and to the referrers.
    let pulls_exact = !(copies && root.media_type.is_index() || counts && !referrers.is_empty());
    let bytes = (action != Action::Copy).then_some(0);
    let follow = request.follow && action == Action::UpToDate && rule.policy != ReferrerPolicy::None;
    let transfer = Transfer::new(want.source.clone(), root, want.target.clone(), want.tag.clone(), action);
    Planned::Image(Transfer {
        mirrored: pin.mirrored.clone(),
        handling: want.handling.clone(),
        referrers,
        follow,
        pulls,
        pulls_exact,
        bytes,
        stale: stale.cloned(),
        ..transfer
    })
}

fn failed(want: &Want<'_>, error: Error) -> Planned {
    let target = match &want.tag {
        Some(tag) => Reference::tagged(want.target.clone(), tag.clone()).to_string(),
        None => want.target.to_string(),
    };
    Planned::Failed { source: want.source.to_string(), target, error }
}

fn unpinned(source: &Reference) -> Error {
    Error::new(Kind::NotFound, format!("mirror {source}"), "the lock has no pin for it").at(Stage::Resolve)
}

/// Finds out which of the repositories that get a tag must be created, and which hold nothing yet.
async fn prepare(request: Request<'_>, plan: &mut Plan, held: &HashMap<Repository, HashSet<Digest>>) {
    let repositories = plan.to_prepare();
    let empty_so_far: Vec<Repository> = repositories.iter().filter(|r| !held.contains_key(r)).cloned().collect();
    let missing = request.provisioners.missing(&repositories).await;
    let mut unavailable = HashMap::new();
    for (repository, answer) in missing {
        match answer {
            Ok(true) => plan.missing.push(repository),
            Ok(false) => {}
            Err(error) => drop(unavailable.insert(repository, error)),
        }
    }
    plan.vacant.extend(plan.missing.iter().cloned());
    // In a layout asking costs nothing, and what there is may be there under another name.
    let asks_cost = |repository: &&Repository| repository.registry().layout().is_none();
    let to_list = empty_so_far.iter().filter(asks_cost);
    let to_list = to_list.filter(|r| !plan.vacant.contains(r) && !unavailable.contains_key(r));
    let vacant = to_list.map(|repository| async move { (repository, is_vacant(request, repository).await) });
    let answers: Vec<_> = futures::stream::iter(vacant).buffered(QUESTIONS).collect().await;
    plan.vacant.extend(answers.into_iter().filter(|(_, vacant)| *vacant).map(|(repository, _)| repository.clone()));
    fail(plan, &unavailable);
}

/// Finds out which settings of the existing repositories that get a tag will be changed.
async fn compare_settings(request: Request<'_>, plan: &mut Plan) {
    let existing: Vec<_> = plan.to_prepare().into_iter().filter(|one| !plan.missing.contains(one)).collect();
    let mut unavailable = HashMap::new();
    for (repository, answer) in request.provisioners.differing(&existing).await {
        match answer {
            Ok(settings) if settings.is_empty() => {}
            Ok(settings) => plan.changes.push((repository, settings)),
            Err(error) => drop(unavailable.insert(repository, error)),
        }
    }
    fail(plan, &unavailable);
}

/// Makes failures of the images for repositories that can't be had.
fn fail(plan: &mut Plan, unavailable: &HashMap<Repository, Error>) {
    for planned in &mut plan.images {
        if let Planned::Image(transfer) = planned
            && let Some(error) = unavailable.get(&transfer.target)
        {
            let (source, target) = (transfer.source.to_string(), transfer.target_text());
            *planned = Planned::Failed { source, target, error: error.clone() };
        }
    }
}

/// Whether a repository has no tags. Where that can't be found out, it counts as having some: then more is asked later.
async fn is_vacant(request: Request<'_>, repository: &Repository) -> bool {
    let tags = async { request.stores.target(repository)?.tags().await };
    match unless_stopped(request.stop, tags).await {
        Ok(tags) => tags.is_empty(),
        Err(error) => error.kind() == Kind::NotFound,
    }
}
