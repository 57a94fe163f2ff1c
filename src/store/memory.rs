//! Repositories in memory, for the engine's tests and for `demo`.
//!
//! They are as strict as a registry should be: a blob belongs to the repository that it was pushed to or mounted
//! into, bytes are checked against digest and size, and a manifest is accepted only if everything it points at
//! exists (distribution-spec, "Push"), except foreign layers, which most registries don't require. Content is
//! shared, so a clone only increments a reference count.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};

use super::{Accepted, BlobStream, Mount, Referrers, Source, Stores, Target, Upload, wrong_size};
use crate::error::{Error, Kind, Result, Side};
use crate::oci::{Descriptor, Digest, Edge, Manifest, Referrer, Repository, Selector, Tag, Verifier};

/// The largest chunk of a blob, in bytes.
const CHUNK: usize = 64 * 1024;

/// Repositories of any number of registries, by name. A clone is another handle on the same repositories.
#[derive(Clone, Default)]
pub struct Memory {
    shared: Arc<Mutex<Repositories>>,
    must_exist: bool,
}

#[derive(Default)]
struct Repositories {
    by_name: BTreeMap<Repository, Contents>,
    uploads_opened: u64,
}

#[derive(Default)]
struct Contents {
    blobs: HashMap<Digest, Bytes>,
    manifests: BTreeMap<Digest, Manifest>,
    tags: BTreeMap<Tag, Digest>,
    uploads: HashSet<String>,
}

impl Memory {
    /// Creates no repositories; the first write creates one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Creates no repositories; only [`Memory::create`] creates one, as with ECR and Harbor.
    pub fn strict() -> Self {
        Self { must_exist: true, ..Self::default() }
    }

    /// Creates `repository`, unless it exists.
    pub fn create(&self, repository: &Repository) {
        self.lock().by_name.entry(repository.clone()).or_default();
    }

    /// The repository of this name, whether or not it exists yet; neither source nor target of a copy.
    pub fn repository(&self, repository: &Repository) -> MemoryRepository {
        MemoryRepository { world: self.clone(), name: repository.clone(), side: None }
    }

    fn open(&self, repository: &Repository, side: Side) -> Arc<MemoryRepository> {
        Arc::new(MemoryRepository { side: Some(side), ..self.repository(repository) })
    }

    /// All repositories, sorted by name.
    pub fn repositories(&self) -> Vec<Repository> {
        self.lock().by_name.keys().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Repositories> {
        // No change can panic halfway, so data behind a poisoned lock is consistent.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.lock().by_name.keys()).finish()
    }
}

impl Stores for Memory {
    fn source(&self, repository: &Repository) -> Result<Arc<dyn Source>> {
        Ok(self.open(repository, Side::Source))
    }

    fn target(&self, repository: &Repository) -> Result<Arc<dyn Target>> {
        Ok(self.open(repository, Side::Target))
    }
}

/// One repository of a [`Memory`].
#[derive(Clone)]
pub struct MemoryRepository {
    world: Memory,
    name: Repository,
    /// Tags all its errors.
    side: Option<Side>,
}

impl MemoryRepository {
    /// All its manifests, tagged or not, by digest.
    ///
    /// # Errors
    /// `NotFound` if the repository doesn't exist.
    pub fn manifests(&self) -> Result<Vec<Manifest>> {
        self.read("list manifests of", |contents| Ok(contents.manifests.values().cloned().collect()))
    }

    /// The digests of all its blobs, unordered.
    ///
    /// # Errors
    /// `NotFound` if the repository doesn't exist.
    pub fn blobs(&self) -> Result<Vec<Digest>> {
        self.read("list blobs of", |contents| Ok(contents.blobs.keys().cloned().collect()))
    }

    /// Deletes a tag, but not the manifest.
    pub fn delete_tag(&self, tag: &Tag) {
        self.delete(|contents| drop(contents.tags.remove(tag)));
    }

    /// Deletes a manifest and all its tags.
    pub fn delete_manifest(&self, digest: &Digest) {
        self.delete(|contents| {
            contents.manifests.remove(digest);
            contents.tags.retain(|_, named| named != digest);
        });
    }

    /// Deletes a blob, even if something refers to it.
    pub fn delete_blob(&self, digest: &Digest) {
        self.delete(|contents| drop(contents.blobs.remove(digest)));
    }

    fn delete(&self, change: impl FnOnce(&mut Contents)) {
        if let Some(contents) = self.world.lock().by_name.get_mut(&self.name) {
            change(contents);
        }
    }

    /// The number of open uploads.
    pub fn open_uploads(&self) -> usize {
        self.world.lock().by_name.get(&self.name).map_or(0, |contents| contents.uploads.len())
    }

    fn error(&self, kind: Kind, attempted: &str, why: impl Into<String>) -> Error {
        Error::new(kind, format!("{attempted} {self}"), why).on(self.side)
    }

