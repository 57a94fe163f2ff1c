//! The report as one JSON document, version 1: keys are never renamed, and what is absent is null.
//!
//! Keys of later features are there from the start, so that a reader never has to ask which version wrote a report.
//! `tests/data/golden-report.json` shows each of them filled, and a test holds this file to it.

mod hosts;

use std::collections::BTreeMap;

use jiff::{Timestamp, Unit};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Serialize;

use self::hosts::{Checked, ProxyCache, Told};
use super::{
    Bytes, CacheProof, Cached, CachedTag, Change, Difference, Fatal, Outcome, Reason, ReferrerOutcome, RegistryUse,
    Report, RepositoryOutcome, Status, known_outcome,
};
use crate::error::{Error, Kind, Side, Stage};
use crate::oci::Digest;
use crate::plan::{Action, Planned};

const VERSION: u32 = 1;
const SCHEMA: &str = "transship-report-1";
const TOOL: &str = concat!("transship ", env!("CARGO_PKG_VERSION"));

/// Stands for a key that a later feature fills.
type Later = Option<()>;

/// What a run did or found, or why it could not run (`error`).
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Report")]
struct Document<'a> {
    /// Of the document: keys are added, never renamed or given another meaning, as long as it stays the same.
    version: u32,
    /// The same as a name.
    schema: &'static str,
    /// The program and its version.
    tool: &'static str,
    /// The verb; `transship` where the command line names none.
    command: &'a str,
    /// When the run began: RFC 3339, in UTC.
    started: String,
    /// How long it took.
    seconds: f64,
    /// The exit status.
    exit: u8,
    /// One for each image and target, in the order of mirror.yaml.
    images: Vec<Image>,
    /// The target repositories that were needed.
    repositories: &'a [RepositoryOutcome],
    /// The proxy caches that mirror.yaml wants; null where they weren't looked at.
    proxy_caches: Option<Vec<ProxyCache>>,
    /// What was asked of each registry.
    registries: &'a [RegistryUse],
    totals: Totals,
    /// Pins that moved; null where none could.
    changes: Option<&'a [Change]>,
    /// What `lock --check`, `verify` and `warm --check` have found; null elsewhere.
    differences: Option<&'a [Difference]>,
    /// What `check` has found; null elsewhere.
    checks: Option<Vec<Checked>>,
    /// What `quota` has found; null elsewhere.
    quotas: Option<Vec<Told>>,
    /// Why it could not run; null if it could.
    error: Option<&'a Fatal>,
}

/// What became of one image at one target.
#[derive(Serialize, JsonSchema)]
struct Image {
    /// The canonical source, or the repository where no tag is known.
    source: String,
    /// What the lock pins; null if it couldn't be resolved.
    digest: Option<Digest>,
    /// The target reference; null where no target was asked.
    target: Option<String>,
    /// The digest at the target, where it differs from `digest`.
    mirrored: Option<Digest>,
    /// Of a plan, null where there is work to do.
    status: Option<Status>,
    reason: Option<Reason>,
    /// Of a plan, what sync would do; null while that isn't known.
    bytes: Option<Bytes>,
    /// From the start of its work to the end, waiting included.
    seconds: f64,
    /// The host that gave the root manifest, where it was read in this run and not from the source's own registry.
    via: Option<String>,
    /// What refers to the image, or to what it consists of.
    referrers: Vec<Referred>,
    /// Where the target is a pull-through cache: what is known of the image there; null elsewhere.
    cache: Option<AtCache>,
    /// Null: for a later version.
    held: Later,
    /// Null: for a later version.
    verified: Later,
    error: Option<Failure>,
    #[serde(flatten)]
    planned: Option<Cost>,
}

/// What became of something that refers to the image.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Referrer")]
struct Referred {
    digest: Option<Digest>,
    artifact_type: Option<String>,
    status: Status,
    error: Option<Failure>,
}

/// What is known of an image at a pull-through cache.
#[derive(Serialize, JsonSchema)]
struct AtCache {
    proof: CacheProof,
    /// Its indexes that are kept under another digest: to their own only the upstream answers.
    only_upstream: Vec<Digest>,
    /// Whether the tag names what is pinned: `as_pinned`, `moved` or `gone`; null without a tag.
    tag: Option<&'static str>,
    /// What a tag that has moved names.
    tag_digest: Option<Digest>,
}

/// What only an image of a plan has.
#[derive(Serialize, JsonSchema)]
struct Cost {
    action: Step,
    /// Manifest GETs that count against a quota of the source.
    pulls: u64,
    /// Whether `pulls` is all; else it is the least.
    pulls_exact: bool,
}

/// What sync would do for an image.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "Action")]
enum Step {
    /// Copy what the target lacks.
    Copy,
    /// Set the tag: all else is there.
    Tag,
    /// Nothing.
    None,
    /// Put it off: too few pulls are left of the source's quota.
    Defer,
    /// Nothing: the tag holds something else, and may not be replaced.
    Conflict,
}

/// Why something failed.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Error")]
struct Failure {
    stage: Option<Stage>,
    side: Option<Side>,
    kind: Kind,
    http_status: Option<u16>,
    attempts: u32,
    message: String,
    /// The next step.
    hint: Option<String>,
}

/// The run in numbers.
#[derive(Serialize, JsonSchema)]
struct Totals {
    /// How many of `images` have each status.
    images: BTreeMap<Status, usize>,
    /// Of a plan, null while it isn't known of all images.
    bytes: Option<Bytes>,
    /// Manifest GETs that counted against a quota, or of a plan those that will, at least. Of `warm`, those that the caches took
    /// of their upstreams, at most, and with `--check` those that they would take.
    pulls: u64,
}

