//! Media types of manifests that have to be requested by name: the type is known from an index, and a registry that
//! compares types one by one serves such a manifest only to a request for this type.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::oci::{ACCEPT, Digest, Edge, Manifest, MediaType};

/// The types found in the indexes of a run.
#[derive(Debug, Default)]
pub(crate) struct OddTypes(Mutex<HashMap<Digest, MediaType>>);

impl OddTypes {
    /// Records the unusual types of the children of `index`.
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

    /// The type of the manifest `digest`, if it is unusual.
    pub(crate) fn of(&self, digest: &Digest) -> Option<MediaType> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(digest).cloned()
    }
}
