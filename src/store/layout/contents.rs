//! The contents of a layout, shared by all its repositories: the current index.json, and the manifests reachable
//! from it.

use std::collections::HashMap;
use std::io::Read as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tempfile::NamedTempFile;
use tokio::sync::{OnceCell, oneshot};

use super::directory::{self, Directory, Stamp};
use super::index::{Change, Index, Says};
use crate::error::{Error, Kind, Result};
use crate::oci::{Descriptor, Digest, Edge, Manifest, ManifestError, MediaType, Mismatch, Referrer, Registry};

/// One layout, shared by all its users in a run.
#[derive(Debug)]
pub(super) struct Contents {
    pub(super) registry: Registry,
    pub(super) directory: Directory,
    /// The largest manifest that is read, in bytes.
    largest: u64,
    prepared: OnceCell<()>,
    uploads: Mutex<HashMap<String, NamedTempFile>>,
    seen: Mutex<Seen>,
    waiting: Mutex<Vec<(Change, oneshot::Sender<Result<()>>)>>,
    writing: tokio::sync::Mutex<()>,
}

/// What was read so far. Manifests never change, and the stamp of index.json shows when that does.
#[derive(Debug, Default)]
struct Seen {
    index: Option<(Stamp, Arc<Index>)>,
    subjects: HashMap<Digest, Option<(Digest, Referrer)>>,
    /// The media types in the descriptors that point at a manifest: the manifest itself needn't contain it.
    types: HashMap<Digest, MediaType>,
    referrers: Option<(Stamp, BySubject)>,
}

/// The referrers of each manifest.
type BySubject = Arc<HashMap<Digest, Vec<Referrer>>>;

impl Contents {
    pub(super) fn new(registry: Registry, directory: Directory, largest: u64) -> Self {
        Self {
            registry,
            directory,
            largest,
            prepared: OnceCell::new(),
            uploads: Mutex::default(),
            seen: Mutex::default(),
            waiting: Mutex::default(),
            writing: tokio::sync::Mutex::default(),
        }
    }

    /// Runs the blocking `work` on a thread for blocking tasks.
    pub(super) async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let contents = Arc::clone(self);
        let done = tokio::task::spawn_blocking(move || work(&contents)).await;
        done.unwrap_or_else(|lost| Err(Error::defect(format!("use {}", self.registry), lost)))
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The current index.json. `NotFound` if there is no layout yet.
    pub(super) fn index(&self) -> Result<Arc<Index>> {
        Ok(self.stamped()?.1)
    }

    fn stamped(&self) -> Result<(Stamp, Arc<Index>)> {
        let now = self.directory.stamp();
        if let Some((stamp, index)) = &self.seen().index
            && now.as_ref() == Some(stamp)
        {
            return Ok((stamp.clone(), Arc::clone(index)));
        }
        let (index, stamp) = self.directory.index()?;
        let index = Arc::new(index);
        self.seen().index = Some((stamp.clone(), Arc::clone(&index)));
        Ok((stamp, index))
    }

    /// The manifest `digest`, verified. `None` if there is no file of that name.
    pub(super) fn manifest(&self, digest: &Digest) -> Result<Option<Manifest>> {
        let Some((file, length)) = self.directory.open(digest)? else { return Ok(None) };
        let mut bytes = Vec::new();
        let path = self.directory.path(digest);
        let refused = |kind, why: String| Error::new(kind, format!("read manifest {}", path.display()), why);
        if length > self.largest {
            let why = format!("it has {length} bytes, and limits.manifest_size is {}", self.largest);
            return Err(refused(Kind::Unsupported, why).with_hint("if it is a manifest, raise limits.manifest_size"));
        }
        let taken = file.take(self.largest + 1).read_to_end(&mut bytes);
        taken.map_err(|error| self.unread(digest, &error))?;
        if !digest.matches(&bytes) {
            let mismatch = Mismatch::Digest { expected: digest.clone(), got: Digest::of(&bytes) };
            return Err(self.damaged(digest, mismatch.to_string()));
        }
        let media_type = self.media_type(digest);
        let media_type = media_type.as_ref().map(MediaType::as_str);
        let manifest = Manifest::new(digest.clone(), media_type, Bytes::from(bytes)).map_err(|error| match error {
            ManifestError::Schema1 => refused(Kind::Unsupported, error.to_string())
                .with_hint("ask its publisher for a current image: Docker schema 1 can't be mirrored byte for byte"),
            ManifestError::Invalid(_) => refused(Kind::Invalid, error.to_string())
                .with_hint("check that this is an image: other blobs can't be mirrored on their own"),
        })?;
        self.remember(&manifest);
        Ok(Some(manifest))
    }

    /// The media type of `digest` in a descriptor that points at it, as far as those were read.
    fn media_type(&self, digest: &Digest) -> Option<MediaType> {
        let index = self.index().ok()?;
        let listed = index.entries().find(|says| says.descriptor.digest == *digest);
        listed.map(|says| says.descriptor.media_type.clone()).or_else(|| self.seen().types.get(digest).cloned())
    }

    pub(super) fn remember(&self, manifest: &Manifest) {
        let mut seen = self.seen();
        seen.types.insert(manifest.digest().clone(), manifest.media_type().clone());
        for edge in manifest.successors() {
            if let Edge::Manifest(child) = edge {
                seen.types.insert(child.digest.clone(), child.media_type.clone());
            }
        }
    }

