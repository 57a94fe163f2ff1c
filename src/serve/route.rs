//! Parses paths (distribution-spec, "Endpoints"), from the end: a repository may be called `a/manifests/b`.

use super::reply::{Code, Refusal};
use crate::oci::{Digest, Registry, Repository, Selector};

/// An endpoint with its validated parameters.
#[derive(Debug, PartialEq)]
pub(super) enum Route {
    Base,
    Manifest(Repository, Selector),
    Blob(Repository, Digest),
    Uploads(Repository),
    Upload(Repository, String),
    Tags(Repository),
    Referrers(Repository, Digest),
}

impl Route {
    pub(super) fn of(registry: &Registry, path: &str) -> Result<Self, Refusal> {
        // The only character of digests that some clients encode.
        let path = path.replace("%3A", ":").replace("%3a", ":");
        let unknown = || Refusal::new(Code::NameUnknown, "unknown endpoint");
        let rest = path.strip_prefix("/v2").ok_or_else(unknown)?;
        if matches!(rest, "" | "/") {
            return Ok(Self::Base);
        }
        let segments: Vec<&str> = rest.split('/').skip(1).collect();
        let repository = |name: &[&str]| {
            Repository::new(registry.clone(), &name.join("/"))
                .map_err(|e| Refusal::new(Code::NameInvalid, e.to_string()))
        };
        match segments.as_slice() {
            [name @ .., "blobs", "uploads"] | [name @ .., "blobs", "uploads", ""] => {
                Ok(Self::Uploads(repository(name)?))
            }
            [name @ .., "blobs", "uploads", id] => Ok(Self::Upload(repository(name)?, (*id).to_owned())),
            [name @ .., "blobs", text] => Ok(Self::Blob(repository(name)?, digest(text)?)),
            [name @ .., "manifests", text] => Ok(Self::Manifest(repository(name)?, selector(text)?)),
            [name @ .., "referrers", text] => Ok(Self::Referrers(repository(name)?, digest(text)?)),
            [name @ .., "tags", "list"] => Ok(Self::Tags(repository(name)?)),
            _ => Err(unknown()),
        }
    }

    /// The supported methods: content is never deleted.
    pub(super) fn methods(&self) -> &'static str {
        match self {
            Self::Base | Self::Blob(..) => "GET, HEAD",
            Self::Manifest(..) => "GET, HEAD, PUT",
            Self::Uploads(_) => "POST",
            Self::Upload(..) => "GET, PATCH, PUT, DELETE",
            Self::Tags(_) | Self::Referrers(..) => "GET",
        }
    }
}

pub(super) fn digest(text: &str) -> Result<Digest, Refusal> {
    text.parse().map_err(|e: crate::oci::DigestError| Refusal::new(Code::DigestInvalid, e.to_string()))
}

fn selector(text: &str) -> Result<Selector, Refusal> {
    if text.contains(':') {
        return digest(text).map(Selector::Digest);
    }
    // An invalid tag doesn't exist (distribution-spec, "Pulling manifests").
    let tag =
        text.parse().map_err(|e: crate::oci::ReferenceError| Refusal::new(Code::ManifestUnknown, e.to_string()))?;
    Ok(Selector::Tag(tag))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repository_names_may_contain_segments_that_look_like_endpoints() {
        let registry: Registry = "localhost".parse().unwrap();
        let repository = |path: &str| Repository::new(registry.clone(), path).unwrap();
        let d = Digest::of(b"");
        let encoded = d.as_str().replace(':', "%3A");
        for (path, expected) in [
            ("/v2/".to_owned(), Route::Base),
            ("/v2/a/manifests/b/manifests/1".into(), {
                Route::Manifest(repository("a/manifests/b"), Selector::Tag("1".parse().unwrap()))
            }),
            (format!("/v2/a/b/manifests/{d}"), Route::Manifest(repository("a/b"), Selector::Digest(d.clone()))),
            (format!("/v2/a/blobs/{encoded}"), Route::Blob(repository("a"), d.clone())),
            ("/v2/a/blobs/uploads/".into(), Route::Uploads(repository("a"))),
            ("/v2/a/blobs/uploads/7".into(), Route::Upload(repository("a"), "7".into())),
            ("/v2/tags/list/tags/list".into(), Route::Tags(repository("tags/list"))),
            (format!("/v2/a/referrers/{d}"), Route::Referrers(repository("a"), d.clone())),
        ] {
            assert_eq!(Route::of(&registry, &path).unwrap(), expected, "{path}");
        }
        for path in ["/", "/v1/", "/v2/a", "/v2/A/tags/list", "/v2/tags/list", "/v2/a/blobs/latest", "/v2/a/manifests/"]
        {
            assert!(Route::of(&registry, path).is_err(), "{path}");
        }
    }
}
