//! Tracks empty target repositories, so that content is sent to them without existence checks.
//!
//! A repository without tags may still hold untagged blobs and manifests of an interrupted run. So the target is
//! asked for one blob: the configuration of the repository's first image in plan order, because a run sends that
//! first. If the blob is there, everything else is checked too. If an image's manifest is in the cache, an earlier
//! run may have sent parts of it without finishing the first image's configuration, so the target is asked for that
//! image's configuration as well. A repository that was just created isn't asked.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::route::{self, Route};
use super::walk;
use super::{Engine, Readiness, read};
use crate::error::{Error, Result};
use crate::oci::{Descriptor, Edge, Manifest, Repository, bounds};
use crate::plan::Plan;

/// The repositories without tags.
#[derive(Debug, Default)]
pub(super) struct EmptyRepositories(Mutex<HashMap<Repository, Content>>);

/// The content of a repository without tags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Content {
    /// Nothing: it was just created.
    Nothing,
    /// Nothing, judging by one check.
    NothingFound,
    /// Not checked yet.
    Unknown,
    /// Untagged content.
    Something,
}

impl EmptyRepositories {
    pub(super) fn new(plan: &Plan, ready: &Readiness) -> Self {
        let content = |repository: &Repository| match ready.get(repository) {
            Some(Ok(ready)) if ready.created() => Content::Nothing,
            _ => Content::Unknown,
        };
        Self(Mutex::new(plan.empty.iter().map(|empty| (empty.clone(), content(empty))).collect()))
    }

    /// Whether `repository` is empty, as far as is known.
    pub(super) fn contains(&self, repository: &Repository) -> bool {
        !matches!(self.get(repository), None | Some(Content::Something))
    }

    /// Whether `repository` is certainly empty.
    pub(super) fn is_new(&self, repository: &Repository) -> bool {
        self.get(repository) == Some(Content::Nothing)
    }

    fn get(&self, repository: &Repository) -> Option<Content> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(repository).copied()
    }

    fn set(&self, repository: &Repository, content: Content) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(repository.clone(), content);
    }
}

/// Determines whether the target repository is empty. The repository's first image in flight asks and the others
/// wait for it; it waits for none of them. `is_known`: the root was in the cache at the start of the run.
pub(super) async fn find_out(
    engine: &Arc<Engine>,
    route: &Arc<Route>,
    root: &Arc<Manifest>,
    is_known: bool,
) -> Result<()> {
    let repository = route.target_repository();
    let mut changes = engine.holders.changes();
    while engine.empty_repositories.get(repository) == Some(Content::Unknown) {
        if engine.holders.is_first(repository, route.place()) {
            // A failed check isn't an error: if it matters, the image itself meets the same error.
            if let Ok(found) = holds_first_blob(engine, route, root).await {
                let content = if found { Content::Something } else { Content::NothingFound };
                engine.empty_repositories.set(repository, content);
            }
            engine.holders.announce();
            return Ok(());
        }
        tokio::select! {
            _ = changes.changed() => {}
            () = engine.stop.cancelled() => return Err(Error::interrupted()),
        }
    }
    if engine.empty_repositories.get(repository) == Some(Content::NothingFound)
        && is_known
        && let Some(blob) = first_known_blob(route, root).await
        && route::has_blob(route, &blob).await.unwrap_or(false)
    {
        engine.empty_repositories.set(repository, Content::Something);
    }
    Ok(())
}

/// The first blob below `root`, if it can be found without reading a manifest from a registry.
async fn first_known_blob(route: &Route, root: &Arc<Manifest>) -> Option<Descriptor> {
    let mut manifest = Arc::clone(root);
    for _ in 0..=bounds::DEPTH {
        match manifest.successors().first()? {
            Edge::Blob(blob) => return Some(blob.clone()),
            Edge::Manifest(child) => manifest = Arc::new(route.source.cached_manifest(&child.digest).await?),
        }
    }
    None
}

/// Whether the target has the first blob below `root`, or a manifest on the path to it.
async fn holds_first_blob(engine: &Arc<Engine>, route: &Arc<Route>, root: &Arc<Manifest>) -> Result<bool> {
    let mut manifest = Arc::clone(root);
    for _ in 0..=bounds::DEPTH {
        let child = match manifest.successors().first() {
            Some(Edge::Blob(blob)) => return route::has_blob(route, blob).await,
            Some(Edge::Manifest(child)) => child.digest.clone(),
            None => break,
        };
        if read::costs_a_pull(route, &child).await && walk::is_there(engine, route, &child).await? {
            return Ok(true);
        }
        manifest = read::load(engine, route, &child).await?;
    }
    Ok(false)
}
