//! Reserved pulls, and the order in which they are reserved.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use crate::oci::Registry;
use crate::registry::Reservation;

/// Pulls that a [`Source`](super::Source) has reserved for an image. Unused ones are returned on drop. Empty if
/// pulls aren't metered.
#[derive(Debug, Default)]
pub struct ReservedPulls(pub(super) Option<Reservation>);

/// The order in which images reserve pulls at a registry. They reserve one after another, in plan order, because the
/// pulls that an image needs are known only after its index was read. The holder of the turn never waits for images
/// behind it.
#[derive(Debug, Default)]
pub(crate) struct PullOrder {
    waiting: Mutex<HashMap<Registry, BTreeSet<usize>>>,
    changed: watch::Sender<()>,
}

/// A place in the order; given up on drop.
#[derive(Debug)]
pub(crate) struct PullTurn {
    order: Arc<PullOrder>,
    registry: Registry,
    place: usize,
}

impl PullOrder {
    /// The places of all images that may reserve pulls, by registry.
    pub(crate) fn new(places: impl IntoIterator<Item = (Registry, usize)>) -> Arc<Self> {
        let mut waiting: HashMap<Registry, BTreeSet<usize>> = HashMap::new();
        for (registry, place) in places {
            waiting.entry(registry).or_default().insert(place);
        }
        Arc::new(Self { waiting: Mutex::new(waiting), ..Self::default() })
    }

    /// Takes `place` at `registry`; those behind it wait for it from now on.
    pub(crate) fn place(self: &Arc<Self>, registry: &Registry, place: usize) -> PullTurn {
        PullTurn { order: Arc::clone(self), registry: registry.clone(), place }
    }

    fn is_first(&self, registry: &Registry, place: usize) -> bool {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.get(registry).and_then(BTreeSet::first).is_none_or(|first| *first >= place)
    }
}

impl PullTurn {
    /// Waits until all earlier places have had their turn.
    pub(crate) async fn come(&self) {
        let mut changed = self.order.changed.subscribe();
        while !self.order.is_first(&self.registry, self.place) {
            if changed.changed().await.is_err() {
                return;
            }
        }
    }
}

impl Drop for PullTurn {
    fn drop(&mut self) {
        let mut waiting = self.order.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(places) = waiting.get_mut(&self.registry) {
            places.remove(&self.place);
        }
        drop(waiting);
        self.order.changed.send_replace(());
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures::poll;

    use super::*;

    #[tokio::test]
    async fn turns_follow_the_given_order_and_a_cancelled_one_is_skipped() {
        let (here, there): (Registry, Registry) = ("a.io".parse().unwrap(), "b.io".parse().unwrap());
        let order = PullOrder::new([(here.clone(), 1), (here.clone(), 3), (here.clone(), 7), (there.clone(), 2)]);
        let [first, second, third] = [1, 3, 7].map(|place| order.place(&here, place));
        order.place(&there, 2).come().await;
        let (mut second_comes, mut third_comes) = (Box::pin(second.come()), pin!(third.come()));
        first.come().await;
        assert!(poll!(&mut second_comes).is_pending() && poll!(&mut third_comes).is_pending());
        drop(second_comes);
        drop(second);
        assert!(poll!(&mut third_comes).is_pending());
        drop(first);
        third_comes.await;
    }
}
