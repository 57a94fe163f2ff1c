//! The report as one JSON document, version 1: keys are never renamed, and what is absent is null.
//!
//! Keys of later features are there from the start, so that a reader never has to ask which version wrote a report.
//! `tests/data/golden-report.json` shows each of them filled, and a test holds this file to it.

use std::collections::BTreeMap;

use jiff::{Timestamp, Unit};
use serde::Serialize;

use super::{
    Bytes, Change, Check, Difference, Outcome, Proof, Reason, ReferrerOutcome, RegistryUse, Report, RepositoryOutcome,
    Right, Status, known_outcome,
};
use crate::error::{Error, Kind, Side, Stage};
use crate::oci::Digest;
use crate::plan::{Action, Planned};

const VERSION: u32 = 1;
const SCHEMA: &str = "transship-report-1";
const TOOL: &str = concat!("transship ", env!("CARGO_PKG_VERSION"));

/// Stands for a key that a later feature fills.
type Later = Option<()>;

#[derive(Serialize)]
struct Document<'a> {
    version: u32,
    schema: &'static str,
    tool: &'static str,
    command: &'a str,
    started: String,
    seconds: f64,
    exit: u8,
    images: Vec<Image>,
    repositories: &'a [RepositoryOutcome],
    registries: &'a [RegistryUse],
    totals: Totals,
    changes: Option<&'a [Change]>,
    differences: Option<&'a [Difference]>,
    checks: Option<Vec<Checked>>,
}

#[derive(Serialize)]
struct Image {
    source: String,
    digest: Option<Digest>,
    /// `None` where no target was asked.
    target: Option<String>,
    mirrored: Option<Digest>,
    status: Option<Status>,
    reason: Option<Reason>,
    bytes: Amount,
    seconds: f64,
    referrers: Vec<Referred>,
    held: Later,
    verified: Later,
    error: Option<Failure>,
    #[serde(flatten)]
    planned: Option<Cost>,
}

/// What became of something that refers to the image.
#[derive(Serialize)]
struct Referred {
    digest: Option<Digest>,
    artifact_type: Option<String>,
    status: Status,
    error: Option<Failure>,
}

/// What was moved, by way; or what there is to move, as far as it is known.
#[derive(Serialize)]
#[serde(untagged)]
enum Amount {
    Moved(Bytes),
    Planned(Option<u64>),
}

/// What only an image of a plan has.
#[derive(Serialize)]
struct Cost {
    action: &'static str,
    pulls: u64,
    pulls_exact: bool,
}

#[derive(Serialize)]
struct Failure {
    stage: Option<Stage>,
    side: Option<Side>,
    kind: Kind,
    http_status: Option<u16>,
    attempts: u32,
    message: String,
    hint: Option<String>,
}

#[derive(Serialize)]
struct Checked {
    host: String,
    repository: Option<String>,
    action: Right,
    ok: Option<bool>,
    kind: Option<Kind>,
    message: Option<String>,
    hint: Option<String>,
}

#[derive(Serialize)]
struct Totals {
    images: BTreeMap<Status, usize>,
    bytes: Amount,
    pulls: u64,
}

impl Report {
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
            registries: &self.registries,
            totals: self.totals(),
            changes: self.changes.as_deref(),
            differences: self.differences.as_deref(),
            checks: self.checks.as_ref().map(|checks| checks.iter().map(Checked::of).collect()),
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
            Some(plan) => Amount::Planned(plan.with_work().map(|transfer| transfer.bytes).sum()),
            None => Amount::Moved(self.bytes()),
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
            bytes: Amount::Moved(outcome.bytes),
            seconds: milliseconds(outcome.seconds),
            referrers: outcome.referrers.iter().map(Referred::of).collect(),
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
                    Action::Copy | Action::Refer => "copy",
                    Action::Tag => "tag",
                    Action::UpToDate | Action::Kept { .. } => "none",
                    Action::Conflict { .. } => "conflict",
                };
                (Cost { action, pulls: transfer.pulls, pulls_exact: transfer.pulls_exact }, transfer.bytes)
            }
            Planned::Failed { .. } => (Cost { action: "none", pulls: 0, pulls_exact: true }, None),
        };
        let image = match (known_outcome(planned), planned) {
            (Some(outcome), _) => Self::done(outcome),
            (None, Planned::Image(transfer)) => {
                Self { status: None, ..Self::done(Outcome::of(transfer, Status::Skipped)) }
            }
            (None, Planned::Failed { .. }) => unreachable!("what has failed has an outcome"),
        };
        Self { bytes: Amount::Planned(bytes), planned: Some(cost), ..image }
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

impl Checked {
    fn of(check: &Check) -> Self {
        let error = check.error();
        let note = match &check.proof {
            Proof::Holds(note) => note.clone(),
            Proof::Unknown { why, .. } => Some(why.clone()),
            Proof::Fails(error) => Some(error.to_string()),
        };
        Self {
            host: check.host.clone(),
            repository: check.repository.clone(),
            action: check.right,
            ok: check.proof.ok(),
            kind: error.map(Error::kind),
            message: note,
            hint: check.proof.hint().map(str::to_owned),
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
