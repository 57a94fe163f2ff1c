//! Puts a text in the place of a file's, so that a reader sees the old one or the new one, whole.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::Path;

/// Replaces the text of the file at `path`, which was `old`. Links stay links, mode bits stay.
///
/// # Errors
/// Why it can't be: it may not be written, has changed since it was read, or what the file system says.
pub fn replace(path: &Path, old: &str, new: &str) -> Result<(), String> {
    let said = |error: std::io::Error| format!("it can't be written: {error}");
    let path = fs::canonicalize(path).map_err(said)?;
    let metadata = fs::metadata(&path).map_err(said)?;
    // A rename would succeed in a folder that may be written, and for root anyway: it isn't what the mode bits ask for.
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
        // Only root can give a file away; anyone else owns it already, or may not.
        let _ = std::os::unix::fs::fchown(file.as_file(), Some(metadata.uid()), Some(metadata.gid()));
    }
    file.as_file().set_permissions(metadata.permissions()).map_err(said)?;
    file.as_file().sync_all().map_err(said)?;
    if fs::read(&path).map_err(said)? != old.as_bytes() {
        return Err("it has changed since it was read".to_owned());
    }
    file.persist(&path).map(drop).map_err(|error| said(error.error))
}
