//! Whether a target lists what it has taken: an answer of 201 says that a referrer is there, not that anybody can find it.
//!
//! After the referrers of a subject were pushed, the target's list of them is read once. What lacks there is pushed again,
//! one at a time, as some registries lose entries where several come at once. What lacks even then is refused, and what
//! refers to a subject that isn't there yet comes again after that.

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

/// Before what lacks is pushed again: the list may only be late.
const PAUSE: Duration = Duration::from_millis(200);

/// What a target's list says of the referrers that it has taken.
enum Unlisted {
    /// It lacks those at these places of the set.
    Places(Vec<usize>),
    /// There is only the index that clients keep, and it lacks those.
    LeftToClients(Vec<usize>),
}

/// Makes sure that the target lists those of `set` that it says it lists.
pub(super) async fn confirm(engine: &Arc<Engine>, route: &Arc<Route>, set: &ReferrerSet, fates: &mut [Fate]) {
    let claimed: Vec<usize> = (0..fates.len()).filter(|at| is_claimed(&set.members[*at], &fates[*at])).collect();
    if claimed.is_empty() {
        return;
    }
    if let Err(error) = confirm_claimed(engine, route, set, fates, &claimed).await {
        claimed.into_iter().for_each(|at| fates[at] = Fate::Failed(error.clone()));
    }
}

/// Whether the target said of it that it is linked to its subject.
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

/// Which of those at `places` the target doesn't list; `None` if it lists all, or doesn't show its list. Where it leaves the
/// list to clients after all, those are marked as to be listed.
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
        // The push was taken, and nobody is told more.
        Err(error) if error.is_refusal() => {
            tracing::debug!("{error}: what it lists isn't known");
            return Ok(None);
        }
        Err(error) => return Err(error.on(Side::Target)),
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

/// Pushes a referrer that the target has taken once; its refusal, if it doesn't take it again.
async fn push_again(engine: &Arc<Engine>, route: &Arc<Route>, member: &Referrer) -> Result<Option<Error>> {
    let manifest = read::load(engine, route, &member.digest).await?;
    tracing::info!("{}: pushing {} again, as it isn't listed", route.target, member.digest);
    let name = Selector::Digest(member.digest.clone());
    let pushed = route.target.push_manifest(&manifest, &name).await.map_err(|error| error.on(Side::Target));
    Ok(match classify(pushed)? {
        PushOutcome::Taken(_) => None,
        PushOutcome::Refused(error) => Some(error),
    })
}

/// The error of a referrer that the target has taken and doesn't list.
fn unfindable(route: &Route, subject: &Digest, member: &Referrer) -> Error {
    let attempted = format!("find {} in the list of what refers to {subject} in {}", member.digest, route.target);
    Error::new(Kind::Unsupported, attempted, "the registry has taken it and doesn't list it: nobody can find it there")
        .with_hint("run it again: what lacks is pushed once more. If that doesn't help, the registry's index of referrers is broken")
        .on(Side::Target)
        .at(Stage::Copy)
}
