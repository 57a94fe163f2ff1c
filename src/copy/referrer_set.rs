//! Copies the referrers of one manifest: checks which the target has, sends the others, and makes sure that they
//! are listed.

use std::collections::HashSet;
use std::sync::Arc;

use futures::future::join_all;

use super::push_outcome::{PushOutcome, classify, may_miss_its_subject};
use super::route::Ask;
use super::route::Route;
use super::walk;
use super::{Engine, fallback, listed, read};
use crate::error::{Error, Kind, Result, Side, Stage};
use crate::oci::{Digest, Listing, Manifest, Reference, Referrer, Selector};
use crate::plan::Overwrite;
use crate::referrers::{Claims, Presence, presence};
use crate::report::Bytes;
use crate::store::Held;

/// The hint for a referrer whose tag must not be replaced by mistake.
const UNKNOWN_TAG: &str = "give the account read permission at the target, or set overwrite: true or referrers: none";

/// The referrers of one manifest that are to be mirrored.
#[derive(Debug)]
pub(super) struct ReferrerSet {
    pub(super) subject: Digest,
    pub(super) members: Vec<Referrer>,
    /// What to do if one of their tags holds something else.
    pub(super) overwrite: Overwrite,
    /// Set if the plan has found all of them at the target except these, whose tags hold something else that is
    /// kept.
    pub(super) seen: Option<Vec<Referrer>>,
    /// Only the referrers in the lock are copied, and the source isn't asked for more.
    pub(super) is_late: bool,
    /// The subject isn't at the target yet: a refused referrer may be accepted after it.
    pub(super) awaits_subject: bool,
}

/// The result of a referrer's push, shared by all images with that referrer.
pub(super) type Push = Result<PushOutcome<Sent>>;

/// A referrer that was sent.
#[derive(Debug, Clone)]
pub(super) struct Sent {
    bytes: Bytes,
    /// No listing is needed: the target lists it, or it is found by its tag alone.
    listed: bool,
}

/// The outcome of one referrer.
#[derive(Debug)]
pub(super) enum Fate {
    /// It was already there.
    There,
    /// It is there now. `new`: it was sent for this image, not for an earlier one.
    Arrived { bytes: Bytes, new: bool, to_list: Option<Listing> },
    /// Something else has its tag, and is kept.
    Kept,
    /// It refers to another manifest.
    NotAReferrer,
    /// The target refuses it, perhaps because its subject isn't there yet.
    TooEarly(Error),
    /// The target refuses it; the image succeeds without it.
    Refused(Error),
    /// It fails the image.
    Failed(Error),
}

/// Copies the members. Returns their outcomes, in their order.
pub(super) async fn copy_all(engine: &Arc<Engine>, route: &Arc<Route>, set: &ReferrerSet) -> Vec<Fate> {
    let found = match find(engine, route, set).await {
        Ok(found) => found,
        Err(error) => return set.members.iter().map(|_| Fate::Failed(error.clone())).collect(),
    };
    let each = set.members.iter().zip(found).map(|(member, found)| async move {
        let replaced = match settle(route, set, member, found) {
            Settled::Known(fate) if !(matches!(fate, Fate::There) && engine.is_broken(route, &member.digest)) => {
                return fate;
            }
            Settled::Known(_) => None,
            Settled::ToSend(replaced) => replaced,
        };
        copy_referrer(engine, route, set, member, replaced).await.unwrap_or_else(Fate::Failed)
    });
    let mut fates = join_all(each).await;
    listed::confirm(engine, route, set, &mut fates).await;
    list(engine, route, set, &mut fates).await;
    if route.target.keeps_indexes() && set.seen.is_none() && !set.members.is_empty() {
        keep_index(engine, route, set, &mut fates).await;
    }
    for (member, fate) in set.members.iter().zip(&fates) {
        match fate {
            Fate::Refused(error) => tracing::warn!(hint = error.hint(), "{error}"),
            Fate::NotAReferrer => {
                tracing::warn!("{} is listed as referring to {}, but doesn't: skipped", member.digest, set.subject);
            }
            _ => {}
        }
    }
    fates
}

/// What the target has for each member, in their order.
async fn find(engine: &Engine, route: &Route, set: &ReferrerSet) -> Result<Vec<Presence>> {
    if let Some(kept) = &set.seen {
        let seen = |member| match kept.contains(member) {
            true => Presence::Other(member.digest.clone()),
            false => Presence::There,
        };
        return Ok(set.members.iter().map(seen).collect());
    }
    // As with children: content of an interrupted run has no tag, and a check is worthwhile if it saves a metered
    // pull.
    if engine.empty_repositories.contains(route.target_repository()) && !route.source.meters_pulls() {
        return Ok(set.members.iter().map(|_| Presence::Absent).collect());
    }
    presence(&*route.target, &set.subject, &set.members, Claims::Checked).await
}

