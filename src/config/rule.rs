//! One entry of `images`.

use super::{Handling, ImageRule, KeyPath, Wanted};
use crate::oci::{Repository, Tag};
use crate::select::Selection;

impl ImageRule {
    /// The images of `repository` that are `wanted`, at `destinations`, with the built-in handling.
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

    /// Whether the entry asks for `repository`, and names `tag` or could select it.
    pub fn asks_for(&self, repository: &Repository, tag: Option<&Tag>) -> bool {
        let names = |tag: &Tag| match &self.wanted {
            Wanted::Tags(tags) => tags.iter().any(|(named, _)| named == tag),
            Wanted::Digest(_, name) => name.as_ref() == Some(tag),
            Wanted::Select(_) => true,
        };
        self.repository == *repository && tag.is_none_or(names)
    }
}
