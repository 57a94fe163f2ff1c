//! A decorator of any `Stores` that records calls and makes some fail.
//!
//! Also part of the library's unit tests (`crate::recorded`).

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{StreamExt as _, stream};
use transship::error::{Error, Kind, Result};
use transship::oci::{Descriptor, Digest, Manifest, Referrer, Registry, Repository, Selector, Tag};
use transship::store::{
    Accepted, BlobStream, HeadProves, Held, Mount, MountRule, PullsAside, Referrers, SMALL, Source, Stores, Target,
    Upload,
};

use super::gate::Gate;

/// The method of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum What {
    Resolve,
    Manifest,
    Blob,
    BlobSize,
    Tags,
    Referrers,
    PushManifest,
    OpenUpload,
    PushBlob,
    Abandon,
    Mount,
}

/// One recorded call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) what: What,
    pub(crate) repository: Repository,
    /// The digest or tag, `sha256:…@OFFSET` for a blob that isn't read from its start; empty where there is none.
    pub(crate) subject: String,
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = format!("{:?} {} {}", self.what, self.repository, self.subject);
        f.write_str(line.trim_end())
    }
}

/// A fault instead of, before or after the work.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    /// Nothing is done, and this error is returned.
    Fails(Kind),
    /// The work is done, but the answer gets lost.
    LosesAnswer(Kind),
    /// The work waits until the gate opens.
    Waits(Gate),
    /// The work takes this long; for tests with paused time.
    Takes(Duration),
    /// The first byte of the blob is changed.
    Corrupts,
    /// The blob's stream breaks after this many bytes; a push reads this many bytes of the body, then fails.
    BreaksAfter(usize),
    /// The mount is declined, without an upload.
    Declines,
}

/// A fault and the calls that get it. Created by [`Recorded::on`].
#[derive(Debug, Clone)]
pub(crate) struct Rule {
    what: What,
    repository: Option<Repository>,
    subject: Option<String>,
    times: usize,
    fault: Fault,
}

impl Rule {
    fn befalls(&self, call: &Call) -> bool {
        self.times > 0
            && self.what == call.what
            && self.repository.as_ref().is_none_or(|repository| *repository == call.repository)
            && self.subject.as_ref().is_none_or(|subject| call.subject.starts_with(subject.as_str()))
    }
}

/// Stores whose calls are recorded, and fail by script. A clone is another handle to the same record.
#[derive(Clone)]
pub(crate) struct Recorded {
    stores: Arc<dyn Stores>,
    log: Arc<Mutex<Log>>,
}

#[derive(Default)]
struct Log {
    calls: Vec<Call>,
    rules: Vec<Rule>,
    chunk: Option<usize>,
    counting: HashSet<Registry>,
    mounting: HashMap<Registry, MountRule>,
}

impl Recorded {
    pub(crate) fn new(stores: Arc<dyn Stores>) -> Self {
        Self { stores, log: Arc::default() }
    }

    /// All calls so far, in the order in which they were made.
    pub(crate) fn calls(&self) -> Vec<Call> {
        self.log().calls.clone()
    }

    /// The calls of one kind.
    pub(crate) fn calls_of(&self, what: What) -> Vec<Call> {
        self.calls().into_iter().filter(|call| call.what == what).collect()
    }

    pub(crate) fn count(&self, what: What) -> usize {
        self.calls_of(what).len()
    }

    /// The position in the log of the first call of this kind on `subject`.
    pub(crate) fn position(&self, what: What, subject: &str) -> Option<usize> {
        self.calls().iter().position(|call| call.what == what && call.subject == subject)
    }

    /// Clears the recorded calls; the rules stay.
    pub(crate) fn clear(&self) {
        self.log().calls.clear();
    }

    /// Starts a rule: on the next call of this kind …
    pub(crate) fn on(&self, what: What) -> RuleBuilder<'_> {
        let rule = Rule { what, repository: None, subject: None, times: 1, fault: Fault::Declines };
        RuleBuilder { recorded: self, rule }
    }

    /// Blobs are read in chunks of at most this many bytes.
    pub(crate) fn chunk(&self, bytes: usize) {
        self.log().chunk = Some(bytes);
    }

    /// `registry` meters pulls.
    pub(crate) fn meters_pulls(&self, registry: &Registry) {
        self.log().counting.insert(registry.clone());
    }

    /// `registry` reports this mount rule; the script determines the results of mounts.
    pub(crate) fn mounts(&self, registry: &Registry, rule: MountRule) {
        self.log().mounting.insert(registry.clone(), rule);
    }

    fn log(&self) -> std::sync::MutexGuard<'_, Log> {
        self.log.lock().expect("no test panics while it writes down a call")
    }

    fn open(&self, repository: &Repository) -> Result<Arc<Watched>> {
        let target = self.stores.target(repository)?;
        Ok(Arc::new(Watched { target, repository: repository.clone(), recorded: self.clone() }))
    }
}

