//! Blobs that are read from a registry: ranges, silences, encodings.

use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use http::header::{CONTENT_RANGE, RANGE};

use super::{RegistryStore, insert, length};
use crate::error::{Error, Kind, Result};
use crate::oci::{Descriptor, Verifier};
use crate::registry::{Action, Answer, Request, ResponseBody, encoded, in_time};
use crate::store::{BlobStream, wrong_size};

impl RegistryStore {
    /// The bytes of `blob` from `offset` on.
    pub(super) async fn download(&self, blob: &Descriptor, offset: u64) -> Result<BlobStream> {
        let digest = &blob.digest;
        let mut request = self.request(Action::PullBlob, digest.as_str(), &format!("blobs/{digest}"))?;
        if offset > 0 {
            insert(&mut request, RANGE, &format!("bytes={offset}-"));
        }
        let mut answer = self.host.send(&request).await?;
        let status = answer.status.as_u16();
        let skip = match status {
            200 => offset,
            206 if range_start(&answer) == Some(offset) => 0,
            _ => {
                let why = format!("requested bytes from {offset}, got a different range (status {status})");
                return Err(request.error(Kind::Unsupported, why).with_status(status));
            }
        };
        if !answer.foreign && answer.content_type().is_some_and(|text| text.starts_with("text/html")) {
            return Err(answer.unreadable(&request, ""));
        }
        let left = length(&answer);
        let whole = if status == 206 { range_total(&answer) } else { left };
        if let Some(size) = whole
            && size != blob.size
        {
            let wrong = wrong_size(&request.attempted, blob, size).with_status(status).on(self.side);
            return Err(answer.by_encoding(wrong));
        }
        let encoding = answer.encoding().filter(|_| offset == 0).map(ToOwned::to_owned);
        let elsewhere = answer.elsewhere();
        let response = answer.rest.take().ok_or_else(|| request.error(Kind::Invalid, "the answer has no body"))?;
        let wrong = request.error(Kind::Mismatch, "wrong bytes").as_final();
        let idle = self.host.idle_timeout();
        let stream = Download { request, response, elsewhere, skip, left, idle }.into_stream();
        Ok(match encoding {
            Some(encoding) => checked(stream, blob, wrong, encoding),
            None => stream,
        })
    }
}

/// `stream`, which arrived in an encoding that wasn't requested. That is harmless if it is only a label, and
/// explains the error if the bytes are wrong.
fn checked(stream: BlobStream, blob: &Descriptor, error: Error, encoding: String) -> BlobStream {
    let verifier = Verifier::new(blob.digest.clone(), blob.size);
    let wrong = move |why: String| encoded(error.clone().reclassified(Kind::Mismatch, why), &encoding);
    let state = (stream, Some(verifier));
    futures::stream::try_unfold((state, wrong), |((mut stream, mut verifier), wrong)| async move {
        let Some(open) = verifier.as_mut() else { return Ok(None) };
        let Some(chunk) = stream.try_next().await? else { return Ok(None) };
        open.update(&chunk).map_err(|mismatch| wrong(mismatch.to_string()))?;
        // Checks before the reader has all bytes and finds a mismatch without the explanation.
        if open.is_full() {
            let whole = verifier.take().map_or(Ok(()), Verifier::finish);
            whole.map_err(|mismatch| wrong(mismatch.to_string()))?;
        }
        Ok(Some((chunk, ((stream, verifier), wrong))))
    })
    .boxed()
}

/// A blob download.
struct Download {
    request: Request,
    response: ResponseBody,
    /// The host that serves it, if that isn't the registry.
    elsewhere: Option<String>,
    /// Bytes to skip: the server doesn't support ranges.
    skip: u64,
    /// The bytes still expected, if known.
    left: Option<u64>,
    idle: Duration,
}

impl Download {
    fn into_stream(self) -> BlobStream {
        let chunks = futures::stream::try_unfold(self, |mut download| async move {
            Ok(download.next().await?.map(|chunk| (chunk, download)))
        });
        chunks.try_filter(|chunk| std::future::ready(!chunk.is_empty())).boxed()
    }

    async fn next(&mut self) -> Result<Option<Bytes>> {
        let chunk = in_time(self.idle, self.response.chunk()).await;
        let Some(mut chunk) = chunk.map_err(|failure| self.located(failure.into_error(&self.request)))? else {
            return match self.left {
                Some(left) if left > 0 => Err(self.error(format!("the connection ended {left} bytes early"))),
                _ => Ok(None),
            };
        };
        self.left = self.left.map(|left| left.saturating_sub(chunk.len() as u64));
        let skipped = usize::try_from(self.skip).unwrap_or(usize::MAX).min(chunk.len());
        self.skip -= skipped as u64;
        Ok(Some(chunk.split_off(skipped)))
    }

    fn error(&self, why: String) -> Error {
        self.located(self.request.error(Kind::Unavailable, why))
    }

    /// `error` with the name of the host that caused it, if that isn't the registry.
    fn located(&self, error: Error) -> Error {
        match &self.elsewhere {
            Some(host) => {
                let (kind, why) = (error.kind(), format!("{host}: {}", error.why()));
                error.reclassified(kind, why)
            }
            None => error,
        }
    }
}

/// The first byte of `Content-Range: bytes FIRST-LAST/TOTAL`.
fn range_start(answer: &Answer) -> Option<u64> {
    let range = answer.header(CONTENT_RANGE)?.trim().strip_prefix("bytes")?.trim_start();
    range.split_once('-')?.0.trim().parse().ok()
}

/// The total size in `Content-Range: bytes FIRST-LAST/TOTAL`.
fn range_total(answer: &Answer) -> Option<u64> {
    answer.header(CONTENT_RANGE)?.rsplit_once('/')?.1.trim().parse().ok()
}
