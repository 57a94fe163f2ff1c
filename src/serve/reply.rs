//! Refusals: the error codes of the distribution specification ("Error Codes"), each with its status, in an envelope.

use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};

use crate::error::{Error, Kind};

/// The header with the digest of the content.
pub(super) const DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// An error code of the specification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Code {
    BlobUnknown,
    BlobUploadInvalid,
    BlobUploadUnknown,
    Denied,
    DigestInvalid,
    ManifestBlobUnknown,
    ManifestInvalid,
    ManifestUnknown,
    NameInvalid,
    NameUnknown,
    PageInvalid,
    RangeInvalid,
    SizeInvalid,
    TagInvalid,
    TooLarge,
    TooManyRequests,
    Unauthorized,
    Unavailable,
    Unsupported,
}

impl Code {
    fn status_and_text(self) -> (StatusCode, &'static str) {
        match self {
            Self::BlobUnknown => (StatusCode::NOT_FOUND, "BLOB_UNKNOWN"),
            Self::BlobUploadInvalid => (StatusCode::BAD_REQUEST, "BLOB_UPLOAD_INVALID"),
            Self::BlobUploadUnknown => (StatusCode::NOT_FOUND, "BLOB_UPLOAD_UNKNOWN"),
            Self::Denied => (StatusCode::FORBIDDEN, "DENIED"),
            Self::DigestInvalid => (StatusCode::BAD_REQUEST, "DIGEST_INVALID"),
            Self::ManifestBlobUnknown => (StatusCode::BAD_REQUEST, "MANIFEST_BLOB_UNKNOWN"),
            Self::ManifestInvalid => (StatusCode::BAD_REQUEST, "MANIFEST_INVALID"),
            Self::ManifestUnknown => (StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN"),
            Self::NameInvalid => (StatusCode::BAD_REQUEST, "NAME_INVALID"),
            Self::NameUnknown => (StatusCode::NOT_FOUND, "NAME_UNKNOWN"),
            Self::PageInvalid => (StatusCode::BAD_REQUEST, "PAGINATION_NUMBER_INVALID"),
            Self::RangeInvalid => (StatusCode::RANGE_NOT_SATISFIABLE, "BLOB_UPLOAD_INVALID"),
            Self::SizeInvalid => (StatusCode::BAD_REQUEST, "SIZE_INVALID"),
            Self::TagInvalid => (StatusCode::BAD_REQUEST, "TAG_INVALID"),
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "SIZE_INVALID"),
            Self::TooManyRequests => (StatusCode::TOO_MANY_REQUESTS, "TOOMANYREQUESTS"),
            Self::Unauthorized => (StatusCode::UNAUTHORIZED, "UNAUTHORIZED"),
            Self::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE"),
            Self::Unsupported => (StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED"),
        }
    }
}

/// A refused request, and the reasons.
#[derive(Debug)]
pub(super) struct Refusal {
    /// Code, message and detail of each error.
    errors: Vec<(Code, String, Value)>,
    headers: Vec<(HeaderName, String)>,
}

impl Refusal {
    pub(super) fn new(code: Code, message: impl Into<String>) -> Self {
        Self { errors: vec![(code, message.into(), Value::Null)], headers: Vec::new() }
    }

    /// The store's error in the registry's format; `unknown` is the code for missing content.
    pub(super) fn of(error: &Error, unknown: Code) -> Self {
        let code = match error.kind() {
            Kind::NotFound => unknown,
            Kind::Unauthorized => Code::Unauthorized,
            Kind::Denied | Kind::QuotaExceeded => Code::Denied,
            Kind::Conflict => Code::TagInvalid,
            Kind::RateLimited => Code::TooManyRequests,
            Kind::MissingContent => Code::ManifestBlobUnknown,
            Kind::Mismatch => Code::DigestInvalid,
            Kind::Unsupported => Code::Unsupported,
            Kind::Invalid => Code::ManifestInvalid,
            Kind::Unavailable | Kind::Interrupted | Kind::Configuration => Code::Unavailable,
        };
        Self::new(code, error.to_string())
    }

    /// One error for each missing digest that a manifest points at.
    pub(super) fn missing(digests: &[String]) -> Self {
        let error = |digest: &String| {
            let message = "a manifest or blob that the manifest refers to is unknown to the repository";
            (Code::ManifestBlobUnknown, message.to_owned(), json!({ "digest": digest }))
        };
        Self { errors: digests.iter().map(error).collect(), headers: Vec::new() }
    }

    pub(super) fn with_header(mut self, name: HeaderName, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub(super) fn into_response(self) -> Response {
        let status = self.errors.first().map_or(StatusCode::BAD_REQUEST, |(code, ..)| code.status_and_text().0);
        let errors: Vec<Value> = self
            .errors
            .iter()
            .map(|(code, message, detail)| {
                json!({ "code": code.status_and_text().1, "message": message, "detail": detail })
            })
            .collect();
        let body = json!({ "errors": errors }).to_string();
        let mut response = (status, [(CONTENT_TYPE, "application/json")], body).into_response();
        for (name, value) in self.headers {
            // The inserted values are paths and numbers.
            if let Ok(value) = HeaderValue::try_from(value) {
                response.headers_mut().insert(name, value);
            }
        }
        response
    }
}
