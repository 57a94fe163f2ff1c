//! `--extra`: tags in the target repositories that the lock doesn't know.
//!
//! Tags that contain a digest (`sha256-…`, including cosign's) belong to the manifest with this digest. The
//! manifests of an image are known only after its graph was checked, so such tags are listed only with `--deep`,
//! and only if all locked content of the repository was there.

use std::collections::{HashMap, HashSet};

use futures::StreamExt as _;

use super::graph::Inspector;
use super::{Request, Verification};
use crate::desired::{Entry, entries};
use crate::error::{Kind, Result, Stage};
use crate::oci::{Digest, Reference, Repository, Selector, Tag};
use crate::report::{Difference, Outcome, Part};

/// Repositories, and tags of one repository, that are checked concurrently.
const QUESTIONS: usize = 16;

/// The expected content of a target repository.
struct Known {
    /// The source repository; the first one if there are several.
    source: Repository,
    tags: HashSet<Tag>,
    digests: HashSet<Digest>,
}

/// The extra tags in each of `targets`. Its flag says whether all expected content was seen.
pub(super) async fn extra(
    request: Request<'_>,
    inspector: &Inspector,
    targets: Vec<(Repository, bool)>,
) -> Verification {
    let mut known = known(request);
    let asked = targets.into_iter().filter_map(|(target, whole)| {
        let mut known = known.remove(&target)?;
        known.digests.extend(inspector.met(&target));
        Some(async move {
            let found = unknown(inspector, &target, &known, whole).await;
            (target, known, found)
        })
    });
    let asked: Vec<_> = asked.collect();
    let mut asked = futures::stream::iter(asked).buffered(QUESTIONS);
    let mut extra = Verification::default();
    while let Some((target, known, found)) = asked.next().await {
        match found {
            Ok(tags) => extra.differences.extend(tags.into_iter().map(|(tag, digest)| Difference {
                source: known.source.to_string(),
                target: Some(Reference::tagged(target.clone(), tag).to_string()),
                what: Part::Tag,
                expected: None,
                found: Some(digest),
                why: None,
            })),
            Err(error) => {
                let error = error.at(Stage::Verify);
                let outcome = Outcome::unresolved(known.source.to_string(), error);
                extra.outcomes.push(Outcome { target: target.to_string(), ..outcome });
            }
        }
    }
    extra
}

/// Covers all images, even if the run is limited to some of them.
fn known(request: Request<'_>) -> HashMap<Repository, Known> {
    let mut all: HashMap<Repository, Known> = HashMap::new();
    for Entry { rule, images, .. } in entries(request.images, request.lock) {
        let pins = || request.lock.images().filter(|pin| *pin.source.repository() == rule.repository);
        for target in &rule.destinations {
            let known = all.entry(target.clone()).or_insert_with(|| Known {
                source: rule.repository.clone(),
                tags: HashSet::new(),
                digests: HashSet::new(),
            });
            known.tags.extend(images.iter().filter_map(|image| image.tag.clone()));
            for pin in pins() {
                known.tags.extend(pin.source.tag().cloned());
                known.tags.extend(pin.referrers.iter().filter_map(|referrer| referrer.tag.clone()));
                let referrers = pin.referrers.iter().map(|referrer| &referrer.digest);
                known.digests.extend([&pin.digest, pin.target_digest()].into_iter().chain(referrers).cloned());
            }
        }
    }
    all
}

/// The unknown tags of `target`, and their digests.
async fn unknown(inspector: &Inspector, target: &Repository, known: &Known, whole: bool) -> Result<Vec<(Tag, Digest)>> {
    let tags = match inspector.ask(target, |target| async move { target.tags().await }).await {
        Ok(tags) => tags,
        Err(error) if error.kind() == Kind::NotFound => Vec::new(),
        Err(error) => return Err(error),
    };
    let stems: HashSet<Tag> = known.digests.iter().map(Digest::referrers_tag).collect();
    let is_known = |tag: &Tag| match named_digest(tag) {
        Some(stem) => known.tags.contains(tag) || !whole || stems.iter().any(|known| known.as_str() == stem),
        None => known.tags.contains(tag),
    };
    let asked = tags.into_iter().filter(|tag| !is_known(tag)).map(|tag| async move {
        let name = Selector::Tag(tag.clone());
        let held = inspector.ask(target, |target| async move { target.held(&name).await?.digest() }).await;
        // Some registries list tags whose manifest was deleted.
        held.map(|held| held.map(|digest| (tag, digest)))
    });
    let answers: Vec<_> = futures::stream::iter(asked).buffered(QUESTIONS).collect().await;
    answers.into_iter().filter_map(Result::transpose).collect()
}

/// The part of `tag` that encodes a digest, as in the fallback tag and cosign's tags.
fn named_digest(tag: &Tag) -> Option<&str> {
    let stem = tag.as_str().split('.').next()?;
    let (algorithm, hex) = stem.split_once('-')?;
    // A sha512 digest is truncated to the maximum length of a tag.
    let digits = match algorithm {
        "sha256" => 64,
        "sha512" => 121,
        _ => return None,
    };
    (hex.len() == digits && hex.bytes().all(|b| b.is_ascii_hexdigit())).then_some(stem)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_in_a_referrer_tag_is_recognised() {
        let digest = Digest::of(b"x");
        let long: Digest = format!("sha512:{}", "a".repeat(128)).parse().unwrap();
        let tags = digest.cosign_tags().chain([digest.referrers_tag(), long.referrers_tag()]);
        for tag in tags {
            let of = if tag.as_str().starts_with("sha256") { &digest } else { &long };
            assert_eq!(named_digest(&tag), Some(of.referrers_tag().as_str()), "{tag}");
        }
        for tag in ["1.27", "sha256-abc", "sha256-", "sha1-2", "latest.sig"] {
            assert_eq!(named_digest(&tag.parse().unwrap()), None, "{tag}");
        }
    }
}
