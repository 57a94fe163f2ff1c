//! OCI image layouts as locations: `oci:DIR[:REFERENCE]`, as in skopeo; the first `:` after `oci:` ends DIR.
//!
//! A layout takes the place of a registry, and a name in it takes that of a repository: `docker.io/library/nginx`
//! in `docker.io/library/nginx:1.27`. An image that has only a tag has an empty repository name (image-spec
//! `annotations.md`, `org.opencontainers.image.ref.name`).

use std::path::Path;
use std::str::FromStr;

use super::place;
use super::{Reference, ReferenceError, Registry, Repository, Tag};
use crate::oci::Digest;

/// A location given by a user: in a layout, or in a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// Verbatim: the context decides what it abbreviates.
    Registry(String),
    /// In a layout: the image REFERENCE, or all of it.
    Layout {
        /// `oci:DIR`.
        layout: Registry,
        /// Verbatim.
        reference: Option<String>,
    },
}

impl Location {
    /// Whether `text` is a location in a layout.
    pub(crate) fn is_layout(text: &str) -> bool {
        text.starts_with(place::LAYOUT)
    }
}

impl FromStr for Location {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let Some(rest) = text.strip_prefix(place::LAYOUT) else { return Ok(Self::Registry(text.to_owned())) };
        let (dir, reference) = rest.split_once(':').unwrap_or((rest, ""));
        let layout = Registry::in_directory(Path::new(dir)).ok_or_else(|| ReferenceError::Layout(text.to_owned()))?;
        Ok(Self::Layout { layout, reference: (!reference.is_empty()).then(|| reference.to_owned()) })
    }
}

impl Repository {
    pub(super) fn in_layout(layout: Registry, name: &str) -> Result<Self, ReferenceError> {
        let sane = |b: u8| b.is_ascii_alphanumeric() || b"-._:/+[]".contains(&b);
        if !name.bytes().all(sane) {
            return Err(ReferenceError::Name(name.to_owned()));
        }
        if name.len() > 255 {
            return Err(ReferenceError::Length(name.to_owned()));
        }
        Ok(Self { registry: layout, path: name.into() })
    }

    /// Whether it is the empty name in a layout, for images that have only a tag.
    pub fn is_nameless(&self) -> bool {
        self.path.is_empty()
    }

    /// The scope of shared blobs: all repositories of a layout share their content, while those of a registry
    /// don't.
    pub fn blob_scope(&self) -> Self {
        if self.registry.shares_content() {
            return Self { registry: self.registry.clone(), path: "".into() };
        }
        self.clone()
    }

    /// Parses `text` as a name in `layout`, `[NAME:]TAG` or `[NAME][@DIGEST]`: the last `:` without a `/` after it
    /// begins the tag, and a single word is a tag.
    ///
    /// # Errors
    /// If a part of it is invalid.
    pub fn called(layout: &Registry, text: &str) -> Result<(Self, Option<Tag>, Option<Digest>), ReferenceError> {
        let (rest, digest) = text.split_once('@').map_or((text, None), |(rest, digest)| (rest, Some(digest)));
        let (name, tag) = match rest.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ if digest.is_none() && !rest.contains('/') => ("", Some(rest)),
            _ => (rest, None),
        };
        let tag = tag.map(str::parse).transpose()?;
        Ok((Self::in_layout(layout.clone(), name)?, tag, digest.map(str::parse).transpose()?))
    }
}

impl Reference {
    /// The reference with the given tag and digest; `None` if neither is given.
    pub fn of(repository: Repository, tag: Option<Tag>, digest: Option<Digest>) -> Option<Self> {
        (tag.is_some() || digest.is_some()).then_some(Self { repository, tag, digest })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const D: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn layout(dir: &str) -> Registry {
        Registry::in_directory(Path::new(dir)).unwrap()
    }

    #[test]
    fn the_first_colon_ends_the_directory() {
        for (text, dir, reference) in [
            ("oci:dir", "dir", None),
            ("oci:dir:", "dir", None),
            ("oci:./a/./b/", "a/b", None),
            ("oci:.", ".", None),
            ("oci:../up", "../up", None),
            ("oci:/var/images:1.27", "/var/images", Some("1.27")),
            ("oci:5000:localhost:5000/a:1", "5000", Some("localhost:5000/a:1")),
        ] {
            let expected = Location::Layout { layout: layout(dir), reference: reference.map(str::to_owned) };
            assert_eq!(text.parse(), Ok(expected), "{text}");
            assert_eq!(layout(dir).directory(), Some(Path::new(dir)));
        }
        assert_eq!("oci/dir:1".parse(), Ok(Location::Registry("oci/dir:1".into())));
        for bad in ["oci:", "oci::1.27"] {
            assert_eq!(bad.parse::<Location>(), Err(ReferenceError::Layout(bad.into())));
        }
    }

    #[test]
    fn names_in_a_layout_are_displayed_in_skopeos_syntax() {
        let pinned = format!("docker.io/library/python@{D}");
        let nameless = format!("@{D}");
        for (text, name, tag) in [
            ("1.27", "", Some("1.27")),
            ("nginx:1.27", "nginx", Some("1.27")),
            ("localhost:5000/a/b:V_1", "localhost:5000/a/b", Some("V_1")),
            ("[::1]:5000/a:1", "[::1]:5000/a", Some("1")),
            (pinned.as_str(), "docker.io/library/python", None),
            (nameless.as_str(), "", None),
        ] {
            let (repository, found, digest) = Repository::called(&layout("a/b"), text).unwrap();
            assert_eq!((repository.path(), found.as_ref().map(Tag::as_str)), (name, tag), "{text}");
            let reference = Reference::of(repository, found, digest).unwrap();
            assert_eq!(reference.to_string(), format!("oci:a/b:{text}"));
        }
        let (bare, tag, digest) = Repository::called(&layout("d"), "localhost:5000/a").unwrap();
        assert_eq!((bare.to_string().as_str(), Reference::of(bare, tag, digest)), ("oci:d:localhost:5000/a", None));
        for bad in ["a b:1", "nginx:1+2", "a/b:é", "a@sha256:x"] {
            assert!(Repository::called(&layout("d"), bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_layout_has_no_host() {
        let (layout, host) = (layout("5000"), "oci:5000".parse::<Registry>().unwrap());
        assert_eq!(layout.to_string(), host.to_string());
        assert_ne!(layout, host);
        assert_eq!((layout.host(), layout.is_loopback()), ("", false));
        assert!(Repository::new(layout, "localhost:5000/A").is_ok() && Repository::new(host, "A").is_err());
    }
}
