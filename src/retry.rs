//! When and how often a request is retried. Attempts are counted only here.

mod waits;

use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use tokio::time::Instant;

use crate::error::{Error, Result};

pub(crate) use waits::{NoWaits, Wait, Waiting, Waits};

/// The longest pause and the longest quota window that are accepted: one year. It can be added to a clock.
pub(crate) const LONGEST_PAUSE: Duration = Duration::from_secs(366 * 24 * 3600);

/// The longest pause between two attempts at one object.
const LONGEST_OF_OBJECT: Duration = Duration::from_secs(8);

/// Attempts and the pauses between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// Attempts in total, including the first: for one object, and for a host that doesn't answer at all.
    pub attempts: u32,
    /// The pause after the first attempt; it doubles each time, with jitter.
    pub first: Duration,
    /// The longest pause between two attempts at a host in trouble. For one object it is at most 8 seconds.
    pub longest: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { attempts: 5, first: Duration::from_millis(200), longest: Duration::from_secs(15) }
    }
}

/// The attempts at one object.
#[derive(Debug)]
pub(crate) struct Tries {
    backoff: Backoff,
    pauses: ExponentialBackoff,
    /// Failures since the count was last renewed.
    failures: u32,
    /// The time of the first failure, if all failures were due to trouble of the host.
    troubled: Option<Instant>,
    /// Attempts in total.
    made: u32,
    /// Whether an attempt that didn't reach the host isn't counted yet; this applies once.
    is_unseen_free: bool,
}

impl Backoff {
    pub(crate) fn tries(self) -> Tries {
        Tries { backoff: self, pauses: self.pauses(), failures: 0, troubled: None, made: 0, is_unseen_free: true }
    }

    /// How long to retry one request that fails while its host answers others: 10 seconds by default.
    pub(crate) fn one_request(self) -> Duration {
        self.first * 50
    }

    /// The pauses between two attempts at one object.
    pub(crate) fn pauses(self) -> ExponentialBackoff {
        ExponentialBuilder::default()
            .with_min_delay(self.first)
            .with_max_delay(self.longest.min(LONGEST_OF_OBJECT))
            .without_max_times()
            .with_jitter()
            .build()
    }
}

impl Tries {
    /// Handles a failed attempt: returns after the pause if another attempt is worthwhile, otherwise returns the
    /// error as final, with the number of attempts.
    pub(crate) async fn again(&mut self, error: Error) -> Result<()> {
        // An error that is already final has its own count.
        if error.is_final() {
            return Err(error);
        }
        self.made += error.attempts();
        let is_free = error.attempts() == 0 && std::mem::take(&mut self.is_unseen_free);
        self.failures += u32::from(!is_free);
        if !error.retry() {
            return Err(error.with_attempts(self.made));
        }
        // A host in trouble gets time, because a few quick attempts wouldn't be enough.
        let is_worth_more = match error.trouble() {
            Some(patience) => self.troubled.get_or_insert_with(Instant::now).elapsed() < patience,
            None => {
                self.troubled = None;
                false
            }
        };
        if self.failures >= self.backoff.attempts && !is_worth_more {
            return Err(error.with_attempts(self.made).as_final());
        }
        tokio::time::sleep(self.pauses.next().unwrap_or(LONGEST_OF_OBJECT)).await;
        Ok(())
    }

    /// Records progress: the count of failures starts again.
    pub(crate) fn renew(&mut self) {
        (self.failures, self.troubled) = (0, None);
        self.pauses = self.backoff.pauses();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    const QUICK: Backoff = Backoff { attempts: 3, first: Duration::ZERO, longest: Duration::ZERO };

    async fn attempts(error: impl Fn() -> Error) -> (u32, bool) {
        let mut tries = QUICK.tries();
        loop {
            if let Err(last) = tries.again(error()).await {
                return (last.attempts(), last.retry());
            }
        }
    }

    #[tokio::test]
    async fn only_transient_errors_are_retried() {
        let of = |kind| move || Error::new(kind, "a", "b");
        assert_eq!(attempts(of(Kind::Unavailable)).await, (3, false));
        assert_eq!(attempts(of(Kind::NotFound)).await, (1, false));
        assert_eq!(attempts(of(Kind::QuotaExceeded)).await, (1, false));
        assert_eq!(attempts(|| of(Kind::Unavailable)().with_attempts(9).as_final()).await, (9, false));
    }

    #[tokio::test]
    async fn one_attempt_that_the_server_never_saw_is_free() {
        let unseen = || Error::new(Kind::Unavailable, "a", "b").with_attempts(0);
        let mut tries = QUICK.tries();
        for _ in 0..3 {
            tries.again(unseen()).await.unwrap();
        }
        assert!(tries.again(unseen()).await.unwrap_err().is_final());
    }

    #[tokio::test(start_paused = true)]
    async fn a_host_in_trouble_is_retried_only_within_the_time_limit() {
        let mut tries = Backoff::default().tries();
        let began = Instant::now();
        let last = loop {
            let busy = Error::new(Kind::Unavailable, "a", "503").with_trouble(Duration::from_secs(10));
            if let Err(last) = tries.again(busy).await {
                break last;
            }
        };
        assert!(last.is_final() && last.attempts() > 5, "{}", last.attempts());
        assert!((10..30).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
    }

    #[tokio::test]
    async fn progress_resets_the_count_of_attempts() {
        let mut tries = QUICK.tries();
        let broken = || Error::new(Kind::Unavailable, "a", "b");
        for _ in 0..2 {
            tries.again(broken()).await.unwrap();
        }
        tries.renew();
        for _ in 0..2 {
            tries.again(broken()).await.unwrap();
        }
        assert_eq!(tries.again(broken()).await.unwrap_err().attempts(), 5);
    }
}
