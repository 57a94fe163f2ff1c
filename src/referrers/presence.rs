//! Checks whether the referrers of a manifest are at a target, for `plan`, `copy` and `verify`.
//!
//! A referrer with a tag is there if its tag names it. Any other is there if clients can find it: the target lists
//! it as a referrer of the subject, by the referrers API or the index under the fallback tag. If there is no list,
//! the manifest itself is requested.

use std::collections::HashSet;

use futures::future::try_join_all;

use crate::error::{Error, Kind, Result};
use crate::oci::{Digest, Referrer, Selector};
use crate::store::{Held, Referrers, Target};

/// What a target has for a referrer.
#[derive(Debug, Clone)]
pub enum Presence {
    /// The referrer, and clients can find it.
    There,
    /// Nothing, or it isn't listed.
    Absent,
    /// Its tag holds something else.
    Other(Digest),
    /// Its tag holds something that the target doesn't identify.
    Withheld(Error),
    /// The target doesn't answer the request.
    Unknown(Error),
}

/// How to treat an index under the fallback tag: clients have written it, and it may list deleted manifests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claims {
    /// Its entries count as present.
    Believed,
    /// Each of its entries is requested.
    Checked,
}

/// What `target` has for each of `expected`, the referrers of `subject`, in their order.
///
/// # Errors
/// Trouble of the target. A refusal to answer is [`Presence::Unknown`].
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

/// A target's list of the referrers of a manifest.
#[derive(Debug, Default)]
struct List {
    digests: HashSet<Digest>,
    /// Clients have written it.
    is_claim: bool,
    /// The target has refused to return it.
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

/// What `name` says about `referrer`.
async fn under(target: &dyn Target, name: &Selector, referrer: &Referrer) -> Result<Presence> {
    Ok(match target.held(name).await? {
        Held::Manifest(found) if found == referrer.digest => Presence::There,
        Held::Manifest(found) => Presence::Other(found),
        Held::Nothing => Presence::Absent,
        Held::Withheld(error) => Presence::Withheld(error),
        Held::Unknown(error) => Presence::Unknown(error),
    })
}
