//! The registry client in tests: without credentials, over plain HTTP on loopback.

use std::collections::BTreeMap;
use std::sync::Arc;

use transship::aws::Sessions;
use transship::config::Limits;
use transship::oci::Repository;
use transship::registry::Hosts;
use transship::store::registry::RegistryStores;
use transship::store::{Stores, Target};

/// Stores on registries of this machine.
pub(crate) fn registry_stores() -> Arc<dyn Stores> {
    let hosts = Hosts::new(BTreeMap::new(), &Limits::default(), Arc::new(Sessions::new()));
    Arc::new(RegistryStores::new(Arc::new(hosts)))
}

/// One repository of them.
pub(crate) fn registry_target(repository: &Repository) -> Arc<dyn Target> {
    registry_stores().target(repository).expect("loopback needs no settings")
}
