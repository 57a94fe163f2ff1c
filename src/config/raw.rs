//! mirror.yaml as written. These structs define the keys and their types only; `config` checks the values later, by
//! path. The JSON schema is derived from them: an editor shows a key's doc comment.

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
    /// The version of the file format: 1.
    #[schemars(schema_with = "schema::version")]
    pub(super) version: Option<String>,
    /// Where images go: REGISTRY[/PREFIX], whose first segment is always the registry, or oci:DIR, an OCI image layout.
    pub(super) target: Option<String>,
    /// Several targets, instead of `target`. Each blob is read from the source once.
    #[schemars(schema_with = "schema::texts")]
    pub(super) targets: Option<Vec<String>>,
    /// The template for repository names under a target. It may contain {registry}, {repository} and {name}, the last
    /// segment of the repository. The default is {registry}/{repository}.
    pub(super) layout: Option<String>,
    /// The images to mirror.
    #[serde(deserialize_with = "list")]
    pub(super) images: Option<Vec<RawImage>>,
    /// Defaults for the keys of each entry in `images`.
    pub(super) defaults: Option<RawDefaults>,
    /// Settings for registries, by HOST[:PORT].
    pub(super) registries: Option<BTreeMap<String, Option<RawRegistry>>>,
    /// Limits of a run.
    pub(super) limits: Option<RawLimits>,
}

