//! The keys of mirror.yaml, read from its schema, for hints about a key that isn't one.

use std::cmp::Reverse;
use std::sync::LazyLock;

use serde_json::Value;

use super::schema;
use crate::yaml::{KeyPath, Position, Problem, Segment};

/// The schema, made once: a file may have many unknown keys.
static SCHEMA: LazyLock<Value> = LazyLock::new(|| schema::of_file().to_value());

/// All maps of the schema `root`, by place. `[]` is any item, `*` any key.
pub(super) fn maps(root: &Value) -> Vec<(String, &Value)> {
    let mut found = Vec::new();
    walk(root, root, String::new(), &mut found);
    found
}

fn walk<'a>(root: &'a Value, schema: &'a Value, place: String, found: &mut Vec<(String, &'a Value)>) {
    if let Some(target) = schema["$ref"].as_str().and_then(|reference| root.pointer(reference.strip_prefix('#')?)) {
        return walk(root, target, place, found);
    }
    for alternative in ["anyOf", "allOf"].into_iter().filter_map(|key| schema[key].as_array()).flatten() {
        walk(root, alternative, place.clone(), found);
    }
    if schema["items"].is_object() {
        walk(root, &schema["items"], format!("{place}[]"), found);
    }
    if schema["additionalProperties"].is_object() {
        walk(root, &schema["additionalProperties"], format!("{place}.*"), found);
    }
    if let Some(properties) = schema["properties"].as_object() {
        let dot = if place.is_empty() { "" } else { "." };
        found.push((place.clone(), schema));
        for (key, value) in properties {
            walk(root, value, format!("{place}{dot}{key}"), found);
        }
    }
}

/// The keys of a map of the schema.
pub(super) fn names(map: &Value) -> Vec<&str> {
    map["properties"].as_object().into_iter().flatten().map(|(key, _)| key.as_str()).collect()
}

/// The problem for a key that the raw structs don't have.
pub(super) fn unknown(path: KeyPath, at: Position) -> Problem {
    let mut maps: Vec<(String, Vec<&str>)> =
        maps(&SCHEMA).into_iter().map(|(place, map)| (place, names(map))).collect();
    // Many keys of images are keys of `defaults`, too.
    maps.sort_by_key(|(_, keys)| Reverse(keys.len()));
    let place = place(&path);
    let key = match path.0.last() {
        Some(Segment::Key(key)) => key.clone(),
        _ => String::new(),
    };
    let here = maps.iter().find(|(other, _)| *other == place).map_or(&[][..], |(_, keys)| keys);
    let hint = if key == "<<" {
        "merge keys aren't supported: use defaults:, or a list shared by an alias".to_owned()
    } else if let Some(near) = nearest(&key, here) {
        format!("did you mean `{near}`?")
    } else if let Some((elsewhere, _)) = maps.iter().find(|(_, keys)| keys.contains(&key.as_str())) {
        let elsewhere = if elsewhere.is_empty() { "the top of the file" } else { elsewhere };
        format!("`{key}` belongs to {elsewhere}")
    } else {
        format!("the keys here are {}", here.join(", "))
    };
    Problem::new(at, path, format!("unknown key `{key}`")).with_hint(hint)
}

/// The path of the map that contains the last key, in the notation of [`maps`].
fn place(path: &KeyPath) -> String {
    let mut place = String::new();
    let around = path.0.split_last().map_or(&[][..], |(_, around)| around);
    for (position, segment) in around.iter().enumerate() {
        let registry = position == 1 && around.first() == Some(&Segment::Key("registries".into()));
        let dot = if place.is_empty() { "" } else { "." };
        match segment {
            Segment::Index(_) => place.push_str("[]"),
            Segment::Key(_) if registry => place.push_str(".*"),
            Segment::Key(key) => place.extend([dot, key.as_str()]),
        }
    }
    place
}

/// The key that was probably meant.
fn nearest<'k>(key: &str, keys: &[&'k str]) -> Option<&'k str> {
    let distance = |candidate: &str| strsim::damerau_levenshtein(key, candidate);
    let near = keys.iter().copied().min_by_key(|candidate| distance(candidate))?;
    let tolerated = (near.len() / 3).max(1);
    (distance(near) <= tolerated).then_some(near)
}
