//! Outcomes → Report: what a run did, as text and as JSON, and the exit status that follows from it.
//!
//! Everything here is data. An image that failed is an [`Outcome`] like any other, so that nothing is lost on the way to
//! the report, and the exit status is worked out from what is reported and from nothing else.

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

/// A target repository that a run needed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct RepositoryOutcome {
    /// Its name, with the registry.
    pub target: String,
    /// Whether this run created it.
    pub created: bool,
    /// Settings that this run changed, or would change, by their keys in mirror.yaml; it had existed before.
    pub changes: Vec<&'static str>,
}

/// A proxy-cache project that mirror.yaml wants at a Harbor.
#[derive(Debug, Clone)]
pub struct ProxyCacheOutcome {
    /// `HOST/PROJECT`.
    pub target: String,
    /// The registry that it is a cache of.
    pub upstream: String,
    /// Whether this run created it, or would.
    pub created: bool,
    /// Settings that this run changed, or would change; it had existed before.
    pub changes: Vec<&'static str>,
    /// Why it can't be had.
    pub error: Option<Error>,
}

impl ProxyCacheOutcome {
    fn has_work(&self) -> bool {
        self.created || !self.changes.is_empty()
    }
}

/// What a run asked of one registry host.
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
    /// The pull quota that it last spoke of.
    pub quota: Option<Quota>,
    /// Whether its manifest GETs count against a quota; decides whether they are pulls in the totals.
    #[serde(skip)]
    pub meters_pulls: bool,
}

/// A pull quota, as a registry states it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Quota {
    /// Pulls in a window.
    pub limit: u64,
    /// Pulls left.
    pub remaining: u64,
    /// The length of the window.
    pub window_seconds: Option<u64>,
}

/// A pin that moved, appeared or went, or a referrer that did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Change {
    /// The canonical source reference.
    pub source: String,
    /// What it is about: the pin, or something that refers to the image.
    pub what: Part,
    /// What it was pinned to; `None` = it is new.
    pub old: Option<Digest>,
    /// What it is pinned to now; `None` = it has been dropped.
    pub new: Option<Digest>,
}

/// What a difference is about. The JSON report spells it in `snake_case`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// A pin of the lock.
    Pin,
    /// A tag at a target.
    Tag,
    /// A manifest: the image's, where it has no tag, or one that it consists of.
    Manifest,
    /// A configuration or a layer.
    Blob,
    /// Something that the lock knows to refer to the image.
    Referrer,
}

/// Something that isn't as it should be, found by a command that only looks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Difference {
    /// The canonical source reference; of a tag that the lock doesn't know, the repository that is mirrored there.
    pub source: String,
    /// The target reference, of a part that of its image; `None` where no target was asked.
    pub target: Option<String>,
    /// What it is about.
    pub what: Part,
    /// What there should be: the digest of the part itself; `None` = nothing.
    pub expected: Option<Digest>,
    /// What there is; `None` = nothing, or, with a `why`, something whose digest isn't known.
    pub found: Option<Digest>,
    /// How that which is there is damaged, or why a referrer can't be found though it is there; `None` = neither.
    pub why: Option<String>,
}

/// How a run ended, for whoever started it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Everything asked for is so.
    Success = 0,
    /// Some image failed or conflicts; the others are done. Or a check failed.
    Failed = 1,
    /// It could not run, or no target answered.
    Unable = 2,
    /// A difference was found by a command that looks for one.
    Difference = 3,
    /// Nothing failed, but some images were put off because a quota is used up.
    Deferred = 4,
    /// Interrupted; what was done is reported.
    Interrupted = 130,
}

impl Exit {
    /// The status as a number.
    pub fn code(self) -> u8 {
        self as u8
    }

    /// Of two ends of one run, the one that its caller has to know of.
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

/// What a run did, or would do.
#[derive(Debug, Clone)]
pub struct Report {
    /// The verb.
    pub command: String,
    /// Flags that were given, each with the words that give it again: the next command takes those that it knows.
    pub given: Vec<(&'static str, String)>,
    /// When it began.
    pub started: Timestamp,
    /// How long it took.
    pub seconds: f64,
    /// Each (image, target) whose fate is known, in plan order.
    pub outcomes: Vec<Outcome>,
    /// The plan, where it is what was asked for.
    pub plan: Option<Plan>,
    /// Whether a plan with work in it is a difference (`plan --check`).
    pub expect_no_work: bool,
    /// The target repositories.
    pub repositories: Vec<RepositoryOutcome>,
    /// The proxy caches that there are to be; `None` where they weren't looked at.
    pub proxy_caches: Option<Vec<ProxyCacheOutcome>>,
    /// The registries that were talked to.
    pub registries: Vec<RegistryUse>,
    /// Pins that moved; `None` where none could.
    pub changes: Option<Vec<Change>>,
    /// What a command that only looks has found; `None` where none was looked for.
    pub differences: Option<Vec<Difference>>,
    /// Whether the outcomes tell what the targets hold, and not what was done (`verify`).
    pub verified: bool,
    /// Whether the outcomes are about pull-through caches (`warm`).
    pub of_caches: bool,
    /// Pulls that the caches took of the quotas of their upstreams, or would take, at most (`warm`).
    pub pulls_by_caches: BTreeMap<String, u64>,
    /// What `check` has found, host by host; `None` elsewhere.
    pub checks: Option<Vec<Check>>,
    /// What `quota` has found; `None` elsewhere.
    pub quotas: Option<Vec<AccountQuota>>,
    /// Whether the run was asked to stop.
    pub interrupted: bool,
    /// Why it could not run at all.
    pub fatal: Option<Fatal>,
}

/// Why a run could not begin: a problem that was found before the first request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Fatal {
    /// What kind of failure it was.
    pub kind: Kind,
    /// What is wrong; of several problems each in a line of its own.
    pub message: String,
    /// The next step.
    pub hint: Option<String>,
    /// Where it is wrong, in the order of the file.
    pub places: Vec<Place>,
}

/// A place in a file at which something is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Place {
    /// The file, as the user calls it.
    pub file: String,
    /// The line, from 1; `None` where it is about the whole file.
    pub line: Option<usize>,
    /// The column in characters, from 1.
    pub column: Option<usize>,
    /// The key in the file.
    pub key: Option<String>,
    /// What is wrong there.
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

    /// With `plan` as what was asked for. Images whose fate it knows are outcomes too.
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

    /// The first that applies of: interrupted, unable, failed, deferred, difference.
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

    /// Bytes of all images.
    fn bytes(&self) -> Bytes {
        let mut total = Bytes::default();
        self.outcomes.iter().for_each(|outcome| total += outcome.bytes);
        total
    }

    /// Manifest GETs that counted against a quota, or for a plan those that will; of caches as many as it may have been.
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

/// As [`Outcome::without_work`], but one whose pin couldn't be updated has failed although there is work for it.
fn known_outcome(planned: &Planned) -> Option<Outcome> {
    let stale = || planned.work().filter(|transfer| transfer.stale.is_some());
    Outcome::without_work(planned).or_else(|| stale().map(|transfer| Outcome::of(transfer, Status::Failed)))
}

#[cfg(test)]
mod tests;
