//! Walks the graph of an image from the root: a branch ends at content that the target has, and children are pushed
//! before parents. `image` decides when the root is pushed.

use std::sync::Arc;

use futures::FutureExt as _;
use futures::future::{BoxFuture, join_all};

use super::place::{self, Placed};
use super::push_outcome::may_miss_its_subject;
use super::route::{Ask, Route, has_manifest};
use super::{Engine, child, foreign, read, repair};
use crate::error::{Error, Kind, Result, Side};
use crate::oci::{Descriptor, Digest, Edge, Manifest, Selector, bounds};
use crate::report::Bytes;
use crate::store::Accepted;

/// Copies what `manifest` points at. Every branch is completed even if one fails: the content helps the next run,
/// and other images may wait for it.
pub(super) fn copy_children<'a>(
    engine: &'a Arc<Engine>,
    route: &'a Arc<Route>,
    manifest: &'a Manifest,
    depth: usize,
    ask: Ask,
) -> BoxFuture<'a, Result<Bytes>> {
    async move {
        engine.meter.expect(route, manifest);
        let branches = manifest.successors().iter().map(|edge| async move {
            let copied = copy_edge(engine, route, edge, depth, ask).await;
            copied.map_err(|error| child::explain(error, manifest, edge.descriptor()))
        });
        let mut tally = Bytes::default();
        for branch in join_all(branches).await {
            tally += branch?;
        }
        Ok(tally)
    }
    .boxed()
}

/// The result of copying a blob, or a manifest with everything below it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct CopiedReferrers {
    bytes: Bytes,
    /// The target's answer to the pushed manifest.
    accepted: Accepted,
}

/// Does `work` once for each digest and pair of repositories, whether the manifest is reached as a root, a child or
/// a referrer. The bytes are credited to the first caller; for the others the content is already there.
async fn once<F>(engine: &Engine, route: &Route, of: &Descriptor, work: impl FnOnce() -> F) -> Result<CopiedReferrers>
where
    F: Future<Output = Result<CopiedReferrers>> + Send + 'static,
{
    let digest = &of.digest;
    let key = (route.key(digest), of.size);
    let done = engine.copied.get_or_work(key.clone(), work).await;
    let (copied, first) = done.map_err(|lost| Error::defect(format!("bring {digest}"), lost))?;
    match copied {
        Ok(copied) if first => Ok(copied),
        Ok(CopiedReferrers { bytes, accepted }) => {
            Ok(CopiedReferrers { bytes: Bytes { present: bytes.total(), ..Bytes::default() }, accepted })
        }
        Err(error) => {
            // It may be accepted when its subject is there.
            if may_miss_its_subject(&error) {
                engine.copied.forget(&key);
            }
            Err(error)
        }
    }
}

/// Copies one branch.
pub(super) async fn copy_edge(
    engine: &Arc<Engine>,
    route: &Arc<Route>,
    edge: &Edge,
    depth: usize,
    ask: Ask,
) -> Result<Bytes> {
    if let Edge::Blob(blob) = edge {
        engine.permits.need(blob, route.place());
    }
    let (engine_, route_, edge_) = (Arc::clone(engine), Arc::clone(route), edge.clone());
    let work = || async move {
        match &edge_ {
            Edge::Blob(blob) => {
                let placed = place::place(&engine_, &route_, blob, ask).await;
                let bytes = placed.map(|placed| credit(placed, blob)).map_err(|error| foreign::explain(error, blob))?;
                Ok(CopiedReferrers { bytes, ..CopiedReferrers::default() })
            }
            Edge::Manifest(child) => copy_child(&engine_, &route_, child, depth + 1, ask).await,
        }
    };
    once(engine, route, edge.descriptor(), work).await.map(|copied| copied.bytes)
}

/// Copies `manifest` with everything below it, and pushes it by digest.
pub(super) async fn copy_node(
    engine: &Arc<Engine>,
    route: &Arc<Route>,
    manifest: &Arc<Manifest>,
) -> Result<(Accepted, Bytes)> {
    let (engine_, route_, manifest_) = (Arc::clone(engine), Arc::clone(route), Arc::clone(manifest));
    let work = || async move { copy_manifest(&engine_, &route_, &manifest_, 0, Ask::IfLikely).await };
    once(engine, route, manifest.descriptor(), work).await.map(|CopiedReferrers { bytes, accepted }| (accepted, bytes))
}

