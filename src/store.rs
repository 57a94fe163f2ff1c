//! Source and Target: one repository, in whatever kind of store.
//!
//! This is the boundary between deciding and moving. All rooms above use only these two traits, in the project's
//! own types, and one conformance suite tests every implementation.

mod answers;
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

pub use self::answers::{Accepted, HeadProves, Held, Mount, MountRule, Referrers, Upload};
pub use self::pulls::ReservedPulls;
pub(crate) use self::pulls::{PullOrder, PullTurn};
use crate::error::{Error, Kind, Result, Side};
use crate::oci::{Descriptor, Digest, Edge, Manifest, Referrer, Registry, Repository, Selector, Tag, Verifier};

/// The error for a `blob` of which `attempted` yielded `found` bytes: a definite answer that a retry doesn't
/// change.
pub(crate) fn wrong_size(attempted: &str, blob: &Descriptor, found: u64) -> Error {
    let why = format!("it has {found} bytes, and the manifest says {}", blob.size);
    Error::new(Kind::Mismatch, attempted, why)
        .with_hint("the manifest or the registry is wrong: ask the image's publisher, or compare with another client")
        .as_final()
}

/// The unverified bytes of a blob, in chunks.
pub type BlobStream = BoxStream<'static, Result<Bytes>>;

/// The largest blob that [`Source::small_blob`] reads into memory, in bytes.
pub const SMALL: u64 = 4 << 20;

/// A repository that can be read. An error has kind `NotFound` if the requested content doesn't exist.
#[async_trait]
pub trait Source: Debug + Display + Send + Sync {
    /// Resolves `selector` to the media type, digest and size of a manifest. Costs no pull if the registry's answer
    /// to a HEAD includes the digest; otherwise one GET.
    async fn resolve(&self, selector: &Selector) -> Result<Descriptor>;

    /// Like [`Source::resolve`], and returns the manifest if it had to be read.
    async fn resolve_whole(&self, selector: &Selector) -> Result<(Descriptor, Option<Manifest>)> {
        Ok((self.resolve(selector).await?, None))
    }

    /// The manifest `digest`, whose bytes are verified. Counts as a pull if pulls are metered.
    async fn manifest(&self, digest: &Digest) -> Result<Manifest>;

    /// The manifest `digest` if it is available without a request. Its availability says nothing about the
    /// repository.
    async fn cached_manifest(&self, _digest: &Digest) -> Option<Manifest> {
        None
    }

    /// The bytes of `blob` from `offset` (in bytes) on, unverified: the caller verifies them. The stream is
    /// `'static` and may fail at any chunk; its end means that there are no more bytes. `Mismatch` if the blob is
    /// known to have another size.
    async fn blob(&self, blob: &Descriptor, offset: u64) -> Result<BlobStream>;

    /// All bytes of `blob`, verified, for blobs that are parsed, such as a configuration. `Unsupported` if it has
    /// more than [`SMALL`] bytes, `Mismatch` if the bytes don't match the digest.
    async fn small_blob(&self, blob: &Descriptor) -> Result<Bytes>;

    /// The size in bytes of blob `digest`; `None` if it doesn't exist.
    async fn blob_size(&self, digest: &Digest) -> Result<Option<u64>>;

    /// All tags, in the order in which the registry returns them. `NotFound` if the repository doesn't exist.
    async fn tags(&self) -> Result<Vec<Tag>>;

    /// All tags, as in [`Source::tags`], if they fit in `pages` pages (one request each); otherwise `None`.
    async fn tags_within(&self, pages: usize) -> Result<Option<Vec<Tag>>> {
        let _ = pages;
        self.tags().await.map(Some)
    }

    /// The referrers of `subject`: each digest once, never `subject` itself. Empty if there are none, whether or
    /// not `subject` exists.
    async fn referrers(&self, subject: &Digest) -> Result<Referrers>;

    /// Like [`Source::referrers`], by the referrers API alone; `None` if the registry doesn't have it, so that
    /// clients maintain the list under the fallback tag.
    async fn listed_referrers(&self, subject: &Digest) -> Result<Option<Vec<Referrer>>> {
        match self.referrers(subject).await? {
            Referrers::Listed(listed) => Ok(Some(listed)),
            Referrers::Tagged(_) => Ok(None),
        }
    }

    /// The content of the fallback tag of `subject`; empty if only the referrers API can be used.
    async fn tagged_referrers(&self, subject: &Digest) -> Result<Referrers> {
        match self.referrers(subject).await? {
            Referrers::Listed(_) => Ok(Referrers::Tagged(None)),
            tagged @ Referrers::Tagged(_) => Ok(tagged),
        }
    }

