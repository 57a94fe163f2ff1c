//! Lock + state of the targets → Plan: the images that need work. [`price`] adds the cost if the plan is displayed.
//!
//! A plan is deterministic: the same lock and the same targets give the same images in the same order.

mod ask;
mod cost;
mod known;
mod prefetch;
mod price;
mod refer;
mod repair;
mod repositories;
mod request;
mod tags;
mod want;

use std::collections::HashSet;

use crate::error::Error;
use crate::oci::{Descriptor, Digest, Reference, Referrer, Repository, Tag};

pub use crate::config::{Foreign, Handling, Overwrite, ReferrerPolicy};
pub use ask::plan;
pub use cost::{Bytes, Cost, Spared};
pub use prefetch::Prefetch;
pub use price::{Spending, price};
pub use repair::{RepairFindings, repair};
pub use request::Request;
pub(crate) use want::{failed, transfer};

/// The work of a run, image by image, in the order of mirror.yaml and of its targets.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// One entry for each image and target.
    pub images: Vec<Planned>,
    /// Target repositories that don't exist and will be created.
    pub missing: Vec<Repository>,
    /// Existing target repositories whose settings will be changed, with the names of those settings.
    pub changes: Vec<(Repository, Vec<&'static str>)>,
    /// Target repositories without tags, in which existence checks are unnecessary.
    pub empty: HashSet<Repository>,
    /// What is missing below correct tags, if that was checked.
    pub repair_findings: RepairFindings,
}

/// One image at one target.
#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "nearly all are images, and there are hundreds, not millions")]
pub enum Planned {
    /// It can be processed.
    Image(Transfer),
    /// It has failed already: it couldn't be resolved, or the target couldn't be queried.
    Failed {
        /// The canonical source reference, or the repository if no tag is known yet.
        source: String,
        /// The target reference or repository.
        target: String,
        /// The reason.
        error: Error,
    },
}

/// Everything needed to copy one image to one target; no option is looked up later.
#[derive(Debug, Clone)]
pub struct Transfer {
    /// The canonical source, as in the lock.
    pub source: Reference,
    /// The pinned manifest.
    pub root: Descriptor,
    /// The digest at the target, if a platform filter changes it.
    pub mirrored: Option<Digest>,
    /// The only digest that the target knows it by, if it doesn't accept the manifest by the one above.
    pub known_as: Option<Digest>,
    /// How it is mirrored.
    pub handling: Handling,
    /// Its referrers in the lock.
    pub referrers: Vec<Referrer>,
    /// The referrers to be sent; known if the image's own tag is right.
    pub lacking: Vec<Referrer>,
    /// The referrers whose tag at the target holds something else that isn't replaced (`overwrite: false` or
    /// `keep`); known if the image's own tag is right.
    pub left: Vec<Referrer>,
    /// Whether to look for new referrers of its parts and of its referrers, even if there is no other work.
    pub follow: bool,
    /// The target repository.
    pub target: Repository,
    /// The target tag; `None` = untagged.
    pub tag: Option<Tag>,
    /// The work to be done.
    pub action: Action,
    /// The cost, once the plan has a price.
    pub cost: Cost,
    /// Why the pin couldn't be updated: the image is mirrored by the old pin, and counts as failed.
    pub stale: Option<Error>,
}

/// The work to be done for an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Copy the parts that the target lacks.
    Copy,
    /// The manifest is there by digest: one PUT under the tag.
    Tag,
    /// The tag is right, but some referrers in the lock are missing.
    Refer,
    /// Nothing: the target has it already.
    UpToDate,
    /// Nothing: the target's tag holds something else, which is kept (`overwrite: keep`).
    Kept {
        /// What the tag holds, if the target says so.
        found: Option<Digest>,
    },
    /// The target's tag holds something else that may not be replaced (`overwrite: false`, or the repository is
    /// immutable).
    Conflict {
        /// What the tag holds.
        found: Digest,
    },
}

impl Action {
    /// Whether anything is pushed.
    pub fn has_work(&self) -> bool {
        self.sets_tag() || *self == Self::Refer
    }

    /// Whether the image's tag is set: only then may its repository have to be created or changed.
    pub fn sets_tag(&self) -> bool {
        matches!(self, Self::Copy | Self::Tag)
    }
}

impl Plan {
    /// The images for which something is pushed.
    pub fn with_work(&self) -> impl Iterator<Item = &Transfer> {
        self.images.iter().filter_map(Planned::work)
    }

    /// The images that are already at their target, if only under another tag, and lack nothing as far as was
    /// checked.
    pub(crate) fn right(&self) -> impl Iterator<Item = &Transfer> {
        self.images.iter().filter_map(|planned| match planned {
            Planned::Image(transfer) if self.is_right(transfer) => Some(transfer),
            _ => None,
        })
    }

    fn is_right(&self, transfer: &Transfer) -> bool {
        let place = || (transfer.target.clone(), transfer.target_digest().clone());
        matches!(transfer.action, Action::UpToDate | Action::Tag | Action::Refer)
            && !self.repair_findings.broken.contains(&place())
            && self.repair_findings.whole.as_ref().is_none_or(|whole| whole.contains(&place()))
    }

    /// The repositories in which an image's tag is set, each once, in the order of the images.
    pub fn to_prepare(&self) -> Vec<Repository> {
        let mut seen = HashSet::new();
        let targets = self.with_work().filter(|transfer| transfer.action.sets_tag()).map(|transfer| &transfer.target);
        targets.filter(|target| seen.insert(*target)).cloned().collect()
    }
}

impl Planned {
    /// The canonical source reference; the repository of one whose tag isn't known.
    pub fn source(&self) -> String {
        match self {
            Self::Image(transfer) => transfer.source.to_string(),
            Self::Failed { source, .. } => source.clone(),
        }
    }

    /// The image, if something is pushed for it.
    pub fn work(&self) -> Option<&Transfer> {
        match self {
            Self::Image(transfer) if transfer.action.has_work() => Some(transfer),
            _ => None,
        }
    }
}

impl Transfer {
    /// Copies all of `source`, pinned to `root`, to `target` under `tag`; without a price.
    pub fn new(source: Reference, root: Descriptor, target: Repository, tag: Option<Tag>, action: Action) -> Self {
        Self {
            source,
            root,
            mirrored: None,
            known_as: None,
            handling: Handling::default(),
            referrers: Vec::new(),
            lacking: Vec::new(),
            left: Vec::new(),
            follow: false,
            target,
            tag,
            cost: Cost::of(&action),
            action,
            stale: None,
        }
    }

    /// Replaces the action.
    fn decide(&mut self, action: Action) {
        self.cost = Cost::of(&action);
        self.action = action;
    }

    /// The same image, as failed.
    fn failed(&self, error: Error) -> Planned {
        Planned::Failed { source: self.source.to_string(), target: self.target_text(), error }
    }

    /// The digest at the target.
    pub fn target_digest(&self) -> &Digest {
        self.mirrored.as_ref().unwrap_or(&self.root.digest)
    }

    /// The referrers in the lock to be mirrored.
    pub fn wanted_referrers(&self) -> impl Iterator<Item = &Referrer> {
        self.referrers.iter().filter(|referrer| self.handling.referrers.wants(referrer))
    }

    /// The target reference as text: with the tag, or with the digest if it has none.
    pub fn target_text(&self) -> String {
        let reference = match &self.tag {
            Some(tag) => Reference::tagged(self.target.clone(), tag.clone()),
            None => Reference::digested(self.target.clone(), self.target_digest().clone()),
        };
        reference.to_string()
    }
}
