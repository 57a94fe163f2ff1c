//! Asks the targets what they have: one HEAD per tag that may exist. `refer` checks the referrers of an image whose
//! tag is right, and `repositories` checks the repositories in which tags are to be set.

use std::collections::{HashMap, HashSet};

use futures::{FutureExt as _, StreamExt as _};

use super::prefetch::{Answers, Prefetch};
use super::request::{QUESTIONS, Request};
use super::want::{failed, transfer};
use super::{Action, Plan, Planned, refer, repositories};
use crate::config::{Overwrite, ReferrerPolicy};
use crate::desired::{Want, wants};
use crate::error::{Error, Kind, Result, Stage, unless_stopped};
use crate::lock::{self};
use crate::oci::{Digest, Reference, Repository, Selector};
use crate::progress::{Finished, Step, Task};
use crate::store::{Held, as_pinned, cached_image};

/// The hint for an image whose tag must not be replaced by mistake.
const UNKNOWN_TAG: &str = "give the account read permission at the target, or set overwrite: true: \
    otherwise transship can't tell whether the tag holds something else";

/// Determines the work to be done, with the answers of `prefetch`.
pub async fn plan(request: Request<'_>, prefetch: Prefetch<'_>) -> Plan {
    let wants = wants(request.images, request.lock, request.only);
    let images: Vec<String> = wants.iter().map(|want| want.source.to_string()).collect();
    request.progress.begin(Task::Plan, &images);
    // If nothing could be resolved, a target in trouble isn't waited for.
    let is_pinned = wants.iter().any(|want| want.pin.is_some());
    let mut known = if is_pinned { prefetch.finish().await } else { Answers::default() };
    known.lists = known.lists.with_new(request, wants.iter().filter(|want| want.pin.is_some())).await;
    let asked = wants.iter().map(|want| async {
        let image = want.source.to_string();
        request.progress.step(&image, Step::Started);
        let answer = ask_tag(request, want, &known).await;
        let error = answer.as_ref().and_then(|answer| answer.as_ref().err());
        request.progress.finished(&image, Finished::asked("planned", error));
        answer
    });
    let found: Vec<Option<Result<Answer>>> = futures::stream::iter(asked).buffered(QUESTIONS).boxed().collect().await;
    let held = held(&wants, &found);
    let mut plan = Plan { images: unlisted(request), ..Plan::default() };
    let mut replaced = Vec::new();
    for (want, found) in wants.iter().zip(found) {
        if let Some(Ok(Answer { held: Held::Manifest(digest), .. })) = &found {
            replaced.push((plan.images.len(), digest.clone()));
        }
        plan.images.push(planned(request, want, found, &held));
    }
    refer::find_lacking(request, &mut plan).await;
    repositories::prepare(request, &mut plan, &held, &known.lists).await;
    repositories::keep_immutable(request, &mut plan, replaced);
    repositories::compare_settings(request, &mut plan).await;
    plan
}

/// Sources whose tags couldn't be listed: each is one failed image at each target.
fn unlisted(request: Request<'_>) -> Vec<Planned> {
    let rules = request.images.iter().filter(|rule| rule.selection().is_some());
    let failed = rules.filter_map(|rule| Some((rule, request.failed.get(&lock::name(&rule.repository, &[]))?)));
    let each = failed.flat_map(|(rule, error)| {
        rule.destinations.iter().map(|target| Planned::Failed {
            source: rule.repository.to_string(),
            target: target.to_string(),
            error: error.clone(),
        })
    });
    each.collect()
}

/// What a target has under the name of an image.
struct Answer {
    held: Held,
    /// The digest that the target knows the image by, if that isn't the pinned one.
    known_as: Option<Digest>,
}

