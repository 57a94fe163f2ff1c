//! Replaces the text of a file atomically.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::Path;

/// Replaces the text of the file at `path`, whose content was `old`. Links and mode bits are kept.
///
/// # Errors
/// The reason: it is read-only, has changed since it was read, or the error of the file system.
pub(crate) fn replace(path: &Path, old: &str, new: &str) -> Result<(), String> {
    let said = |error: std::io::Error| format!("it can't be written: {error}");
    let path = fs::canonicalize(path).map_err(said)?;
    let metadata = fs::metadata(&path).map_err(said)?;
    // A rename would succeed in a writable folder, and always for root, but would ignore the mode bits.
    if metadata.permissions().readonly() {
        return Err("it is write-protected".to_owned());
    }
    OpenOptions::new().append(true).open(&path).map_err(said)?;
    let folder = path.parent().unwrap_or(Path::new("/"));
    let mut file = tempfile::Builder::new().prefix(".transship.").tempfile_in(folder).map_err(said)?;
    file.write_all(new.as_bytes()).map_err(said)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt as _;
        // Only root can change the owner; other users own the file already, or may not.
        let _ = std::os::unix::fs::fchown(file.as_file(), Some(metadata.uid()), Some(metadata.gid()));
    }
    file.as_file().set_permissions(metadata.permissions()).map_err(said)?;
    file.as_file().sync_all().map_err(said)?;
    if fs::read(&path).map_err(said)? != old.as_bytes() {
        return Err("it has changed since it was read".to_owned());
    }
    file.persist(&path).map(drop).map_err(|error| said(error.error))
}
