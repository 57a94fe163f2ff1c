//! A repository in a registry, by the OCI distribution specification 1.1: builds the requests and interprets the
//! answers.

mod download;
mod listing;
mod manifests;
mod push;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::BoxFuture;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue, LOCATION};

pub(crate) use self::listing::next_link;
use super::{
    Accepted, BlobStream, HeadProves, Held, Mount, MountRule, Referrers, ReservedPulls, Source, Stores, Target, Upload,
};
use crate::error::{Error, Kind, Result, Side};
use crate::oci::{Descriptor, Digest, Manifest, Referrer, Repository, Selector, Tag, bounds};
use crate::registry::{Action, Answer, Host, Hosts, Request};

const DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
const UPLOAD: HeaderName = HeaderName::from_static("docker-upload-uuid");
const SUBJECT: HeaderName = HeaderName::from_static("oci-subject");
const CHUNK_MIN_LENGTH: HeaderName = HeaderName::from_static("oci-chunk-min-length");

/// A repository in a registry.
pub struct RegistryStore {
    host: Arc<Host>,
    repository: Repository,
    /// The side that all its errors name.
    side: Side,
    /// Whether to wait while the registry is in trouble.
    waits: bool,
}

/// Opens repositories in registries.
#[derive(Debug)]
pub struct RegistryStores(Arc<Hosts>);

impl RegistryStores {
    /// Uses these hosts.
    pub fn new(hosts: Arc<Hosts>) -> Self {
        Self(hosts)
    }

    fn open(&self, repository: &Repository, side: Side, waits: bool) -> Result<Arc<RegistryStore>> {
        let host = self.0.host(repository.registry()).map_err(|error| error.on(side))?;
        Ok(Arc::new(RegistryStore { host, repository: repository.clone(), side, waits }))
    }
}

impl Stores for RegistryStores {
    fn source(&self, repository: &Repository) -> Result<Arc<dyn Source>> {
        Ok(self.open(repository, Side::Source, true)?)
    }

    fn target(&self, repository: &Repository) -> Result<Arc<dyn Target>> {
        Ok(self.open(repository, Side::Target, true)?)
    }

    fn alternative(&self, repository: &Repository, waits: bool) -> Result<Arc<dyn Source>> {
        Ok(self.open(repository, Side::Source, waits)?)
    }
}

impl fmt::Display for RegistryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.repository.fmt(f)
    }
}

impl fmt::Debug for RegistryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RegistryStore({})", self.repository)
    }
}

impl RegistryStore {
    fn request(&self, action: Action, object: &str, path: &str) -> Result<Request> {
        self.on_this_side(self.host.request(action, &self.repository, object, path))
    }

    fn on_this_side(&self, request: Result<Request>) -> Result<Request> {
        let request = request.map_err(|error| error.on(self.side))?;
        Ok(Request { waits: self.waits, side: Some(self.side), ..request })
    }

    /// Accepts a refused push if `name` already has this content: an immutable tag rejects every push.
    ///
    /// # Errors
    /// `refused` otherwise.
    async fn accept_if_unchanged(&self, name: &Selector, manifest: &Manifest, refused: Error) -> Result<Accepted> {
        if !matches!(name, Selector::Tag(_)) {
            return Err(refused);
        }
        match self.held(name).await {
            Ok(Held::Manifest(found)) if found == *manifest.digest() => Ok(Accepted::default()),
            Ok(Held::Withheld(error)) => {
                let why = format!("{}; can't tell whether that is the same image: {}", refused.why(), error.why());
                let hint = "let the account read the tag's content (at Harbor the permission `artifact: read`), or set overwrite: keep";
                Err(refused.reclassified(Kind::Conflict, why).with_hint(hint))
            }
            _ => Err(refused),
        }
    }

    /// The location where an upload continues, with its chunk sizes.
    fn upload_of(&self, request: &Request, answer: &Answer) -> Result<Upload> {
        if let Some(bytes) = answer.header(CHUNK_MIN_LENGTH).and_then(|text| text.trim().parse().ok()) {
            self.host.chunk_policy().at_least(bytes);
        }
        let location = answer.header(LOCATION).map(ToOwned::to_owned);
        // Docker's own header contains only the upload's ID.
        let named = || Some(format!("/v2/{}/blobs/uploads/{}", self.repository.path(), answer.header(UPLOAD)?));
        let location = location.or_else(named);
        let location = location.ok_or_else(|| request.error(Kind::Invalid, "the answer names no upload location"))?;
        let url = self.host.located(answer, &location);
        let url = url.map_err(|e| request.error(Kind::Invalid, format!("the upload location isn't a URL: {e}")))?;
        Ok(Upload(url.into()))
    }

    fn upload_request(&self, action: Action, upload: &Upload, object: &str) -> Result<Request> {
        self.on_this_side(self.host.request_to(action, &self.repository, object, upload.0.parse()))
    }
}

