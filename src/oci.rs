//! The nouns of the distribution and image specifications, as types that can't hold an invalid value.
//!
//! Pure: no I/O, no async. `FromStr` is the only parser of each type and `Display` its canonical text.

pub(crate) mod bounds;
mod descriptor;
mod digest;
mod listing;
mod manifest;
mod members;
mod platform;
mod reference;
mod referrer;
mod service;
mod subset;

pub use descriptor::{Descriptor, MediaType};
pub use digest::{Algorithm, Digest, DigestError, Mismatch, Verifier};
pub use listing::Listing;
pub use manifest::{ACCEPT, Edge, Kind, Manifest, ManifestError};
pub(crate) use members::Members;
pub use platform::Platform;
pub(crate) use reference::Place;
pub use reference::{Location, Reference, ReferenceError, Registry, Repository, Selector, Tag};
pub use referrer::Referrer;
pub use service::Service;
pub(crate) use subset::listed;
pub use subset::{Subset, SubsetError};

/// Implements serde for a newtype by its canonical text, so that `FromStr` stays the only parser.
macro_rules! serde_by_text {
    ($($type:ty),+) => {$(
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    )+};
}
serde_by_text!(Digest, MediaType, Platform, Registry, Repository, Reference, Tag);
