//! How much the cache may hold: what was used least recently goes first.
//!
//! When a file was used is its time of modification, as that of the last access is often not kept. Any number of processes may
//! do this at once: what is gone already is gone, and what one of them still reads stays open for it.

use std::collections::HashSet;
use std::fs::{self, DirEntry, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::oci::Digest;

/// A file that was used so recently isn't touched again.
const FRESH: Duration = Duration::from_secs(3600);
/// A file that is being written is there for less than that; what is older was left behind.
const LEFT_BEHIND: Duration = Duration::from_secs(24 * 3600);

/// `file` was used.
pub(super) fn touch(file: &Path) {
    let is_fresh = |at: SystemTime| at.elapsed().is_ok_and(|age| age < FRESH);
    if fs::metadata(file).and_then(|metadata| metadata.modified()).is_ok_and(is_fresh) {
        return;
    }
    // A folder that isn't ours to write is used all the same.
    let _ = File::open(file).and_then(|file| file.set_modified(SystemTime::now()));
}

struct Kept {
    used: SystemTime,
    size: u64,
    path: PathBuf,
}

/// Brings the files in `blobs` down to `size` bytes, as far as they aren't `pinned`.
pub(super) fn bound(blobs: &Path, size: u64, pinned: &HashSet<Digest>) {
    let (mut total, mut kept) = (0, Vec::new());
    for folder in entries(blobs) {
        let algorithm = folder.file_name().to_string_lossy().into_owned();
        for file in entries(&folder.path()) {
            let Ok(metadata) = file.metadata() else { continue };
            let used = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            let name = file.file_name().to_string_lossy().into_owned();
            match format!("{algorithm}:{name}").parse::<Digest>() {
                Ok(digest) => {
                    total += metadata.len();
                    if !pinned.contains(&digest) {
                        kept.push(Kept { used, size: metadata.len(), path: file.path() });
                    }
                }
                Err(_) if is_left_behind(&name, used) => drop(fs::remove_file(file.path())),
                Err(_) => {}
            }
        }
    }
    kept.sort_by(|a, b| (a.used, &a.path).cmp(&(b.used, &b.path)));
    for old in kept {
        if total <= size {
            return;
        }
        // Somebody else may have done so, and that is as good.
        let _ = fs::remove_file(&old.path);
        total -= old.size;
    }
}

/// Whether a write that was broken off has left it.
fn is_left_behind(name: &str, used: SystemTime) -> bool {
    let is_temporary = name.starts_with('.') && name.ends_with(".tmp");
    is_temporary && used.elapsed().is_ok_and(|age| age > LEFT_BEHIND)
}

fn entries(folder: &Path) -> impl Iterator<Item = DirEntry> {
    fs::read_dir(folder).into_iter().flatten().flatten()
}
