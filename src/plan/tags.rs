//! The tags of target repositories to which nothing was mirrored before. What they don't list isn't asked for tag by tag.

use std::collections::{HashMap, HashSet};

use futures::StreamExt as _;

use super::request::{QUESTIONS, Request};
use crate::config::Overwrite;
use crate::desired::Want;
use crate::error::{Kind, unless_stopped};
use crate::oci::{Repository, Tag};

/// What the repositories that were asked for their tags at once list; `None` where that can't be told by one page.
#[derive(Debug, Default)]
pub(super) struct Lists(HashMap<Repository, Option<HashSet<Tag>>>);

impl Lists {
    /// Asks the repositories of which the lock pinned nothing before this run: most likely they don't exist.
    pub(super) async fn of_new(request: Request<'_>, wants: &[Want<'_>]) -> Self {
        let Some(before) = request.before else { return Self::default() };
        let mut are_new: HashMap<&Repository, bool> = HashMap::new();
        for want in wants.iter().filter(|want| want.pin.is_some()) {
            let is_new = before.image(&want.source, &want.handling.platforms).is_none();
            *are_new.entry(want.target).or_insert(true) &= is_new && want.target.registry().layout().is_none();
        }
        let repositories: HashSet<&Repository> = wants.iter().map(|want| want.target).collect();
        let new = repositories.into_iter().filter(|repository| are_new.get(repository) == Some(&true));
        let lists = new.map(|repository| async move { (repository.clone(), list(request, repository).await) });
        Self(futures::stream::iter(lists).buffer_unordered(QUESTIONS).collect().await)
    }

    /// Whether its list tells that the repository lacks the tag of `want`. One that mustn't be replaced is asked for all the
    /// same: lists may lag behind.
    pub(super) fn lacks(&self, want: &Want<'_>) -> bool {
        let list = self.0.get(want.target).and_then(Option::as_ref);
        let may_replace = want.handling.overwrite == Overwrite::Replace;
        list.zip(want.tag.as_ref()).is_some_and(|(list, tag)| may_replace && !list.contains(tag))
    }

    /// Whether `repository` lists no tag; asked for now, if it wasn't before. What can't be told counts as having some: then
    /// more is asked later.
    pub(super) async fn is_empty(&self, request: Request<'_>, repository: &Repository) -> bool {
        match self.0.get(repository) {
            Some(list) => list.as_ref().is_some_and(HashSet::is_empty),
            None => list(request, repository).await.is_some_and(|list| list.is_empty()),
        }
    }
}

/// The tags of `repository`, if one page holds them.
async fn list(request: Request<'_>, repository: &Repository) -> Option<HashSet<Tag>> {
    let tags = async { request.stores.target(repository)?.tags_within(1).await };
    match unless_stopped(request.stop, tags).await {
        Ok(tags) => tags.map(HashSet::from_iter),
        Err(error) => (error.kind() == Kind::NotFound).then(HashSet::new),
    }
}
