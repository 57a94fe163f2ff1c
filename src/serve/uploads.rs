//! Uploads: in one request, in two, or in chunks; and mounts (distribution-spec, "Pushing blobs").
//!
//! A location is valid for one step: it contains the number of received bytes, and a chunk at an earlier location
//! is out of order. So a client that keeps using the first location, or loses its query, is detected.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{CONTENT_LENGTH, CONTENT_RANGE, LOCATION, RANGE};
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use tokio::time::Instant;

use super::expiry::Waiting;
use super::reply::{Code, DIGEST, Refusal};
use super::{Served, parameter, route};
use crate::error::{Error, Kind};
use crate::oci::{Descriptor, Digest, Repository};
use crate::store::{BlobStream, Mount, Upload};

/// The open uploads.
#[derive(Default)]
pub(super) struct Uploads {
    opened: AtomicU64,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    sessions: HashMap<String, Arc<tokio::sync::Mutex<Session>>>,
    /// Whether a task watches their expiry.
    watched: bool,
}

/// One upload with the content received by PATCH. Its lock is held while a chunk arrives.
struct Session {
    id: String,
    repository: Repository,
    upload: Upload,
    parts: Vec<Bytes>,
    received: u64,
    /// When the last request to it ended.
    since: Instant,
}

impl Served {
    pub(super) async fn open_upload(&self, repository: &Repository, request: Request) -> Result<Response, Refusal> {
        let query = request.uri().query();
        if let Some(digest) = parameter(query, "digest") {
            let digest = route::digest(&digest)?;
            let session = self.open(repository).await?;
            return self.store(session, digest, request).await;
        }
        let wanted = parameter(query, "mount").map(|digest| route::digest(&digest)).transpose()?;
        if let (Some(digest), Some(from)) = (wanted, parameter(query, "from")) {
            let from = Repository::new(repository.registry().clone(), &from)
                .map_err(|e| Refusal::new(Code::NameInvalid, e.to_string()))?;
            let target = self.world.target(repository).map_err(|e| Refusal::of(&e, Code::NameUnknown))?;
            return match target.mount(&digest, &from).await {
                Ok(Mount::Mounted) => Ok(created(repository, &digest)),
                Ok(Mount::Declined(Some(upload))) => Ok(self.keep(self.session(repository, upload))),
                Ok(Mount::Declined(None)) => Ok(self.keep(self.open(repository).await?)),
                Err(e) => Err(Refusal::of(&e, Code::NameUnknown)),
            };
        }
        Ok(self.keep(self.open(repository).await?))
    }

    pub(super) async fn upload_status(&self, repository: &Repository, id: &str) -> Result<Response, Refusal> {
        let session = self.uploads.find(repository, id).await?;
        let mut session = session.lock().await;
        session.since = Instant::now();
        Ok((StatusCode::NO_CONTENT, session.headers()).into_response())
    }

    pub(super) async fn append(
        &self,
        repository: &Repository,
        id: &str,
        request: Request,
    ) -> Result<Response, Refusal> {
        let session = self.uploads.find(repository, id).await?;
        let mut session = session.lock().await;
        session.check(&request)?;
        let mut body = request.into_body().into_data_stream();
        // Bytes received before a connection broke count: the status request tells the client where to continue.
        while let Some(chunk) = body.next().await {
            let chunk = chunk.map_err(|e| Refusal::new(Code::BlobUploadInvalid, e.to_string()))?;
            session.since = Instant::now();
            session.received += chunk.len() as u64;
            session.parts.push(chunk);
        }
        Ok((StatusCode::ACCEPTED, session.headers()).into_response())
    }

    pub(super) async fn finish_upload(
        &self,
        repository: &Repository,
        id: &str,
        request: Request,
    ) -> Result<Response, Refusal> {
        let digest = parameter(request.uri().query(), "digest");
        let digest = digest.ok_or_else(|| Refusal::new(Code::DigestInvalid, "no digest is given"))?;
        let digest = route::digest(&digest)?;
        let session = self.uploads.find(repository, id).await?;
        session.lock().await.check(&request)?;
        self.store(self.uploads.take(id).await?, digest, request).await
    }

    pub(super) async fn abandon_upload(&self, repository: &Repository, id: &str) -> Result<Response, Refusal> {
        self.uploads.find(repository, id).await?;
        self.end_upload(id).await;
        Ok(StatusCode::NO_CONTENT.into_response())
    }

    /// Cancels the upload, if it exists.
    pub(super) async fn end_upload(&self, id: &str) {
        let Ok(session) = self.uploads.take(id).await else { return };
        if let Ok(target) = self.world.target(&session.repository) {
            target.abandon(session.upload).await;
        }
    }

    async fn open(&self, repository: &Repository) -> Result<Session, Refusal> {
        let open = async { self.world.target(repository)?.open_upload().await };
        let upload = open.await.map_err(|e| Refusal::of(&e, Code::NameUnknown))?;
        Ok(self.session(repository, upload))
    }

    fn session(&self, repository: &Repository, upload: Upload) -> Session {
        let id = self.uploads.opened.fetch_add(1, Ordering::Relaxed).to_string();
        Session { id, repository: repository.clone(), upload, parts: Vec::new(), received: 0, since: Instant::now() }
    }

    fn keep(&self, session: Session) -> Response {
        let headers = session.headers();
        self.uploads.lock().sessions.insert(session.id.clone(), Arc::new(tokio::sync::Mutex::new(session)));
        (StatusCode::ACCEPTED, headers).into_response()
    }

