//! Shared state of the checks of mirror.yaml: the positions of keys, and the problems found.

use std::path::{Path, PathBuf};

use crate::yaml::{Document, KeyPath, Problem};

/// The positions of values in the file, and the problems found.
pub(super) struct Findings<'a> {
    document: &'a Document,
    folder: &'a Path,
    pub(super) problems: Vec<Problem>,
    /// Unreadable files, which are no error in this file.
    pub(super) lacking: Vec<Problem>,
}

impl<'a> Findings<'a> {
    pub(super) fn new(document: &'a Document, folder: &'a Path, problems: Vec<Problem>) -> Self {
        Self { document, folder, problems, lacking: Vec::new() }
    }

    pub(super) fn add(&mut self, path: &KeyPath, message: impl Into<String>) {
        self.problems.push(Problem::new(self.document.position(path), path.clone(), message));
    }

    pub(super) fn add_hint(&mut self, path: &KeyPath, message: impl Into<String>, hint: impl Into<String>) {
        self.add(path, message);
        if let Some(problem) = self.problems.pop() {
            self.problems.push(problem.with_hint(hint));
        }
    }

    /// Adds an unreadable file, named at `path`.
    pub(super) fn add_lacking(&mut self, path: &KeyPath, message: String) {
        let hint = "put it there, or correct the path: it is relative to the folder of this file";
        let problem = Problem::new(self.document.position(path), path.clone(), message);
        self.lacking.push(problem.with_hint(hint));
    }

    /// Whether there is a problem at `path`.
    pub(super) fn has(&self, path: &KeyPath) -> bool {
        self.problems.iter().any(|problem| problem.path == *path)
    }

    /// The value, or a problem at `path`.
    pub(super) fn ok<T, E: std::fmt::Display>(&mut self, path: &KeyPath, result: Result<T, E>) -> Option<T> {
        result.map_err(|error| self.add(path, error.to_string())).ok()
    }

    /// The first line of the value at `path`.
    pub(super) fn line(&self, path: &KeyPath) -> usize {
        self.document.position(path).line
    }

    /// The folder of the file.
    pub(super) fn folder(&self) -> &Path {
        self.folder
    }

    /// A file system path, relative to the folder of this file.
    pub(super) fn file(&mut self, path: &KeyPath, text: &str) -> PathBuf {
        if text.is_empty() {
            self.add(path, "expected the path of a file");
        }
        self.folder.join(text)
    }
}
