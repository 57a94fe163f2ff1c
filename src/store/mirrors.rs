//! Mirrors: a Source around Sources, which asks other places that may have the same content first and the origin
//! last.
//!
//! Content addressed by digest can be verified, so it may come from anywhere. Tags, tag lists and referrers are
//! always read from the origin. A mirror that lacks or refuses something, serves wrong bytes or is in trouble is
//! skipped, and never makes a request fail. A blob is read from where its manifest came from. Mirrors of mirrors
//! aren't used, so there can be no cycle.

mod known;
mod relay;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::join_all;

use self::known::Known;
use super::{BlobStream, Referrers, ReservedPulls, Source, Stores, Target};
use crate::error::{Error, Kind, Result};
use crate::oci::{Descriptor, Digest, Manifest, Referrer, Registry, Repository, Selector, Tag};

/// The mirrors of a registry, in the order in which they are asked: `REGISTRY[/PREFIX]`. Below the prefix a
/// repository has the same path as at its origin.
pub type Mirrors = BTreeMap<Registry, Vec<(Registry, String)>>;

/// Opens repositories that are read from the mirrors of their registry first. Targets are opened without mirrors.
#[derive(Debug)]
pub struct MirroredStores {
    stores: Arc<dyn Stores>,
    mirrors: Mirrors,
    /// What this run has learnt, by repository.
    known: Mutex<BTreeMap<Repository, Arc<Known>>>,
}

impl MirroredStores {
    /// Wraps `stores` with these mirrors.
    pub fn new(stores: Arc<dyn Stores>, mirrors: Mirrors) -> Self {
        Self { stores, mirrors, known: Mutex::default() }
    }

    /// The mirrors of `repository`. A mirror that can't be used is skipped, like one that is down.
    fn mirrors_of(&self, repository: &Repository) -> Vec<Mirror> {
        let listed = self.mirrors.get(repository.registry()).into_iter().flatten();
        let open = |(registry, prefix): &(Registry, String)| {
            let there = Repository::below(registry, prefix, repository.path());
            let there = there.map_err(|e| Error::new(Kind::Configuration, format!("find {repository}"), e.to_string()));
            let source = there.and_then(|there| self.stores.alternative(&there, false));
            let source =
                source.inspect_err(|error| tracing::warn!("{registry} isn't used as a mirror: {error}")).ok()?;
            Some(Mirror { registry: registry.clone(), source })
        };
        listed.filter_map(open).collect()
    }
}

impl Stores for MirroredStores {
    fn source(&self, repository: &Repository) -> Result<Arc<dyn Source>> {
        let origin = self.stores.source(repository)?;
        let mirrors = self.mirrors_of(repository);
        if mirrors.is_empty() {
            return Ok(origin);
        }
        let known = Arc::clone(known::lock(&self.known).entry(repository.clone()).or_default());
        Ok(Arc::new(Mirrored { origin, mirrors: mirrors.into(), known }))
    }

    fn target(&self, repository: &Repository) -> Result<Arc<dyn Target>> {
        self.stores.target(repository)
    }

    fn alternative(&self, repository: &Repository, waits: bool) -> Result<Arc<dyn Source>> {
        self.stores.alternative(repository, waits)
    }
}

/// A repository at a mirror.
#[derive(Debug)]
struct Mirror {
    registry: Registry,
    source: Arc<dyn Source>,
}

/// One repository of [`MirroredStores`] that has mirrors.
#[derive(Debug)]
struct Mirrored {
    origin: Arc<dyn Source>,
    mirrors: Arc<[Mirror]>,
    known: Arc<Known>,
}

impl fmt::Display for Mirrored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.origin.fmt(f)
    }
}

impl Mirrored {
    /// The manifest from the first mirror that has it.
    async fn mirrored_manifest(&self, digest: &Digest) -> Option<Manifest> {
        for place in self.known.to_ask(digest, self.mirrors.len()) {
            match whole_manifest(&self.mirrors[place], digest).await {
                Ok(manifest) => {
                    self.known.served(place, &manifest);
                    return Some(manifest);
                }
                Err(error) => self.pass_over(place, &error),
            }
        }
        None
    }

    /// Records that the mirror at `place` failed with `error`. Missing content isn't reported.
    fn pass_over(&self, place: usize, error: &Error) {
        if error.kind() == Kind::NotFound {
            return tracing::debug!("{error}");
        }
        let (mirror, origin) = (&self.mirrors[place], &self.origin);
        if self.known.refused(place, error.kind()) {
            let hint = error.hint();
            return tracing::warn!(hint, "{origin} is read without its mirror {}: {error}", mirror.registry);
        }
        tracing::info!("the mirror {} is skipped: {error}", mirror.registry);
    }
}

/// The manifest `digest`, if its media type follows from its bytes: a mirror's `Content-Type` isn't trusted.
async fn whole_manifest(mirror: &Mirror, digest: &Digest) -> Result<Manifest> {
    let manifest = mirror.source.manifest(digest).await?;
    if manifest.tells_its_type() {
        return Ok(manifest);
    }
    let attempted = format!("get manifest {digest} from {}", mirror.source);
    Err(Error::new(
        Kind::Unsupported,
        attempted,
        format!("its type comes from its label only: {}", manifest.media_type()),
    ))
}

