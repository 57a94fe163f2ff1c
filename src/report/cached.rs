//! What is known of an image at a pull-through cache.

use crate::oci::Digest;

/// An image at a pull-through cache, as `warm` has found it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cached {
    /// What is proved.
    pub proof: CacheProof,
    /// Its indexes that the cache keeps under another digest than their own: to their own only the upstream answers.
    pub only_upstream: Vec<Digest>,
    /// What its tag names at the cache, which asks its upstream; `None` where there is no tag to ask for.
    pub tag: Option<CachedTag>,
}

/// How much is proved of an image at a pull-through cache. The JSON report spells it in `snake_case`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CacheProof {
    /// The cache keeps all of it.
    Kept,
    /// The cache keeps all its blobs; of its manifests that isn't known.
    BlobsKept,
    /// It can be had through the cache: what of it is kept isn't known.
    Served,
}

/// What a tag names at a pull-through cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CachedTag {
    /// What the lock pins.
    AsPinned,
    /// Something else.
    Moved(Digest),
    /// Nothing.
    Gone,
}

impl CachedTag {
    /// As the JSON report spells it.
    pub(super) fn word(&self) -> &'static str {
        match self {
            Self::AsPinned => "as_pinned",
            Self::Moved(_) => "moved",
            Self::Gone => "gone",
        }
    }

    /// What it names instead.
    pub(super) fn moved_to(&self) -> Option<&Digest> {
        match self {
            Self::Moved(digest) => Some(digest),
            Self::AsPinned | Self::Gone => None,
        }
    }
}
