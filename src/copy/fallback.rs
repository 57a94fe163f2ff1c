//! The fallback index of a target without referrers API (distribution-spec, "Referrers Tag Schema").
//!
//! The source's own bytes where the target has none yet and has all that they list; else what is there, with what it
//! lacks at its end. No registry can compare and swap a tag, so it is read just before each push and again after it: a
//! run that finds its entries overwritten by another one adds them to what there is then.

use std::collections::HashSet;

use super::Engine;
use super::push_outcome::{PushOutcome, classify};
use super::route::{self, Route};
use crate::error::{Error, Kind, Result, Side};
use crate::oci::{Digest, Listing, Manifest, MediaType, Selector};
use crate::store::Referrers;

/// How often the index is written before somebody else is said to keep changing it.
const TRIES: usize = 5;

/// Makes sure that the target lists `entries` as what refers to `subject`. `here` are the referrers that the target has.
pub(super) async fn list(
    engine: &Engine,
    route: &Route,
    subject: &Digest,
    entries: &[Listing],
    here: &HashSet<Digest>,
) -> Result<PushOutcome<()>> {
    let turn = (route.target_repository().clone(), subject.clone());
    let _turn = engine.listings.take(turn).await;
    let tag = Selector::Tag(subject.referrers_tag());
    for _ in 0..=TRIES {
        let current = match current(route, subject, entries).await {
            Ok(Current::Complete) => return Ok(PushOutcome::Taken(())),
            Ok(Current::Index(index)) => index,
            // Whoever writes an index that can't be read loses what others have put into it.
            Err(error) if error.is_refusal() => return Ok(PushOutcome::Refused(unreadable(error.on(Side::Target)))),
            Err(error) => return Err(error.on(Side::Target)),
        };
        let next = match current {
            Some(index) => match Listing::added(index.bytes(), entries) {
                Ok(Some(bytes)) => manifest(bytes, index.media_type())?,
                Ok(None) => return Ok(PushOutcome::Taken(())),
                Err(_) => return Ok(PushOutcome::Refused(occupied(route, &tag))),
            },
            None => match of_source(engine, route, subject, entries, here).await? {
                Some(index) => index,
                None => manifest(Listing::index(entries), &oci_index())?,
            },
        };
        let pushed = route.target.push_manifest(&next, &tag).await.map_err(|error| error.on(Side::Target));
        let refused = match pushed {
            Err(error) if error.kind() == Kind::MissingContent => PushOutcome::Refused(dangling(route, &tag, error)),
            pushed => classify(pushed)?,
        };
        if let PushOutcome::Refused(error) = refused {
            return Ok(PushOutcome::Refused(error));
        }
    }
    let attempted = format!("list what refers to {subject} in {}", route.target);
    let why = format!("somebody else has changed the tag {tag} each of {TRIES} times");
    Err(Error::new(Kind::Unavailable, attempted, why).on(Side::Target))
}

/// Keeps the source's own index of what refers to `subject` in a target that lists by itself, so that it arrives from there
/// as it was here. Nothing that the target lacks is in it.
pub(super) async fn keep(engine: &Engine, route: &Route, subject: &Digest, here: &HashSet<Digest>) -> Result<()> {
    let tag = Selector::Tag(subject.referrers_tag());
    let Some(index) = of_source(engine, route, subject, &[], here).await? else { return Ok(()) };
    if route::holds(route, &tag, index.digest()).await? {
        return Ok(());
    }
    route.target.push_manifest(&index, &tag).await.map(drop).map_err(|error| error.on(Side::Target))
}

/// What the target lists by now.
enum Current {
    /// All, by its referrers API.
    Complete,
    /// What lies under the fallback tag.
    Index(Option<Manifest>),
}

async fn current(route: &Route, subject: &Digest, entries: &[Listing]) -> Result<Current> {
    let listed = match route.target.referrers(subject).await? {
        Referrers::Tagged(index) => return Ok(Current::Index(index)),
        Referrers::Listed(listed) => listed,
    };
    if entries.iter().all(|entry| listed.iter().any(|one| one.digest == entry.digest)) {
        return Ok(Current::Complete);
    }
    // It has the API, but neither says so when it takes a referrer nor lists it.
    match route.target.resolve(&Selector::Tag(subject.referrers_tag())).await {
        Ok(found) => Ok(Current::Index(Some(route.target.manifest(&found.digest).await?))),
        Err(error) if error.kind() == Kind::NotFound => Ok(Current::Index(None)),
        Err(error) => Err(error),
    }
}

/// The source's index, if all that it lists is here, and all of `entries` is in it.
async fn of_source(
    engine: &Engine,
    route: &Route,
    subject: &Digest,
    entries: &[Listing],
    here: &HashSet<Digest>,
) -> Result<Option<Manifest>> {
    let found = engine.finder.find(route.source_repository(), std::slice::from_ref(subject)).await;
    let found = found.map_err(|error| error.on(Side::Source))?;
    let index = found.first().and_then(|found| found.index.clone());
    let is_fit = |index: &Manifest| {
        let listed = Listing::in_index(index.bytes()).unwrap_or_default();
        listed.iter().all(|one| here.contains(&one.digest))
            && entries.iter().all(|entry| listed.iter().any(|one| one.digest == entry.digest))
    };
    Ok(index.filter(is_fit))
}

fn manifest(bytes: Vec<u8>, media_type: &MediaType) -> Result<Manifest> {
    let manifest = Manifest::new(Digest::of(&bytes), Some(media_type.as_str()), bytes.into());
    manifest.map_err(|error| Error::defect("write an index of referrers", error))
}

fn oci_index() -> MediaType {
    MediaType::OCI_INDEX.parse().expect("a constant media type")
}

fn unreadable(refusal: Error) -> Error {
    refusal.with_hint(
        "the registry lists referrers only in an index that clients keep, which can't be read there: give the account the right \
         to, or set referrers: none",
    )
}

fn occupied(route: &Route, tag: &Selector) -> Error {
    let attempted = format!("read the index of referrers {tag} of {}", route.target);
    Error::new(Kind::Unsupported, attempted, format!("the tag {tag} holds something else than an index of referrers"))
        .with_hint(format!("remove the tag {tag} from the target, and run it again"))
}

/// All that we list is there: what isn't was listed by others, and has gone since.
fn dangling(route: &Route, tag: &Selector, refusal: Error) -> Error {
    let attempted = format!("add to the index of referrers {tag} of {}", route.target);
    Error::new(Kind::Unsupported, attempted, format!("what the index {tag} names is gone: {}", refusal.why()))
        .with_hint(format!("remove the tag {tag} from the target, and run it again"))
        .with_source(refusal)
}