#[deny(clippy::missing_trait_methods, reason = "a wrapper forwards everything to its source")]
#[async_trait]
impl Source for Mirrored {
    async fn resolve(&self, selector: &Selector) -> Result<Descriptor> {
        self.origin.resolve(selector).await
    }

    async fn resolve_whole(&self, selector: &Selector) -> Result<(Descriptor, Option<Manifest>)> {
        self.origin.resolve_whole(selector).await
    }

    async fn manifest(&self, digest: &Digest) -> Result<Manifest> {
        match self.mirrored_manifest(digest).await {
            Some(manifest) => Ok(manifest),
            None => self.origin.manifest(digest).await,
        }
    }

    async fn cached_manifest(&self, digest: &Digest) -> Option<Manifest> {
        self.origin.cached_manifest(digest).await
    }

    async fn blob(&self, blob: &Descriptor, offset: u64) -> Result<BlobStream> {
        if let Some(place) = self.known.giver(&blob.digest) {
            match self.mirrors[place].source.blob(blob, offset).await {
                Ok(stream) => {
                    let (origin, known) = (Arc::clone(&self.origin), Arc::clone(&self.known));
                    return Ok(relay::with_origin_behind(stream, blob.clone(), offset, origin, known));
                }
                Err(error) => self.pass_over(place, &error),
            }
        }
        self.origin.blob(blob, offset).await
    }

    async fn small_blob(&self, blob: &Descriptor) -> Result<Bytes> {
        if let Some(place) = self.known.giver(&blob.digest) {
            match self.mirrors[place].source.small_blob(blob).await {
                Ok(bytes) => return Ok(bytes),
                Err(error) => self.pass_over(place, &error),
            }
        }
        self.origin.small_blob(blob).await
    }

    async fn blob_size(&self, digest: &Digest) -> Result<Option<u64>> {
        self.origin.blob_size(digest).await
    }

    async fn tags(&self) -> Result<Vec<Tag>> {
        self.origin.tags().await
    }

    async fn tags_within(&self, pages: usize) -> Result<Option<Vec<Tag>>> {
        self.origin.tags_within(pages).await
    }

    async fn referrers(&self, subject: &Digest) -> Result<Referrers> {
        self.origin.referrers(subject).await
    }

    async fn listed_referrers(&self, subject: &Digest) -> Result<Option<Vec<Referrer>>> {
        self.origin.listed_referrers(subject).await
    }

    async fn tagged_referrers(&self, subject: &Digest) -> Result<Referrers> {
        self.origin.tagged_referrers(subject).await
    }

    async fn may_miss_referrers(&self) -> bool {
        self.origin.may_miss_referrers().await
    }

    fn refuses_heads(&self) -> bool {
        self.origin.refuses_heads()
    }

    async fn read_tag(&self, tag: &Tag) -> Result<Manifest> {
        self.origin.read_tag(tag).await
    }

    fn has_read(&self, digest: &Digest) -> bool {
        self.origin.has_read(digest)
    }

    fn meters_pulls(&self) -> bool {
        self.origin.meters_pulls()
    }

    /// Mirrors are asked by HEAD, which isn't metered; the answer is remembered for the GET.
    async fn costs_pull(&self, digest: &Digest) -> bool {
        if self.known.server(digest).is_some() || !self.origin.costs_pull(digest).await {
            return false;
        }
        for place in self.known.to_ask(digest, self.mirrors.len()) {
            match self.mirrors[place].source.resolve(&Selector::Digest(digest.clone())).await {
                Ok(_) => {
                    self.known.found(digest, Some(place));
                    return false;
                }
                Err(error) => self.pass_over(place, &error),
            }
        }
        self.known.found(digest, None);
        true
    }

    async fn pulls_left(&self, digest: &Digest) -> Option<u64> {
        self.origin.pulls_left(digest).await
    }

    /// Reserves nothing for manifests that a mirror has. For an index there, its children aren't reserved yet,
    /// either.
    async fn reserve_pulls(&self, reserved: &mut ReservedPulls, digests: &[Digest], unnamed: u64) -> Result<()> {
        let cost = join_all(digests.iter().map(|digest| self.costs_pull(digest))).await;
        let to_pull = digests.iter().zip(cost).filter(|(_, costs)| *costs);
        let to_pull: Vec<Digest> = to_pull.map(|(digest, _)| digest.clone()).collect();
        let unnamed = if to_pull.is_empty() && !digests.is_empty() { 0 } else { unnamed };
        self.origin.reserve_pulls(reserved, &to_pull, unnamed).await
    }

    fn served_by(&self, digest: &Digest) -> Option<Registry> {
        self.known.server(digest).map(|place| self.mirrors[place].registry.clone())
    }

    fn distrust(&self, blob: &Digest) -> bool {
        self.known.distrust(blob)
    }
}
