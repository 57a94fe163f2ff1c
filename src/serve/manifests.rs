//! Manifests: read and stored verbatim (distribution-spec, "Pulling manifests", "Pushing Manifests").

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, LOCATION};
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;

use super::reply::{Code, DIGEST, Refusal};
use super::{Served, strict};
use crate::error::{Kind, Result as StoreResult};
use crate::oci::{self, Digest, Edge, Manifest, MediaType, Repository, Selector};
use crate::store::Target;

/// The minimum that registries should accept, and the maximum of most.
const LIMIT: usize = 4 * 1024 * 1024;

const SUBJECT: HeaderName = HeaderName::from_static("oci-subject");

impl Served {
    pub(super) async fn get_manifest(
        &self,
        repository: &Repository,
        name: &Selector,
        head: bool,
        asked: &HeaderMap,
    ) -> Result<Response, Refusal> {
        let read = async {
            let source = self.world.source(repository)?;
            let found = source.resolve(name).await?;
            let bytes = if head { Bytes::new() } else { source.manifest(&found.digest).await?.bytes().clone() };
            StoreResult::Ok((found, bytes))
        };
        match read.await {
            Ok((found, _)) if !self.options.lenient && !strict::accepts(asked, found.media_type.as_str()) => {
                let why = format!("it is {}, which Accept doesn't name", found.media_type);
                Err(Refusal::new(Code::ManifestUnknown, why))
            }
            Ok((found, bytes)) => {
                let headers = [
                    (CONTENT_TYPE, found.media_type.to_string()),
                    (CONTENT_LENGTH, found.size.to_string()),
                    (DIGEST, found.digest.to_string()),
                ];
                Ok((headers, Body::from(bytes)).into_response())
            }
            Err(e) => Err(self.refuse_read(repository, &e, Code::ManifestUnknown).await),
        }
    }

    pub(super) async fn put_manifest(
        &self,
        repository: &Repository,
        name: &Selector,
        request: Request,
    ) -> Result<Response, Refusal> {
        let content_type = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok().map(str::to_owned));
        let bytes = to_bytes(request.into_body(), LIMIT)
            .await
            .map_err(|_| Refusal::new(Code::TooLarge, format!("a manifest may have {LIMIT} bytes")))?;
        if !self.options.lenient {
            strict::check(content_type.as_deref(), &bytes)?;
        }
        let manifest = read(name, content_type.as_deref(), bytes)?;
        let target = self.world.target(repository).map_err(|e| Refusal::of(&e, Code::NameUnknown))?;
        if !self.options.lenient && manifest.kind() == oci::Kind::Index {
            let others = missing(&*target, &manifest, |_| true).await;
            if !others.is_empty() {
                return Err(Refusal::missing(&others));
            }
        }
        let accepted = match target.push_manifest(&manifest, name).await {
            Ok(accepted) => accepted,
            Err(e) if e.kind() == Kind::MissingContent => {
                let is_manifest = |edge: &Edge| matches!(edge, Edge::Manifest(_));
                return Err(Refusal::missing(&missing(&*target, &manifest, is_manifest).await));
            }
            Err(e) => return Err(Refusal::of(&e, Code::NameUnknown)),
        };
        let digest = manifest.digest().to_string();
        let location = format!("/v2/{}/manifests/{digest}", repository.path());
        let mut response = (StatusCode::CREATED, [(LOCATION, location), (DIGEST, digest)]).into_response();
        let subject = manifest.subject().filter(|_| self.options.referrers && accepted.subject_processed);
        if let Some(value) = subject.and_then(|subject| subject.digest.as_str().parse().ok()) {
            response.headers_mut().insert(SUBJECT, value);
        }
        Ok(response)
    }
}

/// Parses `bytes` as the manifest that the request declares.
fn read(name: &Selector, content_type: Option<&str>, bytes: Bytes) -> Result<Manifest, Refusal> {
    let digest = match name {
        Selector::Digest(digest) if digest.matches(&bytes) => digest.clone(),
        Selector::Digest(digest) => {
            return Err(Refusal::new(Code::DigestInvalid, format!("the manifest doesn't hash to {digest}")));
        }
        Selector::Tag(_) => Digest::of(&bytes),
    };
    let invalid = |message: String| Refusal::new(Code::ManifestInvalid, message);
    let inside = serde_json::from_slice::<Inside>(&bytes).map_err(|e| invalid(e.to_string()))?.media_type;
    let manifest = Manifest::new(digest, content_type, bytes).map_err(|e| invalid(e.to_string()))?;
    match inside {
        Some(inside) if inside != *manifest.media_type() => {
            Err(invalid(format!("sent as {}, but it calls itself {inside}", manifest.media_type())))
        }
        _ => Ok(manifest),
    }
}

/// The type inside a manifest; the content type must match.
#[derive(serde::Deserialize)]
struct Inside {
    #[serde(rename = "mediaType")]
    media_type: Option<MediaType>,
}

/// Each digest that `manifest` points at and `target` lacks. If `is_manifest`, the content must exist as a
/// manifest: a strict registry refuses an index of layers, such as a build cache.
async fn missing(target: &dyn Target, manifest: &Manifest, is_manifest: impl Fn(&Edge) -> bool) -> Vec<String> {
    let mut digests = Vec::new();
    for edge in manifest.successors() {
        let of = edge.descriptor();
        let there = if is_manifest(edge) {
            target.resolve(&Selector::Digest(of.digest.clone())).await.is_ok()
        } else {
            of.media_type.is_foreign() || matches!(target.blob_size(&of.digest).await, Ok(Some(_)))
        };
        if !there {
            digests.push(of.digest.to_string());
        }
    }
    digests
}
