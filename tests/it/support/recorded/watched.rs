//! A decorator of one repository, as a source or as a target: it records each call, and applies its fault.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{StreamExt as _, stream};
use transship::error::{Error, Kind, Result, Side};
use transship::oci::{Descriptor, Digest, Manifest, Referrer, Registry, Repository, Selector, Tag};
use transship::store::{
    Accepted, BlobStream, HeadProves, Held, Mount, MountRule, Referrers, ReservedPulls, SMALL, Source, Target, Upload,
};

use super::{Call, Fault, Recorded, What};

/// One repository of [`Recorded`], as a source or as a target.
pub(super) struct Watched<S: ?Sized> {
    pub(super) store: Arc<S>,
    pub(super) repository: Repository,
    pub(super) side: Side,
    pub(super) recorded: Recorded,
}

impl<S: Source + ?Sized> fmt::Display for Watched<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.store.fmt(f)
    }
}

impl<S: Source + ?Sized> fmt::Debug for Watched<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Watched({self})")
    }
}

impl<S: Source + ?Sized> Watched<S> {
    /// Records the call and returns its fault; one that precedes the work has been applied by then.
    async fn enter(&self, what: What, subject: &str) -> Result<Option<Fault>> {
        let call = Call { what, repository: self.repository.clone(), subject: subject.to_owned() };
        let fault = {
            let mut log = self.recorded.log();
            log.calls.push(call.clone());
            let rule = log.rules.iter_mut().find(|rule| rule.befalls(&call));
            rule.map(|rule| {
                rule.times -= 1;
                rule.fault.clone()
            })
        };
        match fault {
            Some(Fault::Fails(kind)) => Err(self.scripted(kind, &call)),
            Some(Fault::Waits(gate)) => {
                gate.pass().await;
                Ok(None)
            }
            Some(Fault::Takes(time)) => {
                tokio::time::sleep(time).await;
                Ok(None)
            }
            other => Ok(other),
        }
    }

    fn scripted(&self, kind: Kind, attempted: &impl fmt::Display) -> Error {
        Error::new(kind, attempted.to_string(), "as the script has it").on(self.side)
    }

    /// A call whose only faults are to fail, to wait and to lose its answer.
    async fn simple<T>(&self, what: What, subject: &str, work: impl Future<Output = Result<T>> + Send) -> Result<T> {
        let fault = self.enter(what, subject).await?;
        let done = work.await?;
        match fault {
            Some(Fault::LosesAnswer(kind)) => {
                let repository = self.repository.clone();
                Err(self.scripted(kind, &Call { what, repository, subject: subject.to_owned() }))
            }
            _ => Ok(done),
        }
    }
}

#[deny(clippy::missing_trait_methods, reason = "what is around a store passes everything on")]
#[async_trait]
impl<S: Source + ?Sized> Source for Watched<S> {
    async fn resolve(&self, selector: &Selector) -> Result<Descriptor> {
        self.simple(What::Resolve, selector.as_str(), self.store.resolve(selector)).await
    }

    async fn manifest(&self, digest: &Digest) -> Result<Manifest> {
        self.simple(What::Manifest, digest.as_str(), self.store.manifest(digest)).await
    }

    async fn cached_manifest(&self, digest: &Digest) -> Option<Manifest> {
        self.store.cached_manifest(digest).await
    }

    async fn blob(&self, blob: &Descriptor, offset: u64) -> Result<BlobStream> {
        let digest = &blob.digest;
        let subject = if offset == 0 { digest.to_string() } else { format!("{digest}@{offset}") };
        let fault = self.enter(What::Blob, &subject).await?;
        let mut stream = self.store.blob(blob, offset).await?;
        let size = self.recorded.log().chunk;
        if let Some(size) = size {
            stream = rechunked(stream, size);
        }
        Ok(match fault {
            Some(Fault::Corrupts) => corrupted(stream),
            Some(Fault::BreaksAfter(bytes)) => broken(stream, bytes, self.side),
            _ => stream,
        })
    }

