//! The pulls that a cache takes from its upstream's quota: at most one for each manifest, because a cache doesn't
//! report what it has stored. They are reserved before work on an image starts, in the order of the list, so that an
//! image that has to be deferred costs at most the pull of its index.
//!
//! A HEAD from this machine to the upstream reads the remaining pulls. They are the cache's own if both use the same
//! address or account. If this machine can't reach the upstream, they are unknown. A quota that the cache reports
//! itself counts as well.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::ask::Caches;
use crate::error::{Error, Result, Stage};
use crate::oci::{Digest, Registry};
use crate::plan::{Planned, Transfer};
use crate::store::{PullOrder, PullTurn, ReservedPulls, Source};

/// How long to wait for the upstream's remaining pulls: the caches may reach it although this machine doesn't.
const PATIENCE: Duration = Duration::from_secs(30);

/// The pulls of a run.
#[derive(Debug)]
pub(super) struct Pulls {
    order: Arc<PullOrder>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The number of pulls, by registry.
    taken: BTreeMap<Registry, u64>,
    /// The reservations of images, so that the upstream isn't queried again.
    reserved: Vec<ReservedPulls>,
    /// Upstreams that don't answer this machine.
    silent: HashSet<Registry>,
}

/// The pulls of an image.
pub(super) struct ImagePulls<'a> {
    pulls: &'a Pulls,
    /// The registry whose quota counts.
    registry: &'a Registry,
    /// The upstream, if it meters pulls.
    upstream: Option<Arc<dyn Source>>,
    /// The cache, if it reports a quota itself.
    cache: Option<Arc<dyn Source>>,
    /// Held until everything that is known to be needed is reserved; `None` if pulls aren't limited.
    turn: Option<PullTurn>,
    taken: u64,
    of_upstream: ReservedPulls,
    of_cache: ReservedPulls,
}

impl Pulls {
    /// The pulls of these images, in their order.
    pub(super) fn new(planned: &[Planned]) -> Self {
        let places = planned.iter().enumerate().filter_map(|(place, planned)| match planned {
            Planned::Image(transfer) => Some((transfer.source.repository().registry().clone(), place)),
            Planned::Failed { .. } => None,
        });
        Self { order: PullOrder::new(places), state: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An upper bound of the pulls that were taken, or would be, by registry.
    pub(super) fn taken(&self) -> BTreeMap<Registry, u64> {
        self.lock().taken.clone()
    }

    /// The turn of the image at `place`; later images wait until it is dropped.
    pub(super) fn turn(&self, transfer: &Transfer, place: usize) -> PullTurn {
        self.order.place(transfer.source.repository().registry(), place)
    }

    /// Counts the pulls for fetching `manifests`, if they cost pulls.
    pub(super) fn price(&self, caches: &Caches, transfer: &Transfer, manifests: usize) {
        let source = transfer.source.repository();
        if caches.stores.source(source).is_ok_and(|source| source.meters_pulls()) {
            self.lock().take(source.registry(), manifests as u64);
        }
    }
}

impl State {
    fn take(&mut self, registry: &Registry, pulls: u64) {
        if pulls > 0 {
            *self.taken.entry(registry.clone()).or_default() += pulls;
        }
    }
}

impl<'a> ImagePulls<'a> {
    /// Waits for the turn of the image, if its pulls are limited.
    pub(super) async fn begin(caches: &'a Caches, transfer: &'a Transfer, turn: PullTurn) -> Result<Self> {
        let source = transfer.source.repository();
        let (pulls, registry) = (&caches.pulls, source.registry());
        let upstream = caches.stores.source(source).ok().filter(|source| source.meters_pulls());
        let root = &transfer.root.digest;
        let is_silent = pulls.lock().silent.contains(registry);
        let mut is_limited = false;
        if let Some(upstream) = upstream.as_ref().filter(|_| !is_silent) {
            let asked = tokio::time::timeout(PATIENCE, upstream.pulls_left(root));
            match caches.stop.run_until_cancelled(asked).await.ok_or_else(Error::interrupted)? {
                Ok(left) => is_limited = left.is_some(),
                Err(_) => drop(pulls.lock().silent.insert(registry.clone())),
            }
        }
        let cache = caches.stores.source(&transfer.target)?;
        let cache = Some(cache).filter(|cache| cache.meters_pulls());
        let mut turn = Some(turn).filter(|_| is_limited || cache.is_some());
        if let Some(turn) = &mut turn {
            tokio::select! {
                () = turn.come() => {}
                () = caches.stop.cancelled() => return Err(Error::interrupted()),
            }
        }
        let (of_upstream, of_cache) = (ReservedPulls::default(), ReservedPulls::default());
        Ok(Self { pulls, registry, upstream, cache, turn, taken: 0, of_upstream, of_cache })
    }

    /// Reserves pulls for `digests`, and for `unnamed` manifests whose digests aren't known yet.
    ///
    /// # Errors
    /// `QuotaExceeded` if there aren't enough.
    pub(super) async fn reserve_pulls(&mut self, digests: &[Digest], unnamed: u64) -> Result<()> {
        let taken = self.taken + digests.len() as u64;
        if let Some(upstream) = &self.upstream {
            let set = upstream.reserve_pulls(&mut self.of_upstream, &[], taken + unnamed).await;
            if let Err(error) = set {
                // The reservation of an image that isn't started is released.
                let _ = upstream.reserve_pulls(&mut self.of_upstream, &[], self.taken).await;
                return Err(error.at(Stage::Copy));
            }
        }
        if let Some(cache) = &self.cache {
            let set = cache.reserve_pulls(&mut self.of_cache, digests, unnamed).await;
            set.map_err(|error| error.at(Stage::Copy))?;
        }
        self.taken = taken;
        Ok(())
    }

    /// Everything that is known to be needed is reserved: the next image's turn.
    pub(super) fn pass_on(&mut self) {
        self.turn = None;
    }
}

impl Drop for ImagePulls<'_> {
    fn drop(&mut self) {
        let mut state = self.pulls.lock();
        if self.upstream.is_some() {
            state.take(self.registry, self.taken);
        }
        state.reserved.push(std::mem::take(&mut self.of_upstream));
    }
}
