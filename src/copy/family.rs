//! What refers to one manifest, on its way to the target: what of it is there, how each is sent, and who lists it.

use std::collections::HashSet;
use std::sync::Arc;

use futures::future::{join_all, try_join_all};

use super::place::Ask;
use super::verdict::{Verdict, judge};
use super::walk::{self, Route};
use super::{Engine, fallback, order, read};
use crate::error::{Error, Kind, Result, Side, Stage};
use crate::oci::{Digest, Listing, Manifest, Referrer, Selector};
use crate::report::Bytes;
use crate::store::Referrers;

/// What refers to one manifest, as far as it is to be mirrored.
#[derive(Debug)]
pub(super) struct Family {
    pub(super) subject: Digest,
    pub(super) members: Vec<Referrer>,
    /// The plan has seen that all of them are at the target.
    pub(super) seen: bool,
}

/// What was made of a referrer: all who have the same one share it.
pub(super) type Verdicts = Result<Verdict<Sent>>;

/// A referrer that was sent.
#[derive(Debug, Clone)]
pub(super) struct Sent {
    bytes: Bytes,
    /// Nobody has to list it: the target does, or it is found by its tag alone.
    listed: bool,
}

/// What became of one referrer.
#[derive(Debug)]
pub(super) enum Fate {
    /// It was there.
    There,
    /// It is there now; `new` = it was sent for this image and not for one before.
    Arrived { bytes: Bytes, new: bool, to_list: Option<Listing> },
    /// It refers to something else.
    Stranger,
    /// The target doesn't take it; the image does without.
    Refused(Error),
    /// The image can't do without.
    Failed(Error),
}

/// What became of each member, in their order.
pub(super) async fn bring(
    engine: &Arc<Engine>,
    route: &Arc<Route>,
    family: &Family,
    absent: Option<&Arc<Manifest>>,
) -> Vec<Fate> {
    let there = match there(engine, route, family).await {
        Ok(there) => there,
        Err(error) => return family.members.iter().map(|_| Fate::Failed(error.clone())).collect(),
    };
    let each = family.members.iter().map(|member| async {
        match there.contains(member) {
            true => Fate::There,
            false => bring_one(engine, route, family, member, absent).await.unwrap_or_else(Fate::Failed),
        }
    });
    let mut fates = join_all(each).await;
    list(engine, route, family, &mut fates).await;
    if route.target.keeps_indexes() && !family.seen && !family.members.is_empty() {
        keep_index(engine, route, family, &mut fates).await;
    }
    for (member, fate) in family.members.iter().zip(&fates) {
        match fate {
            Fate::Refused(error) => tracing::warn!("{error}; {}", error.hint().unwrap_or_default()),
            Fate::Stranger => {
                tracing::warn!("{} is listed as referring to {}, but doesn't: skipped", member.digest, family.subject);
            }
            _ => {}
        }
    }
    fates
}

/// The members that the target has and lists.
async fn there<'a>(engine: &Engine, route: &Route, family: &'a Family) -> Result<HashSet<&'a Referrer>> {
    if family.seen {
        return Ok(family.members.iter().collect());
    }
    // As with children: what an interrupted run has left has no tag, and asking pays where it saves a pull that counts.
    if engine.vacant.contains(route.target_repository()) && !route.source.counts_pulls() {
        return Ok(HashSet::new());
    }
    let listed = async {
        match family.members.iter().all(|member| member.tag.is_some()) {
            true => Ok(None),
            false => route.target.referrers(&family.subject).await.map(Some).map_err(|error| error.on(Side::Target)),
        }
    };
    let listed = listed.await?;
    let digests: HashSet<Digest> = listed.iter().flat_map(Referrers::list).map(|one| one.digest).collect();
    // Without the API, the list is what clients have written: it may name what is gone.
    let is_claim = matches!(listed, Some(Referrers::Tagged(_)));
    let (digests, is_claim) = (&digests, &is_claim);
    let asked = family.members.iter().map(|member| async move {
        let there = match &member.tag {
            Some(tag) => walk::holds(route, &Selector::Tag(tag.clone()), &member.digest).await?,
            None if !digests.contains(&member.digest) => false,
            None if *is_claim => walk::has_manifest(route, &member.digest).await?,
            None => true,
        };
        Ok::<_, Error>(there.then_some(member))
    });
    Ok(try_join_all(asked).await?.into_iter().flatten().collect())
}

