//! The pull budget of one credential at one host: how many manifest GETs this run may still send.
//!
//! The host's headers are authoritative (`ratelimit-*` with a window); between two of them the run counts by
//! itself. A header may be older than the latest requests, and others may pull from the same address, so the lower
//! number counts, until a window has passed since the first header. Time is monotonic: changes of the system clock
//! have no effect.
//!
//! A pull has a [`Ticket`], which its request carries: each time the request is sent, one pull is deducted,
//! preferably the one that was reserved for it ([`Reservation`]). `limits.quota_reserve` pulls are left for others.
//! Once the host reports that the quota is used up, nothing more is sent. Before the first answer only one request
//! is sent, so that an exhausted quota costs one request rather than one per image.

mod reservation;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

pub(crate) use self::reservation::Reservation;
use crate::error::{Error, Kind, Result};
use crate::oci::Registry;
use crate::registry::admission::gate::{Gate, Pass};
use crate::registry::auth::credentials::Credential;
use crate::registry::quota::Quota;

/// The account that pulls are counted for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Account {
    /// The client's address.
    Anonymous,
    /// A user, whatever the current password is.
    User(String),
    /// The owner of a token.
    Token(Credential),
}

/// The budgets of one host.
#[derive(Debug)]
pub(crate) struct Budgets {
    host: Registry,
    margin: u64,
    accounts: Mutex<HashMap<Account, Arc<Budget>>>,
    /// Repositories whose quota was requested; one request at a time.
    pub(crate) asked: tokio::sync::Mutex<HashSet<String>>,
}

impl Budgets {
    pub(crate) fn new(host: Registry, margin: u64) -> Self {
        Self { host, margin, accounts: Mutex::default(), asked: tokio::sync::Mutex::default() }
    }

    pub(crate) fn of(&self, account: &Account) -> Arc<Budget> {
        let mut accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        let budget = || Arc::new(Budget::new(name(&self.host, account), user(account), self.margin));
        Arc::clone(accounts.entry(account.clone()).or_insert_with(budget))
    }

    /// The quota of the account that has the least left.
    pub(crate) fn tightest(&self) -> Option<Quota> {
        let accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        accounts.values().filter_map(|budget| budget.quota()).min_by_key(|quota| quota.remaining)
    }
}

fn user(account: &Account) -> Option<String> {
    match account {
        Account::User(user) => Some(user.clone()),
        Account::Anonymous | Account::Token(_) => None,
    }
}

fn name(host: &Registry, account: &Account) -> String {
    match account {
        Account::User(user) => format!("the quota of {user} at {host}"),
        Account::Anonymous | Account::Token(_) => format!("the quota of {host}"),
    }
}

/// The wait if the host doesn't send its window: Docker Hub's window.
const USUAL_WINDOW: Duration = Duration::from_secs(6 * 3600);

/// The manifest of a pull: its repository's path, and its digest or tag.
pub(crate) type Wanted = (String, String);

/// The pulls of one credential at one host.
#[derive(Debug)]
pub(crate) struct Budget {
    /// The account, for messages.
    name: String,
    /// The user of the credentials.
    user: Option<String>,
    /// Pulls that are left for others.
    margin: u64,
    state: Mutex<State>,
    /// Lets one request at a time through until the first manifest has arrived.
    first: Gate,
}

#[derive(Debug, Default)]
struct State {
    /// The last quota from the host, and the time of the first one.
    reported: Option<(Quota, Instant)>,
    /// Pulls left by the run's own count, minus those in flight. Negative: more were sent than there were.
    left: i64,
    /// The uncertainty of `left`: as many more may be left, because it isn't known whether the last header that
    /// lowered the count included these pulls.
    doubt: i64,
    sent: u64,
    answered: u64,
    /// Reserved pulls, and the number of reservations of each.
    set_aside: HashMap<Wanted, usize>,
    /// Reserved pulls whose manifest isn't known yet.
    unnamed: u64,
    used_up: Option<Error>,
    /// The address or account that the host counts, in its words.
    counted: Option<String>,
    /// When to try again: computed once, so that all messages agree.
    back_at: Option<String>,
}

/// What is known about a budget.
#[derive(Debug)]
pub(crate) struct Known {
    /// The user of the credentials.
    pub(crate) user: Option<String>,
    /// The address or account that the host counts, in its words.
    pub(crate) counted: Option<String>,
    /// The host's last quota, with the remaining pulls by the run's own count.
    pub(crate) quota: Option<Quota>,
}

