//! Where requests to a host wait: for the pace of their kind, while the host is in trouble, and while the maximum
//! number is in flight.
//!
//! A host is a scheme, name and port: a registry, a token service, or the storage behind a redirect. Several
//! registries may share a host, and then share its trouble.

pub(super) mod gate;
pub(super) mod pulls;
pub(super) mod trouble;
pub(super) mod window;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, OwnedMutexGuard};
use tokio::time::Instant;
use url::{Origin, Url};

use self::trouble::{Failed, Health, Patience, Subject, Trial, Turn};
use self::window::{Slot, Window};
use crate::error::{Error, Result};
use crate::registry::action::Action;
use crate::registry::request::Request;
use crate::registry::services::quirks::Pace;
use crate::retry::{Backoff, Deaf, Waiting, Waits};

/// Short requests in flight to one host. Bulk transfers have a separate bound (`limits.transfers`), so neither
/// waits for the other.
const SHORT_IN_FLIGHT: usize = 64;

/// The time to the head of an answer if another place can be asked, and for a host that was in trouble.
const FIRST_WORD: Duration = Duration::from_secs(10);
const FIRST_WORD_AFTER_TROUBLE: Duration = Duration::from_secs(2);

/// All hosts of a run.
#[derive(Debug)]
pub(crate) struct Admissions {
    backoff: Backoff,
    max_wait: Duration,
    requests: AtomicU64,
    hosts: Mutex<HashMap<Origin, Arc<Admission>>>,
    /// What the registries behind an address are called.
    names: Arc<Mutex<HashMap<Origin, Vec<String>>>>,
    waits: Arc<dyn Waits>,
}

impl Admissions {
    pub(crate) fn new(backoff: Backoff, max_wait: Duration) -> Self {
        let (hosts, names) = (Mutex::default(), Arc::default());
        Self { backoff, max_wait, requests: AtomicU64::new(0), hosts, names, waits: Arc::new(Deaf) }
    }

    /// With somebody who hears which hosts are waited for.
    pub(crate) fn heard_by(mut self, waits: Arc<dyn Waits>) -> Self {
        self.waits = waits;
        self
    }

    pub(crate) fn heard(&self) -> Arc<dyn Waits> {
        Arc::clone(&self.waits)
    }

    /// What is behind `url` is called `name` by those who wait for it.
    pub(crate) fn call(&self, url: &Url, name: &str) {
        let mut names = lock(&self.names);
        let names = names.entry(url.origin()).or_default();
        if !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    }

    /// How long a request is retried that fails at a host which serves others.
    pub(crate) fn patience_with_one(&self) -> Duration {
        self.backoff.alone().min(self.max_wait)
    }

    pub(crate) fn backoff(&self) -> Backoff {
        self.backoff
    }

    /// The subject of `request`, which is sent for the first time.
    pub(crate) fn subject(&self, request: &Request) -> Subject {
        match request.repository.as_str() {
            "" => Subject::Request(self.requests.fetch_add(1, Ordering::Relaxed)),
            repository => Subject::Repository(repository.to_owned()),
        }
    }

    /// The gate for the host of `url`.
    pub(crate) fn of(&self, url: &Url) -> Arc<Admission> {
        let mut hosts = lock(&self.hosts);
        let admission = hosts.entry(url.origin()).or_insert_with(|| {
            let host = shown(url);
            let told = Told {
                origin: url.origin(),
                host: host.clone(),
                names: Arc::clone(&self.names),
                waits: Arc::clone(&self.waits),
                last: Mutex::new(Waiting::Over),
            };
            Arc::new(Admission::new(Patience { host, backoff: self.backoff, max_wait: self.max_wait }, told))
        });
        Arc::clone(admission)
    }
}

