//! Images made from seeds: equal seeds give equal bytes, so expected digests stay the same.
//!
//! Also part of the library's unit tests (`crate::images`).

use std::collections::HashSet;

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use serde_json::{Map, Value, json};
use transship::error::Result;
use transship::oci::{Descriptor, Digest, Manifest, MediaType, Selector, Tag};
use transship::store::{BlobStream, Source, Target};

pub(crate) const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
pub(crate) const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
pub(crate) const ZSTD_LAYER: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
pub(crate) const FOREIGN_LAYER: &str = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip";
pub(crate) const DOCKER_FOREIGN_LAYER: &str = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
pub(crate) const EMPTY_JSON: &str = "application/vnd.oci.empty.v1+json";

/// A blob and its name.
#[derive(Debug, Clone)]
pub(crate) struct Blob {
    pub(crate) descriptor: Descriptor,
    pub(crate) bytes: Bytes,
}

impl Blob {
    pub(crate) fn new(media_type: &str, bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self { descriptor: descriptor(media_type, &bytes), bytes }
    }

    /// The same content under its sha512 digest.
    pub(crate) fn by_sha512(mut self) -> Self {
        self.descriptor.digest = sha512(&self.bytes);
        self
    }

    /// `size` incompressible bytes, equal for equal seed and size.
    pub(crate) fn seeded(media_type: &str, seed: &str, size: usize) -> Self {
        let start = seed
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        let words = std::iter::successors(Some(start | 1), |state| {
            // xorshift64
            let state = state ^ (state << 13);
            let state = state ^ (state >> 7);
            Some(state ^ (state << 17))
        });
        let mut bytes: Vec<u8> = words.take(size.div_ceil(8)).flat_map(u64::to_le_bytes).collect();
        bytes.truncate(size);
        Self::new(media_type, bytes)
    }

    pub(crate) fn digest(&self) -> &Digest {
        &self.descriptor.digest
    }

    pub(crate) fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    /// The bytes as a body for `push_blob`, in chunks of at most `chunk` bytes.
    pub(crate) fn stream(&self, chunk: usize) -> BlobStream {
        let mut rest = self.bytes.clone();
        let next = move || (!rest.is_empty()).then(|| Ok(rest.split_to(chunk.min(rest.len()))));
        stream::iter(std::iter::from_fn(next)).boxed()
    }

    pub(crate) async fn push(&self, target: &dyn Target) -> Result<()> {
        let upload = target.open_upload().await?;
        target.push_blob(upload, &self.descriptor, self.stream(usize::MAX)).await
    }
}

/// A manifest with all its content: an image, an index or an artifact.
#[derive(Debug, Clone)]
pub(crate) struct Image {
    pub(crate) manifest: Manifest,
    pub(crate) blobs: Vec<Blob>,
    pub(crate) children: Vec<Self>,
}

impl Image {
    pub(crate) fn digest(&self) -> &Digest {
        self.manifest.digest()
    }

    pub(crate) fn descriptor(&self) -> &Descriptor {
        self.manifest.descriptor()
    }

    /// The manifest with these members, valid or not.
    pub(crate) fn of(media_type: &str, members: Value, blobs: Vec<Blob>) -> Self {
        Self { manifest: manifest(media_type, members, Map::new()), blobs, children: Vec::new() }
    }

    /// The same content under its sha512 digest.
    pub(crate) fn by_sha512(mut self) -> Self {
        let (media_type, bytes) = (self.manifest.media_type().to_string(), self.manifest.bytes().clone());
        self.manifest = Manifest::new(sha512(&bytes), Some(&media_type), bytes).expect("a manifest");
        self
    }

    /// Every manifest of the graph once, children before parents: the root is last.
    pub(crate) fn manifests(&self) -> Vec<&Manifest> {
        let mut seen = HashSet::new();
        let below = self.children.iter().flat_map(Self::manifests);
        below.chain([&self.manifest]).filter(|manifest| seen.insert(manifest.digest().clone())).collect()
    }

