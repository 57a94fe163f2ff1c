//! Whether a host is in trouble, and what its next request may do: a state machine without a clock.
//!
//! The first failure begins the trouble. From then on one request at a time, the probe, is let through after each
//! pause; all others wait. Requests that were in flight when it began form one wave with the first, and count as
//! one attempt. Any answer without trouble ends it. A host that stays in trouble for too long is given up for the
//! run. If all failures were about one repository, only that is given up, and the next request shows whether others
//! are affected.

use std::collections::HashMap;
use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use tokio::time::Instant;

use crate::error::{Error, Kind};
use crate::retry::{Backoff, Wait, Waiting};

/// The rules for waiting for a host.
#[derive(Debug, Clone)]
pub(crate) struct Patience {
    /// The name of the host in messages.
    pub(crate) host: String,
    pub(crate) backoff: Backoff,
    /// How long trouble may last.
    pub(crate) max_wait: Duration,
}

/// The health of a host in this run.
#[derive(Debug)]
pub(crate) struct Health {
    patience: Patience,
    /// The number of answers without trouble, and the time of the last one.
    answers: u64,
    last_answer: Option<Instant>,
    /// Whether it has answered at all, even if only to report trouble.
    is_there: bool,
    /// Set if a repository was given up as the only one in trouble, with the time since which nobody had an answer:
    /// the next request shows whether that was right.
    unproven: Option<Instant>,
    /// Repositories that are given up while others are served.
    repositories: HashMap<String, Error>,
    state: State,
}

#[derive(Debug)]
enum State {
    Well,
    Troubled(Box<Trouble>),
    GivenUp(Error),
}

#[derive(Debug)]
struct Trouble {
    since: Instant,
    /// Failed attempts; the first wave counts as one.
    attempts: u32,
    pauses: ExponentialBackoff,
    /// The pause before the next attempt, and its end.
    pause: Duration,
    next: Instant,
    /// The only subject that has failed so far, if there is only one.
    met_by: Option<Subject>,
    /// Whether the host asked for the time until then, and what it said last.
    asked: bool,
    answer: String,
}

/// What a request may do.
#[derive(Debug)]
pub(crate) enum Turn {
    /// It may be sent.
    Go,
    /// If it is the first in line it may be sent as the probe, with this time limit for the answer.
    Probe(Duration),
    /// It has to wait until then, and to ask again.
    Until(Instant),
    /// The host or the request's repository is given up.
    Never(Error),
}

/// The subject of a request: trouble of one request is likely to affect all others with the same subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Subject {
    Repository(String),
    /// One request without a repository, which may be sent several times.
    Request(u64),
}

/// What the trouble affects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trial {
    /// The host, as far as is known.
    Host,
    /// Only the subject of this request: the host has served others meanwhile.
    Alone,
}

/// A failure that shows trouble.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Failed<'a> {
    pub(crate) error: &'a Error,
    pub(crate) subject: &'a Subject,
    /// Whether the request was the probe.
    pub(crate) probe: bool,
    /// When it was sent.
    pub(crate) sent: Instant,
}

impl Health {
    pub(crate) fn new(patience: Patience) -> Self {
        let (last_answer, unproven, repositories) = (None, None, HashMap::new());
        Self { patience, answers: 0, last_answer, is_there: false, unproven, repositories, state: State::Well }
    }

    /// What the next request may do. `repository` is empty if it is about none.
    pub(crate) fn turn(&self, repository: &str, now: Instant) -> Turn {
        if let State::GivenUp(error) = &self.state {
            return Turn::Never(error.clone());
        }
        if let Some(error) = self.repositories.get(repository) {
            return Turn::Never(error.clone());
        }
        match &self.state {
            State::Well => Turn::Go,
            State::GivenUp(error) => Turn::Never(error.clone()),
            State::Troubled(trouble) if trouble.next > now => Turn::Until(trouble.next),
            State::Troubled(trouble) => {
                let left = (trouble.since + self.patience.max_wait).saturating_duration_since(now);
                Turn::Probe(left.max(Duration::from_secs(1)))
            }
        }
    }

