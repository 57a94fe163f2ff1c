//! `limits.bandwidth`: a token bucket over the bytes that a run reads from the sources.

use std::num::NonZeroU64;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The bucket size as a fraction of one second's bytes: small, so that the flow stays even.
const BURST: f64 = 0.1;

/// The bucket; without a rate it never blocks.
#[derive(Debug)]
pub(super) struct Bandwidth {
    /// Bytes per second.
    rate: Option<NonZeroU64>,
    /// When the bucket will be full again.
    full_at: Mutex<Option<Instant>>,
}

impl Bandwidth {
    pub(super) fn new(rate: Option<NonZeroU64>) -> Self {
        Self { rate, full_at: Mutex::default() }
    }

    /// Takes `bytes` out of the bucket, and waits until the bucket has covered them.
    pub(super) async fn take(&self, bytes: usize) {
        let Some(rate) = self.rate else { return };
        #[expect(clippy::cast_precision_loss, reason = "a rate needs no more than 52 bits")]
        let cost = Duration::from_secs_f64(bytes as f64 / rate.get() as f64);
        let now = Instant::now();
        let full = {
            let mut full_at = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
            let full = full_at.unwrap_or(now).max(now) + cost;
            *full_at = Some(full);
            full
        };
        tokio::time::sleep_until(full.checked_sub(Duration::from_secs_f64(BURST)).unwrap_or(now)).await;
    }
}

#[cfg(test)]
mod tests {
    use futures::future::join_all;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_limit_holds_for_all_readers_together_in_each_second() {
        let bandwidth = Bandwidth::new(NonZeroU64::new(1_000_000));
        let began = Instant::now();
        let reader = || async {
            for _ in 0..100 {
                bandwidth.take(10_000).await;
            }
            began.elapsed()
        };
        let ends = join_all((0..5).map(|_| reader())).await;
        let last = ends.iter().max().unwrap().as_secs_f64();
        assert!((4.8..5.0).contains(&last), "{last}");
        let first = ends.iter().min().unwrap().as_secs_f64();
        assert!(first > 4.0, "evenly: {first}");
        Bandwidth::new(None).take(usize::MAX).await;
    }
}
