//! What became of one image at one target.

use schemars::JsonSchema;
use serde::Serialize;

use super::Cached;
use crate::error::{Error, Kind, Side, Stage};
use crate::oci::{Digest, Referrer};
use crate::plan::{Action, Bytes, Planned, Spared, Transfer};

/// What became of an image. The JSON report spells it in `snake_case`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It is at the target now.
    Copied,
    /// It was there already.
    UpToDate,
    /// It is waiting for a condition on its pin, and nobody's fault.
    Held,
    /// It was put off because a quota is used up.
    Deferred,
    /// The target's tag holds something else, and may not be replaced.
    Conflict,
    /// It isn't at the target as it should be.
    Failed,
    /// It was left alone.
    Skipped,
    /// The target doesn't hold what the lock pins, and was only looked at.
    Differs,
    /// Whether there is anything couldn't be found out. Only of what refers to an image.
    Unknown,
}

impl Status {
    /// All that an image can have, from what is as it should be to what isn't.
    pub const ALL: [Self; 8] = [
        Self::Copied,
        Self::UpToDate,
        Self::Held,
        Self::Deferred,
        Self::Skipped,
        Self::Differs,
        Self::Conflict,
        Self::Failed,
    ];
}

/// Why nothing happened to an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The target holds what the lock pins.
    Unchanged,
    /// What upstream serves is younger than it has to be.
    TooNew,
    /// The source's pull quota is used up.
    QuotaUsed,
    /// The run was asked to stop.
    Interrupted,
    /// The target's tag holds something else, and is to be left.
    Kept,
    /// The target doesn't hold what the lock pins, and was only looked at.
    Differs,
}

/// What became of something that refers to an image.
#[derive(Debug, Clone)]
pub struct ReferrerOutcome {
    /// What it is; `None` where it isn't known whether there is any.
    pub referrer: Option<Referrer>,
    /// What became of it.
    pub status: Status,
    /// What went wrong.
    pub error: Option<Error>,
}

impl ReferrerOutcome {
    /// `referrer`, or what is `kept` in its place, was seen at the target.
    pub(crate) fn seen(referrer: &Referrer, kept: bool) -> Self {
        let status = if kept { Status::Skipped } else { Status::UpToDate };
        Self { referrer: Some(referrer.clone()), status, error: None }
    }

    /// The source has refused, by `error`, to tell whether there is any.
    pub(crate) fn unknown(error: Error) -> Self {
        Self { referrer: None, status: Status::Unknown, error: Some(error) }
    }
}

/// What became of one image at one target.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The canonical source reference, or the repository where no tag is known.
    pub source: String,
    /// The pinned digest; `None` if it couldn't be resolved.
    pub digest: Option<Digest>,
    /// The target reference or repository.
    pub target: String,
    /// The digest at the target, where it differs from `digest`.
    pub mirrored: Option<Digest>,
    /// What became of it.
    pub status: Status,
    /// Why nothing happened.
    pub reason: Option<Reason>,
    /// What was moved, and what didn't have to be.
    pub bytes: Bytes,
    /// Pulls of its source that weren't needed: by it, or by what it shares with others of the same repository.
    pub spared: Spared,
    /// What became of that which refers to it or to what it consists of.
    pub referrers: Vec<ReferrerOutcome>,
    /// What is known of it where the target is a pull-through cache.
    pub cached: Option<Cached>,
    /// From the start of its work to the end, waiting included.
    pub seconds: f64,
    /// The host that gave the root manifest, where it was read in this run and not from the source's own registry.
    pub via: Option<String>,
    /// What went wrong.
    pub error: Option<Error>,
}

impl Outcome {
    /// `transfer` ended with `status`. If its pin couldn't be updated it has failed, or was put off, all the same.
    pub fn of(transfer: &Transfer, status: Status) -> Self {
        let (status, reason) = match &transfer.stale {
            Some(error) if end_of(error).0 == Status::Deferred => end_of(error),
            Some(_) => (Status::Failed, None),
            None => (status, None),
        };
        Self {
            source: transfer.source.to_string(),
            digest: Some(transfer.root.digest.clone()),
            target: transfer.target_text(),
            mirrored: transfer.known_as.clone().or_else(|| transfer.mirrored.clone()),
            status,
            reason,
            bytes: Bytes::default(),
            spared: Spared::default(),
            referrers: Vec::new(),
            cached: None,
            seconds: 0.0,
            via: None,
            error: transfer.stale.clone(),
        }
    }

