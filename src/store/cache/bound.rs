//! Bounds the size of the cache: the least recently used files are deleted first.
//!
//! The modification time of a file is the time of its last use, as access times are often not recorded. Any number
//! of processes may do this at once: a file that is already deleted is no error, and a file that another process
//! has open remains readable there.

use std::collections::HashSet;
use std::fs::{self, DirEntry, File, Metadata};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::oci::Digest;

/// The time is updated only if it is older than this.
const FRESH: Duration = Duration::from_secs(3600);
/// A temporary file that is older than this was left behind by a killed process.
const LEFT_BEHIND: Duration = Duration::from_secs(24 * 3600);

/// Records the use of `file`.
pub(super) fn touch(file: &Path, metadata: &Metadata) {
    let is_fresh = |at: SystemTime| at.elapsed().is_ok_and(|age| age < FRESH);
    if metadata.modified().is_ok_and(is_fresh) {
        return;
    }
    // A read-only folder is used all the same.
    let _ = File::open(file).and_then(|file| file.set_modified(SystemTime::now()));
}

struct Kept {
    used: SystemTime,
    size: u64,
    path: PathBuf,
    digest: Digest,
}

/// Shrinks the files in `blobs` to `size` bytes, without deleting those that `pinned` returns, which is called only if
/// there are more bytes.
pub(super) fn bound(blobs: &Path, size: u64, pinned: impl FnOnce() -> HashSet<Digest>) {
    let mut kept = Vec::new();
    for folder in entries(blobs) {
        let algorithm = folder.file_name().to_string_lossy().into_owned();
        for file in entries(&folder.path()) {
            let Ok(metadata) = file.metadata() else { continue };
            let used = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            let name = file.file_name().to_string_lossy().into_owned();
            match format!("{algorithm}:{name}").parse() {
                Ok(digest) => kept.push(Kept { used, size: metadata.len(), path: file.path(), digest }),
                Err(_) if is_left_behind(&name, used) => drop(fs::remove_file(file.path())),
                Err(_) => {}
            }
        }
    }
    let mut total: u64 = kept.iter().map(|file| file.size).sum();
    if total <= size {
        return;
    }
    let pinned = pinned();
    kept.retain(|file| !pinned.contains(&file.digest));
    kept.sort_by(|a, b| (a.used, &a.path).cmp(&(b.used, &b.path)));
    for old in kept {
        if total <= size {
            return;
        }
        // Another process may have deleted it already.
        let _ = fs::remove_file(&old.path);
        total -= old.size;
    }
}

/// Whether the file is the rest of an interrupted write.
fn is_left_behind(name: &str, used: SystemTime) -> bool {
    let is_temporary = name.starts_with('.') && name.ends_with(".tmp");
    is_temporary && used.elapsed().is_ok_and(|age| age > LEFT_BEHIND)
}

fn entries(folder: &Path) -> impl Iterator<Item = DirEntry> {
    fs::read_dir(folder).into_iter().flatten().flatten()
}
