//! mirror.yaml as it is written: shapes and nothing else. What the values mean is checked afterwards, by path. The JSON schema
//! is derived from here: the comment of a key is what an editor shows.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use schemars::JsonSchema;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::schema;
use crate::select::Spec;

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub(super) struct RawConfig {
    /// The version of this file's format: 1.
    #[schemars(schema_with = "schema::version")]
    pub(super) version: Option<String>,
    /// Where images go: REGISTRY[/PREFIX], of which the first segment is always the registry, or oci:DIR, an OCI image layout.
    pub(super) target: Option<String>,
    /// Several targets, instead of `target`: each blob leaves the upstream once.
    #[schemars(schema_with = "schema::texts")]
    pub(super) targets: Option<Vec<String>>,
    /// How a source repository is named under a target, from {registry}, {repository} and {name}, its last segment. By
    /// default {registry}/{repository}.
    pub(super) layout: Option<String>,
    /// What to mirror.
    #[serde(deserialize_with = "list")]
    pub(super) images: Option<Vec<RawImage>>,
    /// What holds for each image that says nothing else.
    pub(super) defaults: Option<RawDefaults>,
    /// Settings by HOST[:PORT].
    pub(super) registries: Option<BTreeMap<String, Option<RawRegistry>>>,
    /// Bounds of a run.
    pub(super) limits: Option<RawLimits>,
}

/// A list, and nothing that only stands for one: a single image is more likely a mistake.
fn list<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<RawImage>>, D::Error> {
    struct List;

    impl<'de> Visitor<'de> for List {
        type Value = Option<Vec<RawImage>>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list")
        }

        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
            let mut images = Vec::new();
            while let Some(image) = items.next_element()? {
                images.push(image);
            }
            Ok(Some(images))
        }
    }
    deserializer.deserialize_any(List)
}

