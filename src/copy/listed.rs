//! Checks that a target lists the referrers that it accepted: status 201 doesn't guarantee that clients can find
//! them.
//!
//! After the referrers of a subject were pushed, the target's list is read once. Missing referrers are pushed
//! again, one at a time, because some registries lose entries when several arrive at once. Those that are still
//! missing count as refused, and the referrers of an absent subject are pushed again after it.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;

use super::push_outcome::{PushOutcome, classify};
use super::referrer_set::{Fate, ReferrerSet};
use super::route::Route;
use super::{Engine, read};
use crate::error::{Error, Kind, Result, Side, Stage, unless_stopped};
use crate::oci::{Digest, Listing, Referrer, Selector};
use crate::store::Referrers;

/// The pause before missing referrers are pushed again: the list may only be late.
const PAUSE: Duration = Duration::from_millis(200);

/// Accepted referrers that the target's list lacks.
enum Unlisted {
    /// The list lacks the referrers at these places of the set.
    Places(Vec<usize>),
    /// Clients maintain the index, and it lacks the referrers at these places of the set.
    LeftToClients(Vec<usize>),
}

/// Makes sure that the target lists the referrers of `set` that it claims to list.
pub(super) async fn confirm(engine: &Arc<Engine>, route: &Arc<Route>, set: &ReferrerSet, fates: &mut [Fate]) {
    let claimed: Vec<usize> = (0..fates.len()).filter(|at| is_claimed(&set.members[*at], &fates[*at])).collect();
    if claimed.is_empty() {
        return;
    }
    if let Err(error) = confirm_claimed(engine, route, set, fates, &claimed).await {
        claimed.into_iter().for_each(|at| fates[at] = Fate::Failed(error.clone()));
    }
}

/// Whether the target confirmed on push that the referrer is linked to its subject.
fn is_claimed(member: &Referrer, fate: &Fate) -> bool {
    member.tag.is_none() && matches!(fate, Fate::Arrived { to_list: None, .. })
}

async fn confirm_claimed(
    engine: &Arc<Engine>,
    route: &Arc<Route>,
    set: &ReferrerSet,
    fates: &mut [Fate],
    claimed: &[usize],
) -> Result<()> {
    let Some(Unlisted::Places(lacking)) = unlisted(engine, route, set, fates, claimed).await? else { return Ok(()) };
    if set.awaits_subject {
        for at in lacking {
            engine.forget_referrer(route, &set.members[at].digest);
            fates[at] = Fate::TooEarly(unfindable(route, &set.subject, &set.members[at]));
        }
        return Ok(());
    }
    unless_stopped(&engine.stop, tokio::time::sleep(PAUSE).map(Ok)).await?;
    for at in &lacking {
        if let Some(error) = push_again(engine, route, &set.members[*at]).await? {
            fates[*at] = Fate::Refused(error);
        }
    }
    let lacking: Vec<usize> = lacking.into_iter().filter(|at| is_claimed(&set.members[*at], &fates[*at])).collect();
    if let Some(Unlisted::Places(lacking)) = unlisted(engine, route, set, fates, &lacking).await? {
        for at in lacking {
            fates[at] = Fate::Refused(unfindable(route, &set.subject, &set.members[at]));
        }
    }
    Ok(())
}

/// The places of the referrers that the target doesn't list; `None` if it lists all, or doesn't show its list. If
/// the registry leaves the list to clients after all, those are marked for listing.
async fn unlisted(
    engine: &Arc<Engine>,
    route: &Arc<Route>,
    set: &ReferrerSet,
    fates: &mut [Fate],
    places: &[usize],
) -> Result<Option<Unlisted>> {
    if places.is_empty() {
        return Ok(None);
    }
    let found = match lacking(route, set, places).await {
        Ok(found) => found,
        // The push was accepted, and the list can't be read: nothing more can be checked.
        Err(error) if error.is_refusal() => {
            tracing::debug!("{error}: its list is unknown");
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    if let Some(Unlisted::LeftToClients(lacking)) = &found {
        for at in lacking {
            let manifest = read::load(engine, route, &set.members[*at].digest).await?;
            if let Fate::Arrived { to_list, .. } = &mut fates[*at] {
                *to_list = Some(Listing::of(&manifest));
            }
        }
    }
    Ok(found)
}

async fn lacking(route: &Route, set: &ReferrerSet, places: &[usize]) -> Result<Option<Unlisted>> {
    let listed = match route.target.referrers(&set.subject).await {
        Err(error) if error.kind() == Kind::NotFound => Referrers::Listed(Vec::new()),
        listed => listed?,
    };
    let digests: HashSet<Digest> = listed.list().into_iter().map(|referrer| referrer.digest).collect();
    let lacking: Vec<usize> = places.iter().copied().filter(|at| !digests.contains(&set.members[*at].digest)).collect();
    Ok(match listed {
        _ if lacking.is_empty() => None,
        Referrers::Listed(_) => Some(Unlisted::Places(lacking)),
        Referrers::Tagged(_) => Some(Unlisted::LeftToClients(lacking)),
    })
}

/// Pushes a referrer again that the target accepted before. Returns the refusal if the target doesn't accept it
/// again.
async fn push_again(engine: &Arc<Engine>, route: &Arc<Route>, member: &Referrer) -> Result<Option<Error>> {
    let manifest = read::load(engine, route, &member.digest).await?;
    tracing::info!("{}: pushing {} again, because it isn't listed", route.target, member.digest);
    let name = Selector::Digest(member.digest.clone());
    Ok(match classify(route.target.push_manifest(&manifest, &name).await)? {
        PushOutcome::Taken(_) => None,
        PushOutcome::Refused(error) => Some(error),
    })
}

/// The error for a referrer that the target accepted but doesn't list.
fn unfindable(route: &Route, subject: &Digest, member: &Referrer) -> Error {
    let attempted = format!("find {} in the list of referrers of {subject} in {}", member.digest, route.target);
    Error::new(Kind::Unsupported, attempted, "the registry accepted it but doesn't list it, so clients can't find it")
        .with_hint("run it again: missing entries are pushed again. If that doesn't help, the registry's index of referrers is broken")
        .on(Side::Target)
        .at(Stage::Copy)
}
