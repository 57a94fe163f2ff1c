//! Source and Target: one repository, wherever it is.
//!
//! The seam between deciding and moving: everything above speaks of these two traits, in our own terms, and one
//! conformance suite holds every implementation to them.

pub mod cache;
pub(crate) mod content;
pub mod layout;
pub mod memory;
pub mod mirrors;
pub mod places;
pub mod pulls;
pub mod registry;

use std::collections::HashSet;
use std::fmt::{Debug, Display};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::TryStreamExt as _;
use futures::future::BoxFuture;
use futures::stream::BoxStream;

pub use self::pulls::PullsAside;
pub(crate) use self::pulls::{PullOrder, PullTurn};
use crate::error::{Error, Kind, Result};
use crate::oci::{Descriptor, Digest, Edge, Manifest, Referrer, Registry, Repository, Selector, Tag, Verifier};

/// That `blob` has `found` bytes where `attempted` was tried: a definite answer, which no second attempt changes.
pub(crate) fn wrong_size(attempted: &str, blob: &Descriptor, found: u64) -> Error {
    let why = format!("it has {found} bytes, and the manifest says {}", blob.size);
    Error::new(Kind::Mismatch, attempted, why)
        .with_hint("the manifest or the registry is wrong: ask the image's publisher, or compare with another client")
        .as_final()
}

/// The bytes of a blob, in chunks, not yet verified.
pub type BlobStream = BoxStream<'static, Result<Bytes>>;

/// The most bytes that [`Source::small_blob`] takes into memory.
pub const SMALL: u64 = 4 << 20;

/// A repository that can be read. Errors are of kind `NotFound` where something isn't there.
#[async_trait]
pub trait Source: Debug + Display + Send + Sync {
    /// What `selector` names now: media type, digest and size of the manifest. Costs no pull where the registry names
    /// the digest in its answer to a HEAD; else one GET.
    async fn resolve(&self, selector: &Selector) -> Result<Descriptor>;

    /// The same, with the manifest itself where it had to be read to tell.
    async fn resolve_whole(&self, selector: &Selector) -> Result<(Descriptor, Option<Manifest>)> {
        Ok((self.resolve(selector).await?, None))
    }

    /// The manifest `digest`, verified: its bytes hash to it. Counts as a pull where pulls are counted.
    async fn manifest(&self, digest: &Digest) -> Result<Manifest>;

    /// The manifest `digest` if it can be had without a request. That it can says nothing about the repository.
    async fn cached_manifest(&self, _digest: &Digest) -> Option<Manifest> {
        None
    }

    /// The bytes of `blob` from `offset` (in bytes) on, as they come: the caller verifies. The stream is `'static` and may
    /// fail at any chunk; one that ends has given all that there is. `Mismatch` if the blob is known to have another size.
    async fn blob(&self, blob: &Descriptor, offset: u64) -> Result<BlobStream>;

    /// All bytes of `blob`, verified: for what is read to be understood, such as a configuration. `Unsupported` if it has
    /// more than [`SMALL`] of them, `Mismatch` if others come.
    async fn small_blob(&self, blob: &Descriptor) -> Result<Bytes> {
        read_whole(self, blob).await
    }

    /// The size in bytes of blob `digest`, `None` if it isn't there.
    async fn blob_size(&self, digest: &Digest) -> Result<Option<u64>>;

    /// All tags, in the order in which they are served. `NotFound` if the repository doesn't exist.
    async fn tags(&self) -> Result<Vec<Tag>>;

    /// All tags, as [`Source::tags`] has them, if they come in at most `pages` pages, one request each; else `None`.
    async fn tags_within(&self, pages: usize) -> Result<Option<Vec<Tag>>> {
        let _ = pages;
        self.tags().await.map(Some)
    }

    /// What refers to `subject`, each digest once and never `subject` itself, and none if nothing does, whether `subject` is
    /// there or not.
    async fn referrers(&self, subject: &Digest) -> Result<Referrers>;

    /// The same by the referrers API alone; `None` where there is none, so that clients keep it under the fallback tag.
    async fn listed_referrers(&self, subject: &Digest) -> Result<Option<Vec<Referrer>>> {
        match self.referrers(subject).await? {
            Referrers::Listed(listed) => Ok(Some(listed)),
            Referrers::Tagged(_) => Ok(None),
        }
    }

    /// What lies under the fallback tag of `subject`; nothing where the referrers API is all that there is.
    async fn tagged_referrers(&self, subject: &Digest) -> Result<Referrers> {
        match self.referrers(subject).await? {
            Referrers::Listed(_) => Ok(Referrers::Tagged(None)),
            tagged @ Referrers::Tagged(_) => Ok(tagged),
        }
    }