    /// Every blob of the graph once.
    pub(crate) fn blobs(&self) -> Vec<&Blob> {
        let mut seen = HashSet::new();
        let below = self.children.iter().flat_map(Self::blobs);
        below.chain(&self.blobs).filter(|blob| seen.insert(blob.digest().clone())).collect()
    }

    /// The digests of every node.
    pub(crate) fn digests(&self) -> Vec<Digest> {
        let manifests = self.manifests().into_iter().map(Manifest::digest);
        manifests.chain(self.blobs().into_iter().map(Blob::digest)).cloned().collect()
    }

    /// Pushes the whole graph to `target`, the root under `tag` if given.
    pub(crate) async fn try_push(&self, target: &dyn Target, tag: Option<&str>) -> Result<()> {
        for blob in self.blobs() {
            blob.push(target).await?;
        }
        for manifest in self.manifests() {
            target.push_manifest(manifest, &Selector::Digest(manifest.digest().clone())).await?;
        }
        if let Some(tag) = tag {
            target.push_manifest(&self.manifest, &tagged(tag)).await?;
        }
        Ok(())
    }

    /// [`Image::try_push`] under a tag, which must succeed.
    pub(crate) async fn push(&self, target: &dyn Target, tag: &str) {
        self.try_push(target, Some(tag)).await.unwrap_or_else(|e| panic!("push of {tag}: {e}"));
    }

    /// Fails unless `source` has the whole graph byte for byte, the root under `tag`.
    pub(crate) async fn assert_in(&self, source: &dyn Source, tag: &str) {
        let found = source.resolve(&tagged(tag)).await.unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(&found, self.descriptor(), "{tag} of {source}");
        for manifest in self.manifests() {
            let found = source.manifest(manifest.digest()).await.unwrap_or_else(|e| panic!("{e}"));
            assert_eq!((found.bytes(), found.media_type()), (manifest.bytes(), manifest.media_type()));
        }
        for blob in self.blobs() {
            let found = read(source.blob(blob.descriptor(), 0).await).await.unwrap_or_else(|e| panic!("{e}"));
            assert!(found == blob.bytes, "blob {} of {source} has different bytes", blob.digest());
        }
    }
}

/// The bytes of an opened blob.
pub(crate) async fn read(opened: Result<BlobStream>) -> Result<Bytes> {
    let mut stream = opened?;
    let mut bytes = Vec::new();
    while let Some(chunk) = stream.next().await {
        bytes.extend_from_slice(&chunk?);
    }
    Ok(bytes.into())
}

pub(crate) fn tagged(tag: &str) -> Selector {
    Selector::Tag(tag.parse::<Tag>().expect("a tag"))
}

fn sha512(bytes: &[u8]) -> Digest {
    let hash = <sha2::Sha512 as sha2::Digest>::digest(bytes);
    let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha512:{hex}").parse().expect("a digest")
}

pub(crate) fn descriptor(media_type: &str, bytes: &[u8]) -> Descriptor {
    let media_type: MediaType = media_type.parse().expect("a media type");
    Descriptor { media_type, digest: Digest::of(bytes), size: bytes.len() as u64 }
}

/// A single image: by default an OCI manifest, a config and two small layers, all from `seed`.
pub(crate) fn image(seed: &str) -> ImageBuilder {
    ImageBuilder {
        seed: seed.to_owned(),
        media_type: MediaType::OCI_MANIFEST,
        layer_type: MediaType::OCI_LAYER,
        config: Some((MediaType::OCI_CONFIG.to_owned(), None)),
        layers: Vec::new(),
        urls: false,
        members: Map::new(),
    }
}

/// Builds an [`Image`] without children.
#[derive(Debug, Clone)]
pub(crate) struct ImageBuilder {
    seed: String,
    media_type: &'static str,
    layer_type: &'static str,
    /// Its type, and its bytes if they aren't made from the seed.
    config: Option<(String, Option<Bytes>)>,
    layers: Vec<Blob>,
    /// Whether foreign layers have `urls`.
    urls: bool,
    /// Further members of the manifest.
    members: Map<String, Value>,
}

