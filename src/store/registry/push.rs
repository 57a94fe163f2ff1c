//! Sends a blob to an upload (distribution-spec 1.1, "Pushing blobs"): in one PUT, or in one or more chunks and a
//! PUT that commits.
//!
//! The host's quirks and what it has refused in this run determine the way. The body is a stream that can't be
//! repeated, so after a refusal the other way is used for the next upload: the error then has the retry flag. Bytes
//! are never sent twice to the same upload.

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use http::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderValue, LOCATION, RANGE};

use super::{RegistryStore, insert};
use crate::error::{Error, Kind, Result, Side};
use crate::oci::{Descriptor, Digest};
use crate::registry::{Action, Answer, ChunkedBody, Request, UploadError};
use crate::store::{BlobStream, Source as _, Target as _, Upload};

/// Why a blob isn't confirmed at the target.
enum Failed {
    /// It isn't there.
    Surely(Error),
    /// The commit was requested, and may have succeeded.
    Perhaps(Error),
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self::Surely(error)
    }
}

impl Failed {
    /// A failed commit, after all bytes were sent or not.
    fn commit(request: &Request, error: Error, all_sent: bool) -> Self {
        match error.status() {
            // GHCR takes seconds to commit. A repeated request meanwhile, for instance from a proxy, finds no
            // upload, and sometimes no blob.
            Some(404) => Self::Perhaps(again(request, error, "the registry has lost the upload")),
            _ if all_sent && error.kind() == Kind::Unavailable => Self::Perhaps(error),
            _ => Self::Surely(error),
        }
    }
}

impl RegistryStore {
    pub(super) async fn send_blob(&self, upload: Upload, blob: &Descriptor, body: BlobStream) -> Result<()> {
        let sent = match self.host.chunk_policy().chunk(blob.size) {
            None => self.send_whole(&upload, blob, body).await,
            Some(chunk) => self.send_chunks(upload, blob, body, chunk).await,
        };
        match sent {
            Ok(()) => Ok(()),
            Err(Failed::Surely(error)) if blob.size == 0 => Err(of_empty(error)),
            Err(Failed::Surely(error)) => Err(about_sha512(error, "blob", blob.digest.as_str())),
            // The answer to the commit was lost, or another client was faster: check the blob itself.
            Err(Failed::Perhaps(error)) => match self.blob_size(&blob.digest).await {
                Ok(Some(size)) if size == blob.size => Ok(()),
                _ => Err(error),
            },
        }
    }

    async fn send_whole(&self, upload: &Upload, blob: &Descriptor, body: BlobStream) -> Result<(), Failed> {
        let request = self.commit_request(upload, &blob.digest)?;
        match self.host.upload(&request, body, blob.size).await {
            Ok(_) => {
                if blob.size > 0 {
                    self.host.chunk_policy().takes_in_one();
                }
                Ok(())
            }
            Err(UploadError::Body(error)) => Err(error.into()),
            Err(UploadError::Host { error, .. }) if error.status() == Some(413) => {
                Err(self.too_large(&request, error, blob.size).into())
            }
            Err(UploadError::Host { error, .. }) if self.refuses_in_one(&error, blob).await => {
                Err(again(&request, error, "the registry accepts no blob in the request that ends its upload").into())
            }
            Err(UploadError::Host { error, all_sent }) => Err(Failed::commit(&request, error, all_sent)),
        }
    }

    /// Whether `error` rejects the place of the bytes rather than their content, so that another way should be
    /// tried: Pulp wants them before the request that ends the upload. A registry that ignores the bytes there
    /// reports a digest mismatch; an upload of two bytes shows whether it accepts any.
    async fn refuses_in_one(&self, error: &Error, blob: &Descriptor) -> bool {
        let is_refusal = matches!(error.status(), Some(400..=499 | 501));
        if !is_refusal || blob.size == 0 || blob.digest.as_str().starts_with("sha512:") {
            return false;
        }
        let may_be = match error.kind() {
            Kind::Invalid | Kind::Unsupported => true,
            Kind::Mismatch => self.host.chunk_policy().may_refuse_in_one() && self.ignores_bytes().await,
            _ => false,
        };
        may_be && self.host.chunk_policy().refuses_in_one()
    }

    async fn ignores_bytes(&self) -> bool {
        let bytes = Bytes::from_static(b"{}");
        let (digest, size) = (Digest::of(&bytes), bytes.len() as u64);
        let Ok(upload) = self.open_upload().await else { return false };
        let Ok(request) = self.commit_request(&upload, &digest) else { return false };
        let sent = self.host.upload(&request, stream::iter([Ok(bytes)]).boxed(), size).await;
        if sent.is_err() {
            self.abandon(upload).await;
        }
        matches!(sent, Err(UploadError::Host { error, .. }) if error.kind() == Kind::Mismatch)
    }

