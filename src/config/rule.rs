//! One entry of `images`: which sources it asks for.

use super::{Handling, ImageRule, KeyPath, Wanted};
use crate::oci::{Reference, Repository, Tag};
use crate::select::Selection;

impl ImageRule {
    /// The images of `repository` that are `wanted`, at `destinations`, handled as is built in.
    pub fn new(repository: Repository, wanted: Wanted, destinations: Vec<Repository>) -> Self {
        let (handling, to, line, path) = (Handling::default(), None, 0, KeyPath::default());
        Self { repository, wanted, to, handling, destinations, line, path }
    }

    /// The selection, if the entry has one.
    pub fn selection(&self) -> Option<&Selection> {
        match &self.wanted {
            Wanted::Select(selection) => Some(selection),
            Wanted::Tags(_) | Wanted::Digest(..) => None,
        }
    }

    /// Each image that the entry asks for, by its canonical source, and the tag that it gets at the target. What a
    /// selection has picked comes in as `selected`.
    pub fn sources(&self, selected: &[Tag]) -> Vec<(Reference, Option<Tag>)> {
        let tagged = |tag: &Tag| Reference::tagged(self.repository.clone(), tag.clone());
        match &self.wanted {
            Wanted::Tags(tags) => {
                let pinned = |(tag, digest): &(Tag, Option<_>)| match digest {
                    Some(digest) => (tagged(tag).pinned(Clone::clone(digest)), Some(tag.clone())),
                    None => (tagged(tag), Some(tag.clone())),
                };
                tags.iter().map(pinned).collect()
            }
            Wanted::Digest(digest, name) => {
                vec![(Reference::digested(self.repository.clone(), digest.clone()), name.clone())]
            }
            Wanted::Select(_) => selected.iter().map(|tag| (tagged(tag), Some(tag.clone()))).collect(),
        }
    }

    /// Whether the entry is about `repository`, and names `tag` or could pick it.
    pub fn asks_for(&self, repository: &Repository, tag: Option<&Tag>) -> bool {
        let names = |tag: &Tag| match &self.wanted {
            Wanted::Tags(tags) => tags.iter().any(|(named, _)| named == tag),
            Wanted::Digest(_, name) => name.as_ref() == Some(tag),
            Wanted::Select(_) => true,
        };
        self.repository == *repository && tag.is_none_or(names)
    }
}