/// A host for messages: with its port unless it is the scheme's default.
fn shown(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// The gate for one host.
#[derive(Debug)]
pub(crate) struct Admission {
    health: Mutex<Health>,
    changed: Notify,
    /// The line for requests that wait while the host is in trouble.
    line: Arc<tokio::sync::Mutex<()>>,
    /// The line for requests that have failed already: one at a time enters `line`, so that a request that hasn't
    /// failed yet comes before the rest of them, and shows whether the trouble is theirs alone.
    again: Arc<tokio::sync::Mutex<()>>,
    short: Arc<Window>,
    downloads: Arc<Window>,
    uploads: Arc<Window>,
    told: Told,
}

/// Whom to tell that a host is waited for, and under which name.
#[derive(Debug)]
struct Told {
    origin: Origin,
    host: String,
    names: Arc<Mutex<HashMap<Origin, Vec<String>>>>,
    waits: Arc<dyn Waits>,
    last: Mutex<Waiting>,
}

impl Told {
    /// Tells what has changed. Called with the host's health locked, so that it is told in the order in which it happens.
    fn tell(&self, waiting: Waiting) {
        let mut last = lock(&self.last);
        if *last != waiting {
            let name = lock(&self.names).get(&self.origin).map_or_else(|| self.host.clone(), |names| names.join(", "));
            self.waits.changed(&name, waiting.clone());
            *last = waiting;
        }
    }
}

/// The permission to send one request, held until its answer has been read; for a download, until its bytes begin
/// to arrive.
#[derive(Debug)]
pub(crate) struct Permit {
    admission: Arc<Admission>,
    probe: Option<Probe>,
    sent: Instant,
    /// The time in which its answer has to begin.
    within: Option<Duration>,
    /// The window that counts requests of its kind.
    window: Arc<Window>,
    _slot: Option<Slot>,
}

/// The host is in trouble, and this request alone tests whether it still is.
#[derive(Debug)]
struct Probe {
    _line: OwnedMutexGuard<()>,
    _again: Option<OwnedMutexGuard<()>>,
}

impl Admission {
    fn new(patience: Patience, told: Told) -> Self {
        Self {
            told,
            health: Mutex::new(Health::new(patience)),
            changed: Notify::new(),
            line: Arc::default(),
            again: Arc::default(),
            short: Window::new(SHORT_IN_FLIGHT),
            downloads: Window::new(Window::OPEN),
            uploads: Window::new(Window::OPEN),
        }
    }

    /// Waits until a request may be sent. `met`: it has already failed by the host's trouble. No slot is held while
    /// waiting for the end of trouble.
    ///
    /// # Errors
    /// That of the host or the repository, if it is given up.
    pub(crate) async fn admit(self: &Arc<Self>, action: Action, repository: &str, met: bool) -> Result<Permit> {
        loop {
            match self.turn(repository) {
                Turn::Go => {
                    let slot = self.window(action).enter().await;
                    // Trouble may have begun while it waited in line.
                    if lock(&self.health).is_well() {
                        return Ok(self.permit(action, None, None, Some(slot)));
                    }
                }
                Turn::Never(error) => return Err(error),
                // Best effort: there is no wait for a cleanup that the registry will do by itself.
                Turn::Until(_) | Turn::Probe(_) if action == Action::AbandonUpload => return Err(Error::interrupted()),
                Turn::Until(_) | Turn::Probe(_) => {
                    if let Some((probe, within)) = self.stand_in_line(repository, met).await {
                        return Ok(self.permit(action, Some(probe), Some(within), None));
                    }
                }
            }
        }
    }

    /// Like [`Admission::admit`], if another place can be asked: doesn't wait for the end of trouble. A host that
    /// has answered before may be tried again after a pause, by one request at a time.
    ///
    /// # Errors
    /// If the host is in trouble or given up.
    pub(crate) async fn admit_now(self: &Arc<Self>, action: Action, repository: &str) -> Result<Permit> {
        loop {
            match self.turn(repository) {
                Turn::Go => {
                    let slot = self.window(action).enter().await;
                    if lock(&self.health).is_well() {
                        return Ok(self.permit(action, None, Some(FIRST_WORD), Some(slot)));
                    }
                }
                Turn::Never(error) => return Err(error),
                Turn::Until(_) => return Err(lock(&self.health).not_waited_for()),
                Turn::Probe(_) => {
                    let line = Arc::clone(&self.line).try_lock_owned().ok();
                    let Some(line) = line.filter(|_| lock(&self.health).is_there()) else {
                        return Err(lock(&self.health).not_waited_for());
                    };
                    let probe = Probe { _line: line, _again: None };
                    return Ok(self.permit(action, Some(probe), Some(FIRST_WORD_AFTER_TROUBLE), None));
                }
            }
        }
    }

    /// Waits until the trouble is over, or for the right to test that. First come, first served, so that a request
    /// that fails repeatedly doesn't block the others.
    async fn stand_in_line(&self, repository: &str, met: bool) -> Option<(Probe, Duration)> {
        let again = if met { Some(Arc::clone(&self.again).lock_owned().await) } else { None };
        let line = Arc::clone(&self.line).lock_owned().await;
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            match self.turn(repository) {
                Turn::Go | Turn::Never(_) => return None,
                Turn::Probe(within) => return Some((Probe { _line: line, _again: again }, within)),
                Turn::Until(next) => tokio::select! {
                    () = tokio::time::sleep_until(next) => {}
                    () = changed => {}
                },
            }
        }
    }

    fn turn(&self, repository: &str) -> Turn {
        lock(&self.health).turn(repository, Instant::now())
    }

    fn permit(
        self: &Arc<Self>,
        action: Action,
        probe: Option<Probe>,
        within: Option<Duration>,
        slot: Option<Slot>,
    ) -> Permit {
        let window = Arc::clone(self.window(action));
        Permit { admission: Arc::clone(self), probe, sent: Instant::now(), within, window, _slot: slot }
    }

    fn window(&self, action: Action) -> &Arc<Window> {
        let traits = action.traits();
        match (traits.bulk, traits.writes) {
            (false, _) => &self.short,
            (true, false) => &self.downloads,
            (true, true) => &self.uploads,
        }
    }

    /// Returns as soon as the host is in trouble.
    pub(crate) async fn in_trouble(&self) {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            if !lock(&self.health).is_well() {
                return;
            }
            changed.await;
        }
    }

    /// Whether this run sends nothing more to the host.
    pub(crate) fn is_given_up(&self) -> bool {
        lock(&self.health).is_given_up()
    }

    /// The number of answers without trouble so far.
    pub(crate) fn answers(&self) -> u64 {
        lock(&self.health).answers()
    }
}