impl ImageBuilder {
    /// As Docker's schema 2. Must be called before layers are added.
    pub(crate) fn docker(mut self) -> Self {
        self.media_type = MediaType::DOCKER_MANIFEST;
        self.layer_type = DOCKER_LAYER;
        self.config = Some((DOCKER_CONFIG.to_owned(), None));
        self
    }

    /// With a further layer of `size` bytes that no other image shares.
    pub(crate) fn layer(self, size: usize) -> Self {
        let seed = format!("{}/{}", self.seed, self.layers.len());
        self.shared_layer(&seed, size)
    }

    /// With a further layer of `size` bytes: images that name the same seed and size share it.
    pub(crate) fn shared_layer(self, seed: &str, size: usize) -> Self {
        let layer = Blob::seeded(self.layer_type, seed, size);
        self.blob(layer)
    }

    /// With a further layer of this type.
    pub(crate) fn layer_of(self, media_type: &str, size: usize) -> Self {
        let seed = format!("{}/{}", self.seed, self.layers.len());
        self.blob(Blob::seeded(media_type, &seed, size))
    }

    /// With this blob as a further layer.
    pub(crate) fn blob(mut self, blob: Blob) -> Self {
        self.layers.push(blob);
        self
    }

    /// Gives its foreign layers `urls` that don't exist.
    pub(crate) fn urls(mut self) -> Self {
        self.urls = true;
        self
    }

    /// With a config of this type.
    pub(crate) fn config_type(mut self, media_type: &str) -> Self {
        self.config = Some((media_type.to_owned(), None));
        self
    }

    /// With a config for this platform, such as `linux/arm/v7`.
    pub(crate) fn platform(mut self, platform: &str) -> Self {
        let mut config = platform_of(platform);
        config["seed"] = self.seed.clone().into();
        let media_type = self.config.take().map_or(MediaType::OCI_CONFIG.to_owned(), |(media_type, _)| media_type);
        self.config = Some((media_type, Some(config.to_string().into())));
        self
    }

    /// With this config.
    pub(crate) fn config(mut self, config: Blob) -> Self {
        self.config = Some((config.descriptor.media_type.to_string(), Some(config.bytes)));
        self
    }

    /// Without a config, like the former artifact manifest.
    pub(crate) fn without_config(mut self) -> Self {
        self.config = None;
        self
    }

    /// An artifact of this type, with the empty config.
    pub(crate) fn artifact(mut self, artifact_type: &str) -> Self {
        self.config = Some((EMPTY_JSON.to_owned(), Some(Bytes::from_static(b"{}"))));
        self.members.insert("artifactType".into(), artifact_type.into());
        self
    }

    /// With this subject.
    pub(crate) fn subject(mut self, subject: &Descriptor) -> Self {
        self.members.insert("subject".into(), json_of(subject));
        self
    }

    pub(crate) fn annotation(mut self, key: &str, value: &str) -> Self {
        self.members.entry("annotations").or_insert_with(|| json!({}))[key] = value.into();
        self
    }

    pub(crate) fn build(mut self) -> Image {
        if self.layers.is_empty() {
            self = self.layer(1000).layer(2000);
        }
        let seed = &self.seed;
        let config = self.config.take().map(|(media_type, bytes)| {
            Blob::new(&media_type, bytes.unwrap_or_else(|| json!({ "seed": seed }).to_string().into()))
        });
        let mut members = json!({ "schemaVersion": 2, "mediaType": self.media_type });
        if let Some(config) = &config {
            members["config"] = json_of(&config.descriptor);
        }
        members["layers"] = self.layers.iter().map(|layer| self.layer_json(&layer.descriptor)).collect();
        let blobs = config.into_iter().chain(self.layers).collect();
        Image { manifest: manifest(self.media_type, members, self.members), blobs, children: Vec::new() }
    }

