//! Outcomes → Report: the result of a run as text and JSON, and its exit status.
//!
//! Everything here is data. A failed image is an [`Outcome`] like any other, so nothing is lost on the way to the
//! report. The exit status depends only on the report.

mod cached;
mod causes;
mod checks;
pub(crate) mod gone;
mod json;
mod outcome;
mod phrase;
mod quotas;
#[cfg(test)]
mod samples;
mod summary;
mod text;

use std::collections::BTreeMap;
use std::process::ExitCode;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use crate::error::{Error, Kind};
use crate::oci::Digest;
use crate::plan::{Plan, Planned};

pub use crate::plan::Bytes;
pub use cached::{CacheProof, Cached, CachedTag};
pub use checks::{Check, Proof, Right};
pub use outcome::{Outcome, Reason, ReferrerOutcome, Status};
pub use quotas::AccountQuota;
pub use text::Style;

/// A target repository that a run used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct RepositoryOutcome {
    /// The repository, with its registry.
    pub target: String,
    /// Whether this run created it.
    pub created: bool,
    /// Settings of an existing repository that this run changed, or would change, by their keys in mirror.yaml.
    pub changes: Vec<&'static str>,
}

/// A proxy-cache project in mirror.yaml.
#[derive(Debug, Clone)]
pub struct ProxyCacheOutcome {
    /// `HOST/PROJECT`.
    pub target: String,
    /// The registry that it caches.
    pub upstream: String,
    /// Whether this run created it, or would.
    pub created: bool,
    /// Settings of an existing project that this run changed, or would change.
    pub changes: Vec<&'static str>,
    /// Why it isn't available.
    pub error: Option<Error>,
}

impl ProxyCacheOutcome {
    fn has_work(&self) -> bool {
        self.created || !self.changes.is_empty()
    }
}

/// The use of one registry host by a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct RegistryUse {
    /// The host, with its port if it has one.
    pub host: String,
    /// All requests to it.
    pub requests: u64,
    /// How many of them read a manifest.
    pub manifest_gets: u64,
    /// How many answers asked to slow down.
    pub throttled: u64,
    /// The pull quota that it reported last.
    pub quota: Option<Quota>,
    /// Whether its manifest GETs count against a quota. If so, they are pulls in the totals.
    #[serde(skip)]
    pub meters_pulls: bool,
}

/// A pull quota, as reported by a registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Quota {
    /// Pulls in a window.
    pub limit: u64,
    /// Pulls left.
    pub remaining: u64,
    /// The length of the window.
    pub window_seconds: Option<u64>,
}

/// A pin or a referrer that changed, appeared or disappeared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Change {
    /// The canonical source reference.
    pub source: String,
    /// The kind of change: the pin, or a referrer of the image.
    pub what: Part,
    /// The old digest; `None` = new.
    pub old: Option<Digest>,
    /// The new digest; `None` = removed.
    pub new: Option<Digest>,
}

/// What differs. The JSON report uses `snake_case`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// A pin of the lock.
    Pin,
    /// A tag at a target.
    Tag,
    /// A manifest: an image without a tag, or a manifest below the image.
    Manifest,
    /// A config or a layer.
    Blob,
    /// A referrer in the lock.
    Referrer,
}

/// A difference found by a command that changes nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Difference {
    /// The canonical source reference. For a tag that isn't in the lock: the repository that is mirrored there.
    pub source: String,
    /// The target reference of the image; `None` if the difference isn't at a target.
    pub target: Option<String>,
    /// What differs.
    pub what: Part,
    /// The expected digest; `None` = nothing is expected.
    pub expected: Option<Digest>,
    /// The digest that was found; `None` = nothing, or, with a `why`, content whose digest is unknown.
    pub found: Option<Digest>,
    /// How the found content is damaged, or why a referrer isn't listed although it exists; `None` = neither.
    pub why: Option<String>,
}

/// The exit status of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Success.
    Success = 0,
    /// An image failed or conflicts, and the others are done; or a check failed.
    Failed = 1,
    /// The run couldn't start, or no target answered.
    Unable = 2,
    /// A command that compares found a difference.
    Difference = 3,
    /// Nothing failed, but some images were deferred because a quota is used up.
    Deferred = 4,
    /// Interrupted; the report has what was done.
    Interrupted = 130,
}

impl Exit {
    /// The status as a number.
    pub fn code(self) -> u8 {
        self as u8
    }

    /// The more serious of two exit statuses of one run.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        let order = [Self::Interrupted, Self::Unable, Self::Failed, Self::Deferred, Self::Difference, Self::Success];
        order.into_iter().find(|exit| [self, other].contains(exit)).unwrap_or(self)
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        exit.code().into()
    }
}