/// What to do about a member.
enum Settled {
    /// Nothing.
    Known(Fate),
    /// It is sent, and replaces the manifest with this name.
    ToSend(Option<(Reference, Digest)>),
}

/// Decides what to do about `member`, for which the target has `found`.
fn settle(route: &Route, set: &ReferrerSet, member: &Referrer, found: Presence) -> Settled {
    let refused = |error: Error| Settled::Known(Fate::Refused(error.at(Stage::Copy)));
    let is_kept = set.seen.is_some() || set.overwrite == Overwrite::Keep;
    match (found, &member.tag) {
        (Presence::There, _) => Settled::Known(Fate::There),
        (Presence::Other(_) | Presence::Withheld(_), _) if is_kept => Settled::Known(Fate::Kept),
        (Presence::Withheld(error), _) if set.overwrite == Overwrite::Refuse => refused(error),
        (Presence::Unknown(error), Some(_)) if set.overwrite != Overwrite::Replace => {
            refused(error.with_hint(UNKNOWN_TAG))
        }
        (Presence::Other(holds), Some(tag)) => {
            let name = Reference::tagged(route.target_repository().clone(), tag.clone());
            match set.overwrite {
                Overwrite::Refuse => refused(conflict(&name, &holds, member)),
                _ => Settled::ToSend(Some((name, holds))),
            }
        }
        // If the state is unknown it is sent again, whether or not that changes anything.
        _ => Settled::ToSend(None),
    }
}

/// Copies a missing referrer. `replaced`: the name it gets, and the digest that this name holds now.
async fn copy_referrer(
    engine: &Arc<Engine>,
    route: &Arc<Route>,
    set: &ReferrerSet,
    member: &Referrer,
    replaced: Option<(Reference, Digest)>,
) -> Result<Fate> {
    let manifest = read::load(engine, route, &member.digest).await.map_err(|error| unreadable(set, error))?;
    let subject = manifest.subject().map(|subject| &subject.digest);
    // Content under a cosign tag has no subject.
    if subject.map_or(member.tag.is_none(), |subject| *subject != set.subject) {
        return Ok(Fate::NotAReferrer);
    }
    let name = name_of(route, set, member).await?;
    let (engine_, route_, manifest_, name_) =
        (Arc::clone(engine), Arc::clone(route), Arc::clone(&manifest), name.clone());
    let is_alone = name.as_str() == set.subject.referrers_tag().as_str();
    let work = || async move { send(&engine_, &route_, &manifest_, &name_).await };
    let key = (route.key(&member.digest), name.clone());
    let sent = engine.referred.get_or_work(key.clone(), work).await;
    let (sent, first) = sent.map_err(|lost| Error::defect(format!("push referrer {}", member.digest), lost))?;
    if let Err(error) | Ok(PushOutcome::Refused(error)) = &sent
        && set.awaits_subject
        && may_miss_its_subject(error)
    {
        engine.referred.forget(&key);
        return Ok(Fate::TooEarly(error.clone()));
    }
    Ok(match sent? {
        PushOutcome::Refused(error) => Fate::Refused(refused(route, member, &error)),
        PushOutcome::Taken(Sent { bytes, listed }) => {
            if let (true, Selector::Tag(_), Some((name, held))) = (first, &name, replaced) {
                warn_of_replaced(&name, &held, member);
            }
            let bytes = if first { bytes } else { Bytes { present: bytes.total(), ..Bytes::default() } };
            Fate::Arrived { bytes, new: first, to_list: (!listed && !is_alone).then(|| Listing::of(&manifest)) }
        }
    })
}

impl Engine {
    /// Lets the referrer `digest` be pushed again by that name, even if it was pushed before.
    pub(super) fn forget_referrer(&self, route: &Route, digest: &Digest) {
        self.referred.forget(&(route.key(digest), Selector::Digest(digest.clone())));
    }
}

/// The name to push a referrer under. If a single referrer occupies the fallback tag in place of an index, it has
/// to make room for one.
async fn name_of(route: &Route, set: &ReferrerSet, member: &Referrer) -> Result<Selector> {
    let by_digest = Selector::Digest(member.digest.clone());
    let Some(tag) = &member.tag else { return Ok(by_digest) };
    let by_tag = Selector::Tag(tag.clone());
    if *tag != set.subject.referrers_tag() {
        return Ok(by_tag);
    }
    match route.target.resolve(&by_tag).await {
        Ok(found) if found.media_type.is_index() => Ok(by_digest),
        Ok(_) => Ok(by_tag),
        Err(error) if error.kind() == Kind::NotFound => Ok(by_tag),
        Err(error) => match route.target.held(&by_tag).await {
            // A registry with policies has the referrers API, so a withheld manifest isn't an index.
            Ok(Held::Withheld(_) | Held::Manifest(_)) => Ok(by_tag),
            // It might be an index, which no referrer may replace.
            Ok(Held::Unknown(_)) => Ok(by_digest),
            _ => Err(error),
        },
    }
}

