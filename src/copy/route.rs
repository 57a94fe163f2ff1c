//! The route of an image from source to target, and the checks at the target.

use std::sync::Arc;

use crate::error::{Kind, Result};
use crate::oci::{Descriptor, Digest, Reference, Repository, Selector};
use crate::provision::Ready;
use crate::store::{Held, Source, Stores, Target};

/// The source and the target of an image.
#[derive(Debug)]
pub(super) struct Route {
    pub(super) source: Arc<dyn Source>,
    pub(super) target: Arc<dyn Target>,
    from: Repository,
    to: Repository,
    /// The plan position of the image.
    place: usize,
    /// The name of the image.
    image: Arc<str>,
}

impl Route {
    /// Opens both ends. `ready` proves that the target repository exists.
    pub(super) fn open(stores: &dyn Stores, image: &Reference, ready: &Ready, place: usize) -> Result<Arc<Self>> {
        let (from, to) = (image.repository(), ready.repository());
        Ok(Arc::new(Self {
            source: stores.source(from)?,
            target: stores.target(to)?,
            from: from.clone(),
            to: to.clone(),
            place,
            image: image.to_string().into(),
        }))
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

    pub(super) fn image(&self) -> &Arc<str> {
        &self.image
    }

    /// The key by which images share the work for the same content between the same repositories.
    pub(super) fn key(&self, digest: &Digest) -> (Repository, Repository, Digest) {
        (self.from.clone(), self.to.clone(), digest.clone())
    }
}

/// Whether to ask the target before sending. Mounts are tried only with `IfLikely`: a target that has reported
/// missing content isn't trusted with them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ask {
    /// If the content may be there.
    IfLikely,
    /// Always: the target has reported missing content.
    Always,
    /// Never: it has reported missing content again after it was asked.
    Never,
}

/// Whether the target has `blob`. A refused check doesn't fail the image: the push decides.
pub(super) async fn has_blob(route: &Route, blob: &Descriptor) -> Result<bool> {
    match route.target.blob_size(&blob.digest).await {
        Ok(size) => Ok(size == Some(blob.size)),
        Err(error) if error.kind() == Kind::Interrupted || error.kind().retry() && !error.is_refusal() => Err(error),
        Err(error) => {
            tracing::debug!("{error}: pushing it without a check");
            Ok(false)
        }
    }
}

pub(super) async fn has_manifest(route: &Route, digest: &Digest) -> Result<bool> {
    holds(route, &Selector::Digest(digest.clone()), digest).await
}

/// Whether the target has `digest` under `name`.
pub(super) async fn holds(route: &Route, name: &Selector, digest: &Digest) -> Result<bool> {
    let held = route.target.held(name).await;
    held.map(|held| matches!(held, Held::Manifest(found) if found == *digest))
}
