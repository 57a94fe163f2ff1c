//! Groups failures by cause, so that each cause is printed once.
//!
//! Two messages have the same cause if they differ only in digests and in names of their image. A message for several
//! images has generic words in place of those names.

use std::borrow::Cow;
use std::sync::LazyLock;

use regex::Regex;

use super::{Outcome, Status};
use crate::error::Error;

/// Images that failed for the same reason.
#[derive(Debug)]
pub(super) struct Cause<'a> {
    pub(super) status: Status,
    /// The attempt and the reason.
    pub(super) message: String,
    pub(super) hint: Option<String>,
    /// The failures in the order of the report; never empty.
    pub(super) failed: Vec<(&'a Outcome, &'a Error)>,
}

impl<'a> Cause<'a> {
    /// The canonical source references, without duplicates.
    pub(super) fn images(&self) -> Vec<&'a str> {
        let mut images: Vec<&str> = Vec::new();
        for (outcome, _) in &self.failed {
            if images.last() != Some(&outcome.source.as_str()) {
                images.push(&outcome.source);
            }
        }
        images
    }

    /// Whether it is about one image, at several targets only if they fail alike.
    pub(super) fn is_of_one(&self) -> bool {
        self.images().len() == 1 && self.failed.iter().all(|(_, error)| error.to_string() == self.message)
    }

    /// The highest number of attempts.
    pub(super) fn attempts(&self) -> u32 {
        self.failed.iter().map(|(_, error)| error.attempts()).max().unwrap_or(1)
    }
}

/// The causes of the failures in `outcomes`, in order of first appearance; causes with the same hint are adjacent.
pub(super) fn causes(outcomes: &[Outcome]) -> Vec<Cause<'_>> {
    let failed = outcomes.iter().filter(|outcome| outcome.is_failure());
    let failed = failed.filter_map(|outcome| Some((outcome, outcome.error.as_ref()?)));
    let mut found: Vec<(Key, Cause<'_>)> = Vec::new();
    let mut places: std::collections::HashMap<Key, usize> = std::collections::HashMap::new();
    for (outcome, error) in failed {
        let key = Key::of(outcome, error);
        match places.get(&key) {
            Some(at) => found[*at].1.failed.push((outcome, error)),
            None => {
                places.insert(key.clone(), found.len());
                let (message, hint) = (error.to_string(), error.hint().map(ToOwned::to_owned));
                found.push((key, Cause { status: outcome.status, message, hint, failed: vec![(outcome, error)] }));
            }
        }
    }
    for (key, cause) in &mut found {
        let same = |text: &str, other: fn(&Error) -> Cow<'_, str>| cause.failed.iter().all(|(_, e)| other(e) == text);
        if !same(&cause.message, |error| error.to_string().into()) {
            cause.message.clone_from(&key.message);
        }
        if !same(cause.hint.as_deref().unwrap_or_default(), |error| error.hint().unwrap_or_default().into()) {
            cause.hint.clone_from(&key.hint);
        }
    }
    in_order_of_hints(found.into_iter().map(|(_, cause)| cause).collect())
}

fn in_order_of_hints(causes: Vec<Cause<'_>>) -> Vec<Cause<'_>> {
    let mut hints: Vec<Option<String>> = Vec::new();
    let mut ordered: Vec<(usize, Cause<'_>)> = Vec::new();
    for cause in causes {
        let place = hints.iter().position(|hint| *hint == cause.hint).unwrap_or(hints.len());
        if place == hints.len() {
            hints.push(cause.hint.clone());
        }
        ordered.push((place, cause));
    }
    ordered.sort_by_key(|(place, _)| *place);
    ordered.into_iter().map(|(_, cause)| cause).collect()
}

/// The common part of failures with the same cause.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    status: Status,
    http_status: Option<u16>,
    message: String,
    hint: Option<String>,
}

impl Key {
    fn of(outcome: &Outcome, error: &Error) -> Self {
        let names = Names::of(outcome);
        let message = error.to_string();
        let attempted = message.strip_suffix(error.why()).unwrap_or(&message);
        let message = names.without_tag(&names.replaced(attempted)) + &names.replaced(error.why());
        let hint = error.hint().map(|hint| names.replaced(hint));
        Self { status: outcome.status, http_status: error.status(), message, hint }
    }
}

/// The names of an image, longest first, each with its generic word.
struct Names<'a> {
    tag: Option<&'a str>,
    names: Vec<(Cow<'a, str>, &'static str)>,
}

static DIGEST: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\b(?:sha256|sha512):[0-9a-f]{4,128}\b").expect("a constant pattern"));

