//! Blobs, whole or in part (distribution-spec, "Pulling blobs"; RFC 9110, section 14).

use axum::body::Body;
use axum::http::header::{ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, RANGE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures::{StreamExt as _, future};

use super::Served;
use super::reply::{Code, DIGEST, Refusal};
use crate::error::{Error, Kind};
use crate::oci::{Descriptor, Digest, Repository};

impl Served {
    pub(super) async fn get_blob(
        &self,
        repository: &Repository,
        digest: &Digest,
        head: bool,
        headers: &HeaderMap,
    ) -> Result<Response, Refusal> {
        let source = self.world.source(repository).map_err(|e| Refusal::of(&e, Code::NameUnknown))?;
        let size = match source.blob_size(digest).await {
            Ok(Some(size)) => size,
            Ok(None) => {
                let error = Error::new(Kind::NotFound, format!("get blob {digest} from {source}"), "it isn't there");
                return Err(self.refuse_read(repository, &error, Code::BlobUnknown).await);
            }
            Err(e) => return Err(Refusal::of(&e, Code::BlobUnknown)),
        };
        let range = headers.get(RANGE).and_then(|value| value.to_str().ok());
        let (start, length, partial) = match range.map_or(Part::All, |text| Part::of(text, size)) {
            Part::All => (0, size, false),
            Part::Some { start, length } => (start, length, true),
            Part::Outside => {
                let refusal = Refusal::new(Code::RangeInvalid, format!("the blob has {size} bytes"));
                return Err(refusal.with_header(CONTENT_RANGE, format!("bytes */{size}")));
            }
        };
        let body = if head {
            Body::empty()
        } else {
            let media_type = "application/octet-stream".parse().expect("a constant media type");
            let blob = Descriptor { media_type, digest: digest.clone(), size };
            let stream = source.blob(&blob, start).await.map_err(|e| Refusal::of(&e, Code::BlobUnknown))?;
            Body::from_stream(take(stream, length))
        };
        let headers = [
            (CONTENT_TYPE, "application/octet-stream".to_owned()),
            (ACCEPT_RANGES, "bytes".to_owned()),
            (CONTENT_LENGTH, length.to_string()),
            (DIGEST, digest.to_string()),
        ];
        let mut response = (headers, body).into_response();
        if partial {
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            let range = format!("bytes {start}-{}/{size}", start + length - 1);
            response.headers_mut().insert(CONTENT_RANGE, range.parse().expect("digits"));
        }
        Ok(response)
    }
}

/// The first `length` bytes of a stream.
fn take(
    stream: crate::store::BlobStream,
    length: u64,
) -> impl futures::Stream<Item = Result<Bytes, Error>> + Send + 'static {
    stream.scan(length, |left, chunk| {
        let cut = chunk.map(|mut bytes| {
            bytes.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
            *left -= bytes.len() as u64;
            bytes
        });
        let over = matches!(&cut, Ok(bytes) if bytes.is_empty());
        future::ready((!over).then_some(cut))
    })
}

/// The part of a blob that a Range header requests.
#[derive(Debug, PartialEq)]
enum Part {
    /// Everything: no range, several, or an unknown unit.
    All,
    /// At least one byte.
    Some { start: u64, length: u64 },
    /// Outside the blob.
    Outside,
}

impl Part {
    fn of(range: &str, size: u64) -> Self {
        let Some((first, last)) = range.strip_prefix("bytes=").and_then(|range| range.split_once('-')) else {
            return Self::All;
        };
        let (start, end) = match (first.parse::<u64>(), last.parse::<u64>()) {
            (Ok(start), Ok(last)) => (start, size.min(last.saturating_add(1))),
            (Ok(start), Err(_)) if last.is_empty() => (start, size),
            (Err(_), Ok(count)) if first.is_empty() => (size.saturating_sub(count), size),
            _ => return Self::All,
        };
        if start < end { Self::Some { start, length: end - start } } else { Self::Outside }
    }
}

#[cfg(test)]
mod tests {
    use super::Part;

    #[test]
    fn ranges_are_clamped_to_the_blob() {
        let some = |start, length| Part::Some { start, length };
        for (range, size, part) in [
            ("bytes=0-", 10, some(0, 10)),
            ("bytes=3-5", 10, some(3, 3)),
            ("bytes=9-99", 10, some(9, 1)),
            ("bytes=-4", 10, some(6, 4)),
            ("bytes=-40", 10, some(0, 10)),
            ("bytes=10-", 10, Part::Outside),
            ("bytes=0-", 0, Part::Outside),
            ("bytes=-0", 10, Part::Outside),
            ("bytes=5-3", 10, Part::Outside),
            ("bytes=0-1,3-4", 10, Part::All),
            ("lines=0-1", 10, Part::All),
        ] {
            assert_eq!(Part::of(range, size), part, "{range} of {size}");
        }
    }
}
