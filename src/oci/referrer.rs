//! Referrers: manifests about another manifest, its subject, and the ways to find them (distribution-spec, "Listing
//! Referrers" and "Referrers Tag Schema"; cosign's signature specification for the tags).

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Descriptor, Digest, Manifest, MediaType, Tag, descriptor};

/// A manifest about another one: a signature, an SBOM, an attestation.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Referrer {
    /// The digest of its manifest.
    pub digest: Digest,
    /// The media type of its manifest.
    pub media_type: MediaType,
    /// Its artifact type, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The tag by which it is found, unless it is found by its subject alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<Tag>,
}

/// cosign's tag suffixes for content that belongs to an image, and the artifact type that each implies.
const BY_TAG: [(&str, &str); 3] = [
    ("sig", "application/vnd.dev.cosign.artifact.sig.v1+json"),
    ("att", "application/vnd.dev.cosign.artifact.att.v1+json"),
    ("sbom", "application/vnd.dev.cosign.artifact.sbom.v1+json"),
];

/// An entry of a list of referrers.
#[derive(Deserialize)]
struct Listed {
    #[serde(default)]
    manifests: Option<Vec<Entry>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    digest: Digest,
    #[serde(default = "descriptor::octets", deserialize_with = "descriptor::or_octets")]
    media_type: MediaType,
    artifact_type: Option<String>,
}

/// Whether `artifact_type` is meaningful. GHCR lists the type of an empty config instead, whatever the manifest
/// contains.
fn says_something(artifact_type: &str) -> bool {
    !matches!(artifact_type, "" | MediaType::OCI_EMPTY)
}

impl Referrer {
    /// The entries of `index`, from the referrers API or the fallback tag: each digest once, in order.
    ///
    /// # Errors
    /// If it isn't an index.
    pub fn in_index(index: &[u8]) -> Result<Vec<Self>, serde_json::Error> {
        let listed: Listed = serde_json::from_slice(index)?;
        let mut seen = std::collections::HashSet::new();
        let entries = listed.manifests.into_iter().flatten().filter(|entry| seen.insert(entry.digest.clone()));
        let referrers = entries.map(|Entry { digest, media_type, artifact_type }| Self {
            digest,
            media_type,
            artifact_type: artifact_type.filter(|text| says_something(text)),
            tag: None,
        });
        Ok(referrers.collect())
    }

    /// The descriptor that lists `manifest` as a referrer: with its artifact type, or otherwise that of its config,
    /// and its annotations (distribution-spec, "Pushing Manifests with Subject").
    pub fn entry(manifest: &Manifest) -> Value {
        let of = manifest.descriptor();
        let mut listed = Map::new();
        listed.insert("mediaType".into(), of.media_type.to_string().into());
        listed.insert("digest".into(), of.digest.to_string().into());
        listed.insert("size".into(), of.size.into());
        // It was parsed before, when the manifest was created.
        let inside: Value = serde_json::from_slice(manifest.bytes()).unwrap_or_default();
        let artifact_type = inside["artifactType"].as_str().filter(|text| !text.is_empty());
        if let Some(artifact_type) = artifact_type.or_else(|| inside["config"]["mediaType"].as_str()) {
            listed.insert("artifactType".into(), artifact_type.into());
        }
        if inside["annotations"].is_object() {
            listed.insert("annotations".into(), inside["annotations"].clone());
        }
        Value::Object(listed)
    }

    /// `manifest` as a referrer that is found by its subject.
    pub fn of(manifest: &Manifest) -> Self {
        let artifact_type = Self::entry(manifest)["artifactType"].as_str().map(ToOwned::to_owned);
        let artifact_type = artifact_type.filter(|text| says_something(text));
        let Descriptor { media_type, digest, .. } = manifest.descriptor().clone();
        Self { digest, media_type, artifact_type, tag: None }
    }

    /// The artifact type for filters: its own, or otherwise the one that its tag implies.
    pub fn kind(&self) -> Option<&str> {
        let suffix = || self.tag.as_ref()?.as_str().rsplit_once('.').map(|(_, suffix)| suffix);
        let by_tag = || BY_TAG.iter().find(|(word, _)| suffix() == Some(*word)).map(|(_, kind)| *kind);
        self.artifact_type.as_deref().or_else(by_tag)
    }
}

impl Digest {
    /// The tag under which a registry without the referrers API keeps the index of referrers of this digest. The
    /// specification truncates it to the 128 characters that a tag may have.
    pub fn referrers_tag(&self) -> Tag {
        let text = self.as_str().replace(':', "-");
        text[..text.len().min(128)].parse().expect("letters, digits and a dash")
    }

    /// The tags under which cosign stores signatures, attestations and SBOMs of this digest. Empty for a digest
    /// that is too long for a tag.
    pub fn cosign_tags(&self) -> impl Iterator<Item = Tag> {
        let base = self.as_str().replace(':', "-");
        BY_TAG.iter().filter_map(move |(suffix, _)| format!("{base}.{suffix}").parse().ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_of_a_referrers_index_are_unique_and_in_order() {
        let [a, b] = [Digest::of(b"a"), Digest::of(b"b")];
        let entry = |digest: &Digest, kind: &str| {
            format!(r#"{{"mediaType":"x/y","digest":"{digest}","size":1,"artifactType":"{kind}"}}"#)
        };
        let index = format!(r#"{{"manifests":[{},{},{}]}}"#, entry(&b, "k"), entry(&a, ""), entry(&b, "k"));
        let found = Referrer::in_index(index.as_bytes()).unwrap();
        let found: Vec<_> = found.iter().map(|one| (&one.digest, one.artifact_type.as_deref())).collect();
        assert_eq!(found, [(&b, Some("k")), (&a, None)]);
        let index = format!(r#"{{"manifests":[{}]}}"#, entry(&a, MediaType::OCI_EMPTY));
        assert_eq!(Referrer::in_index(index.as_bytes()).unwrap()[0].artifact_type, None);
        assert_eq!(Referrer::in_index(b"{}").unwrap(), []);
        assert!(Referrer::in_index(b"<html>").is_err());
    }

    #[test]
    fn referrer_tags_are_the_digest_with_a_dash() {
        let digest = Digest::of(b"");
        let base = format!("sha256-{}", digest.hex());
        assert_eq!(digest.referrers_tag().as_str(), base);
        let cosign: Vec<String> = digest.cosign_tags().map(|tag| tag.to_string()).collect();
        assert_eq!(cosign, [format!("{base}.sig"), format!("{base}.att"), format!("{base}.sbom")]);
        let long: Digest = format!("sha512:{}", "a".repeat(128)).parse().unwrap();
        assert_eq!(long.referrers_tag().as_str().len(), 128);
        assert_eq!(long.cosign_tags().count(), 0);
    }

    #[test]
    fn the_suffix_of_a_tag_gives_the_kind_of_referrer() {
        let mut referrer = Referrer {
            digest: Digest::of(b"s"),
            media_type: MediaType::OCI_MANIFEST.parse().unwrap(),
            artifact_type: None,
            tag: Digest::of(b"").cosign_tags().next(),
        };
        assert_eq!(referrer.kind(), Some("application/vnd.dev.cosign.artifact.sig.v1+json"));
        referrer.artifact_type = Some("a/b".into());
        assert_eq!(referrer.kind(), Some("a/b"));
    }
}
