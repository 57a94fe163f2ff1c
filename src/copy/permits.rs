//! Permits for blobs in flight: in plan order between images, so that they finish one after another, and the
//! biggest blob of an image first, so that a long transfer isn't left for last.
//!
//! A blob that several images need takes the position of the first of them, whichever image copies it; otherwise
//! that image would wait for all images in between. Small blobs have separate permits: a configuration never waits
//! for layers, which may take minutes.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::oci::{Descriptor, Digest};

/// The size in bytes up to which a blob is small: its transfer time is round trips rather than bandwidth.
const SMALL: u64 = 128 << 10;

/// A fixed number of permits for small blobs, and as many for all others.
#[derive(Debug)]
pub(super) struct Permits {
    small: Arc<Lane>,
    bulk: Arc<Lane>,
    /// The plan position of the first image that needs a blob.
    places: Mutex<HashMap<Digest, Place>>,
}

/// A plan position, which changes when an earlier image needs the same blob.
type Place = Arc<AtomicUsize>;

#[derive(Debug)]
struct Lane(Mutex<State>);

#[derive(Debug)]
struct State {
    free: usize,
    /// In order of arrival.
    waiting: Vec<Waiter>,
}

#[derive(Debug)]
struct Waiter {
    place: Place,
    size: u64,
    grant: oneshot::Sender<Permit>,
}

/// The permission to transfer one blob; returned on drop.
#[derive(Debug)]
pub(super) struct Permit(Arc<Lane>);

impl Permits {
    pub(super) fn new(count: usize) -> Self {
        Self { small: Lane::new(count), bulk: Lane::new(count), places: Mutex::default() }
    }

    /// Records that the image at `place` of the plan needs `blob`, whichever image copies it.
    pub(super) fn need(&self, blob: &Descriptor, place: usize) {
        self.place(&blob.digest).fetch_min(place, Ordering::Relaxed);
    }

    /// Waits for a permit for `blob`. The caller holds no other permit.
    pub(super) async fn acquire(&self, blob: &Descriptor) -> Permit {
        let lane = if blob.size <= SMALL { &self.small } else { &self.bulk };
        lane.acquire(self.place(&blob.digest), blob.size).await
    }

    fn place(&self, digest: &Digest) -> Place {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(places.entry(digest.clone()).or_insert_with(|| Arc::new(AtomicUsize::new(usize::MAX))))
    }
}

impl Lane {
    fn new(count: usize) -> Arc<Self> {
        Arc::new(Self(Mutex::new(State { free: count.max(1), waiting: Vec::new() })))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn acquire(self: &Arc<Self>, place: Place, size: u64) -> Permit {
        let turn = {
            let mut state = self.lock();
            if state.free > 0 {
                state.free -= 1;
                return Permit(Arc::clone(self));
            }
            let (grant, turn) = oneshot::channel();
            state.waiting.push(Waiter { place, size, grant });
            turn
        };
        turn.await.expect("a waiter is dropped only after its grant was sent")
    }
}

impl State {
    /// The next waiter. There are only as many as images in flight have blobs, so a linear search is cheap.
    fn next(&mut self) -> Option<Waiter> {
        self.waiting.retain(|waiter| !waiter.grant.is_closed());
        let rank = |waiter: &Waiter| (waiter.place.load(Ordering::Relaxed), Reverse(waiter.size));
        let first = (0..self.waiting.len()).min_by_key(|index| rank(&self.waiting[*index]))?;
        Some(self.waiting.remove(first))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let next = {
            let mut state = self.0.lock();
            let next = state.next();
            if next.is_none() {
                state.free += 1;
            }
            next
        };
        if let Some(waiter) = next {
            // If the waiter has given up, the dropped permit goes to the next one: it is never lost.
            let _ = waiter.grant.send(Self(Arc::clone(&self.0)));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures::poll;

    use super::*;

    const BULK: u64 = 1 << 20;

    fn blob(name: &str, size: u64) -> Descriptor {
        Descriptor { media_type: "a/b".parse().unwrap(), digest: Digest::of(name.as_bytes()), size }
    }

    #[tokio::test]
    async fn permits_go_by_plan_order_then_size_and_skip_cancelled_waiters() {
        let permits = Permits::new(1);
        let blobs = [("held", 0, 1), ("later", 2, 9), ("small", 1, 1), ("big", 1, 2), ("gone", 0, 3)];
        let [held, later, small, big, gone] = blobs.map(|(name, place, size)| {
            let blob = blob(name, size * BULK);
            permits.need(&blob, place);
            blob
        });
        let held = permits.acquire(&held).await;
        let (mut later, mut small) = (pin!(permits.acquire(&later)), pin!(permits.acquire(&small)));
        let (mut big, mut gone) = (pin!(permits.acquire(&big)), Box::pin(permits.acquire(&gone)));
        assert!(poll!(&mut later).is_pending() && poll!(&mut small).is_pending() && poll!(&mut big).is_pending());
        assert!(poll!(&mut gone).is_pending());
        drop(gone);
        drop(held);
        assert!(poll!(&mut later).is_pending() && poll!(&mut small).is_pending());
        drop(big.await);
        assert!(poll!(&mut later).is_pending());
        drop(small.await);
        drop(later.await);
    }

    #[tokio::test]
    async fn a_blob_takes_the_turn_of_the_earliest_image_that_needs_it() {
        let permits = Permits::new(1);
        let (other, shared) = (blob("other", BULK), blob("shared", BULK));
        let held = permits.acquire(&blob("held", BULK)).await;
        permits.need(&other, 5);
        permits.need(&shared, 9);
        let (mut first, mut second) = (pin!(permits.acquire(&other)), pin!(permits.acquire(&shared)));
        assert!(poll!(&mut first).is_pending() && poll!(&mut second).is_pending());
        permits.need(&shared, 1);
        drop(held);
        assert!(poll!(&mut first).is_pending());
        second.await;
    }

    #[tokio::test]
    async fn a_small_blob_waits_only_for_small_blobs() {
        let permits = Permits::new(1);
        let _bulk = permits.acquire(&blob("bulk", BULK)).await;
        let small = permits.acquire(&blob("small", SMALL)).await;
        let other = blob("other", 1);
        let mut other = pin!(permits.acquire(&other));
        assert!(poll!(&mut other).is_pending());
        drop(small);
        other.await;
    }
}
