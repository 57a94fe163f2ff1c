//! The graph of an image, walked from the root: what the target has ends a branch, children go before parents. When the
//! root goes is for `image` to say.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use futures::FutureExt as _;
use futures::future::{BoxFuture, join_all};

use super::place::{self, Ask, Placed};
use super::{Engine, repair};
use crate::error::{Error, Kind, Result, Side};
use crate::oci::{Descriptor, Digest, Edge, Manifest, Repository, Selector};
use crate::plan::Transfer;
use crate::provision::Ready;
use crate::report::Bytes;
use crate::store::{Accepted, Source, Stores, Target};

/// Indexes nest, but not like this: a deeper graph is a mistake or an attack.
pub(super) const MAX_DEPTH: usize = 16;

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

    pub(super) fn source_repository(&self) -> &Repository {
        &self.from
    }

    pub(super) fn target_repository(&self) -> &Repository {
        &self.to
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
            Edge::Blob(blob) => place::place(&engine_, &route_, blob, ask).await.map(|placed| credit(placed, blob)),
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
    if child_may_be_there(engine, route, ask) && has_manifest(route, &child.digest).await? {
        return Ok(Bytes { present: child.size, ..Bytes::default() });
    }
    let manifest = load(engine, route, &child.digest).await?;
    let tally = bring_successors(engine, route, &manifest, depth, ask).await?;
    let name = Selector::Digest(child.digest.clone());
    push(engine, route, &manifest, &name, depth).await.map(|(_, repaired)| tally + repaired)
}

/// A repository without tags may still hold children of an interrupted run. Finding out costs a request each, which is
/// worth it where it saves a pull that counts.
fn child_may_be_there(engine: &Engine, route: &Route, ask: Ask) -> bool {
    ask == Ask::Always || !engine.vacant.contains(&route.to) || route.source.counts_pulls()
}

pub(super) async fn has_manifest(route: &Route, digest: &Digest) -> Result<bool> {
    holds(route, &Selector::Digest(digest.clone()), digest).await
}

/// Whether the target has `digest` under this name.
pub(super) async fn holds(route: &Route, name: &Selector, digest: &Digest) -> Result<bool> {
    match route.target.resolve(name).await {
        Ok(found) => Ok(found.digest == *digest),
        Err(error) if error.kind() == Kind::NotFound => Ok(false),
        Err(error) => Err(error.on(Side::Target)),
    }
}

/// The root as it lands: from the target where reading the source would count against a quota, reading the target leaves no
/// mark, and the target has it; else the source's, of which some platforms may be wanted only.
pub(super) async fn load_root(engine: &Arc<Engine>, route: &Arc<Route>, transfer: &Transfer) -> Result<Arc<Manifest>> {
    match read_instead(engine, route, transfer.lands_as()).await? {
        Some(root) => Ok(root),
        None => load_part(engine, route, transfer).await,
    }
}

/// The root as it landed, where reading it leaves no mark at the target, or doesn't count at the source.
pub(super) async fn load_landed(
    engine: &Arc<Engine>,
    route: &Arc<Route>,
    transfer: &Transfer,
) -> Result<Option<Arc<Manifest>>> {
    if !route.target.marks_pulls() {
        return read_back(route, transfer.lands_as()).await.map(Some);
    }
    match route.source.counts_pulls() {
        true => Ok(None),
        false => load_part(engine, route, transfer).await.map(Some),
    }
}

async fn load_part(engine: &Arc<Engine>, route: &Arc<Route>, transfer: &Transfer) -> Result<Arc<Manifest>> {
    let root = load(engine, route, &transfer.root.digest).await?;
    if transfer.handling.platforms.is_empty() { Ok(root) } else { part(&root, transfer).map(Arc::new) }
}

/// The manifest from the target, where that spares a pull that counts and leaves no mark.
async fn read_instead(engine: &Engine, route: &Route, digest: &Digest) -> Result<Option<Arc<Manifest>>> {
    let may_be_read = !engine.vacant.contains(&route.to) && !route.target.marks_pulls();
    let spares_a_pull = route.source.counts_pulls() && may_be_read;
    match spares_a_pull && has_manifest(route, digest).await? {
        true => read_back(route, digest).await.map(Some),
        false => Ok(None),
    }
}

async fn read_back(route: &Route, digest: &Digest) -> Result<Arc<Manifest>> {
    route.target.manifest(digest).await.map(Arc::new).map_err(|error| error.on(Side::Target))
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

/// How much reading an index may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reading {
    /// A pull, if it must be: it is needed anyway.
    Sparing,
    /// Nothing: else it is left unread.
    Free,
}

/// The manifests that `root` consists of, each once, its children first.
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
            // What lies deeper than that isn't brought.
            if child.media_type.is_index() && depth < MAX_DEPTH {
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
    if reading == Reading::Free && !route.target.marks_pulls() {
        return read_back(route, digest).await.map(Some);
    }
    if reading == Reading::Free && route.source.counts_pulls() {
        return Ok(None);
    }
    match read_instead(engine, route, digest).await? {
        Some(index) => Ok(Some(index)),
        None => load(engine, route, digest).await.map(Some),
    }
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
            route.target.push_manifest(manifest, name).await.map(|accepted| (accepted, repaired))
        }
        other => other.map(|accepted| (accepted, Bytes::default())),
    };
    if pushed.is_ok() {
        engine.holders.commit(manifest, &route.to);
    }
    pushed.map_err(|error| error.on(Side::Target))
}
