//! Descriptors: media type, digest and size of some content (image-spec `descriptor.md`).

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer};

use super::Digest;

/// A media type as in a manifest or a header; unknown ones are kept, not refused. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MediaType(Arc<str>);

impl MediaType {
    /// An OCI image manifest.
    pub const OCI_MANIFEST: &'static str = oci_client::manifest::OCI_IMAGE_MEDIA_TYPE;
    /// An OCI image index.
    pub const OCI_INDEX: &'static str = oci_client::manifest::OCI_IMAGE_INDEX_MEDIA_TYPE;
    /// The media type of an empty configuration.
    pub const OCI_EMPTY: &'static str = "application/vnd.oci.empty.v1+json";
    /// A Docker image manifest, version 2 schema 2.
    pub const DOCKER_MANIFEST: &'static str = oci_client::manifest::IMAGE_MANIFEST_MEDIA_TYPE;
    /// A Docker manifest list.
    pub const DOCKER_LIST: &'static str = oci_client::manifest::IMAGE_MANIFEST_LIST_MEDIA_TYPE;
    /// An OCI image configuration.
    pub const OCI_CONFIG: &'static str = oci_client::manifest::IMAGE_CONFIG_MEDIA_TYPE;
    /// An OCI image layer, gzip.
    pub const OCI_LAYER: &'static str = oci_client::manifest::IMAGE_LAYER_GZIP_MEDIA_TYPE;

    /// The text, without parameters.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is an OCI index or a Docker manifest list.
    pub fn is_index(&self) -> bool {
        matches!(self.as_str(), Self::OCI_INDEX | Self::DOCKER_LIST)
    }

    /// Whether it is an OCI or Docker image manifest.
    pub fn is_image(&self) -> bool {
        matches!(self.as_str(), Self::OCI_MANIFEST | Self::DOCKER_MANIFEST)
    }

    /// Whether it is a layer that isn't meant to be kept in registries (image-spec `layer.md`, "Non-Distributable
    /// Layers"; Docker calls them foreign).
    pub fn is_foreign(&self) -> bool {
        ["application/vnd.oci.image.layer.nondistributable.v1.", "application/vnd.docker.image.rootfs.foreign."]
            .iter()
            .any(|prefix| self.0.starts_with(prefix))
    }

    /// Whether it is generic: servers use such types for unknown content.
    pub(crate) fn is_generic(&self) -> bool {
        matches!(
            self.as_str(),
            "application/json"
                | "application/octet-stream"
                | "binary/octet-stream"
                | "text/plain"
                | "text/json"
                | "text/html"
        )
    }

    /// Whether it is Docker's image manifest version 2 schema 1, signed or not: its digest isn't that of its bytes.
    pub fn is_schema1(&self) -> bool {
        self.0.starts_with("application/vnd.docker.distribution.manifest.v1")
    }
}

impl FromStr for MediaType {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let essence = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        if essence.is_empty() || !essence.bytes().all(|b| b.is_ascii_graphic()) || essence.len() > 255 {
            return Err(format!("`{}` isn't a media type", text.escape_debug()));
        }
        Ok(Self(essence.into()))
    }
}

impl fmt::Display for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A reference to content: its media type, digest and exact length.
///
/// Only the members that a copy needs are parsed; the original bytes are what gets copied. Without a media type it
/// is an octet stream.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// The media type of the content.
    #[serde(default = "octets", deserialize_with = "or_octets")]
    pub media_type: MediaType,
    /// The digest of the content.
    pub digest: Digest,
    /// The length of the content in bytes.
    pub size: u64,
}

pub(super) fn octets() -> MediaType {
    MediaType("application/octet-stream".into())
}

pub(super) fn or_octets<'de, D: Deserializer<'de>>(deserializer: D) -> Result<MediaType, D::Error> {
    lenient(deserializer).map(|media_type| media_type.unwrap_or_else(octets))
}

/// An invalid media type counts as absent.
pub(super) fn lenient<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<MediaType>, D::Error> {
    let value = Option::<serde_json::Value>::deserialize(deserializer)?;
    Ok(value.and_then(|value| value.as_str()?.parse().ok()))
}