    /// Whether an empty list from the referrers API may be incomplete, so that the fallback tag has to be read too.
    async fn may_miss_referrers(&self) -> bool {
        false
    }

    /// Whether it refuses HEAD requests for content that it serves: then such a refusal doesn't mean that content
    /// is missing.
    fn refuses_heads(&self) -> bool {
        false
    }

    /// The manifest that `tag` names, read by GET if the registry refuses a HEAD. Counts as a pull if pulls are
    /// metered.
    async fn read_tag(&self, tag: &Tag) -> Result<Manifest> {
        let found = self.resolve(&Selector::Tag(tag.clone())).await?;
        self.manifest(&found.digest).await
    }

    /// Whether reading a manifest here counts against a pull quota, as far as is known yet.
    fn meters_pulls(&self) -> bool {
        false
    }

    /// Whether this run has read the manifest `digest` from here before: reading it from a cache now spares no pull.
    fn has_read(&self, _digest: &Digest) -> bool {
        false
    }

    /// The pulls that may still be reserved; `None` if they aren't limited. If the limit isn't known yet, it is
    /// requested by a free request for manifest `digest`.
    async fn pulls_left(&self, _digest: &Digest) -> Option<u64> {
        None
    }

    /// Extends `reserved` to cover the manifests `digests`, too, and sets its number of pulls for manifests that aren't
    /// known yet to `unnamed`. All or nothing.
    ///
    /// # Errors
    /// `QuotaExceeded` if too few pulls are left.
    async fn reserve_pulls(&self, _reserved: &mut ReservedPulls, _digests: &[Digest], _unnamed: u64) -> Result<()> {
        Ok(())
    }

    /// Whether reading the manifest `digest` would be a metered pull. It isn't if the manifest is available without
    /// a request, or from a mirror that is asked first. Costs no pull.
    async fn costs_pull(&self, digest: &Digest) -> bool {
        self.meters_pulls() && self.cached_manifest(digest).await.is_none()
    }

    /// The registry that served the manifest `digest` in this run, if it wasn't this repository's registry.
    fn served_by(&self, _digest: &Digest) -> Option<Registry> {
        None
    }

    /// Reports wrong bytes for `blob` from here. Returns whether it will be read from another place from now on.
    fn distrust(&self, _blob: &Digest) -> bool {
        false
    }
}