async fn bring_one(
    engine: &Arc<Engine>,
    route: &Arc<Route>,
    family: &Family,
    member: &Referrer,
    absent: Option<&Arc<Manifest>>,
) -> Result<Fate> {
    let manifest = read::load(engine, route, &member.digest).await.map_err(|error| unreadable(family, error))?;
    let subject = manifest.subject().map(|subject| &subject.digest);
    // What cosign keeps under a tag has no subject.
    if subject.map_or(member.tag.is_none(), |subject| *subject != family.subject) {
        return Ok(Fate::Stranger);
    }
    let name = name(route, family, member).await?;
    let absent = absent.filter(|root| Some(root.digest()) == subject).cloned();
    let (engine_, route_, manifest_, name_) =
        (Arc::clone(engine), Arc::clone(route), Arc::clone(&manifest), name.clone());
    let is_alone = name.as_str() == family.subject.referrers_tag().as_str();
    let work = || async move { send(&engine_, &route_, &manifest_, &name_, absent.as_ref()).await };
    let sent = engine.referred.get_or_work((route.key(&member.digest), name), work).await;
    let (sent, first) = sent.map_err(|lost| Error::defect(format!("push referrer {}", member.digest), lost))?;
    Ok(match sent? {
        Verdict::Refused(error) => Fate::Refused(refused(route, member, &error)),
        Verdict::Taken(Sent { bytes, listed }) => {
            let bytes = if first { bytes } else { Bytes { present: bytes.total(), ..Bytes::default() } };
            Fate::Arrived { bytes, new: first, to_list: (!listed && !is_alone).then(|| Listing::of(&manifest)) }
        }
    })
}

/// The name that a referrer gets. One that lies under the fallback tag by itself, in place of an index, has to make room
/// for an index.
async fn name(route: &Route, family: &Family, member: &Referrer) -> Result<Selector> {
    let by_digest = Selector::Digest(member.digest.clone());
    let Some(tag) = &member.tag else { return Ok(by_digest) };
    let by_tag = Selector::Tag(tag.clone());
    if *tag != family.subject.referrers_tag() {
        return Ok(by_tag);
    }
    match route.target.resolve(&by_tag).await {
        Ok(found) if found.media_type.is_index() => Ok(by_digest),
        Ok(_) => Ok(by_tag),
        Err(error) if error.kind() == Kind::NotFound => Ok(by_tag),
        Err(error) => Err(error.on(Side::Target)),
    }
}

/// Sends a referrer with all that it points at.
async fn send(
    engine: &Arc<Engine>,
    route: &Arc<Route>,
    manifest: &Manifest,
    name: &Selector,
    absent: Option<&Arc<Manifest>>,
) -> Verdicts {
    let bytes = walk::bring_successors(engine, route, manifest, 0, Ask::IfLikely).await?;
    let pushed = match absent {
        Some(root) => order::push(engine, route, manifest, name, root).await,
        None => walk::push(engine, route, manifest, name, 0).await,
    };
    Ok(match judge(pushed)? {
        Verdict::Refused(error) => Verdict::Refused(error),
        Verdict::Taken((accepted, repaired)) => {
            let listed = accepted.subject_processed || manifest.subject().is_none();
            Verdict::Taken(Sent { bytes: bytes + repaired, listed })
        }
    })
}

/// A referrer that can't be read fails the image: without it, it might pass for unsigned.
fn unreadable(family: &Family, error: Error) -> Error {
    match error.kind() {
        Kind::NotFound => {
            let listed = format!("the source says that it refers to {}, but doesn't have it", family.subject.short());
            error.with_hint(format!("{listed}: leave its kind out by artifact_types:, or set referrers: none"))
        }
        _ => error,
    }
}

fn refused(route: &Route, member: &Referrer, why: &Error) -> Error {
    let general = "the image is mirrored without it: leave its kind out by artifact_types:, or set referrers: none";
    let hint = match why.kind() {
        Kind::Conflict => "the target's tags can't be moved: except sha256-* from that, or set referrers: none",
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

/// Keeps the list of those that are here, as the source has it.
async fn keep_index(engine: &Arc<Engine>, route: &Arc<Route>, family: &Family, fates: &mut [Fate]) {
    if let Err(error) = fallback::keep(engine, route, &family.subject, &here(family, fates)).await {
        fates.iter_mut().for_each(|fate| *fate = Fate::Failed(error.clone()));
    }
}

/// The members that the target has by now.
fn here(family: &Family, fates: &[Fate]) -> HashSet<Digest> {
    let is_here = |fate: &Fate| matches!(fate, Fate::There | Fate::Arrived { .. });
    let here = family.members.iter().zip(fates).filter(|(_, fate)| is_here(fate));
    here.map(|(member, _)| member.digest.clone()).collect()
}

/// Lists those that have arrived where the target doesn't list them by itself. Those that can't be listed can't be found,
/// so they haven't arrived.
async fn list(engine: &Arc<Engine>, route: &Arc<Route>, family: &Family, fates: &mut [Fate]) {
    let of = |fate: &Fate| match fate {
        Fate::Arrived { to_list, .. } => to_list.clone(),
        _ => None,
    };
    let listings: Vec<Listing> = fates.iter().filter_map(of).collect();
    if listings.is_empty() {
        return;
    }
    let here = here(family, fates);
    let listed = fallback::list(engine, route, &family.subject, &listings, &here).await;
    for (member, fate) in family.members.iter().zip(fates).filter(|(_, fate)| of(fate).is_some()) {
        match &listed {
            Ok(Verdict::Taken(())) => {}
            Ok(Verdict::Refused(error)) => *fate = Fate::Refused(refused(route, member, error)),
            Err(error) => *fate = Fate::Failed(error.clone()),
        }
    }
}
