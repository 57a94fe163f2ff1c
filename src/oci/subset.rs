//! The part of an index that is for some platforms: a new index with a new digest.
//!
//! # The rule, version 1
//!
//! The digest of a subset is pinned in locks and set at targets, so the same index and the same platforms have to
//! give the same bytes on every machine, permanently. Any change to this rule has to be a version 2 beside it.
//!
//! 1. An entry of `manifests` is kept if its `platform` matches a wanted one ([`Platform::matches`]), or if it is
//!    an attestation of such an entry: its annotation `vnd.docker.reference.digest` names an entry that is kept for
//!    its platform. A nested index is an entry like any other: it is kept, whole, if its own `platform` matches.
//! 2. If every entry is kept, the subset is the index itself, with unchanged bytes.
//! 3. Otherwise its bytes are `{`, the members of the index in order, each as its name, `:` and its value,
//!    separated by `,`, and `}`. Names and values are the bytes of the index, without the white space around them.
//!    Only the value of `manifests` differs: `[`, the bytes of the kept entries in order, separated by `,`, and
//!    `]`.
//! 4. The media type stays, and the digest is SHA-256.
//!
//! Nothing is ever decoded and encoded again: numbers, escapes, unknown members and white space inside values stay.
//! An index with a duplicate member is refused, as readers disagree on its meaning.

mod attestations;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::manifest::Kind;
use super::members::Members;
use super::{Digest, Manifest, ManifestError, MediaType, Platform};

/// The part of a manifest that is for some platforms.
#[derive(Debug, Clone)]
pub struct Subset {
    /// The reduced manifest, or the original if nothing was left out.
    pub manifest: Manifest,
    /// Entries without a platform that were left out, by digest and media type.
    pub nameless: Vec<(Digest, MediaType)>,
    /// Wanted platforms that the index lacks.
    pub missing: Vec<Platform>,
}

/// Why there is no subset.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubsetError {
    /// The index has none of the platforms.
    #[error("it has no {}: it has {}", listed(.wanted), listed(.found))]
    NoMatch {
        /// The wanted platforms.
        wanted: Vec<Platform>,
        /// The platforms of the index, each once.
        found: Vec<Platform>,
    },
    /// It can't be reduced byte for byte.
    #[error("it isn't an index with platforms: {0}")]
    Invalid(String),
}

/// Platforms for a message.
pub(crate) fn listed(platforms: &[Platform]) -> String {
    if platforms.is_empty() {
        return "no platforms at all".to_owned();
    }
    platforms.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// The data that decides about an entry.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    digest: Digest,
    media_type: MediaType,
    #[serde(default)]
    platform: Value,
    #[serde(default)]
    annotations: Value,
}

impl Entry {
    fn is_for(&self, wanted: &[Platform]) -> bool {
        Platform::listed(&self.platform).is_some_and(|listed| wanted.iter().any(|one| one.matches(&listed)))
    }

    /// The digest of the image that it attests.
    fn reference(&self) -> Option<&str> {
        self.annotations["vnd.docker.reference.digest"].as_str()
    }
}

impl Manifest {
    /// The purpose of `child` according to the index, as text: a platform, or an attestation.
    pub(crate) fn purpose_of(&self, child: &Digest) -> Option<String> {
        let index: Value = serde_json::from_slice(self.bytes()).ok()?;
        let listed = index["manifests"].as_array()?.iter().find(|entry| entry["digest"] == child.as_str())?;
        if listed["annotations"]["vnd.docker.reference.type"] == "attestation-manifest" {
            return Some("as an attestation".to_owned());
        }
        Platform::listed(&listed["platform"]).map(|platform| format!("for {platform}"))
    }

    /// The part of it that is for `wanted`, by the rule above. A manifest that isn't an index has no parts, and an
    /// empty `wanted` selects everything: both are returned unchanged.
    ///
    /// # Errors
    /// [`SubsetError`] if it has none of `wanted`, or can't be reduced byte for byte.
    pub fn subset(&self, wanted: &[Platform]) -> Result<Subset, SubsetError> {
        let whole = || Subset { manifest: self.clone(), nameless: Vec::new(), missing: Vec::new() };
        if wanted.is_empty() || self.kind() != Kind::Index {
            return Ok(whole());
        }
        let members = members(self.bytes())?;
        let raw = raw_entries(&members)?;
        let entries = entries(&raw)?;
        let keep = kept(&entries, wanted);
        let missing: Vec<Platform> =
            wanted.iter().filter(|one| !entries.iter().any(|entry| entry.is_for(&[(*one).clone()]))).cloned().collect();
        if missing.len() == wanted.len() {
            return Err(SubsetError::NoMatch { wanted: wanted.to_vec(), found: found(&entries) });
        }
        if keep.iter().all(|keep| *keep) {
            return Ok(Subset { missing, ..whole() });
        }
        Ok(Subset { manifest: self.cut(&members, &raw, &keep)?, nameless: nameless(&entries, &keep), missing })
    }