async fn copy_manifest(
    engine: &Arc<Engine>,
    route: &Arc<Route>,
    manifest: &Manifest,
    depth: usize,
    ask: Ask,
) -> Result<CopiedReferrers> {
    let bytes = copy_children(engine, route, manifest, depth, ask).await?;
    let name = Selector::Digest(manifest.digest().clone());
    let (accepted, repaired) = push(engine, route, manifest, &name, depth).await?;
    Ok(CopiedReferrers { bytes: bytes + repaired, accepted })
}

fn credit(placed: Placed, blob: &Descriptor) -> Bytes {
    let size = blob.size;
    match placed {
        Placed::Copied => Bytes { copied: size, ..Bytes::default() },
        Placed::Mounted => Bytes { mounted: size, ..Bytes::default() },
        Placed::Present => Bytes { present: size, ..Bytes::default() },
    }
}

/// Copies a manifest that another one points at, and pushes it by digest.
async fn copy_child(
    engine: &Arc<Engine>,
    route: &Arc<Route>,
    child: &Descriptor,
    depth: usize,
    ask: Ask,
) -> Result<CopiedReferrers> {
    if depth > bounds::DEPTH {
        let attempted = format!("follow {} in {}", child.digest, route.source);
        let why = format!("indexes nest deeper than {}", bounds::DEPTH);
        return Err(Error::new(Kind::Invalid, attempted, why).on(Side::Source));
    }
    let is_there = async {
        match ask {
            Ask::Always | Ask::Never => has_manifest(route, &child.digest).await,
            Ask::IfLikely => is_there(engine, route, &child.digest).await,
        }
    };
    if ask != Ask::Never && child_may_be_there(engine, route, child, ask).await && is_there.await? {
        let bytes = Bytes { present: child.size, ..Bytes::default() };
        return Ok(CopiedReferrers { bytes, ..CopiedReferrers::default() });
    }
    let manifest = read::load(engine, route, &child.digest).await?;
    // The push of the child reports what the child lacks.
    let below = if ask == Ask::Never { Ask::IfLikely } else { ask };
    copy_manifest(engine, route, &manifest, depth, below).await
}

/// Whether to check for a child in an empty repository. A repository without tags may hold children of an
/// interrupted run. Each check is a request, which is worthwhile if it saves a metered pull.
pub(super) async fn child_may_be_there(engine: &Engine, route: &Route, child: &Descriptor, ask: Ask) -> bool {
    ask == Ask::Always
        || !engine.empty_repositories.contains(route.target_repository())
        || read::costs_a_pull(route, &child.digest).await
}

/// Whether the target had the manifest `digest` when this run first checked.
pub(super) async fn is_there(engine: &Engine, route: &Arc<Route>, digest: &Digest) -> Result<bool> {
    // A manifest is copied again if something below it is missing, or if nothing below it was checked.
    if !engine.may_be_whole(route, digest) {
        return Ok(false);
    }
    let (asking, wanted) = (Arc::clone(route), digest.clone());
    let work = || async move { has_manifest(&asking, &wanted).await };
    let asked = engine.present.get_or_work((route.target_repository().clone(), digest.clone()), work).await;
    asked.map_err(|lost| Error::defect(format!("find {digest} in {}", route.target), lost))?.0
}

/// Pushes a manifest whose children are there. If the target reports missing ones, sends them and pushes it again.
/// Returns the target's answer and the bytes that the repair moved.
pub(super) async fn push(
    engine: &Arc<Engine>,
    route: &Arc<Route>,
    manifest: &Manifest,
    name: &Selector,
    depth: usize,
) -> Result<(Accepted, Bytes)> {
    let pushed = match route.target.push_manifest(manifest, name).await {
        Err(error) if repair::misses_content(&error, manifest) => {
            repair::push_again(engine, route, manifest, name, depth, error).await
        }
        // The target has stored bytes other than those sent: they were damaged in transit, or the target is broken.
        Err(error) if error.kind() == Kind::Mismatch => {
            tracing::info!("{error}: pushing it again");
            route.target.push_manifest(manifest, name).await.map(|accepted| (accepted, Bytes::default()))
        }
        other => other.map(|accepted| (accepted, Bytes::default())),
    };
    if pushed.is_ok() {
        engine.holders.commit(manifest, route.target_repository());
    }
    let pushed = pushed.map_err(|error| foreign::explain_refusal(error, manifest));
    engine.quotas.learn(route, &pushed);
    pushed
}
