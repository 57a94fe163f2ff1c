//! Explains why a child of an index couldn't be read.

use crate::error::{Error, Kind, Side, Task};
use crate::oci::{Descriptor, Manifest};

/// Adds to a not-found `error` which child of `index` is missing and what to do about it. Registries allow deleting
/// a child, and some expire manifests by age, so an index can outlive its children.
pub(super) fn explain(error: Error, index: &Manifest, child: &Descriptor) -> Error {
    let is_gone = error.kind() == Kind::NotFound && error.side() == Some(Side::Source);
    let is_it = error.task() == Some(Task::ReadManifest) && error.to_string().contains(child.digest.as_str());
    if !is_gone || !is_it {
        return error;
    }
    let purpose = index.purpose_of(&child.digest).map(|purpose| format!(" {purpose}")).unwrap_or_default();
    let why = format!("{}; the index {} lists it{purpose}", error.why(), index.digest());
    let hint = match index.attestations().contains(&child.digest) {
        true => {
            "it was deleted upstream, and the index that lists it wasn't: set missing_attestations: drop, and run `transship \
             update` for the image"
        }
        false => {
            "it was deleted upstream, and the index that lists it wasn't: leave it out with platforms:, or mirror another tag"
        }
    };
    error.reclassified(Kind::NotFound, why).with_hint(hint)
}
