//! Selects the store for a name: a registry, or an OCI image layout.

use std::sync::Arc;

use super::layout::LayoutStores;
use super::{Source, Stores, Target};
use crate::error::{Error, Kind, Result};
use crate::oci::{Registry, Repository};

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
}

impl Stores for Places {
    fn source(&self, repository: &Repository) -> Result<Arc<dyn Source>> {
        match (&self.from, repository.registry().layout()) {
            (_, Some(_)) => self.layouts.source(repository),
            (None, None) => self.registries.source(repository),
            (Some(layout), None) => {
                let inside = Repository::new(layout.clone(), &repository.to_string());
                let inside = inside.map_err(|error| {
                    Error::new(Kind::Invalid, format!("find {repository} in {layout}"), error.to_string())
                })?;
                self.layouts.source(&inside)
            }
        }
    }

    fn target(&self, repository: &Repository) -> Result<Arc<dyn Target>> {
        match repository.registry().layout() {
            Some(_) => self.layouts.target(repository),
            None => self.registries.target(repository),
        }
    }

    fn alternative(&self, repository: &Repository) -> Result<Arc<dyn Source>> {
        match repository.registry().layout() {
            Some(_) => self.layouts.alternative(repository),
            None => self.registries.alternative(repository),
        }
    }
}
