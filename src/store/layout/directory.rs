//! The directory of a layout: paths, writing, and errors.
//!
//! Files become visible only when they are complete: each is written to a temporary file, synced and renamed into
//! place, `oci-layout` last of all. All functions here block. Temporary files and the lock are in `.transship`,
//! which no specification defines.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::Deserialize;
use tempfile::NamedTempFile;

use super::index::Index;
use crate::error::{Error, Kind, Result};
use crate::oci::{Algorithm, Digest};

const MARKER: &str = "oci-layout";
const VERSION: &str = "1.0.0";
const INDEX: &str = "index.json";
const BLOBS: &str = "blobs";
const OWN: &str = ".transship";
/// Files and folders in an otherwise empty volume.
const FURNITURE: [&str; 7] = [
    "lost+found",
    "System Volume Information",
    "$RECYCLE.BIN",
    ".DS_Store",
    ".Spotlight-V100",
    ".Trashes",
    ".fseventsd",
];
/// The largest index.json or oci-layout that is read, in bytes.
const LARGEST_INDEX: u64 = 256 << 20;
const LARGEST_MARKER: u64 = 4 << 10;
const HINT: &str =
    "check the spelling of the directory, and that the layout is complete; a new layout needs an empty directory";
/// The age from which a temporary file counts as left behind by a killed run.
const STALE: Duration = Duration::from_secs(24 * 60 * 60);

/// The path of a layout.
#[derive(Debug, Clone)]
pub(super) struct Directory(PathBuf);

/// Identifies a version of index.json without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stamp {
    modified: Option<SystemTime>,
    length: u64,
    file: u64,
}

/// A lock held while index.json is read, changed and written; no other process does that at the same time.
#[derive(Debug)]
pub(super) struct Turn(File);

#[derive(Deserialize)]
struct Marker {
    #[serde(rename = "imageLayoutVersion")]
    version: String,
}

impl Directory {
    pub(super) fn new(path: &Path) -> Self {
        Self(path.to_owned())
    }

    /// Reads index.json, and checks that the directory is a layout. `NotFound` if there is nothing yet.
    pub(super) fn index(&self) -> Result<(Index, Stamp)> {
        self.check_marker()?;
        let path = self.0.join(INDEX);
        let (text, stamp) =
            read(&path, LARGEST_INDEX).map_err(|error| self.broken(Kind::Configuration, &path, &error))?;
        let index = Index::read(&text)
            .map_err(|error| self.invalid(&path, format!("it isn't the index of a layout: {error}")))?;
        Ok((index, stamp))
    }

    /// The current version of index.json; `None` if there is none.
    pub(super) fn stamp(&self) -> Option<Stamp> {
        fs::metadata(self.0.join(INDEX)).ok().map(|metadata| Stamp::of(&metadata))
    }

    fn check_marker(&self) -> Result<()> {
        let path = self.0.join(MARKER);
        let text = read(&path, LARGEST_MARKER).map(|(text, _)| text).map_err(|error| {
            let is_something_else = self.has_other_files().unwrap_or(false);
            self.broken(if is_something_else { Kind::Configuration } else { Kind::NotFound }, &path, &error)
        })?;
        let version = serde_json::from_slice::<Marker>(&text)
            .map_err(|error| self.invalid(&path, format!("it doesn't contain the version of the layout: {error}")))?
            .version;
        if version != VERSION {
            let why = format!("imageLayoutVersion is `{version}`, and only {VERSION} is supported");
            return Err(self.invalid(&path, why));
        }
        Ok(())
    }