    async fn blob_size(&self, digest: &Digest) -> Result<Option<u64>> {
        self.simple(What::BlobSize, digest.as_str(), self.store.blob_size(digest)).await
    }

    async fn tags(&self) -> Result<Vec<Tag>> {
        self.simple(What::Tags, "", self.store.tags()).await
    }

    async fn tags_within(&self, pages: usize) -> Result<Option<Vec<Tag>>> {
        self.simple(What::Tags, "", self.store.tags_within(pages)).await
    }

    async fn referrers(&self, subject: &Digest) -> Result<Referrers> {
        self.simple(What::Referrers, subject.as_str(), self.store.referrers(subject)).await
    }

    async fn listed_referrers(&self, subject: &Digest) -> Result<Option<Vec<Referrer>>> {
        self.simple(What::Referrers, subject.as_str(), self.store.listed_referrers(subject)).await
    }

    fn has_read(&self, digest: &Digest) -> bool {
        self.store.has_read(digest)
    }

    fn meters_pulls(&self) -> bool {
        self.recorded.log().counting.contains(self.repository.registry()) || self.store.meters_pulls()
    }

    async fn resolve_whole(&self, selector: &Selector) -> Result<(Descriptor, Option<Manifest>)> {
        self.simple(What::Resolve, selector.as_str(), self.store.resolve_whole(selector)).await
    }

    async fn small_blob(&self, blob: &Descriptor) -> Result<Bytes> {
        if blob.size > SMALL {
            return self.store.small_blob(blob).await;
        }
        // Faults of a blob apply to this too.
        let bytes = super::super::images::read(self.blob(blob, 0).await).await?;
        match blob.digest.matches(&bytes) {
            true => Ok(bytes),
            false => Err(self.scripted(Kind::Mismatch, &blob.digest)),
        }
    }

    async fn tagged_referrers(&self, subject: &Digest) -> Result<Referrers> {
        self.simple(What::Referrers, subject.as_str(), self.store.tagged_referrers(subject)).await
    }

    async fn may_miss_referrers(&self) -> bool {
        self.store.may_miss_referrers().await
    }

    fn refuses_heads(&self) -> bool {
        self.store.refuses_heads()
    }

    async fn read_tag(&self, tag: &Tag) -> Result<Manifest> {
        self.simple(What::Manifest, tag.as_str(), self.store.read_tag(tag)).await
    }

    async fn pulls_left(&self, digest: &Digest) -> Option<u64> {
        self.store.pulls_left(digest).await
    }

    async fn reserve_pulls(&self, reserved: &mut ReservedPulls, digests: &[Digest], unnamed: u64) -> Result<()> {
        self.store.reserve_pulls(reserved, digests, unnamed).await
    }

    async fn costs_pull(&self, digest: &Digest) -> bool {
        self.meters_pulls() && self.cached_manifest(digest).await.is_none()
    }

    fn served_by(&self, digest: &Digest) -> Option<Registry> {
        self.store.served_by(digest)
    }

    fn distrust(&self, blob: &Digest) -> bool {
        self.store.distrust(blob)
    }
}

#[deny(clippy::missing_trait_methods, reason = "what is around a store passes everything on")]
#[async_trait]
impl<T: Target + ?Sized> Target for Watched<T> {
    async fn push_manifest(&self, manifest: &Manifest, name: &Selector) -> Result<Accepted> {
        self.simple(What::PushManifest, name.as_str(), self.store.push_manifest(manifest, name)).await
    }

    async fn open_upload(&self) -> Result<Upload> {
        self.simple(What::OpenUpload, "", self.store.open_upload()).await
    }

