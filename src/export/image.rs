//! An image at the target, and the checks that several kinds share.

use std::collections::{BTreeMap, BTreeSet};

use super::Refusal;
use super::text::count;
use crate::desired::{Mirrored, Place};
use crate::oci::{Reference, Repository};

/// An image and where it is at the target.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Image<'a> {
    /// The mirrored image.
    pub mirrored: &'a Mirrored,
    /// Its place at the target.
    pub place: &'a Place,
}

/// The images at the target `number`, counted from 0, sorted by source. If an image is there under several names, the
/// first in the list counts, as for `rewrite`.
pub(crate) fn images(mirrored: &[Mirrored], number: usize) -> Vec<Image<'_>> {
    let mut images = BTreeMap::new();
    for mirrored in mirrored {
        if let Some(place) = mirrored.at(number) {
            images.entry(&mirrored.source).or_insert(Image { mirrored, place });
        }
    }
    images.into_values().collect()
}

impl<'a> Image<'a> {
    pub(super) fn source(&self) -> &'a Reference {
        &self.mirrored.source
    }

    /// Its repository at the source.
    pub(super) fn from(&self) -> &'a Repository {
        self.mirrored.source.repository()
    }

    /// Its repository at the target.
    pub(super) fn to(&self) -> &'a Repository {
        self.place.reference.repository()
    }

    /// Its name at the target, with the digest there.
    pub(super) fn pinned(&self) -> Reference {
        self.place.reference.pinned(self.mirrored.target_digest.clone())
    }

    /// Whether it has the same digest at the target as at the source.
    pub(super) fn is_whole(&self) -> bool {
        self.mirrored.digest == self.mirrored.target_digest
    }

    /// The path at the target below which the image keeps its whole source path.
    ///
    /// # Errors
    /// If it has another name there: `consumer` keeps the path of what it pulls.
    pub(super) fn kept_below(&self, consumer: &str) -> Result<&'a str, Refusal> {
        self.place.kept_below.as_deref().ok_or_else(|| {
            let (source, to) = (self.source(), &self.place.reference);
            Refusal::new(
                format!("{source} is {to} at the target, and {consumer} keeps the path of what it pulls"),
                "remove to: for it, or end layout: with {repository}; \
                 registries-conf, kyverno and kustomize can express it",
            )
        })
    }

    /// Checks that the image can be pulled from the target under its source name.
    ///
    /// # Errors
    /// If it is known only by digest, and has another digest at the target.
    pub(super) fn check_pull_by_own_name(&self) -> Result<(), Refusal> {
        if self.is_whole() || self.source().tag().is_some() || self.place.reference.tag().is_some() {
            return Ok(());
        }
        Err(Refusal::new(
            format!(
                "{} has another digest at the target, {}, because only some of its platforms are mirrored: it can't be \
                 pulled there by its own name",
                self.source(),
                self.mirrored.target_digest
            ),
            "mirror all of its platforms, or give it a tag with as:; kyverno and kustomize can express it",
        ))
    }
}

/// A note about images with another digest at the target; empty if there are none.
pub(super) fn parts(images: &[Image<'_>]) -> String {
    match images.iter().filter(|image| !image.is_whole()).count() {
        0 => String::new(),
        number => format!(
            "Only some platforms are mirrored of {}, under another digest: a pull by the source's digest goes upstream.",
            count(number, "image")
        ),
    }
}

/// A repository at the source, with its images and the target repositories that hold them.
#[derive(Debug)]
pub(super) struct Moved<'a> {
    pub(super) from: &'a Repository,
    pub(super) to: BTreeSet<&'a Repository>,
    pub(super) images: Vec<Image<'a>>,
    /// Whether one of the target repositories also holds images of other repositories.
    pub(super) is_shared: bool,
}

impl<'a> Moved<'a> {
    /// The target repository, if it holds all of it and nothing else.
    pub(super) fn whole(&self) -> Option<&'a Repository> {
        self.to.first().filter(|_| self.to.len() == 1 && !self.is_shared).copied()
    }
}

impl Moved<'_> {
    /// The refusal for `consumer`, which can only map whole repositories.
    pub(super) fn refusal(&self, consumer: &str) -> Refusal {
        let image = self.images.last().map(|image| format!("{} is {}", image.source(), image.place.reference));
        let (how, others) = match self.is_shared {
            true => ("with images of other repositories", "kyverno and kustomize"),
            false => ("apart from others of its repository", "registries-conf, kyverno and kustomize"),
        };
        Refusal::new(
            format!(
                "{} at the target, {how}, and {consumer} can only map whole repositories",
                image.unwrap_or_default()
            ),
            format!("give each repository a different to:; {others} can express it"),
        )
    }
}

/// The repositories of `images`, sorted.
pub(super) fn moved<'a>(images: &[Image<'a>]) -> Vec<Moved<'a>> {
    let mut by_target: BTreeMap<&Repository, BTreeSet<&Repository>> = BTreeMap::new();
    let mut by_source: BTreeMap<&Repository, Vec<Image<'a>>> = BTreeMap::new();
    for image in images {
        by_target.entry(image.to()).or_default().insert(image.from());
        by_source.entry(image.from()).or_default().push(*image);
    }
    let all = by_source.into_iter().map(|(from, images)| {
        let to: BTreeSet<&Repository> = images.iter().map(Image::to).collect();
        let is_shared = to.iter().any(|to| by_target[to].len() > 1);
        Moved { from, to, images, is_shared }
    });
    all.collect()
}

/// Each repository with its target, for `consumer`, which can only map whole repositories.
///
/// # Errors
/// If a repository is split, or merged with another one.
pub(super) fn one_to_one<'a>(
    images: &[Image<'a>],
    consumer: &str,
) -> Result<Vec<(&'a Repository, &'a Repository)>, Refusal> {
    let place = |moved: Moved<'a>| match moved.whole() {
        Some(to) => Ok((moved.from, to)),
        None => Err(moved.refusal(consumer)),
    };
    moved(images).into_iter().map(place).collect()
}
