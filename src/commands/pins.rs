//! mirror.lock on disk: its path, its content, and whether it may be written.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::Unable;
use crate::cli::Global;
use crate::config::ImageRule;
use crate::lock::{self, Lock};
use crate::resolve;

/// The lock file of a run, as it was read.
pub(super) struct Pins {
    /// `None` with `--no-lock`.
    path: Option<PathBuf>,
    /// `None` if there is no file.
    text: Option<String>,
    /// The pins; empty if there is no file.
    pub(super) old: Lock,
}

impl Pins {
    /// Whether the lock is stored in a file; false with `--no-lock`.
    pub(super) fn are_kept(&self) -> bool {
        self.path.is_some()
    }

    /// The pins before this run; `None` with `--no-lock`, which has no record of them.
    pub(super) fn before(&self) -> Option<&Lock> {
        self.path.as_ref().map(|_| &self.old)
    }

    /// The path of the lock; `None` with `--no-lock`.
    pub(super) fn path(global: &Global) -> anyhow::Result<Option<PathBuf>> {
        Ok(match (&global.lock, global.no_lock, global.config()) {
            (_, true, _) => None,
            (Some(path), ..) => Some(path.clone()),
            (None, false, config) if config == Path::new("-") => {
                let hint = "name the lock file with --lock FILE, or go without it by --no-lock";
                return Err(Unable::error("a configuration from stdin has no default lock file", hint));
            }
            (None, false, config) => Some(lock::lock_path(config)),
        })
    }

    pub(super) fn of(global: &Global) -> anyhow::Result<Self> {
        let path = Self::path(global)?;
        let text = match &path {
            Some(path) => read(path)?,
            None => None,
        };
        let old = match (&path, &text) {
            (Some(path), Some(text)) => Lock::read(text, path)?,
            _ => Lock::default(),
        };
        Ok(Self { path, text, old })
    }

    /// Writes `new` to the file, and returns the pins in the file, including those that other runs have added.
    pub(super) fn write(&self, new: Lock) -> anyhow::Result<Lock> {
        match &self.path {
            // An image list is never empty: an empty lock means that nothing could be resolved.
            Some(_) if new.is_empty() => Ok(self.old.clone()),
            // Another process may hold the file for seconds.
            Some(path) => tokio::task::block_in_place(|| new.write(path, &self.old))
                .with_context(|| format!("can't write {}", path.display())),
            None => Ok(new),
        }
    }

    /// The lock, for verbs that require one.
    pub(super) fn existing(&self) -> anyhow::Result<&Lock> {
        match (&self.path, &self.text) {
            (Some(_), Some(_)) => Ok(&self.old),
            (Some(path), None) => {
                let hint = "pin the images with `transship lock`, mirror them with `transship sync`";
                Err(Unable::error(format!("{} doesn't exist: nothing to compare with", path.display()), hint))
            }
            (None, _) => {
                let hint = "leave out --no-lock, or name the lock file with --lock FILE";
                Err(Unable::error("--no-lock: nothing to compare with", hint))
            }
        }
    }

    /// The lock for `--locked`: the file, if it matches `images` exactly.
    pub(super) fn locked(&self, images: &[ImageRule]) -> anyhow::Result<Lock> {
        let name = self.path.as_deref().unwrap_or(Path::new("mirror.lock")).display();
        let hint = "run `transship lock` and commit the file";
        let Some(text) = &self.text else {
            return Err(Unable::error(format!("there is no {name}, and --locked doesn't allow writing it"), hint));
        };
        let (kept, missing) = resolve::from_lock(images, &self.old);
        if let Some(first) = missing.first() {
            let rest = if missing.len() > 1 { format!(" and {} more", missing.len() - 1) } else { String::new() };
            return Err(Unable::error(
                format!("{name} lacks {first}{rest}, and --locked doesn't allow adding it"),
                hint,
            ));
        }
        if !kept.is_written_as(text) {
            let message = format!(
                "{name} would change, which --locked doesn't allow: it has entries that mirror.yaml doesn't ask for, or was edited"
            );
            return Err(Unable::error(message, hint));
        }
        Ok(kept)
    }
}

fn read(path: &Path) -> anyhow::Result<Option<String>> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(anyhow::Error::new(error).context(format!("can't read {}", path.display()))),
    }
}