    async fn push_blob(&self, upload: Upload, blob: &Descriptor, body: BlobStream) -> Result<()> {
        let fault = self.enter(What::PushBlob, blob.digest.as_str()).await?;
        let body = match fault {
            Some(Fault::BreaksAfter(bytes)) => broken(body, bytes, self.side),
            _ => body,
        };
        self.store.push_blob(upload, blob, body).await?;
        match fault {
            Some(Fault::LosesAnswer(kind)) => Err(self.scripted(kind, &blob.digest)),
            _ => Ok(()),
        }
    }

    async fn abandon(&self, upload: Upload) -> Option<Upload> {
        // A script may make it wait; a failure has no effect here.
        let _ = self.enter(What::Abandon, "").await;
        self.store.abandon(upload).await
    }

    async fn mount_rule(&self) -> MountRule {
        let told = self.recorded.log().mounting.get(self.repository.registry()).copied();
        match told {
            Some(rule) => rule,
            None => self.store.mount_rule().await,
        }
    }

    fn records_pull_time(&self) -> bool {
        self.store.records_pull_time()
    }

    async fn mount(&self, digest: &Digest, from: &Repository) -> Result<Mount> {
        match self.enter(What::Mount, digest.as_str()).await? {
            Some(Fault::Declines) => Ok(Mount::Declined(None)),
            _ => self.store.mount(digest, from).await,
        }
    }

    async fn held(&self, name: &Selector) -> Result<Held> {
        match self.simple(What::Resolve, name.as_str(), self.store.held(name)).await {
            Err(error) if error.kind() == Kind::NotFound => Ok(Held::Nothing),
            held => held,
        }
    }

    async fn check_holds(&self, answered: BoxFuture<'_, Option<Manifest>>) -> Result<()> {
        self.store.check_holds(answered).await
    }

    fn shared_quota(&self) -> Option<String> {
        self.store.shared_quota()
    }

    fn keeps_indexes(&self) -> bool {
        self.store.keeps_indexes()
    }

    async fn cancel_upload(&self, upload: Upload) -> Result<()> {
        let _ = self.enter(What::Abandon, "").await;
        self.store.cancel_upload(upload).await
    }

    async fn head_proves(&self) -> Result<HeadProves> {
        self.store.head_proves().await
    }

    async fn stores_manifest(&self, digest: &Digest) -> Result<Option<bool>> {
        self.store.stores_manifest(digest).await
    }
}

/// The same bytes in chunks of at most `size`.
fn rechunked(stream: BlobStream, size: usize) -> BlobStream {
    let cut = move |chunk: Result<Bytes>| {
        let mut rest = chunk.map(Some);
        stream::iter(std::iter::from_fn(move || match &mut rest {
            Ok(Some(bytes)) if bytes.is_empty() => None,
            Ok(Some(bytes)) => Some(Ok(bytes.split_to(size.min(bytes.len())))),
            Ok(None) => None,
            Err(_) => Some(std::mem::replace(&mut rest, Ok(None)).map(Option::unwrap_or_default)),
        }))
    };
    stream.flat_map(cut).boxed()
}

/// The same length, with another first byte.
fn corrupted(stream: BlobStream) -> BlobStream {
    let change = |(at, chunk): (usize, Result<Bytes>)| {
        chunk.map(|bytes| match (at, bytes.first()) {
            (0, Some(first)) => Bytes::from([&[!first], &bytes[1..]].concat()),
            _ => bytes,
        })
    };
    stream.enumerate().map(change).boxed()
}

/// The first `bytes` bytes, then a broken connection.
fn broken(stream: BlobStream, bytes: usize, side: Side) -> BlobStream {
    let mut left = bytes;
    let within = rechunked(stream, 1).take_while(move |_| {
        let more = left > 0;
        left = left.saturating_sub(1);
        std::future::ready(more)
    });
    let gone = Error::new(Kind::Unavailable, "read the blob", "the connection broke, as the script has it");
    let gone = gone.on(side);
    within.chain(stream::once(async { Err(gone) })).boxed()
}
