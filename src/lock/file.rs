//! Lock → file: keeps what other runs have written since the file was read, and replaces it atomically.
//!
//! From reading the file to replacing it, a run holds the operating system's lock of the file that the path names.
//! There is no separate lock file, and the lock of a killed process disappears with the process.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::Lock;

/// How long to wait for another run to release the file; it holds the file for milliseconds.
const PATIENCE: Duration = Duration::from_secs(10);

/// The pause between two attempts to lock the file.
const PAUSE: Duration = Duration::from_millis(5);

/// Updates the file at `path` to the pins of `new`; `base` is what was read from it before.
pub(super) fn write(path: &Path, base: &Lock, new: &Lock) -> io::Result<Lock> {
    let path = behind_links(path);
    let until = Instant::now() + PATIENCE;
    loop {
        match open(&path)? {
            None => match draft(&path, &new.to_text(), None)?.persist_noclobber(&path) {
                Ok(_) => {
                    sync_folder(&path);
                    return Ok(new.clone());
                }
                // Another run was faster: its pins count.
                Err(error) if error.error.kind() == ErrorKind::AlreadyExists && Instant::now() < until => {}
                Err(error) => return Err(error.error),
            },
            Some(file) => {
                hold(&file, until)?;
                // Another run may have replaced the file while this one waited.
                if is_at(&file, &path)? {
                    return replace(file, &path, base, new);
                }
            }
        }
    }
}

/// Replaces `file`, which is at `path` and locked.
fn replace(mut file: File, path: &Path, base: &Lock, new: &Lock) -> io::Result<Lock> {
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    // Reading it takes longer than writing it does.
    if new.is_written_as(&text) {
        return Ok(new.clone());
    }
    let found = Lock::read(&text, path).map_err(|problems| io::Error::new(ErrorKind::InvalidData, problems))?;
    let merged = merge(base, new, &found);
    if merged.is_written_as(&text) {
        return Ok(merged);
    }
    let draft = draft(path, &Form::of(&text).put(&merged.to_text()), Some(file.metadata()?.permissions()))?;
    draft.persist(path).map_err(|error| error.error)?;
    sync_folder(path);
    Ok(merged)
}

/// Applies the changes from `base` to `new` to `found`. A pin that both runs added keeps the first value; a pin
/// that this run moved is moved; a pin that this run dropped is removed, unless another run changed it.
fn merge(base: &Lock, new: &Lock, found: &Lock) -> Lock {
    Lock {
        images: merged(&base.images, &new.images, &found.images),
        selections: merged(&base.selections, &new.selections, &found.selections),
    }
}

fn merged<K: Ord + Clone, V: PartialEq + Clone>(
    base: &BTreeMap<K, V>,
    new: &BTreeMap<K, V>,
    found: &BTreeMap<K, V>,
) -> BTreeMap<K, V> {
    let mut merged = found.clone();
    merged.retain(|key, value| new.contains_key(key) || base.get(key) != Some(value));
    for (key, value) in new {
        let moved = base.get(key).is_some_and(|old| old != value);
        if moved || !merged.contains_key(key) {
            merged.insert(key.clone(), value.clone());
        }
    }
    merged
}

/// The format of the text, which a checkout may have changed.
#[derive(Debug, Clone, Copy)]
struct Form {
    has_mark: bool,
    line_end: &'static str,
}

impl Form {
    fn of(text: &str) -> Self {
        let first = text.split_inclusive('\n').next().unwrap_or_default();
        Self { has_mark: text.starts_with('\u{feff}'), line_end: if first.ends_with("\r\n") { "\r\n" } else { "\n" } }
    }

    fn put(self, text: &str) -> String {
        let mark = if self.has_mark { "\u{feff}" } else { "" };
        format!("{mark}{}", text.replace('\n', self.line_end))
    }
}

/// Resolves links, so that a link stays a link: its target is replaced, or created.
fn behind_links(path: &Path) -> PathBuf {
    fs::canonicalize(path).unwrap_or_else(|_| match fs::read_link(path) {
        Ok(aim) => folder_of(path).join(aim),
        Err(_) => path.to_owned(),
    })
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// `None` if it doesn't exist. Opened for writing if permitted, because network file systems lock no other files.
fn open(path: &Path) -> io::Result<Option<File>> {
    let opened = OpenOptions::new().read(true).write(true).open(path);
    let opened = opened.or_else(|error| match error.kind() {
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => File::open(path),
        _ => Err(error),
    });
    match opened {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Waits for the lock of `file`.
fn hold(file: &File, until: Instant) -> io::Result<()> {
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) if Instant::now() < until => sleep(PAUSE),
            Err(TryLockError::WouldBlock) => {
                return Err(io::Error::new(ErrorKind::ResourceBusy, "another process has locked the file"));
            }
            // If the file system doesn't support locks, a single run works all the same.
            Err(TryLockError::Error(error)) => {
                tracing::debug!(%error, "the lock file can't be locked: concurrent runs may overwrite each other's pins");
                return Ok(());
            }
        }
    }
}

#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt as _;
    let id = |metadata: &fs::Metadata| (metadata.dev(), metadata.ino());
    match fs::metadata(path) {
        Ok(there) => Ok(id(&there) == id(&file.metadata()?)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(not(unix))]
fn is_at(_: &File, path: &Path) -> io::Result<bool> {
    fs::exists(path)
}

/// The new file, on disk but not yet in place.
fn draft(path: &Path, text: &str, permissions: Option<fs::Permissions>) -> io::Result<tempfile::NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".mirror.lock.");
    #[cfg(unix)]
    let readable = {
        use std::os::unix::fs::PermissionsExt as _;
        // Minus the umask, as for any other file; temporary files are private by default.
        fs::Permissions::from_mode(0o666)
    };
    #[cfg(unix)]
    builder.permissions(readable);
    let mut file = builder.tempfile_in(folder_of(path))?;
    file.write_all(text.as_bytes())?;
    if let Some(permissions) = permissions {
        file.as_file().set_permissions(permissions)?;
    }
    file.as_file().sync_all()?;
    Ok(file)
}

/// Ensures that a power failure doesn't restore the old file. Errors are ignored: not every file system supports
/// this, and the new file is in place.
fn sync_folder(path: &Path) {
    if let Err(error) = File::open(folder_of(path)).and_then(|folder| folder.sync_all()) {
        tracing::debug!(%error, "the folder of the lock file can't be synced");
    }
}

#[cfg(test)]
mod tests;