    /// Whether an empty list by the referrers API may mean that the registry only doesn't know: then the fallback tag is asked,
    /// too.
    async fn may_miss_referrers(&self) -> bool {
        false
    }

    /// Whether it refuses to tell what it has, and gives it: then it says nothing of what it hasn't got, either.
    fn refuses_questions(&self) -> bool {
        false
    }

    /// What `tag` names, read where the registry denies it to who only asks. Counts as a pull where pulls are counted.
    async fn read_tag(&self, tag: &Tag) -> Result<Manifest> {
        let found = self.resolve(&Selector::Tag(tag.clone())).await?;
        self.manifest(&found.digest).await
    }

    /// Whether reading a manifest here counts against a pull quota, as far as it is known by now.
    fn meters_pulls(&self) -> bool {
        false
    }

    /// Pulls that may still be set aside; `None` if they aren't limited. Where they may be and it isn't known yet, it is asked
    /// for by what costs nothing, about manifest `digest`.
    async fn pulls_left(&self, _digest: &Digest) -> Option<u64> {
        None
    }

    /// Sets pulls aside for the manifests `digests` as well, and for as many as `unnamed` of which it isn't known yet which
    /// they are, in place of those so far. All of it, or nothing changes.
    ///
    /// # Errors
    /// `QuotaExceeded` if there aren't as many.
    async fn set_aside(&self, _aside: &mut PullsAside, _digests: &[Digest], _unnamed: u64) -> Result<()> {
        Ok(())
    }

    /// Whether reading the manifest `digest` would count against that quota: not if it can be had without a request, nor
    /// from another place that is asked before. Costs no pull.
    async fn costs_pull(&self, digest: &Digest) -> bool {
        self.meters_pulls() && self.cached_manifest(digest).await.is_none()
    }

    /// Who gave the manifest `digest` in this run, where it wasn't this repository's own registry.
    fn served_by(&self, _digest: &Digest) -> Option<Registry> {
        None
    }

    /// What came for `blob` from here was wrong. Says whether it comes from another place from now on.
    fn distrust(&self, _blob: &Digest) -> bool {
        false
    }
}

async fn read_whole<S: Source + ?Sized>(source: &S, blob: &Descriptor) -> Result<Bytes> {
    let error = |kind, why| Error::new(kind, format!("read blob {} from {source}", blob.digest), why);
    if blob.size > SMALL {
        return Err(error(Kind::Unsupported, format!("{} bytes are more than anything to be read has", blob.size)));
    }
    let mut verifier = Verifier::new(blob.digest.clone(), blob.size);
    let mut stream = source.blob(blob, 0).await?;
    let mut bytes = Vec::new();
    while let Some(chunk) = stream.try_next().await? {
        verifier.update(&chunk).map_err(|mismatch| error(Kind::Mismatch, mismatch.to_string()))?;
        bytes.extend_from_slice(&chunk);
    }
    verifier.finish().map_err(|mismatch| error(Kind::Mismatch, mismatch.to_string()))?;
    Ok(bytes.into())
}

/// Whether the bytes alone tell the media type that they were served with.
pub(crate) fn tells_its_type(manifest: &Manifest) -> bool {
    let read = Manifest::new(manifest.digest().clone(), None, manifest.bytes().clone());
    read.is_ok_and(|read| read.media_type() == manifest.media_type())
}

/// What refers to a manifest, and how the repository tells it.
#[derive(Debug, Clone)]
pub enum Referrers {
    /// It has the referrers API, and knows what refers to what.
    Listed(Vec<Referrer>),
    /// It has none: clients keep an index under the fallback tag (distribution-spec, "Referrers Tag Schema"). Where it is no
    /// index, it is a referrer itself: what cosign 3 leaves at GHCR.
    Tagged(Option<Manifest>),
}

/// What a target holds, in the words of a pin.
#[derive(Debug, Clone)]
pub(crate) struct AsPinned {
    /// The pinned digest, if it is that manifest.
    pub(crate) is: Digest,
    /// The digest by which alone the target knows that manifest, where it isn't the pinned one.
    pub(crate) known_as: Option<Digest>,
}

