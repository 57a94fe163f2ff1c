//! The fallback index at a target without the referrers API (distribution-spec, "Referrers Tag Schema").
//!
//! If the target has no index yet and has everything that the source's index lists, the source's bytes are pushed
//! unchanged. Otherwise missing entries are appended to the target's index. Registries have no compare-and-swap for
//! tags, so the tag is read just before each push and again after it: if another run has overwritten the entries,
//! they are added again.

use std::collections::HashSet;

use super::Engine;
use super::push_outcome::{PushOutcome, classify};
use super::referrer_set::ReferrerSet;
use super::route::{self, Route};
use crate::error::{Error, Kind, Result, Side};
use crate::oci::{Digest, Listing, Manifest, MediaType, Selector};
use crate::store::Referrers;

/// Attempts to write the index before the run reports that something else keeps changing it.
const TRIES: usize = 5;

/// Entries that couldn't be listed, with the reason.
type LeftOut = Vec<(Digest, Error)>;

/// Properties for which a target may refuse an index although it accepted the manifest. Entries with the first
/// property that occurs are left out.
const SUSPECTS: [fn(&MediaType) -> bool; 2] =
    [MediaType::is_index, |media_type| media_type.as_str() != MediaType::OCI_MANIFEST];

/// Makes sure that the target lists `entries` as referrers of the subject of `set`. Returns the entries that the
/// target refuses to list, with the reason. `here`: the referrers that the target has.
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
            // Overwriting an index that can't be read would lose the entries of others.
            Err(error) if error.is_refusal() => {
                return Ok(refuse(left_out, entries, &unreadable(error)));
            }
            Err(error) => return Err(error),
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
        let refusal = match route.target.push_manifest(&next, &tag).await {
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
    let attempted = format!("list referrers of {subject} in {}", route.target);
    let why = format!("another process changed the tag {tag} during each of {TRIES} attempts");
    Err(Error::new(Kind::Unavailable, attempted, why).on(Side::Target))
}

/// Splits `entries` into those that may cause the refusal of an index and the rest. Returns all as suspects if none
/// is more likely than the others.
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

/// Copies the source's fallback index of `subject` to a target that has the referrers API, so that a later copy
/// from that target gets the same index. Skipped if the target lacks any of its entries.
pub(super) async fn keep(engine: &Engine, route: &Route, set: &ReferrerSet, here: &HashSet<Digest>) -> Result<()> {
    let tag = Selector::Tag(set.subject.referrers_tag());
    let Some(index) = of_source(engine, route, set, (&[], true), here).await? else { return Ok(()) };
    if route::holds(route, &tag, index.digest()).await? {
        return Ok(());
    }
    route.target.push_manifest(&index, &tag).await.map(drop)
}

/// The target's current list.
enum Current {
    /// Complete, through the referrers API.
    Complete,
    /// The content of the fallback tag.
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
    // The target has the API, but didn't confirm the referrer on push and doesn't list it.
    match route.target.resolve(&Selector::Tag(subject.referrers_tag())).await {
        Ok(found) => Ok(Current::Index(Some(route.target.manifest(&found.digest).await?))),
        Err(error) if error.kind() == Kind::NotFound => Ok(Current::Index(None)),
        Err(error) => Err(error),
    }
}

/// The source's index, if the target has everything it lists and it includes all of `entries`. `asks`: a request to
/// the source is justified.
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
        true => finder.find(source, std::slice::from_ref(subject)).await?.pop(),
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
        "the registry lists referrers only in an index that clients keep, which can't be read there: give the account \
         permission to read it, or set referrers: none",
    )
}

fn unlistable(route: &Route, tag: &Selector, refusal: Error) -> Error {
    let attempted = format!("add to the index of referrers {tag} of {}", route.target);
    let why = format!("the registry accepts the referrer, but no index that lists it: {}", refusal.why());
    let status = refusal.status();
    let error = Error::new(Kind::Unsupported, attempted, why).with_hint(
        "clients can't find it by its digest: exclude its type with artifact_types:, set \
         referrers: none, or use a target with the referrers API",
    );
    let error = error.with_source(refusal).on(Side::Target);
    match status {
        Some(status) => error.with_status(status),
        None => error,
    }
}

fn occupied(route: &Route, tag: &Selector) -> Error {
    let attempted = format!("read the index of referrers {tag} of {}", route.target);
    Error::new(Kind::Unsupported, attempted, format!("the tag {tag} isn't an index of referrers"))
        .with_hint(format!("remove the tag {tag} from the target, and run it again"))
        .on(Side::Target)
}

/// Explains a refusal by entries that were listed by others and have since been deleted; all of our own exist.
fn dangling(route: &Route, tag: &Selector, refusal: Error) -> Error {
    let attempted = format!("add to the index of referrers {tag} of {}", route.target);
    Error::new(Kind::Unsupported, attempted, format!("the index {tag} lists missing manifests: {}", refusal.why()))
        .with_hint(format!("remove the tag {tag} from the target, and run it again"))
        .with_source(refusal)
        .on(Side::Target)
}
