//! Config + state of the sources → Lock.
//!
//! Uses only HEADs and lists, so that resolving costs no pull, except for an index under the fallback tag of
//! referrers. Pins move only on request: what the old lock contains is used without a request, unless the caller
//! wants it updated. If resolving an image fails, it keeps its pin and the error is reported. Images are read only
//! if they are limited to some platforms, to learn the digest of that part (`narrow`).

mod narrow;
mod referrers;

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use futures::StreamExt as _;
use tokio_util::sync::CancellationToken;

use crate::config::{Handling, ImageRule, MissingAttestations, Wanted};
use crate::desired::{Entry, Image, entries};
use crate::error::{Error, Kind, Result, Side, Stage, unless_stopped};
use crate::lock::{self, Lock, LockedImage, LockedSelection};
use crate::oci::{Descriptor, Platform, Reference, Repository, Selector, Tag, listed};
use crate::progress::{Finished, Progress, Step, Task};
use crate::referrers::Finder;
use crate::select::{Only, Selection};
use crate::store::{PullOrder, PullTurn, ReservedPulls, Source, Stores};
pub use narrow::narrow;

/// Concurrent requests to the sources.
const QUESTIONS: usize = 64;

/// What to resolve.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The desired images.
    pub images: &'a [ImageRule],
    /// The current pins.
    pub old: &'a Lock,
    /// Which pins may move.
    pub update: &'a Update,
    /// The images that this run is limited to.
    pub only: &'a Only,
    /// Opens the sources.
    pub stores: &'a Arc<dyn Stores>,
    /// Finds referrers.
    pub finder: &'a Finder,
    /// Receives progress events.
    pub progress: &'a Arc<dyn Progress>,
    /// Cancelled when no further requests are to be sent.
    pub stop: &'a CancellationToken,
}

/// The pins that may move to the current upstream state. `tag@digest` never moves.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Update {
    /// None: only images that the lock lacks are resolved.
    #[default]
    Nothing,
    /// All.
    All,
    /// Those of these images; for a repository without a tag, all its images.
    These(Vec<(Repository, Option<Tag>)>),
}

impl Update {
    /// Whether the pin of `repository` with `tag` may move. `tag` is `None` for the selection of the repository. A
    /// tag in the update request doesn't move a selection, as that would add and drop other tags.
    fn moves(&self, repository: &Repository, tag: Option<&Tag>) -> bool {
        match self {
            Self::Nothing => false,
            Self::All => true,
            Self::These(images) => images.iter().any(|(wanted, wanted_tag)| {
                wanted == repository && (wanted_tag.is_none() || wanted_tag.as_ref() == tag)
            }),
        }
    }
}

/// The new lock, and the errors.
#[derive(Debug, Default)]
pub struct Resolution {
    /// The pins.
    pub lock: Lock,
    /// Why an image or selection has no pin, or has kept its old one.
    pub failed: BTreeMap<lock::Name, Error>,
    /// The tags that each step of a selection dropped, for `plan -v`.
    pub notes: Vec<String>,
    /// Pulls reserved for images that are limited to some platforms, until the copy reserves them.
    pub reserved: Vec<ReservedPulls>,
}

/// Completes or updates the lock.
pub async fn resolve(request: Request<'_>) -> Resolution {
    let mut resolution = Resolution::default();
    select_tags(request, &mut resolution).await;
    pin_images(request, &mut resolution).await;
    referrers::find(request, &mut resolution).await;
    request.progress.end();
    if !request.only.is_everything() {
        keep_the_others(request, &mut resolution);
    }
    resolution
}

/// Sets the tags of each selection: from the lock if it has exactly this selection, otherwise from the source.
async fn select_tags(request: Request<'_>, resolution: &mut Resolution) {
    let mut seen = HashSet::new();
    // The number of images isn't known yet.
    let named: Vec<String> = request.images.iter().map(|rule| rule.repository.to_string()).collect();
    request.progress.begin(Task::Resolve, &named);
    let selections = request.images.iter().filter_map(|rule| match &rule.wanted {
        Wanted::Select(selection) if request.only.may_match(&rule.repository) => Some((rule, selection)),
        _ => None,
    });
    let distinct =
        selections.filter(|(rule, selection)| seen.insert((rule.repository.clone(), selection.spec().clone())));
    let answers = distinct.map(|(rule, selection)| async move {
        let old = request.old.selection(&rule.repository, selection.spec());
        match old.filter(|_| !request.update.moves(&rule.repository, None)) {
            Some(old) => (rule, Some(old.clone()), None, Vec::new()),
            None => match list_tags(request, rule, selection).await {
                Ok((selected, notes)) => (rule, Some(selected), None, notes),
                Err(error) => (rule, old.cloned(), Some(error), Vec::new()),
            },
        }
    });
    let mut answers = futures::stream::iter(answers).buffered(QUESTIONS).boxed();
    while let Some((rule, selected, error, notes)) = answers.next().await {
        resolution.notes.extend(notes);
        if let Some(error) = error {
            let names = names(request, rule, selected.as_ref());
            resolution.failed.extend(names.into_iter().map(|name| (name, error.clone())));
        }
        selected.into_iter().for_each(|selection| resolution.lock.select(selection));
    }
}