impl<'a> Names<'a> {
    fn of(outcome: &'a Outcome) -> Self {
        let Outcome { source, target, .. } = outcome;
        let mut names: Vec<(Cow<'_, str>, _)> = vec![
            (source.into(), "IMAGE"),
            (target.into(), "TARGET"),
            (repository(source).into(), "REPOSITORY"),
            (repository(target).into(), "REPOSITORY"),
        ];
        // What a tag names is asked for in these words.
        for (name, word) in [(source, "IMAGE"), (target, "TARGET")] {
            names.extend(tag(name).map(|tag| (format!("{tag} in {}", repository(name)).into(), word)));
        }
        // A part of a name that is no more than a host says where, and not what.
        names.retain(|(name, _)| name.contains('/'));
        names.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
        Self { tag: tag(source), names }
    }

    fn replaced(&self, text: &str) -> String {
        let text = self.names.iter().fold(text.to_owned(), |text, (name, word)| replace_whole(&text, name, word));
        DIGEST.replace_all(&text, "DIGEST").into_owned()
    }

    /// Removes the tag if it is a separate word.
    fn without_tag(&self, attempted: &str) -> String {
        let words = attempted.split(' ').map(|word| if Some(word) == self.tag { "TAG" } else { word });
        words.collect::<Vec<_>>().join(" ")
    }
}

/// Replaces `name` unless a longer name begins with it.
fn replace_whole(text: &str, name: &str, word: &str) -> String {
    let mut replaced = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(name) {
        let (before, after) = (&rest[..at], &rest[at + name.len()..]);
        let goes_on = |c: char| c.is_alphanumeric() || matches!(c, '/' | '-' | '_' | '.');
        let is_part = before.ends_with(goes_on)
            || after.starts_with(|c: char| goes_on(c) && c != '.')
            || after.starts_with('.') && after[1..].starts_with(char::is_alphanumeric);
        replaced.push_str(before);
        replaced.push_str(if is_part { name } else { word });
        rest = after;
    }
    replaced + rest
}

/// `name` without its tag and digest.
fn repository(name: &str) -> &str {
    let named = name.split_once('@').map_or(name, |(named, _)| named);
    match named.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => repository,
        _ => named,
    }
}

fn tag(name: &str) -> Option<&str> {
    let named = name.split_once('@').map_or(name, |(named, _)| named);
    named.rsplit_once(':').map(|(_, tag)| tag).filter(|tag| !tag.contains('/'))
}

#[cfg(test)]
mod tests {
    use super::super::samples::outcome;
    use super::*;
    use crate::error::Kind;

    fn failed(source: &str, attempted: &str, why: &str) -> Outcome {
        let error = Error::new(Kind::Denied, attempted, why).with_status(403);
        Outcome { error: Some(error), ..outcome(source, Status::Failed, 0, 0, 0.0) }
    }

    fn folded(outcomes: &[Outcome]) -> Vec<(String, usize)> {
        causes(outcomes).iter().map(|cause| (cause.message.clone(), cause.failed.len())).collect()
    }

    #[test]
    fn failures_that_differ_only_in_the_images_names_have_one_cause() {
        let push = |name: &str, digest: &str| {
            let attempted = format!("push blob sha256:{digest} to harbor.example.com/mirror/ghcr.io/{name}");
            failed(&format!("ghcr.io/{name}:1"), &attempted, &format!("denied: no right to ghcr.io/{name}"))
        };
        let resolve = |name: &str, tag: &str| {
            failed(&format!("ghcr.io/{name}:{tag}"), &format!("resolve {tag} in ghcr.io/{name}"), "404 Not Found")
        };
        let outcomes = [push("a/b", "0123456789ab"), resolve("a", "1"), push("c", "ba9876543210"), resolve("a/b", "2")];
        assert_eq!(
            folded(&outcomes),
            [
                ("push blob DIGEST to REPOSITORY: denied: no right to REPOSITORY".to_owned(), 2),
                ("resolve IMAGE: 404 Not Found".to_owned(), 2)
            ]
        );
    }

    #[test]
    fn different_causes_stay_separate_and_a_single_image_keeps_its_names() {
        let outcomes = [
            failed("ghcr.io/a:1", "push to harbor.example.com/x", "no room"),
            failed("ghcr.io/b:1", "push to harbor.example.com/y", "no room"),
            failed("ghcr.io/b:1", "push to ghcr.io/bb", "no room"),
        ];
        let messages: Vec<_> = folded(&outcomes).into_iter().map(|(message, _)| message).collect();
        let whole: Vec<_> = outcomes.iter().map(|outcome| outcome.error.as_ref().unwrap().to_string()).collect();
        assert_eq!(messages, whole);
    }

    #[test]
    fn equal_messages_are_kept_unchanged() {
        let dead = |source| failed(source, "reach h.io", "connection refused to sha256:0123456789ab");
        let outcomes = [dead("ghcr.io/a:1"), dead("ghcr.io/b:1")];
        assert_eq!(folded(&outcomes), [("reach h.io: connection refused to sha256:0123456789ab".to_owned(), 2)]);
    }
}
