//! Checks whether the targets have the locked referrers of the images that they have: one request for the list of
//! referrers, and one for each tag.

use std::collections::{BTreeSet, HashMap};

use futures::StreamExt as _;

use super::request::{QUESTIONS, Request};
use super::{Action, Overwrite, Plan, Planned, Transfer};
use crate::error::{Result, Stage, unless_stopped};
use crate::oci::{Digest, Referrer, Repository};
use crate::referrers::{Claims, Presence, presence};
use crate::store::Target;

/// A root at a target.
type Place = (Repository, Digest);

/// How a referrer is missing at the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gap {
    /// It isn't there, or isn't listed.
    Absent,
    /// Its tag holds something else, or unknown content.
    Other,
}

/// The referrers that a target lacks.
type Lacking = HashMap<Referrer, Gap>;

/// Adds work for images whose tag is right, but whose target lacks some of their referrers.
pub(super) async fn find_lacking(request: Request<'_>, plan: &mut Plan) {
    // The same root may have several tags there.
    let mut questions: HashMap<Place, BTreeSet<Referrer>> = HashMap::new();
    for transfer in plan.images.iter().filter_map(to_ask_for) {
        questions.entry(place(transfer)).or_default().extend(transfer.referrers.iter().cloned());
    }
    let asked = questions.into_iter().map(|(place, referrers)| async move {
        let (repository, root) = &place;
        let answer = async { lacking(&*request.stores.target(repository)?, root, referrers).await };
        let answer = unless_stopped(request.stop, answer).await;
        (place, answer.map_err(|error| error.at(Stage::Plan)))
    });
    let answers: HashMap<Place, Result<Lacking>> =
        futures::stream::iter(asked).buffer_unordered(QUESTIONS).collect().await;
    for planned in &mut plan.images {
        let Some(answer) = to_ask_for(planned).and_then(|transfer| answers.get(&place(transfer))) else { continue };
        match (answer, &mut *planned) {
            (Ok(lacking), Planned::Image(transfer)) => refer(transfer, lacking),
            (Err(error), Planned::Image(transfer)) => *planned = transfer.failed(error.clone()),
            (_, Planned::Failed { .. }) => {}
        }
    }
}

fn to_ask_for(planned: &Planned) -> Option<&Transfer> {
    match planned {
        Planned::Image(transfer) if transfer.action == Action::UpToDate && !transfer.referrers.is_empty() => {
            Some(transfer)
        }
        _ => None,
    }
}

fn place(transfer: &Transfer) -> Place {
    (transfer.target.clone(), transfer.target_digest().clone())
}

fn refer(transfer: &mut Transfer, lacking: &Lacking) {
    let of = |lack| transfer.referrers.iter().filter(move |referrer| lacking.get(referrer) == Some(&lack));
    let (mut absent, other): (Vec<Referrer>, Vec<Referrer>) =
        (of(Gap::Absent).cloned().collect(), of(Gap::Other).cloned().collect());
    let overwrite = transfer.handling.overwrite;
    // The copy reports a conflict.
    let has_work = !absent.is_empty() || !other.is_empty() && overwrite != Overwrite::Keep;
    match overwrite {
        Overwrite::Replace => absent.extend(other),
        Overwrite::Refuse | Overwrite::Keep => transfer.left = other,
    }
    if has_work {
        transfer.lacking = absent;
        transfer.decide(Action::Refer);
    }
}

/// The members of `referrers` that `target` lacks. Those whose state is unknown are sent again.
async fn lacking(target: &dyn Target, root: &Digest, referrers: BTreeSet<Referrer>) -> Result<Lacking> {
    let referrers: Vec<Referrer> = referrers.into_iter().collect();
    let found = presence(target, root, &referrers, Claims::Believed).await?;
    let lacking = referrers.into_iter().zip(found).filter_map(|(referrer, found)| {
        let lack = match found {
            Presence::There => return None,
            Presence::Absent => Gap::Absent,
            Presence::Other(_) => Gap::Other,
            Presence::Withheld(error) => {
                let hint = error.hint().unwrap_or_default();
                tracing::warn!(hint, "{error}; can't tell whether it is a referrer of the image");
                Gap::Other
            }
            Presence::Unknown(error) => {
                tracing::info!("{error}; can't tell whether {} is there", referrer.digest);
                Gap::Absent
            }
        };
        Some((referrer, lack))
    });
    Ok(lacking.collect())
}
