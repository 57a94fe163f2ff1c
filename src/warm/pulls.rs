//! The pulls that a cache takes of its upstream's quota: one for each manifest that it fetches, at most, as it doesn't tell what it
//! has. They are set aside before an image is begun, in the order of the list, so that no more than the one for its index is
//! spent on an image that has to be put off.
//!
//! What is left is asked of the upstream from here, by a HEAD. That is the cache's own quota where both go out by one address,
//! or with one account; where the upstream can't be reached from here, none is known. A cache that passes on what its upstream
//! tells is believed, too.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::ask::Caches;
use crate::error::{Error, Result, Stage};
use crate::oci::{Digest, Registry};
use crate::plan::{Planned, Transfer};
use crate::store::{PullOrder, PullTurn, PullsAside, Source};

/// How long an upstream that the caches talk to, and this machine may not, has to tell what is left.
const PATIENCE: Duration = Duration::from_secs(30);

/// The pulls of a run.
#[derive(Debug)]
pub(super) struct Pulls {
    order: Arc<PullOrder>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// How many, by whose quota.
    taken: BTreeMap<Registry, u64>,
    /// What images have set aside: the upstream isn't asked again what is left.
    aside: Vec<PullsAside>,
    /// Upstreams that don't answer, or not to this machine.
    silent: HashSet<Registry>,
}

/// The pulls of an image.
pub(super) struct ImagePulls<'a> {
    pulls: &'a Pulls,
    /// Whose quota it is.
    registry: &'a Registry,
    /// Where manifests cost pulls, if that is so.
    upstream: Option<Arc<dyn Source>>,
    /// The cache, where it tells a quota itself.
    cache: Option<Arc<dyn Source>>,
    /// Until all that is known to be needed is set aside; `None` where pulls aren't limited.
    turn: Option<PullTurn>,
    taken: u64,
    of_upstream: PullsAside,
    of_cache: PullsAside,
}

impl Pulls {
    /// For these images, in their order.
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

    /// How many pulls were taken, or would be, at most, by whose quota.
    pub(super) fn taken(&self) -> BTreeMap<Registry, u64> {
        self.lock().taken.clone()
    }

    /// The turn of the image at `place`, which those behind it wait for until it is dropped.
    pub(super) fn turn(&self, transfer: &Transfer, place: usize) -> PullTurn {
        self.order.place(transfer.source.repository().registry(), place)
    }

    /// Counts what it would take to have `manifests` fetched, where they cost pulls.
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
        let (of_upstream, of_cache) = (PullsAside::default(), PullsAside::default());
        Ok(Self { pulls, registry, upstream, cache, turn, taken: 0, of_upstream, of_cache })
    }

    /// Sets aside what it takes to read `digests` as well, and as many as `unnamed` of which it isn't known yet which they are.
    ///
    /// # Errors
    /// `QuotaExceeded` if there aren't as many.
    pub(super) async fn set_aside(&mut self, digests: &[Digest], unnamed: u64) -> Result<()> {
        let taken = self.taken + digests.len() as u64;
        if let Some(upstream) = &self.upstream {
            let set = upstream.set_aside(&mut self.of_upstream, &[], taken + unnamed).await;
            if let Err(error) = set {
                // What isn't begun for it is for others.
                let _ = upstream.set_aside(&mut self.of_upstream, &[], self.taken).await;
                return Err(error.at(Stage::Copy));
            }
        }
        if let Some(cache) = &self.cache {
            let set = cache.set_aside(&mut self.of_cache, digests, unnamed).await;
            set.map_err(|error| error.at(Stage::Copy))?;
        }
        self.taken = taken;
        Ok(())
    }

    /// All that is known to be needed is set aside: it is the next image's turn.
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
        state.aside.push(std::mem::take(&mut self.of_upstream));
    }
}
