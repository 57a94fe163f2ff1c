//! OCI image layouts: a directory with the images of any number of repositories (image-spec `image-layout.md`).
//!
//! The annotation `org.opencontainers.image.ref.name` of an entry in index.json is `NAME:TAG`, where NAME is the
//! repository. Blobs and manifests belong to the layout rather than to a repository: all repositories share them.
//! Images without a tag and referrers have entries without a name, so that everything pushed is reachable from
//! index.json.
//!
//! `directory` handles the files, `index` the text of index.json, `contents` combines the two, and `choose`
//! interprets a name that a user typed.

mod choose;
mod contents;
mod directory;
mod index;

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use tokio::io::AsyncWriteExt as _;

use super::{Accepted, BlobStream, Mount, Referrers, Source, Stores, Target, Upload, wrong_size};
use crate::error::{Error, Kind, Result, Side};
use crate::oci::{Descriptor, Digest, Manifest, Reference, Referrer, Registry, Repository, Selector, Tag, Verifier};
use contents::Contents;
use directory::Directory;
use index::Change;

/// The largest chunk of a blob, in bytes.
const CHUNK: usize = 256 * 1024;

/// Opens layouts, each once.
#[derive(Debug)]
pub struct LayoutStores {
    largest_manifest: u64,
    open: Mutex<HashMap<Registry, Arc<Contents>>>,
}

/// One repository in a layout.
pub struct LayoutStore {
    contents: Arc<Contents>,
    repository: Repository,
    /// Tags all its errors.
    side: Side,
}

impl LayoutStores {
    /// Creates an empty set of layouts. Manifests of more than `largest_manifest` bytes aren't read.
    pub fn new(largest_manifest: u64) -> Self {
        Self { largest_manifest, open: Mutex::default() }
    }

    fn contents(&self, layout: &Registry) -> Result<Arc<Contents>> {
        let Some(path) = layout.directory() else {
            return Err(Error::new(Kind::Configuration, format!("open {layout}"), "it isn't an OCI image layout"));
        };
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let contents = open
            .entry(layout.clone())
            .or_insert_with(|| Arc::new(Contents::new(layout.clone(), Directory::new(path), self.largest_manifest)));
        Ok(Arc::clone(contents))
    }

    fn store(&self, repository: &Repository, side: Side) -> Result<Arc<LayoutStore>> {
        let contents = self.contents(repository.registry()).map_err(|error| error.on(side))?;
        Ok(Arc::new(LayoutStore { contents, repository: repository.clone(), side }))
    }

    /// Checks that the directory is a layout.
    ///
    /// # Errors
    /// `NotFound` if it doesn't exist, `Configuration` if it isn't a layout.
    pub async fn check(&self, layout: &Registry) -> Result<()> {
        self.contents(layout)?.blocking(|contents| contents.index().map(drop)).await
    }

    /// Finds `wanted` in `layout`, to read it: by its exact name or by the reference that it abbreviates; without
    /// `wanted`, finds the only image. The returned reference has no tag if the image has none.
    ///
    /// # Errors
    /// `NotFound` if no image or several match; the hint lists the candidates.
    pub async fn choose(&self, layout: &Registry, wanted: Option<&str>) -> Result<(Reference, Descriptor)> {
        let contents = self.contents(layout)?;
        let wanted = wanted.map(str::to_owned);
        let chosen = contents.blocking(move |contents| choose::choose(contents, wanted.as_deref())).await;
        chosen.map_err(|error| error.on(Side::Source))
    }
}

impl Stores for LayoutStores {
    fn source(&self, repository: &Repository) -> Result<Arc<dyn Source>> {
        Ok(self.store(repository, Side::Source)?)
    }

    fn target(&self, repository: &Repository) -> Result<Arc<dyn Target>> {
        Ok(self.store(repository, Side::Target)?)
    }
}

impl LayoutStore {
    fn error(&self, kind: Kind, attempted: &str, why: impl Into<String>) -> Error {
        Error::new(kind, format!("{attempted} {self}"), why).on(self.side)
    }

    /// Runs the blocking `work` on the layout.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Contents) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.contents.blocking(work).await.map_err(|error| error.on(self.side))
    }

    fn absent(&self, attempted: &str, what: &str) -> Error {
        let error = self.error(Kind::NotFound, attempted, format!("the {what} doesn't exist"));
        error.with_hint("mirror it to that layout first, or name another layout")
    }

    /// The name of an image with this tag.
    fn ref_name(&self, tag: &Tag) -> String {
        if self.repository.is_nameless() { tag.to_string() } else { format!("{}:{tag}", self.repository.path()) }
    }
}

impl fmt::Display for LayoutStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.repository.fmt(f)
    }
}

impl fmt::Debug for LayoutStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LayoutStore({self})")
    }
}