/// `found` at `target`, which may be the manifest `pinned` by another algorithm: registries call what a tag holds by sha256,
/// whatever it was pinned by, and not all know it by the other digest, too. Only its bytes can tell, which costs a GET and a
/// HEAD where the algorithms differ and nothing elsewhere.
pub(crate) async fn as_pinned(target: &dyn Target, found: Digest, pinned: &Digest) -> AsPinned {
    let is_same = found.algorithm() != pinned.algorithm()
        && target.manifest(&found).await.is_ok_and(|manifest| pinned.matches(manifest.bytes()));
    if !is_same {
        return AsPinned { is: found, known_as: None };
    }
    let is_known = matches!(target.held(&Selector::Digest(pinned.clone())).await, Ok(Held::Manifest(_)));
    AsPinned { is: pinned.clone(), known_as: (!is_known).then_some(found) }
}

/// A manifest with blobs of the image `root`, if it can be had without a request, wherever it was read before.
pub(crate) async fn cached_image(stores: &dyn Stores, repository: &Repository, root: &Digest) -> Option<Manifest> {
    let source = stores.source(repository).ok()?;
    let root = source.cached_manifest(root).await?;
    match root.successors().first() {
        Some(Edge::Manifest(child)) => source.cached_manifest(&child.digest).await,
        _ => Some(root),
    }
}

/// What lies under the fallback tag of `subject`, where pulls count: most have none, which a HEAD tells, and by its digest
/// the index may be at hand.
/// `root` and what is below it as far as the cache of `source` has it, and whether that is all.
pub(crate) async fn cached_graph(source: &dyn Source, root: Manifest) -> (Vec<Manifest>, bool) {
    let (mut graph, mut to_follow, mut seen) = (Vec::new(), vec![root], HashSet::new());
    let mut is_whole = true;
    while let Some(manifest) = to_follow.pop() {
        for edge in manifest.successors() {
            let Edge::Manifest(child) = edge else { continue };
            if seen.insert(child.digest.clone()) {
                let cached = source.cached_manifest(&child.digest).await;
                is_whole &= cached.is_some();
                to_follow.extend(cached);
            }
        }
        graph.push(manifest);
    }
    (graph, is_whole)
}

async fn fallback_by_digest<S: Source + ?Sized>(source: &S, subject: &Digest) -> Result<Referrers> {
    match source.resolve(&Selector::Tag(subject.referrers_tag())).await {
        Ok(found) if found.digest == *subject => Ok(Referrers::Tagged(None)),
        Ok(found) => Ok(Referrers::under_tag(source.manifest(&found.digest).await?, subject)),
        Err(error) if error.kind() == Kind::NotFound => Ok(Referrers::Tagged(None)),
        Err(error) => Err(error),
    }
}

impl Referrers {
    /// What `found` under the fallback tag tells, which may be `subject` itself, tagged so by somebody.
    fn under_tag(found: Manifest, subject: &Digest) -> Self {
        Self::Tagged(Some(found).filter(|found| found.digest() != subject))
    }

    /// They themselves; none if what lies under the fallback tag is no index.
    pub fn list(&self) -> Vec<Referrer> {
        match self {
            Self::Listed(referrers) => referrers.clone(),
            Self::Tagged(index) => {
                index.as_ref().and_then(|index| Referrer::in_index(index.bytes()).ok()).unwrap_or_default()
            }
        }
    }
}

/// A repository that can be written to.
#[async_trait]
pub trait Target: Source {
    /// Stores `manifest` verbatim, by its digest or under a tag. What it refers to must be there, except its subject.
    /// `MissingContent` if the target says that something isn't.
    async fn push_manifest(&self, manifest: &Manifest, name: &Selector) -> Result<Accepted>;

    /// Opens an upload. It ends with [`Target::push_blob`] or [`Target::abandon`].
    async fn open_upload(&self) -> Result<Upload>;

    /// Stores the blob that `blob` describes: `body` is its verified bytes, `blob.size` of them. On failure the upload is
    /// of no further use.
    async fn push_blob(&self, upload: Upload, blob: &Descriptor, body: BlobStream) -> Result<()>;

    /// Gives an upload up, best effort.
    async fn abandon(&self, upload: Upload);

    /// Gives an upload up, and tells if nobody has answered to that: then nobody would answer to its bytes, either.
    ///
    /// # Errors
    /// If there was no answer.
    async fn give_back(&self, upload: Upload) -> Result<()> {
        self.abandon(upload).await;
        Ok(())
    }

    /// What the target has under `name`. Asks as [`Source::resolve`] does, and knows what to make of a refusal to say.
    async fn held(&self, name: &Selector) -> Result<Held> {
        match self.resolve(name).await {
            Ok(found) => Ok(Held::Manifest(found.digest)),
            Err(error) if error.kind() == Kind::NotFound => Ok(Held::Nothing),
            Err(error) if error.is_refusal() => Ok(Held::Unknown(error)),
            Err(error) => Err(error),
        }
    }