/// The names that a failed selection is reported under: with old tags each of its images, otherwise the selection
/// itself.
fn names(request: Request<'_>, rule: &ImageRule, selected: Option<&LockedSelection>) -> Vec<lock::Name> {
    let tags: Vec<_> = selected.into_iter().flat_map(|selection| &selection.tags).collect();
    if tags.is_empty() {
        return vec![lock::name(&rule.repository, &[])];
    }
    // Other entries may select the same tags for other platforms.
    let same = request.images.iter().filter(|o| o.repository == rule.repository && o.wanted == rule.wanted);
    let each = same.flat_map(|rule| {
        let sources = tags.iter().map(|tag| Reference::tagged(rule.repository.clone(), (*tag).clone()));
        sources.map(|source| lock::name(&source, &rule.handling.platforms))
    });
    each.collect()
}

async fn list_tags(
    request: Request<'_>,
    rule: &ImageRule,
    selection: &Selection,
) -> Result<(LockedSelection, Vec<String>)> {
    let listed = async { request.stores.source(&rule.repository)?.tags().await };
    let tags = unless_stopped(request.stop, listed).await.map_err(|error| error.at(Stage::Resolve))?;
    let picked = selection.apply(&tags);
    let notes = picked.steps.iter().map(|step| format!("{}: {step}", rule.repository)).collect();
    if !picked.is_enough() {
        let why = format!("{} of {} tags match, {} wanted", picked.tags.len(), tags.len(), picked.min);
        let error = Error::new(Kind::NotFound, format!("select tags of {}", rule.repository), why)
            .with_hint("`transship plan -v` shows what each step dropped")
            .on(Side::Source)
            .at(Stage::Resolve);
        return Err(error);
    }
    Ok((LockedSelection::new(rule.repository.clone(), selection.spec().clone(), picked.tags), notes))
}

/// Sets the digest of each image: from the lock, from the list, or as the source has it now.
async fn pin_images(request: Request<'_>, resolution: &mut Resolution) {
    let mut seen = HashSet::new();
    let lock = &resolution.lock;
    let sources = entries(request.images, lock)
        .flat_map(|Entry { rule, images, .. }| images.into_iter().map(|image| (image.source, &rule.handling)));
    let wanted = sources.filter(|(source, _)| request.only.matches(source));
    let distinct: Vec<_> =
        wanted.filter(|(source, handling)| seen.insert(lock::name(source, &handling.platforms))).collect();
    let read = distinct.iter().enumerate().filter(|(_, (_, handling))| narrow::reads(handling));
    let images: Vec<String> = distinct.iter().map(|(source, _)| source.to_string()).collect();
    request.progress.begin(Task::Resolve, &images);
    let order = PullOrder::new(read.map(|(place, (source, _))| (source.repository().registry().clone(), place)));
    let all_reserved = Mutex::new(Vec::new());
    let (order, collected) = (&order, &all_reserved);
    let answers = distinct.into_iter().enumerate().map(|(place, (source, handling))| async move {
        // Dropped once the image is pinned or has failed.
        let turn = order.place(source.repository().registry(), place);
        let platforms = &handling.platforms;
        let old = request.old.image(&source, platforms);
        let may_move = source.digest().is_none() && request.update.moves(source.repository(), source.tag());
        if old.is_none() || may_move {
            request.progress.step(&source.to_string(), Step::Started);
        }
        let pinned = match old.filter(|_| !may_move) {
            Some(old) => (lock::name(&source, platforms), Some(old.clone()), None),
            None => match pin(request, &source, handling, old, turn).await {
                Ok((pinned, reserved)) => {
                    collected.lock().unwrap_or_else(PoisonError::into_inner).push(reserved);
                    (lock::name(&source, platforms), Some(keep_since(pinned, old)), None)
                }
                Err(error) => (lock::name(&source, platforms), old.cloned(), Some(error)),
            },
        };
        request.progress.finished(&source.to_string(), Finished::asked("resolved", pinned.2.as_ref()));
        pinned
    });
    let mut answers = futures::stream::iter(answers).buffered(QUESTIONS).boxed();
    while let Some((name, pinned, error)) = answers.next().await {
        if let Some(error) = error {
            resolution.failed.insert(name, error);
        }
        pinned.into_iter().for_each(|image| resolution.lock.pin(image));
    }
    drop(answers);
    resolution.reserved = all_reserved.into_inner().unwrap_or_else(PoisonError::into_inner);
}

