//! mirror.lock: reading, comparing and writing, as with cargo's lock file.
//!
//! The text is a function of the content: entries are sorted and absent keys omitted, so that the same pins give
//! the same bytes and a moved pin changes two lines. A file with an unknown version is refused, whatever else it
//! contains.
//!
//! Version 1: the first. `verified` and `waiting` are read and written; nothing fills them yet.

mod file;
mod text;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::oci::{Descriptor, Digest, MediaType, Platform, Reference, Referrer, Repository, Tag};
use crate::select::Spec;
pub use crate::yaml::{Problem, Problems};

/// The version that is written, and the newest that can be read.
pub const VERSION: u64 = 1;

/// The pins.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lock {
    images: BTreeMap<(Reference, Vec<Platform>), LockedImage>,
    selections: BTreeMap<(Repository, Spec), LockedSelection>,
}

/// One pinned image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockedImage {
    /// The canonical source; with a digest if the list pins it.
    #[serde(deserialize_with = "text::canonical")]
    pub source: Reference,
    /// The platforms that are mirrored. Empty: the image is mirrored byte for byte.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub platforms: Vec<Platform>,
    /// The digest at the source.
    pub digest: Digest,
    /// The media type of that manifest.
    pub media_type: MediaType,
    /// Its length in bytes.
    pub size: u64,
    /// The digest at the target, if it differs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mirrored: Option<Digest>,
    /// When this digest was first seen; set once per pin. Whole seconds.
    #[serde(default, with = "text::time", skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// The referrers of the image that are mirrored with it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub referrers: Vec<Referrer>,
    /// The result of verifying its signature.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verified: Option<Verified>,
}

/// The result of a signature verification.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verified {
    /// How it was verified.
    pub method: String,
    /// The signer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
    /// The issuer of that identity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// When it was signed. Whole seconds.
    #[serde(default, with = "text::time", skip_serializing_if = "Option::is_none")]
    pub time: Option<Timestamp>,
}

/// The tags of a selection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockedSelection {
    /// The repository that it selects from.
    #[serde(deserialize_with = "text::canonical")]
    pub source: Repository,
    /// The selection as in mirror.yaml: if that changes, it is resolved again.
    pub select: Spec,
    /// The selected tags, newest first.
    #[serde(default)]
    pub tags: Vec<Tag>,
    /// Tags that would be selected if they weren't too new.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waiting: Vec<Waiting>,
}

/// A tag that is too new to be selected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// The tag.
    pub tag: Tag,
    /// Its digest when it was seen.
    pub digest: Digest,
    /// When this digest was first seen. Whole seconds.
    #[serde(default, with = "text::time", skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
}

/// The name of an image, pinned or not: its canonical source and its platforms, sorted. The name of a selection
/// without tags is its repository.
pub type Name = (String, Vec<Platform>);

/// A difference between two locks in the pin of one image or referrer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The image.
    pub source: Reference,
    /// Its platforms.
    pub platforms: Vec<Platform>,
    /// The old digest; `None` if it wasn't pinned.
    pub old: Option<Digest>,
    /// The new digest; `None` if it is no longer pinned.
    pub new: Option<Digest>,
    /// Whether the digests are those of a referrer of the image, whose pin is the same in both.
    pub referrer: bool,
}

impl LockedImage {
    /// Pins `source` to `root`, first seen now.
    pub fn new(source: Reference, root: &Descriptor) -> Self {
        let Descriptor { media_type, digest, size } = root.clone();
        // The text has whole seconds.
        let since = Timestamp::now().round(jiff::Unit::Second).ok();
        let (platforms, referrers) = (Vec::new(), Vec::new());
        Self { source, platforms, digest, media_type, size, mirrored: None, since, referrers, verified: None }
    }

    /// The digest at the target.
    pub fn target_digest(&self) -> &Digest {
        self.mirrored.as_ref().unwrap_or(&self.digest)
    }
}

impl LockedSelection {
    /// The selection `select` of `source`, with `tags`.
    pub fn new(source: Repository, select: Spec, tags: Vec<Tag>) -> Self {
        Self { source, select, tags, waiting: Vec::new() }
    }
}

impl Lock {
    /// Parses the text of the file `origin`.
    ///
    /// # Errors
    /// What is wrong with the file: a newer version, duplicate entries, or invalid values.
    pub fn read(text: &str, origin: &Path) -> Result<Self, Problems> {
        text::read(text).map_err(|problems| Problems::new(origin, text, problems))
    }

    /// The text of the file.
    pub fn to_text(&self) -> String {
        text::write(self)
    }

    /// Updates the file at `path` to these pins, and returns its new content. Pins that other runs have added since
    /// `base` was read from the file are kept (`base` is empty if it didn't exist). A file with the right content
    /// isn't rewritten; its line endings are kept. The file is replaced atomically.
    ///
    /// # Errors
    /// If the folder or the file can't be written, or the file isn't a lock any more.
    pub fn write(&self, path: &Path, base: &Self) -> io::Result<Self> {
        file::write(path, base, self)
    }

