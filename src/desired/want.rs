//! Each image at each target.

use std::collections::HashSet;

use super::entries;
use super::landing::Landings;
use crate::config::{Handling, ImageRule};
use crate::error::Error;
use crate::lock::{self, Lock, LockedImage};
use crate::oci::{Reference, Repository, Tag};
use crate::select::Only;

/// An image that is wanted at a target.
#[derive(Debug)]
pub(crate) struct Want<'a> {
    /// The canonical source.
    pub source: Reference,
    /// The target tag; `None` if the image is mirrored untagged.
    pub tag: Option<Tag>,
    /// The target repository.
    pub target: &'a Repository,
    /// The index of the target in the configuration, counted from 0.
    pub number: usize,
    /// How it is mirrored.
    pub handling: &'a Handling,
    /// Its pin in the lock.
    pub pin: Option<&'a LockedImage>,
    /// Why it can't have its tag: an earlier image has it.
    pub clash: Option<Error>,
}

/// Each image at each target, in the order of the file, each pair once.
pub(crate) fn wants<'a>(rules: &'a [ImageRule], lock: &'a Lock, only: &Only) -> Vec<Want<'a>> {
    let mut seen = HashSet::new();
    // A tag belongs to the same image whichever images the run is limited to.
    let mut landings = Landings::default();
    let mut wants = Vec::new();
    for entry in entries(rules, lock) {
        let handling = &entry.rule.handling;
        for image in entry.images {
            let asked_for = only.matches(&image.source);
            for (number, target) in entry.rule.destinations.iter().enumerate() {
                let clash = image.tag.as_ref().zip(image.pin).and_then(|(tag, pin)| landings.take(target, tag, pin));
                let name = lock::name(&image.source, &handling.platforms);
                if asked_for && seen.insert((name, target, image.tag.clone())) {
                    let (source, tag) = (image.source.clone(), image.tag.clone());
                    wants.push(Want { source, tag, target, number, handling, pin: image.pin, clash });
                }
            }
        }
    }
    wants
}