    /// `transfer` ended with `error`, whose kind tells a conflict and an interruption from a failure.
    pub fn failed(transfer: &Transfer, error: Error) -> Self {
        let (status, reason) = end_of(&error);
        Self { status, reason, error: Some(error), ..Self::of(transfer, status) }
    }

    /// `transfer` wasn't finished because the run was asked to stop.
    pub fn interrupted(transfer: &Transfer) -> Self {
        let attempted = format!("copy {} to {}", transfer.source, transfer.target_text());
        let why = "the run was interrupted before it was finished";
        Self::failed(transfer, Error::new(Kind::Interrupted, attempted, why).at(Stage::Copy))
    }

    /// What is known of an image before any work on it; `None` if there is work to do.
    pub fn without_work(planned: &Planned) -> Option<Self> {
        let transfer = match planned {
            Planned::Image(transfer) => transfer,
            Planned::Failed { source, target, error } => {
                return Some(Self { target: target.clone(), ..Self::unresolved(source.clone(), error.clone()) });
            }
        };
        match &transfer.action {
            Action::Copy | Action::Tag | Action::Refer => None,
            Action::UpToDate => Some(Self {
                // The plan has asked for them.
                referrers: transfer
                    .wanted_referrers()
                    .map(|one| ReferrerOutcome::seen(one, transfer.left.contains(one)))
                    .collect(),
                ..Self::unchanged(transfer)
            }),
            Action::Kept { .. } => Some(Self { reason: Some(Reason::Kept), ..Self::of(transfer, Status::Skipped) }),
            Action::Conflict { found } => {
                let (found, pinned) = (found.short(), transfer.target_digest().short());
                let why = format!("it holds {found}, not the pinned {pinned}, and may not be replaced");
                let error = Error::new(Kind::Conflict, format!("set {}", transfer.target_text()), why);
                Some(Self::failed(transfer, error.at(Stage::Plan).on(Side::Target)))
            }
        }
    }

    /// The target holds it already.
    pub fn unchanged(transfer: &Transfer) -> Self {
        Self { reason: Some(Reason::Unchanged), ..Self::of(transfer, Status::UpToDate) }
    }

    /// `source` couldn't be resolved, and no target was asked.
    pub fn unresolved(source: String, error: Error) -> Self {
        let (status, reason) = end_of(&error);
        Self {
            source,
            digest: None,
            target: String::new(),
            mirrored: None,
            status,
            reason,
            bytes: Bytes::default(),
            spared: Spared::default(),
            referrers: Vec::new(),
            cached: None,
            seconds: 0.0,
            via: None,
            error: Some(error),
        }
    }

    /// Its status in a word for people; what was pulled through a cache was copied nowhere.
    pub fn word(&self) -> &'static str {
        match (&self.cached, self.status) {
            (Some(_), Status::Copied) => "warmed",
            _ => self.status.word(),
        }
    }

    /// Whether it isn't as it should be: failed, or in conflict.
    pub fn is_failure(&self) -> bool {
        matches!(self.status, Status::Failed | Status::Conflict)
    }

    /// Whether it failed without a word from its target.
    pub(super) fn target_is_silent(&self) -> bool {
        self.error.as_ref().is_some_and(|error| {
            self.status == Status::Failed
                && error.side() == Some(Side::Target)
                && error.status().is_none()
                && matches!(error.kind(), Kind::Unavailable | Kind::Configuration | Kind::Denied)
                && matches!(error.stage(), None | Some(Stage::Plan | Stage::Provision))
        })
    }

    /// Whether it failed before its target was asked anything.
    pub(super) fn target_is_unasked(&self) -> bool {
        self.error.as_ref().is_some_and(|error| error.stage() == Some(Stage::Resolve)) && self.digest.is_none()
    }
}

/// What an error makes of an image.
fn end_of(error: &Error) -> (Status, Option<Reason>) {
    match error.kind() {
        Kind::Conflict => (Status::Conflict, None),
        Kind::Interrupted => (Status::Skipped, Some(Reason::Interrupted)),
        Kind::QuotaExceeded if error.side() == Some(Side::Source) => (Status::Deferred, Some(Reason::QuotaUsed)),
        _ => (Status::Failed, None),
    }
}