#[async_trait]
impl Source for RegistryStore {
    async fn resolve(&self, selector: &Selector) -> Result<Descriptor> {
        self.resolve_whole(selector).await.map(|(descriptor, _)| descriptor)
    }

    async fn resolve_whole(&self, selector: &Selector) -> Result<(Descriptor, Option<Manifest>)> {
        self.look_up(selector).await
    }

    async fn manifest(&self, digest: &Digest) -> Result<Manifest> {
        self.get_manifest(&Selector::Digest(digest.clone())).await
    }

    async fn blob(&self, blob: &Descriptor, offset: u64) -> Result<BlobStream> {
        self.download(blob, offset).await
    }

    async fn small_blob(&self, blob: &Descriptor) -> Result<Bytes> {
        super::read_whole(self, blob, Some(self.side)).await
    }

    async fn blob_size(&self, digest: &Digest) -> Result<Option<u64>> {
        let request = self.request(Action::FindBlob, digest.as_str(), &format!("blobs/{digest}"))?;
        match self.host.send(&request).await {
            // Some registries answer a HEAD with the length of its empty body.
            Ok(answer) => match length(&answer).filter(|size| *size > 0 || digest.matches(b"")) {
                Some(size) => Ok(Some(size)),
                None => Err(request.error(Kind::Invalid, "the answer has no length")),
            },
            Err(error) if error.kind() == Kind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn tags(&self) -> Result<Vec<Tag>> {
        let all = self.list_tags(bounds::PAGES).await?;
        Ok(all.unwrap_or_default())
    }

    async fn tags_within(&self, pages: usize) -> Result<Option<Vec<Tag>>> {
        self.list_tags(pages).await
    }

    async fn referrers(&self, subject: &Digest) -> Result<Referrers> {
        match self.list_referrers(subject).await? {
            Some(listed) => Ok(Referrers::Listed(listed)),
            None => self.fallback(subject).await,
        }
    }

    async fn listed_referrers(&self, subject: &Digest) -> Result<Option<Vec<Referrer>>> {
        self.list_referrers(subject).await
    }

    async fn tagged_referrers(&self, subject: &Digest) -> Result<Referrers> {
        self.fallback(subject).await
    }

    async fn may_miss_referrers(&self) -> bool {
        self.host.may_miss_referrers(&self.repository).await
    }

    fn refuses_heads(&self) -> bool {
        self.host.refuses_heads()
    }

    async fn read_tag(&self, tag: &Tag) -> Result<Manifest> {
        let manifest = self.get_manifest(&Selector::Tag(tag.clone())).await?;
        self.host.record_refused_head();
        Ok(manifest)
    }

    fn meters_pulls(&self) -> bool {
        self.host.meters_pulls()
    }

    async fn pulls_left(&self, digest: &Digest) -> Option<u64> {
        self.learn_quota(&Selector::Digest(digest.clone())).await;
        self.host.budget(self.repository.path()).await.room()
    }

    async fn reserve_pulls(&self, reserved: &mut ReservedPulls, digests: &[Digest], unnamed: u64) -> Result<()> {
        let path = self.repository.path();
        let reservation = match &mut reserved.0 {
            Some(reservation) => reservation,
            none => none.insert(self.host.budget(path).await.reservation()),
        };
        let wanted = digests.iter().map(|digest| (path.to_owned(), digest.as_str().to_owned()));
        let extended = reservation.extend(wanted, unnamed, &format!("pull {}", self.repository));
        extended.map_err(|error| error.on(self.side))
    }
}

#[async_trait]
impl Target for RegistryStore {
    async fn push_manifest(&self, manifest: &Manifest, name: &Selector) -> Result<Accepted> {
        let object = match name {
            Selector::Tag(tag) => format!("{} as {tag}", manifest.digest()),
            Selector::Digest(digest) => digest.to_string(),
        };
        let mut request = self.request(Action::PushManifest, &object, &format!("manifests/{name}"))?;
        insert(&mut request, CONTENT_TYPE, manifest.media_type().as_str());
        request.body = manifest.bytes().clone();
        let answer = match self.host.send(&request).await {
            Err(error) if error.kind() == Kind::Conflict => {
                return self.accept_if_unchanged(name, manifest, error).await;
            }
            Err(error) => return Err(push::about_sha512(error, "manifest", name.as_str())),
            Ok(answer) => answer,
        };
        let stored = answer.header(DIGEST).and_then(|text| text.parse::<Digest>().ok());
        if let Some(stored) = stored.filter(|stored| stored.algorithm() == manifest.digest().algorithm())
            && stored != *manifest.digest()
        {
            return Err(request.error(Kind::Mismatch, format!("the registry stored it as {stored}")));
        }
        let subject_processed = answer.headers.contains_key(SUBJECT);
        if subject_processed {
            self.host.referrers_api().record_support();
        }
        Ok(Accepted { subject_processed })
    }

    async fn open_upload(&self) -> Result<Upload> {
        let request = self.request(Action::OpenUpload, "", "blobs/uploads/")?;
        let answer = self.host.send(&request).await?;
        self.upload_of(&request, &answer)
    }

    async fn push_blob(&self, upload: Upload, blob: &Descriptor, body: BlobStream) -> Result<()> {
        self.send_blob(upload, blob, body).await
    }

    async fn abandon(&self, upload: Upload) -> Option<Upload> {
        let request = self.upload_request(Action::AbandonUpload, &upload, "").ok()?;
        // Best effort: registries delete abandoned uploads.
        let was_sent = self.host.send_best_effort(&request).await;
        (!was_sent).then_some(upload)
    }

    async fn cancel_upload(&self, upload: Upload) -> Result<()> {
        let request = self.upload_request(Action::AbandonUpload, &upload, "")?;
        match self.host.attempt(&request).await {
            // Not every registry supports the method; those delete abandoned uploads themselves.
            Err(error) if error.status().is_none() => Err(error),
            _ => Ok(()),
        }
    }

    /// ECR mounts only if the account has enabled it, and only blobs that a committed manifest refers to.
    async fn mount_rule(&self) -> MountRule {
        match self.host.account_mounts().await {
            None => MountRule::AtOnce,
            Some(true) => MountRule::Committed,
            Some(false) => MountRule::Never,
        }
    }

    async fn mount(&self, digest: &Digest, from: &Repository) -> Result<Mount> {
        let object = format!("{digest} of {}", from.path());
        let path = format!("blobs/uploads/?mount={digest}&from={}", from.path());
        let mut request = self.request(Action::MountBlob, &object, &path)?;
        request.scopes = request.scopes.and_pull(from.path());
        // A mount only saves an upload, so it isn't retried.
        match self.host.attempt(&request).await {
            Ok(answer) if answer.status.as_u16() == 201 => Ok(Mount::Mounted),
            // No other success status means that an upload was opened.
            Ok(answer) if answer.status.as_u16() == 202 => Ok(Mount::Declined(self.upload_of(&request, &answer).ok())),
            Ok(_) => Ok(Mount::Declined(None)),
            // A full quota refuses an upload, too.
            Err(error) if matches!(error.kind(), Kind::QuotaExceeded | Kind::Interrupted) => Err(error),
            // An upload may succeed even if a mount fails.
            Err(error) => {
                tracing::debug!("{error}: uploading instead");
                Ok(Mount::Declined(None))
            }
        }
    }

    async fn held(&self, name: &Selector) -> Result<Held> {
        match self.resolve(name).await {
            Ok(found) => Ok(Held::Manifest(found.digest)),
            Err(error) if error.kind() == Kind::NotFound => Ok(Held::Nothing),
            Err(error) if self.host.withholds(&error) => Ok(match name {
                Selector::Digest(digest) => Held::Manifest(digest.clone()),
                Selector::Tag(tag) => {
                    let found = self.host.artifact_digest(&self.repository, tag, error).await;
                    found.map_or_else(Held::Withheld, Held::Manifest)
                }
            }),
            // A push fails, too, if the login is missing or rejected.
            Err(error) if error.kind() == Kind::Unauthorized && self.host.has_asked_for_credentials() => Err(error),
            Err(error) if error.is_refusal() => Ok(Held::Unknown(error)),
            Err(error) => Err(error),
        }
    }

    async fn check_holds(&self, answered: BoxFuture<'_, Option<Manifest>>) -> Result<()> {
        self.host.check_holds(&self.repository, answered).await.map_err(|error| error.on(self.side))
    }

    async fn head_proves(&self) -> Result<HeadProves> {
        let is_harbor = self.host.is_proxy_cache(&self.repository).await.map_err(|error| error.on(self.side))?;
        Ok(if is_harbor { HeadProves::Blobs } else { HeadProves::Nothing })
    }

    async fn stores_manifest(&self, digest: &Digest) -> Result<Option<bool>> {
        self.host.stores_artifact(&self.repository, digest).await.map_err(|error| error.on(self.side))
    }

    fn shared_quota(&self) -> Option<String> {
        self.host.shared_quota(&self.repository)
    }

    fn records_pull_time(&self) -> bool {
        self.host.is_harbor()
    }
}

fn insert(request: &mut Request, name: HeaderName, value: &str) {
    // Media types and ranges are plain ASCII; the registry would refuse any other value anyway.
    if let Ok(value) = HeaderValue::from_str(value) {
        request.headers.insert(name, value);
    }
}

fn length(answer: &Answer) -> Option<u64> {
    answer.header(CONTENT_LENGTH)?.trim().parse().ok()
}

#[cfg(test)]
mod tests;
