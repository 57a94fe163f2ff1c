//! Where requests to a host wait: while the host has asked for a pause, and while many short ones are in flight.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// Short requests in flight to one host. Bulk has its own bound (`limits.transfers`), so neither waits for the other.
const SHORT_IN_FLIGHT: usize = 64;

/// The gate of one host.
#[derive(Debug)]
pub(crate) struct Admission {
    paused_until: Mutex<Option<Instant>>,
    short: Arc<Semaphore>,
}

/// Held while a request is in flight.
pub(crate) type Permit = Option<OwnedSemaphorePermit>;

impl Admission {
    pub(crate) fn new() -> Self {
        Self { paused_until: Mutex::new(None), short: Arc::new(Semaphore::new(SHORT_IN_FLIGHT)) }
    }

    /// Waits until a request may be sent; `bulk` ones need no permit.
    pub(crate) async fn admit(&self, bulk: bool) -> Permit {
        let permit = match bulk {
            true => None,
            // The semaphore is never closed; without a permit a request would only be less well-behaved.
            false => Arc::clone(&self.short).acquire_owned().await.ok(),
        };
        // Somebody may prolong the pause while we wait for its end.
        while let Some(until) = self.paused_until().filter(|until| *until > Instant::now()) {
            tokio::time::sleep_until(until).await;
        }
        permit
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
        let admission = Admission::new();
        assert!(admission.admit(false).await.is_some());
        admission.pause(Duration::from_secs(3600));
        admission.pause(Duration::ZERO);
        for bulk in [false, true] {
            assert!(futures::poll!(Box::pin(admission.admit(bulk))).is_pending());
        }
    }

    #[tokio::test]
    async fn bulk_passes_where_short_requests_queue() {
        let admission = Admission::new();
        let mut held = Vec::new();
        for _ in 0..SHORT_IN_FLIGHT {
            held.push(admission.admit(false).await);
        }
        assert!(futures::poll!(Box::pin(admission.admit(false))).is_pending());
        assert!(admission.admit(true).await.is_none());
        held.pop();
        assert!(admission.admit(false).await.is_some());
    }
}