    async fn send_chunks(
        &self,
        mut upload: Upload,
        blob: &Descriptor,
        body: BlobStream,
        chunk: u64,
    ) -> Result<(), Failed> {
        let pieces = ChunkedBody::of(body);
        let mut offset = 0;
        while offset < blob.size {
            let length = chunk.min(blob.size - offset);
            upload = self.send_chunk(&upload, &blob.digest, pieces.next(length), offset, length).await?;
            offset += length;
        }
        let mut request = self.commit_request(&upload, &blob.digest)?;
        request.headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        match self.host.attempt(&request).await {
            Ok(_) => Ok(()),
            Err(error) => Err(Failed::commit(&request, error, true)),
        }
    }

    /// Sends `length` bytes from `offset` on. Returns the location for the next bytes.
    async fn send_chunk(
        &self,
        upload: &Upload,
        digest: &Digest,
        piece: BlobStream,
        offset: u64,
        length: u64,
    ) -> Result<Upload> {
        let mut request = self.upload_request(Action::PushChunk, upload, digest.as_str())?;
        request.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        let end = offset + length;
        insert(&mut request, CONTENT_RANGE, &format!("{offset}-{}", end - 1));
        match self.host.upload(&request, piece, length).await {
            // Any success status counts, but the answer has to tell how many bytes were stored.
            Ok(answer) => match kept(&answer) {
                Some(kept) if kept != end => {
                    let why = format!("the registry stored other bytes than the {end} that were sent");
                    Err(request.error(Kind::Unavailable, why).with_status(answer.status.as_u16()))
                }
                None if answer.status.as_u16() != 202 => {
                    self.host.chunk_policy().no_chunks();
                    let why = "the answer to a chunk isn't 202, and doesn't say what was stored";
                    Err(request.error(Kind::Unavailable, why).with_status(answer.status.as_u16()))
                }
                _ if answer.header(LOCATION).is_none() => Ok(upload.clone()),
                _ => self.upload_of(&request, &answer),
            },
            Err(UploadError::Body(error)) => Err(error),
            Err(UploadError::Host { error, .. }) => Err(self.chunk_refused(&request, error, offset, length)),
        }
    }

    /// Interprets the refusal of a chunk.
    fn chunk_refused(&self, request: &Request, error: Error, offset: u64, length: u64) -> Error {
        match (error.status(), offset) {
            (Some(413), _) => self.too_large(request, error, length),
            (Some(400 | 405 | 416 | 501), 0) => {
                self.host.chunk_policy().no_chunks();
                again(request, error, "the registry accepts no chunks")
            }
            (Some(416), _) => again(request, error, "the registry reports a wrong offset for the upload"),
            _ => error,
        }
    }

    /// Interprets the refusal of `bytes` in one request.
    fn too_large(&self, request: &Request, error: Error, bytes: u64) -> Error {
        if self.host.chunk_policy().too_many(bytes) {
            return again(request, error, "the registry accepts no request of that size");
        }
        error.with_hint(
            "raise the limit of the proxy in front of the registry (client_max_body_size of nginx), or of the registry",
        )
    }

    fn commit_request(&self, upload: &Upload, digest: &Digest) -> Result<Request> {
        let mut request = self.upload_request(Action::PushBlob, upload, digest.as_str())?;
        request.url.query_pairs_mut().append_pair("digest", digest.as_str());
        // zot requires a content type.
        request.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        Ok(request)
    }
}

/// The error for a refusal that a new upload avoids.
fn again(request: &Request, error: Error, why: &str) -> Error {
    let status = error.status();
    let error = request.error(Kind::Unavailable, why).with_source(error);
    match status {
        Some(status) => error.with_status(status),
        None => error,
    }
}

/// Interprets a refusal of content with a sha512 digest: registries needn't support it (image-spec, "Digests"), and
/// some report a digest mismatch instead.
pub(super) fn about_sha512(error: Error, what: &str, name: &str) -> Error {
    let may_be_why = matches!(error.kind(), Kind::Mismatch | Kind::Invalid | Kind::Unsupported);
    // Errors from the source of the body aren't an answer of this registry.
    let answered = error.status().is_some() && error.side() != Some(Side::Source);
    if !name.starts_with("sha512:") || !may_be_why || !answered {
        return error;
    }
    let why = format!("the registry doesn't accept a {what} with a sha512 digest: {}", error.why());
    error
        .reclassified(Kind::Unsupported, why)
        .with_hint("mirror the image to a registry that does, or ask its publisher for one with sha256 digests")
}

fn of_empty(error: Error) -> Error {
    match error.kind() {
        Kind::Invalid | Kind::Unsupported | Kind::Mismatch => error.with_hint(
            "this registry doesn't accept empty blobs, like Google's: ask the image's publisher for a build without its \
             empty layer, or mirror it to another registry",
        ),
        _ => error,
    }
}

/// How many bytes of the upload the registry has stored, from `Range: 0-LAST`, if present.
fn kept(answer: &Answer) -> Option<u64> {
    let range = answer.header(RANGE)?.trim().trim_start_matches("bytes").trim_start_matches(['=', ' ']);
    let last: u64 = range.strip_prefix("0-")?.split('/').next()?.trim().parse().ok()?;
    last.checked_add(1)
}
