//! Reserves the pulls that an image needs, if they are limited. All are reserved before the image is begun, so that
//! an image that has to be put off costs no more than the one pull for its index.
//!
//! Images reserve in plan order, but a small one may overtake a large one that doesn't fit. During its turn an
//! image reads its index, checks its target and its source, and waits for no other image. The referrers of
//! referrers are found later, and reserve their pulls then.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use futures::future::{join_all, try_join_all};

use super::referrer_set::ReferrerSet;
use super::route::Route;
use super::{Engine, read, walk};
use crate::error::{Error, Result, Stage};
use crate::oci::{Descriptor, Digest, Edge, Manifest, bounds};
use crate::plan::Transfer;
use crate::store::{PullTurn, ReservedPulls};

/// The pulls of an image.
#[derive(Debug)]
pub(super) struct ImagePulls {
    /// Set until its pulls are reserved; `None` if they aren't limited.
    turn: Option<PullTurn>,
    reserved: ReservedPulls,
}

/// Where a manifest is read.
enum Where {
    Here(Arc<Manifest>),
    Target,
    Source,
}

impl ImagePulls {
    /// Waits for the turn of the image, if its pulls are limited.
    pub(super) async fn begin(engine: &Engine, route: &Route, transfer: &Transfer, turn: PullTurn) -> Result<Self> {
        let reserved = ReservedPulls::default();
        if route.source.pulls_left(&transfer.root.digest).await.is_none() {
            return Ok(Self { turn: None, reserved });
        }
        tokio::select! {
            () = turn.come() => Ok(Self { turn: Some(turn), reserved }),
            () = engine.stop.cancelled() => Err(Error::interrupted()),
        }
    }

    pub(super) fn are_limited(&self) -> bool {
        self.turn.is_some()
    }

    /// Reserves the pulls to read `root`. An index alone is useless, so one of its children must fit as well.
    pub(super) async fn reserve_root(&mut self, route: &Route, root: &Descriptor) -> Result<()> {
        let children = u64::from(root.media_type.is_index());
        self.reserve_pulls(route, std::slice::from_ref(&root.digest), children).await
    }

    /// Reserves the pulls for the manifests below `root` and for `sets`. Returns whether there are any. The turn
    /// then passes to the next image.
    pub(super) async fn reserve_rest(
        &mut self,
        engine: &Arc<Engine>,
        route: &Arc<Route>,
        root: Option<&Arc<Manifest>>,
        sets: &[ReferrerSet],
    ) -> Result<bool> {
        if !self.are_limited() {
            return Ok(false);
        }
        let mut to_read = match root {
            Some(root) => self.children(engine, route, root).await?,
            None => Vec::new(),
        };
        let members = sets.iter().filter(|set| set.seen.is_none()).flat_map(|set| &set.members);
        let members: Vec<&Digest> = members.map(|member| &member.digest).collect();
        let found = try_join_all(members.iter().map(|digest| locate(engine, route, digest))).await?;
        let at_source = members.into_iter().zip(found).filter(|(_, found)| matches!(found, Where::Source));
        to_read.extend(at_source.map(|(digest, _)| digest.clone()));
        self.reserve_pulls(route, &to_read, 0).await?;
        self.turn = None;
        Ok(!to_read.is_empty())
    }

    /// The manifests below `root` that have to be read from the source. An index among them is read at once,
    /// because its children aren't known before.
    async fn children(
        &mut self,
        engine: &Arc<Engine>,
        route: &Arc<Route>,
        root: &Arc<Manifest>,
    ) -> Result<Vec<Digest>> {
        let (mut to_read, mut seen) = (Vec::new(), HashSet::new());
        let mut indexes = VecDeque::from([(Arc::clone(root), 0)]);
        while let Some((index, depth)) = indexes.pop_front() {
            let children = index.successors().iter().filter_map(|edge| match edge {
                Edge::Manifest(child) => Some(child),
                Edge::Blob(_) => None,
            });
            let fresh: Vec<&Descriptor> = children.filter(|child| seen.insert(child.digest.clone())).collect();
            let found = join_all(fresh.iter().map(|child| locate(engine, route, &child.digest))).await;
            for (child, found) in fresh.into_iter().zip(found) {
                // Deeper levels aren't copied.
                let is_followed = child.media_type.is_index() && depth < bounds::DEPTH;
                match found? {
                    Where::Here(child) if is_followed => indexes.push_back((child, depth + 1)),
                    Where::Source if is_followed => {
                        self.reserve_root(route, child).await?;
                        indexes.push_back((read::load(engine, route, &child.digest).await?, depth + 1));
                    }
                    Where::Source => to_read.push(child.digest.clone()),
                    Where::Here(_) | Where::Target => {}
                }
            }
        }
        Ok(to_read)
    }

    async fn reserve_pulls(&mut self, route: &Route, digests: &[Digest], unnamed: u64) -> Result<()> {
        if !self.are_limited() {
            return Ok(());
        }
        let set = route.source.reserve_pulls(&mut self.reserved, digests, unnamed).await;
        set.map_err(|error| error.at(Stage::Copy))
    }
}

async fn locate(engine: &Arc<Engine>, route: &Arc<Route>, digest: &Digest) -> Result<Where> {
    if let Some(read) = engine.read_before(route, digest).await {
        return Ok(Where::Here(read));
    }
    if engine.nearby.has(digest, route) {
        return read::load(engine, route, digest).await.map(Where::Here);
    }
    let is_there = walk::is_there(engine, route, digest).await?;
    Ok(if is_there { Where::Target } else { Where::Source })
}
