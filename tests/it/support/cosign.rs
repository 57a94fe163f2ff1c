//! The files that cosign stores beside an image, by its specifications: signatures, attestations and SBOMs under tags
//! (`specs/SIGNATURE_SPEC.md`, `ATTESTATION_SPEC.md`, `SBOM_SPEC.md`), and bundles that refer to it
//! (`BUNDLE_SPEC.md`).

use bytes::Bytes;
use serde_json::{Value, json};
use transship::oci::{Descriptor, Digest, Manifest, MediaType};

use super::images::{Blob, EMPTY_JSON, Image};

pub(crate) const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";

/// A signature, its tag first.
pub(crate) fn signature(of: &Digest) -> (String, Image) {
    let payload = format!(
        r#"{{"critical":{{"identity":{{"docker-reference":""}},"image":{{"docker-manifest-digest":"{of}"}},"type":"cosign container image signature"}},"optional":null}}"#
    );
    let layer = Blob::new("application/vnd.dev.cosign.simplesigning.v1+json", payload);
    let annotations = json!({ "dev.cosignproject.cosign/signature": "MEUCIQDsigned+by+nobody==" });
    (tag(of, "sig"), by_tag(layer, &annotations))
}

/// An attestation, its tag first.
pub(crate) fn attestation(of: &Digest) -> (String, Image) {
    let envelope =
        format!(r#"{{"payloadType":"application/vnd.in-toto+json","payload":"{}","signatures":[]}}"#, of.hex());
    let layer = Blob::new("application/vnd.dsse.envelope.v1+json", envelope);
    let annotations =
        json!({ "dev.cosignproject.cosign/signature": "", "predicateType": "https://slsa.dev/provenance/v1" });
    (tag(of, "att"), by_tag(layer, &annotations))
}

/// An SBOM, its tag first.
pub(crate) fn sbom(of: &Digest) -> (String, Image) {
    let layer = Blob::new("text/spdx+json", format!(r#"{{"spdxVersion":"SPDX-2.3","name":"{of}"}}"#));
    (tag(of, "sbom"), by_tag(layer, &Value::Null))
}

/// A signature as cosign 3 stores it: a bundle that refers to its subject.
pub(crate) fn bundle(of: &Descriptor) -> Image {
    let bundle = format!(r#"{{"mediaType":"{BUNDLE}","dsseEnvelope":{{"payload":"{}"}}}}"#, of.digest.hex());
    let (config, layer) = (Blob::new(EMPTY_JSON, "{}"), Blob::new(BUNDLE, bundle));
    let (config_text, layer_text) = (descriptor(&config.descriptor), descriptor(&layer.descriptor));
    let media_type = MediaType::OCI_MANIFEST;
    let text = format!(
        r#"{{"schemaVersion":2,"mediaType":"{media_type}","artifactType":"{BUNDLE}","config":{config_text},"layers":[{layer_text}],"subject":{},"annotations":{{"dev.sigstore.bundle.content":"dsse-envelope","dev.sigstore.bundle.predicateType":"https://sigstore.dev/cosign/sign/v1","org.opencontainers.image.created":"2026-01-01T00:00:00Z"}}}}"#,
        descriptor(of)
    );
    Image { manifest: manifest(text), blobs: vec![config, layer], children: Vec::new() }
}

fn tag(of: &Digest, suffix: &str) -> String {
    format!("sha256-{}.{suffix}", of.hex())
}

fn by_tag(layer: Blob, annotations: &Value) -> Image {
    let config = format!(
        r#"{{"architecture":"","created":"0001-01-01T00:00:00Z","history":[{{"created":"0001-01-01T00:00:00Z"}}],"os":"","rootfs":{{"type":"layers","diff_ids":["{}"]}},"config":{{}}}}"#,
        layer.digest()
    );
    let config = Blob::new(MediaType::OCI_CONFIG, config);
    let mut layer_text = descriptor(&layer.descriptor);
    if annotations.is_object() {
        layer_text.truncate(layer_text.len() - 1);
        layer_text.push_str(&format!(r#","annotations":{annotations}}}"#));
    }
    let (media_type, config_text) = (MediaType::OCI_MANIFEST, descriptor(&config.descriptor));
    let text =
        format!(r#"{{"schemaVersion":2,"mediaType":"{media_type}","config":{config_text},"layers":[{layer_text}]}}"#);
    Image { manifest: manifest(text), blobs: vec![config, layer], children: Vec::new() }
}

/// In the order of Go's encoder.
fn descriptor(of: &Descriptor) -> String {
    format!(r#"{{"mediaType":"{}","size":{},"digest":"{}"}}"#, of.media_type, of.size, of.digest)
}

fn manifest(text: String) -> Manifest {
    let bytes = Bytes::from(text);
    Manifest::new(Digest::of(&bytes), Some(MediaType::OCI_MANIFEST), bytes).expect("a manifest")
}
