//! Pure tag selection: what `select:` selects from a list of tags.
//!
//! Filters come first, and all that are given must match: `glob` (at least one), `regex` (the whole tag), `semver`,
//! `exclude` (none). Then the tags are sorted, newest first, and `latest` is applied. Tags that registries use for
//! signatures and similar content (`is_candidate`) are never selected.
//!
//! The compared text is the tag or, if the regex has a group named `key`, that group. `select/version.rs` describes
//! how versions are parsed. Every order is total, so the same tags always give the same selection. A tag that the
//! order can't parse (no version for `semver`, no digit for `number`, no `key`) comes last.

mod only;
mod order;
mod version;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use regex::Regex;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use semver::VersionReq;
use serde::{Deserialize, Serialize};

use crate::oci::Tag;
pub use only::Only;
use order::Rank;
use version::Version;

/// A text, or a list of texts.
fn one_or_more(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "anyOf": [{ "type": "string" }, { "type": "array", "items": { "type": "string" } }] })
}

/// `select:` as it is written in mirror.yaml and in the lock; absent keys are left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Spec {
    /// One of these must match, if there are any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "one_or_more")]
    pub glob: Vec<String>,
    /// Must match the whole tag.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub regex: Option<String>,
    /// A requirement as in Cargo, `>=1.15, <1.17`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub semver: Option<String>,
    /// None of these may match.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "one_or_more")]
    pub exclude: Vec<String>,
    /// `semver` (unsaid), `number` or `text`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = ["semver", "number", "text", null]))]
    pub sort: Option<String>,
    /// How many of the newest; unsaid, all.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub latest: Option<u64>,
    /// How few are a failure; unsaid, 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub min: Option<u64>,
}

/// An error in one key of a [`Spec`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The key; empty for the whole spec.
    pub key: &'static str,
    /// The index, if the key holds a list.
    pub index: Option<usize>,
    /// The problem.
    pub message: String,
    /// How to fix it.
    pub hint: Option<String>,
}

impl Fault {
    fn new(key: &'static str, message: impl Into<String>) -> Self {
        Self { key, index: None, message: message.into(), hint: None }
    }
}

/// How tags are ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sort {
    Semver,
    Number,
    Text,
}

/// A valid `select:`. Equal if the text is equal. Cheap to clone.
#[derive(Clone)]
pub struct Selection(Arc<Inner>);

struct Inner {
    spec: Spec,
    glob: Option<GlobSet>,
    regex: Option<Regex>,
    semver: Option<VersionReq>,
    exclude: GlobSet,
    sort: Sort,
    latest: usize,
    min: usize,
}

/// The result of a selection, and how it was obtained.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picked {
    /// Newest first.
    pub tags: Vec<Tag>,
    /// What each step of the selection dropped, in the order of the steps.
    pub steps: Vec<Step>,
    /// The minimum number of tags; fewer are a failure.
    pub min: usize,
}

impl Picked {
    /// Whether there are enough tags.
    pub fn is_enough(&self) -> bool {
        self.tags.len() >= self.min
    }
}

/// One step of a selection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The step as text: `semver >=1.15, <1.17`.
    pub what: String,
    /// The tags that it dropped.
    pub dropped: Vec<Tag>,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 20;
        let names: Vec<&str> = self.dropped.iter().take(SHOWN).map(Tag::as_str).collect();
        let more = if self.dropped.len() > SHOWN { ", …" } else { "" };
        write!(f, "{} dropped {}", self.what, self.dropped.len())?;
        if names.is_empty() { Ok(()) } else { write!(f, ": {}{more}", names.join(", ")) }
    }
}