impl Report {
    /// The JSON schema of the document.
    pub(crate) fn schema(generator: &mut SchemaGenerator) -> Schema {
        generator.subschema_for::<Document<'_>>()
    }

    /// The report as a JSON document, with a newline at its end.
    pub fn to_json(&self) -> String {
        let document = Document {
            version: VERSION,
            schema: SCHEMA,
            tool: TOOL,
            command: &self.command,
            started: rfc3339(self.started),
            seconds: milliseconds(self.seconds),
            exit: self.exit().code(),
            images: self.images(),
            repositories: &self.repositories,
            proxy_caches: self.proxy_caches.as_ref().map(|caches| caches.iter().map(ProxyCache::of).collect()),
            registries: &self.registries,
            totals: self.totals(),
            changes: self.changes.as_deref(),
            differences: self.differences.as_deref(),
            checks: self.checks.as_ref().map(|checks| checks.iter().map(Checked::of).collect()),
            quotas: self.quotas.as_ref().map(|quotas| quotas.iter().map(Told::of).collect()),
            error: self.fatal.as_ref(),
        };
        let mut text = serde_json::to_string_pretty(&document).expect("strings and numbers can be written as JSON");
        text.push('\n');
        text
    }

    fn images(&self) -> Vec<Image> {
        match &self.plan {
            Some(plan) => plan.images.iter().map(Image::planned).collect(),
            None => self.outcomes.iter().map(|outcome| Image::done(outcome.clone())).collect(),
        }
    }

    fn totals(&self) -> Totals {
        // Each status has its count, even if that is 0.
        let mut images: BTreeMap<_, _> = Status::ALL.into_iter().map(|status| (status, 0)).collect();
        self.outcomes.iter().for_each(|outcome| *images.entry(outcome.status).or_default() += 1);
        let bytes = match &self.plan {
            Some(plan) => plan.with_work().try_fold(Bytes::default(), |sum, transfer| Some(sum + transfer.cost.bytes?)),
            None => Some(self.bytes()),
        };
        Totals { images, bytes, pulls: self.pulls() }
    }
}

impl Image {
    fn done(outcome: Outcome) -> Self {
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

    /// An image of a plan has a status only where work can't change it any more.
    fn planned(planned: &Planned) -> Self {
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
            (None, Planned::Failed { .. }) => unreachable!("what has failed has an outcome"),
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

impl Failure {
    fn of(error: &Error) -> Self {
        Self {
            stage: error.stage(),
            side: error.side(),
            kind: error.kind(),
            http_status: error.status(),
            attempts: error.attempts(),
            message: error.to_string(),
            hint: error.hint().map(str::to_owned),
        }
    }
}

/// To the millisecond: what is finer is noise.
fn rfc3339(time: Timestamp) -> String {
    time.round(Unit::Millisecond).unwrap_or(time).to_string()
}

fn milliseconds(seconds: f64) -> f64 {
    (seconds * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::super::samples;
    use super::*;

    const GOLDEN: &str = include_str!("../../tests/data/golden-report.json");

    /// Every place in a document with the types found there: `images[].error.kind string`.
    fn shape(value: &Value, place: &str, into: &mut BTreeSet<String>) {
        let kind = match value {
            Value::Null => "null",
            Value::Bool(_) => "bool",
            Value::Number(_) => "number",
            Value::String(_) => "string",
            Value::Array(items) => {
                items.iter().for_each(|item| shape(item, &format!("{place}[]"), into));
                "array"
            }
            Value::Object(entries) => {
                entries.iter().for_each(|(key, item)| shape(item, &format!("{place}.{key}"), into));
                "object"
            }
        };
        into.insert(format!("{place} {kind}"));
    }

    fn golden() -> BTreeSet<String> {
        let mut golden = BTreeSet::new();
        for document in serde_json::from_str::<Vec<Value>>(GOLDEN).unwrap() {
            shape(&document, "", &mut golden);
        }
        golden
    }

    #[test]
    fn every_key_is_where_the_golden_report_has_it() {
        let golden = golden();
        for report in samples::all() {
            let mut ours = BTreeSet::new();
            shape(&serde_json::from_str(&report.to_json()).unwrap(), "", &mut ours);
            let strange: Vec<_> = ours.difference(&golden).collect();
            assert!(strange.is_empty(), "{}: {strange:#?}", report.command);
        }
    }

    #[test]
    fn the_golden_reports_have_all_keys_of_the_envelope_and_all_words() {
        let documents: Vec<Value> = serde_json::from_str(GOLDEN).unwrap();
        let ours: Value = serde_json::from_str(&samples::sync().to_json()).unwrap();
        let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
        for document in &documents {
            assert_eq!(keys(document), keys(&ours), "{}", document["command"]);
            assert_eq!(keys(&document["totals"]["images"]), keys(&ours["totals"]["images"]));
        }
        for status in Status::ALL {
            let name = serde_json::to_value(status).unwrap();
            let mut all = 0;
            for document in &documents {
                let images = document["images"].as_array().unwrap();
                let images = images.iter().filter(|image| image["status"] == name).count();
                assert_eq!(
                    document["totals"]["images"][name.as_str().unwrap()],
                    images,
                    "{} {name}",
                    document["command"]
                );
                all += images;
            }
            assert!(all > 0, "no image is {name}");
        }
    }
}