    /// Whether the directory has files that belong neither to an unfinished layout nor to an empty volume.
    fn has_other_files(&self) -> io::Result<bool> {
        for entry in fs::read_dir(&self.0)? {
            let name = entry?.file_name();
            // Another process may have just written the marker.
            if ![OWN, BLOBS, INDEX, MARKER].iter().chain(&FURNITURE).any(|own| name == *own) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The error for a required file that can't be read. `absent` is the kind if it doesn't exist.
    fn broken(&self, absent: Kind, path: &Path, error: &io::Error) -> Error {
        if error.kind() != io::ErrorKind::NotFound {
            return failed("read", path, error);
        }
        let why = "it doesn't exist, so this isn't an OCI image layout";
        Error::new(absent, format!("read {}", path.display()), why).with_hint(HINT)
    }

    fn invalid(&self, path: &Path, why: String) -> Error {
        Error::new(Kind::Configuration, format!("read {}", path.display()), why).with_hint(HINT)
    }

    /// Creates the layout if it doesn't exist, and deletes what killed runs have left behind.
    pub(super) fn prepare(&self) -> Result<()> {
        match self.check_marker() {
            Err(error) if error.kind() == Kind::NotFound => {}
            checked => checked?,
        }
        let made = fs::create_dir_all(self.0.join(OWN))
            .and_then(|()| fs::create_dir_all(self.0.join(BLOBS).join(Algorithm::Sha256.name())));
        made.map_err(|error| failed("create a layout in", &self.0, &error))?;
        let turn = self.turn()?;
        for (name, text) in [(INDEX, Index::EMPTY), (MARKER, "{\"imageLayoutVersion\":\"1.0.0\"}")] {
            if !self.0.join(name).exists() {
                self.replace(name, text)?;
            }
        }
        self.sweep();
        drop(turn);
        Ok(())
    }

    /// Best effort: files that can't be deleted do no harm.
    fn sweep(&self) {
        let old = |entry: &fs::DirEntry| {
            let age = entry.metadata().and_then(|metadata| metadata.modified()).map(|time| time.elapsed());
            entry.file_name() != "lock" && age.is_ok_and(|age| age.is_ok_and(|age| age > STALE))
        };
        for entry in fs::read_dir(self.0.join(OWN)).into_iter().flatten().flatten().filter(old) {
            let _ = fs::remove_file(entry.path());
        }
    }

    /// Waits until no other process changes index.json.
    pub(super) fn turn(&self) -> Result<Turn> {
        let path = self.0.join(OWN).join("lock");
        let locked = File::options().create(true).truncate(false).write(true).open(&path).and_then(|file| {
            file.lock()?;
            Ok(Turn(file))
        });
        locked.map_err(|error| failed("lock", &path, &error))
    }

    /// Writes index.json, after everything it lists is on disk.
    pub(super) fn write_index(&self, _turn: &Turn, index: &Index) -> Result<()> {
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            let blobs = self.0.join(BLOBS).join(algorithm.name());
            match sync_folder(&blobs) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(failed("sync", &blobs, &error));
                }
                _ => {}
            }
        }
        self.replace(INDEX, &index.to_text())
    }

    fn replace(&self, name: &str, text: &str) -> Result<()> {
        let path = self.0.join(name);
        let written = self.temporary().and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.as_file().sync_all()?;
            file.persist(&path).map_err(|error| error.error)?;
            sync_folder(&self.0)
        });
        written.map_err(|error| failed("write", &path, &error))
    }

    /// A temporary file for a blob; deleted on drop.
    pub(super) fn ingest(&self) -> Result<NamedTempFile> {
        self.temporary().map_err(|error| failed("write to", &self.0.join(OWN), &error))
    }

    fn temporary(&self) -> io::Result<NamedTempFile> {
        let mut builder = tempfile::Builder::new();
        builder.prefix("ingest-");
        #[cfg(unix)]
        let readable = {
            use std::os::unix::fs::PermissionsExt as _;
            // Minus the umask, as for any other file; temporary files are private by default.
            fs::Permissions::from_mode(0o666)
        };
        #[cfg(unix)]
        builder.permissions(readable);
        builder.tempfile_in(self.0.join(OWN))
    }

    /// Writes the blob `digest`, whose verified bytes are `bytes`.
    pub(super) fn keep_bytes(&self, bytes: &[u8], digest: &Digest) -> Result<()> {
        let mut file = self.ingest()?;
        file.write_all(bytes).map_err(|error| failed("write", file.path(), &error))?;
        self.keep(file, digest)
    }

    /// Moves `file`, whose bytes are verified, into place as the blob `digest`.
    pub(super) fn keep(&self, file: NamedTempFile, digest: &Digest) -> Result<()> {
        let path = self.path(digest);
        let kept = (|| {
            if let Some(folder) = path.parent() {
                fs::create_dir_all(folder)?;
            }
            file.as_file().sync_all()?;
            file.persist(&path).map(drop).map_err(|error| error.error)
        })();
        kept.map_err(|error| failed("write", &path, &error))
    }

    /// The path of the blob `digest`.
    pub(super) fn path(&self, digest: &Digest) -> PathBuf {
        self.0.join(BLOBS).join(digest.algorithm().name()).join(digest.hex())
    }

    /// Opens the blob `digest`, and returns its length; `None` if it doesn't exist.
    ///
    /// A link that leads out of the layout is refused: a layout made by somebody else must not expose files that
    /// only the reader of it may see.
    pub(super) fn open(&self, digest: &Digest) -> Result<Option<(File, u64)>> {
        let path = self.path(digest);
        let found = || -> io::Result<Option<(File, u64)>> {
            let (real, root) = (fs::canonicalize(&path)?, fs::canonicalize(&self.0)?);
            if !real.starts_with(root) {
                return Ok(None);
            }
            open_file(&real).map(|(file, metadata)| Some((file, metadata.len())))
        };
        match found() {
            Ok(Some(found)) => Ok(Some(found)),
            Ok(None) => {
                let why = "it is a link to a place outside the layout";
                Err(Error::new(Kind::Denied, format!("read {}", path.display()), why)
                    .with_hint("to mirror it, replace the link with the file"))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed("read", &path, &error)),
        }
    }

    /// The length of the blob `digest` in bytes; `None` if it doesn't exist.
    pub(super) fn length(&self, digest: &Digest) -> Result<Option<u64>> {
        Ok(self.open(digest)?.map(|(_, length)| length))
    }
}

