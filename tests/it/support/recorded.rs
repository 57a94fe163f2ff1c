//! A decorator of any `Stores` that records calls and makes some fail.
//!
//! Also part of the library's unit tests (`crate::recorded`).

// The attribute makes the path the same for the library's unit tests.
#[path = "recorded/watched.rs"]
mod watched;

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use transship::error::{Kind, Result, Side};
use transship::oci::{Registry, Repository};
use transship::store::{MountRule, Source, Stores, Target};

use self::watched::Watched;
use super::gate::Gate;

/// The method of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum What {
    Resolve,
    Manifest,
    Blob,
    BlobSize,
    Tags,
    Referrers,
    PushManifest,
    OpenUpload,
    PushBlob,
    Abandon,
    Mount,
}

/// One recorded call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) what: What,
    pub(crate) repository: Repository,
    /// The digest or tag, `sha256:…@OFFSET` for a blob that isn't read from its start; empty where there is none.
    pub(crate) subject: String,
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = format!("{:?} {} {}", self.what, self.repository, self.subject);
        f.write_str(line.trim_end())
    }
}

/// A fault instead of, before or after the work.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    /// Nothing is done, and this error is returned.
    Fails(Kind),
    /// The work is done, but the answer gets lost.
    LosesAnswer(Kind),
    /// The work waits until the gate opens.
    Waits(Gate),
    /// The work takes this long; for tests with paused time.
    Takes(Duration),
    /// The first byte of the blob is changed.
    Corrupts,
    /// The blob's stream breaks after this many bytes; a push reads this many bytes of the body, then fails.
    BreaksAfter(usize),
    /// The mount is declined, without an upload.
    Declines,
}

/// A fault and the calls that get it. Created by [`Recorded::on`].
#[derive(Debug, Clone)]
pub(crate) struct Rule {
    what: What,
    repository: Option<Repository>,
    subject: Option<String>,
    times: usize,
    fault: Fault,
}

impl Rule {
    fn befalls(&self, call: &Call) -> bool {
        self.times > 0
            && self.what == call.what
            && self.repository.as_ref().is_none_or(|repository| *repository == call.repository)
            && self.subject.as_ref().is_none_or(|subject| call.subject.starts_with(subject.as_str()))
    }
}

/// Stores whose calls are recorded, and fail by script. A clone is another handle to the same record.
#[derive(Clone)]
pub(crate) struct Recorded {
    stores: Arc<dyn Stores>,
    log: Arc<Mutex<Log>>,
}

#[derive(Default)]
struct Log {
    calls: Vec<Call>,
    rules: Vec<Rule>,
    chunk: Option<usize>,
    counting: HashSet<Registry>,
    mounting: HashMap<Registry, MountRule>,
}

impl Recorded {
    pub(crate) fn new(stores: Arc<dyn Stores>) -> Self {
        Self { stores, log: Arc::default() }
    }

    /// All calls so far, in the order in which they were made.
    pub(crate) fn calls(&self) -> Vec<Call> {
        self.log().calls.clone()
    }

    /// The calls of one kind.
    pub(crate) fn calls_of(&self, what: What) -> Vec<Call> {
        self.calls().into_iter().filter(|call| call.what == what).collect()
    }

    pub(crate) fn count(&self, what: What) -> usize {
        self.calls_of(what).len()
    }

    /// The position in the log of the first call of this kind on `subject`.
    pub(crate) fn position(&self, what: What, subject: &str) -> Option<usize> {
        self.calls().iter().position(|call| call.what == what && call.subject == subject)
    }

    /// Clears the recorded calls; the rules stay.
    pub(crate) fn clear(&self) {
        self.log().calls.clear();
    }

    /// Starts a rule: on the next call of this kind …
    pub(crate) fn on(&self, what: What) -> RuleBuilder<'_> {
        let rule = Rule { what, repository: None, subject: None, times: 1, fault: Fault::Declines };
        RuleBuilder { recorded: self, rule }
    }

    /// Blobs are read in chunks of at most this many bytes.
    pub(crate) fn chunk(&self, bytes: usize) {
        self.log().chunk = Some(bytes);
    }

    /// `registry` meters pulls.
    pub(crate) fn meters_pulls(&self, registry: &Registry) {
        self.log().counting.insert(registry.clone());
    }

    /// `registry` reports this mount rule; the script determines the results of mounts.
    pub(crate) fn mounts(&self, registry: &Registry, rule: MountRule) {
        self.log().mounting.insert(registry.clone(), rule);
    }

    fn log(&self) -> std::sync::MutexGuard<'_, Log> {
        self.log.lock().expect("no test panics while it writes down a call")
    }

    fn watch<S: ?Sized>(&self, store: Arc<S>, repository: &Repository, side: Side) -> Arc<Watched<S>> {
        Arc::new(Watched { store, repository: repository.clone(), side, recorded: self.clone() })
    }
}

/// A rule under construction; it applies once complete.
#[must_use]
pub(crate) struct RuleBuilder<'a> {
    recorded: &'a Recorded,
    rule: Rule,
}

impl RuleBuilder<'_> {
    /// … in this repository …
    pub(crate) fn of(mut self, repository: &Repository) -> Self {
        self.rule.repository = Some(repository.clone());
        self
    }

    /// … for this digest or tag …
    pub(crate) fn for_subject(mut self, subject: impl fmt::Display) -> Self {
        self.rule.subject = Some(subject.to_string());
        self
    }

    /// … this many times in all …
    pub(crate) fn times(mut self, times: usize) -> Self {
        self.rule.times = times;
        self
    }

    /// … this happens.
    pub(crate) fn then(mut self, fault: Fault) {
        self.rule.fault = fault;
        self.recorded.log().rules.push(self.rule);
    }

    /// … it fails.
    pub(crate) fn fails(self, kind: Kind) {
        self.then(Fault::Fails(kind));
    }
}

impl fmt::Debug for Recorded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Recorded({:?})", self.stores)
    }
}

impl Stores for Recorded {
    fn source(&self, repository: &Repository) -> Result<Arc<dyn Source>> {
        Ok(self.watch(self.stores.source(repository)?, repository, Side::Source))
    }

    fn target(&self, repository: &Repository) -> Result<Arc<dyn Target>> {
        Ok(self.watch(self.stores.target(repository)?, repository, Side::Target))
    }
}
