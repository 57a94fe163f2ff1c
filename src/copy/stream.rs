//! One reader, one hash, one writer: streams the bytes of a blob from the source to the target.
//!
//! The last chunk is held back until digest and length match, so a target never receives the whole of a wrong blob.
//! If the source breaks, it is reopened at that offset within the same upload.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _};
use tokio::time::Instant;

use super::bandwidth::Bandwidth;
use super::meter::Moving;
use crate::error::{Error, Kind, Result, Side};
use crate::oci::{Descriptor, Mismatch, Verifier};
use crate::retry::{Backoff, Tries};
use crate::store::{BlobStream, Source, wrong_size};

/// How long a broken source is retried while the target's upload waits: registries drop uploads that idle longer.
const RESUME_WITHIN: Duration = Duration::from_secs(20);

/// The progress in bytes after which the allowed number of failures is renewed.
pub(super) const RENEWS: u64 = 1 << 20;

/// The shared state of a reader.
pub(super) struct ReadContext {
    /// Receives the progress.
    pub(super) moving: Arc<Moving>,
    /// The bytes read so far, over all attempts.
    pub(super) reached: Arc<AtomicU64>,
    pub(super) bandwidth: Arc<Bandwidth>,
}

struct Reader {
    source: Arc<dyn Source>,
    blob: Descriptor,
    stream: Option<BlobStream>,
    verifier: Option<Verifier>,
    held: Option<Bytes>,
    /// The deadline for retrying a broken source; its next byte clears it.
    deadline: Option<Instant>,
    tries: Tries,
    /// The offset at which the tries were last renewed.
    renewed_at: u64,
    context: ReadContext,
}

/// Opens `blob` of `source`, and returns when its first byte has arrived.
///
/// # Errors
/// If it can't be opened. An error in place of the first byte is in the stream.
pub(super) async fn open(source: &Arc<dyn Source>, blob: &Descriptor) -> Result<BlobStream> {
    let mut stream = source.blob(blob, 0).await?;
    let first = stream.next().await;
    Ok(futures::stream::iter(first).chain(stream).boxed())
}

/// The verified bytes of `blob`; `opened` is the first stream from `source`. `context.reached` tracks the number of
/// bytes read.
pub(super) fn verified(
    source: Arc<dyn Source>,
    blob: Descriptor,
    opened: BlobStream,
    context: ReadContext,
) -> BlobStream {
    let verifier = Verifier::new(blob.digest.clone(), blob.size);
    let reader = Reader {
        source,
        blob,
        stream: Some(opened),
        verifier: Some(verifier),
        held: None,
        deadline: None,
        tries: Backoff::default().tries(),
        renewed_at: 0,
        context,
    };
    futures::stream::try_unfold(reader, |mut reader| async move {
        let chunk = reader.next().await.map_err(|error| error.on(Side::Source))?;
        Ok(chunk.map(|chunk| (chunk, reader)))
    })
    .boxed()
}

impl Reader {
    /// The next chunk that may be sent; `None` after the last.
    async fn next(&mut self) -> Result<Option<Bytes>> {
        loop {
            let Some(stream) = &mut self.stream else { return Ok(None) };
            match stream.next().await {
                Some(Ok(chunk)) if chunk.is_empty() => {}
                Some(Ok(chunk)) => {
                    self.take(&chunk).await?;
                    if let Some(ready) = self.held.replace(chunk) {
                        return Ok(Some(ready));
                    }
                }
                // Bytes after the announced length don't make correct bytes wrong.
                _ if self.verifier().is_full() => return self.finish(),
                Some(Err(error)) if !error.retry() => return Err(error),
                Some(Err(error)) => self.resume(error).await?,
                // The source has ended early; this isn't a broken connection.
                None => {
                    let seen = self.verifier().seen();
                    return Err(wrong_size(&self.attempted(), &self.blob, seen));
                }
            }
        }
    }

    async fn take(&mut self, chunk: &Bytes) -> Result<()> {
        self.deadline = None;
        self.context.moving.take(chunk.len() as u64);
        self.verifier().update(chunk).map_err(|mismatch| self.mismatch(&mismatch))?;
        let seen = self.verifier().seen();
        self.context.reached.fetch_max(seen, Ordering::Relaxed);
        self.context.bandwidth.take(chunk.len()).await;
        Ok(())
    }

    fn finish(&mut self) -> Result<Option<Bytes>> {
        self.stream = None;
        let verifier = self.verifier.take().expect("a stream ends once");
        verifier.finish().map_err(|e| self.mismatch(&e))?;
        Ok(self.held.take())
    }

    /// Reopens the source at the current offset, or returns the error that it broke with.
    async fn resume(&mut self, broke: Error) -> Result<()> {
        let offset = self.verifier().seen();
        tracing::debug!(blob = %self.blob.digest, offset, "source broke, reopening: {broke}");
        if offset >= self.renewed_at + RENEWS {
            self.renewed_at = offset;
            self.tries.renew();
        }
        // A source that reopens and breaks again without a byte hasn't recovered: it gets no more time.
        let deadline = *self.deadline.get_or_insert_with(|| Instant::now() + RESUME_WITHIN);
        let (source, blob, tries) = (&self.source, &self.blob, &mut self.tries);
        let error = broke.clone();
        let reopen = async move {
            let mut error = error;
            loop {
                tries.again(error).await?;
                match source.blob(blob, offset).await {
                    Ok(stream) => return Ok(stream),
                    Err(failed) => error = failed,
                }
            }
        };
        let stream = tokio::time::timeout_at(deadline, reopen.boxed()).await.unwrap_or(Err(broke))?;
        self.stream = Some(stream);
        Ok(())
    }

    fn verifier(&mut self) -> &mut Verifier {
        self.verifier.as_mut().expect("it is taken only when the stream is, and then nothing is read")
    }

    fn mismatch(&self, mismatch: &Mismatch) -> Error {
        Error::new(Kind::Mismatch, self.attempted(), format!("the source sent wrong bytes: {mismatch}"))
    }

    fn attempted(&self) -> String {
        format!("read blob {} from {}", self.blob.digest, self.source)
    }
}
