//! The file of `--report`. Whether it is writable is checked before the first request; it is replaced atomically.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use super::Unable;

/// Checks that the report can be written to `path`, as far as possible without writing it.
pub(super) fn prepare(path: &Path) -> anyhow::Result<()> {
    let hint = "name a file in a folder that exists and may be written; --json prints the report to standard output";
    let refuse = |why: String| Err(Unable::error(format!("--report can't write {}: {why}", path.display()), hint));
    if path == Path::new("-") {
        return refuse("- isn't a file".to_owned());
    }
    match fs::metadata(path) {
        Ok(there) if there.is_dir() => return refuse("it is a folder".to_owned()),
        Ok(there) if !there.is_file() => return Ok(()),
        _ => {}
    }
    let path = behind_links(path);
    let folder = folder_of(&path);
    // The temporary file has no name, so nothing is left behind.
    tempfile::tempfile_in(folder).map(drop).or_else(|error| refuse(format!("{}: {error}", folder.display())))
}

/// Writes `text` to the file, by way of a temporary file beside it.
pub(super) fn write(path: &Path, text: &str) -> io::Result<()> {
    let there = fs::metadata(path);
    if let Ok(there) = &there
        && !there.is_file()
    {
        // A pipe or a device must not be replaced.
        return File::options().write(true).open(path)?.write_all(text.as_bytes());
    }
    let path = behind_links(path);
    let mut builder = tempfile::Builder::new();
    builder.prefix(".report.");
    #[cfg(unix)]
    let readable = {
        use std::os::unix::fs::PermissionsExt as _;
        // Permissions by the umask, as for any other file; temporary files are private by default.
        fs::Permissions::from_mode(0o666)
    };
    #[cfg(unix)]
    builder.permissions(readable);
    let mut draft = builder.tempfile_in(folder_of(&path))?;
    draft.write_all(text.as_bytes())?;
    if let Ok(there) = there {
        draft.as_file().set_permissions(there.permissions())?;
    }
    draft.persist(&path).map(drop).map_err(|error| error.error)
}

/// The target of a symbolic link, which need not exist: the link is kept and its target is replaced.
fn behind_links(path: &Path) -> PathBuf {
    fs::canonicalize(path).unwrap_or_else(|_| match fs::read_link(path) {
        Ok(aim) => folder_of(path).join(aim),
        Err(_) => path.to_owned(),
    })
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
