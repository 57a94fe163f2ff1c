//! The JSON schema of mirror.yaml, for editors and linters: derived from the structs of `raw`, so that it has
//! exactly the keys that this version reads.
//!
//! The reader accepts any scalar as a text, because YAML's own types lose the original text (1.10). Where that is
//! likely, a helper of this file adds it to the schema. The reader checks the meaning of values.

use std::borrow::Cow;

use schemars::generate::SchemaSettings;
use schemars::transform::{Transform, transform_subschemas};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::Value;

use super::Config;
use super::raw::{
    RawConfig, RawCreate, RawEcrCreate, RawHarborCreate, RawImage, RawImageMap, RawSecret, RawSecretSource,
};

impl Config {
    /// The JSON schema of mirror.yaml (draft 7, which all editors know), with a newline at its end.
    pub fn schema() -> String {
        let mut text = serde_json::to_string_pretty(&of_file()).expect("a JSON value can be written as JSON");
        text.push('\n');
        text
    }
}

/// The schema of the whole file.
pub(super) fn of_file() -> Schema {
    let settings = SchemaSettings::draft07().with_transform(Strict);
    let mut schema = settings.into_generator().into_root_schema_for::<RawConfig>();
    schema.insert("title".to_owned(), "mirror.yaml of transship".into());
    schema
}

/// Applies to the whole schema: maps have no additional keys, and the defaults of the reader's structs are not
/// defaults for the user.
#[derive(Debug, Clone)]
struct Strict;

impl Transform for Strict {
    fn transform(&mut self, schema: &mut Schema) {
        schema.remove("default");
        // Rust's integer widths mean nothing to an editor.
        schema.remove("format");
        if schema.get("properties").is_some() && schema.get("additionalProperties").is_none() {
            schema.insert("additionalProperties".to_owned(), Value::Bool(false));
        }
        transform_subschemas(self, schema);
    }
}

/// A text that YAML may parse as another type.
pub(super) fn scalar(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": ["string", "number", "boolean"] })
}

pub(super) fn scalars(generator: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "anyOf": [scalar(generator), { "type": "array", "items": scalar(generator), "minItems": 1 }]
    })
}

pub(super) fn texts(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "anyOf": [{ "type": "string" }, { "type": "array", "items": { "type": "string" }, "minItems": 1 }]
    })
}

pub(super) fn scalars_by_name(generator: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "object", "additionalProperties": scalar(generator) })
}

pub(super) fn version(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "enum": [1, "1"] })
}

pub(super) fn overwrite(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "enum": [true, false, "keep"] })
}

/// Either a single value with this schema, or a map with the fields of another type.
macro_rules! value_or_map {
    ($type:ty, $value:tt, $fields:ty) => {
        impl JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(generator: &mut SchemaGenerator) -> Schema {
                json_schema!({ "anyOf": [$value, generator.subschema_for::<$fields>()] })
            }
        }
    };
}

value_or_map!(RawImage, { "type": "string" }, RawImageMap);
value_or_map!(RawSecret, { "type": ["string", "number"] }, RawSecretSource);
value_or_map!(RawCreate<RawEcrCreate>, { "type": "boolean" }, RawEcrCreate);
value_or_map!(RawCreate<RawHarborCreate>, { "type": "boolean" }, RawHarborCreate);

#[cfg(test)]
mod tests;