/// [`Source::small_blob`] of a `source` that was opened on `side`.
async fn read_whole<S: Source>(source: &S, blob: &Descriptor, side: Option<Side>) -> Result<Bytes> {
    let error = |kind, why| Error::new(kind, format!("read blob {} from {source}", blob.digest), why).on(side);
    if blob.size > SMALL {
        return Err(error(Kind::Unsupported, format!("{} bytes exceed the limit", blob.size)));
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

/// A manifest at a target, compared with a pin.
#[derive(Debug, Clone)]
pub(crate) struct AsPinned {
    /// The pinned digest, if it is that manifest.
    pub(crate) is: Digest,
    /// The only digest that the target knows the manifest by, if that isn't the pinned one.
    pub(crate) known_as: Option<Digest>,
}

/// Compares `found` at `target` with the manifest `pinned`, whose digest may use another algorithm. Registries report
/// the sha256 digest of a tag's content, and not all of them know the content by another digest, too. So the bytes have
/// to be compared: this costs a GET and a HEAD if the algorithms differ, and nothing otherwise.
pub(crate) async fn as_pinned(target: &dyn Target, found: Digest, pinned: &Digest) -> AsPinned {
    let is_same = found.algorithm() != pinned.algorithm()
        && target.manifest(&found).await.is_ok_and(|manifest| pinned.matches(manifest.bytes()));
    if !is_same {
        return AsPinned { is: found, known_as: None };
    }
    let is_known = matches!(target.held(&Selector::Digest(pinned.clone())).await, Ok(Held::Manifest(_)));
    AsPinned { is: pinned.clone(), known_as: (!is_known).then_some(found) }
}

/// A manifest with blobs of the image `root`, if one is available without a request, whichever repository it was
/// read from.
pub(crate) async fn cached_image(stores: &dyn Stores, repository: &Repository, root: &Digest) -> Option<Manifest> {
    let source = stores.source(repository).ok()?;
    let root = source.cached_manifest(root).await?;
    match root.successors().first() {
        Some(Edge::Manifest(child)) => source.cached_manifest(&child.digest).await,
        _ => Some(root),
    }
}

/// `root` and the manifests below it that the cache of `source` has, and whether those are all.
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

/// A repository that can be written to.
#[async_trait]
pub trait Target: Source {
    /// Stores `manifest` verbatim, by its digest or under a tag. Everything it refers to must exist, except its
    /// subject. `MissingContent` if the target reports that something is missing.
    async fn push_manifest(&self, manifest: &Manifest, name: &Selector) -> Result<Accepted>;

    /// Opens an upload. [`Target::push_blob`] or [`Target::abandon`] ends it.
    async fn open_upload(&self) -> Result<Upload>;

    /// Stores `blob`. `body` is its verified bytes, `blob.size` of them. After a failure the upload can't be used
    /// again.
    async fn push_blob(&self, upload: Upload, blob: &Descriptor, body: BlobStream) -> Result<()>;

    /// Cancels an upload, best effort. Returns it if the request couldn't be sent now, but may be sent later.
    async fn abandon(&self, upload: Upload) -> Option<Upload>;

    /// Cancels an upload, and reports an unanswered request: then the target wouldn't answer to the bytes, either.
    ///
    /// # Errors
    /// If there was no answer.
    async fn cancel_upload(&self, upload: Upload) -> Result<()> {
        self.abandon(upload).await;
        Ok(())
    }

    /// What the target has under `name`. Uses [`Source::resolve`], and interprets a refusal to answer.
    async fn held(&self, name: &Selector) -> Result<Held> {
        match self.resolve(name).await {
            Ok(found) => Ok(Held::Manifest(found.digest)),
            Err(error) if error.kind() == Kind::NotFound => Ok(Held::Nothing),
            Err(error) if error.is_refusal() => Ok(Held::Unknown(error)),
            Err(error) => Err(error),
        }
    }

    /// Checks that the repository itself stores the content that it returns. A pull-through cache returns content of
    /// its upstream, and accepts no pushes. `answered` returns a manifest of an image that the target has answered for,
    /// if one is cached.
    ///
    /// # Errors
    /// `Unsupported` if it is such a cache.
    async fn check_holds(&self, _answered: BoxFuture<'_, Option<Manifest>>) -> Result<()> {
        Ok(())
    }

    /// What a HEAD proves at a repository that fills itself from another registry.
    ///
    /// # Errors
    /// `Unsupported` if it is known not to fill itself.
    async fn head_proves(&self) -> Result<HeadProves> {
        Ok(HeadProves::Nothing)
    }

    /// Whether it stores the manifest `digest` itself, rather than at its upstream; `None` if that can't be determined.
    async fn stores_manifest(&self, _digest: &Digest) -> Result<Option<bool>> {
        Ok(None)
    }

    /// The name of its storage quota, if that is known to be shared with other repositories.
    fn shared_quota(&self) -> Option<String> {
        None
    }

    /// When another repository of the same registry can give this one a blob. Called before the first mount.
    async fn mount_rule(&self) -> MountRule {
        MountRule::AtOnce
    }

    /// Mounts blob `digest` from `from`, a repository of the same registry.
    async fn mount(&self, digest: &Digest, from: &Repository) -> Result<Mount>;

    /// Whether to copy the source's own index of referrers to the fallback tag although this target lists referrers
    /// itself: it will be copied from again, and the index must be identical there.
    fn keeps_indexes(&self) -> bool {
        false
    }

    /// Whether the registry records when a manifest was last pulled, which retention rules use: then manifests
    /// aren't read here.
    fn records_pull_time(&self) -> bool {
        false
    }
}

/// Opens repositories: the only place that knows which store a name belongs to.
///
/// A store that is opened for reading reports all its errors as those of [`Side::Source`], and one that is opened for
/// writing as those of [`Side::Target`]; so does opening it.
pub trait Stores: Debug + Send + Sync {
    /// Opens `repository` for reading.
    ///
    /// # Errors
    /// `Configuration` if the settings for its registry can't be used.
    fn source(&self, repository: &Repository) -> Result<Arc<dyn Source>>;

    /// Opens `repository` for writing.
    ///
    /// # Errors
    /// As [`Stores::source`].
    fn target(&self, repository: &Repository) -> Result<Arc<dyn Target>>;

    /// Opens `repository` as one of several places that may have some content: without mirrors, and unless it `waits`,
    /// a registry in trouble is an error at once.
    ///
    /// # Errors
    /// As [`Stores::source`].
    fn alternative(&self, repository: &Repository, _waits: bool) -> Result<Arc<dyn Source>> {
        self.source(repository)
    }
}
