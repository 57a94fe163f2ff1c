//! The answers of stores.

use crate::error::{Error, Result};
use crate::oci::{Digest, Manifest, Referrer};

/// The referrers of a manifest, by the way the repository lists them.
#[derive(Debug, Clone)]
pub enum Referrers {
    /// By the referrers API.
    Listed(Vec<Referrer>),
    /// By an index under the fallback tag, which clients maintain (distribution-spec, "Referrers Tag Schema"). If
    /// the content isn't an index, it is a referrer itself: cosign 3 leaves such tags at GHCR.
    Tagged(Option<Manifest>),
}

impl Referrers {
    /// Interprets `found` under the fallback tag of `subject`. It may be `subject` itself, which somebody tagged
    /// that way.
    pub(super) fn under_tag(found: Manifest, subject: &Digest) -> Self {
        Self::Tagged(Some(found).filter(|found| found.digest() != subject))
    }

    /// The referrers; empty if the content of the fallback tag isn't an index.
    pub fn list(&self) -> Vec<Referrer> {
        match self {
            Self::Listed(referrers) => referrers.clone(),
            Self::Tagged(index) => {
                index.as_ref().and_then(|index| Referrer::in_index(index.bytes()).ok()).unwrap_or_default()
            }
        }
    }
}

/// What the answer to a HEAD proves at a pull-through cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeadProves {
    /// Nothing: the request is forwarded, so the content exists upstream but may not be stored here.
    Nothing,
    /// That a blob is stored. Manifest requests are forwarded, and an index is stored at most under a digest that
    /// differs from its own.
    Blobs,
}

/// What a target has under a name.
#[derive(Debug, Clone)]
pub enum Held {
    /// Nothing.
    Nothing,
    /// The manifest with this digest.
    Manifest(Digest),
    /// Content that the target doesn't identify, for this reason. The name may still be writable.
    Withheld(Error),
    /// Unknown: the target didn't answer the question, with this error. Only a push shows whether it is writable.
    Unknown(Error),
}

impl Held {
    /// The digest, if the name exists.
    ///
    /// # Errors
    /// If the target doesn't identify the content.
    pub fn digest(self) -> Result<Option<Digest>> {
        match self {
            Self::Nothing => Ok(None),
            Self::Manifest(digest) => Ok(Some(digest)),
            Self::Withheld(error) | Self::Unknown(error) => Err(error),
        }
    }
}

/// An opened upload: the location for its bytes, in a format that only the store knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upload(pub String);

/// When a registry mounts a blob of one repository into another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MountRule {
    /// As soon as the blob is there; otherwise it refuses the request.
    #[default]
    AtOnce,
    /// As soon as a manifest that refers to the blob is there, too.
    Committed,
    /// Never: mounts needn't be tried.
    Never,
}

/// The result of a mount request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mount {
    /// The blob is there now.
    Mounted,
    /// Refused; with the upload that the target opened instead, if any.
    Declined(Option<Upload>),
}

/// A target's answer to a manifest that it accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Accepted {
    /// It has the referrers API and linked the manifest to its subject (`OCI-Subject`).
    pub subject_processed: bool,
}
