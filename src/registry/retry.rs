//! How often and how soon a request is tried again.

use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};

use crate::error::{Error, Result};

/// Attempts at a request and the pauses between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// Attempts in all, the first included.
    pub attempts: u32,
    /// The pause after the first attempt; it doubles from one to the next, with jitter.
    pub first: Duration,
    /// The longest of these pauses.
    pub longest: Duration,
    /// The longest `Retry-After` that is waited for; a longer one ends the request.
    pub longest_asked: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            attempts: 5,
            first: Duration::from_millis(200),
            longest: Duration::from_secs(8),
            longest_asked: Duration::from_secs(15 * 60),
        }
    }
}

/// The attempts at one request.
pub(crate) struct Tries {
    pauses: ExponentialBackoff,
    made: u32,
    longest_asked: Duration,
}

impl Backoff {
    pub(crate) fn tries(&self) -> Tries {
        let pauses = ExponentialBuilder::default()
            .with_min_delay(self.first)
            .with_max_delay(self.longest)
            .with_max_times(self.attempts.saturating_sub(1) as usize)
            .with_jitter()
            .build();
        Tries { pauses, made: 0, longest_asked: self.longest_asked }
    }
}

impl Tries {
    /// An attempt failed: returns after the pause if it is worth another, else gives the error back, with the number of
    /// attempts.
    pub(crate) async fn again(&mut self, error: Error) -> Result<()> {
        self.made += 1;
        let error = error.with_attempts(self.made);
        let asked = error.retry_after();
        if !error.kind().retry() || asked.is_some_and(|pause| pause > self.longest_asked) {
            return Err(error);
        }
        let Some(pause) = self.pauses.next() else { return Err(error) };
        tokio::time::sleep(asked.unwrap_or_default().max(pause)).await;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    const QUICK: Backoff =
        Backoff { attempts: 3, first: Duration::ZERO, longest: Duration::ZERO, longest_asked: Duration::from_secs(60) };

    async fn attempts(error: impl Fn() -> Error) -> u32 {
        let mut tries = QUICK.tries();
        loop {
            if let Err(last) = tries.again(error()).await {
                return last.attempts();
            }
        }
    }

    #[tokio::test]
    async fn only_what_may_pass_is_tried_again() {
        let of = |kind| move || Error::new(kind, "a", "b");
        assert_eq!(attempts(of(Kind::Unavailable)).await, 3);
        assert_eq!(attempts(of(Kind::NotFound)).await, 1);
        assert_eq!(attempts(of(Kind::QuotaExceeded)).await, 1);
        let asked = |seconds| move || of(Kind::RateLimited)().with_retry_after(Some(Duration::from_secs(seconds)));
        assert_eq!(attempts(asked(0)).await, 3);
        assert_eq!(attempts(asked(61)).await, 1);
    }
}
