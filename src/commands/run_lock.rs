//! Detects another run with the same mirror.lock, on this machine and by this user.
//!
//! Concurrent runs are safe, so this only warns, or waits on request. A run holds the operating system's lock on a
//! small file below the cache folder. The system releases it when the process ends, even if it is killed. The file
//! contains the process ID.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::cache_settings;
use super::pins::Pins;
use super::session::Start;
use crate::oci::Digest;

/// The pause between two attempts to take the lock.
const PAUSE: Duration = Duration::from_millis(200);

/// The lock on the marker file; released when dropped.
pub(super) struct RunLock {
    _held: File,
}

impl RunLock {
    /// Takes the lock for a run that `writes` mirror.lock; with `wait`, after other runs have finished. Returns `None`
    /// if the run continues without it: beside another run, or because the marker file can't be used.
    pub(super) async fn take(start: &Start, wait: bool, writes: bool) -> Option<Self> {
        // Without the cache, nothing is written to its folder unless `wait` is set.
        let may_write = wait || !start.global.no_cache;
        let lock = Pins::path(&start.global).ok().flatten().filter(|_| writes && may_write)?;
        let folder = cache_settings::root(|name| std::env::var_os(name))?;
        let mut is_told = false;
        loop {
            match Self::attempt(&folder, &lock) {
                Ok(Ok(turn)) => return Some(turn),
                Ok(Err(holder)) => {
                    if !std::mem::replace(&mut is_told, true) {
                        warn_of_other_run(&lock, &holder, wait);
                    }
                }
                Err(error) => {
                    tracing::debug!("can't tell whether another run uses {}: {error}", lock.display());
                    return None;
                }
            }
            if !wait || start.stop.run_until_cancelled(tokio::time::sleep(PAUSE)).await.is_none() {
                return None;
            }
        }
    }

    /// The lock, or the process ID of the run that holds it.
    fn attempt(folder: &Path, lock: &Path) -> io::Result<Result<Self, String>> {
        let path = marker(folder, lock);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path)?;
        match file.try_lock() {
            Ok(()) => {
                file.set_len(0)?;
                file.rewind()?;
                write!(file, "{}", std::process::id())?;
                Ok(Ok(Self { _held: file }))
            }
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                file.read_to_string(&mut holder)?;
                Ok(Err(holder))
            }
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

/// The marker file for `lock`, the same for all spellings of its path.
fn marker(folder: &Path, lock: &Path) -> PathBuf {
    let beside = lock.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let whole = std::fs::canonicalize(lock).or_else(|_| {
        let folder = std::fs::canonicalize(beside)?;
        Ok::<_, io::Error>(lock.file_name().map_or(folder.clone(), |name| folder.join(name)))
    });
    let whole = whole.unwrap_or_else(|_| lock.to_owned());
    let name = Digest::of(whole.as_os_str().as_encoded_bytes());
    folder.join("runs").join(name.hex())
}

fn warn_of_other_run(lock: &Path, holder: &str, wait: bool) {
    let lock = lock.display();
    let pid = if holder.is_empty() { String::new() } else { format!(" (pid {holder})") };
    if wait {
        tracing::warn!("another run uses {lock}{pid}; waiting for it to finish");
    } else {
        tracing::warn!(
            hint = "--wait waits for it to finish",
            "another run uses {lock}{pid}; concurrent runs are safe"
        );
    }
}