    /// The index with only the kept entries.
    fn cut(&self, members: &[Member<'_>], raw: &[&RawValue], keep: &[bool]) -> Result<Self, SubsetError> {
        let kept = raw.iter().zip(keep).filter(|(_, keep)| **keep).map(|(entry, _)| entry.get());
        let manifests = format!("[{}]", kept.collect::<Vec<_>>().join(","));
        let bytes = joined(members, &manifests);
        let manifest = Self::new(Digest::of(&bytes), Some(self.media_type().as_str()), bytes);
        manifest.map_err(|error: ManifestError| SubsetError::Invalid(error.to_string()))
    }
}

/// A member's decoded name, and the raw name and value.
type Member<'a> = (String, (&'a RawValue, &'a RawValue));

fn members(bytes: &[u8]) -> Result<Vec<Member<'_>>, SubsetError> {
    let Members(raw) = serde_json::from_slice::<Members<&RawValue, &RawValue>>(bytes).map_err(invalid)?;
    let mut members: Vec<Member<'_>> = Vec::new();
    for member in raw {
        let name: String = serde_json::from_str(member.0.get()).map_err(invalid)?;
        if members.iter().any(|(other, _)| *other == name) {
            return Err(SubsetError::Invalid(format!("the member `{name}` is listed twice")));
        }
        members.push((name, member));
    }
    Ok(members)
}

fn raw_entries<'a>(members: &[Member<'a>]) -> Result<Vec<&'a RawValue>, SubsetError> {
    let manifests = members.iter().find(|(name, _)| name == "manifests").map(|(_, (_, value))| value.get());
    serde_json::from_str(manifests.unwrap_or("[]")).map_err(invalid)
}

fn entries(raw: &[&RawValue]) -> Result<Vec<Entry>, SubsetError> {
    raw.iter().map(|entry| serde_json::from_str(entry.get())).collect::<Result<_, _>>().map_err(invalid)
}

/// Which entries are kept.
fn kept(entries: &[Entry], wanted: &[Platform]) -> Vec<bool> {
    let chosen: Vec<&str> =
        entries.iter().filter(|entry| entry.is_for(wanted)).map(|entry| entry.digest.as_str()).collect();
    let attests = |entry: &Entry| entry.reference().is_some_and(|of| chosen.contains(&of));
    entries.iter().map(|entry| entry.is_for(wanted) || attests(entry)).collect()
}

/// Entries without a platform that are left out, except attestations, for which that is expected.
fn nameless(entries: &[Entry], keep: &[bool]) -> Vec<(Digest, MediaType)> {
    let dropped = entries.iter().zip(keep).filter(|(_, keep)| !**keep).map(|(entry, _)| entry);
    let is_named = |entry: &Entry| Platform::listed(&entry.platform).is_some_and(|platform| !platform.is_unknown());
    let nameless = dropped.filter(|entry| entry.reference().is_none() && !is_named(entry));
    nameless.map(|entry| (entry.digest.clone(), entry.media_type.clone())).collect()
}

/// The platforms of the index, each once, in order.
fn found(entries: &[Entry]) -> Vec<Platform> {
    let mut found = Vec::new();
    for platform in entries.iter().filter_map(|entry| Platform::listed(&entry.platform)) {
        if !platform.is_unknown() && !found.contains(&platform) {
            found.push(platform);
        }
    }
    found
}

fn joined(members: &[Member<'_>], manifests: &str) -> Bytes {
    let members = members.iter().map(|(name, (raw_name, value))| {
        let value = if name == "manifests" { manifests } else { value.get() };
        format!("{}:{value}", raw_name.get())
    });
    format!("{{{}}}", members.collect::<Vec<_>>().join(",")).into()
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn invalid(error: serde_json::Error) -> SubsetError {
    SubsetError::Invalid(error.to_string())
}

#[cfg(test)]
mod tests;
