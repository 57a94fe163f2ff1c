//! The content of an image, limited to the wanted platforms.

use std::collections::HashSet;
use std::sync::Arc;

use super::ask::Caches;
use super::pulls::ImagePulls;
use crate::error::{Error, Kind, Result};
use crate::oci::{self, Descriptor, Digest, Edge, Manifest, bounds};
use crate::plan::Transfer;

/// The manifests and blobs of an image, without duplicates.
#[derive(Debug, Clone, Default)]
pub(super) struct Graph {
    /// The root first; children follow their parent.
    pub(super) manifests: Vec<Manifest>,
    pub(super) blobs: Vec<Descriptor>,
}

/// Where manifests are read from.
pub(super) enum From<'a, 'p> {
    /// The manifests stored on this machine, without a request.
    Local,
    /// The cache, even if they are stored on this machine, so that the cache stores them. Its upstream may count this
    /// as a pull.
    Cache(&'a mut ImagePulls<'p>),
}

impl Graph {
    /// Indexes, by their digests.
    pub(super) fn indexes(&self) -> Vec<Digest> {
        self.manifests.iter().filter(|one| is_index(one)).map(|one| one.digest().clone()).collect()
    }

    /// Bytes of all manifests.
    pub(super) fn manifest_bytes(&self) -> u64 {
        self.manifests.iter().map(|manifest| manifest.descriptor().size).sum()
    }
}

pub(super) fn is_index(manifest: &Manifest) -> bool {
    manifest.kind() == oci::Kind::Index
}

impl Caches {
    /// The graph of an image, whose manifests are read in quick succession. `None` if one of them isn't available.
    pub(super) async fn graph(self: &Arc<Self>, transfer: &Transfer, mut from: From<'_, '_>) -> Result<Option<Graph>> {
        if let From::Cache(pulls) = &mut from {
            // An index is useless without a child.
            let child = u64::from(transfer.root.media_type.is_index());
            pulls.reserve_pulls(std::slice::from_ref(&transfer.root.digest), child).await?;
        }
        let mut graph = Graph::default();
        let mut seen = HashSet::new();
        let mut open = vec![(transfer.root.digest.clone(), 0)];
        while let Some((digest, level)) = open.pop() {
            if !seen.insert(digest.clone()) {
                continue;
            }
            if level > bounds::DEPTH {
                let why = format!("indexes nest deeper than {}", bounds::DEPTH);
                return Err(Error::new(Kind::Invalid, format!("follow {digest} in {}", transfer.target), why));
            }
            let Some(manifest) = self.manifest(transfer, &digest, &from).await? else { return Ok(None) };
            let wanted = if level == 0 { wanted_part(transfer, &manifest)? } else { manifest.clone() };
            let mut children = Vec::new();
            for edge in wanted.successors() {
                match edge {
                    Edge::Manifest(child) => children.push((child.digest.clone(), level + 1)),
                    Edge::Blob(blob) if seen.insert(blob.digest.clone()) => graph.blobs.push(blob.clone()),
                    Edge::Blob(_) => {}
                }
            }
            if let From::Cache(pulls) = &mut from {
                let digests: Vec<Digest> = children.iter().map(|(digest, _)| digest.clone()).collect();
                pulls.reserve_pulls(&digests, 0).await?;
                pulls.pass_on();
            }
            // In the order of the index: the last pushed is read first.
            open.extend(children.into_iter().rev());
            graph.manifests.push(manifest);
        }
        Ok(Some(graph))
    }

    async fn manifest(&self, transfer: &Transfer, digest: &Digest, from: &From<'_, '_>) -> Result<Option<Manifest>> {
        let source = self.stores.source(&transfer.target)?;
        match (source.cached_manifest(digest).await, from) {
            (local, From::Local) => Ok(local),
            // Manifests stored on this machine are requested even so; others are stored afterwards.
            (Some(_), From::Cache(_)) => {
                self.ask(&transfer.target, |cache| async move { cache.manifest(digest).await }).await.map(Some)
            }
            (None, From::Cache(_)) => {
                self.ask(&transfer.target, |_| async move { source.manifest(digest).await }).await.map(Some)
            }
        }
    }
}

/// The subset of a root for the mirrored platforms.
fn wanted_part(transfer: &Transfer, root: &Manifest) -> Result<Manifest> {
    let subset = root.subset(&transfer.handling.platforms).map_err(|error| {
        Error::new(Kind::Invalid, format!("select the platforms of {}", transfer.source), error.to_string())
    })?;
    Ok(subset.manifest)
}
