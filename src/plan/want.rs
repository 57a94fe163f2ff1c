//! What should be where: mirror.yaml × lock.

use std::collections::HashSet;

use super::landing::Landings;
use super::{Action, Planned, Transfer};
use crate::config::{Handling, ImageRule};
use crate::error::Error;
use crate::lock::{self, Lock, LockedImage};
use crate::oci::{Descriptor, Reference, Repository, Tag};
use crate::select::{Only, Selection};

/// An image that is wanted at a target.
#[derive(Debug)]
pub struct Want<'a> {
    /// The canonical source.
    pub source: Reference,
    /// The tag that it gets; `None` = untagged.
    pub tag: Option<Tag>,
    /// Where it is wanted.
    pub target: &'a Repository,
    /// How it is mirrored.
    pub handling: &'a Handling,
    /// What the lock has of it.
    pub pin: Option<&'a LockedImage>,
    /// Why it can't have its tag: an image before it has.
    pub clash: Option<Error>,
}

/// Each image at each target, in the order of the file, each pair once.
pub fn wants<'a>(images: &'a [ImageRule], lock: &'a Lock, only: &Only) -> Vec<Want<'a>> {
    let mut seen = HashSet::new();
    // Whatever a run is about, a tag is for the same image.
    let mut landings = Landings::default();
    let mut wants = Vec::new();
    for rule in images {
        for (source, tag) in rule.sources(lock.tags(&rule.repository, rule.selection().map(Selection::spec))) {
            let asked_for = only.matches(&source);
            let pin = lock.image(&source, &rule.handling.platforms);
            for target in &rule.destinations {
                let clash = tag.as_ref().zip(pin).and_then(|(tag, pin)| landings.take(target, tag, pin));
                let name = lock::name(&source, &rule.handling.platforms);
                if asked_for && seen.insert((name, target, tag.clone())) {
                    let (source, tag) = (source.clone(), tag.clone());
                    wants.push(Want { source, tag, target, handling: &rule.handling, pin, clash });
                }
            }
        }
    }
    wants
}

impl Want<'_> {
    /// The image as `pin` has it, for nothing as far as is known by now.
    pub fn transfer(&self, pin: &LockedImage, action: Action) -> Transfer {
        let root = Descriptor { media_type: pin.media_type.clone(), digest: pin.digest.clone(), size: pin.size };
        let referrers = pin.referrers.iter().filter(|referrer| self.handling.referrers.wants(referrer));
        Transfer {
            mirrored: pin.mirrored.clone(),
            handling: self.handling.clone(),
            referrers: referrers.cloned().collect(),
            ..Transfer::new(self.source.clone(), root, self.target.clone(), self.tag.clone(), action)
        }
    }

    /// It has failed by `error`.
    pub fn failed(&self, error: Error) -> Planned {
        let target = match &self.tag {
            Some(tag) => Reference::tagged(self.target.clone(), tag.clone()).to_string(),
            None => self.target.to_string(),
        };
        Planned::Failed { source: self.source.to_string(), target, error }
    }
}