/// A list. A single item isn't accepted as a list of one: a single image is more likely a mistake.
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
    /// [HOST/]REPOSITORY[:TAG][@DIGEST]. Without a tag or digest, set `tags` or `select`.
    pub(super) image: Option<String>,
    /// The tags to mirror.
    #[schemars(schema_with = "schema::scalars")]
    pub(super) tags: Option<Vec<String>>,
    /// A rule that selects tags.
    pub(super) select: Option<Spec>,
    /// The repository under the target, instead of the one that `layout` gives.
    pub(super) to: Option<String>,
    /// The target tag for an image that is given by digest only.
    #[schemars(schema_with = "schema::scalar")]
    #[serde(rename = "as")]
    pub(super) name: Option<String>,
    /// What to do if the target tag of the image or of one of its referrers holds something else: true replaces it (the
    /// default), false fails, keep leaves it.
    #[schemars(schema_with = "schema::overwrite")]
    pub(super) overwrite: Option<String>,
    /// Mirror only these platforms, such as linux/arm64 or windows(10.0.17763)/amd64, and their attestations. [all]
    /// (the default) mirrors the whole image, byte for byte. A subset has a different digest, which signatures of the
    /// whole image don't cover.
    #[schemars(schema_with = "schema::texts")]
    pub(super) platforms: Option<Vec<String>>,
    /// Signatures, SBOMs and other referrers: all (the default), none, or require, which fails an image that has none.
    #[schemars(extend("enum" = ["all", "none", "require", null]))]
    pub(super) referrers: Option<String>,
    /// Mirror only referrers of these artifact types. The default is all types.
    #[schemars(schema_with = "schema::texts")]
    pub(super) artifact_types: Option<Vec<String>>,
    /// Layers that may not be distributed: fetch mirrors them if the source serves them (the default), fail fails the
    /// image.
    #[schemars(extend("enum" = ["fetch", "fail", null]))]
    pub(super) foreign: Option<String>,
    /// Attestations that an index lists but the registry doesn't serve: fail fails the image (the default), drop
    /// mirrors the index without them. That changes its digest, so signatures of the whole image don't cover it.
    #[schemars(extend("enum" = ["fail", "drop", null]))]
    pub(super) missing_attestations: Option<String>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub(super) struct RawDefaults {
    /// What to do if the target tag of the image or of one of its referrers holds something else: true replaces it (the
    /// default), false fails, keep leaves it.
    #[schemars(schema_with = "schema::overwrite")]
    pub(super) overwrite: Option<String>,
    /// Mirror only these platforms, such as linux/arm64 or windows(10.0.17763)/amd64, and their attestations. [all]
    /// (the default) mirrors the whole image, byte for byte. A subset has a different digest, which signatures of the
    /// whole image don't cover.
    #[schemars(schema_with = "schema::texts")]
    pub(super) platforms: Option<Vec<String>>,
    /// Signatures, SBOMs and other referrers: all (the default), none, or require, which fails an image that has none.
    #[schemars(extend("enum" = ["all", "none", "require", null]))]
    pub(super) referrers: Option<String>,
    /// Mirror only referrers of these artifact types. The default is all types.
    #[schemars(schema_with = "schema::texts")]
    pub(super) artifact_types: Option<Vec<String>>,
    /// Layers that may not be distributed: fetch mirrors them if the source serves them (the default), fail fails the
    /// image.
    #[schemars(extend("enum" = ["fetch", "fail", null]))]
    pub(super) foreign: Option<String>,
    /// Attestations that an index lists but the registry doesn't serve: fail fails the image (the default), drop
    /// mirrors the index without them. That changes its digest, so signatures of the whole image don't cover it.
    #[schemars(extend("enum" = ["fail", "drop", null]))]
    pub(super) missing_attestations: Option<String>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub(super) struct RawRegistry {
    /// The user name, or where to read it from.
    pub(super) username: Option<RawSecret>,
    /// Where to read the user's password or token from. The file never contains the password itself.
    #[schemars(with = "Option<RawSecretSource>")]
    pub(super) password: Option<RawSecret>,
    /// Where to read a bearer token from, instead of username and password.
    #[schemars(with = "Option<RawSecretSource>")]
    pub(super) token: Option<RawSecret>,
    /// A PEM file with additional certificate authorities, or with the server's own certificate. It is also used for
    /// the hosts that the registry redirects to.
    pub(super) ca: Option<String>,
    /// A PEM file with a client certificate, for a registry that requires one (mutual TLS). It is used only for the
    /// registry's own host and port.
    pub(super) client_cert: Option<String>,
    /// A PEM file with the private key of client_cert.
    pub(super) client_key: Option<String>,
    /// Accept any certificate of the registry's own host and port.
    pub(super) insecure: Option<bool>,
    /// Use plain HTTP. The default is HTTPS, except for loopback hosts.
    pub(super) plain_http: Option<bool>,
    /// A proxy for this registry, instead of the one in the environment.
    pub(super) proxy: Option<RawSecret>,
    /// The URL to connect to, if it isn't https://HOST.
    pub(super) endpoint: Option<String>,
    /// Mirrors of this registry, each as REGISTRY[/PREFIX]. They are read by digest, in this order, before the registry
    /// itself. A mirror that lacks the content or fails is skipped.
    pub(super) mirrors: Option<Vec<String>>,
    /// Settings for Amazon ECR.
    pub(super) ecr: Option<RawEcr>,
    /// Settings for Harbor. They also mark the registry as a Harbor.
    pub(super) harbor: Option<RawHarbor>,
}

/// A literal value, or where to read it from. `Debug` doesn't show the value: it may be a password, given by mistake.
pub(super) enum RawSecret {
    Literal(String),
    From(RawSecretSource),
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(extend("minProperties" = 1, "maxProperties" = 1))]
pub(super) struct RawSecretSource {
    /// The name of an environment variable.
    pub(super) env: Option<String>,
    /// The path of a file; one trailing newline is stripped.
    pub(super) file: Option<String>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub(super) struct RawEcr {
    /// A profile in the AWS configuration.
    pub(super) profile: Option<String>,
    /// The ARN of a role to assume.
    pub(super) role_arn: Option<String>,
    /// The external id for role_arn.
    #[schemars(schema_with = "schema::scalar")]
    pub(super) external_id: Option<String>,
    /// How to create missing repositories; false never creates any.
    pub(super) create: Option<RawCreate<RawEcrCreate>>,
    /// Whether to apply the policies in create to existing repositories, too. The default is false. Repositories that a
    /// run pushes nothing to are left unchanged.
    pub(super) reconcile: Option<bool>,
}

/// `true`, `false`, or a map of settings.
#[derive(Debug)]
pub(super) enum RawCreate<T> {
    Never,
    With(T),
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub(super) struct RawEcrCreate {
    /// Whether tags can be moved. The default is the account's setting.
    #[schemars(extend("enum" = ["MUTABLE", "IMMUTABLE", null]))]
    pub(super) tag_mutability: Option<String>,
    /// Tags that can be moved even so; * matches anything.
    #[schemars(schema_with = "schema::scalars")]
    pub(super) mutability_exclusions: Option<Vec<String>>,
    /// Scan images on push.
    pub(super) scan_on_push: Option<bool>,
    /// How to encrypt images; AES256 by default.
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
    /// How to create missing projects; false never creates any.
    pub(super) create: Option<RawCreate<RawHarborCreate>>,
    /// Proxy-cache projects, with their registry endpoints. `sync` creates the missing ones.
    pub(super) proxy_caches: Option<Vec<RawProxyCache>>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(extend("required" = ["project", "upstream"]))]
pub(super) struct RawProxyCache {
    /// The name of the project.
    #[schemars(schema_with = "schema::scalar")]
    pub(super) project: Option<String>,
    /// The registry to cache, such as docker.io.
    pub(super) upstream: Option<String>,
    /// Whether anyone can pull; false by default.
    pub(super) public: Option<bool>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub(super) struct RawHarborCreate {
    /// Whether anyone can pull; false by default.
    pub(super) public: Option<bool>,
    /// The storage limit of the project, such as 500GiB, or unlimited. Harbor accepts it only from administrators and
    /// from system robot accounts with the permission `project: create`.
    #[schemars(schema_with = "schema::scalar")]
    pub(super) storage_limit: Option<String>,
    /// Scan images on push.
    pub(super) auto_scan: Option<bool>,
    /// Generate an SBOM on push.
    pub(super) auto_sbom_generation: Option<bool>,
    /// Block pulls of images with vulnerabilities of this severity or worse. Later runs then need the permission
    /// `artifact: read` to see what a tag holds.
    pub(super) prevent_vul: Option<bool>,
    /// The lowest severity that prevent_vul blocks.
    #[schemars(extend("enum" = ["none", "low", "medium", "high", "critical", null]))]
    pub(super) severity: Option<String>,
    /// Use the system's CVE allowlist.
    pub(super) reuse_sys_cve_allowlist: Option<bool>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub(super) struct RawLimits {
    /// The maximum number of concurrent blob transfers; 32 by default.
    #[schemars(range(min = 1))]
    pub(super) transfers: Option<u64>,
    /// How long a connection may be idle; 60s by default.
    pub(super) idle_timeout: Option<String>,
    /// How long to wait for a registry that is down or throttles, before the run gives up on it; 5m by default.
    pub(super) max_wait: Option<String>,
    /// The maximum rate of reads from all sources, such as 200MB/s. There is no limit by default.
    pub(super) bandwidth: Option<String>,
    /// How many pulls to leave in a quota for other clients with the same address or account; 10 by default.
    pub(super) quota_reserve: Option<u64>,
    /// The largest manifest to accept; 4MiB by default.
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

/// A visitor for a value that is either a scalar or a map. `#[serde(untagged)]` would buffer the value, and lose both
/// its unknown keys and its positions.
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
