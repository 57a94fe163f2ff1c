//! The outcome of one image at one target.

use schemars::JsonSchema;
use serde::Serialize;

use super::Cached;
use crate::error::{Error, Kind, Side, Stage};
use crate::oci::{Digest, Referrer};
use crate::plan::{Action, Bytes, Planned, Spared, Transfer};

/// The status of an image. The JSON report uses `snake_case`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It was copied.
    Copied,
    /// The target had it already.
    UpToDate,
    /// It waits for a condition on its pin; nothing is wrong.
    Held,
    /// It was deferred because a quota is used up.
    Deferred,
    /// The target's tag holds something else and must not be replaced.
    Conflict,
    /// It isn't at the target as it should be.
    Failed,
    /// It was skipped on purpose.
    Skipped,
    /// The target doesn't hold what the lock pins, and the command changes nothing.
    Differs,
    /// It couldn't be determined whether there are any. Only for referrers.
    Unknown,
}

impl Status {
    /// All statuses that an image can have, from good to bad.
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

/// Why no work was done for an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The target holds what the lock pins.
    Unchanged,
    /// The upstream image is younger than required.
    TooNew,
    /// The source's pull quota is used up.
    QuotaUsed,
    /// The run was interrupted.
    Interrupted,
    /// The target's tag holds something else and is kept.
    Kept,
    /// The target doesn't hold what the lock pins, and the command changes nothing.
    Differs,
}

/// The outcome of one referrer of an image.
#[derive(Debug, Clone)]
pub struct ReferrerOutcome {
    /// The referrer; `None` if it is unknown whether there is any.
    pub referrer: Option<Referrer>,
    /// Its status.
    pub status: Status,
    /// The error, if it failed.
    pub error: Option<Error>,
}

impl ReferrerOutcome {
    /// `referrer`, or content that is `kept` in its place, is at the target.
    pub(crate) fn seen(referrer: &Referrer, kept: bool) -> Self {
        let status = if kept { Status::Skipped } else { Status::UpToDate };
        Self { referrer: Some(referrer.clone()), status, error: None }
    }

    /// The source refused to list the referrers, with `error`.
    pub(crate) fn unknown(error: Error) -> Self {
        Self { referrer: None, status: Status::Unknown, error: Some(error) }
    }
}

/// The outcome of one image at one target.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The canonical source reference; the repository if no tag is known.
    pub source: String,
    /// The pinned digest; `None` if it couldn't be resolved.
    pub digest: Option<Digest>,
    /// The target reference or repository.
    pub target: String,
    /// The digest at the target, if it differs from `digest`.
    pub mirrored: Option<Digest>,
    /// Its status.
    pub status: Status,
    /// Why no work was done.
    pub reason: Option<Reason>,
    /// The bytes that were copied, and those that didn't need to be.
    pub bytes: Bytes,
    /// Pulls of its source that weren't needed, for this image or for others of the same repository.
    pub spared: Spared,
    /// The outcomes of its referrers and of those of its members.
    pub referrers: Vec<ReferrerOutcome>,
    /// Its state, if the target is a pull-through cache.
    pub cached: Option<Cached>,
    /// The duration from the start of its work to the end, including waits.
    pub seconds: f64,
    /// The host that served the root manifest, if it was read in this run from a host other than the source's registry.
    pub via: Option<String>,
    /// The error, if it failed.
    pub error: Option<Error>,
}

impl Outcome {
    /// `transfer` ended with `status`. If its pin couldn't be updated, it counts as failed or deferred.
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

    /// `transfer` ended with `error`. Its kind distinguishes conflicts and interruptions from failures.
    pub fn failed(transfer: &Transfer, error: Error) -> Self {
        let (status, reason) = end_of(&error);
        Self { status, reason, error: Some(error), ..Self::of(transfer, status) }
    }

    /// `transfer` wasn't finished because the run was interrupted.
    pub fn interrupted(transfer: &Transfer) -> Self {
        let attempted = format!("copy {} to {}", transfer.source, transfer.target_text());
        let why = "the run was interrupted before it was finished";
        Self::failed(transfer, Error::new(Kind::Interrupted, attempted, why).at(Stage::Copy))
    }

    /// The outcome of an image without work; `None` if there is work to do.
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
                // The plan has requested them.
                referrers: transfer
                    .wanted_referrers()
                    .map(|one| ReferrerOutcome::seen(one, transfer.left.contains(one)))
                    .collect(),
                ..Self::unchanged(transfer)
            }),
            Action::Kept { .. } => Some(Self { reason: Some(Reason::Kept), ..Self::of(transfer, Status::Skipped) }),
            Action::Conflict { found } => {
                let (found, pinned) = (found.short(), transfer.target_digest().short());
                let why = format!("it holds {found}, not the pinned {pinned}, and must not be replaced");
                let error = Error::new(Kind::Conflict, format!("set {}", transfer.target_text()), why);
                Some(Self::failed(transfer, error.at(Stage::Plan).on(Side::Target)))
            }
        }
    }

    /// The target holds it already.
    pub fn unchanged(transfer: &Transfer) -> Self {
        Self { reason: Some(Reason::Unchanged), ..Self::of(transfer, Status::UpToDate) }
    }

    /// `source` couldn't be resolved, so no target was contacted.
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

    /// The status as a word in text reports. An image that was pulled through a cache wasn't copied.
    pub fn word(&self) -> &'static str {
        match (&self.cached, self.status) {
            (Some(_), Status::Copied) => "warmed",
            _ => self.status.word(),
        }
    }

    /// Whether it failed or conflicts.
    pub fn is_failure(&self) -> bool {
        matches!(self.status, Status::Failed | Status::Conflict)
    }

    /// Whether it failed without an answer from its target.
    pub(super) fn target_is_silent(&self) -> bool {
        self.error.as_ref().is_some_and(|error| {
            self.status == Status::Failed
                && error.side() == Some(Side::Target)
                && error.status().is_none()
                && matches!(error.kind(), Kind::Unavailable | Kind::Configuration | Kind::Denied)
                && matches!(error.stage(), None | Some(Stage::Plan | Stage::Provision))
        })
    }

    /// Whether it failed before its target was contacted.
    pub(super) fn target_is_unasked(&self) -> bool {
        self.error.as_ref().is_some_and(|error| error.stage() == Some(Stage::Resolve)) && self.digest.is_none()
    }
}

/// The status and reason that an error causes.
fn end_of(error: &Error) -> (Status, Option<Reason>) {
    match error.kind() {
        Kind::Conflict => (Status::Conflict, None),
        Kind::Interrupted => (Status::Skipped, Some(Reason::Interrupted)),
        Kind::QuotaExceeded if error.side() == Some(Side::Source) => (Status::Deferred, Some(Reason::QuotaUsed)),
        _ => (Status::Failed, None),
    }
}
