//! What should be where: mirror.yaml × lock.

use std::collections::HashSet;

use crate::config::ImageRule;
use crate::error::{Error, Kind, Stage};
use crate::lock::{self, Lock, LockedImage};
use crate::oci::{Descriptor, Reference, Repository, Tag};
use crate::plan::{Action, Planned, Transfer};
use crate::select::{Only, Selection};

/// Each image at each target, in the order of the file, each once. One that the lock lacks has failed: nobody knows what
/// it should be.
pub(super) fn wanted(images: &[ImageRule], pins: &Lock, only: &Only) -> Vec<Planned> {
    let mut seen = HashSet::new();
    let mut wanted = Vec::new();
    for rule in images {
        let spec = rule.selection().map(Selection::spec);
        if spec.is_some_and(|spec| pins.selection(&rule.repository, spec).is_none()) && only.may_match(&rule.repository)
        {
            let name = rule.repository.to_string();
            wanted.extend(rule.destinations.iter().map(|target| unpinned(&name, target.to_string())));
        }
        for (source, tag) in rule.sources(pins.tags(&rule.repository, spec)) {
            for target in &rule.destinations {
                let name = lock::name(&source, &rule.handling.platforms);
                if only.matches(&source) && seen.insert((name, target.clone(), tag.clone())) {
                    let pin = pins.image(&source, &rule.handling.platforms);
                    wanted.push(match pin {
                        Some(pin) => Planned::Image(transfer(rule, pin, target.clone(), tag.clone())),
                        None => unpinned(&source.to_string(), name_at(target, tag.as_ref())),
                    });
                }
            }
        }
    }
    wanted
}

fn transfer(rule: &ImageRule, pin: &LockedImage, target: Repository, tag: Option<Tag>) -> Transfer {
    let root = Descriptor { media_type: pin.media_type.clone(), digest: pin.digest.clone(), size: pin.size };
    let referrers = pin.referrers.iter().filter(|referrer| rule.handling.referrers.wants(referrer));
    Transfer {
        mirrored: pin.mirrored.clone(),
        handling: rule.handling.clone(),
        referrers: referrers.cloned().collect(),
        ..Transfer::new(pin.source.clone(), root, target, tag, Action::UpToDate)
    }
}

fn name_at(target: &Repository, tag: Option<&Tag>) -> String {
    tag.map_or_else(|| target.to_string(), |tag| Reference::tagged(target.clone(), tag.clone()).to_string())
}

fn unpinned(source: &str, target: String) -> Planned {
    let error = Error::new(Kind::NotFound, format!("verify {source}"), "the lock has no pin for it");
    let error = error.with_hint("run `transship lock` to pin it, or `transship sync` to mirror it as well");
    Planned::Failed { source: source.to_owned(), target, error: error.at(Stage::Resolve) }
}
