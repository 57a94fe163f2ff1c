//! `plan --bytes`: reads the manifests of what is to be copied and asks the targets for their blobs, so that bytes and
//! pulls are exact. The manifest GETs count where pulls are counted.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures::StreamExt as _;

use super::{Action, Plan, Planned, Transfer};
use crate::error::Result;
use crate::oci::{Descriptor, Digest, Edge, Manifest, Repository};
use crate::store::{Source, Stores};

/// Images that are weighed side by side.
const IMAGES: usize = 16;

/// What the graph of an image consists of.
struct Graph {
    manifests: u64,
    blobs: Vec<Descriptor>,
}

/// Fills in `bytes` and `pulls` of each image to copy: what leaves the upstream, each blob once, credited to the first
/// image that needs it. An image whose manifests can't be read keeps `None`.
pub async fn weigh(plan: &mut Plan, stores: &Arc<dyn Stores>) {
    let to_copy = plan.images.iter().filter_map(|planned| match planned {
        Planned::Image(transfer) if transfer.action == Action::Copy => Some(transfer.clone()),
        _ => None,
    });
    let vacant = &plan.vacant;
    let weighed = to_copy.map(|transfer| async move { weigh_one(&transfer, stores, vacant).await });
    let mut graphs = futures::stream::iter(weighed.collect::<Vec<_>>()).buffered(IMAGES);
    let mut credited = HashSet::new();
    let mut answers = Vec::new();
    while let Some(graph) = graphs.next().await {
        answers.push(graph);
    }
    drop(graphs);
    let images = plan.images.iter_mut().filter_map(|planned| match planned {
        Planned::Image(transfer) if transfer.action == Action::Copy => Some(transfer),
        _ => None,
    });
    for (transfer, graph) in images.zip(answers) {
        let Ok(graph) = graph else { continue };
        let fresh = graph.blobs.into_iter().filter(|blob| credited.insert(blob.digest.clone()));
        transfer.bytes = Some(fresh.map(|blob| blob.size).sum());
        if transfer.pulls > 0 {
            transfer.pulls = graph.manifests;
        }
        transfer.pulls_exact = true;
    }
}

async fn weigh_one(transfer: &Transfer, stores: &Arc<dyn Stores>, vacant: &HashSet<Repository>) -> Result<Graph> {
    let source = stores.source(transfer.source.repository())?;
    let graph = read_graph(&*source, &transfer.root.digest).await?;
    if vacant.contains(&transfer.target) {
        return Ok(graph);
    }
    let target = stores.target(&transfer.target)?;
    let asked = graph.blobs.into_iter().map(|blob| {
        let target = Arc::clone(&target);
        async move {
            let there = target.blob_size(&blob.digest).await?;
            Ok((blob, there.is_some()))
        }
    });
    let answers: Vec<Result<(Descriptor, bool)>> = futures::stream::iter(asked).buffered(IMAGES).collect().await;
    let answers = answers.into_iter().collect::<Result<Vec<_>>>()?;
    let blobs = answers.into_iter().filter(|(_, there)| !there).map(|(blob, _)| blob).collect();
    Ok(Graph { manifests: graph.manifests, blobs })
}

async fn read_graph(source: &dyn Source, root: &Digest) -> Result<Graph> {
    let mut manifests: HashMap<Digest, Manifest> = HashMap::new();
    let mut to_read = vec![root.clone()];
    let mut blobs = Vec::new();
    while let Some(digest) = to_read.pop() {
        if manifests.contains_key(&digest) {
            continue;
        }
        let manifest = source.manifest(&digest).await?;
        for edge in manifest.successors() {
            match edge {
                Edge::Manifest(child) => to_read.push(child.digest.clone()),
                Edge::Blob(blob) => blobs.push(blob.clone()),
            }
        }
        manifests.insert(digest, manifest);
    }
    Ok(Graph { manifests: manifests.len() as u64, blobs })
}