#[async_trait]
impl Source for LayoutStore {
    async fn resolve(&self, selector: &Selector) -> Result<Descriptor> {
        let absent = self.absent(&format!("resolve {selector} in"), "manifest");
        let ambiguous = format!("resolve {selector} in {self}");
        let name = match selector {
            Selector::Tag(tag) => Ok(self.ref_name(tag)),
            Selector::Digest(digest) => Err(digest.clone()),
        };
        let found = self.blocking(move |contents| {
            let index = contents.index()?;
            let listed = index.entries().filter(|says| match &name {
                Ok(name) => says.name.as_ref() == Some(name),
                Err(digest) => says.descriptor.digest == *digest,
            });
            match (choose::one(listed, &ambiguous)?, &name) {
                (Some(says), _) => check(contents, &says.descriptor),
                (None, Ok(_)) => Ok(None),
                (None, Err(digest)) => Ok(contents.manifest(digest)?.map(|manifest| manifest.descriptor().clone())),
            }
        });
        found.await?.ok_or(absent)
    }

    async fn manifest(&self, digest: &Digest) -> Result<Manifest> {
        let absent = self.absent(&format!("get manifest {digest} from"), "manifest");
        let digest = digest.clone();
        self.blocking(move |contents| contents.manifest(&digest)).await?.ok_or(absent)
    }

    async fn blob(&self, blob: &Descriptor, offset: u64) -> Result<BlobStream> {
        let digest = &blob.digest;
        let attempted = format!("get blob {digest} from");
        let absent = self.absent(&attempted, "blob");
        let wanted = digest.clone();
        let opened = self.blocking(move |contents| contents.directory.open(&wanted)).await?;
        let (mut file, length) = opened.ok_or(absent)?;
        if length != blob.size {
            let file = self.contents.directory.path(digest);
            return Err(wrong_size(&format!("read {}", file.display()), blob, length).on(self.side));
        }
        if offset > length {
            let why = format!("offset {offset} is beyond its {length} bytes");
            return Err(self.error(Kind::Invalid, &attempted, why));
        }
        let sought = file.seek(SeekFrom::Start(offset));
        sought.map_err(|error| self.contents.unread(digest, &error).on(self.side))?;
        let verifier = (offset == 0).then(|| Verifier::new(digest.clone(), length));
        let (contents, digest, side) = (Arc::clone(&self.contents), digest.clone(), self.side);
        let reading = Reading { contents, digest, file, verifier, held: None };
        let chunks = stream::try_unfold(Box::new(reading), move |reading| async move {
            let contents = Arc::clone(&reading.contents);
            contents.blocking(move |_| reading.next()).await.map_err(|error| error.on(side))
        });
        Ok(chunks.boxed())
    }

    async fn small_blob(&self, blob: &Descriptor) -> Result<Bytes> {
        super::read_whole(self, blob, Some(self.side)).await
    }

    async fn blob_size(&self, digest: &Digest) -> Result<Option<u64>> {
        let digest = digest.clone();
        self.blocking(move |contents| contents.directory.length(&digest)).await
    }

    async fn tags(&self) -> Result<Vec<Tag>> {
        let index = self.blocking(Contents::index).await?;
        let names = index.entries().filter_map(|says| says.name.as_deref());
        let tag = |name: &str| {
            let (repository, tag, _) = Repository::called(self.repository.registry(), name).ok()?;
            tag.filter(|_| repository == self.repository)
        };
        let mut tags: Vec<Tag> = Vec::new();
        for tag in names.filter_map(tag) {
            if !tags.contains(&tag) {
                tags.push(tag);
            }
        }
        if tags.is_empty() {
            return Err(self.error(Kind::NotFound, "list tags of", "no image in the layout has that name"));
        }
        Ok(tags)
    }

    /// The entries of index.json with this subject, and those of an index under the fallback tag, which tools that
    /// copy by tag leave there. If that index has all of them, it is returned unchanged.
    async fn referrers(&self, subject: &Digest) -> Result<Referrers> {
        let wanted = subject.clone();
        let mut found = self.blocking(move |contents| contents.referrers(&wanted)).await?;
        match self.resolve(&subject.referrers_tag().into()).await {
            Ok(index) => {
                let index = self.manifest(&index.digest).await?;
                let listed = Referrer::in_index(index.bytes()).unwrap_or_default();
                if found.iter().all(|one| listed.iter().any(|other| other.digest == one.digest)) && !listed.is_empty() {
                    return Ok(Referrers::Tagged(Some(index)));
                }
                let new = |one: &Referrer| found.iter().all(|other| other.digest != one.digest);
                let new: Vec<Referrer> = listed.into_iter().filter(new).collect();
                found.extend(new);
            }
            Err(error) if error.kind() == Kind::NotFound => {}
            Err(error) => return Err(error),
        }
        Ok(Referrers::Listed(found))
    }
}

/// `listed` if the file exists and has the length given in index.json.
fn check(contents: &Contents, listed: &Descriptor) -> Result<Option<Descriptor>> {
    match contents.directory.length(&listed.digest)? {
        None => Ok(None),
        Some(length) if length == listed.size => Ok(Some(listed.clone())),
        Some(length) => {
            let why = format!("index.json says that it has {} bytes, and it has {length}", listed.size);
            Err(contents.damaged(&listed.digest, why))
        }
    }
}

