//! Each target tag is for one content: what the list says outright is checked when it is read, but what selections pick is
//! known only now.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use crate::error::{Error, Kind, Stage};
use crate::lock::LockedImage;
use crate::oci::{Repository, Tag};

/// Which image each target tag is for.
#[derive(Debug, Default)]
pub(super) struct Landings<'a>(HashMap<(&'a Repository, Tag), &'a LockedImage>);

impl<'a> Landings<'a> {
    /// Gives `tag` of `target` to `image`; the error of whoever comes later with other content.
    pub(super) fn take(&mut self, target: &'a Repository, tag: &Tag, image: &'a LockedImage) -> Option<Error> {
        let first = match self.0.entry((target, tag.clone())) {
            Entry::Vacant(vacant) => *vacant.insert(image),
            Entry::Occupied(taken) => *taken.get(),
        };
        if first.target_digest() == image.target_digest() {
            return None;
        }
        let why = format!("{} lands there, too, with other content", first.source);
        let error = Error::new(Kind::Conflict, format!("mirror {} to {target}:{tag}", image.source), why)
            .with_hint("give one of them another path with to:, or exclude the tag from one selection");
        Some(error.at(Stage::Plan))
    }
}