    fn read<T>(&self, attempted: &str, look: impl FnOnce(&Contents) -> Result<T>) -> Result<T> {
        match self.world.lock().by_name.get(&self.name) {
            Some(contents) => look(contents),
            None => Err(self.error(Kind::NotFound, attempted, "the repository doesn't exist")),
        }
    }

    fn write<T>(&self, attempted: &str, change: impl FnOnce(&mut Contents) -> Result<T>) -> Result<T> {
        let mut world = self.world.lock();
        let existed = world.by_name.contains_key(&self.name);
        if self.world.must_exist && !existed {
            return Err(self.error(Kind::NotFound, attempted, "the repository doesn't exist"));
        }
        let changed = change(world.by_name.entry(self.name.clone()).or_default());
        if changed.is_err() && !existed {
            world.by_name.remove(&self.name);
        }
        changed
    }
}

impl fmt::Display for MemoryRepository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.name.fmt(f)
    }
}

impl fmt::Debug for MemoryRepository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MemoryRepository({self})")
    }
}

#[async_trait]
impl Source for MemoryRepository {
    async fn resolve(&self, selector: &Selector) -> Result<Descriptor> {
        let attempted = format!("resolve {selector} in");
        self.read(&attempted, |contents| {
            let found = contents.named(selector).map(|manifest| manifest.descriptor().clone());
            found.ok_or_else(|| self.error(Kind::NotFound, &attempted, "the manifest doesn't exist"))
        })
    }

    async fn manifest(&self, digest: &Digest) -> Result<Manifest> {
        let attempted = format!("get manifest {digest} from");
        self.read(&attempted, |contents| {
            let found = contents.manifests.get(digest).cloned();
            found.ok_or_else(|| self.error(Kind::NotFound, &attempted, "the manifest doesn't exist"))
        })
    }

    async fn blob(&self, blob: &Descriptor, offset: u64) -> Result<BlobStream> {
        let digest = &blob.digest;
        let attempted = format!("get blob {digest} from");
        let bytes = self.read(&attempted, |contents| {
            let found = contents.blobs.get(digest).cloned();
            found.ok_or_else(|| self.error(Kind::NotFound, &attempted, "the blob doesn't exist"))
        })?;
        if bytes.len() as u64 != blob.size {
            return Err(wrong_size(&format!("{attempted} {self}"), blob, bytes.len() as u64).on(self.side));
        }
        let rest = usize::try_from(offset).ok().filter(|offset| *offset <= bytes.len()).map(|o| bytes.slice(o..));
        let rest = rest.ok_or_else(|| {
            self.error(Kind::Invalid, &attempted, format!("offset {offset} is beyond its {} bytes", bytes.len()))
        })?;
        Ok(chunks(rest))
    }

    async fn small_blob(&self, blob: &Descriptor) -> Result<Bytes> {
        super::read_whole(self, blob, self.side).await
    }

    async fn blob_size(&self, digest: &Digest) -> Result<Option<u64>> {
        let world = self.world.lock();
        let blob = world.by_name.get(&self.name).and_then(|contents| contents.blobs.get(digest));
        Ok(blob.map(|bytes| bytes.len() as u64))
    }

    async fn tags(&self) -> Result<Vec<Tag>> {
        self.read("list tags of", |contents| Ok(contents.tags.keys().cloned().collect()))
    }

    async fn referrers(&self, subject: &Digest) -> Result<Referrers> {
        let world = self.world.lock();
        let manifests = world.by_name.get(&self.name).into_iter().flat_map(|contents| contents.manifests.values());
        let about = manifests.filter(|manifest| manifest.subject().is_some_and(|of| of.digest == *subject));
        Ok(Referrers::Listed(about.map(Referrer::of).collect()))
    }
}

#[async_trait]
impl Target for MemoryRepository {
    async fn push_manifest(&self, manifest: &Manifest, name: &Selector) -> Result<Accepted> {
        let digest = manifest.digest();
        let attempted = format!("push manifest {name} to");
        let named_otherwise = matches!(name, Selector::Digest(asked) if asked != digest);
        if named_otherwise || !digest.matches(manifest.bytes()) {
            return Err(self.error(Kind::Mismatch, &attempted, "the bytes don't hash to the digest"));
        }
        self.write(&attempted, |contents| {
            let missing = contents.missing(manifest);
            if !missing.is_empty() {
                let why = format!("it lacks {}", missing.join(", "));
                return Err(self.error(Kind::MissingContent, &attempted, why));
            }
            contents.manifests.insert(digest.clone(), manifest.clone());
            if let Selector::Tag(tag) = name {
                contents.tags.insert(tag.clone(), digest.clone());
            }
            Ok(Accepted { subject_processed: manifest.subject().is_some() })
        })
    }

    async fn open_upload(&self) -> Result<Upload> {
        let number = {
            let mut world = self.world.lock();
            world.uploads_opened += 1;
            world.uploads_opened
        };
        self.write("open an upload to", |contents| {
            let upload = format!("upload-{number}");
            contents.uploads.insert(upload.clone());
            Ok(Upload(upload))
        })
    }

