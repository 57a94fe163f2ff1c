//! Manifests: verbatim bytes and the edges in them (image-spec `manifest.md`, `image-index.md`).
//!
//! Invariant: `bytes` are never re-encoded. They are parsed only to traverse the graph.

use bytes::Bytes;
use serde::Deserialize;

use super::{Descriptor, Digest, MediaType, bounds};

/// The `Accept` header of every manifest request, HEAD and GET alike, so that both return the same bytes. It lists
/// all existing types, even those that can't be mirrored, because some registries compare types one by one and
/// answer 404 for a type that isn't listed.
pub const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json, \
    application/vnd.oci.artifact.manifest.v1+json, application/vnd.docker.distribution.manifest.v1+prettyjws, \
    application/vnd.docker.distribution.manifest.v1+json, */*;q=0.1";

/// The kind of a manifest, by what it points at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Points at a configuration and layers.
    Image,
    /// Points at manifests.
    Index,
    /// Copied without being interpreted: it points at nothing known.
    Other,
}

/// An edge of the graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Edge {
    /// To a manifest, which may have edges itself.
    Manifest(Descriptor),
    /// To a blob: a configuration or a layer.
    Blob(Descriptor),
}

/// Why bytes can't be mirrored as a manifest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// Docker's schema 1.
    #[error("it is a Docker schema 1 manifest, which registries no longer accept")]
    Schema1,
    /// Not a JSON object, or an invalid descriptor in it.
    #[error("it isn't a manifest: {0}")]
    Invalid(String),
}

/// A manifest: descriptor, verbatim bytes and the edges parsed from them.
#[derive(Debug, Clone)]
pub struct Manifest {
    descriptor: Descriptor,
    bytes: Bytes,
    kind: Kind,
    tells_its_type: bool,
    successors: Vec<Edge>,
    config: Option<Descriptor>,
    subject: Option<Descriptor>,
}

/// The members that contain edges. Lenient: unknown members are ignored, `null` counts as absent.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", expecting = "a JSON object")]
struct Shape {
    schema_version: Option<u64>,
    #[serde(default, deserialize_with = "super::descriptor::lenient")]
    media_type: Option<MediaType>,
    manifests: Option<Vec<Descriptor>>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    /// From `application/vnd.oci.artifact.manifest.v1+json`, which was removed before image-spec 1.1 but still
    /// exists in registries.
    blobs: Option<Vec<Descriptor>>,
    subject: Option<Descriptor>,
    fs_layers: Option<serde::de::IgnoredAny>,
}

impl Manifest {
    /// Parses the edges of `bytes`, which have the digest `digest` and were served as `content_type`.
    ///
    /// The caller has checked that `bytes` hash to `digest`. The type is the `mediaType` in the bytes; without it,
    /// the content type unless that is generic (absent, plain JSON, octets, text); otherwise it follows from the
    /// members.
    ///
    /// # Errors
    /// [`ManifestError`] for schema 1 and for anything that isn't a JSON object with valid descriptors.
    pub fn new(digest: Digest, content_type: Option<&str>, bytes: Bytes) -> Result<Self, ManifestError> {
        let served = content_type.and_then(|text| text.parse::<MediaType>().ok()).filter(|served| !served.is_generic());
        let shape: Shape =
            serde_json::from_slice(&bytes).map_err(|e| ManifestError::Invalid(describe(&bytes, content_type, &e)))?;
        let is_named_schema1 = shape.media_type.as_ref().or(served.as_ref()).is_some_and(MediaType::is_schema1);
        if is_named_schema1 || shape.schema_version == Some(1) || shape.fs_layers.is_some() {
            return Err(ManifestError::Schema1);
        }
        let kind = shape.kind();
        let inside = shape.media_type.clone().filter(|inside| !inside.is_generic());
        let told = inside.clone().or_else(|| kind.default_media_type());
        let media_type = inside
            .or(served)
            .or_else(|| told.clone())
            .ok_or_else(|| ManifestError::Invalid("the media type is missing".into()))?;
        let tells_its_type = told.as_ref() == Some(&media_type);
        let descriptor = Descriptor { media_type, digest, size: bytes.len() as u64 };
        let (config, subject) = (shape.config.clone(), shape.subject.clone());
        let successors = shape.edges();
        check_bounds(&successors)?;
        Ok(Self { descriptor, bytes, kind, tells_its_type, successors, config, subject })
    }

    /// Its media type, digest and size.
    pub fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    /// Its digest.
    pub fn digest(&self) -> &Digest {
        &self.descriptor.digest
    }

    /// Its media type.
    pub fn media_type(&self) -> &MediaType {
        &self.descriptor.media_type
    }

    /// The verbatim bytes.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// What it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Whether its media type follows from its bytes alone, whatever it was served as.
    pub fn tells_its_type(&self) -> bool {
        self.tells_its_type
    }

    /// The edges, each once, in order. `subject` isn't among them: it may not exist.
    pub fn successors(&self) -> &[Edge] {
        &self.successors
    }

    /// Its configuration, which contains the platform of an image.
    pub fn config(&self) -> Option<&Descriptor> {
        self.config.as_ref()
    }

    /// The manifest that this one refers to (distribution-spec, "Listing Referrers"); never an edge of a traversal.
    pub fn subject(&self) -> Option<&Descriptor> {
        self.subject.as_ref()
    }
}

impl Kind {
    fn default_media_type(self) -> Option<MediaType> {
        let text = match self {
            Self::Index => MediaType::OCI_INDEX,
            Self::Image => MediaType::OCI_MANIFEST,
            Self::Other => return None,
        };
        text.parse().ok()
    }
}

impl Shape {
    fn kind(&self) -> Kind {
        if self.manifests.is_some() {
            Kind::Index
        } else if self.config.is_some() || self.layers.is_some() || self.blobs.is_some() {
            Kind::Image
        } else {
            Kind::Other
        }
    }

    fn edges(self) -> Vec<Edge> {
        let manifests = self.manifests.into_iter().flatten().map(|descriptor| {
            if is_blob(&descriptor.media_type) { Edge::Blob(descriptor) } else { Edge::Manifest(descriptor) }
        });
        let layers = self.layers.into_iter().chain(self.blobs).flatten();
        let blobs = self.config.into_iter().chain(layers).map(Edge::Blob);
        let mut seen = std::collections::HashSet::new();
        manifests.chain(blobs).filter(|edge| seen.insert(edge.descriptor().digest.clone())).collect()
    }
}

fn check_bounds(edges: &[Edge]) -> Result<(), ManifestError> {
    if edges.len() > bounds::EDGES {
        let why = format!("it points at {} manifests and blobs, and the limit is {}", edges.len(), bounds::EDGES);
        return Err(ManifestError::Invalid(why));
    }
    match edges.iter().map(Edge::descriptor).find(|descriptor| descriptor.size > bounds::SIZE) {
        Some(Descriptor { digest, size, .. }) => {
            Err(ManifestError::Invalid(format!("the size of {digest} is invalid: {size} bytes")))
        }
        None => Ok(()),
    }
}

impl Edge {
    /// The descriptor at the end of the edge.
    pub fn descriptor(&self) -> &Descriptor {
        match self {
            Self::Manifest(descriptor) | Self::Blob(descriptor) => descriptor,
        }
    }
}

/// Build caches list layers in the `manifests` of an index; these are blobs all the same.
fn is_blob(media_type: &MediaType) -> bool {
    let text = media_type.as_str();
    text.starts_with("application/vnd.oci.image.layer.")
        || text.starts_with("application/vnd.docker.image.rootfs.")
        || text.starts_with("application/vnd.buildkit.cacheconfig.")
        || text == MediaType::OCI_CONFIG
}

/// Describes the received content: proxies answer a manifest request with an HTML page.
fn describe(bytes: &[u8], content_type: Option<&str>, error: &serde_json::Error) -> String {
    let looks_like_html = bytes.trim_ascii_start().first() == Some(&b'<');
    if looks_like_html || content_type.is_some_and(|text| text.starts_with("text/html")) {
        return "the answer is a web page, perhaps of a proxy or a login page".to_owned();
    }
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(content_type: Option<&str>, json: &str) -> Result<Manifest, ManifestError> {
        Manifest::new(Digest::of(json.as_bytes()), content_type, Bytes::copy_from_slice(json.as_bytes()))
    }

    fn descriptor(name: &str, media_type: &str) -> String {
        format!(r#"{{"mediaType":"{media_type}","digest":"{}","size":3,"x":1}}"#, Digest::of(name.as_bytes()))
    }

    fn edges(manifest: &Manifest) -> Vec<(bool, &str)> {
        let is_blob = |edge: &Edge| matches!(edge, Edge::Blob(_));
        manifest.successors().iter().map(|e| (is_blob(e), e.descriptor().digest.as_str())).collect()
    }

    #[test]
    fn the_successors_of_an_image_are_its_config_and_layers_each_once() {
        let (config, layer) = (descriptor("c", "a/odd"), descriptor("l", MediaType::OCI_LAYER));
        let image =
            read(None, &format!(r#"{{"config":{config},"layers":[{layer},{layer}],"subject":{layer}}}"#)).unwrap();
        assert_eq!(image.kind(), Kind::Image);
        assert_eq!(image.media_type().as_str(), MediaType::OCI_MANIFEST);
        let (c, l) = (Digest::of(b"c"), Digest::of(b"l"));
        assert_eq!(edges(&image), [(true, c.as_str()), (true, l.as_str())]);
        assert_eq!(image.subject().unwrap().digest, l);
    }

    #[test]
    fn the_successors_of_an_index_are_its_manifests_without_cached_layers() {
        let (child, layer) = (descriptor("m", "a/unknown"), descriptor("l", MediaType::OCI_LAYER));
        let index = read(Some(MediaType::DOCKER_LIST), &format!(r#"{{"manifests":[{child},{layer}]}}"#)).unwrap();
        assert_eq!(index.kind(), Kind::Index);
        assert_eq!(edges(&index).iter().map(|edge| edge.0).collect::<Vec<_>>(), [false, true]);
    }

    #[test]
    fn the_media_type_comes_from_the_content_then_the_header_then_the_shape() {
        let (oci, list, index) = (MediaType::OCI_MANIFEST, MediaType::DOCKER_LIST, MediaType::OCI_INDEX);
        let artifact = "application/vnd.oci.artifact.manifest.v1+json";
        let of = |inside: &str, member: &str| format!(r#"{{"mediaType":{inside},"{member}":[]}}"#);
        let docker = of(&format!("{:?}", MediaType::DOCKER_MANIFEST), "layers");
        for (served, json, expected) in [
            // The label is wrong, absent, generic or has parameters.
            (Some(oci), docker.clone(), MediaType::DOCKER_MANIFEST),
            (Some(list), docker.clone(), MediaType::DOCKER_MANIFEST),
            (Some("application/vnd.docker.distribution.manifest.v1+json"), docker.clone(), MediaType::DOCKER_MANIFEST),
            (Some("text/plain; charset=utf-8"), docker.clone(), MediaType::DOCKER_MANIFEST),
            (Some("text/html"), docker.clone(), MediaType::DOCKER_MANIFEST),
            (Some("application/json"), docker.clone(), MediaType::DOCKER_MANIFEST),
            (Some(""), docker.clone(), MediaType::DOCKER_MANIFEST),
            (Some("odd"), docker.clone(), MediaType::DOCKER_MANIFEST),
            (None, docker.clone(), MediaType::DOCKER_MANIFEST),
            (Some(oci), of(r#""application/x-inside; a=b""#, "layers"), "application/x-inside"),
            (Some(oci), of(&format!("{artifact:?}"), "blobs"), artifact),
            // The bytes don't contain the type.
            (Some("application/x-served; charset=utf-8"), of("null", "layers"), "application/x-served"),
            (Some(list), of("null", "manifests"), list),
            (Some(list), of(r#""""#, "manifests"), list),
            (Some(list), of("7", "manifests"), list),
            (Some(list), of(r#""application/json""#, "manifests"), list),
            (Some("APPLICATION/VND.OCI.IMAGE.INDEX.V1+JSON"), of("null", "manifests"), index),
            // Neither contains the type.
            (None, r#"{"manifests":[]}"#.to_owned(), index),
            (Some("text/plain"), r#"{"manifests":[]}"#.to_owned(), index),
            (Some("application/octet-stream"), of(r#""""#, "layers"), oci),
            (Some("text/html"), of("null", "layers"), oci),
            (Some("application/vnd.oci.empty.v1+json"), of("null", "layers"), "application/vnd.oci.empty.v1+json"),
        ] {
            assert_eq!(read(served, &json).unwrap().media_type().as_str(), expected, "{served:?} {json}");
        }
    }

    #[test]
    fn descriptors_need_no_media_type() {
        for (media_type, expected) in [
            ("", "application/octet-stream"),
            (r#""mediaType":null,"#, "application/octet-stream"),
            (r#""mediaType":"","#, "application/octet-stream"),
            (r#""mediaType":7,"#, "application/octet-stream"),
            (r#""mediaType":"a b","#, "application/octet-stream"),
            (r#""mediaType":"a/b; c=d","#, "a/b"),
        ] {
            let one = format!(r#"{{{media_type}"digest":"{}","size":3}}"#, Digest::of(b"x"));
            for json in [format!(r#"{{"manifests":[{one}]}}"#), format!(r#"{{"config":{one},"layers":[]}}"#)] {
                let manifest = read(None, &json).unwrap();
                assert_eq!(manifest.successors()[0].descriptor().media_type.as_str(), expected, "{json}");
            }
            let index = read(None, &format!(r#"{{"manifests":[{one}]}}"#)).unwrap();
            assert!(matches!(index.successors()[0], Edge::Manifest(_)), "what an index lists is a manifest");
        }
    }

    #[test]
    fn unsupported_manifests_are_refused_by_name() {
        assert_eq!(read(None, r#"{"schemaVersion":1,"fsLayers":[]}"#).unwrap_err(), ManifestError::Schema1);
        let signed = Some("application/vnd.docker.distribution.manifest.v1+prettyjws");
        assert_eq!(read(signed, "{}").unwrap_err(), ManifestError::Schema1);
        for bad in ["", "[]", "<html>", r#"{"layers":[{"mediaType":"a/b","digest":"sha256:x","size":1}]}"#, "{}"] {
            assert!(matches!(read(None, bad), Err(ManifestError::Invalid(_))), "{bad}");
        }
    }

    #[test]
    fn absurd_counts_and_sizes_are_refused() {
        let layer = |n: usize, size: u64| {
            let digest = Digest::of(n.to_string().as_bytes());
            format!(r#"{{"mediaType":"{}","digest":"{digest}","size":{size}}}"#, MediaType::OCI_LAYER)
        };
        let image = |layers: &[String]| read(None, &format!(r#"{{"layers":[{}]}}"#, layers.join(",")));
        let many = |count| (0..count).map(|n| layer(n, 1)).collect::<Vec<_>>();
        assert!(image(&many(bounds::EDGES)).is_ok());
        assert!(image(&many(bounds::EDGES + 1)).unwrap_err().to_string().contains("10001"));
        assert!(image(&[layer(0, bounds::SIZE)]).is_ok());
        for size in [bounds::SIZE + 1, u64::MAX] {
            assert!(image(&[layer(0, size)]).unwrap_err().to_string().contains(&size.to_string()));
        }
    }

    #[test]
    fn null_counts_as_absent() {
        let image = read(None, r#"{"config":null,"layers":null,"manifests":[]}"#).unwrap();
        assert_eq!((image.kind(), image.successors().len()), (Kind::Index, 0));
    }
}