async fn pin(
    request: Request<'_>,
    source: &Reference,
    handling: &Handling,
    old: Option<&LockedImage>,
    turn: PullTurn,
) -> Result<(LockedImage, ReservedPulls)> {
    let resolved = async {
        let from = request.stores.source(source.repository())?;
        let found = named(&*from, &source.selector()).await?;
        // The media type in a cached manifest is authoritative.
        Ok(from.cached_manifest(&found.digest).await.map_or(found, |manifest| manifest.descriptor().clone()))
    };
    let root = unless_stopped(request.stop, resolved).await.map_err(|error| error.at(Stage::Resolve))?;
    if root.media_type.is_schema1() {
        let error = Error::new(Kind::Unsupported, format!("pin {source}"), "it is a Docker schema 1 manifest");
        let hint = "registries no longer accept schema 1: pull it with an old client and push it again";
        return Err(error.with_hint(hint).on(Side::Source).at(Stage::Resolve));
    }
    let pinned = LockedImage::new(source.clone(), &root);
    // Attestations that were left out because they were missing may be there by now, or others may be gone.
    let is_settled = handling.missing_attestations == MissingAttestations::Fail
        && (!handling.platforms.is_empty() || old.is_none_or(|old| old.mirrored.is_none()));
    if let Some(old) = old.filter(|old| old.digest == root.digest && is_settled) {
        // The same part of the same manifest.
        let pinned = LockedImage { platforms: old.platforms.clone(), mirrored: old.mirrored.clone(), ..pinned };
        return Ok((pinned, ReservedPulls::default()));
    }
    let narrowed = async {
        let source = request.stores.source(source.repository())?;
        narrow::narrow_in_turn(&*source, pinned, handling, turn).await
    };
    unless_stopped(request.stop, narrowed).await.map_err(|error| error.at(Stage::Resolve))
}

/// Resolves the name at the source. Some registries answer 404 to a HEAD for existing content, so a tag is read
/// before it counts as deleted, if reading costs no pull.
pub(crate) async fn named(from: &dyn Source, name: &Selector) -> Result<Descriptor> {
    match (from.resolve(name).await, name) {
        (Err(error), Selector::Tag(tag)) if error.kind() == Kind::NotFound && !from.meters_pulls() => {
            from.read_tag(tag).await.map(|manifest| manifest.descriptor().clone()).map_err(|_| error)
        }
        (named, _) => named,
    }
}

/// `since` is when this digest was first seen. It stays as long as the digest does, and so does the text of the
/// lock.
fn keep_since(mut pinned: LockedImage, old: Option<&LockedImage>) -> LockedImage {
    if let Some(old) = old.filter(|old| old.digest == pinned.digest) {
        pinned.since = old.since;
    }
    pinned
}

/// Keeps the pins of the images that the run isn't limited to.
fn keep_the_others(request: Request<'_>, resolution: &mut Resolution) {
    for image in request.old.images() {
        if resolution.lock.image(&image.source, &image.platforms).is_none() {
            resolution.lock.pin(image.clone());
        }
    }
    for selection in request.old.selections() {
        if resolution.lock.selection(&selection.source, &selection.select).is_none() {
            resolution.lock.select(selection.clone());
        }
    }
}

/// Whether `only` matches some image of the list, or could match a tag of a selection.
pub fn may_match(images: &[ImageRule], old: &Lock, only: &Only) -> bool {
    entries(images, old).any(|entry| match entry.is_unknown {
        true => only.may_match(&entry.rule.repository),
        false => entry.images.iter().any(|image| only.matches(&image.source)),
    })
}

/// The part of `old` that the list asks for, with referrers, and the names of what `old` lacks. Sends no request.
pub fn from_lock(images: &[ImageRule], old: &Lock) -> (Lock, Vec<String>) {
    let (mut kept, mut missing) = (Lock::default(), Vec::new());
    for Entry { rule, images, .. } in entries(images, old) {
        if let Some(selection) = rule.selection() {
            match old.selection(&rule.repository, selection.spec()) {
                Some(found) => kept.select(found.clone()),
                None => missing.push(format!("the selection of {}", rule.repository)),
            }
        }
        for Image { source, pin, .. } in images {
            match pin {
                Some(found) => kept.pin(found.clone()),
                None => missing.push(missing_name(&source, &rule.handling.platforms)),
            }
        }
    }
    referrers::drop_unwanted(images, &mut kept);
    (kept, missing)
}

/// The resolution of a run that can't resolve anything because of `error`: the pins of `old`, and an error for each
/// missing one. Sends no request.
pub fn without_asking(images: &[ImageRule], old: &Lock, error: &Error) -> Resolution {
    let (lock, _) = from_lock(images, old);
    let mut failed = BTreeMap::new();
    for Entry { rule, images, is_unknown } in entries(images, old) {
        let lacking = images.iter().filter(|image| image.pin.is_none());
        let names = lacking.map(|image| lock::name(&image.source, &rule.handling.platforms));
        let selection = is_unknown.then(|| lock::name(&rule.repository, &[]));
        failed.extend(names.chain(selection).map(|name| (name, error.clone())));
    }
    Resolution { lock, failed, ..Resolution::default() }
}

fn missing_name(source: &Reference, platforms: &[Platform]) -> String {
    if platforms.is_empty() { source.to_string() } else { format!("{source} for {}", listed(platforms)) }
}
