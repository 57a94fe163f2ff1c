//! The graph of an image, walked from the root: what the target has ends a branch, children go before parents, the root
//! goes last and once, by its tag.

use std::sync::Arc;

use futures::FutureExt as _;
use futures::future::{BoxFuture, join_all};

use super::place::{self, Ask, Placed};
use super::{Engine, foreign, repair};
use crate::error::{Error, Kind, Result, Side};
use crate::oci::{Descriptor, Digest, Edge, Manifest, Repository, Selector};
use crate::plan::Transfer;
use crate::provision::Ready;
use crate::report::Bytes;
use crate::store::{Source, Stores, Target};

/// Indexes nest, but not like this: a deeper graph is a mistake or an attack.
const MAX_DEPTH: usize = 16;

/// From where to where an image goes.
#[derive(Debug)]
pub(super) struct Route {
    pub(super) source: Arc<dyn Source>,
    pub(super) target: Arc<dyn Target>,
    from: Repository,
    to: Repository,
}

impl Route {
    /// Opens both ends. The target takes a proof that the repository exists.
    pub(super) fn open(stores: &dyn Stores, from: &Repository, ready: &Ready) -> Result<Arc<Self>> {
        let to = ready.repository();
        let source = stores.source(from).map_err(|error| error.on(Side::Source))?;
        let target = stores.target(to).map_err(|error| error.on(Side::Target))?;
        Ok(Arc::new(Self { source, target, from: from.clone(), to: to.clone() }))
    }

    pub(super) fn target_repository(&self) -> &Repository {
        &self.to
    }

    /// Work is shared by all who bring the same content from and to the same repositories.
    pub(super) fn key(&self, digest: &Digest) -> (Repository, Repository, Digest) {
        (self.from.clone(), self.to.clone(), digest.clone())
    }
}

/// Brings an image to the target and sets its tag.
pub(super) async fn bring_image(engine: &Arc<Engine>, route: &Arc<Route>, transfer: &Transfer) -> Result<Bytes> {
    let root = load_root(engine, route, transfer).await?;
    let mut tally = Bytes::default();
    if transfer.action == crate::plan::Action::Copy {
        foreign::check(engine, route, &root, transfer.handling.foreign).await?;
        tally = bring_successors(engine, route, &root, 0, Ask::IfLikely).await?;
    }
    let name = match &transfer.tag {
        Some(tag) => Selector::Tag(tag.clone()),
        None => Selector::Digest(transfer.lands_as().clone()),
    };
    push(engine, route, &root, &name, 0).await.map(|repaired| tally + repaired)
}

/// Brings what `manifest` points at. Every branch is followed to its end even if one fails: what arrives is of use to the
/// next run, and other images may wait for it.
fn bring_successors<'a>(
    engine: &'a Arc<Engine>,
    route: &'a Arc<Route>,
    manifest: &'a Manifest,
    depth: usize,
    ask: Ask,
) -> BoxFuture<'a, Result<Bytes>> {
    async move {
        let branches = manifest.successors().iter().map(|edge| bring_edge(engine, route, edge, depth, ask));
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
    let key = route.key(&edge.descriptor().digest);
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
    if child_may_be_there(engine, route, child, ask).await && has_manifest(route, &child.digest).await? {
        return Ok(Bytes { present: child.size, ..Bytes::default() });
    }
    let manifest = load(engine, route, &child.digest).await?;
    let tally = bring_successors(engine, route, &manifest, depth, ask).await?;
    push(engine, route, &manifest, &Selector::Digest(child.digest.clone()), depth)
        .await
        .map(|repaired| tally + repaired)
}

/// A repository without tags may still hold children of an interrupted run. Finding out costs a request each, which is
/// worth it where it saves a pull that counts.
pub(super) async fn child_may_be_there(engine: &Engine, route: &Route, child: &Descriptor, ask: Ask) -> bool {
    ask == Ask::Always
        || !engine.vacant.contains(&route.to)
        || route.source.counts_pulls() && route.source.at_hand(&child.digest).await.is_none()
}