    /// Ends an upload: the blob is the received content followed by the body of `request`.
    async fn store(&self, session: Session, digest: Digest, request: Request) -> Result<Response, Refusal> {
        let target = self.world.target(&session.repository).map_err(|e| Refusal::of(&e, Code::NameUnknown))?;
        let (size, rest) = match content_length(request.headers()) {
            Some(length) => (session.received + length, incoming(request.into_body())),
            None => {
                let parts: Vec<Bytes> = incoming(request.into_body())
                    .try_collect()
                    .await
                    .map_err(|e| Refusal::of(&e, Code::BlobUploadUnknown))?;
                let length: usize = parts.iter().map(Bytes::len).sum();
                (session.received + length as u64, stream::iter(parts.into_iter().map(Ok)).boxed())
            }
        };
        let body = stream::iter(session.parts.into_iter().map(Ok)).chain(rest).boxed();
        // No store uses the type of a blob, which the manifest defines.
        let media_type = "application/octet-stream".parse().expect("a constant media type");
        let blob = Descriptor { media_type, digest, size };
        let pushed = target.push_blob(session.upload, &blob, body).await;
        pushed.map_err(|e| Refusal::of(&e, Code::BlobUploadUnknown))?;
        Ok(created(&session.repository, &blob.digest))
    }
}

impl Uploads {
    async fn find(&self, repository: &Repository, id: &str) -> Result<Arc<tokio::sync::Mutex<Session>>, Refusal> {
        let found = self.lock().sessions.get(id).cloned();
        let found = found.ok_or_else(unknown)?;
        let here = found.lock().await.repository == *repository;
        if here { Ok(found) } else { Err(unknown()) }
    }

    /// Closes the upload after any chunk in transit has arrived.
    async fn take(&self, id: &str) -> Result<Session, Refusal> {
        let found = self.lock().sessions.remove(id);
        let found = found.ok_or_else(unknown)?;
        let mut session = found.lock().await;
        Ok(Session {
            id: session.id.clone(),
            repository: session.repository.clone(),
            upload: session.upload.clone(),
            parts: std::mem::take(&mut session.parts),
            received: session.received,
            since: session.since,
        })
    }

    /// The uploads without a request in progress.
    pub(super) fn waiting(&self) -> Vec<Waiting> {
        let open = self.lock();
        let idle = open.sessions.values().filter_map(|session| session.try_lock().ok());
        idle.map(|idle| Waiting { id: idle.id.clone(), since: idle.since, held: idle.received }).collect()
    }

    /// Whether there are uploads that no task watches: the caller has to watch them from now on.
    pub(super) fn begin_watch(&self) -> bool {
        let mut open = self.lock();
        let unwatched = !open.sessions.is_empty() && !open.watched;
        open.watched |= unwatched;
        unwatched
    }

    /// Whether nothing is left to watch: the caller stops.
    pub(super) fn end_watch(&self) -> bool {
        let mut open = self.lock();
        open.watched = !open.sessions.is_empty();
        !open.watched
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Session {
    fn headers(&self) -> [(HeaderName, String); 3] {
        let path = self.repository.path();
        let location = format!("/v2/{path}/blobs/uploads/{}?received={}", self.id, self.received);
        [
            (LOCATION, location),
            (RANGE, format!("0-{}", self.received.saturating_sub(1))),
            (HeaderName::from_static("docker-upload-uuid"), self.id.clone()),
        ]
    }

    /// Checks that `request` continues where the last one ended.
    fn check(&self, request: &Request) -> Result<(), Refusal> {
        match parameter(request.uri().query(), "received").and_then(|text| text.parse::<u64>().ok()) {
            Some(received) if received == self.received => {}
            Some(received) if received < self.received => {
                let message = format!("{} bytes were received, the location is from before", self.received);
                return Err(self.refuse(Code::RangeInvalid, &message));
            }
            _ => return Err(self.refuse(Code::BlobUploadInvalid, "not a location that an answer gave")),
        }
        let Some(range) = request.headers().get(CONTENT_RANGE) else { return Ok(()) };
        let bounds = range.to_str().ok().and_then(|text| text.split_once('-'));
        let bounds = bounds.and_then(|(first, last)| Some((first.parse::<u64>().ok()?, last.parse::<u64>().ok()?)));
        let Some((first, last)) = bounds.filter(|(first, last)| first <= last) else {
            return Err(self.refuse(Code::BlobUploadInvalid, "a Content-Range is FIRST-LAST, in bytes"));
        };
        if first != self.received {
            let message = format!("{} bytes were received, the chunk starts at {first}", self.received);
            return Err(self.refuse(Code::RangeInvalid, &message));
        }
        match content_length(request.headers()) {
            Some(length) if length != last - first + 1 => {
                Err(self.refuse(Code::SizeInvalid, "Content-Range and Content-Length differ"))
            }
            _ => Ok(()),
        }
    }

    fn refuse(&self, code: Code, message: &str) -> Refusal {
        let headers = self.headers();
        headers.into_iter().fold(Refusal::new(code, message), |refusal, (name, value)| refusal.with_header(name, value))
    }
}

fn unknown() -> Refusal {
    Refusal::new(Code::BlobUploadUnknown, "the upload doesn't exist")
}

fn created(repository: &Repository, digest: &Digest) -> Response {
    let location = format!("/v2/{}/blobs/{digest}", repository.path());
    (StatusCode::CREATED, [(LOCATION, location), (DIGEST, digest.to_string())]).into_response()
}

fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn incoming(body: Body) -> BlobStream {
    let error = |e: axum::Error| Error::new(Kind::Unavailable, "read the request's body", e.to_string());
    body.into_data_stream().map_err(error).boxed()
}
