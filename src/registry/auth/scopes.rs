//! The scopes of a token (the distribution project's token specification, "Scope").

use std::sync::Arc;

/// A sorted set of scopes, `repository:PATH:ACTIONS` each.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Scopes(Arc<[String]>);

impl Scopes {
    /// To read `path`, or also to write it.
    pub(crate) fn of(path: &str, writes: bool) -> Self {
        let actions = if writes { "pull,push" } else { "pull" };
        Self([format!("repository:{path}:{actions}")].into())
    }

    /// The scopes from a challenge.
    pub(crate) fn named(mut scopes: Vec<String>) -> Self {
        scopes.sort();
        Self(scopes.into())
    }

    /// These scopes, and to read `path`.
    #[must_use]
    pub(crate) fn and_pull(&self, path: &str) -> Self {
        let mut all: Vec<String> = self.0.iter().cloned().chain([format!("repository:{path}:pull")]).collect();
        all.sort();
        Self(all.into())
    }

    /// To read and write each of `paths`, which are sorted.
    pub(crate) fn of_all<'a>(paths: impl Iterator<Item = &'a str>) -> Self {
        Self(paths.map(|path| format!("repository:{path}:pull,push")).collect())
    }

    /// The repositories in the scopes.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &str> {
        self.iter().filter_map(|scope| Some(scope.strip_prefix("repository:")?.rsplit_once(':')?.0))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn joined(&self) -> String {
        self.0.join(" ")
    }
}