/// `nginx:1.27`, or a map.
#[derive(Debug)]
pub(super) enum RawImage {
    Text(String),
    Map(Box<RawImageMap>),
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(extend("required" = ["image"]))]
pub(super) struct RawImageMap {
    /// [HOST/]REPOSITORY[:TAG][@DIGEST]; without tag and digest, `tags` or `select` say which.
    pub(super) image: Option<String>,
    /// These tags of the repository.
    #[schemars(schema_with = "schema::scalars")]
    pub(super) tags: Option<Vec<String>>,
    /// The tags that a rule picks.
    pub(super) select: Option<Spec>,
    /// The repository under the target, instead of the layout's.
    pub(super) to: Option<String>,
    /// The tag at the target, for an image that is given by a digest alone.
    #[schemars(schema_with = "schema::scalar")]
    #[serde(rename = "as")]
    pub(super) name: Option<String>,
    /// A target tag that holds something else, the image's or one of its signatures': true replaces it (the default), false
    /// fails, keep leaves it.
    #[schemars(schema_with = "schema::overwrite")]
    pub(super) overwrite: Option<String>,
    /// Only these platforms, such as linux/arm64 or windows(10.0.17763)/amd64, with their attestations; [all] (the default)
    /// is all of the image, byte for byte. A part has a digest of its own, which signatures of the whole don't cover.
    #[schemars(schema_with = "schema::texts")]
    pub(super) platforms: Option<Vec<String>>,
    /// Signatures, SBOMs and the like: all (the default), none, or require, which fails an image that has none.
    #[schemars(extend("enum" = ["all", "none", "require", null]))]
    pub(super) referrers: Option<String>,
    /// Only referrers of these types; by default of all.
    #[schemars(schema_with = "schema::texts")]
    pub(super) artifact_types: Option<Vec<String>>,
    /// Layers that may not be distributed: fetch mirrors them if the source serves them (the default), fail fails the image.
    #[schemars(extend("enum" = ["fetch", "fail", null]))]
    pub(super) foreign: Option<String>,
    /// Attestations that an index lists and its registry doesn't serve: fail fails the image (the default), drop mirrors the
    /// index without them, under a digest of its own, which signatures of the whole don't cover.
    #[schemars(extend("enum" = ["fail", "drop", null]))]
    pub(super) missing_attestations: Option<String>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub(super) struct RawDefaults {
    /// A target tag that holds something else, the image's or one of its signatures': true replaces it (the default), false
    /// fails, keep leaves it.
    #[schemars(schema_with = "schema::overwrite")]
    pub(super) overwrite: Option<String>,
    /// Only these platforms, such as linux/arm64 or windows(10.0.17763)/amd64, with their attestations; [all] (the default)
    /// is all of the image, byte for byte. A part has a digest of its own, which signatures of the whole don't cover.
    #[schemars(schema_with = "schema::texts")]
    pub(super) platforms: Option<Vec<String>>,
    /// Signatures, SBOMs and the like: all (the default), none, or require, which fails an image that has none.
    #[schemars(extend("enum" = ["all", "none", "require", null]))]
    pub(super) referrers: Option<String>,
    /// Only referrers of these types; by default of all.
    #[schemars(schema_with = "schema::texts")]
    pub(super) artifact_types: Option<Vec<String>>,
    /// Layers that may not be distributed: fetch mirrors them if the source serves them (the default), fail fails the image.
    #[schemars(extend("enum" = ["fetch", "fail", null]))]
    pub(super) foreign: Option<String>,
    /// Attestations that an index lists and its registry doesn't serve: fail fails the image (the default), drop mirrors the
    /// index without them, under a digest of its own, which signatures of the whole don't cover.
    #[schemars(extend("enum" = ["fail", "drop", null]))]
    pub(super) missing_attestations: Option<String>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub(super) struct RawRegistry {
    /// The user's name, or where to read it from.
    pub(super) username: Option<RawSecret>,
    /// Where to read the password or token of that user from; never the password itself.
    #[schemars(with = "Option<RawSecretSource>")]
    pub(super) password: Option<RawSecret>,
    /// Where to read a ready bearer token from, instead of username and password.
    #[schemars(with = "Option<RawSecretSource>")]
    pub(super) token: Option<RawSecret>,
    /// A PEM file with further certificate authorities, or with the server's own certificate. It also holds for the hosts that
    /// the registry sends us to.
    pub(super) ca: Option<String>,
    /// Who transship is to a registry that asks in the TLS handshake: a PEM file with its certificate. Only for the registry's
    /// own host and port.
    pub(super) client_cert: Option<String>,
    /// The PEM file with the key of client_cert.
    pub(super) client_key: Option<String>,
    /// Take any certificate of the registry's own host and port.
    pub(super) insecure: Option<bool>,
    /// Speak plain HTTP; by default only to loopback hosts.
    pub(super) plain_http: Option<bool>,
    /// A proxy for this registry, instead of what the environment says.
    pub(super) proxy: Option<RawSecret>,
    /// The URL to talk to, where it isn't the host.
    pub(super) endpoint: Option<String>,
    /// Where else what it serves may be had, each as REGISTRY[/PREFIX], in the order in which these are asked: by digest
    /// only, and the registry itself last. One that lacks something, or fails, is passed over.
    pub(super) mirrors: Option<Vec<String>>,
    /// What is special to Amazon ECR.
    pub(super) ecr: Option<RawEcr>,
    /// Says that it is a Harbor, and how it is used.
    pub(super) harbor: Option<RawHarbor>,
}

/// Text as it stands, or where to read it from. Has no `Debug` that shows the text: it may be a password that
/// shouldn't be there.
pub(super) enum RawSecret {
    Literal(String),
    From(RawSecretSource),
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(extend("minProperties" = 1, "maxProperties" = 1))]
pub(super) struct RawSecretSource {
    /// An environment variable.
    pub(super) env: Option<String>,
    /// A file; one trailing newline is stripped.
    pub(super) file: Option<String>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub(super) struct RawEcr {
    /// A profile of the AWS configuration.
    pub(super) profile: Option<String>,
    /// A role to assume.
    pub(super) role_arn: Option<String>,
    /// Goes with role_arn.
    #[schemars(schema_with = "schema::scalar")]
    pub(super) external_id: Option<String>,
    /// How missing repositories are created; false = never.
    pub(super) create: Option<RawCreate<RawEcrCreate>>,
    /// Whether existing repositories get the policies of create, too, where theirs differ; false by default. Those that
    /// nothing is pushed to in a run are left alone, and not asked for.
    pub(super) reconcile: Option<bool>,
}

/// `true`, `false`, or how.
#[derive(Debug)]
pub(super) enum RawCreate<T> {
    Never,
    With(T),
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub(super) struct RawEcrCreate {
    /// Whether tags may be moved; by default what the account has.
    #[schemars(extend("enum" = ["MUTABLE", "IMMUTABLE", null]))]
    pub(super) tag_mutability: Option<String>,
    /// Tags that may be moved all the same, with * for anything.
    #[schemars(schema_with = "schema::scalars")]
    pub(super) mutability_exclusions: Option<Vec<String>>,
    /// Scan images as they are pushed.
    pub(super) scan_on_push: Option<bool>,
    /// How images are encrypted; AES256 by default.
    #[schemars(extend("enum" = ["AES256", "KMS", "KMS_DSSE", null]))]
    pub(super) encryption: Option<String>,
    /// A KMS key: its alias, id or ARN.
    pub(super) kms_key: Option<String>,
    /// A JSON file with the lifecycle policy.
    pub(super) lifecycle_policy: Option<String>,
    /// A JSON file with the repository policy.
    pub(super) repository_policy: Option<String>,
    /// Tags of the repository as an AWS resource.
    #[schemars(schema_with = "schema::scalars_by_name")]
    pub(super) tags: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub(super) struct RawHarbor {
    /// How missing projects are created; false = never.
    pub(super) create: Option<RawCreate<RawHarborCreate>>,
    /// Proxy-cache projects that there are to be, with their registry endpoints: what is missing is created by sync.
    pub(super) proxy_caches: Option<Vec<RawProxyCache>>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(extend("required" = ["project", "upstream"]))]
pub(super) struct RawProxyCache {
    /// The project's name.
    #[schemars(schema_with = "schema::scalar")]
    pub(super) project: Option<String>,
    /// The registry that it caches, such as docker.io.
    pub(super) upstream: Option<String>,
    /// Whether everybody may pull; false by default.
    pub(super) public: Option<bool>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub(super) struct RawHarborCreate {
    /// Whether everybody may pull; false by default.
    pub(super) public: Option<bool>,
    /// How much the project may hold, such as 500GiB, or unlimited. Harbor takes it only from administrators and system robots
    /// with the right `project: create`.
    #[schemars(schema_with = "schema::scalar")]
    pub(super) storage_limit: Option<String>,
    /// Scan images as they are pushed.
    pub(super) auto_scan: Option<bool>,
    /// Make an SBOM of images as they are pushed.
    pub(super) auto_sbom_generation: Option<bool>,
    /// Don't serve images with vulnerabilities of this severity or worse. Later runs then need the right `artifact: read` to
    /// see what a tag holds.
    pub(super) prevent_vul: Option<bool>,
    /// From which severity on prevent_vul holds.
    #[schemars(extend("enum" = ["none", "low", "medium", "high", "critical", null]))]
    pub(super) severity: Option<String>,
    /// Let the system's list of tolerated vulnerabilities hold.
    pub(super) reuse_sys_cve_allowlist: Option<bool>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub(super) struct RawLimits {
    /// Blobs in flight, at most; 32 by default.
    #[schemars(range(min = 1))]
    pub(super) transfers: Option<u64>,
    /// How long a connection may be silent: 60s by default.
    pub(super) idle_timeout: Option<String>,
    /// How long a registry that is down or throttles is waited for before the run gives it up: 5m by default.
    pub(super) max_wait: Option<String>,
    /// The most bytes that are read from the sources in a second, such as 200MB/s; without it there is no limit.
    pub(super) bandwidth: Option<String>,
    /// Pulls of a quota that are left for others behind the same address or account: 10 by default.
    pub(super) quota_reserve: Option<u64>,
    /// The largest manifest that is taken: 4MiB by default.
    pub(super) manifest_size: Option<String>,
}

impl fmt::Debug for RawSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Literal(_) => f.write_str("Literal"),
            Self::From(source) => source.fmt(f),
        }
    }
}

/// A visitor for what is either a single value or a map: `#[serde(untagged)]` would buffer the value, and lose both the
/// unknown keys and the positions of what is inside.
macro_rules! text_or_map {
    ($type:ident $(<$inner:ident>)?, $expected:literal, |$text:ident| $from_text:expr, |$map:ident| $from_map:expr) => {
        impl<'de $(, $inner: Deserialize<'de> + Default)?> Deserialize<'de> for $type $(<$inner>)? {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Either$(<$inner>(PhantomData<$inner>))?;
                impl<'de $(, $inner: Deserialize<'de> + Default)?> Visitor<'de> for Either $(<$inner>)? {
                    type Value = $type $(<$inner>)?;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($expected)
                    }

                    fn visit_str<E: Error>(self, $text: &str) -> Result<Self::Value, E> {
                        $from_text
                    }

                    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                        Deserialize::deserialize(MapAccessDeserializer::new(map)).map(|$map| $from_map)
                    }
                }
                deserializer.deserialize_any(Either$(::<$inner>(PhantomData))?)
            }
        }
    };
}

text_or_map!(
    RawImage,
    "an image reference or a map with the key image",
    |text| Ok(RawImage::Text(text.to_owned())),
    |map| RawImage::Map(Box::new(map))
);
text_or_map!(RawSecret, "a map with the key env or file", |text| Ok(RawSecret::Literal(text.to_owned())), |map| {
    RawSecret::From(map)
});
text_or_map!(
    RawCreate<T>,
    "true, false or a map of settings",
    |text| match text {
        "true" => Ok(RawCreate::With(T::default())),
        "false" => Ok(RawCreate::Never),
        _ => Err(E::custom("expected true, false or a map of settings")),
    },
    |map| RawCreate::With(map)
);
