//! The folder and the maximum size of the manifest cache, from the environment.

use std::ffi::OsString;
use std::path::PathBuf;

use bytesize::ByteSize;

use super::Unable;
use crate::cli::Global;

/// The cache folder: as configured, otherwise by the XDG base directory specification.
pub(super) fn folder(global: &Global, env: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    if global.no_cache { None } else { root(env) }
}

/// [`folder`], whether or not the cache is used.
pub(super) fn root(env: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let set = |name: &str| env(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let absolute = |name: &str| set(name).filter(|path| path.is_absolute());
    let caches = || absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")));
    set("TRANSSHIP_CACHE_DIR").or_else(|| Some(caches()?.join("transship")))
}

/// The maximum size of the cache: as configured, otherwise 1 GiB.
pub(super) fn size(told: Option<&str>) -> anyhow::Result<u64> {
    let Some(text) = told.filter(|text| !text.is_empty()) else { return Ok(1 << 30) };
    let size = text.parse::<ByteSize>().map(|size| size.as_u64());
    size.map_err(|_| Unable::error(format!("TRANSSHIP_CACHE_SIZE: `{text}` isn't a size"), "write 500MiB or 2GiB"))
}
