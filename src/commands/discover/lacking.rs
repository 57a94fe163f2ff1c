//! The images that files refer to and mirror.yaml lacks.

use std::collections::BTreeMap;

use super::{Image, Known, warn};
use crate::config::{ImageRule, Wanted};
use crate::lock::Lock;
use crate::oci::{Digest, Reference, Repository, Tag};
use crate::select::Selection;

/// The images to add, and notes about others.
#[derive(Debug, Default)]
pub(super) struct Lacking {
    images: Vec<String>,
    notes: Vec<String>,
}

impl Lacking {
    /// The images of `images` that `known` lacks. If a tag occurs with and without a digest, only the one with the
    /// digest counts: both would be mirrored to the same tag.
    pub(super) fn of<'s>(images: impl Iterator<Item = &'s Image<'s>>, known: &Known) -> Self {
        let mut lacking = Self::default();
        let mut by_tag: BTreeMap<(Repository, Tag), Option<Digest>> = BTreeMap::new();
        let mut by_digest: Vec<Reference> = Vec::new();
        for reference in images.map(|image| &image.found.reference) {
            if let Some(rule) = known.config.images.iter().find(|rule| covers(rule, reference, &known.lock)) {
                lacking.notes.extend(other_digest(rule, reference));
                continue;
            }
            let Some(tag) = reference.tag() else {
                by_digest.push(reference.clone());
                continue;
            };
            let digest = by_tag.entry((reference.repository().clone(), tag.clone())).or_default();
            match (&*digest, reference.digest()) {
                (Some(first), Some(other)) if first != other => {
                    let note = format!("{reference} isn't added: the files pin its tag to {first}, too");
                    lacking.notes.push(note);
                }
                (None, Some(new)) => *digest = Some(new.clone()),
                _ => {}
            }
        }
        let tagged = by_tag.into_iter().map(|((repository, tag), digest)| {
            let reference = Reference::tagged(repository, tag);
            digest.map_or(reference.clone(), |digest| reference.pinned(digest))
        });
        let tagged: Vec<Reference> = tagged.collect();
        let is_named = |one: &Reference| {
            tagged.iter().any(|tagged| tagged.repository() == one.repository() && tagged.digest() == one.digest())
        };
        by_digest.retain(|one| !is_named(one));
        lacking.images = tagged.iter().chain(&by_digest).map(ToString::to_string).collect();
        lacking.images.sort();
        lacking
    }

    pub(super) fn is_empty(&self) -> bool {
        self.images.is_empty()
    }

    /// Canonical references, sorted.
    pub(super) fn images(&self) -> &[String] {
        &self.images
    }

    pub(super) fn warn(&self) {
        self.notes.iter().for_each(|note| warn(note));
    }
}

/// Whether `rule` mirrors `reference`: the tag, with any digest, or without a tag the digest.
fn covers(rule: &ImageRule, reference: &Reference, lock: &Lock) -> bool {
    if rule.repository != *reference.repository() {
        return false;
    }
    match (&rule.wanted, reference.tag(), reference.digest()) {
        (Wanted::Tags(tags), Some(tag), _) => tags.iter().any(|(listed, _)| listed == tag),
        (Wanted::Tags(tags), None, digest) => tags.iter().any(|(_, listed)| listed.as_ref() == digest),
        (Wanted::Digest(_, name), Some(tag), _) => name.as_ref() == Some(tag),
        (Wanted::Digest(listed, _), None, digest) => Some(listed) == digest,
        (Wanted::Select(selection), Some(tag), _) => picks(selection, rule, tag, lock),
        (Wanted::Select(_), None, _) => false,
    }
}

/// Whether the lock has the tag for this selection; without a lock entry, whether the selection could pick it.
fn picks(selection: &Selection, rule: &ImageRule, tag: &Tag, lock: &Lock) -> bool {
    match lock.selection(&rule.repository, selection.spec()) {
        Some(picked) => picked.tags.contains(tag),
        None => !selection.apply(std::slice::from_ref(tag)).tags.is_empty(),
    }
}

/// A tag can be mirrored with one digest only.
fn other_digest(rule: &ImageRule, reference: &Reference) -> Option<String> {
    let (tag, digest) = (reference.tag()?, reference.digest()?);
    let Wanted::Tags(tags) = &rule.wanted else { return None };
    let (_, listed) = tags.iter().find(|(listed, _)| listed == tag)?;
    let listed = listed.as_ref().filter(|listed| *listed != digest)?;
    Some(format!("{reference}: mirror.yaml pins this tag to another digest, {listed}"))
}
