//! How images are mirrored: the keys that an entry and `defaults` share, and how they are merged. Each key is
//! merged separately: an entry overrides `defaults`, which override the built-in values.

use super::findings::Findings;
use super::raw::{RawDefaults, RawImageMap};
use super::{Foreign, Handling, MissingAttestations, Overwrite, ReferrerPolicy};
use crate::oci::Platform;
use crate::yaml::KeyPath;

/// The keys as they are written.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Written<'a> {
    overwrite: Option<&'a str>,
    platforms: Option<&'a [String]>,
    referrers: Option<&'a str>,
    artifact_types: Option<&'a [String]>,
    foreign: Option<&'a str>,
    missing_attestations: Option<&'a str>,
}

/// Both maps have these fields. With serde's `flatten`, unknown keys and positions would be lost.
macro_rules! written_in {
    ($($map:ty),+) => {$(
        impl<'a> From<&'a $map> for Written<'a> {
            fn from(map: &'a $map) -> Self {
                Self {
                    overwrite: map.overwrite.as_deref(),
                    platforms: map.platforms.as_deref(),
                    referrers: map.referrers.as_deref(),
                    artifact_types: map.artifact_types.as_deref(),
                    foreign: map.foreign.as_deref(),
                    missing_attestations: map.missing_attestations.as_deref(),
                }
            }
        }
    )+};
}
written_in!(RawDefaults, RawImageMap);

const OVERWRITE: [(&str, Overwrite); 3] =
    [("true", Overwrite::Replace), ("false", Overwrite::Refuse), ("keep", Overwrite::Keep)];
const REFERRERS: [(&str, ReferrerPolicy); 3] =
    [("all", ReferrerPolicy::All), ("none", ReferrerPolicy::None), ("require", ReferrerPolicy::Require)];
const FOREIGN: [(&str, Foreign); 2] = [("fetch", Foreign::Fetch), ("fail", Foreign::Fail)];
const MISSING_ATTESTATIONS: [(&str, MissingAttestations); 2] =
    [("fail", MissingAttestations::Fail), ("drop", MissingAttestations::Drop)];

/// `base` with the values that are `written` in the map at `path`.
pub(super) fn merged(base: &Handling, written: Written<'_>, path: &KeyPath, findings: &mut Findings<'_>) -> Handling {
    let mut handling = base.clone();
    if let Some(overwrite) = one_of(&OVERWRITE, written.overwrite, &path.key("overwrite"), findings) {
        handling.overwrite = overwrite;
    }
    if let Some(texts) = written.platforms {
        handling.platforms = platforms(texts, &path.key("platforms"), findings);
    }
    if let Some(policy) = one_of(&REFERRERS, written.referrers, &path.key("referrers"), findings) {
        handling.referrers.policy = policy;
    }
    if let Some(texts) = written.artifact_types {
        let path = path.key("artifact_types");
        handling.referrers.artifact_types = artifact_types(texts, &path, findings);
        if handling.referrers.policy == ReferrerPolicy::None {
            let hint = "remove it, or set referrers: all";
            findings.add_hint(&path, "it selects referrers, but referrers: none mirrors none", hint);
        }
    }
    if let Some(foreign) = one_of(&FOREIGN, written.foreign, &path.key("foreign"), findings) {
        handling.foreign = foreign;
    }
    let (text, key) = (written.missing_attestations, path.key("missing_attestations"));
    if let Some(missing) = one_of(&MISSING_ATTESTATIONS, text, &key, findings) {
        handling.missing_attestations = missing;
    }
    handling
}

/// The value that `text` stands for; `None` if it is missing or invalid.
fn one_of<T: Copy>(words: &[(&str, T)], text: Option<&str>, path: &KeyPath, findings: &mut Findings<'_>) -> Option<T> {
    let text = text?;
    let known = words.iter().find(|(word, _)| *word == text).map(|(_, meaning)| *meaning);
    if known.is_none() {
        let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let (last, others) = words.split_last().map_or(("", &[][..]), |(last, others)| (*last, others));
        findings.add(path, format!("`{text}` isn't supported: expected {} or {last}", others.join(", ")));
    }
    known
}

/// The platforms, sorted, so that the same set gives the same pin. `[all]` overrides `defaults` and gives no list.
fn platforms(texts: &[String], path: &KeyPath, findings: &mut Findings<'_>) -> Vec<Platform> {
    let all = "write platforms: [all] to mirror all of them";
    if texts.is_empty() {
        findings.add_hint(path, "the list is empty", all);
    }
    if texts == ["all"] {
        return Vec::new();
    }
    let mut platforms: Vec<Platform> = Vec::new();
    for (index, text) in texts.iter().enumerate() {
        let path = path.index(index);
        match text.parse::<Platform>() {
            _ if text == "all" => findings.add_hint(&path, "`all` is listed with other platforms", all),
            Err(why) => findings.add_hint(
                &path,
                why,
                "write it as in an index: linux/amd64, linux/arm/v7, windows(10.0.17763)/amd64",
            ),
            Ok(platform) if platforms.contains(&platform) => {
                findings.add_hint(&path, format!("the platform `{platform}` is listed twice"), "remove one of them");
            }
            Ok(platform) => platforms.push(platform),
        }
    }
    platforms.sort();
    platforms
}

fn artifact_types(texts: &[String], path: &KeyPath, findings: &mut Findings<'_>) -> Vec<String> {
    if texts.is_empty() {
        findings.add_hint(path, "the list is empty", "remove the key for all types, or write referrers: none for none");
    }
    for (index, text) in texts.iter().enumerate() {
        let path = path.index(index);
        let is_type = text.split_once('/').is_some_and(|(one, other)| !one.is_empty() && !other.is_empty());
        if !is_type || text.contains(|c: char| c.is_whitespace() || c == ';') {
            let hint = "write a media type, such as application/vnd.dev.cosign.artifact.sig.v1+json";
            findings.add_hint(&path, format!("`{text}` isn't an artifact type"), hint);
        } else if texts[..index].contains(text) {
            findings.add_hint(&path, format!("the artifact type `{text}` is listed twice"), "remove one of them");
        }
    }
    texts.to_vec()
}
