//! Rows about images and their referrers.

use schemars::JsonSchema;
use serde::Serialize;

use super::{Failure, milliseconds};
use crate::oci::Digest;
use crate::plan::{Action, Planned};
use crate::report::{Bytes, CacheProof, Cached, CachedTag, Outcome, Reason, ReferrerOutcome, Status, known_outcome};

/// The value of a key for a later feature.
type Later = Option<()>;

/// The outcome of one image at one target.
#[derive(Serialize, JsonSchema)]
pub(super) struct Image {
    /// The canonical source reference; the repository if no tag is known.
    source: String,
    /// The digest in the lock; null if it couldn't be resolved.
    digest: Option<Digest>,
    /// The target reference; null if no target was contacted.
    target: Option<String>,
    /// The digest at the target, if it differs from `digest`.
    mirrored: Option<Digest>,
    /// In a plan: null if there is work to do.
    status: Option<Status>,
    reason: Option<Reason>,
    /// In a plan: the action of sync; null if unknown.
    bytes: Option<Bytes>,
    /// The duration from the start of its work to the end, including waits.
    seconds: f64,
    /// The host that served the root manifest, if it was read in this run from a host other than the source's registry.
    via: Option<String>,
    /// The referrers of the image and of its members.
    referrers: Vec<Referred>,
    /// The state at a pull-through cache; null for other targets.
    cache: Option<AtCache>,
    /// Null; for a later version.
    held: Later,
    /// Null; for a later version.
    verified: Later,
    error: Option<Failure>,
    #[serde(flatten)]
    planned: Option<Cost>,
}

/// The outcome of one referrer.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Referrer")]
struct Referred {
    digest: Option<Digest>,
    artifact_type: Option<String>,
    status: Status,
    error: Option<Failure>,
}

/// The state of an image at a pull-through cache.
#[derive(Serialize, JsonSchema)]
struct AtCache {
    proof: CacheProof,
    /// Indexes that are stored under a different digest. Only the upstream answers to the original digest.
    only_upstream: Vec<Digest>,
    /// Whether the tag names the pinned digest: `as_pinned`, `moved` or `gone`; null without a tag.
    tag: Option<&'static str>,
    /// The digest of a tag that has moved.
    tag_digest: Option<Digest>,
}

/// Keys of images in a plan.
#[derive(Serialize, JsonSchema)]
struct Cost {
    action: Step,
    /// Manifest GETs that count against a quota of the source.
    pulls: u64,
    /// Whether `pulls` is exact; otherwise it is a lower bound.
    pulls_exact: bool,
}

/// The action of sync for an image.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "Action")]
enum Step {
    /// Copy missing content.
    Copy,
    /// Set the tag; all content exists.
    Tag,
    /// Nothing.
    None,
    /// Defer it: the source's quota has too few pulls left.
    Defer,
    /// Nothing: the tag holds something else and must not be replaced.
    Conflict,
}

impl Image {
    pub(super) fn done(outcome: Outcome) -> Self {
        Self {
            source: outcome.source,
            digest: outcome.digest,
            target: Some(outcome.target).filter(|target| !target.is_empty()),
            mirrored: outcome.mirrored,
            status: Some(outcome.status),
            reason: outcome.reason,
            bytes: Some(outcome.bytes),
            seconds: milliseconds(outcome.seconds),
            via: outcome.via,
            referrers: outcome.referrers.iter().map(Referred::of).collect(),
            cache: outcome.cached.as_ref().map(AtCache::of),
            held: None,
            verified: None,
            error: outcome.error.as_ref().map(Failure::of),
            planned: None,
        }
    }

    /// In a plan, an image has a status only if no work is left for it.
    pub(super) fn planned(planned: &Planned) -> Self {
        let (cost, bytes) = match planned {
            Planned::Image(transfer) => {
                let action = match transfer.action {
                    _ if transfer.cost.put_off.is_some() => Step::Defer,
                    Action::Copy | Action::Refer => Step::Copy,
                    Action::Tag => Step::Tag,
                    Action::UpToDate | Action::Kept { .. } => Step::None,
                    Action::Conflict { .. } => Step::Conflict,
                };
                (
                    Cost { action, pulls: transfer.cost.pulls, pulls_exact: transfer.cost.pulls_exact },
                    transfer.cost.bytes,
                )
            }
            Planned::Failed { .. } => (Cost { action: Step::None, pulls: 0, pulls_exact: true }, None),
        };
        let image = match (known_outcome(planned), planned) {
            (Some(outcome), _) => Self::done(outcome),
            (None, Planned::Image(transfer)) => {
                let error = transfer.cost.put_off.as_ref().map(Failure::of);
                Self { status: None, reason: None, error, ..Self::done(Outcome::of(transfer, Status::Skipped)) }
            }
            (None, Planned::Failed { .. }) => unreachable!("a failed image has an outcome"),
        };
        Self { bytes, planned: Some(cost), ..image }
    }
}

impl Referred {
    fn of(outcome: &ReferrerOutcome) -> Self {
        let ReferrerOutcome { referrer, status, error } = outcome;
        Self {
            digest: referrer.as_ref().map(|referrer| referrer.digest.clone()),
            artifact_type: referrer.as_ref().and_then(|referrer| referrer.kind()).map(ToOwned::to_owned),
            status: *status,
            error: error.as_ref().map(Failure::of),
        }
    }
}

impl AtCache {
    fn of(cached: &Cached) -> Self {
        let Cached { proof, only_upstream, tag } = cached;
        Self {
            proof: *proof,
            only_upstream: only_upstream.clone(),
            tag: tag.as_ref().map(CachedTag::word),
            tag_digest: tag.as_ref().and_then(CachedTag::moved_to).cloned(),
        }
    }
}