#[async_trait]
impl Target for LayoutStore {
    async fn push_manifest(&self, manifest: &Manifest, name: &Selector) -> Result<Accepted> {
        let digest = manifest.digest();
        let error = |kind, why: String| self.error(kind, &format!("push manifest {name} to"), why);
        let named_otherwise = matches!(name, Selector::Digest(asked) if asked != digest);
        if named_otherwise || !digest.matches(manifest.bytes()) {
            return Err(error(Kind::Mismatch, "the bytes don't hash to the digest".to_owned()));
        }
        self.contents.prepare().await.map_err(|error| error.on(self.side))?;
        let pushed = manifest.clone();
        let missing = self.blocking(move |contents| {
            let missing = contents.missing(&pushed)?;
            if !missing.is_empty() {
                return Ok(missing);
            }
            contents.remember(&pushed);
            if contents.directory.length(pushed.digest())? != Some(pushed.bytes().len() as u64) {
                contents.directory.keep_bytes(pushed.bytes(), pushed.digest())?;
            }
            Ok(missing)
        });
        let missing = missing.await?;
        if !missing.is_empty() {
            return Err(error(Kind::MissingContent, format!("it lacks {}", missing.join(", "))));
        }
        let name = match name {
            Selector::Tag(tag) => Some(self.ref_name(tag)),
            Selector::Digest(_) => None,
        };
        let listed = self.contents.list(Change::new(manifest, name, self.repository.path())).await;
        listed.map_err(|error| error.on(self.side))?;
        Ok(Accepted { subject_processed: manifest.subject().is_some() })
    }

    fn keeps_indexes(&self) -> bool {
        true
    }

    async fn open_upload(&self) -> Result<Upload> {
        self.contents.open_upload().await.map(Upload).map_err(|error| error.on(self.side))
    }

    async fn push_blob(&self, upload: Upload, blob: &Descriptor, mut body: BlobStream) -> Result<()> {
        let attempted = format!("push blob {} to", blob.digest);
        let file = self.contents.take_upload(&upload.0);
        let file = file.ok_or_else(|| self.error(Kind::NotFound, &attempted, "the upload doesn't exist"))?;
        let failed = |error: std::io::Error| directory::failed("write", file.path(), &error).on(self.side);
        let mismatch = |e: crate::oci::Mismatch| self.error(Kind::Mismatch, &attempted, e.to_string());
        let mut verifier = Verifier::new(blob.digest.clone(), blob.size);
        let mut writer = tokio::fs::File::from_std(file.as_file().try_clone().map_err(failed)?);
        while let Some(chunk) = body.try_next().await? {
            verifier.update(&chunk).map_err(mismatch)?;
            writer.write_all(&chunk).await.map_err(failed)?;
        }
        verifier.finish().map_err(mismatch)?;
        writer.flush().await.map_err(failed)?;
        let digest = blob.digest.clone();
        self.blocking(move |contents| contents.directory.keep(file, &digest)).await
    }

    async fn abandon(&self, upload: Upload) -> Option<Upload> {
        drop(self.contents.take_upload(&upload.0));
        None
    }

    /// All repositories of a layout share its blobs; another layout can't give any.
    async fn mount(&self, digest: &Digest, from: &Repository) -> Result<Mount> {
        let is_there = from.registry() == self.repository.registry() && self.blob_size(digest).await?.is_some();
        Ok(if is_there { Mount::Mounted } else { Mount::Declined(None) })
    }
}

/// Reads a blob. The last chunk is held back until the file is verified: a reader would also detect a mismatch, but
/// couldn't tell which file is damaged.
struct Reading {
    contents: Arc<Contents>,
    digest: Digest,
    file: File,
    /// `None` if reading didn't start at the beginning.
    verifier: Option<Verifier>,
    held: Option<Bytes>,
}

impl Reading {
    /// The next chunk, and the rest; `None` after the last.
    fn next(mut self: Box<Self>) -> Result<Option<(Bytes, Box<Self>)>> {
        loop {
            let mut chunk = vec![0; CHUNK];
            let read = self.file.read(&mut chunk);
            let read = read.map_err(|error| self.contents.unread(&self.digest, &error))?;
            chunk.truncate(read);
            if read == 0 {
                let verified = self.verifier.take().map_or(Ok(()), Verifier::finish);
                verified.map_err(|mismatch| self.contents.damaged(&self.digest, mismatch.to_string()))?;
                return Ok(self.held.take().map(|last| (last, self)));
            }
            if let Some(verifier) = &mut self.verifier {
                let grown = verifier.update(&chunk);
                grown.map_err(|mismatch| self.contents.damaged(&self.digest, mismatch.to_string()))?;
            }
            if let Some(ready) = self.held.replace(chunk.into()) {
                return Ok(Some((ready, self)));
            }
        }
    }
}