pub(super) async fn has_manifest(route: &Route, digest: &Digest) -> Result<bool> {
    match route.target.resolve(&Selector::Digest(digest.clone())).await {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == Kind::NotFound => Ok(false),
        Err(error) => Err(error.on(Side::Target)),
    }
}

/// The root as it lands: from nobody if it is at hand; from the target where reading the source would count against a
/// quota, reading the target leaves no mark, and the target has it; else the source's, of which some platforms may be
/// wanted only.
async fn load_root(engine: &Arc<Engine>, route: &Arc<Route>, transfer: &Transfer) -> Result<Arc<Manifest>> {
    let (digest, lands_as) = (&transfer.root.digest, transfer.lands_as());
    let at_hand = route.source.at_hand(digest).await;
    let may_be_read = !engine.vacant.contains(&route.to) && !route.target.marks_pulls();
    let spares_a_pull = at_hand.is_none() && route.source.counts_pulls() && may_be_read;
    if spares_a_pull && has_manifest(route, lands_as).await? {
        return route.target.manifest(lands_as).await.map(Arc::new).map_err(|error| error.on(Side::Target));
    }
    let root = match at_hand {
        Some(root) => Arc::new(root),
        None => load(engine, route, digest).await?,
    };
    if transfer.handling.platforms.is_empty() { Ok(root) } else { part(&root, transfer).map(Arc::new) }
}

/// What of `root` is mirrored. It has to be what the lock says: else the lock was edited, or written by another rule.
fn part(root: &Manifest, transfer: &Transfer) -> Result<Manifest> {
    let attempted = || format!("pick the platforms of {}", transfer.source);
    let part = root.subset(&transfer.handling.platforms);
    let part =
        part.map_err(|error| Error::new(Kind::Invalid, attempted(), error.to_string()).on(Side::Source))?.manifest;
    if part.digest() == transfer.lands_as() {
        return Ok(part);
    }
    let why = format!("that gives {}, and the lock has {}", part.digest(), transfer.lands_as());
    let hint = "remove the image from the lock: the next sync pins it anew";
    Err(Error::new(Kind::Mismatch, attempted(), why).with_hint(hint).on(Side::Source))
}

/// The manifest from the source, read once in a run.
pub(super) async fn load(engine: &Arc<Engine>, route: &Arc<Route>, digest: &Digest) -> Result<Arc<Manifest>> {
    engine.check_stop()?;
    let (source, wanted) = (Arc::clone(&route.source), digest.clone());
    let work = || async move { source.manifest(&wanted).await.map(Arc::new).map_err(|error| error.on(Side::Source)) };
    let loaded = engine.manifests.get_or_work((route.from.clone(), digest.clone()), work).await;
    loaded.map_err(|lost| Error::defect(format!("read {digest} of {}", route.source), lost))?.0
}

/// Pushes a manifest whose successors are there; if the target says that some aren't, brings these and pushes once more.
/// Returns what the repair moved.
async fn push(
    engine: &Arc<Engine>,
    route: &Arc<Route>,
    manifest: &Manifest,
    name: &Selector,
    depth: usize,
) -> Result<Bytes> {
    let pushed = route.target.push_manifest(manifest, name).await;
    let repaired = match pushed {
        Err(error) if error.kind() == Kind::MissingContent => {
            tracing::info!("{error}: asking for each part and sending what is missing");
            let repaired = repair::repair(engine, route, manifest, depth).await?;
            let again = route.target.push_manifest(manifest, name).await;
            again.map(|_| repaired).map_err(repair::in_vain)
        }
        other => other.map(|_| Bytes::default()),
    };
    if repaired.is_ok() {
        engine.holders.commit(manifest, &route.to);
    }
    repaired.map_err(|error| foreign::explain_refusal(error.on(Side::Target), manifest))
}