    /// The missing content that `manifest` points at, as text. Its subject may be missing.
    pub(super) fn missing(&self, manifest: &Manifest) -> Result<Vec<String>> {
        let mut missing = Vec::new();
        for edge in manifest.successors() {
            let Descriptor { digest, size, .. } = edge.descriptor();
            if self.directory.length(digest)? != Some(*size) {
                let what = if matches!(edge, Edge::Blob(_)) { "blob" } else { "manifest" };
                missing.push(format!("{what} {digest}"));
            }
        }
        Ok(missing)
    }

    /// The referrers of `subject` among all entries of index.json. An entry that can't be read is an error: it may
    /// be the signature.
    pub(super) fn referrers(&self, subject: &Digest) -> Result<Vec<Referrer>> {
        let (stamp, index) = match self.stamped() {
            Err(error) if error.kind() == Kind::NotFound => return Ok(Vec::new()),
            stamped => stamped?,
        };
        let known = self.seen().referrers.clone().filter(|(then, _)| *then == stamp);
        let by_subject = match known {
            Some((_, by_subject)) => by_subject,
            None => {
                let mut by_subject = HashMap::<Digest, Vec<Referrer>>::new();
                for says in index.entries() {
                    if let Some((subject, referrer)) = self.subject(says)? {
                        let others = by_subject.entry(subject).or_default();
                        others.extend(Some(referrer).filter(|one| !others.contains(one)));
                    }
                }
                let by_subject = Arc::new(by_subject);
                self.seen().referrers = Some((stamp, Arc::clone(&by_subject)));
                by_subject
            }
        };
        Ok(by_subject.get(subject).cloned().unwrap_or_default())
    }

    /// The subject of the listed manifest, and the manifest as a referrer.
    pub(super) fn subject(&self, says: &Says) -> Result<Option<(Digest, Referrer)>> {
        let Descriptor { digest, .. } = &says.descriptor;
        if let Some(known) = self.seen().subjects.get(digest) {
            return Ok(known.clone());
        }
        if self.directory.length(digest)?.is_none() {
            return Err(self.damaged(digest, "index.json lists it, but it doesn't exist".into()));
        }
        let manifest = match self.manifest(digest) {
            // A manifest that can't be mirrored can't be a mirrored referrer, either.
            Err(error) if matches!(error.kind(), Kind::Invalid | Kind::Unsupported) => None,
            manifest => manifest?,
        };
        let found = manifest.and_then(|manifest| Some((manifest.subject()?.digest.clone(), Referrer::of(&manifest))));
        self.seen().subjects.insert(digest.clone(), found.clone());
        Ok(found)
    }

    /// The error for a file whose content doesn't match its name.
    pub(super) fn damaged(&self, digest: &Digest, why: String) -> Error {
        let path = self.directory.path(digest);
        Error::new(Kind::Mismatch, format!("read {digest} from {}", path.display()), why)
            .with_hint("the layout is damaged: copy it again, or mirror to another directory")
    }

    /// The error for a file that couldn't be read to its end.
    pub(super) fn unread(&self, digest: &Digest, error: &std::io::Error) -> Error {
        directory::failed("read", &self.directory.path(digest), error)
    }

    /// Creates the layout, once.
    pub(super) async fn prepare(self: &Arc<Self>) -> Result<()> {
        let prepared = self.prepared.get_or_try_init(|| self.blocking(|contents| contents.directory.prepare()));
        prepared.await.copied()
    }

    /// Opens a file for a blob, and returns a name for it.
    pub(super) async fn open_upload(self: &Arc<Self>) -> Result<String> {
        self.prepare().await?;
        self.blocking(|contents| {
            let file = contents.directory.ingest()?;
            let name = file.path().display().to_string();
            contents.uploads.lock().unwrap_or_else(PoisonError::into_inner).insert(name.clone(), file);
            Ok(name)
        })
        .await
    }

    /// The file of that name; `None` if it was taken or cancelled. It is deleted on drop.
    pub(super) fn take_upload(&self, name: &str) -> Option<NamedTempFile> {
        self.uploads.lock().unwrap_or_else(PoisonError::into_inner).remove(name)
    }

    /// Adds `change` to index.json. Changes that arrive during a write are written together afterwards.
    pub(super) async fn list(self: &Arc<Self>, change: Change) -> Result<()> {
        let (written, mut waits) = oneshot::channel();
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).push((change, written));
        let turn = self.writing.lock().await;
        if let Ok(written) = waits.try_recv() {
            return written;
        }
        self.blocking(Self::write_waiting).await?;
        drop(turn);
        // The task that writes it may have been cancelled; the change is written all the same.
        waits.await.unwrap_or_else(|lost| Err(Error::defect(format!("list a manifest in {}", self.registry), lost)))
    }

    #[expect(clippy::unnecessary_wraps, reason = "the error is passed to every waiter")]
    fn write_waiting(&self) -> Result<()> {
        let taken = std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        let (changes, waiters): (Vec<_>, Vec<_>) = taken.into_iter().unzip();
        let written = self.write(&changes);
        for waiter in waiters {
            // A receiver that no longer exists needs no answer.
            let _ = waiter.send(written.clone());
        }
        Ok(())
    }

    fn write(&self, changes: &[Change]) -> Result<()> {
        let turn = self.directory.turn()?;
        let (mut index, _) = self.directory.index()?;
        let mut changed = false;
        for change in changes {
            let applied = index.apply(change);
            changed |=
                applied.map_err(|error| Error::defect(format!("list a manifest in {}", self.registry), error))?;
        }
        if changed { self.directory.write_index(&turn, &index) } else { Ok(()) }
    }
}
