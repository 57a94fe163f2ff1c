//! Tag lists of target repositories to which nothing was mirrored before. A tag that isn't listed needs no HEAD.

use std::collections::{HashMap, HashSet};

use futures::StreamExt as _;

use super::request::{QUESTIONS, Request};
use crate::config::Overwrite;
use crate::desired::Want;
use crate::error::{Kind, unless_stopped};
use crate::oci::{Repository, Tag};

/// The tags of each repository whose list was requested; `None` if they don't fit on one page or the request failed.
#[derive(Debug, Default)]
pub(super) struct Lists(HashMap<Repository, Option<HashSet<Tag>>>);

impl Lists {
    /// Adds the tag lists of repositories for which the lock had no pin before this run: most likely they don't exist.
    pub(super) async fn with_new<'w, 'r: 'w>(
        mut self,
        request: Request<'_>,
        wants: impl Iterator<Item = &'w Want<'r>>,
    ) -> Self {
        let Some(before) = request.before else { return self };
        let mut are_new: HashMap<&Repository, bool> = HashMap::new();
        for want in wants {
            let is_new = before.image(&want.source, &want.handling.platforms).is_none();
            *are_new.entry(want.target).or_insert(true) &= is_new && want.target.registry().is_remote();
        }
        are_new.retain(|repository, is_new| *is_new && !self.0.contains_key(repository));
        let new: Vec<Repository> = are_new.into_keys().cloned().collect();
        let lists = new.into_iter().map(|repository| async move {
            let list = list(request, &repository).await;
            (repository, list)
        });
        let lists: Vec<_> = futures::stream::iter(lists).buffer_unordered(QUESTIONS).collect().await;
        self.0.extend(lists);
        self
    }

    /// Whether the list shows that the repository lacks the tag of `want`. Lists may be outdated, so this is `false`
    /// for a tag that must not be replaced.
    pub(super) fn lacks(&self, want: &Want<'_>) -> bool {
        let list = self.0.get(want.target).and_then(Option::as_ref);
        let may_replace = want.handling.overwrite == Overwrite::Replace;
        list.zip(want.tag.as_ref()).is_some_and(|(list, tag)| may_replace && !list.contains(tag))
    }

    /// Whether `repository` has no tags. Requests the list unless it is known. A list that can't be read counts as
    /// not empty, which only costs more checks later.
    pub(super) async fn is_empty(&self, request: Request<'_>, repository: &Repository) -> bool {
        match self.0.get(repository) {
            Some(list) => list.as_ref().is_some_and(HashSet::is_empty),
            None => list(request, repository).await.is_some_and(|list| list.is_empty()),
        }
    }
}

/// The tags of `repository`, if they fit on one page.
async fn list(request: Request<'_>, repository: &Repository) -> Option<HashSet<Tag>> {
    let tags = async { request.stores.target(repository)?.tags_within(1).await };
    match unless_stopped(request.stop, tags).await {
        Ok(tags) => tags.map(HashSet::from_iter),
        Err(error) => (error.kind() == Kind::NotFound).then(HashSet::new),
    }
}