/// A rule under construction; it applies once complete.
#[must_use]
pub(crate) struct RuleBuilder<'a> {
    recorded: &'a Recorded,
    rule: Rule,
}

impl RuleBuilder<'_> {
    /// … in this repository …
    pub(crate) fn of(mut self, repository: &Repository) -> Self {
        self.rule.repository = Some(repository.clone());
        self
    }

    /// … for this digest or tag …
    pub(crate) fn for_subject(mut self, subject: impl fmt::Display) -> Self {
        self.rule.subject = Some(subject.to_string());
        self
    }

    /// … this many times in all …
    pub(crate) fn times(mut self, times: usize) -> Self {
        self.rule.times = times;
        self
    }

    /// … this happens.
    pub(crate) fn then(mut self, fault: Fault) {
        self.rule.fault = fault;
        self.recorded.log().rules.push(self.rule);
    }

    /// … it fails.
    pub(crate) fn fails(self, kind: Kind) {
        self.then(Fault::Fails(kind));
    }
}

impl fmt::Debug for Recorded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Recorded({:?})", self.stores)
    }
}

impl Stores for Recorded {
    fn source(&self, repository: &Repository) -> Result<Arc<dyn Source>> {
        Ok(self.open(repository)?)
    }

    fn target(&self, repository: &Repository) -> Result<Arc<dyn Target>> {
        Ok(self.open(repository)?)
    }
}

/// One repository of [`Recorded`].
struct Watched {
    target: Arc<dyn Target>,
    repository: Repository,
    recorded: Recorded,
}

impl fmt::Display for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.target.fmt(f)
    }
}

impl fmt::Debug for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Watched({self})")
    }
}

impl Watched {
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
            Some(Fault::Fails(kind)) => Err(scripted(kind, &call)),
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

    /// A call whose only faults are to fail, to wait and to lose its answer.
    async fn simple<T>(&self, what: What, subject: &str, work: impl Future<Output = Result<T>> + Send) -> Result<T> {
        let fault = self.enter(what, subject).await?;
        let done = work.await?;
        match fault {
            Some(Fault::LosesAnswer(kind)) => {
                let repository = self.repository.clone();
                Err(scripted(kind, &Call { what, repository, subject: subject.to_owned() }))
            }
            _ => Ok(done),
        }
    }
}

fn scripted(kind: Kind, attempted: &impl fmt::Display) -> Error {
    Error::new(kind, attempted.to_string(), "as the script has it")
}

#[deny(clippy::missing_trait_methods, reason = "what is around a store passes everything on")]
#[async_trait]
impl Source for Watched {
    async fn resolve(&self, selector: &Selector) -> Result<Descriptor> {
        self.simple(What::Resolve, selector.as_str(), self.target.resolve(selector)).await
    }

    async fn manifest(&self, digest: &Digest) -> Result<Manifest> {
        self.simple(What::Manifest, digest.as_str(), self.target.manifest(digest)).await
    }

    async fn cached_manifest(&self, digest: &Digest) -> Option<Manifest> {
        self.target.cached_manifest(digest).await
    }

    async fn blob(&self, blob: &Descriptor, offset: u64) -> Result<BlobStream> {
        let digest = &blob.digest;
        let subject = if offset == 0 { digest.to_string() } else { format!("{digest}@{offset}") };
        let fault = self.enter(What::Blob, &subject).await?;
        let mut stream = self.target.blob(blob, offset).await?;
        let size = self.recorded.log().chunk;
        if let Some(size) = size {
            stream = rechunked(stream, size);
        }
        Ok(match fault {
            Some(Fault::Corrupts) => corrupted(stream),
            Some(Fault::BreaksAfter(bytes)) => broken(stream, bytes),
            _ => stream,
        })
    }

    async fn blob_size(&self, digest: &Digest) -> Result<Option<u64>> {
        self.simple(What::BlobSize, digest.as_str(), self.target.blob_size(digest)).await
    }

    async fn tags(&self) -> Result<Vec<Tag>> {
        self.simple(What::Tags, "", self.target.tags()).await
    }

    async fn tags_within(&self, pages: usize) -> Result<Option<Vec<Tag>>> {
        self.simple(What::Tags, "", self.target.tags_within(pages)).await
    }

    async fn referrers(&self, subject: &Digest) -> Result<Referrers> {
        self.simple(What::Referrers, subject.as_str(), self.target.referrers(subject)).await
    }

    async fn listed_referrers(&self, subject: &Digest) -> Result<Option<Vec<Referrer>>> {
        self.simple(What::Referrers, subject.as_str(), self.target.listed_referrers(subject)).await
    }

    fn has_read(&self, digest: &Digest) -> bool {
        self.target.has_read(digest)
    }

    fn meters_pulls(&self) -> bool {
        self.recorded.log().counting.contains(self.repository.registry()) || self.target.meters_pulls()
    }

    async fn resolve_whole(&self, selector: &Selector) -> Result<(Descriptor, Option<Manifest>)> {
        self.simple(What::Resolve, selector.as_str(), self.target.resolve_whole(selector)).await
    }

