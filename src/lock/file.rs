//! Lock → file: what other runs have written since it was read is kept, and the file is replaced as a whole.
//!
//! From reading the file to replacing it, a run holds the operating system's lock of the very file that the path names. No
//! further file lies about, and the lock of a process that was killed is gone with the process.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::Lock;

/// How long another run may hold the file, which takes it milliseconds.
const PATIENCE: Duration = Duration::from_secs(10);

/// The pause between two looks at whether it still does.
const PAUSE: Duration = Duration::from_millis(5);

/// Makes the file at `path` pin what `new` does, where `base` is what was read from it before.
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
                // Another run was faster: what it has pinned counts.
                Err(error) if error.error.kind() == ErrorKind::AlreadyExists && Instant::now() < until => {}
                Err(error) => return Err(error.error),
            },
            Some(file) => {
                hold(&file, until)?;
                // While we waited, another run may have put a new file in its place.
                if is_at(&file, &path)? {
                    return replace(file, &path, base, new);
                }
            }
        }
    }
}

/// Replaces `file`, which stands at `path` and is held.
fn replace(mut file: File, path: &Path, base: &Lock, new: &Lock) -> io::Result<Lock> {
    let mut text = String::new();
    file.read_to_string(&mut text)?;
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

/// `found`, with what changed from `base` to `new`. A pin that both have completed is that of the first, and stays; one that
/// was moved here is moved; one that was dropped here goes, if nobody else has touched it.
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

/// How a text is written down, beside what it says: a checkout may have changed that.
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

/// A link stays a link: what it points at is replaced, or made.
fn behind_links(path: &Path) -> PathBuf {
    fs::canonicalize(path).unwrap_or_else(|_| match fs::read_link(path) {
        Ok(aim) => folder_of(path).join(aim),
        Err(_) => path.to_owned(),
    })
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// `None` if there is none. For writing where that is allowed: network file systems lock no other.
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

/// Waits until nobody else holds `file`.
fn hold(file: &File, until: Instant) -> io::Result<()> {
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) if Instant::now() < until => sleep(PAUSE),
            Err(TryLockError::WouldBlock) => {
                return Err(io::Error::new(ErrorKind::ResourceBusy, "another process holds the file locked"));
            }
            // Where there are no locks, a run that is alone does its work all the same.
            Err(TryLockError::Error(error)) => {
                tracing::debug!(%error, "the lock file can't be held: of two runs at once, one may undo the other's pins");
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

/// The new file, on disk and not yet in its place.
fn draft(path: &Path, text: &str, permissions: Option<fs::Permissions>) -> io::Result<tempfile::NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".mirror.lock.");
    #[cfg(unix)]
    let readable = {
        use std::os::unix::fs::PermissionsExt as _;
        // Less the umask, as for any other file; temporary files are private by default.
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

/// So that a power cut doesn't bring the old file back. Not every file system knows of it, and the new file is in its place.
fn sync_folder(path: &Path) {
    if let Err(error) = File::open(folder_of(path)).and_then(|folder| folder.sync_all()) {
        tracing::debug!(%error, "the folder of the lock file can't be synced");
    }
}

#[cfg(test)]
mod tests;