impl Selection {
    /// # Errors
    /// All errors in `spec`; at least one.
    pub fn new(spec: Spec) -> Result<Self, Vec<Fault>> {
        let mut faults = Vec::new();
        let glob = globs("glob", &spec.glob, &mut faults);
        let exclude = globs("exclude", &spec.exclude, &mut faults);
        let regex = spec.regex.as_deref().and_then(|text| regex(text, &mut faults));
        let semver = spec.semver.as_deref().and_then(|text| requirement(text, &mut faults));
        let sort = match spec.sort.as_deref() {
            None | Some("semver") => Sort::Semver,
            Some("number") => Sort::Number,
            Some("text") => Sort::Text,
            Some(other) => {
                let message = format!("`{other}` isn't an order: expected semver, number or text");
                faults.push(Fault::new("sort", message));
                Sort::Text
            }
        };
        if spec.glob.is_empty() && spec.regex.is_none() && spec.semver.is_none() && spec.latest.is_none() {
            faults.push(Fault {
                hint: Some("write glob: [\"*\"] to select every tag".into()),
                ..Fault::new("", "it selects nothing: expected at least one of glob, regex, semver, latest")
            });
        }
        for (key, value) in [("latest", spec.latest), ("min", spec.min)] {
            if value == Some(0) {
                faults.push(Fault::new(key, "expected 1 or more"));
            }
        }
        let min = spec.min.unwrap_or(1);
        if spec.latest.is_some_and(|latest| latest > 0 && latest < min) {
            faults.push(Fault::new("min", "it is more than latest, so the selection always fails"));
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        let count = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        let (latest, min) = (spec.latest.map_or(usize::MAX, count), count(min));
        let glob = (!spec.glob.is_empty()).then_some(glob);
        Ok(Self(Arc::new(Inner { spec, glob, regex, semver, exclude, sort, latest, min })))
    }

    /// As it was written.
    pub fn spec(&self) -> &Spec {
        &self.0.spec
    }

    /// Selects from `tags`, whatever their order.
    pub fn apply(&self, tags: &[Tag]) -> Picked {
        let Inner { spec, glob, regex, semver, exclude, sort, latest, min } = &*self.0;
        let mut sieve = Sieve { left: tags.iter().collect::<BTreeSet<_>>().into_iter().collect(), steps: Vec::new() };
        let list = |globs: &[String]| globs.join(", ");

        sieve.keep("tags of signatures and referrers", true, is_candidate);
        if let Some(glob) = glob {
            sieve.keep(format!("glob {}", list(&spec.glob)), false, |tag| glob.is_match(tag.as_str()));
        }
        if let Some(regex) = regex {
            let what = format!("regex {}", spec.regex.as_deref().unwrap_or_default());
            sieve.keep(what, false, |tag| regex.is_match(tag.as_str()));
        }
        if let Some(requirement) = semver {
            let holds = |tag: &Tag| self.key(tag).and_then(Version::read).is_some_and(|v| v.satisfies(requirement));
            sieve.keep(format!("semver {requirement}"), false, holds);
        }
        if !spec.exclude.is_empty() {
            sieve.keep(format!("exclude {}", list(&spec.exclude)), false, |tag| !exclude.is_match(tag.as_str()));
        }
        sieve.left.sort_by_cached_key(|tag| std::cmp::Reverse((Rank::of(self.key(tag), *sort), tag.as_str())));
        if let Some(number) = spec.latest {
            let dropped = sieve.left.split_off(sieve.left.len().min(*latest));
            sieve.step(format!("latest {number}"), &dropped);
        }
        Picked { tags: sieve.left.into_iter().cloned().collect(), steps: sieve.steps, min: *min }
    }

    /// The part of `tag` that is parsed as a version or number.
    fn key<'t>(&self, tag: &'t Tag) -> Option<&'t str> {
        match &self.0.regex {
            Some(regex) if regex.capture_names().any(|name| name == Some("key")) => {
                Some(regex.captures(tag.as_str())?.name("key")?.as_str())
            }
            _ => Some(tag.as_str()),
        }
    }
}

/// The tags that remain after the steps so far.
struct Sieve<'t> {
    left: Vec<&'t Tag>,
    steps: Vec<Step>,
}

impl<'t> Sieve<'t> {
    /// Keeps the tags for which `holds` is true. An implicit step is reported only if it dropped something.
    fn keep(&mut self, what: impl Into<String>, unasked: bool, holds: impl Fn(&Tag) -> bool) {
        let (left, dropped): (Vec<_>, Vec<_>) = std::mem::take(&mut self.left).into_iter().partition(|tag| holds(tag));
        self.left = left;
        if !(unasked && dropped.is_empty()) {
            self.step(what, &dropped);
        }
    }

    fn step(&mut self, what: impl Into<String>, dropped: &[&'t Tag]) {
        self.steps.push(Step { what: what.into(), dropped: dropped.iter().copied().cloned().collect() });
    }
}

/// Whether a tag can name an image: cosign's tags and the fallback tags of the referrers API name content that
/// belongs to one.
fn is_candidate(tag: &Tag) -> bool {
    let tag = tag.as_str();
    !tag.starts_with("sha256-")
        && !tag.starts_with("sha512-")
        && ![".sig", ".att", ".sbom"].iter().any(|suffix| tag.ends_with(suffix))
}

fn globs(key: &'static str, patterns: &[String], faults: &mut Vec<Fault>) -> GlobSet {
    let mut set = GlobSetBuilder::new();
    for (index, pattern) in patterns.iter().enumerate() {
        match GlobBuilder::new(pattern).build() {
            Ok(glob) => {
                set.add(glob);
            }
            Err(error) => {
                let message = format!("`{pattern}` isn't a glob: {}", error.kind());
                faults.push(Fault { index: Some(index), ..Fault::new(key, message) });
            }
        }
    }
    set.build().unwrap_or_else(|error| {
        faults.push(Fault::new(key, format!("the globs can't be combined: {error}")));
        GlobSet::empty()
    })
}

fn regex(text: &str, faults: &mut Vec<Fault>) -> Option<Regex> {
    // The pattern is parsed alone first: anchoring must not make `a)|(b` valid.
    let parsed = Regex::new(text).and_then(|_| Regex::new(&format!("^(?:{text})$")));
    parsed
        .map_err(|error| {
            // The crate displays the pattern on several lines; the last line has the error.
            let error = error.to_string();
            let why = error.lines().last().unwrap_or_default().trim_start_matches("error: ");
            faults.push(Fault::new("regex", format!("`{text}` isn't a regular expression: {why}")));
        })
        .ok()
}

fn requirement(text: &str, faults: &mut Vec<Fault>) -> Option<VersionReq> {
    text.parse()
        .map_err(|error| {
            let mut fault = Fault::new("semver", format!("`{text}` isn't a version requirement: {error}"));
            fault.hint = Some("write comparisons with a comma between them: \">=1.15, <1.17\"".into());
            faults.push(fault);
        })
        .ok()
}

impl PartialEq for Selection {
    fn eq(&self, other: &Self) -> bool {
        self.0.spec == other.0.spec
    }
}

impl Eq for Selection {}

impl fmt::Debug for Selection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.spec.fmt(f)
    }
}

#[cfg(test)]
mod tests;