    /// Whether `text` is this lock's, ignoring line endings and a byte order mark, which a checkout or an editor
    /// may change.
    pub fn is_written_as(&self, text: &str) -> bool {
        let text = text.trim_start_matches('\u{feff}').replace("\r\n", "\n");
        text.trim_end() == self.to_text().trim_end()
    }

    /// Whether nothing is pinned.
    pub fn is_empty(&self) -> bool {
        self.images.is_empty() && self.selections.is_empty()
    }

    /// The pins, sorted by source and platforms.
    pub fn images(&self) -> impl ExactSizeIterator<Item = &LockedImage> {
        self.images.values()
    }

    /// The selections, sorted by source.
    pub fn selections(&self) -> impl ExactSizeIterator<Item = &LockedSelection> {
        self.selections.values()
    }

    /// Adds a pin, or replaces the one with the same source and platforms.
    pub fn pin(&mut self, mut image: LockedImage) {
        image.platforms = sorted(&image.platforms);
        image.referrers.sort();
        self.images.insert((image.source.clone(), image.platforms.clone()), image);
    }

    /// Removes a pin, if it exists.
    pub fn unpin(&mut self, source: &Reference, platforms: &[Platform]) {
        self.images.remove(&(source.clone(), sorted(platforms)));
    }

    /// Adds a selection, or replaces the one with the same source and text.
    pub fn select(&mut self, selection: LockedSelection) {
        self.selections.insert((selection.source.clone(), selection.select.clone()), selection);
    }

    /// The pin of `source` with `platforms`, in any order.
    pub fn image(&self, source: &Reference, platforms: &[Platform]) -> Option<&LockedImage> {
        self.images.get(&(source.clone(), sorted(platforms)))
    }

    /// The selection `select` of `source`; `None` if the lock doesn't have exactly this selection.
    pub fn selection(&self, source: &Repository, select: &Spec) -> Option<&LockedSelection> {
        self.selections.get(&(source.clone(), select.clone()))
    }

    /// The tags that `select` has selected from `source`; empty without a selection, or if the lock lacks it.
    pub fn tags(&self, source: &Repository, select: Option<&Spec>) -> &[Tag] {
        let selection = select.and_then(|select| self.selection(source, select));
        selection.map_or(&[], |selection| &selection.tags)
    }

    /// The changes from this lock to `newer`, sorted by source.
    pub fn diff(&self, newer: &Self) -> Vec<Change> {
        let keys: BTreeSet<_> = self.images.keys().chain(newer.images.keys()).collect();
        let changes = keys.into_iter().flat_map(|key| {
            let (old, new) = (self.images.get(key), newer.images.get(key));
            let digest = |image: Option<&LockedImage>| image.map(|image| image.digest.clone());
            let referrer = old.is_some() && digest(old) == digest(new);
            let pairs = match (old, new) {
                (Some(old), Some(new)) if referrer => referrers_differ(&old.referrers, &new.referrers),
                _ => vec![(digest(old), digest(new))],
            };
            let (source, platforms) = key.clone();
            let change =
                move |(old, new)| Change { source: source.clone(), platforms: platforms.clone(), old, new, referrer };
            pairs.into_iter().map(change)
        });
        changes.collect()
    }
}

/// The path of the lock for a config: in the same folder, its stem + `.lock`.
pub fn lock_path(config: &Path) -> PathBuf {
    config.with_extension("lock")
}

/// The name of `source` with `platforms`, in any order.
pub fn name(source: &impl ToString, platforms: &[Platform]) -> Name {
    (source.to_string(), sorted(platforms))
}

/// The removed and added referrers. A tag whose digest has changed gives one pair of old and new.
fn referrers_differ(old: &[Referrer], new: &[Referrer]) -> Vec<(Option<Digest>, Option<Digest>)> {
    let without = |all: &[Referrer], others: &[Referrer]| -> Vec<Referrer> {
        let others: BTreeSet<&Digest> = others.iter().map(|referrer| &referrer.digest).collect();
        all.iter().filter(|referrer| !others.contains(&referrer.digest)).cloned().collect()
    };
    let (removed, mut added) = (without(old, new), without(new, old));
    let mut pairs = Vec::new();
    for removed in removed {
        let successor = added.iter().position(|added| added.tag.is_some() && added.tag == removed.tag);
        pairs.push((Some(removed.digest), successor.map(|at| added.remove(at).digest)));
    }
    pairs.extend(added.into_iter().map(|added| (None, Some(added.digest))));
    pairs
}

fn sorted(platforms: &[Platform]) -> Vec<Platform> {
    let mut platforms = platforms.to_vec();
    platforms.sort();
    platforms.dedup();
    platforms
}

#[cfg(test)]
mod tests;