impl Stamp {
    fn of(metadata: &fs::Metadata) -> Self {
        #[cfg(unix)]
        let file = std::os::unix::fs::MetadataExt::ino(metadata);
        #[cfg(not(unix))]
        let file = 0;
        Self { modified: metadata.modified().ok(), length: metadata.len(), file }
    }
}

/// The error for a `path` that couldn't be used, with a hint.
pub(super) fn failed(verb: &str, path: &Path, error: &io::Error) -> Error {
    use io::ErrorKind as Io;
    let (kind, hint) = match error.kind() {
        Io::NotFound => (Kind::NotFound, "check the spelling of the directory"),
        Io::PermissionDenied | Io::ReadOnlyFilesystem => (Kind::Denied, "check its permissions"),
        Io::StorageFull | Io::QuotaExceeded => (Kind::QuotaExceeded, "free some space on that file system"),
        Io::NotADirectory | Io::IsADirectory | Io::AlreadyExists => {
            (Kind::Configuration, "a layout is a directory that contains blobs/, index.json and oci-layout")
        }
        _ => (Kind::Unavailable, "check that file system, then run it again"),
    };
    Error::new(kind, format!("{verb} {}", path.display()), error.to_string()).with_hint(hint)
}

/// Opens a regular file. Anything else is refused, as reading it may never end.
fn open_file(path: &Path) -> io::Result<(File, fs::Metadata)> {
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::new(io::ErrorKind::IsADirectory, "it isn't a file"));
    }
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    Ok((file, metadata))
}

/// Reads the file at `path`; an error if it has more than `most` bytes.
fn read(path: &Path, most: u64) -> io::Result<(Vec<u8>, Stamp)> {
    let (file, metadata) = open_file(path)?;
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(io::Error::new(io::ErrorKind::IsADirectory, format!("it has more than {most} bytes")));
    }
    Ok((bytes, Stamp::of(&metadata)))
}

/// Makes renames in `folder` durable, if the file system supports that.
fn sync_folder(folder: &Path) -> io::Result<()> {
    if !cfg!(unix) {
        return Ok(());
    }
    match File::open(folder)?.sync_all() {
        Err(error) if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => Ok(()),
        synced => synced,
    }
}

impl fmt::Display for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.display().fmt(f)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        // Closing the file would unlock it too; this is explicit.
        let _ = self.0.unlock();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn a_file_system_that_cant_sync_folders_is_supported() {
        // /proc answers EINVAL, as some network shares do.
        assert!(File::open("/proc").unwrap().sync_all().is_err());
        sync_folder(Path::new("/proc")).unwrap();
        assert_eq!(sync_folder(Path::new("/proc/absent")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
