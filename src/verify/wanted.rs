//! The content that should exist, according to the lock.

use crate::config::ImageRule;
use crate::desired::{entries, wants};
use crate::error::{Error, Kind, Stage};
use crate::lock::Lock;
use crate::plan::{Action, Planned, failed, transfer};
use crate::select::Only;

/// Each image at each target, once. An image that isn't in the lock, or can't have its tag, counts as failed: its
/// expected content is unknown.
pub(super) fn wanted(images: &[ImageRule], pins: &Lock, only: &Only) -> Vec<Planned> {
    let unknown = entries(images, pins).filter(|entry| entry.is_unknown && only.may_match(&entry.rule.repository));
    let unlisted = unknown.flat_map(|entry| {
        let source = entry.rule.repository.to_string();
        entry.rule.destinations.iter().map(move |target| Planned::Failed {
            source: source.clone(),
            target: target.to_string(),
            error: unpinned(&source),
        })
    });
    let listed = wants(images, pins, only).into_iter().map(|want| match (&want.clash, want.pin) {
        (Some(clash), _) => failed(&want, clash.clone()),
        (None, Some(pin)) => Planned::Image(transfer(&want, pin, Action::UpToDate)),
        (None, None) => failed(&want, unpinned(&want.source.to_string())),
    });
    listed.chain(unlisted).collect()
}

fn unpinned(source: &str) -> Error {
    let error = Error::new(Kind::NotFound, format!("verify {source}"), "the lock has no pin for it");
    error.with_hint("run `transship lock` to pin it, or `transship sync` to mirror it as well").at(Stage::Resolve)
}
