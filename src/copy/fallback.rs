//! The fallback index of a target without referrers API (distribution-spec, "Referrers Tag Schema").
//!
//! The source's own bytes where the target has none yet and has all that they list; else what is there, with what it
//! lacks at its end. No registry can compare and swap a tag, so it is read just before each push and again after it: a
//! run that finds its entries overwritten by another one adds them to what there is then.

use std::collections::HashSet;

use super::Engine;
use super::push_outcome::{PushOutcome, classify};
use super::referrer_set::ReferrerSet;
use super::route::{self, Route};
use crate::error::{Error, Kind, Result, Side};
use crate::oci::{Digest, Listing, Manifest, MediaType, Selector};
use crate::store::Referrers;

/// How often the index is written before somebody else is said to keep changing it.
const TRIES: usize = 5;

/// Entries that aren't listed, and why.
type LeftOut = Vec<(Digest, Error)>;

/// What a target may refuse an index for, though the manifest itself was taken: the first that has any is left out.
const SUSPECTS: [fn(&MediaType) -> bool; 2] =
    [MediaType::is_index, |media_type| media_type.as_str() != MediaType::OCI_MANIFEST];

/// Makes sure that the target lists `entries` as what refers to the subject of `set`; those that it doesn't take there, and why.
/// `here` are the referrers that the target has.
pub(super) async fn list(
    engine: &Engine,
    route: &Route,
    set: &ReferrerSet,
    mut entries: Vec<Listing>,
    here: &HashSet<Digest>,
) -> Result<LeftOut> {
    let subject = &set.subject;
    let turn = (route.target_repository().clone(), subject.clone());
    let _turn = engine.listings.take(turn).await;
    let tag = Selector::Tag(subject.referrers_tag());
    let mut left_out = LeftOut::new();
    let mut tries = 0..=TRIES;
    while tries.next().is_some() {
        let current = match current(route, subject, &entries).await {
            Ok(Current::Complete) => return Ok(left_out),
            Ok(Current::Index(index)) => index,
            // Whoever writes an index that can't be read loses what others have put into it.
            Err(error) if error.is_refusal() => {
                return Ok(refuse(left_out, entries, &unreadable(error.on(Side::Target))));
            }
            Err(error) => return Err(error.on(Side::Target)),
        };
        let next = match current {
            Some(index) => match Listing::added(index.bytes(), &entries) {
                Ok(Some(bytes)) => manifest(bytes, index.media_type())?,
                Ok(None) => return Ok(left_out),
                Err(_) => return Ok(refuse(left_out, entries, &occupied(route, &tag))),
            },
            None => match of_source(engine, route, set, (&entries, !set.is_late), here)
                .await?
                .filter(|_| left_out.is_empty())
            {
                Some(index) => index,
                None => manifest(Listing::index(&entries), &oci_index())?,
            },
        };
        let pushed = route.target.push_manifest(&next, &tag).await.map_err(|error| error.on(Side::Target));
        let refusal = match pushed {
            Err(error) if error.kind() == Kind::MissingContent => dangling(route, &tag, error),
            pushed => match classify(pushed)? {
                PushOutcome::Taken(_) => continue,
                PushOutcome::Refused(error) => unlistable(route, &tag, error),
            },
        };
        let (suspects, rest) = without_suspects(entries);
        left_out = refuse(left_out, suspects, &refusal);
        if rest.is_empty() {
            return Ok(left_out);
        }
        entries = rest;
        tries = 0..=TRIES;
    }
    let attempted = format!("list what refers to {subject} in {}", route.target);
    let why = format!("somebody else has changed the tag {tag} each of {TRIES} times");
    Err(Error::new(Kind::Unavailable, attempted, why).on(Side::Target))
}

/// Those of `entries` that may be why an index of them is refused, and the rest: all of them, if none is more likely than the
/// others.
fn without_suspects(entries: Vec<Listing>) -> (Vec<Listing>, Vec<Listing>) {
    let is = |entry: &Listing, suspect: &fn(&MediaType) -> bool| entry.media_type().is_some_and(|kind| suspect(&kind));
    let suspect = SUSPECTS.iter().find(|suspect| entries.iter().any(|entry| is(entry, suspect)));
    match suspect {
        Some(suspect) => entries.into_iter().partition(|entry| is(entry, suspect)),
        None => (entries, Vec::new()),
    }
}

fn refuse(mut left_out: LeftOut, entries: Vec<Listing>, refusal: &Error) -> LeftOut {
    left_out.extend(entries.into_iter().map(|entry| (entry.digest, refusal.clone())));
    left_out
}

/// Keeps the source's own index of what refers to `subject` in a target that lists by itself, so that it arrives from there
/// as it was here. Nothing that the target lacks is in it.
pub(super) async fn keep(engine: &Engine, route: &Route, set: &ReferrerSet, here: &HashSet<Digest>) -> Result<()> {
    let tag = Selector::Tag(set.subject.referrers_tag());
    let Some(index) = of_source(engine, route, set, (&[], true), here).await? else { return Ok(()) };
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

/// The source's index, if all that it lists is here, and all of `entries` is in it. `asks` = it is worth a question of its own.
async fn of_source(
    engine: &Engine,
    route: &Route,
    set: &ReferrerSet,
    (entries, asks): (&[Listing], bool),
    here: &HashSet<Digest>,
) -> Result<Option<Manifest>> {
    let (finder, source, subject) = (&engine.finder, route.source_repository(), &set.subject);
    let found = match asks {
        false => finder.known(source, subject).await,
        true => {
            let found = finder.find(source, std::slice::from_ref(subject)).await;
            found.map_err(|error| error.on(Side::Source))?.pop()
        }
    };
    let index = found.and_then(|found| found.index.clone());
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

fn unlistable(route: &Route, tag: &Selector, refusal: Error) -> Error {
    let attempted = format!("add to the index of referrers {tag} of {}", route.target);
    let why = format!("the registry takes the referrer, but no index that lists it: {}", refusal.why());
    let status = refusal.status();
    let error = Error::new(Kind::Unsupported, attempted, why).with_hint(
        "it is there by its digest alone, where nobody finds it: leave its kind out by artifact_types:, set referrers: none, or \
         mirror to a registry with the referrers API",
    );
    let error = error.with_source(refusal).on(Side::Target);
    match status {
        Some(status) => error.with_status(status),
        None => error,
    }
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
