//! Where repositories are: at a registry, or in a directory.
//!
//! What differs between the kinds of place is asked by the questions of [`Registry`] here, and answered for each kind;
//! only [`Places`](crate::store::Places) has to know the kind itself, to open the store.

use std::fmt;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use super::{ReferenceError, unusual};

/// The prefix that distinguishes a layout from a registry.
pub(super) const LAYOUT: &str = "oci:";

/// The location of repositories: `host[:port]`, in lower case, or an OCI image layout. `docker.io`,
/// `index.docker.io` and `registry-1.docker.io` are the same registry. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Registry(Place);

/// The kinds of place. A host may be called `oci`, so the text alone is ambiguous.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Place {
    /// `host[:port]`, which speaks the distribution specification's protocol.
    Host(Arc<str>),
    /// `oci:DIR`, an OCI image layout.
    Layout(Arc<str>),
}

impl Registry {
    /// The canonical name of Docker Hub.
    pub const DOCKER_HUB: &'static str = "docker.io";

    /// The layout in the directory `dir`, which needn't exist. `None` for an empty path, and for one that isn't
    /// UTF-8.
    pub fn in_directory(dir: &Path) -> Option<Self> {
        // Two spellings of a path are one location, as far as that can be determined without file access.
        let plain: PathBuf = dir.components().filter(|part| *part != Component::CurDir).collect();
        let shown = match plain.to_str()? {
            "" if dir.as_os_str().is_empty() => return None,
            "" => ".",
            shown => shown,
        };
        Some(Self(Place::Layout(format!("{LAYOUT}{shown}").into())))
    }

    /// The kind of place.
    pub(crate) fn place(&self) -> &Place {
        &self.0
    }

    /// `host[:port]`, or `oci:DIR`.
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Place::Host(text) | Place::Layout(text) => text,
        }
    }

    /// The host without port and brackets; empty if it isn't one.
    pub fn host(&self) -> &str {
        let Place::Host(text) = &self.0 else { return "" };
        let host = match text.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
            _ => text,
        };
        host.trim_start_matches('[').trim_end_matches(']')
    }

    /// Whether it is this machine: such registries use plain HTTP by default.
    pub fn is_loopback(&self) -> bool {
        let host = self.host();
        host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }

    /// The directory on this machine, if it is one: it can be created, and read without a request.
    pub fn directory(&self) -> Option<&Path> {
        match &self.0 {
            Place::Host(_) => None,
            Place::Layout(text) => Some(Path::new(&text[LAYOUT.len()..])),
        }
    }

    /// The separator between it and a name in it.
    pub(super) fn separator(&self) -> char {
        match &self.0 {
            Place::Host(_) => '/',
            Place::Layout(_) => ':',
        }
    }

    /// Whether it is a registry: container runtimes pull from it, and it may have credentials, a quota and settings
    /// of its own under `registries:`.
    pub fn is_host(&self) -> bool {
        match &self.0 {
            Place::Host(_) => true,
            Place::Layout(_) => false,
        }
    }

    /// Whether it is reached over the network, so that each check costs a request.
    pub(crate) fn is_remote(&self) -> bool {
        match &self.0 {
            Place::Host(_) => true,
            Place::Layout(_) => false,
        }
    }

    /// Whether an image is stored under the full name of its source, rather than under a path.
    pub(crate) fn keeps_source_names(&self) -> bool {
        match &self.0 {
            Place::Host(_) => false,
            Place::Layout(_) => true,
        }
    }

    /// Whether all names share their content, so that an image may have several without harm.
    pub(crate) fn shares_content(&self) -> bool {
        match &self.0 {
            Place::Host(_) => false,
            Place::Layout(_) => true,
        }
    }
}

impl FromStr for Registry {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        unusual::check_signs(text)?;
        let error = || ReferenceError::Registry(text.to_owned());
        let lower = text.to_ascii_lowercase();
        // The URL parser knows all forms of hosts: names, IPv4, IPv6 in brackets.
        let url = url::Url::parse(&format!("http://{lower}/")).map_err(|_| error())?;
        let plain = url.path() == "/" && url.username().is_empty() && url.query().is_none() && url.fragment().is_none();
        let sane = |b: u8| b.is_ascii_alphanumeric() || b".-_:[]".contains(&b);
        if !plain || lower.is_empty() || !lower.bytes().all(sane) || lower.ends_with(':') {
            return Err(error());
        }
        Ok(Self(Place::Host(match lower.as_str() {
            "index.docker.io" | "registry-1.docker.io" => Self::DOCKER_HUB.into(),
            other => other.into(),
        })))
    }
}

impl fmt::Display for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