/// The state of the count when a request was sent: the numbers in its answer include everything answered by then.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Mark(u64);

/// A manifest GET: it can't be sent without one.
#[derive(Debug)]
pub(crate) struct Ticket {
    budget: Arc<Budget>,
    wanted: Wanted,
    first: Mutex<Option<Pass>>,
    last: Mutex<Sent>,
}

/// How a ticket's request was sent.
#[derive(Debug, Clone, Copy, Default)]
struct Sent {
    at: Mark,
    /// The number of reservations of the pull.
    aside: Option<usize>,
}

impl Budget {
    pub(crate) fn new(name: String, user: Option<String>, margin: u64) -> Self {
        Self { name, user, margin, state: Mutex::default(), first: Gate::default() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until a pull of `wanted` may be sent: after the first pull was answered. If the host is in trouble, this
    /// doesn't wait, because each request waits separately.
    pub(crate) async fn ticket(self: &Arc<Self>, wanted: Wanted, in_trouble: impl Future<Output = ()>) -> Ticket {
        let first = if self.quota().is_some() { None } else { self.first.enter_unless(in_trouble).await };
        Ticket { budget: Arc::clone(self), wanted, first: Mutex::new(first), last: Mutex::default() }
    }

    /// The host's last quota, with the remaining pulls by the run's own count.
    pub(crate) fn quota(&self) -> Option<Quota> {
        let state = self.lock();
        let (quota, _) = state.reported?;
        Some(Quota { remaining: u64::try_from(state.left).unwrap_or(0), ..quota })
    }

    /// Pulls that may be reserved; `None` if they aren't limited, as far as is known.
    pub(crate) fn room(&self) -> Option<u64> {
        let state = self.lock();
        if state.used_up.is_some() {
            return Some(0);
        }
        state.reported.map(|_| u64::try_from(state.room(self.margin)).unwrap_or(0))
    }

    /// Whether the host has to be asked for its quota: it is unknown, or older than its window.
    pub(crate) fn is_unknown(&self) -> bool {
        let state = self.lock();
        state.used_up.is_none() && state.reported.is_none_or(|reported| has_passed(reported, Instant::now()))
    }

    /// The mark to take when a request is sent, for [`Budget::learn`].
    pub(crate) fn mark(&self) -> Mark {
        Mark(self.lock().answered)
    }

    /// Records the `quota` in the answer to a request that was sent at `mark`. `is_pull`: that request counts as a
    /// pull.
    pub(crate) fn learn(&self, quota: Quota, mark: Mark, is_pull: bool) {
        let now = Instant::now();
        let mut state = self.lock();
        let unseen = state.sent.saturating_sub(mark.0).saturating_sub(u64::from(is_pull));
        // At most this many are left, and at least this many minus those that the answer may not have counted yet.
        let most = as_signed(quota.remaining.min(quota.limit));
        let (least, unseen) = (most - as_signed(unseen), as_signed(unseen));
        match state.reported {
            Some(reported) if !has_passed(reported, now) => {
                state.reported = Some((quota, reported.1));
                if state.left > most {
                    (state.left, state.doubt) = (least, unseen);
                } else if state.left < least {
                    let cleared = state.doubt.min(least - state.left);
                    state.left += cleared;
                    state.doubt -= cleared;
                }
            }
            _ => (state.reported, state.left, state.doubt) = (Some((quota, now)), least, unseen),
        }
    }

    /// The current state, for display.
    pub(crate) fn known(&self) -> Known {
        let (quota, counted) = (self.quota(), self.lock().counted.clone());
        Known { user: self.user.clone(), counted, quota }
    }

    /// Records the address or account that the host counts, in its words.
    pub(crate) fn counts(&self, counted: &str) {
        self.lock().counted = Some(counted.to_owned());
    }

    /// Records that the quota is used up; all further pulls get `error`.
    pub(crate) fn exhaust(&self, error: &Error) {
        let mut state = self.lock();
        let back_at = state.back_at();
        state.left = state.left.min(0);
        if state.used_up.is_none() {
            let error = error.clone().with_retry_after(error.retry_after().or(Some(state.window())));
            state.used_up = Some(error.with_hint(hint(&back_at)));
        }
    }

    /// The error for a request that isn't sent, or an image that isn't begun, for lack of pulls.
    fn refusal(&self, state: &mut State, attempted: &str, needed: u64) -> Error {
        let back_at = state.back_at();
        if let Some(last) = &state.used_up {
            let error = Error::new(Kind::QuotaExceeded, attempted, last.why()).with_retry_after(last.retry_after());
            let error = error.with_attempts(0).with_hint(hint(&back_at));
            return last.status().map_or(error.clone(), |status| error.with_status(status));
        }
        let left = u64::try_from(state.left).unwrap_or(0);
        let mut why = format!("it needs {}, and {} has {left} left", pulls(needed), self.name);
        if let Some((quota, _)) = state.reported {
            why.push_str(&format!(" of {}", quota.limit));
        }
        for (count, what) in [(self.margin, "kept for others (limits.quota_reserve)"), (state.aside(), "set aside")] {
            if count > 0 {
                why.push_str(&format!(", {count} {what}"));
            }
        }
        let window = state.window();
        Error::new(Kind::QuotaExceeded, attempted, why)
            .with_attempts(0)
            .with_retry_after(Some(window))
            .with_hint(hint(&back_at))
    }
}

impl State {
    fn aside(&self) -> u64 {
        self.set_aside.len() as u64 + self.unnamed
    }

    /// The pulls that may still be reserved.
    fn room(&self, margin: u64) -> i64 {
        self.left - as_signed(self.aside()) - as_signed(margin)
    }

    fn window(&self) -> Duration {
        let reported = self.reported.and_then(|(quota, _)| quota.window_seconds);
        reported.map_or(USUAL_WINDOW, Duration::from_secs)
    }

    fn back_at(&mut self) -> String {
        let window = self.window();
        self.back_at.get_or_insert_with(|| back_at(window)).clone()
    }
}

impl Ticket {
    /// Deducts one pull for a request that is about to be sent.
    ///
    /// # Errors
    /// `QuotaExceeded` if none is left. Nothing may be sent then, so the error has zero attempts.
    pub(crate) fn begin(&self, attempted: &str) -> Result<()> {
        let budget = &self.budget;
        let mut state = budget.lock();
        let is_aside = state.set_aside.contains_key(&self.wanted);
        let has_room = if is_aside { state.left > 0 } else { state.room(budget.margin) > 0 };
        if state.used_up.is_some() || state.reported.is_some() && !has_room {
            return Err(budget.refusal(&mut state, attempted, 1));
        }
        let aside = state.set_aside.remove(&self.wanted);
        *self.last() = Sent { at: Mark(state.answered), aside };
        state.sent += 1;
        state.left -= 1;
        Ok(())
    }

    /// Records that it was answered with `quota` in its headers, or `refused` because of the quota.
    pub(crate) fn answered(&self, quota: Option<Quota>, refused: Option<&Error>) {
        if let Some(quota) = quota {
            let sent_at = self.last().at;
            self.budget.learn(quota, sent_at, true);
        }
        if let Some(error) = refused {
            self.budget.exhaust(error);
        }
        self.budget.lock().answered += 1;
        self.open();
    }

    /// Records that it wasn't answered, or only asked for credentials: it isn't counted, and says nothing about the
    /// quota.
    pub(crate) fn unanswered(&self) {
        let mut state = self.budget.lock();
        state.answered += 1;
        state.left += 1;
        if let Some(holders) = self.last().aside.take() {
            state.set_aside.entry(self.wanted.clone()).or_insert(holders);
        }
    }

    fn last(&self) -> MutexGuard<'_, Sent> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its manifest in another repository that a redirect has led to.
    pub(crate) fn elsewhere(&self, repository: &str) -> Wanted {
        (repository.to_owned(), self.wanted.1.clone())
    }

    /// Lets the other requests through.
    fn open(&self) {
        if let Some(first) = self.first.lock().unwrap_or_else(PoisonError::into_inner).take() {
            first.open();
        }
    }
}

fn has_passed((quota, since): (Quota, Instant), now: Instant) -> bool {
    quota.window_seconds.is_some_and(|window| now.duration_since(since) >= Duration::from_secs(window))
}

fn as_signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX / 4).min(i64::MAX / 4)
}

fn pulls(count: u64) -> String {
    if count == 1 { "1 pull".to_owned() } else { format!("{count} pulls") }
}

fn hint(back_at: &str) -> String {
    format!("run it again after {back_at}, when the quota's window has passed, or log in for a larger quota")
}

/// The end of `window`, rounded to the minute, for display.
fn back_at(window: Duration) -> String {
    let window =
        SignedDuration::try_from(window).unwrap_or(SignedDuration::from_hours(6)) + SignedDuration::from_secs(59);
    let time = Timestamp::now().checked_add(window).unwrap_or(Timestamp::MAX);
    time.strftime("%Y-%m-%d %H:%M UTC").to_string()
}
