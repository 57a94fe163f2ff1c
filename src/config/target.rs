//! Where images go: target roots and the layout under them.

use std::fmt;
use std::str::FromStr;

use crate::oci::{ReferenceError, Registry, Repository};

/// `REGISTRY[/PREFIX]`. The first segment is always the registry: Docker Hub's defaults don't apply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetRoot {
    /// The registry.
    pub registry: Registry,
    /// The path before each repository, without slashes at its ends; may be empty.
    pub prefix: String,
}

impl TargetRoot {
    /// The repository `path` under this root.
    ///
    /// # Errors
    /// If prefix and path make no repository name.
    pub fn repository(&self, path: &str) -> Result<Repository, ReferenceError> {
        let Self { registry, prefix } = self;
        if prefix.is_empty() {
            return Repository::new(registry.clone(), path);
        }
        Repository::new(registry.clone(), &format!("{prefix}/{path}"))
    }
}

impl FromStr for TargetRoot {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
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
    /// The path under a target for the repository `source`.
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
