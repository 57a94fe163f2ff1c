//! Targets: their roots, and the layout under them.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;
use std::str::FromStr;

use crate::oci::{Location, ReferenceError, Registry, Repository};

/// `REGISTRY[/PREFIX]`, where the first segment is always the registry and Docker Hub's defaults don't apply; or
/// `oci:DIR`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetRoot {
    /// The registry.
    pub registry: Registry,
    /// The path before each repository, without leading and trailing slashes; may be empty.
    pub prefix: String,
}

/// How a run differs from the file.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// The target that replaces the file's targets.
    pub target: Option<TargetRoot>,
    /// The layout that replaces the source registries.
    pub from: Option<Registry>,
    /// Whether no registry is used: settings for connections aren't needed, and no secret is read.
    pub asks_nobody: bool,
    /// Whether only targets are used: settings for connections to sources aren't needed.
    pub targets_only: bool,
    /// The only hosts that are used; they may be neither targets nor sources.
    pub only_hosts: Option<BTreeSet<Registry>>,
    /// What mirror.yaml wants besides repositories is provisioned, too: the hosts where that is are asked.
    pub provisions: bool,
    /// There may be nothing to mirror yet: the list is about to be written.
    pub list_is_optional: bool,
}

impl TargetRoot {
    /// The target repository of `source`: in a registry, `path` under this root. In a layout it has its canonical
    /// name, whatever `path` is, so that it is found by that name.
    ///
    /// # Errors
    /// As [`TargetRoot::repository`].
    pub fn place(&self, source: &Repository, path: &str) -> Result<Repository, ReferenceError> {
        if self.registry.keeps_source_names() {
            return Repository::new(self.registry.clone(), &source.to_string());
        }
        self.repository(path)
    }

    /// Whether `repository` is below this root.
    pub fn holds(&self, repository: &Repository) -> bool {
        let below = |path: &str| path.strip_prefix(&self.prefix).is_some_and(|rest| rest.starts_with('/'));
        *repository.registry() == self.registry && (self.prefix.is_empty() || below(repository.path()))
    }

    /// This target, with a layout's directory relative to `folder`.
    pub(super) fn seen_from(self, folder: &Path) -> Self {
        let inside = self.registry.directory().and_then(|dir| Registry::in_directory(&folder.join(dir)));
        inside.map_or(self.clone(), |registry| Self { registry, ..self })
    }

    /// The repository `path` under this root.
    ///
    /// # Errors
    /// If prefix and path don't form a repository name.
    pub fn repository(&self, path: &str) -> Result<Repository, ReferenceError> {
        Repository::below(&self.registry, &self.prefix, path)
    }
}

impl FromStr for TargetRoot {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        match text.parse()? {
            Location::Layout { layout, reference: None } => {
                return Ok(Self { registry: layout, prefix: String::new() });
            }
            Location::Layout { .. } => return Err(ReferenceError::PartOfLayout(text.to_owned())),
            Location::Registry(_) => {}
        }
        let (registry, prefix) = text.split_once('/').unwrap_or((text, ""));
        let registry: Registry = registry.parse()?;
        let prefix = prefix.trim_end_matches('/');
        if !prefix.is_empty() {
            Repository::new(registry.clone(), prefix)?;
        }
        Ok(Self { registry, prefix: prefix.to_owned() })
    }
}

impl fmt::Display for TargetRoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let slash = if self.prefix.is_empty() { "" } else { "/" };
        write!(f, "{}{slash}{}", self.registry, self.prefix)
    }
}

/// The template for target repositories: `{registry}`, `{repository}`, `{name}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout(String);

impl Layout {
    /// The path of the repository `source` under a target.
    pub fn path(&self, source: &Repository) -> String {
        self.0
            .replace("{registry}", &host_segment(source.registry()))
            .replace("{repository}", source.path())
            .replace("{name}", source.name())
    }
}

impl Default for Layout {
    fn default() -> Self {
        Self("{registry}/{repository}".into())
    }
}

impl FromStr for Layout {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let plain =
            ["{registry}", "{repository}", "{name}"].iter().fold(text.to_owned(), |t, name| t.replace(name, ""));
        if let Some(at) = plain.find(['{', '}']) {
            let near: String = plain[at..].chars().take(20).collect();
            return Err(format!("`{near}` isn't a placeholder: expected {{registry}}, {{repository}} or {{name}}"));
        }
        Ok(Self(text.to_owned()))
    }
}

/// A registry as one segment of a path: `localhost:5000` → `localhost-5000`, `[fd00::1]:5000` → `fd00--1-5000`.
fn host_segment(registry: &Registry) -> String {
    registry.as_str().replace(['[', ']'], "").replace(':', "-").trim_matches('-').to_owned()
}
