//! Decides where a manifest is read: from the cache if it is there; at the target if that saves a metered pull and
//! records no pull time; otherwise at the source, once per run.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use super::route::{Route, has_manifest};
use super::spared::Giver;
use super::{Engine, nearby};
use crate::error::{Error, Kind, Result, Side};
use crate::oci::{Digest, Edge, Manifest, bounds};
use crate::plan::Transfer;
use crate::store::Target;

/// The root as it will be at the target, if no pull is needed to read it. It comes from the cache, from the target (if
/// reading the source is metered and reading the target records no pull time), or from another target that has the
/// image.
pub(super) async fn root_without_pull(
    engine: &Arc<Engine>,
    route: &Arc<Route>,
    transfer: &Transfer,
) -> Result<Option<Arc<Manifest>>> {
    if let Some(root) = cached_root(engine, route, transfer).await? {
        return Ok(Some(root));
    }
    if let Some(root) = engine.read_before(route, &transfer.root.digest).await {
        return wanted(root, transfer).map(Some);
    }
    let root = match read_instead(engine, route, transfer.target_digest()).await? {
        Some(root) => Some(root),
        None => nearby::manifest(engine, route, transfer.target_digest()).await,
    };
    if root.is_some() {
        engine.spared.read(route, &transfer.root.digest, Some(Giver::Elsewhere));
    }
    Ok(root)
}

/// The root as it will be at the target, if it isn't cached. It may be limited to some of the source's platforms.
pub(super) async fn load_root(engine: &Arc<Engine>, route: &Arc<Route>, transfer: &Transfer) -> Result<Arc<Manifest>> {
    if engine.is_broken(route, transfer.target_digest())
        && let Ok(root) = read_back(route, transfer.target_digest()).await
    {
        engine.spared.read(route, &transfer.root.digest, Some(Giver::Elsewhere));
        return Ok(root);
    }
    load_part(engine, route, transfer).await
}

/// The root as the target has it, if reading there records no pull time or reading the source isn't metered.
pub(super) async fn load_landed(
    engine: &Arc<Engine>,
    route: &Arc<Route>,
    transfer: &Transfer,
) -> Result<Option<Arc<Manifest>>> {
    if let Some(root) = cached_root(engine, route, transfer).await? {
        return Ok(Some(root));
    }
    if !route.target.records_pull_time() {
        let root = read_back(route, transfer.target_digest()).await?;
        engine.spared.read(route, &transfer.root.digest, Some(Giver::Elsewhere));
        return Ok(Some(root));
    }
    match route.source.meters_pulls() {
        true => Ok(None),
        false => load_part(engine, route, transfer).await.map(Some),
    }
}

async fn load_part(engine: &Arc<Engine>, route: &Arc<Route>, transfer: &Transfer) -> Result<Arc<Manifest>> {
    wanted(load(engine, route, &transfer.root.digest).await?, transfer)
}

async fn cached_root(engine: &Engine, route: &Route, transfer: &Transfer) -> Result<Option<Arc<Manifest>>> {
    let root = route.source.cached_manifest(&transfer.root.digest).await;
    if root.is_some() {
        engine.spared.read(route, &transfer.root.digest, Some(Giver::Cache));
    }
    root.map(|root| wanted(Arc::new(root), transfer)).transpose()
}

pub(super) fn wanted(root: Arc<Manifest>, transfer: &Transfer) -> Result<Arc<Manifest>> {
    if transfer.mirrored.is_none() && transfer.handling.platforms.is_empty() {
        return Ok(root);
    }
    part(&root, transfer).map(Arc::new)
}

/// Whether reading `digest` at the source is a metered pull.
pub(super) async fn costs_a_pull(route: &Route, digest: &Digest) -> bool {
    route.source.meters_pulls() && route.source.cached_manifest(digest).await.is_none()
}

/// The manifest from the target, if that saves a metered pull and records no pull time.
async fn read_instead(engine: &Engine, route: &Route, digest: &Digest) -> Result<Option<Arc<Manifest>>> {
    let may_be_read =
        !engine.empty_repositories.contains(route.target_repository()) && !route.target.records_pull_time();
    let spares_a_pull = route.source.meters_pulls() && may_be_read;
    match spares_a_pull && has_manifest(route, digest).await? {
        true => read_back(route, digest).await.map(Some),
        false => Ok(None),
    }
}

async fn read_back(route: &Route, digest: &Digest) -> Result<Arc<Manifest>> {
    route.target.manifest(digest).await.map(Arc::new)
}

/// The part of `root` that is mirrored. It has to match the lock; otherwise the lock was edited or written for
/// another rule.
fn part(root: &Manifest, transfer: &Transfer) -> Result<Manifest> {
    let attempted = || format!("select the platforms of {}", transfer.source);
    let part = root.part(&transfer.handling.platforms, transfer.target_digest());
    let part = part.map_err(|error| Error::new(Kind::Invalid, attempted(), error.to_string()).on(Side::Source))?;
    if part.digest() == transfer.target_digest() {
        return Ok(part);
    }
    let why = format!("the result is {}, but the lock has {}", part.digest(), transfer.target_digest());
    let hint = "remove the image from the lock: the next sync pins it again";
    Err(Error::new(Kind::Mismatch, attempted(), why).with_hint(hint).on(Side::Source))
}

