//! Registries, repositories, tags and references (distribution-spec "Pulling manifests" gives the grammar of names and
//! tags; Docker's reference grammar gives the short forms).
//!
//! Docker Hub's defaults (`docker.io`, `library/`, `latest`) live in the `FromStr` of this file and nowhere else.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::{Digest, DigestError};

mod location;
mod place;
mod unusual;

pub use location::Location;
pub(crate) use place::Place;
pub use place::Registry;

/// Why a text isn't a reference, or isn't the expected part of one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// Not `host[:port]`.
    #[error("`{0}` isn't a registry: expected host[:port] without scheme or path")]
    Registry(String),
    /// A path that violates the grammar of repository names.
    #[error(
        "`{0}` isn't a repository name: expected lower-case letters, digits and single . _ - between them, divided by /"
    )]
    Repository(String),
    /// An invisible or confusable character, which no reference has.
    #[error("`{shown}` contains {sign}, which isn't allowed in a reference: type it again")]
    Sign {
        /// The text, with such characters made visible.
        shown: String,
        /// The character.
        sign: String,
    },
    /// An image that isn't in a registry, or a reference with another tool's prefix.
    #[error("`{0}` isn't the reference of an image in a registry: {1}")]
    Transport(String, &'static str),
    /// A tag with a `+`, as in a version.
    #[error("`{0}` isn't a tag: + isn't allowed, and Helm and others store it as `{1}`")]
    Plus(String, String),
    /// A tag that violates the grammar.
    #[error("`{0}` isn't a tag: expected up to 128 letters, digits, _ . - and none of . - first")]
    Tag(String),
    /// An invalid digest.
    #[error(transparent)]
    Digest(#[from] DigestError),
    /// A tag or digest where only a repository is allowed.
    #[error("`{0}` has a tag or digest: expected a repository")]
    NotBare(String),
    /// Longer than the 255 characters that registries accept.
    #[error("`{0}` is longer than 255 characters")]
    Length(String),
    /// Not `oci:DIR[:REFERENCE]`.
    #[error("`{0}` isn't a layout: expected oci:DIR[:REFERENCE], with no : in DIR")]
    Layout(String),
    /// A name in a layout where only a layout is allowed.
    #[error("`{0}` names an image in a layout: expected the whole layout, oci:DIR, with no : in DIR")]
    PartOfLayout(String),
    /// A name that is invalid in a layout.
    #[error("`{0}` isn't a name in a layout: expected letters, digits and . _ - : / + without spaces")]
    Name(String),
}

/// A repository in a registry, or one name in a layout. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Repository {
    registry: Registry,
    path: Arc<str>,
}

impl Repository {
    /// The repository `path` of `registry`, both verbatim: no defaults apply. In a layout the name may be empty.
    ///
    /// # Errors
    /// If `path` violates the grammar of repository names; in a layout, the grammar of names there, which accepts a
    /// whole `host:port/repository`.
    pub fn new(registry: Registry, path: &str) -> Result<Self, ReferenceError> {
        if registry.keeps_source_names() {
            return Self::in_layout(registry, path);
        }
        let error = || ReferenceError::Repository(path.to_owned());
        if !path.split('/').all(is_path_component) {
            return Err(error());
        }
        if registry.as_str().len() + 1 + path.len() > 255 {
            return Err(ReferenceError::Length(path.to_owned()));
        }
        Ok(Self { registry, path: path.into() })
    }

    /// The repository `path` below `prefix` at `registry`; the prefix may be empty.
    ///
    /// # Errors
    /// As [`Repository::new`].
    pub fn below(registry: &Registry, prefix: &str, path: &str) -> Result<Self, ReferenceError> {
        if prefix.is_empty() {
            return Self::new(registry.clone(), path);
        }
        Self::new(registry.clone(), &format!("{prefix}/{path}"))
    }

    /// The registry or layout.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The name within the registry, `library/nginx`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The last segment of the path.
    pub fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default()
    }
}

impl FromStr for Repository {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        unusual::check(text)?;
        let parts = Parts::of(text);
        if parts.tag.is_some() || parts.digest.is_some() {
            return Err(ReferenceError::NotBare(text.to_owned()));
        }
        parts.repository()
    }
}

/// `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag(Arc<str>);

impl Tag {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Tag {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        unusual::check_signs(text)?;
        if let Some(plain) = unusual::without_plus(text) {
            return Err(ReferenceError::Plus(text.to_owned(), plain));
        }
        let first = text.bytes().next().is_some_and(word);
        if !first || text.len() > 128 || !text.bytes().all(|b| word(b) || b == b'.' || b == b'-') {
            return Err(ReferenceError::Tag(text.to_owned()));
        }
        Ok(Self(text.into()))
    }
}

