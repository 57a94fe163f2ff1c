//! Errors for settings that prevent connections to a host.

use crate::error::{Error, Kind};
use crate::oci::Registry;

pub(crate) fn unusable(registry: &Registry, why: impl Into<String>) -> Error {
    Error::new(Kind::Configuration, format!("set up {registry}"), why)
}

pub(crate) fn at_key(registry: &Registry, key: &str, why: &str) -> Error {
    unusable(registry, format!("registries.{registry}.{key}: {why}"))
}