impl Permit {
    /// The time in which its answer has to begin, if shorter than usual.
    pub(crate) fn within(&self) -> Option<Duration> {
        self.within
    }

    /// Records an answer that shows no trouble.
    pub(crate) fn answered(&mut self) {
        let is_news = {
            let mut health = lock(&self.admission.health);
            let is_news = health.answered(Instant::now());
            if is_news {
                self.admission.told.tell(health.waiting());
            }
            is_news
        };
        if is_news {
            self.admission.changed.notify_waiters();
        }
        self.window.succeeded();
    }

    /// Records that bytes moved as late as `moved`, without trouble until then.
    pub(crate) fn went_well_until(&mut self, moved: Instant) {
        self.sent = self.sent.max(moved);
    }

    /// Gives up the exclusive right to test whether the host is still in trouble.
    pub(crate) fn let_others_probe(&mut self) {
        if let Some(_probe) = self.probe.take() {
            self.within = None;
            lock(&self.admission.health).probe_yielded(Instant::now());
        }
    }

    /// Records a failure: the host's trouble, or, if the host serves others, that of `subject` alone.
    pub(crate) fn failed(self, error: &Error, subject: &Subject) -> Trial {
        let (begins, trial) = {
            let mut health = lock(&self.admission.health);
            let begins = health.is_well();
            let failed = Failed { error, subject, probe: self.probe.is_some(), sent: self.sent };
            let trial = health.failed(failed, Instant::now());
            self.admission.told.tell(health.waiting());
            (begins, trial)
        };
        // A host that announces it itself gets fewer concurrent requests from now on.
        if begins && matches!(error.status(), Some(429 | 503)) {
            self.window.halve();
        }
        self.admission.changed.notify_waiters();
        trial
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The paces of a registry's actions.
#[derive(Debug)]
pub(crate) struct Paces(Vec<Bucket>);

/// Limits one action to its pace (the "generic cell rate algorithm": a token bucket without a timer).
#[derive(Debug)]
struct Bucket {
    pace: Pace,
    /// When the bucket will be full again.
    full_at: Mutex<Option<Instant>>,
}

impl Paces {
    pub(crate) fn new(paces: &[Pace]) -> Self {
        Self(paces.iter().map(|pace| Bucket { pace: *pace, full_at: Mutex::default() }).collect())
    }

    /// Waits for the turn of `action`. Nothing is held meanwhile.
    pub(crate) async fn wait(&self, action: Action) {
        for bucket in self.0.iter().filter(|bucket| bucket.pace.action == action) {
            tokio::time::sleep_until(bucket.turn()).await;
        }
    }
}

impl Bucket {
    /// Takes a turn, and returns its time.
    fn turn(&self) -> Instant {
        let each = Duration::from_secs(1) / self.pace.per_second;
        let now = Instant::now();
        let mut full_at = lock(&self.full_at);
        let full = full_at.unwrap_or(now).max(now) + each;
        *full_at = Some(full);
        // At most the burst may run ahead of the pace.
        full.checked_sub(each * self.pace.burst).unwrap_or(now)
    }
}

#[cfg(test)]
mod tests {
    use futures::poll;

    use super::*;
    use crate::error::Kind;

    fn admission() -> Arc<Admission> {
        let admissions = Admissions::new(Backoff::default(), Duration::from_secs(300));
        let url: Url = "https://h.io/v2/".parse().unwrap();
        assert!(Arc::ptr_eq(&admissions.of(&url), &admissions.of(&"https://h.io:443/x".parse().unwrap())));
        admissions.of(&url)
    }

    fn busy(asked: u64) -> Error {
        let asked = Some(Duration::from_secs(asked));
        Error::new(Kind::RateLimited, "resolve", "429").with_status(429).with_retry_after(asked)
    }

    #[tokio::test(start_paused = true)]
    async fn trouble_holds_everybody_and_lets_one_at_a_time_through_after_its_pause() {
        let admission = admission();
        let first = admission.admit(Action::Resolve, "", false).await.unwrap();
        let late = admission.admit(Action::PullBlob, "", false).await.unwrap();
        first.failed(&busy(100), &Subject::Request(0));
        let began = Instant::now();
        let mut probe = std::pin::pin!(admission.admit(Action::PullBlob, "", false));
        let mut other = std::pin::pin!(admission.admit(Action::PushBlob, "", false));
        assert!(poll!(&mut probe).is_pending() && poll!(&mut other).is_pending());
        assert_eq!(admission.admit(Action::AbandonUpload, "", false).await.unwrap_err().kind(), Kind::Interrupted);
        let mut probe = probe.await.unwrap();
        assert_eq!(began.elapsed().as_secs(), 100);
        assert!(probe.probe.is_some() && poll!(&mut other).is_pending());
        probe.answered();
        drop(probe);
        assert!(other.await.unwrap().probe.is_none());
        drop(late);
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_that_is_dropped_is_followed_by_the_next_one_in_line() {
        let admission = admission();
        admission.admit(Action::Resolve, "", false).await.unwrap().failed(&busy(1), &Subject::Request(0));
        let probe = admission.admit(Action::Resolve, "", false).await.unwrap();
        let mut next = std::pin::pin!(admission.admit(Action::Resolve, "", false));
        assert!(poll!(&mut next).is_pending());
        drop(probe);
        assert!(next.await.unwrap().probe.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_not_met_the_trouble_comes_before_the_second_who_has() {
        let admission = admission();
        admission.admit(Action::Resolve, "", false).await.unwrap().failed(&busy(1), &Subject::Request(0));
        let first = admission.admit(Action::Resolve, "", true).await.unwrap();
        let mut second = std::pin::pin!(admission.admit(Action::Resolve, "", true));
        assert!(poll!(&mut second).is_pending());
        let mut newcomer = std::pin::pin!(admission.admit(Action::Resolve, "", false));
        assert!(poll!(&mut newcomer).is_pending());
        first.failed(&busy(1), &Subject::Request(1));
        assert!(newcomer.await.unwrap().probe.is_some());
        assert!(second.await.unwrap().probe.is_some());
    }

    #[tokio::test]
    async fn a_host_that_is_given_up_tells_everybody_the_same() {
        let admission = admission();
        let permit = admission.admit(Action::Resolve, "", false).await.unwrap();
        let waits = async {
            admission.admit(Action::Resolve, "", false).await.unwrap().failed(&busy(1), &Subject::Request(0));
            admission.admit(Action::Resolve, "", false).await
        };
        let mut waits = std::pin::pin!(waits);
        assert!(poll!(&mut waits).is_pending());
        permit.failed(&busy(86400), &Subject::Request(1));
        let (waited, later) =
            (waits.await.unwrap_err(), admission.admit(Action::PullBlob, "", false).await.unwrap_err());
        assert_eq!(waited.to_string(), later.to_string());
    }

    #[tokio::test]
    async fn bulk_passes_where_short_requests_queue() {
        let admission = admission();
        let mut held = Vec::new();
        for _ in 0..SHORT_IN_FLIGHT {
            held.push(admission.admit(Action::Resolve, "", false).await.unwrap());
        }
        assert!(poll!(Box::pin(admission.admit(Action::Resolve, "", false))).is_pending());
        admission.admit(Action::PushBlob, "", false).await.unwrap();
        held.pop();
        admission.admit(Action::Resolve, "", false).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn an_action_keeps_its_pace() {
        let paces = Paces::new(&[Pace { action: Action::PushManifest, per_second: 8, burst: 10 }]);
        let started = Instant::now();
        for _ in 0..10 {
            paces.wait(Action::PushManifest).await;
        }
        paces.wait(Action::Resolve).await;
        assert_eq!(started.elapsed(), Duration::ZERO);
        for _ in 0..16 {
            paces.wait(Action::PushManifest).await;
        }
        assert_eq!(started.elapsed().as_secs(), 2, "eight a second");
    }
}
