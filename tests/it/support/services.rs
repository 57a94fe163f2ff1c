//! Stand-ins for the uploads of public services, as strict as each service, around the registry of this process.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::header::{CONTENT_LENGTH, LOCATION, RANGE, TRANSFER_ENCODING};
use axum::http::{HeaderValue, Method, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures::StreamExt as _;
use serde_json::json;

const MIB: u64 = 1 << 20;

/// A service's rules for uploads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Service {
    /// Chunks of 4 MiB at most, and of several the last one wins.
    Ghcr,
    /// No request above 20 MB.
    Acr,
    /// One request with a length; no chunks, and no empty blob.
    Google,
    /// Each chunk is answered with 201, and only the first one is kept.
    Ecr,
    /// A proxy with this limit for the body of a request, in bytes.
    Proxy(u64),
}

/// The bytes sent by PATCH to each upload, by its path.
#[derive(Debug, Clone)]
struct Uploads {
    service: Service,
    kept: Arc<Mutex<HashMap<String, Bytes>>>,
}

impl Service {
    /// Puts the rules around `router`.
    pub(crate) fn around(self, router: Router) -> Router {
        router.layer(middleware::from_fn_with_state(Uploads { service: self, kept: Arc::default() }, pass))
    }

    /// The most bytes that a request may carry.
    fn limit(self, method: &Method) -> u64 {
        match self {
            Self::Ghcr if *method == Method::PATCH => 4 * MIB,
            Self::Acr => 20_000_000,
            Self::Proxy(limit) => limit,
            Self::Ghcr | Self::Google | Self::Ecr => u64::MAX,
        }
    }
}

async fn pass(State(uploads): State<Uploads>, request: Request, next: Next) -> Response {
    if !request.uri().path().contains("/blobs/uploads/") {
        return next.run(request).await;
    }
    let (service, method) = (uploads.service, request.method().clone());
    let headers = request.headers();
    let length = match headers.get(CONTENT_LENGTH) {
        Some(text) => text.to_str().ok().and_then(|text| text.parse::<u64>().ok()),
        None => (!headers.contains_key(TRANSFER_ENCODING)).then_some(0),
    };
    if length.is_some_and(|length| length > service.limit(&method)) {
        return refuse(request, 413, "SIZE_INVALID").await;
    }
    match (service, method) {
        (Service::Google, Method::PATCH) => refuse(request, 405, "UNSUPPORTED").await,
        (Service::Google, Method::PUT) if length.is_none() => refuse(request, 411, "SIZE_INVALID").await,
        (Service::Google, Method::PUT) if length == Some(0) => refuse(request, 400, "BLOB_UPLOAD_INVALID").await,
        (Service::Ghcr | Service::Ecr, Method::PATCH) => uploads.keep(request).await,
        (Service::Ghcr | Service::Ecr, Method::PUT) => next.run(uploads.join(request).await).await,
        _ => next.run(request).await,
    }
}

impl Uploads {
    /// Handles a chunk like these services, which always report success.
    async fn keep(&self, request: Request) -> Response {
        let uri = request.uri().clone();
        let chunk = to_bytes(request.into_body(), usize::MAX).await.unwrap_or_default();
        let last = chunk.len().saturating_sub(1);
        {
            let mut kept = self.kept.lock().expect("no request panics while it holds the chunks");
            if self.service == Service::Ghcr || !kept.contains_key(uri.path()) {
                kept.insert(uri.path().to_owned(), chunk);
            }
        }
        let status = if self.service == Service::Ecr { StatusCode::CREATED } else { StatusCode::ACCEPTED };
        (status, [(LOCATION, uri.to_string()), (RANGE, format!("0-{last}"))]).into_response()
    }

    /// `request` with the earlier chunks at the front of its body.
    async fn join(&self, request: Request) -> Request {
        let kept = self.kept.lock().expect("no request panics while it holds the chunks").remove(request.uri().path());
        let Some(kept) = kept else { return request };
        let (mut head, body) = request.into_parts();
        let rest = to_bytes(body, usize::MAX).await.unwrap_or_default();
        let whole = [kept, rest].concat();
        head.headers.insert(CONTENT_LENGTH, HeaderValue::from(whole.len()));
        Request::from_parts(head, Body::from(whole))
    }
}

/// Reads the whole request first, so that the client gets the answer.
async fn refuse(request: Request, status: u16, code: &str) -> Response {
    let mut body = request.into_body().into_data_stream();
    while let Some(Ok(_)) = body.next().await {}
    let body = json!({ "errors": [{ "code": code, "message": "as the service has it" }] }).to_string();
    (StatusCode::from_u16(status).expect("a status"), body).into_response()
}
