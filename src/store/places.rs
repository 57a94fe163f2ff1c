//! Selects the store for a name: a registry, or an OCI image layout.

use std::sync::Arc;

use super::layout::LayoutStores;
use super::{Source, Stores, Target};
use crate::error::{Error, Kind, Result, Side};
use crate::oci::{Place, Registry, Repository};

/// All places that a run may read from and write to.
#[derive(Debug)]
pub struct Places {
    registries: Arc<dyn Stores>,
    layouts: Arc<LayoutStores>,
    /// The layout that replaces all registries as sources.
    from: Option<Registry>,
}

impl Places {
    /// Combines these registries and layouts. With `from`, everything is read from that layout instead of a
    /// registry, where a repository has its canonical name.
    pub fn new(registries: Arc<dyn Stores>, layouts: Arc<LayoutStores>, from: Option<Registry>) -> Self {
        Self { registries, layouts, from }
    }

    /// The stores of the kind of place that `repository` is in.
    fn of(&self, repository: &Repository) -> &dyn Stores {
        match repository.registry().place() {
            Place::Host(_) => &*self.registries,
            Place::Layout(_) => &*self.layouts,
        }
    }
}

impl Stores for Places {
    fn source(&self, repository: &Repository) -> Result<Arc<dyn Source>> {
        let Some(layout) = self.from.as_ref().filter(|_| repository.registry().is_host()) else {
            return self.of(repository).source(repository);
        };
        let inside = Repository::new(layout.clone(), &repository.to_string());
        let inside = inside.map_err(|error| {
            let attempted = format!("find {repository} in {layout}");
            Error::new(Kind::Invalid, attempted, error.to_string()).on(Side::Source)
        })?;
        self.of(&inside).source(&inside)
    }

    fn target(&self, repository: &Repository) -> Result<Arc<dyn Target>> {
        self.of(repository).target(repository)
    }

    fn alternative(&self, repository: &Repository, waits: bool) -> Result<Arc<dyn Source>> {
        self.of(repository).alternative(repository, waits)
    }
}