/// The result of a run, or its plan.
#[derive(Debug, Clone)]
pub struct Report {
    /// The verb.
    pub command: String,
    /// The arguments that a next command repeats, each with the verbs that accept it.
    pub given: Vec<(Vec<String>, String)>,
    /// When it began.
    pub started: Timestamp,
    /// How long it took.
    pub seconds: f64,
    /// The outcome of each (image, target), in plan order, as far as known.
    pub outcomes: Vec<Outcome>,
    /// The plan, for `plan` and `--dry-run`.
    pub plan: Option<Plan>,
    /// Whether a plan with work counts as a difference (`plan --check`).
    pub expect_no_work: bool,
    /// The target repositories.
    pub repositories: Vec<RepositoryOutcome>,
    /// The configured proxy caches; `None` if they weren't checked.
    pub proxy_caches: Option<Vec<ProxyCacheOutcome>>,
    /// The registries that were used.
    pub registries: Vec<RegistryUse>,
    /// Changed pins; `None` if this command changes none.
    pub changes: Option<Vec<Change>>,
    /// The differences; `None` if this command doesn't compare.
    pub differences: Option<Vec<Difference>>,
    /// Whether the outcomes describe the content of the targets, not work (`verify`).
    pub verified: bool,
    /// Whether the outcomes describe pull-through caches (`warm`).
    pub of_caches: bool,
    /// An upper bound of the pulls that the caches took from the quotas of their upstreams, or would take (`warm`).
    pub pulls_by_caches: BTreeMap<String, u64>,
    /// The checks, by host (`check`).
    pub checks: Option<Vec<Check>>,
    /// The quotas (`quota`).
    pub quotas: Option<Vec<AccountQuota>>,
    /// Whether the run was interrupted.
    pub interrupted: bool,
    /// Why the run couldn't start.
    pub fatal: Option<Fatal>,
}

/// A problem found before the first request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Fatal {
    /// The kind of failure.
    pub kind: Kind,
    /// The message; several problems are on separate lines.
    pub message: String,
    /// The next step.
    pub hint: Option<String>,
    /// The positions of the problems, in the order of the file.
    pub places: Vec<Place>,
}

/// The position of a problem in a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Place {
    /// The file name, as given by the user.
    pub file: String,
    /// The line, from 1; `None` if the problem is about the whole file.
    pub line: Option<usize>,
    /// The column in characters, from 1.
    pub column: Option<usize>,
    /// The key in the file.
    pub key: Option<String>,
    /// The message.
    pub message: String,
    /// The next step.
    pub hint: Option<String>,
}

impl Report {
    /// An empty report of `command`.
    pub fn new(command: impl Into<String>, started: Timestamp) -> Self {
        Self {
            command: command.into(),
            given: Vec::new(),
            started,
            seconds: 0.0,
            outcomes: Vec::new(),
            plan: None,
            expect_no_work: false,
            repositories: Vec::new(),
            proxy_caches: None,
            registries: Vec::new(),
            changes: None,
            differences: None,
            verified: false,
            of_caches: false,
            pulls_by_caches: BTreeMap::new(),
            checks: None,
            quotas: None,
            interrupted: false,
            fatal: None,
        }
    }

    /// Adds the plan that was asked for. Planned images without work become outcomes.
    #[must_use]
    pub fn with_plan(mut self, plan: Plan) -> Self {
        self.outcomes.extend(plan.images.iter().filter_map(known_outcome));
        let missing = plan.missing.iter().map(|target| (target, Vec::new()));
        let changes = plan.changes.iter().map(|(target, settings)| (target, settings.clone()));
        let repositories = missing.chain(changes);
        self.repositories.extend(repositories.map(|(target, changes)| RepositoryOutcome {
            target: target.to_string(),
            created: false,
            changes,
        }));
        self.plan = Some(plan);
        self
    }

    /// The first that applies: interrupted, unable, failed, deferred, difference.
    pub fn exit(&self) -> Exit {
        let any = |test: fn(&Outcome) -> bool| self.outcomes.iter().any(test);
        if self.interrupted {
            Exit::Interrupted
        } else if self.fatal.is_some() || self.no_target_answered() {
            Exit::Unable
        } else if any(Outcome::is_failure)
            || self.proxy_caches.iter().flatten().any(|cache| cache.error.is_some())
            || self.checks.iter().flatten().any(Check::is_failure)
        {
            Exit::Failed
        } else if any(|outcome| outcome.status == Status::Deferred) {
            Exit::Deferred
        } else if self.has_difference() {
            Exit::Difference
        } else {
            Exit::Success
        }
    }

    fn no_target_answered(&self) -> bool {
        let has_work = self.plan.iter().flat_map(|plan| &plan.images).any(|image| known_outcome(image).is_none());
        let mut asked = self.outcomes.iter().filter(|outcome| !outcome.target_is_unasked()).peekable();
        !has_work && asked.peek().is_some() && asked.all(Outcome::target_is_silent)
    }

    fn has_difference(&self) -> bool {
        let found = self.differences.as_ref().is_some_and(|differences| !differences.is_empty());
        let has_work = || self.plan.iter().any(|plan| plan.with_work().next().is_some());
        let lacks_cache = || self.proxy_caches.iter().flatten().any(ProxyCacheOutcome::has_work);
        found || (self.expect_no_work && (has_work() || lacks_cache()))
    }

    /// The bytes of all images.
    fn bytes(&self) -> Bytes {
        let mut total = Bytes::default();
        self.outcomes.iter().for_each(|outcome| total += outcome.bytes);
        total
    }

    /// Manifest GETs that count against a quota, done or planned; for caches, an upper bound.
    fn pulls(&self) -> u64 {
        match &self.plan {
            Some(plan) => plan.with_work().map(|transfer| transfer.cost.pulls).sum(),
            None => {
                let own = self.registries.iter().filter(|host| host.meters_pulls).map(|host| host.manifest_gets);
                own.chain(self.pulls_by_caches.values().copied()).sum()
            }
        }
    }
}

/// Like [`Outcome::without_work`], but an image whose pin couldn't be updated has failed although there is work for it.
fn known_outcome(planned: &Planned) -> Option<Outcome> {
    let stale = || planned.work().filter(|transfer| transfer.stale.is_some());
    Outcome::without_work(planned).or_else(|| stale().map(|transfer| Outcome::of(transfer, Status::Failed)))
}

#[cfg(test)]
mod tests;
