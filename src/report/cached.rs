//! The state of an image at a pull-through cache.

use crate::oci::Digest;

/// The state of an image at a pull-through cache, found by `warm`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cached {
    /// What is verified.
    pub proof: CacheProof,
    /// Indexes that the cache stores under a different digest. Only the upstream answers to the original digest.
    pub only_upstream: Vec<Digest>,
    /// What the tag names at the cache, which asks its upstream; `None` if the image has no tag.
    pub tag: Option<CachedTag>,
}

/// How much is verified about an image at a pull-through cache. The JSON report uses `snake_case`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CacheProof {
    /// The cache stores all of it.
    Kept,
    /// The cache stores all blobs; whether it stores the manifests is unknown.
    BlobsKept,
    /// The cache serves it; whether it stores it is unknown.
    Served,
}

/// What a tag names at a pull-through cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CachedTag {
    /// The digest in the lock.
    AsPinned,
    /// Another digest.
    Moved(Digest),
    /// Nothing.
    Gone,
}

impl CachedTag {
    /// The word in the JSON report.
    pub(super) fn word(&self) -> &'static str {
        match self {
            Self::AsPinned => "as_pinned",
            Self::Moved(_) => "moved",
            Self::Gone => "gone",
        }
    }

    /// The other digest.
    pub(super) fn moved_to(&self) -> Option<&Digest> {
        match self {
            Self::Moved(digest) => Some(digest),
            Self::AsPinned | Self::Gone => None,
        }
    }
}