    fn layer_json(&self, layer: &Descriptor) -> Value {
        let mut json = json_of(layer);
        if self.urls && layer.media_type.is_foreign() {
            json["urls"] = json!([format!("https://layers.invalid/{}", layer.digest)]);
        }
        json
    }
}

/// A multi-platform image: an OCI index, empty until children are added.
pub(crate) fn index() -> IndexBuilder {
    IndexBuilder { media_type: MediaType::OCI_INDEX, entries: Vec::new(), children: Vec::new(), members: Map::new() }
}

/// An index of OCI images for `platforms`, each seeded with `seed` and its platform.
pub(crate) fn multi_platform(seed: &str, platforms: &[&str]) -> Image {
    let add =
        |index: IndexBuilder, platform: &&str| index.child(platform, image(&format!("{seed} {platform}")).build());
    platforms.iter().fold(index(), add).build()
}

/// Builds an [`Image`] with children.
#[derive(Debug, Clone)]
pub(crate) struct IndexBuilder {
    media_type: &'static str,
    entries: Vec<Value>,
    children: Vec<Image>,
    members: Map<String, Value>,
}

impl IndexBuilder {
    /// As Docker's manifest list.
    pub(crate) fn docker(mut self) -> Self {
        self.media_type = MediaType::DOCKER_LIST;
        self
    }

    /// With a child for a platform, such as `linux/arm/v7`.
    pub(crate) fn child(mut self, platform: &str, child: Image) -> Self {
        let mut entry = json_of(child.descriptor());
        entry["platform"] = platform_of(platform);
        self.entries.push(entry);
        self.children.push(child);
        self
    }

    /// With a child without platform, such as a nested index.
    pub(crate) fn nested(mut self, child: Image) -> Self {
        self.entries.push(json_of(child.descriptor()));
        self.children.push(child);
        self
    }

    /// With an attestation of the child that was added last, as buildkit writes it.
    pub(crate) fn attested(mut self) -> Self {
        let of = self.children.last().expect("a child to attest").digest().to_string();
        let statement = Blob::new("application/vnd.in-toto+json", json!({ "subject": of }).to_string());
        let child = image(&format!("attestation of {of}")).blob(statement).build();
        let mut entry = json_of(child.descriptor());
        entry["annotations"] =
            json!({ "vnd.docker.reference.digest": of, "vnd.docker.reference.type": "attestation-manifest" });
        entry["platform"] = json!({ "architecture": "unknown", "os": "unknown" });
        self.entries.push(entry);
        self.children.push(child);
        self
    }

    pub(crate) fn annotation(mut self, key: &str, value: &str) -> Self {
        self.members.entry("annotations").or_insert_with(|| json!({}))[key] = value.into();
        self
    }

    pub(crate) fn build(self) -> Image {
        let members = json!({ "schemaVersion": 2, "mediaType": self.media_type, "manifests": self.entries });
        Image { manifest: manifest(self.media_type, members, self.members), blobs: Vec::new(), children: self.children }
    }
}

/// The manifest with these members, in a text with line breaks, so that no encoder reproduces exactly these bytes.
fn manifest(media_type: &str, mut members: Value, further: Map<String, Value>) -> Manifest {
    members.as_object_mut().expect("an object").extend(further);
    let text = serde_json::to_string_pretty(&members).expect("JSON");
    let bytes = Bytes::from(format!("{text}\n"));
    Manifest::new(Digest::of(&bytes), Some(media_type), bytes).expect("a manifest")
}

/// The platform `linux/arm/v7` as in indexes and configs.
fn platform_of(text: &str) -> Value {
    let mut parts = text.split('/');
    let mut platform = json!({ "os": parts.next(), "architecture": parts.next() });
    if let Some(variant) = parts.next() {
        platform["variant"] = variant.into();
    }
    platform
}

pub(crate) fn json_of(descriptor: &Descriptor) -> Value {
    let Descriptor { media_type, digest, size } = descriptor;
    json!({ "mediaType": media_type, "digest": digest, "size": size })
}
