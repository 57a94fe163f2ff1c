//! `schema [OF]`: the JSON schema of mirror.yaml, or of the documents that `--json` prints and `--report` writes.

use schemars::generate::SchemaSettings;
use schemars::{Schema, SchemaGenerator, json_schema};

use super::{discover, export, rewrite};
use crate::cli::{self, SchemaOf};
use crate::config::Config;
use crate::report::Report;

pub(super) fn text(arguments: &cli::Schema) -> String {
    match arguments.of {
        SchemaOf::Config => Config::schema(),
        SchemaOf::Report => documents(),
    }
}

/// One schema for all verbs. Verbs without a report have schemas of their documents.
fn documents() -> String {
    let mut generator = SchemaSettings::draft2020_12().for_serialize().into_generator();
    let shapes: [fn(&mut SchemaGenerator) -> Schema; 4] =
        [Report::schema, discover::schema, rewrite::schema, export::schema];
    let shapes: Vec<Schema> = shapes.into_iter().map(|shape| shape(&mut generator)).collect();
    let mut schema = json_schema!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "What transship prints with --json and writes with --report",
        "anyOf": shapes,
    });
    schema.insert("$defs".to_owned(), generator.take_definitions(true).into());
    let mut text = serde_json::to_string_pretty(&schema).expect("a JSON value can be written as JSON");
    text.push('\n');
    text
}
