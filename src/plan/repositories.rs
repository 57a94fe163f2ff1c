//! The repositories in which tags are to be set: which have to be created, are empty, can't be used, have immutable
//! tags, or will be changed.

use std::collections::{HashMap, HashSet};

use futures::StreamExt as _;

use super::request::{QUESTIONS, Request};
use super::tags::Lists;
use super::{Action, Plan, Planned};
use crate::error::Error;
use crate::oci::{Digest, Repository};

/// Determines which of the repositories that get a tag have to be created, and which are empty.
pub(super) async fn prepare(
    request: Request<'_>,
    plan: &mut Plan,
    held: &HashMap<Repository, HashSet<Digest>>,
    lists: &Lists,
) {
    let repositories = plan.to_prepare();
    let empty_so_far: Vec<Repository> = repositories.iter().filter(|r| !held.contains_key(r)).cloned().collect();
    let missing = request.stop.run_until_cancelled(request.provisioners.missing(&repositories)).await;
    let Some(missing) = missing else { return };
    let mut unavailable = HashMap::new();
    for (repository, answer) in missing {
        match answer {
            Ok(true) => plan.missing.push(repository),
            Ok(false) => {}
            Err(error) => drop(unavailable.insert(repository, error)),
        }
    }
    plan.empty.extend(plan.missing.iter().cloned());
    // In a layout checks are free, and content may exist under another name.
    let asks_cost = |repository: &&Repository| repository.registry().is_remote();
    let to_list = empty_so_far.iter().filter(asks_cost);
    let to_list = to_list.filter(|r| !plan.empty.contains(r) && !unavailable.contains_key(r));
    let empty = to_list.map(|repository| async move { (repository, lists.is_empty(request, repository).await) });
    let answers: Vec<_> = futures::stream::iter(empty).buffered(QUESTIONS).boxed().collect().await;
    plan.empty.extend(answers.into_iter().filter(|(_, empty)| *empty).map(|(repository, _)| repository.clone()));
    fail(plan, &unavailable);
}

/// Turns images whose tag holds something else and is immutable into conflicts, before any byte moves.
pub(super) fn keep_immutable(request: Request<'_>, plan: &mut Plan, replaced: Vec<(usize, Digest)>) {
    for (index, found) in replaced {
        if let Planned::Image(transfer) = &mut plan.images[index]
            && transfer.action.sets_tag()
            && transfer.tag.as_ref().is_some_and(|tag| request.provisioners.is_immutable(&transfer.target, tag))
        {
            transfer.decide(Action::Conflict { found });
        }
    }
}

/// Determines which settings of the existing repositories that get a tag will be changed.
pub(super) async fn compare_settings(request: Request<'_>, plan: &mut Plan) {
    let existing: Vec<_> = plan.to_prepare().into_iter().filter(|one| !plan.missing.contains(one)).collect();
    let mut unavailable = HashMap::new();
    let differing = request.stop.run_until_cancelled(request.provisioners.differing(&existing)).await;
    for (repository, answer) in differing.unwrap_or_default() {
        match answer {
            Ok(settings) if settings.is_empty() => {}
            Ok(settings) => plan.changes.push((repository, settings)),
            Err(error) => drop(unavailable.insert(repository, error)),
        }
    }
    fail(plan, &unavailable);
}

/// Fails the images of repositories that can't be used.
fn fail(plan: &mut Plan, unavailable: &HashMap<Repository, Error>) {
    for planned in &mut plan.images {
        if let Planned::Image(transfer) = planned
            && let Some(error) = unavailable.get(&transfer.target)
        {
            *planned = transfer.failed(error.clone());
        }
    }
}
