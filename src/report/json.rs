//! The report as one JSON document, version 1: keys are never renamed, and absent values are null.
//!
//! Keys of planned features exist already, so a reader need not check which version wrote a report.
//! `tests/data/golden-report.json` shows every key filled, and a test compares this file with it.

mod hosts;
mod images;

use std::collections::BTreeMap;

use jiff::{Timestamp, Unit};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Serialize;

use self::hosts::{Checked, ProxyCache, QuotaRow};
use self::images::Image;
use super::{Bytes, Change, Difference, Fatal, RegistryUse, Report, RepositoryOutcome, Status};
use crate::error::{Error, Kind, Side, Stage};

const VERSION: u32 = 1;
const SCHEMA: &str = "transship-report-1";
const TOOL: &str = concat!("transship ", env!("CARGO_PKG_VERSION"));

/// The result of a run, or why it couldn't start (`error`).
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Report")]
struct Document<'a> {
    /// The version of the document: while it stays the same, keys are added, but never renamed or redefined.
    version: u32,
    /// The version as a name.
    schema: &'static str,
    /// The program and its version.
    tool: &'static str,
    /// The verb; `transship` if the command line names none.
    command: &'a str,
    /// When the run started: RFC 3339, in UTC.
    started: String,
    /// The duration of the run.
    seconds: f64,
    /// The exit status.
    exit: u8,
    /// One entry for each image and target, in the order of mirror.yaml.
    images: Vec<Image>,
    /// The target repositories that were used.
    repositories: &'a [RepositoryOutcome],
    /// The configured proxy caches; null if they weren't checked.
    proxy_caches: Option<Vec<ProxyCache>>,
    /// The use of each registry.
    registries: &'a [RegistryUse],
    totals: Totals,
    /// Changed pins; null if this command changes none.
    changes: Option<&'a [Change]>,
    /// The differences, for `lock --check`, `verify` and `warm --check`; null elsewhere.
    differences: Option<&'a [Difference]>,
    /// The checks, for `check`; null elsewhere.
    checks: Option<Vec<Checked>>,
    /// The quotas, for `quota`; null elsewhere.
    quotas: Option<Vec<QuotaRow>>,
    /// Why the run couldn't start; null if it could.
    error: Option<&'a Fatal>,
}

/// The reason for a failure.
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

/// Totals of the run.
#[derive(Serialize, JsonSchema)]
struct Totals {
    /// The number of `images` with each status.
    images: BTreeMap<Status, usize>,
    /// In a plan: null if unknown for some images.
    bytes: Option<Bytes>,
    /// Manifest GETs that count against a quota; in a plan, a lower bound of those to come. For `warm`, an upper bound
    /// of the pulls that the caches took from their upstreams, or with `--check` would take.
    pulls: u64,
}

impl Report {
    /// The JSON schema of the document.
    pub(crate) fn schema(generator: &mut SchemaGenerator) -> Schema {
        generator.subschema_for::<Document<'_>>()
    }

    /// The report as a JSON document, with a trailing newline.
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
            quotas: self.quotas.as_ref().map(|quotas| quotas.iter().map(QuotaRow::of).collect()),
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
        // Every status has a count, including 0.
        let mut images: BTreeMap<_, _> = Status::ALL.into_iter().map(|status| (status, 0)).collect();
        self.outcomes.iter().for_each(|outcome| *images.entry(outcome.status).or_default() += 1);
        let bytes = match &self.plan {
            Some(plan) => plan.with_work().try_fold(Bytes::default(), |sum, transfer| Some(sum + transfer.cost.bytes?)),
            None => Some(self.bytes()),
        };
        Totals { images, bytes, pulls: self.pulls() }
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

/// To the millisecond.
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

    /// Every path in a document with the types found there: `images[].error.kind string`.
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
    fn every_key_has_the_place_and_type_of_the_golden_report() {
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
