//! Validates manifests and `Accept` headers as strictly as the strictest registries: distribution for the form and
//! `Accept`, ECR for the members of an index. Nothing here is shared with the client, so that it finds the client's
//! mistakes.

use axum::http::HeaderMap;
use axum::http::header::ACCEPT;
use serde_json::Value;

use super::reply::{Code, Refusal};

/// A type of manifest, and the required types of its members.
struct Form {
    media_type: &'static str,
    needs: &'static str,
    forbids: &'static [&'static str],
    /// Docker's must contain their type; OCI's may.
    says_its_type: bool,
}

const FORMS: [Form; 4] = [
    Form {
        media_type: "application/vnd.oci.image.manifest.v1+json",
        needs: "config",
        forbids: &["manifests"],
        says_its_type: false,
    },
    Form {
        media_type: "application/vnd.oci.image.index.v1+json",
        needs: "manifests",
        forbids: &["config", "layers"],
        says_its_type: false,
    },
    Form {
        media_type: "application/vnd.docker.distribution.manifest.v2+json",
        needs: "config",
        forbids: &["manifests"],
        says_its_type: true,
    },
    Form {
        media_type: "application/vnd.docker.distribution.manifest.list.v2+json",
        needs: "manifests",
        forbids: &["config", "layers"],
        says_its_type: true,
    },
];

/// Refuses anything but a complete manifest of the declared type.
pub(super) fn check(content_type: Option<&str>, bytes: &[u8]) -> Result<(), Refusal> {
    let refuse = |why: String| Err(Refusal::new(Code::ManifestInvalid, why));
    let Some(content_type) = content_type else {
        return refuse("it was sent without a Content-Type".into());
    };
    let Some(form) = FORMS.iter().find(|form| form.media_type == essence(content_type)) else {
        return refuse(format!("{content_type} isn't a type of manifest that is known here"));
    };
    let manifest: Value = match serde_json::from_slice(bytes) {
        Ok(manifest) => manifest,
        Err(e) => return refuse(e.to_string()),
    };
    if manifest["schemaVersion"] != 2 {
        return refuse("its schemaVersion isn't 2".into());
    }
    match &manifest["mediaType"] {
        Value::Null if !form.says_its_type => {}
        Value::String(own) if own == form.media_type => {}
        own => return refuse(format!("it was sent as {}, its mediaType is {own}", form.media_type)),
    }
    if manifest[form.needs].is_null() {
        return refuse(format!("it has no {}", form.needs));
    }
    match form.forbids.iter().find(|member| !manifest[**member].is_null()) {
        Some(member) => refuse(format!("a manifest of its type has no {member}")),
        None => Ok(()),
    }
}

/// Whether a manifest of this type may be the answer to a request with these headers. The type must be listed: a
/// wildcard doesn't count, as in distribution.
pub(super) fn accepts(headers: &HeaderMap, media_type: &str) -> bool {
    let lists = headers.get_all(ACCEPT).into_iter().filter_map(|value| value.to_str().ok());
    lists.flat_map(|list| list.split(',')).any(|named| essence(named) == media_type)
}

/// A media type without its parameters.
fn essence(text: &str) -> String {
    text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}
