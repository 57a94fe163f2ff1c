//! Permits for blobs in flight: in plan order between images, so that they finish one after another, and the biggest blob of
//! an image first, so that its last transfer isn't a long one.
//!
//! Small blobs have permits of their own: a configuration never waits behind layers, which may take minutes each.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

/// Up to this size, in bytes, a blob is small: sending it takes round trips rather than bandwidth.
const SMALL: u64 = 128 << 10;

/// A fixed number of permits for small blobs, and as many for all others.
#[derive(Debug)]
pub(super) struct Permits {
    small: Arc<Lane>,
    bulk: Arc<Lane>,
}

#[derive(Debug)]
struct Lane(Mutex<State>);

#[derive(Debug)]
struct State {
    free: usize,
    waiting: BinaryHeap<Waiter>,
    arrivals: u64,
}

/// Which waiter is the first: by the place of its image in the plan, then by size, then by arrival.
type Rank = (Reverse<usize>, u64, Reverse<u64>);

#[derive(Debug)]
struct Waiter {
    rank: Rank,
    grant: oneshot::Sender<Permit>,
}

/// The right to move one blob; given back when dropped.
#[derive(Debug)]
pub(super) struct Permit(Arc<Lane>);

impl Permits {
    pub(super) fn new(count: usize) -> Self {
        Self { small: Lane::new(count), bulk: Lane::new(count) }
    }

    /// Waits for a permit for a blob of `size` bytes of the image at `place` of the plan. The caller holds no other permit.
    pub(super) async fn acquire(&self, place: usize, size: u64) -> Permit {
        let lane = if size <= SMALL { &self.small } else { &self.bulk };
        lane.acquire(place, size).await
    }
}

impl Lane {
    fn new(count: usize) -> Arc<Self> {
        Arc::new(Self(Mutex::new(State { free: count.max(1), waiting: BinaryHeap::new(), arrivals: 0 })))
    }

    async fn acquire(self: &Arc<Self>, place: usize, size: u64) -> Permit {
        let turn = {
            let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if state.free > 0 {
                state.free -= 1;
                return Permit(Arc::clone(self));
            }
            let (grant, turn) = oneshot::channel();
            state.arrivals += 1;
            let rank = (Reverse(place), size, Reverse(state.arrivals));
            state.waiting.push(Waiter { rank, grant });
            turn
        };
        turn.await.expect("a waiter is dropped only after its grant was sent")
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let next = {
            let mut state = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
            let next = std::iter::from_fn(|| state.waiting.pop()).find(|waiter| !waiter.grant.is_closed());
            if next.is_none() {
                state.free += 1;
            }
            next
        };
        if let Some(waiter) = next {
            // A waiter that gave up in between drops the permit, which passes it on: it is never lost.
            let _ = waiter.grant.send(Self(Arc::clone(&self.0)));
        }
    }
}

impl Ord for Waiter {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.rank.cmp(&other.rank)
    }
}

impl PartialOrd for Waiter {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Waiter {
    fn eq(&self, other: &Self) -> bool {
        self.rank == other.rank
    }
}

impl Eq for Waiter {}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures::poll;

    use super::*;

    const BULK: u64 = 1 << 20;

    #[tokio::test]
    async fn plan_order_comes_first_then_size_and_a_waiter_that_gave_up_is_passed_over() {
        let permits = Permits::new(1);
        let held = permits.acquire(0, BULK).await;
        let mut later = pin!(permits.acquire(2, 9 * BULK));
        let mut small = pin!(permits.acquire(1, BULK));
        let mut big = pin!(permits.acquire(1, 2 * BULK));
        let mut gone = Box::pin(permits.acquire(0, 3 * BULK));
        for waiter in [&mut later, &mut small, &mut big] {
            assert!(poll!(waiter).is_pending());
        }
        assert!(poll!(&mut gone).is_pending());
        drop(gone);
        drop(held);
        assert!(poll!(&mut later).is_pending() && poll!(&mut small).is_pending());
        drop(big.await);
        assert!(poll!(&mut later).is_pending());
        drop(small.await);
        drop(later.await);
        permits.acquire(0, BULK).await;
    }

    #[tokio::test]
    async fn a_small_blob_waits_for_small_ones_alone() {
        let permits = Permits::new(1);
        let _bulk = permits.acquire(0, BULK).await;
        let small = permits.acquire(7, SMALL).await;
        let mut other = pin!(permits.acquire(1, 1));
        assert!(poll!(&mut other).is_pending());
        drop(small);
        other.await;
    }
}
