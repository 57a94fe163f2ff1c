//! The mirrored images and the places each can be pulled from. `rewrite` and the exporters read only this.

use super::wants;
use crate::config::ImageRule;
use crate::lock::{Lock, LockedImage};
use crate::oci::{Digest, Platform, Reference, Repository};
use crate::select::Only;

/// An image that the list asks for and the lock pins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mirrored {
    /// The canonical source; with a digest if the list pins it.
    pub source: Reference,
    /// The digest at the source.
    pub digest: Digest,
    /// The digest at the targets; it differs from the source's if only some platforms are mirrored.
    pub target_digest: Digest,
    /// The platforms that are mirrored. Empty: the image is mirrored byte for byte.
    pub platforms: Vec<Platform>,
    /// Its places, in the order of the list and of the targets; at least one.
    pub places: Vec<Place>,
}

/// An image at one target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// The index of the target in the configuration, counted from 0.
    pub target: usize,
    /// The target reference: its tag, or its digest if it is mirrored untagged.
    pub reference: Reference,
    /// The path in the target's registry below which the source's whole path is kept; empty for the root. `None` if
    /// `to:` or `layout:` changes the path.
    pub kept_below: Option<String>,
}

impl Mirrored {
    fn new(source: &Reference, pin: &LockedImage) -> Self {
        Self {
            source: source.clone(),
            digest: pin.digest.clone(),
            target_digest: pin.target_digest().clone(),
            platforms: pin.platforms.clone(),
            places: Vec::new(),
        }
    }

    /// Its place at the target `number`, counted from 0.
    pub(crate) fn at(&self, number: usize) -> Option<&Place> {
        self.places.iter().find(|place| place.target == number)
    }
}

/// The images that the lock pins, in the order of the list. An image in several entries is listed once for each set
/// of platforms, with all its places.
pub(crate) fn mirrored(rules: &[ImageRule], lock: &Lock) -> Vec<Mirrored> {
    let mut all: Vec<Mirrored> = Vec::new();
    for want in wants(rules, lock, &Only::default()) {
        let Some(pin) = want.pin.filter(|_| want.clash.is_none()) else { continue };
        let reference = match &want.tag {
            Some(tag) => Reference::tagged(want.target.clone(), tag.clone()),
            None => Reference::digested(want.target.clone(), pin.target_digest().clone()),
        };
        let kept_below = kept_below(want.source.repository(), want.target);
        let place = Place { target: want.number, reference, kept_below };
        let known = all.iter_mut().rev().find(|one| one.source == want.source && one.platforms == pin.platforms);
        match known {
            Some(known) => known.places.push(place),
            None => all.push(Mirrored { places: vec![place], ..Mirrored::new(&want.source, pin) }),
        }
    }
    all
}

/// The prefix before the whole path of `source` in that of `target`. `None` for a layout, from which nothing is
/// pulled by path.
fn kept_below(source: &Repository, target: &Repository) -> Option<String> {
    if !target.registry().is_host() {
        return None;
    }
    let before = target.path().strip_suffix(source.path())?;
    match before.strip_suffix('/') {
        Some(base) => Some(base.to_owned()),
        None => before.is_empty().then(String::new),
    }
}