    /// Whether it is waited for.
    pub(crate) fn waiting(&self) -> Waiting {
        match &self.state {
            State::Well => Waiting::Over,
            State::GivenUp(_) => Waiting::GivenUp,
            State::Troubled(trouble) => {
                let Trouble { since, next, asked, answer, .. } = &**trouble;
                Waiting::Until(Wait {
                    since: since.into_std(),
                    next: next.into_std(),
                    asked: *asked,
                    answer: answer.strip_prefix(&format!("{}: ", self.patience.host)).unwrap_or(answer).to_owned(),
                })
            }
        }
    }

    /// The number of answers without trouble so far.
    pub(crate) fn answers(&self) -> u64 {
        self.answers
    }

    pub(crate) fn is_given_up(&self) -> bool {
        matches!(self.state, State::GivenUp(_))
    }

    pub(crate) fn is_well(&self) -> bool {
        matches!(self.state, State::Well)
    }

    /// Whether it has answered at all in this run.
    pub(super) fn is_there(&self) -> bool {
        self.is_there
    }

    /// The error meanwhile for a request that can be sent to another place.
    pub(super) fn not_waited_for(&self) -> Error {
        let attempted = format!("reach {}", self.patience.host);
        Error::new(Kind::Unavailable, attempted, "the host is failing; another place is tried instead of waiting")
            .with_attempts(0)
            .as_final()
    }

    /// Records an answer without trouble, which ends any trouble. Returns whether that changes anything for waiting
    /// requests.
    pub(crate) fn answered(&mut self, now: Instant) -> bool {
        self.answers += 1;
        self.last_answer = Some(now);
        self.is_there = true;
        self.unproven = None;
        let was_troubled = matches!(self.state, State::Troubled(_));
        if was_troubled {
            tracing::info!("{} answers again", self.patience.host);
            self.state = State::Well;
        }
        was_troubled
    }

    /// Lets the next probe follow after another pause, although this one is still in flight.
    pub(crate) fn probe_yielded(&mut self, now: Instant) {
        if let State::Troubled(trouble) = &mut self.state {
            trouble.next = now + trouble.pause;
        }
    }

    /// Records a request that met trouble.
    pub(crate) fn failed(&mut self, failed: Failed<'_>, now: Instant) -> Trial {
        self.is_there |= failed.error.status().is_some();
        if let State::Troubled(trouble) = &mut self.state {
            trouble.met_by = trouble.met_by.take().filter(|subject| subject == failed.subject);
        }
        if let State::Well = self.state {
            let Patience { host, backoff, max_wait } = &self.patience;
            tracing::info!("{host} is failing, retrying for up to {}: {}", show(*max_wait), failed.error.why());
            let pauses = ExponentialBuilder::default()
                .with_min_delay(backoff.first)
                .with_max_delay(backoff.longest)
                .without_max_times()
                .with_jitter()
                .build();
            let since = self.unproven.or(self.last_answer.map(|last| last.max(failed.sent))).unwrap_or(failed.sent);
            let trouble = Trouble {
                since,
                attempts: 0,
                pauses,
                pause: Duration::ZERO,
                next: now,
                met_by: Some(failed.subject.clone()),
                asked: false,
                answer: answer(failed.error),
            };
            self.state = State::Troubled(Box::new(trouble));
        } else if !failed.probe {
            self.prolong(failed.error, now);
            return Trial::Host;
        }
        let State::Troubled(trouble) = &mut self.state else { return Trial::Host };
        trouble.attempts += 1;
        trouble.pause = trouble.pauses.next().unwrap_or(self.patience.backoff.longest);
        let end = trouble.since + self.patience.max_wait;
        trouble.next = now + trouble.pause.min(end.saturating_duration_since(now));
        (trouble.asked, trouble.answer) = (false, answer(failed.error));
        // A single silence may exceed the limit without anything being wrong.
        let is_over = now >= end && (trouble.attempts > 1 || self.unproven.is_some());
        if !self.is_there && trouble.attempts >= self.patience.backoff.attempts {
            self.give_up(failed.error, "", None);
        } else if is_over && trouble.met_by.is_some() && self.is_there && self.unproven.is_none() {
            self.unproven = Some(trouble.since);
            if let Subject::Repository(repository) = failed.subject {
                let given_up = self.given_up(
                    &format!("reach {repository} at {}", self.patience.host),
                    failed.error,
                    &self.no_success(),
                    None,
                );
                self.repositories.insert(repository.clone(), given_up);
            }
            self.state = State::Well;
            return Trial::Alone;
        } else if is_over {
            self.give_up(failed.error, &self.no_success(), None);
        } else {
            self.prolong(failed.error, now);
        }
        Trial::Host
    }