/// A repository with a tag, a digest, or both. With both, the digest identifies the content, and the tag names it.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    repository: Repository,
    tag: Option<Tag>,
    digest: Option<Digest>,
}

/// A tag or a digest: `<reference>` in the distribution specification.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Selector {
    /// By a name that may move.
    Tag(Tag),
    /// By content.
    Digest(Digest),
}

impl From<Tag> for Selector {
    fn from(tag: Tag) -> Self {
        Self::Tag(tag)
    }
}

impl From<Digest> for Selector {
    fn from(digest: Digest) -> Self {
        Self::Digest(digest)
    }
}

impl Selector {
    /// The text, as in a URL.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Tag(tag) => tag.as_str(),
            Self::Digest(digest) => digest.as_str(),
        }
    }
}

impl Reference {
    /// A reference by a tag.
    pub fn tagged(repository: Repository, tag: Tag) -> Self {
        Self { repository, tag: Some(tag), digest: None }
    }

    /// A reference by a digest alone.
    pub fn digested(repository: Repository, digest: Digest) -> Self {
        Self { repository, tag: None, digest: Some(digest) }
    }

    /// The same, pinned to `digest`.
    #[must_use]
    pub fn pinned(&self, digest: Digest) -> Self {
        Self { digest: Some(digest), ..self.clone() }
    }

    /// The repository.
    pub fn repository(&self) -> &Repository {
        &self.repository
    }

    /// The tag, if it has one.
    pub fn tag(&self) -> Option<&Tag> {
        self.tag.as_ref()
    }

    /// The digest, if it has one.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// What to request from a registry: the digest if there is one, otherwise the tag.
    pub fn selector(&self) -> Selector {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => Selector::Digest(digest.clone()),
            (None, Some(tag)) => Selector::Tag(tag.clone()),
            (None, None) => unreachable!("a reference has a tag or a digest: its constructors see to it"),
        }
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        unusual::check(text)?;
        let parts = Parts::of(text);
        let repository = parts.repository()?;
        let digest = parts.digest.map(str::parse).transpose()?;
        let tag = match (parts.tag, &digest) {
            (Some(tag), _) => Some(tag.parse()?),
            (None, None) => Some(Tag("latest".into())),
            (None, Some(_)) => None,
        };
        Ok(Self { repository, tag, digest })
    }
}

/// `[registry/]path[:tag][@digest]`, split but not yet validated.
struct Parts<'a> {
    registry: Option<&'a str>,
    path: &'a str,
    tag: Option<&'a str>,
    digest: Option<&'a str>,
}

impl<'a> Parts<'a> {
    fn of(text: &'a str) -> Self {
        let (rest, digest) = text.split_once('@').map_or((text, None), |(rest, digest)| (rest, Some(digest)));
        let (registry, rest) = match rest.split_once('/') {
            // Docker's rule: a first segment with a dot or a port, or `localhost`, is a host.
            Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => (Some(first), rest),
            _ => (None, rest),
        };
        let (path, tag) = rest.split_once(':').map_or((rest, None), |(path, tag)| (path, Some(tag)));
        Self { registry, path, tag, digest }
    }

    fn repository(&self) -> Result<Repository, ReferenceError> {
        let registry: Registry = self.registry.unwrap_or(Registry::DOCKER_HUB).parse()?;
        if registry.as_str() == Registry::DOCKER_HUB && !self.path.contains('/') {
            return Repository::new(registry, &format!("library/{}", self.path))
                .map_err(|_| ReferenceError::Repository(self.path.to_owned()));
        }
        Repository::new(registry, self.path)
    }
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_path_component(component: &str) -> bool {
    let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let separators_are_sound = || {
        let separators = component.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
        separators.into_iter().all(|s| matches!(s, "" | "." | "_" | "__") || s.bytes().all(|b| b == b'-'))
    };
    let bytes = component.as_bytes();
    bytes.first().copied().is_some_and(word) && bytes.last().copied().is_some_and(word) && separators_are_sound()
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_nameless() {
            return f.write_str(self.registry.as_str());
        }
        write!(f, "{}{}{}", self.registry.as_str(), self.registry.separator(), self.path)
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.repository)?;
        if self.repository.is_nameless() && self.tag.is_none() {
            f.write_str(":")?;
        }
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        self.digest.as_ref().map_or(Ok(()), |digest| write!(f, "@{digest}"))
    }
}

macro_rules! debug_by_display {
    ($($type:ty),+) => {$(
        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{self}")
            }
        }
    )+};
}
debug_by_display!(Registry, Repository, Tag, Reference);

#[cfg(test)]
mod tests;
