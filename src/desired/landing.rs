//! Ensures that each target tag is used for one content only. The explicit entries are checked when mirror.yaml is
//! read, but the tags of selections are known only now.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use crate::error::{Error, Kind, Stage};
use crate::lock::LockedImage;
use crate::oci::{Repository, Tag};

/// The image that each target tag is used for.
#[derive(Debug, Default)]
pub(super) struct Landings<'a>(HashMap<(&'a Repository, Tag), &'a LockedImage>);

impl<'a> Landings<'a> {
    /// Assigns `tag` of `target` to `image`. Returns an error if other content has it already.
    pub(super) fn take(&mut self, target: &'a Repository, tag: &Tag, image: &'a LockedImage) -> Option<Error> {
        let first = match self.0.entry((target, tag.clone())) {
            Entry::Vacant(vacant) => *vacant.insert(image),
            Entry::Occupied(taken) => *taken.get(),
        };
        if first.target_digest() == image.target_digest() {
            return None;
        }
        let why = format!("{} is mirrored there as well, with different content", first.source);
        let error = Error::new(Kind::Conflict, format!("mirror {} to {target}:{tag}", image.source), why)
            .with_hint("give one of them another path with to:, or exclude the tag from one selection");
        Some(error.at(Stage::Plan))
    }
}
