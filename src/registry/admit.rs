//! Where requests to a host wait: for the pace of their kind, while the host has asked for a pause, and while many short
//! ones are in flight.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::action::Action;
use super::quirks::Pace;

/// Short requests in flight to one host. Bulk has its own bound (`limits.transfers`), so neither waits for the other.
const SHORT_IN_FLIGHT: usize = 64;

/// The gate of one host.
#[derive(Debug)]
pub(crate) struct Admission {
    paused_until: Mutex<Option<Instant>>,
    short: Arc<Semaphore>,
    buckets: Vec<Bucket>,
}

/// Held while a request is in flight.
pub(crate) type Permit = Option<OwnedSemaphorePermit>;

/// Keeps one action to its pace (the "generic cell rate algorithm": a token bucket without a clock that ticks).
#[derive(Debug)]
struct Bucket {
    pace: Pace,
    /// When the bucket will be full again.
    full_at: Mutex<Option<Instant>>,
}

impl Bucket {
    /// Takes a turn, and says when it comes.
    fn turn(&self) -> Instant {
        let each = Duration::from_secs(1) / self.pace.per_second;
        let now = Instant::now();
        let mut full_at = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        let full = full_at.unwrap_or(now).max(now) + each;
        *full_at = Some(full);
        // As many as the burst may be ahead of the pace.
        full.checked_sub(each * self.pace.burst).unwrap_or(now)
    }
}

impl Admission {
    pub(crate) fn new(paces: &[Pace]) -> Self {
        let buckets = paces.iter().map(|pace| Bucket { pace: *pace, full_at: Mutex::default() }).collect();
        Self { paused_until: Mutex::new(None), short: Arc::new(Semaphore::new(SHORT_IN_FLIGHT)), buckets }
    }

    /// Waits until a request may be sent; `bulk` ones need no permit. The narrow way comes first: a permit, for which
    /// all kinds of requests stand in line, is held by none that waits for its pace or for the end of a pause.
    pub(crate) async fn admit(&self, action: Action, bulk: bool) -> Permit {
        for bucket in self.buckets.iter().filter(|bucket| bucket.pace.action == action) {
            tokio::time::sleep_until(bucket.turn()).await;
        }
        loop {
            // Somebody may prolong the pause while we wait for its end.
            while let Some(until) = self.pause_ahead() {
                tokio::time::sleep_until(until).await;
            }
            let permit = match bulk {
                true => None,
                // The semaphore is never closed; without a permit a request would only be less well-behaved.
                false => Arc::clone(&self.short).acquire_owned().await.ok(),
            };
            // Or begin one while we wait in line.
            if self.pause_ahead().is_none() {
                return permit;
            }
        }
    }

    fn pause_ahead(&self) -> Option<Instant> {
        self.paused_until().filter(|until| *until > Instant::now())
    }

    /// Lets nobody through for `pause` from now on.
    pub(crate) fn pause(&self, pause: Duration) {
        let until = Instant::now() + pause;
        let mut paused = self.paused_until.lock().unwrap_or_else(PoisonError::into_inner);
        *paused = (*paused).max(Some(until));
    }

    #[cfg(test)]
    pub(crate) fn is_open(&self) -> bool {
        self.paused_until().is_none()
    }

    fn paused_until(&self) -> Option<Instant> {
        *self.paused_until.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_pause_holds_everybody_and_a_shorter_one_does_not_cut_it() {
        let admission = Admission::new(&[]);
        assert!(admission.admit(Action::Resolve, false).await.is_some());
        admission.pause(Duration::from_secs(3600));
        admission.pause(Duration::ZERO);
        for bulk in [false, true] {
            assert!(futures::poll!(Box::pin(admission.admit(Action::Resolve, bulk))).is_pending());
        }
    }

    #[tokio::test]
    async fn bulk_passes_where_short_requests_queue() {
        let admission = Admission::new(&[]);
        let mut held = Vec::new();
        for _ in 0..SHORT_IN_FLIGHT {
            held.push(admission.admit(Action::Resolve, false).await);
        }
        assert!(futures::poll!(Box::pin(admission.admit(Action::Resolve, false))).is_pending());
        assert!(admission.admit(Action::PushBlob, true).await.is_none());
        held.pop();
        assert!(admission.admit(Action::Resolve, false).await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn an_action_keeps_its_pace_and_holds_no_permit_meanwhile() {
        let admission = Admission::new(&[Pace { action: Action::PushManifest, per_second: 8, burst: 10 }]);
        let started = Instant::now();
        for _ in 0..10 {
            admission.admit(Action::PushManifest, false).await;
        }
        assert_eq!(started.elapsed(), Duration::ZERO);
        let mut waiting: Vec<_> =
            (0..SHORT_IN_FLIGHT + 1).map(|_| Box::pin(admission.admit(Action::PushManifest, false))).collect();
        for one in &mut waiting {
            assert!(futures::poll!(one).is_pending());
        }
        assert!(admission.admit(Action::Resolve, false).await.is_some(), "all permits are free");
        assert_eq!(started.elapsed(), Duration::ZERO);
        drop(futures::future::join_all(waiting.drain(..16)).await);
        assert_eq!(started.elapsed().as_secs(), 2, "eight a second");
    }
}
