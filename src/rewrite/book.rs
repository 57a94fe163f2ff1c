//! Finds the mirrored image that a reference means.

use std::collections::HashMap;

use super::Options;
use crate::config::TargetRoot;
use crate::desired::Mirrored;
use crate::oci::{Digest, Reference, Repository};

/// The mirrored images, by their names.
pub(super) struct Book<'a> {
    by_source: HashMap<&'a Repository, Vec<Page<'a>>>,
    by_target: HashMap<&'a Repository, Vec<Page<'a>>>,
    targets: &'a [TargetRoot],
    pub(super) pin: bool,
}

/// An image, and its name at the target.
#[derive(Clone, Copy)]
struct Page<'a> {
    image: &'a Mirrored,
    reference: &'a Reference,
}

/// The new value of a reference.
pub(super) struct Entry<'a> {
    /// The repository at the target.
    pub(super) repository: &'a Repository,
    /// The digest at the target.
    pub(super) digest: &'a Digest,
}

/// What to do about a reference.
pub(super) enum Advice<'a> {
    /// Replace it by this.
    Write(Entry<'a>),
    /// It is right already.
    Keep,
    /// It can't be replaced, for this reason.
    Leave(String),
}

impl<'a> Book<'a> {
    pub(super) fn new(options: Options<'a>) -> Self {
        let (mut by_source, mut by_target) = (HashMap::new(), HashMap::new());
        for image in options.mirrored {
            if let Some(place) = image.at(options.number) {
                let page = Page { image, reference: &place.reference };
                by_source.entry(image.source.repository()).or_insert_with(Vec::new).push(page);
                by_target.entry(place.reference.repository()).or_insert_with(Vec::new).push(page);
            }
        }
        Self { by_source, by_target, targets: options.targets, pin: options.pin }
    }

    pub(super) fn advice(&self, reference: &Reference) -> Advice<'a> {
        if self.targets.iter().any(|target| target.holds(reference.repository())) {
            return if self.pin { self.renew(reference) } else { Advice::Keep };
        }
        let pages = self.by_source.get(reference.repository()).map(Vec::as_slice).unwrap_or_default();
        let named = |page: &&Page<'_>| reference.tag().is_none_or(|tag| page.has_tag(tag));
        let named: Vec<&Page<'_>> = pages.iter().filter(named).collect();
        let fits = |page: &&&Page<'a>| reference.digest().is_none_or(|digest| page.has_digest(digest));
        match (named.iter().find(fits), named.first()) {
            (Some(page), _) => Advice::Write(page.entry()),
            (None, Some(page)) if reference.tag().is_some() => {
                Advice::Leave(format!("the lock pins it to another digest, {}", page.image.digest))
            }
            _ => Advice::Leave("the lock doesn't have it".to_owned()),
        }
    }

    /// Updates a reference below a target to the digest that the target has now.
    fn renew(&self, reference: &Reference) -> Advice<'a> {
        let pages = self.by_target.get(reference.repository()).map(Vec::as_slice).unwrap_or_default();
        let Some(tag) = reference.tag() else {
            let served = pages.iter().any(|page| Some(&page.image.target_digest) == reference.digest());
            return if served {
                Advice::Keep
            } else {
                Advice::Leave("the lock doesn't have this digest there".to_owned())
            };
        };
        match pages.iter().find(|page| page.reference.tag() == Some(tag)) {
            Some(page) if reference.digest() == Some(&page.image.target_digest) => Advice::Keep,
            Some(page) => Advice::Write(page.entry()),
            None => Advice::Leave("the lock has no image with that name at this target".to_owned()),
        }
    }
}

impl<'a> Page<'a> {
    /// The list may give an image by digest, with its tag in `as`.
    fn has_tag(&self, tag: &crate::oci::Tag) -> bool {
        self.image.source.tag() == Some(tag) || self.reference.tag() == Some(tag)
    }

    fn has_digest(&self, digest: &Digest) -> bool {
        [&self.image.digest, &self.image.target_digest].contains(&digest)
    }

    fn entry(&self) -> Entry<'a> {
        Entry { repository: self.reference.repository(), digest: &self.image.target_digest }
    }
}
