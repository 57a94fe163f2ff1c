//! Images for the demo: small, reproducible, and valid, so that they can be unpacked and run.

mod layer;
mod program;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream;
use serde_json::{Value, json};

use layer::File;

use crate::error::Result;
use crate::oci::{Descriptor, Digest, Manifest, MediaType, Selector, Tag};
use crate::store::Target;

const PLATFORMS: [&str; 2] = ["amd64", "arm64"];

const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";

/// Bytes of data in a base layer, which images share.
const BASE: usize = 3_000_000;

/// An image upstream, under one tag.
pub(super) struct Image {
    pub(super) host: &'static str,
    pub(super) path: &'static str,
    pub(super) tag: &'static str,
    /// The name of its base layer.
    pub(super) base: &'static str,
    /// Bytes of the data in its own layer.
    pub(super) size: usize,
    /// Whether it has an attestation for each platform, as buildkit makes them.
    pub(super) attested: bool,
    /// Whether it has a signature, as cosign makes it.
    pub(super) signed: bool,
    /// The platforms in the demo's list; empty = all.
    pub(super) platforms: &'static str,
}

/// Pushes `of` to `repository`, for two platforms.
pub(super) async fn publish(repository: &dyn Target, of: &Image) -> Result<()> {
    let mut entries = Vec::new();
    let mut attestations = Vec::new();
    for architecture in PLATFORMS {
        let archives = archives(of, architecture);
        let mut layers = Vec::new();
        for archive in &archives {
            layers.push(put(repository, MediaType::OCI_LAYER, layer::gzip(archive).into()).await?);
        }
        let platform = json!({"os": "linux", "architecture": architecture});
        let config = put_config(repository, &platform, &archives.each_ref().map(|archive| Digest::of(archive))).await?;
        let image = put_manifest(repository, &image(&config, &layers), None).await?;
        entries.push(entry(&image, &platform, None));
        if of.attested {
            let statement = json!({"_type": "https://in-toto.io/Statement/v1", "subject": [{"digest": image.digest}]});
            let statement = put(repository, "application/vnd.in-toto+json", statement.to_string().into()).await?;
            let unknown = json!({"os": "unknown", "architecture": "unknown"});
            let config = put_config(repository, &unknown, std::slice::from_ref(&statement.digest)).await?;
            let attestation = put_manifest(repository, &self::image(&config, &[statement]), None).await?;
            attestations.push(entry(&attestation, &unknown, Some(&image.digest)));
        }
    }
    entries.extend(attestations);
    let index = json!({"schemaVersion": 2, "mediaType": MediaType::OCI_INDEX, "manifests": entries});
    let tag = of.tag.parse().expect("a tag of the demo");
    let root = put_manifest(repository, &index, Some(&tag)).await?;
    if of.signed { sign(repository, &root).await } else { Ok(()) }
}

/// The uncompressed layers of `of`: the base layer and its own.
fn archives(of: &Image, architecture: &str) -> [Vec<u8>; 2] {
    let Image { path, tag, base, .. } = of;
    let file = |path, bytes| File { path, executable: false, bytes };
    let line = format!("{path}:{tag} of transship's demo runs on {architecture}\n");
    let program = File { path: "usr/bin/demo", executable: true, bytes: program::printing(architecture, &line) };
    let release = file("etc/os-release", format!("ID={base}\n").into());
    let shared = file("usr/lib/base", noise(&format!("{base}/{architecture}"), BASE));
    let own = file("usr/lib/own", noise(&format!("{path}:{tag}/{architecture}"), of.size));
    [layer::tar(&[release, shared]), layer::tar(&[program, own])]
}

/// Pushes a signature of `subject`, as a bundle that refers to it.
async fn sign(repository: &dyn Target, subject: &Descriptor) -> Result<()> {
    let config = put(repository, "application/vnd.oci.empty.v1+json", Bytes::from_static(b"{}")).await?;
    let signed = json!({"payload": subject.digest, "signature": Digest::of(subject.digest.as_str().as_bytes())});
    let bundle = put(repository, BUNDLE, signed.to_string().into()).await?;
    let mut signature = image(&config, &[bundle]);
    signature["artifactType"] = BUNDLE.into();
    signature["subject"] = plain(subject);
    put_manifest(repository, &signature, None).await?;
    Ok(())
}

fn image(config: &Descriptor, layers: &[Descriptor]) -> Value {
    let layers: Vec<Value> = layers.iter().map(plain).collect();
    json!({"schemaVersion": 2, "mediaType": MediaType::OCI_MANIFEST, "config": plain(config), "layers": layers})
}

fn plain(descriptor: &Descriptor) -> Value {
    json!({"mediaType": descriptor.media_type, "digest": descriptor.digest, "size": descriptor.size})
}

fn entry(descriptor: &Descriptor, platform: &Value, attests: Option<&Digest>) -> Value {
    let mut entry = plain(descriptor);
    entry["platform"] = platform.clone();
    if let Some(digest) = attests {
        entry["annotations"] =
            json!({"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": digest});
    }
    entry
}

async fn put(repository: &dyn Target, media_type: &str, bytes: Bytes) -> Result<Descriptor> {
    let media_type = media_type.parse().expect("a constant media type");
    let blob = Descriptor { media_type, digest: Digest::of(&bytes), size: bytes.len() as u64 };
    let upload = repository.open_upload().await?;
    repository.push_blob(upload, &blob, stream::iter([Ok(bytes)]).boxed()).await?;
    Ok(blob)
}

/// Pushes a configuration (image-spec `config.md`) for `platform`, with the digests of the uncompressed layers.
async fn put_config(repository: &dyn Target, platform: &Value, diff_ids: &[Digest]) -> Result<Descriptor> {
    let mut config = platform.clone();
    config["config"] = json!({"Cmd": ["/usr/bin/demo"]});
    config["rootfs"] = json!({"type": "layers", "diff_ids": diff_ids});
    put(repository, MediaType::OCI_CONFIG, config.to_string().into()).await
}

async fn put_manifest(repository: &dyn Target, json: &Value, tag: Option<&Tag>) -> Result<Descriptor> {
    let bytes = Bytes::from(json.to_string());
    let manifest = Manifest::new(Digest::of(&bytes), None, bytes).expect("this file writes sound manifests");
    let name = tag.map_or_else(|| Selector::Digest(manifest.digest().clone()), |tag| Selector::Tag(tag.clone()));
    repository.push_manifest(&manifest, &name).await?;
    Ok(manifest.descriptor().clone())
}

/// Incompressible bytes: the digests of a counter.
fn noise(seed: &str, size: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(size + 64);
    let mut block = 0_u64;
    while bytes.len() < size {
        bytes.extend_from_slice(Digest::of(format!("{seed}/{block}").as_bytes()).hex().as_bytes());
        block += 1;
    }
    bytes.truncate(size);
    bytes
}