    fn no_success(&self) -> String {
        format!("no success within {} (limits.max_wait)", show(self.patience.max_wait))
    }

    /// Waits as long as the host asks for, if that fits in the remaining time.
    fn prolong(&mut self, error: &Error, now: Instant) {
        let (State::Troubled(trouble), Some(asked)) = (&mut self.state, error.retry_after()) else { return };
        let end = trouble.since + self.patience.max_wait;
        if asked > end.saturating_duration_since(now) {
            let why = format!(
                "the server asks to wait {}, but limits.max_wait is {}",
                show(asked),
                show(self.patience.max_wait)
            );
            return self.give_up(error, &why, Some(asked));
        }
        if now + asked > trouble.next {
            (trouble.next, trouble.asked, trouble.answer) = (now + asked, true, answer(error));
        }
    }

    fn give_up(&mut self, last: &Error, why: &str, asked: Option<Duration>) {
        let error = self.given_up(&format!("reach {}", self.patience.host), last, why, asked);
        self.state = State::GivenUp(error);
    }

    /// The error for all requests to what is given up.
    fn given_up(&self, attempted: &str, last: &Error, why: &str, asked: Option<Duration>) -> Error {
        let attempts = match &self.state {
            State::Troubled(trouble) => trouble.attempts,
            State::Well | State::GivenUp(_) => 1,
        };
        let what = if last.status().is_some() { "answer" } else { "failure" };
        let host = &self.patience.host;
        let said = last.why().strip_prefix(&format!("{host}: ")).unwrap_or(last.why());
        let why = if why.is_empty() { said.to_owned() } else { format!("{why}; the last {what}: {said}") };
        let error = Error::new(last.kind(), attempted, why);
        let mut error = error.with_attempts(attempts).with_retry_after(asked).as_final();
        if let Some(status) = last.status() {
            error = error.with_status(status);
        }
        if let Some(hint) = hint(last, asked) {
            error = error.with_hint(hint);
        }
        error
    }
}

/// What a host said last, in as few words as possible.
fn answer(error: &Error) -> String {
    error.status().map_or_else(|| error.why().to_owned(), |status| status.to_string())
}

fn hint(last: &Error, asked: Option<Duration>) -> Option<String> {
    match asked {
        Some(asked) => {
            let back = std::time::SystemTime::now() + asked;
            Some(format!("run it again after {}", humantime::format_rfc3339_seconds(back)))
        }
        None if last.kind() == Kind::RateLimited => {
            Some("run it again later, log in for a higher limit, or raise limits.max_wait".to_owned())
        }
        None => last.hint().map(ToOwned::to_owned),
    }
}

/// A pause for display: in whole seconds from one second on.
fn show(pause: Duration) -> humantime::FormattedDuration {
    let whole = if pause >= Duration::from_secs(1) { Duration::from_secs(pause.as_secs()) } else { pause };
    humantime::format_duration(whole)
}

#[cfg(test)]
mod tests;
