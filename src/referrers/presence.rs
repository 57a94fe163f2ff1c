//! Whether what refers to a manifest is at a target: the one answer for `plan`, `copy` and `verify`.
//!
//! A referrer with a tag is there if its tag names it. Any other is there if it can be found: the target's list of what
//! refers to the subject has it, by the referrers API or the index under the fallback tag. Where no list can be had, the
//! manifest itself is asked for.

use std::collections::HashSet;

use futures::future::try_join_all;

use crate::error::{Error, Kind, Result};
use crate::oci::{Digest, Referrer, Selector};
use crate::store::{Held, Referrers, Target};

/// What a target has in the place of a referrer.
#[derive(Debug, Clone)]
pub enum Presence {
    /// The referrer, and it can be found.
    There,
    /// Nothing, or it isn't listed.
    Absent,
    /// Something else, under its tag.
    Other(Digest),
    /// Something under its tag, and the target doesn't tell what.
    Withheld(Error),
    /// The target doesn't answer the question.
    Unknown(Error),
}

/// What to make of an index under the fallback tag: clients have written it, and it may name what is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claims {
    /// What it names is there.
    Believed,
    /// Each manifest that it names is asked for.
    Checked,
}

/// What `target` has in the place of each of `expected`, which refer to `subject`, in their order.
///
/// # Errors
/// Trouble of the target. Its refusal to answer is [`Presence::Unknown`].
pub async fn presence(
    target: &dyn Target,
    subject: &Digest,
    expected: &[Referrer],
    claims: Claims,
) -> Result<Vec<Presence>> {
    let list = match expected.iter().all(|referrer| referrer.tag.is_some()) {
        true => List::default(),
        false => List::of(target, subject).await?,
    };
    let list = &list;
    let each = expected.iter().map(|referrer| async move {
        match &referrer.tag {
            Some(tag) => under(target, &Selector::Tag(tag.clone()), referrer).await,
            None => list.tells(target, referrer, claims).await,
        }
    });
    try_join_all(each).await
}

/// What a target lists as referring to a manifest.
#[derive(Debug, Default)]
struct List {
    digests: HashSet<Digest>,
    /// Clients have written it.
    is_claim: bool,
    /// The target has refused to give it.
    is_refused: bool,
}

impl List {
    async fn of(target: &dyn Target, subject: &Digest) -> Result<Self> {
        let listed = match target.referrers(subject).await {
            Ok(listed) => listed,
            Err(error) if error.kind() == Kind::NotFound => return Ok(Self::default()),
            Err(error) if error.is_refusal() => match target.tagged_referrers(subject).await {
                Ok(tagged @ Referrers::Tagged(Some(_))) => tagged,
                Ok(_) => return Ok(Self { is_refused: true, ..Self::default() }),
                Err(error) if error.is_refusal() => return Ok(Self { is_refused: true, ..Self::default() }),
                Err(error) => return Err(error),
            },
            Err(error) => return Err(error),
        };
        let digests = listed.list().into_iter().map(|referrer| referrer.digest).collect();
        Ok(Self { digests, is_claim: matches!(listed, Referrers::Tagged(_)), is_refused: false })
    }

    async fn tells(&self, target: &dyn Target, referrer: &Referrer, claims: Claims) -> Result<Presence> {
        let is_listed = self.digests.contains(&referrer.digest);
        if self.is_refused || is_listed && self.is_claim && claims == Claims::Checked {
            return under(target, &Selector::Digest(referrer.digest.clone()), referrer).await;
        }
        Ok(if is_listed { Presence::There } else { Presence::Absent })
    }
}

/// What `name` tells of `referrer`.
async fn under(target: &dyn Target, name: &Selector, referrer: &Referrer) -> Result<Presence> {
    Ok(match target.held(name).await? {
        Held::Manifest(found) if found == referrer.digest => Presence::There,
        Held::Manifest(found) => Presence::Other(found),
        Held::Nothing => Presence::Absent,
        Held::Withheld(error) => Presence::Withheld(error),
        Held::Unknown(error) => Presence::Unknown(error),
    })
}
