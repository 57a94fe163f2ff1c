//! From where to where an image goes, and what the target is asked on the way.

use std::sync::Arc;

use crate::error::{Kind, Result, Side};
use crate::oci::{Descriptor, Digest, Repository, Selector};
use crate::provision::Ready;
use crate::store::{Held, Source, Stores, Target};

/// From where to where an image goes.
#[derive(Debug)]
pub(super) struct Route {
    pub(super) source: Arc<dyn Source>,
    pub(super) target: Arc<dyn Target>,
    from: Repository,
    to: Repository,
    /// Where in the plan the image stands.
    place: usize,
}

impl Route {
    /// Opens both ends. The target takes a proof that the repository exists.
    pub(super) fn open(stores: &dyn Stores, from: &Repository, ready: &Ready, place: usize) -> Result<Arc<Self>> {
        let to = ready.repository();
        let source = stores.source(from).map_err(|error| error.on(Side::Source))?;
        let target = stores.target(to).map_err(|error| error.on(Side::Target))?;
        Ok(Arc::new(Self { source, target, from: from.clone(), to: to.clone(), place }))
    }

    pub(super) fn source_repository(&self) -> &Repository {
        &self.from
    }

    pub(super) fn target_repository(&self) -> &Repository {
        &self.to
    }

    pub(super) fn place(&self) -> usize {
        self.place
    }

    /// Work is shared by all who bring the same content from and to the same repositories.
    pub(super) fn key(&self, digest: &Digest) -> (Repository, Repository, Digest) {
        (self.from.clone(), self.to.clone(), digest.clone())
    }
}

/// Whether to ask the target before sending. Only what is likely to be there is mounted: a target that has said that
/// something is missing isn't trusted with that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ask {
    /// Where something can be there.
    IfLikely,
    /// In any case: the target has said that something is missing.
    Always,
    /// Not at all: it has said so again after it was asked.
    Never,
}

/// Whether the target has `blob`. A refusal to tell doesn't fail the image: if it has it or not, the push decides.
pub(super) async fn has_blob(route: &Route, blob: &Descriptor) -> Result<bool> {
    match route.target.blob_size(&blob.digest).await {
        Ok(size) => Ok(size == Some(blob.size)),
        Err(error) if error.kind() == Kind::Interrupted => Err(error),
        Err(error) if error.kind().retry() && !error.is_refusal() => Err(error.on(Side::Target)),
        Err(error) => {
            tracing::debug!("{error}: sending it without knowing");
            Ok(false)
        }
    }
}

pub(super) async fn has_manifest(route: &Route, digest: &Digest) -> Result<bool> {
    holds(route, &Selector::Digest(digest.clone()), digest).await
}

/// Whether the target has `digest` under this name.
pub(super) async fn holds(route: &Route, name: &Selector, digest: &Digest) -> Result<bool> {
    held(route, name).await.map(|held| matches!(held, Held::Manifest(found) if found == *digest))
}

/// What the target has under this name.
pub(super) async fn held(route: &Route, name: &Selector) -> Result<Held> {
    route.target.held(name).await.map_err(|error| error.on(Side::Target))
}