    /// Whether what it answers to is what it holds: a pull-through cache answers for its upstream, and takes no pushes.
    /// `answered` gives a manifest of an image that it has answered to, where one is at hand.
    ///
    /// # Errors
    /// `Unsupported` if it is such a cache.
    async fn check_holds(&self, _answered: BoxFuture<'_, Option<Manifest>>) -> Result<()> {
        Ok(())
    }

    /// What a HEAD proves here, asked of a repository that fills itself from another registry.
    ///
    /// # Errors
    /// `Unsupported` if it is known to fill itself from nowhere.
    async fn head_proves(&self) -> Result<HeadProves> {
        Ok(HeadProves::Nothing)
    }

    /// Whether it keeps the manifest `digest` in truth, whatever it answers to; `None` where that can't be known.
    async fn keeps_manifest(&self, _digest: &Digest) -> Result<Option<bool>> {
        Ok(None)
    }

    /// What it shares a storage quota with, where that is known to be more than this repository alone.
    fn shares_quota(&self) -> Option<String> {
        None
    }

    /// When another repository of the same registry gives this one a blob. Asked for before the first mount.
    async fn mount_rule(&self) -> MountRule {
        MountRule::AtOnce
    }

    /// Makes blob `digest` of `from`, a repository of the same registry, one of this repository too.
    async fn mount(&self, digest: &Digest, from: &Repository) -> Result<Mount>;

    /// Whether the source's own index of what refers to a manifest is worth keeping under the fallback tag, although this
    /// target lists by itself: because it is read from again, and the index is to arrive from here byte for byte.
    fn keeps_indexes(&self) -> bool {
        false
    }

    /// Whether a manifest that is read here is marked as pulled, which retention rules go by: then it is left alone.
    fn records_pull_time(&self) -> bool {
        false
    }
}

/// What the answer to a HEAD proves at a pull-through cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeadProves {
    /// It is passed on: what is answered to can be had, and need not be kept.
    Nothing,
    /// A blob that is answered to is kept. For manifests it is passed on, and an index is kept under another digest than its
    /// own, at most.
    Blobs,
}

/// What a target has under a name.
#[derive(Debug, Clone)]
pub enum Held {
    /// Nothing.
    Nothing,
    /// The manifest with this digest.
    Manifest(Digest),
    /// Something, but the target doesn't say what it is, and this is why. It may be written to all the same.
    Withheld(Error),
    /// Something or nothing: the target doesn't answer the question, and this is how. A push tells whether it may be written to.
    Unknown(Error),
}

impl Held {
    /// The digest, if there is something.
    ///
    /// # Errors
    /// If the target doesn't say what it is.
    pub fn digest(self) -> Result<Option<Digest>> {
        match self {
            Self::Nothing => Ok(None),
            Self::Manifest(digest) => Ok(Some(digest)),
            Self::Withheld(error) | Self::Unknown(error) => Err(error),
        }
    }
}

/// An opened upload: where to send the bytes, in the store's own terms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upload(pub String);

/// When a registry mounts a blob of one of its repositories into another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MountRule {
    /// As soon as the blob is there, or it says no when it is asked.
    #[default]
    AtOnce,
    /// When a manifest that refers to the blob is there as well.
    Committed,
    /// Not at all: nobody need ask.
    Never,
}

/// What came of asking for a mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mount {
    /// The blob is there now.
    Mounted,
    /// Refused; with the upload that the target opened instead, if it did.
    Declined(Option<Upload>),
}

/// What a target says of a manifest that it took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Accepted {
    /// It knows the referrers API and has linked the manifest to its subject (`OCI-Subject`).
    pub subject_processed: bool,
}

/// Where repositories are opened: the one place that knows which store a name leads to.
pub trait Stores: Debug + Send + Sync {
    /// `repository`, to read from.
    ///
    /// # Errors
    /// `Configuration` if what is set for its registry can't be used.
    fn source(&self, repository: &Repository) -> Result<Arc<dyn Source>>;

    /// `repository`, to write to.
    ///
    /// # Errors
    /// As [`Stores::source`].
    fn target(&self, repository: &Repository) -> Result<Arc<dyn Target>>;

    /// `repository`, as one of several places that may have what is looked for: it is read as it is, and if it is in
    /// trouble, that is an error at once.
    ///
    /// # Errors
    /// As [`Stores::source`].
    fn alternative(&self, repository: &Repository) -> Result<Arc<dyn Source>> {
        self.source(repository)
    }
}
