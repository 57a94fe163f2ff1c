//! Lock + what the targets hold → Plan: which images have work. [`price`] tells what that costs, where a plan is shown.
//!
//! A plan is deterministic: the same lock and the same targets give the same images in the same order.

mod ask;
mod cost;
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
pub use price::{Spending, price};
pub use repair::{Holes, repair};
pub use request::Request;
pub(crate) use want::{failed, transfer};

/// What a run is going to do, image by image, in the order of mirror.yaml and of its targets.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// One entry for each image and target.
    pub images: Vec<Planned>,
    /// Target repositories that don't exist and will be created.
    pub missing: Vec<Repository>,
    /// Existing target repositories whose settings will be changed, and which those are.
    pub changes: Vec<(Repository, Vec<&'static str>)>,
    /// Target repositories that hold no tag: nothing of their content needs to be asked for.
    pub empty: HashSet<Repository>,
    /// What is missing below tags that are right, if it was looked for.
    pub holes: Holes,
}

/// One image at one target.
#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "nearly all are images, and there are hundreds, not millions")]
pub enum Planned {
    /// It can be worked on.
    Image(Transfer),
    /// It has failed already: it couldn't be resolved, or the target couldn't be asked.
    Failed {
        /// The canonical source reference, or the repository where no tag is known yet.
        source: String,
        /// The target reference or repository.
        target: String,
        /// Why.
        error: Error,
    },
}

/// Everything that is needed to bring one image to one target; no option is looked up later.
#[derive(Debug, Clone)]
pub struct Transfer {
    /// The canonical source, as the lock names it.
    pub source: Reference,
    /// The pinned manifest.
    pub root: Descriptor,
    /// The digest at the target, where a platform filter makes it another one.
    pub mirrored: Option<Digest>,
    /// The digest by which alone the target knows it, where that isn't the one above: it takes no manifest by that one.
    pub known_as: Option<Digest>,
    /// How it is mirrored.
    pub handling: Handling,
    /// What the lock knows to refer to it.
    pub referrers: Vec<Referrer>,
    /// Those of them that are to be sent; known where the image's own tag is right.
    pub lacking: Vec<Referrer>,
    /// Those of them whose tag at the target holds something else, which isn't replaced (`overwrite: false` or `keep`); known
    /// where the image's own tag is right.
    pub left: Vec<Referrer>,
    /// Whether to look for new referrers of what it consists of and of its referrers, though nothing else is to be done.
    pub follow: bool,
    /// Where it goes.
    pub target: Repository,
    /// The tag that it gets there; `None` = untagged.
    pub tag: Option<Tag>,
    /// What there is to do.
    pub action: Action,
    /// What it takes, once the plan has a price.
    pub cost: Cost,
    /// The pin couldn't be updated: it is mirrored as it was, and counts as failed.
    pub stale: Option<Error>,
}

/// What there is to do for an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Copy what the target lacks of its graph.
    Copy,
    /// The manifest is there by digest: one PUT under the tag.
    Tag,
    /// The tag is right, but some of what the lock knows to refer to the image isn't there.
    Refer,
    /// Nothing: the target holds it already.
    UpToDate,
    /// Nothing: the target's tag holds something else, and is to be left (`overwrite: keep`).
    Kept {
        /// What the tag holds, where the target says so.
        found: Option<Digest>,
    },
    /// The target's tag holds something else, and may not be replaced (`overwrite: false`, or the repository is immutable).
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

    /// Whether the image gets its name: only then its repository may have to be created, or be changed.
    pub fn sets_tag(&self) -> bool {
        matches!(self, Self::Copy | Self::Tag)
    }
}

impl Plan {
    /// The images for which something is pushed.
    pub fn with_work(&self) -> impl Iterator<Item = &Transfer> {
        self.images.iter().filter_map(Planned::work)
    }

    /// The images that are at their target already, if only under another tag, and lack nothing as far as somebody has looked.
    pub(crate) fn right(&self) -> impl Iterator<Item = &Transfer> {
        self.images.iter().filter_map(|planned| match planned {
            Planned::Image(transfer) if self.is_right(transfer) => Some(transfer),
            _ => None,
        })
    }

    fn is_right(&self, transfer: &Transfer) -> bool {
        let place = || (transfer.target.clone(), transfer.target_digest().clone());
        matches!(transfer.action, Action::UpToDate | Action::Tag | Action::Refer)
            && !self.holes.broken.contains(&place())
            && self.holes.whole.as_ref().is_none_or(|whole| whole.contains(&place()))
    }

    /// The repositories in which an image gets its name, each once, in the order of the images.
    pub fn to_prepare(&self) -> Vec<Repository> {
        let mut seen = HashSet::new();
        let targets = self.with_work().filter(|transfer| transfer.action.sets_tag()).map(|transfer| &transfer.target);
        targets.filter(|target| seen.insert(*target)).cloned().collect()
    }
}

impl Planned {
    /// The image, if something is pushed for it.
    pub fn work(&self) -> Option<&Transfer> {
        match self {
            Self::Image(transfer) if transfer.action.has_work() => Some(transfer),
            _ => None,
        }
    }
}

impl Transfer {
    /// `source`, pinned to `root`, to `target` under `tag`: all of it, without a price.
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

    /// Decides what there is to do anew.
    fn decide(&mut self, action: Action) {
        self.cost = Cost::of(&action);
        self.action = action;
    }

    /// The same image, as one that has failed.
    fn failed(&self, error: Error) -> Planned {
        Planned::Failed { source: self.source.to_string(), target: self.target_text(), error }
    }

    /// The digest at the target.
    pub fn target_digest(&self) -> &Digest {
        self.mirrored.as_ref().unwrap_or(&self.root.digest)
    }

    /// What of that which the lock knows to refer to it is to be mirrored.
    pub fn wanted_referrers(&self) -> impl Iterator<Item = &Referrer> {
        self.referrers.iter().filter(|referrer| self.handling.referrers.wants(referrer))
    }

    /// The target reference as text: with the tag, or with the digest where it has none.
    pub fn target_text(&self) -> String {
        let reference = match &self.tag {
            Some(tag) => Reference::tagged(self.target.clone(), tag.clone()),
            None => Reference::digested(self.target.clone(), self.target_digest().clone()),
        };
        reference.to_string()
    }
}
