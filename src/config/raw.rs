//! mirror.yaml as it is written: shapes and nothing else. What the values mean is checked afterwards, by path.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Visitor};

use crate::select::Spec;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RawConfig {
    pub(super) version: Option<String>,
    pub(super) target: Option<String>,
    pub(super) targets: Option<Vec<String>>,
    pub(super) layout: Option<String>,
    pub(super) images: Option<Vec<RawImage>>,
    pub(super) defaults: Option<RawDefaults>,
    pub(super) registries: Option<BTreeMap<String, Option<RawRegistry>>>,
    pub(super) limits: Option<RawLimits>,
}

/// `nginx:1.27`, or a map.
#[derive(Debug)]
pub(super) enum RawImage {
    Text(String),
    Map(Box<RawImageMap>),
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RawImageMap {
    pub(super) image: Option<String>,
    pub(super) tags: Option<Vec<String>>,
    pub(super) select: Option<Spec>,
    pub(super) to: Option<String>,
    #[serde(rename = "as")]
    pub(super) name: Option<String>,
    pub(super) overwrite: Option<String>,
    pub(super) referrers: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RawDefaults {
    pub(super) overwrite: Option<String>,
    pub(super) referrers: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RawRegistry {
    pub(super) username: Option<RawSecret>,
    pub(super) password: Option<RawSecret>,
    pub(super) token: Option<RawSecret>,
    pub(super) ca: Option<String>,
    pub(super) client_cert: Option<String>,
    pub(super) client_key: Option<String>,
    pub(super) insecure: Option<bool>,
    pub(super) plain_http: Option<bool>,
    pub(super) proxy: Option<RawSecret>,
    pub(super) endpoint: Option<String>,
    pub(super) ecr: Option<RawEcr>,
    pub(super) harbor: Option<RawHarbor>,
}

/// Text as it stands, or where to read it from. Has no `Debug` that shows the text: it may be a password that
/// shouldn't be there.
pub(super) enum RawSecret {
    Literal(String),
    From(RawSecretSource),
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RawSecretSource {
    pub(super) env: Option<String>,
    pub(super) file: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RawEcr {
    pub(super) profile: Option<String>,
    pub(super) role_arn: Option<String>,
    pub(super) external_id: Option<String>,
    pub(super) create: Option<RawCreate<RawEcrCreate>>,
}

/// `true`, `false`, or how.
#[derive(Debug)]
pub(super) enum RawCreate<T> {
    Never,
    With(T),
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RawEcrCreate {
    pub(super) tag_mutability: Option<String>,
    pub(super) mutability_exclusions: Option<Vec<String>>,
    pub(super) scan_on_push: Option<bool>,
    pub(super) encryption: Option<String>,
    pub(super) kms_key: Option<String>,
    pub(super) lifecycle_policy: Option<String>,
    pub(super) repository_policy: Option<String>,
    pub(super) tags: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RawHarbor {
    pub(super) create: Option<RawCreate<RawHarborCreate>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RawHarborCreate {
    pub(super) public: Option<bool>,
    pub(super) storage_limit: Option<String>,
    pub(super) auto_scan: Option<bool>,
    pub(super) auto_sbom_generation: Option<bool>,
    pub(super) prevent_vul: Option<bool>,
    pub(super) severity: Option<String>,
    pub(super) reuse_sys_cve_allowlist: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RawLimits {
    pub(super) transfers: Option<u64>,
    pub(super) idle_timeout: Option<String>,
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