/// Sends a referrer with everything it points at.
async fn send(engine: &Arc<Engine>, route: &Arc<Route>, manifest: &Arc<Manifest>, name: &Selector) -> Push {
    let pushed = match name {
        Selector::Digest(_) => walk::copy_node(engine, route, manifest).await,
        Selector::Tag(_) => {
            let bytes = walk::copy_children(engine, route, manifest, 0, Ask::IfLikely).await?;
            let pushed = walk::push(engine, route, manifest, name, 0).await;
            pushed.map(|(accepted, repaired)| (accepted, bytes + repaired))
        }
    };
    Ok(match classify(pushed)? {
        PushOutcome::Refused(error) => PushOutcome::Refused(error),
        PushOutcome::Taken((accepted, bytes)) => {
            let listed = accepted.subject_processed || manifest.subject().is_none();
            PushOutcome::Taken(Sent { bytes, listed })
        }
    })
}

/// A referrer that can't be read fails the image: without it, the image might pass for unsigned.
fn unreadable(set: &ReferrerSet, error: Error) -> Error {
    match error.kind() {
        Kind::NotFound => {
            let listed = format!("the source lists it as a referrer of {}, but doesn't have it", set.subject.short());
            error.with_hint(format!("{listed}: exclude its type with artifact_types:, or set referrers: none"))
        }
        _ => error,
    }
}

fn refused(route: &Route, member: &Referrer, why: &Error) -> Error {
    let general = "the image is mirrored without it: exclude its type with artifact_types:, or set referrers: none";
    let hint = match why.kind() {
        Kind::Conflict => "the target's tags are immutable: exempt sha256-* from that, or set referrers: none",
        Kind::Unsupported => why.hint().unwrap_or(general),
        _ => general,
    };
    let attempted = format!("push referrer {} to {}", member.digest, route.target);
    let error = Error::new(Kind::Unsupported, attempted, why.why()).with_hint(hint).with_source(why.clone());
    let error = error.on(Side::Target).at(Stage::Copy).with_attempts(why.attempts());
    match why.status() {
        Some(status) => error.with_status(status),
        None => error,
    }
}

/// Warns because the replaced manifest may have been a signature made by the target's owner.
fn warn_of_replaced(name: &Reference, held: &Digest, member: &Referrer) {
    let is = &member.digest;
    tracing::warn!(
        hint = "to keep existing tags, set overwrite: keep",
        "{name} was {held} and now is the source's {is}"
    );
}

/// The error if the tag of `member` holds something else that may not be replaced.
fn conflict(name: &Reference, holds: &Digest, member: &Referrer) -> Error {
    let why = format!("it holds {}, not {}, and must not be replaced", holds.short(), member.digest.short());
    Error::new(Kind::Conflict, format!("set {name}"), why).on(Side::Target).at(Stage::Copy)
}

/// Copies the source's index for the members that the target has.
async fn keep_index(engine: &Arc<Engine>, route: &Arc<Route>, set: &ReferrerSet, fates: &mut [Fate]) {
    if let Err(error) = fallback::keep(engine, route, set, &here(set, fates)).await {
        fates.iter_mut().for_each(|fate| *fate = Fate::Failed(error.clone()));
    }
}

/// The members that the target has now.
fn here(set: &ReferrerSet, fates: &[Fate]) -> HashSet<Digest> {
    let is_here = |fate: &Fate| matches!(fate, Fate::There | Fate::Arrived { .. });
    let here = set.members.iter().zip(fates).filter(|(_, fate)| is_here(fate));
    here.map(|(member, _)| member.digest.clone()).collect()
}

/// Lists the arrived members if the target doesn't list them by itself. Members that can't be listed can't be
/// found, so they don't count as arrived.
async fn list(engine: &Arc<Engine>, route: &Arc<Route>, set: &ReferrerSet, fates: &mut [Fate]) {
    let of = |fate: &Fate| match fate {
        Fate::Arrived { to_list, .. } => to_list.clone(),
        _ => None,
    };
    let listings: Vec<Listing> = fates.iter().filter_map(of).collect();
    if listings.is_empty() {
        return;
    }
    let here = here(set, fates);
    let listed = fallback::list(engine, route, set, listings, &here).await;
    for (member, fate) in set.members.iter().zip(fates).filter(|(_, fate)| of(fate).is_some()) {
        match &listed {
            Ok(left_out) => {
                if let Some((_, error)) = left_out.iter().find(|(digest, _)| *digest == member.digest) {
                    *fate = Fate::Refused(error.clone().at(Stage::Copy));
                }
            }
            Err(error) => *fate = Fate::Failed(error.clone()),
        }
    }
}
