//! Config + Lock → the desired state of the targets. Pure: no request, no I/O.
//!
//! [`entries`] lists the images that each entry of mirror.yaml asks for, [`wants`] lists each of them at each
//! target, and [`mirrored`] lists the pinned images with their places.

mod landing;
mod mirrored;
mod want;

use crate::config::{ImageRule, Wanted};
use crate::lock::{Lock, LockedImage};
use crate::oci::{Reference, Tag};
use crate::select::Selection;

pub(crate) use mirrored::{Mirrored, Place, mirrored};
pub(crate) use want::{Want, wants};

/// One entry of the list, with the images that it asks for.
#[derive(Debug)]
pub(crate) struct Entry<'r, 'l> {
    /// The entry.
    pub rule: &'r ImageRule,
    /// Its images, in the order of the entry; for a selection, the tags in the lock.
    pub images: Vec<Image<'l>>,
    /// Whether it is a selection that the lock lacks, so that its images are unknown.
    pub is_unknown: bool,
}

/// An image that an entry asks for.
#[derive(Debug)]
pub(crate) struct Image<'l> {
    /// The canonical source; with a digest if the list pins it.
    pub source: Reference,
    /// The target tag; `None` = untagged.
    pub tag: Option<Tag>,
    /// Its pin in the lock.
    pub pin: Option<&'l LockedImage>,
}

/// The entries of the list, in order, each with its images.
pub(crate) fn entries<'r, 'l>(rules: &'r [ImageRule], lock: &'l Lock) -> impl Iterator<Item = Entry<'r, 'l>> {
    rules.iter().map(move |rule| {
        let selection = rule.selection().map(Selection::spec);
        let images = sources(rule, lock.tags(&rule.repository, selection)).into_iter().map(|(source, tag)| {
            let pin = lock.image(&source, &rule.handling.platforms);
            Image { source, tag, pin }
        });
        let is_unknown = selection.is_some_and(|spec| lock.selection(&rule.repository, spec).is_none());
        Entry { rule, images: images.collect(), is_unknown }
    })
}

/// Each image of `rule` and its target tag; `selected` are the tags of its selection.
fn sources(rule: &ImageRule, selected: &[Tag]) -> Vec<(Reference, Option<Tag>)> {
    let tagged = |tag: &Tag| Reference::tagged(rule.repository.clone(), tag.clone());
    match &rule.wanted {
        Wanted::Tags(tags) => {
            let pinned = |(tag, digest): &(Tag, Option<_>)| match digest {
                Some(digest) => (tagged(tag).pinned(Clone::clone(digest)), Some(tag.clone())),
                None => (tagged(tag), Some(tag.clone())),
            };
            tags.iter().map(pinned).collect()
        }
        Wanted::Digest(digest, name) => {
            vec![(Reference::digested(rule.repository.clone(), digest.clone()), name.clone())]
        }
        Wanted::Select(_) => selected.iter().map(|tag| (tagged(tag), Some(tag.clone()))).collect(),
    }
}

#[cfg(test)]
mod tests;
