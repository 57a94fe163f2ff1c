//! The content of images that are up to date at their targets, as far as their manifests are in the cache. Other
//! images can mount it.

use std::sync::Arc;

use futures::StreamExt as _;
use futures::stream::BoxStream;

use super::{Action, Plan, Transfer};
use crate::oci::Manifest;
use crate::store::{Stores, cached_graph};

/// Images whose manifests are read from the cache concurrently.
const READS: usize = 16;

impl Plan {
    /// The images that are right, each with its manifests in the cache; none if there is nothing to copy.
    pub(crate) fn known_contents<'a>(
        &'a self,
        stores: &'a Arc<dyn Stores>,
    ) -> BoxStream<'a, (&'a Transfer, Vec<Manifest>)> {
        let copies = self.with_work().any(|transfer| transfer.action == Action::Copy);
        let right = self.right().filter(move |_| copies);
        let read = right.map(move |transfer| async move { (transfer, cached_contents(stores, transfer).await) });
        futures::stream::iter(read).buffer_unordered(READS).boxed()
    }
}

async fn cached_contents(stores: &Arc<dyn Stores>, transfer: &Transfer) -> Vec<Manifest> {
    let Ok(source) = stores.source(transfer.source.repository()) else { return Vec::new() };
    let Some(root) = source.cached_manifest(&transfer.root.digest).await else { return Vec::new() };
    match root.part(&transfer.handling.platforms, transfer.target_digest()) {
        Ok(part) if part.digest() == transfer.target_digest() => cached_graph(&*source, part).await.0,
        _ => Vec::new(),
    }
}
