//! The pulls that an image takes, where they are limited: all of them are set aside before it is begun, so that no more than
//! the one for its index is spent on an image that has to be put off.
//!
//! Images have their turn in the order of the plan, but a small one may pass a large one that doesn't fit. Whoever has the
//! turn reads its index and asks its target and its source what there is, and waits for no other image. What refers to
//! referrers is found later, and takes its pulls then.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use futures::future::{join_all, try_join_all};

use super::referrer_set::ReferrerSet;
use super::route::Route;
use super::{Engine, read, walk};
use crate::error::{Error, Result, Side, Stage};
use crate::oci::{Descriptor, Digest, Edge, Manifest, bounds};
use crate::plan::Transfer;
use crate::store::{PullTurn, PullsAside};

/// The pulls of an image.
#[derive(Debug)]
pub(super) struct ImagePulls {
    /// Until its pulls are set aside; `None` where they aren't limited.
    turn: Option<PullTurn>,
    aside: PullsAside,
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
        let aside = PullsAside::default();
        if route.source.pulls_left(&transfer.root.digest).await.is_none() {
            return Ok(Self { turn: None, aside });
        }
        tokio::select! {
            () = turn.come() => Ok(Self { turn: Some(turn), aside }),
            () = engine.stop.cancelled() => Err(Error::interrupted()),
        }
    }

    pub(super) fn are_limited(&self) -> bool {
        self.turn.is_some()
    }

    /// Sets aside what it takes to read `root`. An index alone is of no use: there is room for one of its children as well.
    pub(super) async fn set_root_aside(&mut self, route: &Route, root: &Descriptor) -> Result<()> {
        let children = u64::from(root.media_type.is_index());
        self.set_aside(route, std::slice::from_ref(&root.digest), children).await
    }

    /// Sets aside what is to be read below `root`, if anything, and of `sets`; whether there is anything. Then it is the next
    /// image's turn.
    pub(super) async fn set_rest_aside(
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
        self.set_aside(route, &to_read, 0).await?;
        self.turn = None;
        Ok(!to_read.is_empty())
    }

    /// The manifests below `root` that have to be read at the source. An index among them is read at once, as what it
    /// consists of isn't known before.
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
                // What lies deeper than that isn't copied.
                let is_followed = child.media_type.is_index() && depth < bounds::DEPTH;
                match found? {
                    Where::Here(child) if is_followed => indexes.push_back((child, depth + 1)),
                    Where::Source if is_followed => {
                        self.set_root_aside(route, child).await?;
                        indexes.push_back((read::load(engine, route, &child.digest).await?, depth + 1));
                    }
                    Where::Source => to_read.push(child.digest.clone()),
                    Where::Here(_) | Where::Target => {}
                }
            }
        }
        Ok(to_read)
    }

    async fn set_aside(&mut self, route: &Route, digests: &[Digest], unnamed: u64) -> Result<()> {
        if !self.are_limited() {
            return Ok(());
        }
        let set = route.source.set_aside(&mut self.aside, digests, unnamed).await;
        set.map_err(|error| error.on(Side::Source).at(Stage::Copy))
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
