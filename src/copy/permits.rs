//! Permits for blobs in flight: the biggest waiting blob goes first, so that no long transfer is left for the end.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

/// A fixed number of permits, given by size.
#[derive(Debug)]
pub(super) struct Permits {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    free: usize,
    waiting: BinaryHeap<Waiter>,
    arrivals: u64,
}

#[derive(Debug)]
struct Waiter {
    size: u64,
    /// Among equals, first come, first served.
    arrival: u64,
    grant: oneshot::Sender<Permit>,
}

/// The right to move one blob; given back when dropped.
#[derive(Debug)]
pub(super) struct Permit(Arc<Permits>);

impl Permits {
    pub(super) fn new(count: usize) -> Arc<Self> {
        let state = State { free: count.max(1), waiting: BinaryHeap::new(), arrivals: 0 };
        Arc::new(Self { state: Mutex::new(state) })
    }

    /// Waits for a permit for a blob of `size` bytes. Whoever calls this holds no other permit.
    pub(super) async fn acquire(self: &Arc<Self>, size: u64) -> Permit {
        let turn = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            if state.free > 0 {
                state.free -= 1;
                return Permit(Arc::clone(self));
            }
            let (grant, turn) = oneshot::channel();
            state.arrivals += 1;
            let arrival = state.arrivals;
            state.waiting.push(Waiter { size, arrival, grant });
            turn
        };
        turn.await.expect("a waiter is dropped only after its grant was sent")
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let next = {
            let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
            let next = std::iter::from_fn(|| state.waiting.pop()).find(|waiter| !waiter.grant.is_closed());
            if next.is_none() {
                state.free += 1;
            }
            next
        };
        if let Some(waiter) = next {
            // Whoever gave up in between drops the permit, which passes it on: it is never lost.
            let _ = waiter.grant.send(Self(Arc::clone(&self.0)));
        }
    }
}

impl Ord for Waiter {
    fn cmp(&self, other: &Self) -> Ordering {
        self.size.cmp(&other.size).then(other.arrival.cmp(&self.arrival))
    }
}

impl PartialOrd for Waiter {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Waiter {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Waiter {}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures::poll;

    use super::*;

    #[tokio::test]
    async fn the_biggest_waiter_goes_first_and_one_that_gave_up_is_passed_over() {
        let permits = Permits::new(1);
        let held = permits.acquire(1).await;
        let mut small = pin!(permits.acquire(1));
        let mut big = pin!(permits.acquire(9));
        let mut gone = Box::pin(permits.acquire(100));
        assert!(poll!(&mut small).is_pending() && poll!(&mut big).is_pending() && poll!(&mut gone).is_pending());
        drop(gone);
        drop(held);
        assert!(poll!(&mut small).is_pending());
        drop(big.await);
        drop(small.await);
        permits.acquire(1).await;
    }
}
