//! One reader, one hash, one writer: the bytes of a blob on their way from the source to the target.
//!
//! The last chunk is held back until digest and length agree, so a target never receives the whole of a wrong blob. A
//! source that breaks is reopened where it broke, within the same upload.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use tokio::time::Instant;

use crate::error::{Error, Kind, Result, Side};
use crate::oci::{Descriptor, Mismatch, Verifier};
use crate::progress::Progress;
use crate::store::{BlobStream, Source};

/// How long a broken source is tried anew while the target's upload waits: registries drop uploads that idle longer.
const RESUME_WITHIN: Duration = Duration::from_secs(20);
const RESUME_PAUSE: Duration = Duration::from_millis(200);

struct Reader {
    source: Arc<dyn Source>,
    blob: Descriptor,
    stream: Option<BlobStream>,
    verifier: Option<Verifier>,
    held: Option<Bytes>,
    /// Until when a broken source is tried anew; its next byte lifts it.
    deadline: Option<Instant>,
    progress: Arc<dyn Progress>,
}

/// The verified bytes of `blob`, of which `opened` is the first stream from `source`.
pub(super) fn verified(
    source: Arc<dyn Source>,
    blob: Descriptor,
    opened: BlobStream,
    progress: Arc<dyn Progress>,
) -> BlobStream {
    let verifier = Verifier::new(blob.digest.clone(), blob.size);
    let (stream, verifier) = (Some(opened), Some(verifier));
    let reader = Reader { source, blob, stream, verifier, held: None, deadline: None, progress };
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
                    self.deadline = None;
                    self.progress.bytes(chunk.len() as u64);
                    self.verifier().update(&chunk).map_err(|e| self.mismatch(&e))?;
                    if let Some(ready) = self.held.replace(chunk) {
                        return Ok(Some(ready));
                    }
                }
                // What comes after the announced length can't make right bytes wrong.
                _ if self.verifier().is_full() => return self.finish(),
                Some(Err(error)) if !error.kind().retry() => return Err(error),
                Some(Err(error)) => self.resume(error).await?,
                None => {
                    let (seen, size) = (self.verifier().seen(), self.blob.size);
                    let why = format!("the source ended after {seen} of {size} bytes");
                    self.resume(Error::new(Kind::Unavailable, self.attempted(), why)).await?;
                }
            }
        }
    }

    fn finish(&mut self) -> Result<Option<Bytes>> {
        self.stream = None;
        let verifier = self.verifier.take().expect("a stream ends once");
        verifier.finish().map_err(|e| self.mismatch(&e))?;
        Ok(self.held.take())
    }

    /// Opens the source again where it broke, or gives up with the error that it broke with.
    async fn resume(&mut self, broke: Error) -> Result<()> {
        let offset = self.verifier().seen();
        tracing::debug!(blob = %self.blob.digest, offset, "source broke, reopening: {broke}");
        // A source that opens and breaks again without a byte isn't back: it neither gets more time nor is it asked at once.
        let broke_again = self.deadline.is_some();
        let deadline = *self.deadline.get_or_insert_with(|| Instant::now() + RESUME_WITHIN);
        let reopen = async {
            if broke_again {
                tokio::time::sleep(RESUME_PAUSE).await;
            }
            loop {
                match self.source.blob(&self.blob.digest, offset).await {
                    Ok(stream) => return Ok(stream),
                    Err(error) if !error.kind().retry() => return Err(error),
                    Err(_) => tokio::time::sleep(RESUME_PAUSE).await,
                }
            }
        };
        let stream = tokio::time::timeout_at(deadline, reopen).await.unwrap_or(Err(broke))?;
        self.stream = Some(stream);
        Ok(())
    }

    fn verifier(&mut self) -> &mut Verifier {
        self.verifier.as_mut().expect("it is taken only when the stream is, and then nothing is read")
    }

    fn mismatch(&self, mismatch: &Mismatch) -> Error {
        Error::new(Kind::Mismatch, self.attempted(), format!("the source sent something else: {mismatch}"))
    }

    fn attempted(&self) -> String {
        format!("read blob {} from {}", self.blob.digest, self.source)
    }
}