    async fn push_blob(&self, upload: Upload, blob: &Descriptor, mut body: BlobStream) -> Result<()> {
        let attempted = format!("push blob {} to", blob.digest);
        self.write(&attempted, |contents| match contents.uploads.remove(&upload.0) {
            true => Ok(()),
            false => Err(self.error(Kind::NotFound, &attempted, "the upload doesn't exist")),
        })?;
        let mismatch = |e: crate::oci::Mismatch| self.error(Kind::Mismatch, &attempted, e.to_string());
        let mut verifier = Verifier::new(blob.digest.clone(), blob.size);
        let mut bytes = Vec::new();
        while let Some(chunk) = body.try_next().await? {
            verifier.update(&chunk).map_err(mismatch)?;
            bytes.extend_from_slice(&chunk);
        }
        verifier.finish().map_err(mismatch)?;
        self.write(&attempted, |contents| {
            contents.blobs.insert(blob.digest.clone(), bytes.into());
            Ok(())
        })
    }

    async fn abandon(&self, upload: Upload) -> Option<Upload> {
        if let Some(contents) = self.world.lock().by_name.get_mut(&self.name) {
            contents.uploads.remove(&upload.0);
        }
        None
    }

    async fn mount(&self, digest: &Digest, from: &Repository) -> Result<Mount> {
        let blob = {
            let world = self.world.lock();
            let donor = world.by_name.get(from).filter(|_| from.registry() == self.name.registry());
            donor.and_then(|contents| contents.blobs.get(digest).cloned())
        };
        let Some(bytes) = blob else {
            return Ok(Mount::Declined(Some(self.open_upload().await?)));
        };
        self.write(&format!("mount blob {digest} into"), |contents| {
            contents.blobs.insert(digest.clone(), bytes);
            Ok(Mount::Mounted)
        })
    }
}

impl Contents {
    fn named(&self, selector: &Selector) -> Option<&Manifest> {
        match selector {
            Selector::Tag(tag) => self.manifests.get(self.tags.get(tag)?),
            Selector::Digest(digest) => self.manifests.get(digest),
        }
    }

    /// The missing content that `manifest` points at, as text. Its subject and foreign layers may be missing.
    fn missing(&self, manifest: &Manifest) -> Vec<String> {
        let absent = |edge: &Edge| match edge {
            Edge::Manifest(child) => {
                (!self.manifests.contains_key(&child.digest)).then(|| format!("manifest {}", child.digest))
            }
            Edge::Blob(blob) if blob.media_type.is_foreign() => None,
            Edge::Blob(blob) => (!self.blobs.contains_key(&blob.digest)).then(|| format!("blob {}", blob.digest)),
        };
        manifest.successors().iter().filter_map(absent).collect()
    }
}

/// `bytes` in chunks, as a download returns them.
fn chunks(mut bytes: Bytes) -> BlobStream {
    let next = move || (!bytes.is_empty()).then(|| Ok(bytes.split_to(CHUNK.min(bytes.len()))));
    stream::iter(std::iter::from_fn(next)).boxed()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::images::{image, multi_platform, tagged};

    fn name(text: &str) -> Repository {
        text.parse().unwrap()
    }

    #[tokio::test]
    async fn missing_content_is_named() {
        let repository = Memory::new().repository(&name("registry.test/a"));
        let index = multi_platform("a", &["linux/amd64", "linux/arm64"]);
        index.children[0].try_push(&repository, None).await.unwrap();
        let error = repository.push_manifest(&index.manifest, &tagged("1")).await.unwrap_err();
        let missing = index.children[1].digest();
        let elsewhere = Memory::new();
        let refused = elsewhere.repository(&name("registry.test/b"));
        assert!(refused.push_manifest(&index.manifest, &tagged("1")).await.is_err());
        assert_eq!(elsewhere.repositories(), []);
        let expected = format!("push manifest 1 to registry.test/a: it lacks manifest {missing}");
        assert_eq!((error.kind(), error.to_string()), (Kind::MissingContent, expected));
    }

    #[tokio::test]
    async fn a_strict_registry_requires_existing_repositories() {
        let memory = Memory::strict();
        let repository = memory.repository(&name("registry.test/a"));
        assert_eq!(repository.open_upload().await.unwrap_err().kind(), Kind::NotFound);
        assert_eq!(memory.repositories(), []);
        memory.create(&name("registry.test/a"));
        image("a").build().push(&repository, "1").await;
        assert_eq!((repository.open_uploads(), memory.repositories().len()), (0, 1));
    }

    #[tokio::test]
    async fn a_mount_stays_within_its_registry() {
        let memory = Memory::new();
        let image = image("a").build();
        image.push(&memory.repository(&name("one.test/a")), "1").await;
        let blob = image.blobs[0].digest();
        for (target, mounted) in [("one.test/b", true), ("two.test/b", false)] {
            let mount = memory.repository(&name(target)).mount(blob, &name("one.test/a")).await.unwrap();
            assert_eq!(mount == Mount::Mounted, mounted, "{target}");
        }
    }
}
