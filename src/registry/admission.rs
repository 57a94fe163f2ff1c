//! Where requests to a host wait: for the pace of their kind, while the host is in trouble, and while the maximum
//! number is in flight.
//!
//! A host is a scheme, name and port: a registry, a token service, or the storage behind a redirect. Several
//! registries may share a host, and then share its trouble.

pub(super) mod gate;
pub(super) mod pulls;
mod reporter;
pub(super) mod trouble;
pub(super) mod window;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, OwnedMutexGuard};
use tokio::time::Instant;
use url::{Origin, Url};

use self::reporter::{Names, Reporter};
use self::trouble::{Failed, Health, Patience, Subject, Trial, Turn};
use self::window::{Slot, Window};
use crate::error::{Error, Result};
use crate::registry::action::Action;
use crate::registry::request::Request;
use crate::registry::services::quirks::Pace;
use crate::retry::{Backoff, NoWaits, Waits};

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
    names: Arc<Names>,
    waits: Arc<dyn Waits>,
}

impl Admissions {
    pub(crate) fn new(backoff: Backoff, max_wait: Duration) -> Self {
        let (hosts, names) = (Mutex::default(), Arc::default());
        Self { backoff, max_wait, requests: AtomicU64::new(0), hosts, names, waits: Arc::new(NoWaits) }
    }

    /// Reports waits to `waits`.
    pub(crate) fn with_waits(mut self, waits: Arc<dyn Waits>) -> Self {
        self.waits = waits;
        self
    }

    pub(crate) fn heard(&self) -> Arc<dyn Waits> {
        Arc::clone(&self.waits)
    }

    /// Names the host of `url` in reports of waits.
    pub(crate) fn call(&self, url: &Url, name: &str) {
        self.names.add(url, name);
    }

    /// How long to retry one request that fails while its host answers others.
    pub(crate) fn patience_with_one(&self) -> Duration {
        self.backoff.one_request().min(self.max_wait)
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
            let reporter = Reporter::new(url, host.clone(), Arc::clone(&self.names), Arc::clone(&self.waits));
            Arc::new(Admission::new(Patience { host, backoff: self.backoff, max_wait: self.max_wait }, reporter))
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
    reporter: Reporter,
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
    fn new(patience: Patience, reporter: Reporter) -> Self {
        Self {
            reporter,
            health: Mutex::new(Health::new(patience)),
            changed: Notify::new(),
            line: Arc::default(),
            again: Arc::default(),
            short: Window::new(SHORT_IN_FLIGHT),
            downloads: Window::new(Window::OPEN),
            uploads: Window::new(Window::OPEN),
        }
    }

    /// Waits until a request may be sent. `met`: it has already failed because of the host's trouble. No slot is held
    /// while waiting for the end of trouble.
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
                // Registries delete abandoned uploads themselves, so a cancellation doesn't wait.
                Turn::Until(_) | Turn::Probe(_) if action == Action::AbandonUpload => return Err(Error::interrupted()),
                Turn::Until(_) | Turn::Probe(_) => {
                    if let Some((probe, within)) = self.queue_for_probe(repository, met).await {
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
    async fn queue_for_probe(&self, repository: &str, met: bool) -> Option<(Probe, Duration)> {
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
                self.admission.reporter.report(health.waiting());
            }
            is_news
        };
        if is_news {
            self.admission.changed.notify_waiters();
        }
        self.window.succeeded();
    }

    /// Records that bytes arrived until `moved`, so there was no trouble until then.
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
            self.admission.reporter.report(health.waiting());
            (begins, trial)
        };
        // A host that asks to slow down gets fewer concurrent requests from now on.
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
mod tests;
