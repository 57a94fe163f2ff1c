//! Reads a blob to its end and verifies every byte, one chunk at a time.

use futures::StreamExt as _;

use super::{BlobStream, Source};
use crate::error::{Error, Result};
use crate::oci::{Descriptor, Mismatch, Verifier};
use crate::retry::Backoff;

/// The progress in bytes after which the allowed number of failures is renewed.
const RENEWS: u64 = 1 << 20;

/// How a stream ended.
enum End {
    /// After the last byte.
    Clean,
    /// Early, with a transient error.
    Broken(Error),
}

/// Whether `source` has exactly the bytes that `blob` names. If the stream breaks, it is reopened at that offset.
/// `heard` receives the length of each chunk.
///
/// # Errors
/// Those of the source: `NotFound` if the blob doesn't exist, others if that can't be determined.
pub(crate) async fn read<S: Source + ?Sized>(
    source: &S,
    blob: &Descriptor,
    heard: &(dyn Fn(u64) + Send + Sync),
) -> Result<Result<(), Mismatch>> {
    let mut verifier = Verifier::new(blob.digest.clone(), blob.size);
    let (mut tries, mut renewed_at) = (Backoff::default().tries(), 0);
    loop {
        let before = verifier.seen();
        let stream = source.blob(blob, before).await?;
        match drain(stream, &mut verifier, heard).await? {
            Err(mismatch) => return Ok(Err(mismatch)),
            Ok(End::Clean) => return Ok(verifier.finish()),
            Ok(End::Broken(_)) if verifier.is_full() => return Ok(verifier.finish()),
            Ok(End::Broken(error)) => {
                tracing::debug!(blob = %blob.digest, offset = verifier.seen(), "resuming after: {error}");
                if verifier.seen() >= renewed_at + RENEWS {
                    renewed_at = verifier.seen();
                    tries.renew();
                }
                tries.again(error).await?;
            }
        }
    }
}

async fn drain(
    mut stream: BlobStream,
    verifier: &mut Verifier,
    heard: &(dyn Fn(u64) + Send + Sync),
) -> Result<Result<End, Mismatch>> {
    while let Some(chunk) = stream.next().await {
        match chunk {
            Ok(chunk) => {
                heard(chunk.len() as u64);
                if let Err(mismatch) = verifier.update(&chunk) {
                    return Ok(Err(mismatch));
                }
            }
            Err(error) if error.retry() => return Ok(Ok(End::Broken(error))),
            Err(error) => return Err(error),
        }
    }
    Ok(Ok(End::Clean))
}
