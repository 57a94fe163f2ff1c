//! `--target` and `--from`: overrides of mirror.yaml.

use super::Unable;
use crate::config::{Overrides, TargetRoot};
use crate::oci::{Location, Registry};

/// The overrides that the flags ask for. Only a run without overrides, and for the whole list, provisions settings that
/// belong to no image.
pub(super) fn detour(to: Option<&str>, from: Option<&str>, only: &[String]) -> anyhow::Result<Overrides> {
    Ok(Overrides {
        target: to.map(target).transpose()?,
        from: from.map(layout).transpose()?,
        provisions: to.is_none() && from.is_none() && only.is_empty(),
        ..Overrides::default()
    })
}

/// Parses `--target`.
pub(super) fn target(text: &str) -> anyhow::Result<TargetRoot> {
    text.parse().map_err(|error| {
        let hint = "--target is REGISTRY[/PREFIX], such as harbor.example.com/mirror, or oci:DIR";
        Unable::error(format!("`{text}` isn't a target: {error}"), hint)
    })
}

fn layout(text: &str) -> anyhow::Result<Registry> {
    match text.parse() {
        Ok(Location::Layout { layout, reference: None }) => Ok(layout),
        _ => Err(Unable::error(
            format!("`{text}` isn't a layout"),
            "--from is oci:DIR, an OCI image layout, without REFERENCE: --only selects images",
        )),
    }
}
