//! Media types of manifests that no request names by itself: an index tells them, and a registry that compares types one by
//! one gives such a manifest only to who asks for just that.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::oci::{ACCEPT, Digest, Edge, Manifest, MediaType};

/// What indexes of a run have told.
#[derive(Debug, Default)]
pub(crate) struct OddTypes(Mutex<HashMap<Digest, MediaType>>);

impl OddTypes {
    /// Learns what `index` says of its children.
    pub(crate) fn learn(&self, index: &Manifest) {
        let children = index.successors().iter().filter_map(|edge| match edge {
            Edge::Manifest(child) => Some(child),
            Edge::Blob(_) => None,
        });
        let is_named = |media_type: &MediaType| ACCEPT.split(", ").any(|named| named == media_type.as_str());
        for child in children.filter(|child| !child.media_type.is_generic() && !is_named(&child.media_type)) {
            let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            known.insert(child.digest.clone(), child.media_type.clone());
        }
    }

    /// The type of the manifest `digest`, if it is such a one.
    pub(crate) fn of(&self, digest: &Digest) -> Option<MediaType> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(digest).cloned()
    }
}