/// The targets from which a manifest that has to be copied again can be read, except those that record pull times.
fn elsewhere(engine: &Engine, digest: &Digest) -> Vec<Arc<dyn Target>> {
    let holds_it = |edge: &Edge| matches!(edge, Edge::Manifest(there) if there.digest == *digest);
    let there = engine.repair_findings.there.iter().filter(|(edge, _)| holds_it(edge));
    let there = there.filter_map(|(_, repository)| engine.stores.target(repository).ok());
    there.filter(|target| !target.records_pull_time()).collect()
}

impl Engine {
    /// The manifest `digest` of the source, if it is cached or was read in this run.
    pub(super) async fn read_before(&self, route: &Route, digest: &Digest) -> Option<Arc<Manifest>> {
        if let Some(manifest) = route.source.cached_manifest(digest).await {
            return Some(Arc::new(manifest));
        }
        self.manifests.get(&(route.source_repository().clone(), digest.clone())).await?.ok()?.ok()
    }

    /// Whether nothing below the manifest `digest` is known to be missing at the target.
    pub(super) fn may_be_whole(&self, route: &Route, digest: &Digest) -> bool {
        let place = || (route.target_repository().clone(), digest.clone());
        self.repair_findings.whole.as_ref().is_none_or(|whole| whole.contains(&place()))
    }

    /// Whether the target has the manifest `digest`, but lacks something below it.
    pub(super) fn is_broken(&self, route: &Route, digest: &Digest) -> bool {
        self.repair_findings.broken.contains(&(route.target_repository().clone(), digest.clone()))
    }
}

/// How much reading an index may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reading {
    /// One pull at most: it is needed anyway.
    Sparing,
    /// Nothing: otherwise it is left unread.
    Free,
}

/// The manifests that `root` consists of, each once, children first.
pub(super) async fn parts(
    engine: &Arc<Engine>,
    route: &Arc<Route>,
    root: &Manifest,
    reading: Reading,
) -> Result<Vec<Digest>> {
    let (mut parts, mut seen) = (Vec::new(), HashSet::new());
    let mut indexes = VecDeque::from([(Arc::new(root.clone()), 0)]);
    while let Some((index, depth)) = indexes.pop_front() {
        for edge in index.successors() {
            let Edge::Manifest(child) = edge else { continue };
            if !seen.insert(child.digest.clone()) {
                continue;
            }
            parts.push(child.digest.clone());
            // Deeper levels aren't copied.
            if child.media_type.is_index() && depth < bounds::DEPTH {
                let read = read_nested(engine, route, &child.digest, reading).await?;
                indexes.extend(read.map(|read| (read, depth + 1)));
            }
        }
    }
    Ok(parts)
}

async fn read_nested(
    engine: &Arc<Engine>,
    route: &Arc<Route>,
    digest: &Digest,
    reading: Reading,
) -> Result<Option<Arc<Manifest>>> {
    if let Some(index) = route.source.cached_manifest(digest).await {
        engine.spared.read(route, digest, Some(Giver::Cache));
        return Ok(Some(Arc::new(index)));
    }
    if reading == Reading::Free && !route.target.records_pull_time() {
        let index = read_back(route, digest).await?;
        engine.spared.read(route, digest, Some(Giver::Elsewhere));
        return Ok(Some(index));
    }
    if reading == Reading::Free && route.source.meters_pulls() {
        return Ok(None);
    }
    match read_instead(engine, route, digest).await? {
        Some(index) => {
            engine.spared.read(route, digest, Some(Giver::Elsewhere));
            Ok(Some(index))
        }
        None => load(engine, route, digest).await.map(Some),
    }
}

/// The manifest from any target that has it and records no pull times.
async fn from_a_target(engine: &Engine, route: &Route, digest: &Digest) -> Option<Arc<Manifest>> {
    for target in elsewhere(engine, digest) {
        if let Ok(manifest) = target.manifest(digest).await {
            return Some(Arc::new(manifest));
        }
    }
    nearby::manifest(engine, route, digest).await
}

/// Reads the manifest from the source, once per run.
pub(super) async fn load(engine: &Arc<Engine>, route: &Arc<Route>, digest: &Digest) -> Result<Arc<Manifest>> {
    engine.check_stop()?;
    let (source, wanted) = (Arc::clone(&route.source), digest.clone());
    let (engine_, route_) = (Arc::clone(engine), Arc::clone(route));
    let work = || async move {
        let (manifest, giver) = match source.cached_manifest(&wanted).await {
            Some(manifest) => (manifest.into(), Some(Giver::Cache)),
            None => match from_a_target(&engine_, &route_, &wanted).await {
                Some(manifest) => (manifest, Some(Giver::Elsewhere)),
                None => (source.manifest(&wanted).await?.into(), source.served_by(&wanted).map(|_| Giver::Elsewhere)),
            },
        };
        engine_.spared.read(&route_, &wanted, giver);
        Ok(manifest)
    };
    let key = (route.source_repository().clone(), digest.clone());
    let loaded = engine.manifests.get_or_work(key.clone(), work).await;
    let (manifest, is_new) =
        loaded.map_err(|lost| Error::defect(format!("read {digest} of {}", route.source), lost))?;
    let manifest = manifest?;
    engine.nearby.spread(&manifest, &engine.holders);
    if is_new && !engine.held.takes(manifest.bytes().len() as u64) {
        engine.manifests.forget(&key);
    }
    Ok(manifest)
}
