//! mirror.lock: read, compare, write. Works as cargo's does.
//!
//! The text is a function of the content: entries are sorted, absent keys left out, so that the same pins give the same
//! bytes and a moved pin is two changed lines. A version that this program doesn't know is refused, whatever else is in
//! the file.
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

/// The version of the file that is written, and the newest that is read.
pub const VERSION: u64 = 1;

/// What is pinned.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lock {
    images: BTreeMap<(Reference, Vec<Platform>), LockedImage>,
    selections: BTreeMap<(Repository, Spec), LockedSelection>,
}

/// One pinned image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockedImage {
    /// The canonical source; with a digest where the list pins it.
    #[serde(deserialize_with = "text::canonical")]
    pub source: Reference,
    /// The platforms that are mirrored; empty = all, byte for byte.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub platforms: Vec<Platform>,
    /// What the source served.
    pub digest: Digest,
    /// The media type of that manifest.
    pub media_type: MediaType,
    /// Its length in bytes.
    pub size: u64,
    /// The digest at the target, where it differs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mirrored: Option<Digest>,
    /// When this digest was first seen; written once a pin. Whole seconds.
    #[serde(default, with = "text::time", skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// What refers to the image and is mirrored with it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub referrers: Vec<Referrer>,
    /// What a verification of its signature found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verified: Option<Verified>,
}

/// What a verification found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verified {
    /// How it was verified.
    pub method: String,
    /// Who signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
    /// Who vouches for that identity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// When it was signed. Whole seconds.
    #[serde(default, with = "text::time", skip_serializing_if = "Option::is_none")]
    pub time: Option<Timestamp>,
}

/// What a selection picked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockedSelection {
    /// The repository that it picks from.
    #[serde(deserialize_with = "text::canonical")]
    pub source: Repository,
    /// The selection, as mirror.yaml has it: if that changes, it is resolved anew.
    pub select: Spec,
    /// The tags that it picked, newest first.
    #[serde(default)]
    pub tags: Vec<Tag>,
    /// Tags that it would pick, were they not too new.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waiting: Vec<Waiting>,
}

/// A tag that is too new to be picked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// The tag.
    pub tag: Tag,
    /// What it named when it was seen.
    pub digest: Digest,
    /// When that was first seen. Whole seconds.
    #[serde(default, with = "text::time", skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
}

/// What an image is known by, whether it is pinned or not: its canonical source and the platforms of it, sorted. A selection
/// that has no tags is known by its repository.
pub type Name = (String, Vec<Platform>);

/// How the pin of one image, or one of its referrers, differs between two locks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The image.
    pub source: Reference,
    /// Its platforms.
    pub platforms: Vec<Platform>,
    /// The digest before; `None` = it wasn't pinned.
    pub old: Option<Digest>,
    /// The digest after; `None` = it is no longer pinned.
    pub new: Option<Digest>,
    /// The digests are those of something that refers to the image, which is pinned to the same in both.
    pub referrer: bool,
}

impl LockedImage {
    /// `source` pinned to `root`, first seen now.
    pub fn new(source: Reference, root: &Descriptor) -> Self {
        let Descriptor { media_type, digest, size } = root.clone();
        // The text has seconds.
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
    /// `select` has picked `tags` of `source`.
    pub fn new(source: Repository, select: Spec, tags: Vec<Tag>) -> Self {
        Self { source, select, tags, waiting: Vec::new() }
    }
}

impl Lock {
    /// Reads the text of the file that the user calls `origin`.
    ///
    /// # Errors
    /// What is wrong with the file: a newer version, entries that stand twice, or values that make no sense.
    pub fn read(text: &str, origin: &Path) -> Result<Self, Problems> {
        text::read(text).map_err(|problems| Problems::new(origin, text, problems))
    }

    /// The text of the file.
    pub fn to_text(&self) -> String {
        text::write(self)
    }

    /// Makes the file at `path` pin what this lock does, and says what it pins then: also what other runs have pinned since
    /// `base` was read from it (nothing, if it wasn't there). A file with that text stays as it is; line ends are kept. A reader
    /// sees the old file or the new one, whole.
    ///
    /// # Errors
    /// If the folder or the file can't be written, or the file by now is no lock.
    pub fn write(&self, path: &Path, base: &Self) -> io::Result<Self> {
        file::write(path, base, self)
    }

    /// Whether `text` is this lock's, whatever line ends and mark a checkout or an editor has given it.
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

    /// Adds a pin; one of the same source and platforms is replaced.
    pub fn pin(&mut self, mut image: LockedImage) {
        image.platforms = sorted(&image.platforms);
        image.referrers.sort();
        self.images.insert((image.source.clone(), image.platforms.clone()), image);
    }

    /// Takes a pin away, if it is there.
    pub fn unpin(&mut self, source: &Reference, platforms: &[Platform]) {
        self.images.remove(&(source.clone(), sorted(platforms)));
    }

    /// Adds a selection; one of the same source and text is replaced.
    pub fn select(&mut self, selection: LockedSelection) {
        self.selections.insert((selection.source.clone(), selection.select.clone()), selection);
    }

    /// The pin of `source` with `platforms`, in whatever order these are.
    pub fn image(&self, source: &Reference, platforms: &[Platform]) -> Option<&LockedImage> {
        self.images.get(&(source.clone(), sorted(platforms)))
    }

    /// What `select` picked from `source`; `None` if that very selection isn't in the lock.
    pub fn selection(&self, source: &Repository, select: &Spec) -> Option<&LockedSelection> {
        self.selections.get(&(source.clone(), select.clone()))
    }

    /// The tags that `select` has picked of `source`; none where there is no selection or the lock lacks it.
    pub fn tags(&self, source: &Repository, select: Option<&Spec>) -> &[Tag] {
        let selection = select.and_then(|select| self.selection(source, select));
        selection.map_or(&[], |selection| &selection.tags)
    }

    /// What changes from this lock to `newer`, sorted by source.
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

/// The lock that belongs to a config: beside it, its stem + `.lock`.
pub fn lock_path(config: &Path) -> PathBuf {
    config.with_extension("lock")
}

/// The name of `source` with `platforms`, in whatever order these are.
pub fn name(source: &impl ToString, platforms: &[Platform]) -> Name {
    (source.to_string(), sorted(platforms))
}

/// What went and what came; a tag that names something else now makes a pair.
fn referrers_differ(old: &[Referrer], new: &[Referrer]) -> Vec<(Option<Digest>, Option<Digest>)> {
    let without = |all: &[Referrer], others: &[Referrer]| -> Vec<Referrer> {
        let others: BTreeSet<&Digest> = others.iter().map(|referrer| &referrer.digest).collect();
        all.iter().filter(|referrer| !others.contains(&referrer.digest)).cloned().collect()
    };
    let (gone, mut come) = (without(old, new), without(new, old));
    let mut pairs = Vec::new();
    for gone in gone {
        let next = come.iter().position(|come| come.tag.is_some() && come.tag == gone.tag);
        pairs.push((Some(gone.digest), next.map(|next| come.remove(next).digest)));
    }
    pairs.extend(come.into_iter().map(|come| (None, Some(come.digest))));
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
