//! The graph of an image, walked from the root: what the target has ends a branch, children go before parents. When the
//! root goes is for `image` to say.

use std::sync::Arc;

use futures::FutureExt as _;
use futures::future::{BoxFuture, join_all};

use super::place::{self, Ask, Placed};
use super::{Engine, child, foreign, read, repair};
use crate::error::{Error, Kind, Result, Side};
use crate::oci::{Descriptor, Digest, Edge, MAX_DEPTH, Manifest, Repository, Selector};
use crate::provision::Ready;
use crate::report::Bytes;
use crate::store::{Accepted, Held, Source, Stores, Target};

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

/// Brings what `manifest` points at. Every branch is followed to its end even if one fails: what arrives is of use to the
/// next run, and other images may wait for it.
pub(super) fn bring_successors<'a>(
    engine: &'a Arc<Engine>,
    route: &'a Arc<Route>,
    manifest: &'a Manifest,
    depth: usize,
    ask: Ask,
) -> BoxFuture<'a, Result<Bytes>> {
    async move {
        let branches = manifest.successors().iter().map(|edge| async move {
            let brought = bring_edge(engine, route, edge, depth, ask).await;
            brought.map_err(|error| child::explain(error, manifest, edge.descriptor()))
        });
        let mut tally = Bytes::default();
        for branch in join_all(branches).await {
            tally += branch?;
        }
        Ok(tally)
    }
    .boxed()
}

/// Brings one branch. Only the first who asks is credited with what it cost; for the others it is there.
pub(super) async fn bring_edge(
    engine: &Arc<Engine>,
    route: &Arc<Route>,
    edge: &Edge,
    depth: usize,
    ask: Ask,
) -> Result<Bytes> {
    let key = (route.key(&edge.descriptor().digest), edge.descriptor().size);
    let (engine_, route_, edge_) = (Arc::clone(engine), Arc::clone(route), edge.clone());
    let work = || async move {
        match &edge_ {
            Edge::Blob(blob) => {
                let placed = place::place(&engine_, &route_, blob, ask).await;
                placed.map(|placed| credit(placed, blob)).map_err(|error| foreign::explain(error, blob))
            }
            Edge::Manifest(child) => bring_child(&engine_, &route_, child, depth + 1, ask).await,
        }
    };
    let brought = engine.brought.get_or_work(key, work).await;
    let (brought, first) =
        brought.map_err(|lost| Error::defect(format!("bring {}", edge.descriptor().digest), lost))?;
    brought.map(|tally| if first { tally } else { Bytes { present: tally.total(), ..Bytes::default() } })
}

fn credit(placed: Placed, blob: &Descriptor) -> Bytes {
    let size = blob.size;
    match placed {
        Placed::Copied => Bytes { copied: size, ..Bytes::default() },
        Placed::Mounted => Bytes { mounted: size, ..Bytes::default() },
        Placed::Present => Bytes { present: size, ..Bytes::default() },
    }
}

/// Brings a manifest that another one points at, by its digest.
async fn bring_child(
    engine: &Arc<Engine>,
    route: &Arc<Route>,
    child: &Descriptor,
    depth: usize,
    ask: Ask,
) -> Result<Bytes> {
    if depth > MAX_DEPTH {
        let attempted = format!("follow {} in {}", child.digest, route.source);
        return Err(Error::new(Kind::Invalid, attempted, format!("indexes nest deeper than {MAX_DEPTH}")));
    }
    let is_there = async {
        match ask {
            Ask::Always => has_manifest(route, &child.digest).await,
            Ask::IfLikely => is_there(engine, route, &child.digest).await,
        }
    };
    if child_may_be_there(engine, route, child, ask).await && is_there.await? {
        return Ok(Bytes { present: child.size, ..Bytes::default() });
    }
    let manifest = read::load(engine, route, &child.digest).await?;
    let tally = bring_successors(engine, route, &manifest, depth, ask).await?;
    let name = Selector::Digest(child.digest.clone());
    push(engine, route, &manifest, &name, depth).await.map(|(_, repaired)| tally + repaired)
}

/// A repository without tags may still hold children of an interrupted run. Finding out costs a request each, which is
/// worth it where it saves a pull that counts.
pub(super) async fn child_may_be_there(engine: &Engine, route: &Route, child: &Descriptor, ask: Ask) -> bool {
    ask == Ask::Always || !engine.vacancies.is_vacant(&route.to) || read::costs_a_pull(route, &child.digest).await
}

/// Whether the target had the manifest `digest` when this was first asked in this run.
pub(super) async fn is_there(engine: &Engine, route: &Arc<Route>, digest: &Digest) -> Result<bool> {
    let (asking, wanted) = (Arc::clone(route), digest.clone());
    let work = || async move { has_manifest(&asking, &wanted).await };
    let asked = engine.present.get_or_work((route.to.clone(), digest.clone()), work).await;
    asked.map_err(|lost| Error::defect(format!("find {digest} in {}", route.target), lost))?.0
}

/// Whether the target has `blob`. A refusal to tell doesn't fail the image: if it has it or not, the push decides.
pub(super) async fn has_blob(route: &Route, blob: &Descriptor) -> Result<bool> {
    match route.target.blob_size(&blob.digest).await {
        Ok(size) => Ok(size == Some(blob.size)),
        Err(error) if error.kind().retry() || error.kind() == Kind::Interrupted => Err(error.on(Side::Target)),
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

/// Pushes a manifest whose successors are there; if the target says that some aren't, brings these and pushes once more.
/// Returns what the target says of it, and what the repair moved.
pub(super) async fn push(
    engine: &Arc<Engine>,
    route: &Arc<Route>,
    manifest: &Manifest,
    name: &Selector,
    depth: usize,
) -> Result<(Accepted, Bytes)> {
    let pushed = match route.target.push_manifest(manifest, name).await {
        Err(error) if error.kind() == Kind::MissingContent => {
            tracing::info!("{error}: asking for each part and sending what is missing");
            let repaired = repair::repair(engine, route, manifest, depth).await?;
            let again = route.target.push_manifest(manifest, name).await;
            again.map(|accepted| (accepted, repaired)).map_err(repair::in_vain)
        }
        other => other.map(|accepted| (accepted, Bytes::default())),
    };
    if pushed.is_ok() {
        engine.holders.commit(manifest, &route.to);
    }
    let pushed = pushed.map_err(|error| foreign::explain_refusal(error.on(Side::Target), manifest));
    engine.quotas.learn(route, &pushed);
    pushed
}
