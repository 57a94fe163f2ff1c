//! Finds the referrers of the roots for the lock: when an image is pinned, and again when its pin may move.
//!
//! A signature is often added after its image, also to a `tag@digest`. So an update looks for referrers even of
//! images that haven't moved. Otherwise the lock's referrers are used, and the source isn't asked. Referrers that
//! no rule wants any more are dropped without a request; those that a rule newly wants are found by the next
//! update.

use std::collections::{BTreeMap, HashMap};

use super::{Request, Resolution};
use crate::config::{ImageRule, ReferrerPolicy, ReferrerRule};
use crate::desired::{Entry, Image, entries};
use crate::error::{Result, Stage, unless_stopped};
use crate::lock::{self, Lock, LockedImage};
use crate::oci::{Digest, Platform, Reference, Referrer, Repository};
use crate::referrers::Found;
use crate::select::Only;

/// A pin of the lock, as its lookup key.
type Key = (Reference, Vec<Platform>);

/// Sets the wanted referrers of each pin. If the source can't list the referrers of an image, the image keeps its
/// old pin with the old referrers, or has none.
pub(super) async fn find(request: Request<'_>, resolution: &mut Resolution) {
    let wishes = wishes(request.images, &resolution.lock, request.only);
    let mut to_ask: BTreeMap<Repository, Vec<(Key, Digest)>> = BTreeMap::new();
    for (key, rules) in &wishes {
        let Some(image) = resolution.lock.image(&key.0, &key.1) else { continue };
        if is_asked(request, key, image, rules) && !resolution.failed.contains_key(&name(key)) {
            to_ask.entry(key.0.repository().clone()).or_default().push((key.clone(), image.digest.clone()));
        }
        let kept = wanted(&image.referrers, image, rules);
        resolution.lock.pin(LockedImage { referrers: kept, ..image.clone() });
    }
    let asked = to_ask.into_iter().map(|(repository, images)| async move {
        let digests: Vec<Digest> = images.iter().map(|(_, digest)| digest.clone()).collect();
        let answer = async { Ok(request.finder.find_each(&repository, &digests).await) };
        let found = match unless_stopped(request.stop, answer).await {
            Ok(found) => found,
            Err(stopped) => digests.iter().map(|_| Err(stopped.clone())).collect(),
        };
        images.into_iter().map(|(key, _)| key).zip(found).collect::<Vec<_>>()
    });
    for (key, found) in futures::future::join_all(asked).await.into_iter().flatten() {
        let found = found.and_then(|found| known_referrers(request, resolution, (&key, &wishes[&key]), &found));
        settle(request, resolution, &key, &wishes[&key], found);
    }
}

/// The referrers of an image according to the source. If the source lists only a part, the lock's referrers of the
/// same image stay. If a referrer is required and none is known, returns the refusal.
fn known_referrers(
    request: Request<'_>,
    resolution: &Resolution,
    (key, rules): (&Key, &[&ReferrerRule]),
    found: &Found,
) -> Result<Vec<Referrer>> {
    let mut referrers = found.referrers.clone();
    let Some(withheld) = &found.withheld else { return Ok(referrers) };
    let pin = resolution.lock.image(&key.0, &key.1).map(|pin| &pin.digest);
    let old = request.old.image(&key.0, &key.1).filter(|old| Some(&old.digest) == pin);
    let old = old.map(|old| old.referrers.as_slice()).unwrap_or_default();
    let is_new = |one: &&Referrer| !referrers.iter().any(|known| known.digest == one.digest);
    let kept: Vec<Referrer> = old.iter().filter(is_new).cloned().collect();
    referrers.extend(kept);
    let wants_all = rules.iter().any(|rule| rule.policy == ReferrerPolicy::All);
    let is_any = referrers.iter().any(|one| rules.iter().any(|rule| rule.wants(one)));
    if !wants_all && !is_any {
        return Err(withheld.clone());
    }
    request.finder.warn_of_withheld(key.0.repository());
    Ok(referrers)
}

fn settle(
    request: Request<'_>,
    resolution: &mut Resolution,
    key: &Key,
    rules: &[&ReferrerRule],
    found: Result<Vec<Referrer>>,
) {
    let Some(image) = resolution.lock.image(&key.0, &key.1) else { return };
    match (found, request.old.image(&key.0, &key.1)) {
        (Ok(found), _) => {
            let referrers = wanted(&found, image, rules);
            resolution.lock.pin(LockedImage { referrers, ..image.clone() });
        }
        (Err(error), old) => {
            match old {
                Some(old) => {
                    let referrers = wanted(&old.referrers, old, rules);
                    resolution.lock.pin(LockedImage { referrers, ..old.clone() });
                }
                None => resolution.lock.unpin(&key.0, &key.1),
            }
            resolution.failed.insert(name(key), error.at(Stage::Resolve));
        }
    }
}

/// The name under which a failure is reported.
fn name((source, platforms): &Key) -> lock::Name {
    lock::name(source, platforms)
}

/// The rules for each pin that this run covers, from all entries that ask for it.
fn wishes<'a>(images: &'a [ImageRule], lock: &Lock, only: &Only) -> HashMap<Key, Vec<&'a ReferrerRule>> {
    let mut wishes: HashMap<Key, Vec<&ReferrerRule>> = HashMap::new();
    for Entry { rule, images, .. } in entries(images, lock) {
        for Image { source, pin, .. } in images {
            if let Some(pin) = pin.filter(|_| only.matches(&source)) {
                let key = (source, pin.platforms.clone());
                wishes.entry(key).or_default().push(&rule.handling.referrers);
            }
        }
    }
    wishes
}

/// Whether the source is asked for the referrers of `image`.
fn is_asked(request: Request<'_>, (source, platforms): &Key, image: &LockedImage, rules: &[&ReferrerRule]) -> bool {
    let is_new = || request.old.image(source, platforms).is_none();
    let is_wanted = rules.iter().any(|rule| rule.policy != ReferrerPolicy::None);
    let may_change = || request.update.moves(source.repository(), source.tag());
    is_wanted && image.mirrored.is_none() && (is_new() || may_change())
}

/// The members of `referrers` that some entry wants. Referrers of the whole image don't apply to a part of it.
fn wanted(referrers: &[Referrer], image: &LockedImage, rules: &[&ReferrerRule]) -> Vec<Referrer> {
    let wanted = |one: &&Referrer| image.mirrored.is_none() && rules.iter().any(|rule| rule.wants(one));
    referrers.iter().filter(wanted).cloned().collect()
}

/// Removes the referrers that `images` don't want from `kept`.
pub(super) fn drop_unwanted(images: &[ImageRule], kept: &mut Lock) {
    for (key, rules) in wishes(images, kept, &Only::default()) {
        if let Some(image) = kept.image(&key.0, &key.1) {
            let referrers = wanted(&image.referrers, image, &rules);
            kept.pin(LockedImage { referrers, ..image.clone() });
        }
    }
}
