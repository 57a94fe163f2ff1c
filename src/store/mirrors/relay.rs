//! Reads a blob from a mirror and falls back to the origin: if the mirror's bytes end early, the origin's bytes
//! continue.

use std::sync::Arc;

use futures::StreamExt as _;

use super::known::Known;
use crate::error::Result;
use crate::oci::Descriptor;
use crate::store::{BlobStream, Source};

struct Relay {
    stream: BlobStream,
    blob: Descriptor,
    /// The offset of the next byte.
    offset: u64,
    /// The origin, until it is in use.
    origin: Option<Arc<dyn Source>>,
    known: Arc<Known>,
}

/// `stream` is `blob` from `offset` on, as a mirror serves it. If it breaks or ends early, `origin` continues.
pub(super) fn with_origin_behind(
    stream: BlobStream,
    blob: Descriptor,
    offset: u64,
    origin: Arc<dyn Source>,
    known: Arc<Known>,
) -> BlobStream {
    let relay = Relay { stream, blob, offset, origin: Some(origin), known };
    futures::stream::try_unfold(relay, |mut relay| async move { Ok(relay.next().await?.map(|chunk| (chunk, relay))) })
        .boxed()
}

impl Relay {
    async fn next(&mut self) -> Result<Option<bytes::Bytes>> {
        loop {
            let next = self.stream.next().await;
            let is_short = self.offset < self.blob.size;
            match (next, &self.origin) {
                (Some(Ok(chunk)), _) => {
                    self.offset += chunk.len() as u64;
                    return Ok(Some(chunk));
                }
                (Some(Err(error)), Some(_)) if is_short => {
                    tracing::info!(offset = self.offset, "the mirror failed, continuing with the origin: {error}");
                }
                (None, Some(_)) if is_short => {
                    tracing::info!(offset = self.offset, blob = %self.blob.digest, "the mirror's blob ends early");
                }
                (other, _) => return other.transpose(),
            }
            let Some(origin) = self.origin.take() else { return Ok(None) };
            // A repeated read asks the origin at once.
            self.known.distrust(&self.blob.digest);
            self.stream = origin.blob(&self.blob, self.offset).await?;
        }
    }
}
