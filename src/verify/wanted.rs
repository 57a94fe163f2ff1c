//! What should be where, as the lock knows it.

use crate::config::ImageRule;
use crate::error::{Error, Kind, Stage};
use crate::lock::Lock;
use crate::plan::{Action, Planned, wants};
use crate::select::{Only, Selection};

/// Each image at each target, each once. One that the lock lacks has failed, as has one that can't have its tag: nobody
/// knows what should be there.
pub(super) fn wanted(images: &[ImageRule], pins: &Lock, only: &Only) -> Vec<Planned> {
    let is_unlisted = |rule: &&ImageRule| {
        let spec = rule.selection().map(Selection::spec);
        spec.is_some_and(|spec| pins.selection(&rule.repository, spec).is_none()) && only.may_match(&rule.repository)
    };
    let unlisted = images.iter().filter(is_unlisted).flat_map(|rule| {
        let source = rule.repository.to_string();
        rule.destinations.iter().map(move |target| Planned::Failed {
            source: source.clone(),
            target: target.to_string(),
            error: unpinned(&source),
        })
    });
    let listed = wants(images, pins, only).into_iter().map(|want| match (&want.clash, want.pin) {
        (Some(clash), _) => want.failed(clash.clone()),
        (None, Some(pin)) => Planned::Image(want.transfer(pin, Action::UpToDate)),
        (None, None) => want.failed(unpinned(&want.source.to_string())),
    });
    listed.chain(unlisted).collect()
}

fn unpinned(source: &str) -> Error {
    let error = Error::new(Kind::NotFound, format!("verify {source}"), "the lock has no pin for it");
    error.with_hint("run `transship lock` to pin it, or `transship sync` to mirror it as well").at(Stage::Resolve)
}