    async fn small_blob(&self, blob: &Descriptor) -> Result<Bytes> {
        if blob.size > SMALL {
            return self.target.small_blob(blob).await;
        }
        // Faults of a blob apply to this too.
        let bytes = super::images::read(self.blob(blob, 0).await).await?;
        match blob.digest.matches(&bytes) {
            true => Ok(bytes),
            false => Err(scripted(Kind::Mismatch, &blob.digest)),
        }
    }

    async fn tagged_referrers(&self, subject: &Digest) -> Result<Referrers> {
        self.simple(What::Referrers, subject.as_str(), self.target.tagged_referrers(subject)).await
    }

    async fn may_miss_referrers(&self) -> bool {
        self.target.may_miss_referrers().await
    }

    fn refuses_questions(&self) -> bool {
        self.target.refuses_questions()
    }

    async fn read_tag(&self, tag: &Tag) -> Result<Manifest> {
        self.simple(What::Manifest, tag.as_str(), self.target.read_tag(tag)).await
    }

    async fn pulls_left(&self, digest: &Digest) -> Option<u64> {
        self.target.pulls_left(digest).await
    }

    async fn set_aside(&self, aside: &mut PullsAside, digests: &[Digest], unnamed: u64) -> Result<()> {
        self.target.set_aside(aside, digests, unnamed).await
    }

    async fn costs_pull(&self, digest: &Digest) -> bool {
        self.meters_pulls() && self.cached_manifest(digest).await.is_none()
    }

    fn served_by(&self, digest: &Digest) -> Option<Registry> {
        self.target.served_by(digest)
    }

    fn distrust(&self, blob: &Digest) -> bool {
        self.target.distrust(blob)
    }
}

#[deny(clippy::missing_trait_methods, reason = "what is around a store passes everything on")]
#[async_trait]
impl Target for Watched {
    async fn push_manifest(&self, manifest: &Manifest, name: &Selector) -> Result<Accepted> {
        self.simple(What::PushManifest, name.as_str(), self.target.push_manifest(manifest, name)).await
    }

    async fn open_upload(&self) -> Result<Upload> {
        self.simple(What::OpenUpload, "", self.target.open_upload()).await
    }

    async fn push_blob(&self, upload: Upload, blob: &Descriptor, body: BlobStream) -> Result<()> {
        let fault = self.enter(What::PushBlob, blob.digest.as_str()).await?;
        let body = match fault {
            Some(Fault::BreaksAfter(bytes)) => broken(body, bytes),
            _ => body,
        };
        self.target.push_blob(upload, blob, body).await?;
        match fault {
            Some(Fault::LosesAnswer(kind)) => Err(scripted(kind, &blob.digest)),
            _ => Ok(()),
        }
    }

    async fn abandon(&self, upload: Upload) -> Option<Upload> {
        // A script may make it wait; a failure has no effect here.
        let _ = self.enter(What::Abandon, "").await;
        self.target.abandon(upload).await
    }

    async fn mount_rule(&self) -> MountRule {
        let told = self.recorded.log().mounting.get(self.repository.registry()).copied();
        match told {
            Some(rule) => rule,
            None => self.target.mount_rule().await,
        }
    }

    fn records_pull_time(&self) -> bool {
        self.target.records_pull_time()
    }

    async fn mount(&self, digest: &Digest, from: &Repository) -> Result<Mount> {
        match self.enter(What::Mount, digest.as_str()).await? {
            Some(Fault::Declines) => Ok(Mount::Declined(None)),
            _ => self.target.mount(digest, from).await,
        }
    }

    async fn held(&self, name: &Selector) -> Result<Held> {
        match self.simple(What::Resolve, name.as_str(), self.target.held(name)).await {
            Err(error) if error.kind() == Kind::NotFound => Ok(Held::Nothing),
            held => held,
        }
    }

    async fn check_holds(&self, answered: BoxFuture<'_, Option<Manifest>>) -> Result<()> {
        self.target.check_holds(answered).await
    }

    fn shares_quota(&self) -> Option<String> {
        self.target.shares_quota()
    }

    fn keeps_indexes(&self) -> bool {
        self.target.keeps_indexes()
    }

    async fn give_back(&self, upload: Upload) -> Result<()> {
        let _ = self.enter(What::Abandon, "").await;
        self.target.give_back(upload).await
    }

    async fn head_proves(&self) -> Result<HeadProves> {
        self.target.head_proves().await
    }

    async fn keeps_manifest(&self, digest: &Digest) -> Result<Option<bool>> {
        self.target.keeps_manifest(digest).await
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
fn broken(stream: BlobStream, bytes: usize) -> BlobStream {
    let mut left = bytes;
    let within = rechunked(stream, 1).take_while(move |_| {
        let more = left > 0;
        left = left.saturating_sub(1);
        std::future::ready(more)
    });
    let gone = Error::new(Kind::Unavailable, "read the blob", "the connection broke, as the script has it");
    within.chain(stream::once(async { Err(gone) })).boxed()
}