/// Asks the target for the name of an image. Skipped if the image has no pin or can't get its tag.
async fn ask_tag(request: Request<'_>, want: &Want<'_>, known: &Answers) -> Option<Result<Answer>> {
    let pin = want.pin.filter(|_| want.clash.is_none())?;
    if known.lists.lacks(want) {
        return Some(Ok(Answer { held: Held::Nothing, known_as: None }));
    }
    let name = match &want.tag {
        Some(tag) => Selector::Tag(tag.clone()),
        None => Selector::Digest(pin.target_digest().clone()),
    };
    let answer = async {
        let target = request.stores.target(want.target)?;
        let pinned = pin.target_digest();
        let mut known_as = None;
        let held = match known.held(want) {
            Some(held) => held,
            None => target.held(&name).await,
        };
        let held = match held? {
            Held::Manifest(found) => {
                let found = as_pinned(&*target, found, pinned).await;
                known_as = found.known_as;
                Held::Manifest(found.is)
            }
            held @ (Held::Nothing | Held::Unknown(_)) => return Ok(Answer { held, known_as }),
            withheld @ Held::Withheld(_) => withheld,
        };
        target.check_holds(cached_image(&**request.stores, want.target, pinned).boxed()).await?;
        Ok(Answer { held, known_as })
    };
    Some(unless_stopped(request.stop, answer).await.map_err(|error| error.at(Stage::Plan)))
}

/// The manifests that the answers have shown to exist in each target repository.
fn held(wants: &[Want<'_>], found: &[Option<Result<Answer>>]) -> HashMap<Repository, HashSet<Digest>> {
    let mut held: HashMap<Repository, HashSet<Digest>> = HashMap::new();
    for (want, found) in wants.iter().zip(found) {
        if let Some(Ok(Answer { held: Held::Manifest(digest), .. })) = found {
            held.entry(want.target.clone()).or_default().insert(digest.clone());
        }
    }
    held
}

fn planned(
    request: Request<'_>,
    want: &Want<'_>,
    found: Option<Result<Answer>>,
    held: &HashMap<Repository, HashSet<Digest>>,
) -> Planned {
    let stale = request.failed.get(&lock::name(&want.source, &want.handling.platforms));
    if let Some(clash) = &want.clash {
        return failed(want, clash.clone());
    }
    let (pin, found) = match (want.pin, found) {
        (Some(pin), Some(Ok(found))) => (pin, found),
        (Some(_), Some(Err(error))) => return failed(want, error),
        _ => return failed(want, stale.cloned().unwrap_or_else(|| unpinned(&want.source))),
    };
    let is_there = held.get(want.target).is_some_and(|digests| digests.contains(pin.target_digest()));
    let action = match (found.held, want.handling.overwrite) {
        (Held::Manifest(found), _) if found == *pin.target_digest() => Action::UpToDate,
        (Held::Manifest(found), Overwrite::Refuse) => Action::Conflict { found },
        (Held::Manifest(found), Overwrite::Keep) => Action::Kept { found: Some(found) },
        // The tag may exist.
        (Held::Unknown(error), Overwrite::Refuse | Overwrite::Keep) => {
            return failed(want, error.with_hint(UNKNOWN_TAG).at(Stage::Plan));
        }
        (Held::Unknown(error), Overwrite::Replace) => {
            tracing::info!("{error}; its content is unknown, so it is pushed");
            if is_there { Action::Tag } else { Action::Copy }
        }
        // The content of the tag is unknown.
        (Held::Withheld(error), Overwrite::Refuse) => return failed(want, error.at(Stage::Plan)),
        (Held::Withheld(error), Overwrite::Keep) => {
            tracing::warn!(hint = error.hint(), "{error}; it is kept (overwrite: keep)");
            Action::Kept { found: None }
        }
        (Held::Withheld(error), Overwrite::Replace) => {
            tracing::warn!(hint = error.hint(), "{error}; its content is unknown, so it is pushed again");
            if is_there { Action::Tag } else { Action::Copy }
        }
        _ if is_there => Action::Tag,
        _ => Action::Copy,
    };
    let mut transfer = transfer(want, pin, action);
    transfer.follow =
        request.follow && transfer.action == Action::UpToDate && want.handling.referrers.policy != ReferrerPolicy::None;
    transfer.known_as = found.known_as;
    transfer.stale = stale.cloned();
    Planned::Image(transfer)
}

fn unpinned(source: &Reference) -> Error {
    Error::new(Kind::NotFound, format!("mirror {source}"), "the lock has no pin for it").at(Stage::Resolve)
}
