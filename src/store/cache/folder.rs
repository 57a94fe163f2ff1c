//! Bytes by digest in a folder, with the layout of blobs in an image layout (image-spec `image-layout.md`):
//! `blobs/sha256/<hex>` holds exactly the bytes that hash to its name.
//!
//! Every file is verified when it is read. So any number of processes may use the folder at once, files may be
//! deleted at any time, and nothing is flushed to disk: a file truncated by a crash counts as absent. Only the user
//! can read files and folders, because manifests of private repositories are among them.

use std::collections::{HashMap, HashSet};
use std::fs::{self, DirBuilder, Metadata};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::bound;
use crate::oci::Digest;

/// Attempts to write a file while another process deletes the folders around it.
const ATTEMPTS: usize = 4;

#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    largest: u64,
    /// Set once a failure to save was reported.
    unwritable: AtomicBool,
    known: Mutex<HashMap<Digest, Known>>,
}

/// What this run knows of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    /// This run has saved it.
    Kept,
    /// This run has looked for it without success.
    Absent,
}

impl Folder {
    pub(super) fn new(path: PathBuf, largest: u64) -> Self {
        Self { path, largest, unwritable: AtomicBool::new(false), known: Mutex::default() }
    }

    /// The bytes of `digest`, if the file exists and is intact. A file that was absent isn't looked for again: many places
    /// ask, and each look takes a thread.
    pub(super) async fn read(&self, digest: &Digest) -> Option<Bytes> {
        match self.known_of(digest) {
            Some(Known::Absent) => None,
            Some(Known::Kept) | None => self.look(digest).await,
        }
    }

    /// [`Folder::read`] that also finds what another process has saved since the last look.
    pub(super) async fn look(&self, digest: &Digest) -> Option<Bytes> {
        let (file, largest, name) = (self.file(digest), self.largest, digest.clone());
        let found = tokio::task::spawn_blocking(move || read(&file, largest, &name)).await.ok()?;
        let mut known = self.known();
        match (&found, known.get(digest)) {
            (Some(_), Some(Known::Absent)) => drop(known.remove(digest)),
            (None, None) => drop(known.insert(digest.clone(), Known::Absent)),
            _ => {}
        }
        found
    }

    /// Saves `bytes`, which hash to `digest`, if possible. Only the first failure is reported.
    pub(super) async fn keep(&self, digest: &Digest, bytes: &Bytes) {
        if bytes.len() as u64 > self.largest || self.unwritable.load(Ordering::Relaxed) {
            return;
        }
        let (file, bytes) = (self.file(digest), bytes.clone());
        self.known().insert(digest.clone(), Known::Kept);
        let written = tokio::task::spawn_blocking(move || write(&file, &bytes)).await;
        if let Ok(Err(error)) = written
            && !self.unwritable.swap(true, Ordering::Relaxed)
        {
            tracing::warn!(
                hint = "name another folder with TRANSSHIP_CACHE_DIR, or use --no-cache",
                "the cache {} can't be used: {error}; continuing without it",
                self.path.display()
            );
        }
    }

    /// Deletes the least recently used files until at most `size` bytes are left, except `pinned` ones.
    pub(super) fn bound(&self, size: u64, pinned: impl FnOnce() -> HashSet<Digest>) {
        bound::bound(&self.path.join("blobs"), size, pinned);
    }

    /// Whether this run saved anything.
    pub(super) fn has_grown(&self) -> bool {
        self.known().values().any(|known| *known == Known::Kept)
    }

    /// Whether this run saved `digest`.
    pub(super) fn has_kept(&self, digest: &Digest) -> bool {
        self.known_of(digest) == Some(Known::Kept)
    }

    fn known_of(&self, digest: &Digest) -> Option<Known> {
        self.known().get(digest).copied()
    }

    fn known(&self) -> MutexGuard<'_, HashMap<Digest, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Blocking version of [`Folder::read`].
    pub(super) fn read_now(&self, digest: &Digest) -> Option<Bytes> {
        read(&self.file(digest), self.largest, digest)
    }

    fn file(&self, digest: &Digest) -> PathBuf {
        self.path.join("blobs").join(digest.as_str().replace(':', "/"))
    }
}

/// The bytes of an intact file. Its use is recorded.
fn read(file: &Path, largest: u64, digest: &Digest) -> Option<Bytes> {
    let (bytes, metadata) = read_whole(file, largest).inspect_err(|error| warn_unreadable(file, error)).ok()?;
    if !digest.matches(&bytes) {
        tracing::debug!(file = %file.display(), "damaged, so it is ignored");
        return None;
    }
    bound::touch(file, &metadata);
    Some(Bytes::from(bytes))
}

fn read_whole(file: &Path, largest: u64) -> io::Result<(Vec<u8>, Metadata)> {
    let metadata = fs::metadata(file)?;
    if !metadata.is_file() || metadata.len() > largest {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it isn't a file, or is too large for the cache"));
    }
    Ok((fs::read(file)?, metadata))
}

fn warn_unreadable(file: &Path, error: &io::Error) {
    if error.kind() != io::ErrorKind::NotFound {
        tracing::debug!(file = %file.display(), "unreadable, so it is ignored: {error}");
    }
}

/// Writes a file atomically, and creates its folder if that is missing.
fn write(file: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = file.parent().unwrap_or(file);
    let mut written = write_once(folder, file, bytes);
    for _ in 1..ATTEMPTS {
        match &written {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            _ => break,
        }
        written = private().recursive(true).create(folder).and_then(|()| write_once(folder, file, bytes));
    }
    written
}

fn write_once(folder: &Path, file: &Path, bytes: &[u8]) -> io::Result<()> {
    // The file is private to the user, and deleted if it can't be renamed into place.
    let mut temporary = tempfile::Builder::new().prefix(".").suffix(".tmp").tempfile_in(folder)?;
    temporary.write_all(bytes)?;
    temporary.persist(file).map(drop).map_err(|error| error.error)
}

#[cfg(unix)]
fn private() -> DirBuilder {
    use std::os::unix::fs::DirBuilderExt as _;
    let mut builder = DirBuilder::new();
    builder.mode(0o700);
    builder
}

#[cfg(not(unix))]
fn private() -> DirBuilder {
    DirBuilder::new()
}
