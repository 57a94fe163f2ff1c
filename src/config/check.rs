//! From what is written to what it means. Each check adds its problems and goes on, so that all are told at once.

use super::raw::RawConfig;
use super::{Config, Env, Handling, Layout, Overrides, TargetRoot, handling, harbor, images, limits, registries};
use crate::oci::Registry;
use crate::yaml::{Document, KeyPath, Problem};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// What the checks share: where things stand in the file, and what has been found wrong with them.
pub(super) struct Findings<'a> {
    document: &'a Document,
    folder: &'a Path,
    pub(super) problems: Vec<Problem>,
    /// Files that can't be read: no mistake of this one.
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

    /// The file that stands at `path` can't be read.
    pub(super) fn add_lacking(&mut self, path: &KeyPath, message: String) {
        let hint = "put it there, or correct the path: it is relative to the folder of this file";
        let problem = Problem::new(self.document.position(path), path.clone(), message);
        self.lacking.push(problem.with_hint(hint));
    }

    /// Whether something is wrong at `path`.
    pub(super) fn has(&self, path: &KeyPath) -> bool {
        self.problems.iter().any(|problem| problem.path == *path)
    }

    /// The value, or a problem at `path`.
    pub(super) fn ok<T, E: std::fmt::Display>(&mut self, path: &KeyPath, result: Result<T, E>) -> Option<T> {
        result.map_err(|error| self.add(path, error.to_string())).ok()
    }

    /// The line in which the value at `path` begins.
    pub(super) fn line(&self, path: &KeyPath) -> usize {
        self.document.position(path).line
    }

    /// A path of the file system, relative to the file.
    pub(super) fn file(&mut self, path: &KeyPath, text: &str) -> PathBuf {
        if text.is_empty() {
            self.add(path, "expected the path of a file");
        }
        self.folder.join(text)
    }
}

/// How much of a file has to be there.
#[derive(Debug, Clone, Copy)]
pub(super) enum Scope<'a> {
    /// All: it is going to be mirrored.
    Mirror(&'a Overrides),
    /// Only registries and limits are used, for these hosts; targets and images may be missing.
    Settings(&'a [Registry]),
}

/// Everything that the file says. `findings` tells whether it can be relied on.
pub(super) fn config(raw: &RawConfig, scope: Scope<'_>, env: &Env<'_>, findings: &mut Findings<'_>) -> Config {
    let root = KeyPath::default();
    if let Some(version) = raw.version.as_deref().filter(|version| *version != "1") {
        let message = format!("version `{version}` isn't known: this transship reads version 1");
        findings.add_hint(&root.key("version"), message, "write version: 1, or update transship");
    }
    let targets = targets(raw, scope, findings);
    let layout_path = root.key("layout");
    let layout = raw.layout.as_deref().and_then(|text| findings.ok(&layout_path, text.parse()));
    let layout: Layout = layout.unwrap_or_default();
    let written = raw.defaults.as_ref().map(handling::Written::from).unwrap_or_default();
    let defaults = handling::merged(&Handling::default(), written, &root.key("defaults"), findings);
    let needs_images = matches!(scope, Scope::Mirror(detour) if !detour.list_is_optional);
    if raw.images.as_ref().is_none_or(Vec::is_empty) && needs_images {
        let path = root.key("images");
        findings.add_hint(&path, "there is nothing to mirror", "list at least one image under images:");
    }
    let places = images::Places { targets: &targets, layout: &layout, harbors: harbor::hosts(raw.registries.as_ref()) };
    let images = images::rules(raw.images.as_deref().unwrap_or_default(), &places, &defaults, findings);
    let used: BTreeSet<Registry> = match scope {
        Scope::Settings(hosts) => hosts.iter().cloned().collect(),
        Scope::Mirror(detour) => {
            let asks_sources = detour.from.is_none() && !detour.targets_only;
            let sources = images.iter().map(|rule| rule.repository.registry()).filter(|_| asks_sources);
            sources.chain(targets.iter().map(|target| &target.registry)).cloned().collect()
        }
    };
    let registries = registries::settings(raw.registries.as_ref(), &used, env, findings);
    let limits = limits::limits(raw.limits.as_ref(), findings);
    Config { targets, layout, images, registries, limits, used, lacking: None }
}

fn targets(raw: &RawConfig, scope: Scope<'_>, findings: &mut Findings<'_>) -> Vec<TargetRoot> {
    if let Scope::Mirror(Overrides { target: Some(target), .. }) = scope {
        return vec![target.clone()];
    }
    let root = KeyPath::default();
    let list = root.key("targets");
    let written: Vec<(KeyPath, &str)> = match (&raw.target, &raw.targets) {
        (Some(_), Some(_)) => {
            findings.add_hint(&list, "there is target: already", "put all of them under targets:");
            return Vec::new();
        }
        (Some(target), None) => vec![(root.key("target"), target)],
        (None, Some(targets)) => targets.iter().enumerate().map(|(i, text)| (list.index(i), text.as_str())).collect(),
        (None, None) => Vec::new(),
    };
    if written.is_empty() && matches!(scope, Scope::Mirror(_)) {
        let message = "there is no target";
        findings.add_hint(&list, message, "say where images go: target: registry.example.com/mirror");
    }
    let mut targets: Vec<TargetRoot> = Vec::new();
    for (path, text) in written {
        if text.contains("://") {
            let hint = "write host[:port][/prefix]; plain HTTP is set under registries:";
            findings.add_hint(&path, format!("`{text}` has a scheme"), hint);
        } else if let Some(target) = findings.ok(&path, text.parse::<TargetRoot>()) {
            let target = target.seen_from(findings.folder);
            if targets.contains(&target) {
                findings.add(&path, format!("`{target}` is a target already"));
            } else {
                targets.push(target);
            }
        }
    }
    targets
}
