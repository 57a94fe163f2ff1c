//! The shapes of references in all kinds of YAML: `image: TEXT`, and keys of a map.

use std::collections::HashSet;

use super::yaml::SyntaxError;
use super::{File, Form, Kind, Node, Scalar, Value, text};

/// The keys of a map that form one reference.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Fields {
    /// `registry`, if it isn't empty.
    pub registry: Option<Field>,
    /// `repository`.
    pub repository: Field,
    /// `tag`.
    pub tag: Option<Field>,
    /// `digest`.
    pub digest: Option<Field>,
}

/// A key and its value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Field {
    /// Its text; empty if it has none.
    pub value: String,
    /// Where a new value goes.
    pub slot: Slot,
    /// Whether it has an anchor that is used elsewhere.
    pub is_shared: bool,
}

/// Where a value goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Slot {
    /// In place of these bytes.
    Replace(std::ops::Range<usize>),
    /// At this offset, after a space: the key has no value.
    Insert(usize),
    /// Nowhere: the value contains escapes or spans lines.
    None,
}

impl Field {
    pub(super) fn of(map: &Node, key: &str) -> Option<Self> {
        let (name, node) = map.entry(key)?;
        let scalar = node.scalar()?;
        let slot = match (&scalar.inner, scalar.value.is_empty() && scalar.is_null()) {
            // After the colon.
            (_, true) => name
                .inner
                .as_ref()
                .map_or(Slot::None, |key| Slot::Insert(key.end + usize::from(name.style == super::Style::Quoted) + 1)),
            (Some(inner), false) => Slot::Replace(inner.clone()),
            (None, false) => Slot::None,
        };
        let value = if scalar.is_null() { String::new() } else { scalar.value.trim().to_owned() };
        Some(Self { value, slot, is_shared: scalar.is_shared })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.value.is_empty()
    }
}

/// `a.b[].c`: a path to references that have no common shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FieldPath(Vec<Step>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Key(String),
    /// Every item of a list.
    Items,
    /// Every value of a map.
    Values,
}

impl std::str::FromStr for FieldPath {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut steps = Vec::new();
        for part in text.strip_prefix('.').unwrap_or(text).split('.') {
            let lists = part.matches("[]").count();
            let key = part.trim_end_matches("[]");
            if key.contains(['[', ']']) || part.is_empty() || (key.is_empty() && steps.is_empty() && lists == 0) {
                return Err(format!("`{text}` isn't a field: expected keys with dots between them, such as a.b[].c"));
            }
            match key {
                "" => {}
                "*" => steps.push(Step::Values),
                key => steps.push(Step::Key(key.to_owned())),
            }
            steps.extend((0..lists).map(|_| Step::Items));
        }
        Ok(Self(steps))
    }
}

/// Finds references in the fields named by the user.
pub(super) fn named_fields(file: &mut File, documents: &[Node]) {
    for FieldPath(steps) in file.fields.clone() {
        for document in documents {
            for node in reach(document, &steps) {
                match node.value() {
                    Value::Scalar(scalar) => file.add_scalar(scalar),
                    Value::Map(_) => drop(add_split(file, &node, None)),
                    Value::List(items, _) => {
                        items.iter().filter_map(Node::scalar).for_each(|item| file.add_scalar(item));
                    }
                }
            }
        }
    }
}

fn reach(node: &Node, steps: &[Step]) -> Vec<Node> {
    let Some((step, rest)) = steps.split_first() else { return vec![node.clone()] };
    let next: Vec<&Node> = match step {
        Step::Key(key) => node.get(key).into_iter().collect(),
        Step::Items => node.items().iter().collect(),
        Step::Values => node.entries().iter().map(|(_, value)| value).collect(),
    };
    next.into_iter().flat_map(|node| reach(node, rest)).collect()
}

/// The context of the shapes.
pub(super) struct Context<'a> {
    /// The tag of an image that has none, if there is one: a chart's `appVersion`.
    pub(super) app_version: Option<&'a str>,
    /// Accept only references with a tag or digest: the file has no known kind, and `image:` may mean a picture.
    pub(super) is_strict: bool,
    /// Top-level keys that contain no references to pull.
    pub(super) skip: &'static [&'static str],
}

/// Finds `image: TEXT` and split references in `node` and below.
pub(super) fn walk(file: &mut File, node: &Node, context: &Context<'_>) {
    visit(file, node, "", context, &mut HashSet::new());
}

fn visit(file: &mut File, node: &Node, key: &str, context: &Context<'_>, seen: &mut HashSet<usize>) {
    // Each aliased node is read once, so nested aliases can't multiply the work.
    if !seen.insert(node.id()) {
        return;
    }
    for item in node.items() {
        visit(file, item, key, context, seen);
    }
    let is_split = node.is_map() && is_repository_map(node, key) && add_split(file, node, context.app_version);
    for (name, value) in node.entries() {
        if key.is_empty() && context.skip.contains(&name.value.as_str()) {
            continue;
        }
        match value.scalar() {
            Some(scalar) if name.value == "image" && !is_split => image(file, node, scalar, context),
            Some(scalar) if name.value == "reference" && key == "image" => file.add_scalar(scalar),
            Some(scalar) => nested(file, scalar),
            None => visit(file, value, &name.value, context, seen),
        }
    }
}

/// Whether `map` has a `repository` (or `name`, below `image:`) of an image.
fn is_repository_map(map: &Node, key: &str) -> bool {
    let has = |key: &str| map.get(key).is_some_and(|node| node.scalar().is_some());
    let below_image = key == "image" || key.ends_with("Image") || key.ends_with("_image");
    let beside = || ["registry", "tag", "digest"].into_iter().any(has);
    let scheme = map.get("repository").and_then(Node::text).is_some_and(|text| text.contains("://"));
    has("repository") && !scheme && (below_image || beside())
        || below_image && !has("repository") && has("name") && (has("tag") || has("digest"))
}

fn image(file: &mut File, map: &Node, scalar: &Scalar, context: &Context<'_>) {
    if scalar.is_null() || scalar.value.trim().is_empty() {
        return;
    }
    let parts = text::cut(&scalar.value);
    let tagless = parts.tag.is_none() && parts.digest.is_none();
    let beside = |key: &str| Field::of(map, key).is_some_and(|field| !field.is_empty());
    if tagless && (beside("tag") || beside("digest")) && Field::of(map, "image").is_some() {
        add_split(file, map, context.app_version);
    } else if !context.is_strict || (!tagless && text::read(&scalar.value).is_ok()) || scalar.value.contains(['$', '{'])
    {
        file.add_scalar(scalar);
    }
}

/// Adds the reference that the keys of `map` form; `false` if they form none.
pub(super) fn add_split(file: &mut File, map: &Node, app_version: Option<&str>) -> bool {
    let key = ["repository", "image", "name"].into_iter().find(|key| Field::of(map, key).is_some());
    let Some((repository, at)) = key.and_then(|key| Some((Field::of(map, key)?, map.get(key)?.scalar()?.start))) else {
        return false;
    };
    if repository.is_empty() {
        return false;
    }
    let registry = Field::of(map, "registry").filter(|field| !field.is_empty());
    let (tag, digest) = (Field::of(map, "tag"), Field::of(map, "digest"));
    let name = match &registry {
        Some(registry) => format!("{}/{}", registry.value.trim_end_matches('/'), repository.value),
        None => repository.value.clone(),
    };
    let said =
        |field: &Option<Field>| field.as_ref().filter(|field| !field.is_empty()).map(|field| field.value.clone());
    let digest_text = said(&digest).map(|digest| format!("@{digest}")).unwrap_or_default();
    let own = text::cut(&name);
    let has_own = own.tag.is_some() || own.digest.is_some();
    let tag_text =
        match said(&tag).or_else(|| app_version.filter(|_| digest_text.is_empty() && !has_own).map(str::to_owned)) {
            Some(tag) => format!(":{tag}"),
            None if digest_text.is_empty() && !has_own => {
                file.add_unresolved(at, name, "its tag isn't set here");
                return true;
            }
            None => String::new(),
        };
    let written = format!("{name}{tag_text}{digest_text}");
    if written.contains('$') {
        file.add_unresolved(at, written, "a part of it is a variable");
        return true;
    }
    match text::read(&written) {
        Ok(reference) => {
            file.add(at, reference, written, Form::Fields(Fields { registry, repository, tag, digest }));
        }
        Err(why) => file.add_unresolved(at, written, why),
    }
    true
}

/// A multi-line text may contain YAML, which isn't part of this file.
pub(super) fn nested(file: &mut File, scalar: &Scalar) {
    if scalar.style != super::Style::Block && !scalar.value.contains('\n') {
        return;
    }
    let mut at = scalar.start;
    for image in scalar.value.lines().filter_map(image_of_line) {
        at += file.text[at..].find(image).unwrap_or_default();
        file.add_unresolved(at, image, "it is in a text inside the file");
    }
}

/// The image in a line that can't be parsed as YAML.
pub(super) fn image_of_line(line: &str) -> Option<&str> {
    let line = line.trim().trim_start_matches("- ").trim_start();
    let value = line.strip_prefix("image:").or_else(|| line.strip_prefix("\"image\":"))?.trim();
    let value = value.trim_end_matches(',').trim_matches(['"', '\'']);
    (!value.is_empty() && !value.starts_with('#')).then_some(value)
}

/// YAML of no known kind: only unambiguous references.
pub(super) fn read_unknown(file: &mut File, documents: &[Node]) {
    for document in documents {
        walk(file, document, &Context { app_version: None, is_strict: true, skip: &[] });
        json_patch(file, document);
    }
}

/// `{op, path: …/image, value}`: a JSON Patch (RFC 6902).
pub(super) fn json_patch(file: &mut File, document: &Node) {
    for item in document.items() {
        let path = item.get("path").and_then(Node::text).unwrap_or_default();
        if item.get("op").is_some()
            && path.ends_with("/image")
            && let Some(scalar) = item.get("value").and_then(Node::scalar)
        {
            file.add_scalar(scalar);
        }
    }
}

/// A file that isn't YAML: an error, unless it is a template, which needn't be.
pub(super) fn broken(file: &mut File, kind: Kind, error: &SyntaxError) -> Result<(), String> {
    file.kind = kind;
    if !["{{", "{%", "<%"].iter().any(|mark| file.text.contains(mark)) {
        return Err(format!("line {}, column {}: it isn't valid YAML: {}", error.line, error.column, error.why));
    }
    let mut at = 0;
    let mut lines = Vec::new();
    for line in file.text.split_inclusive('\n') {
        lines.extend(image_of_line(line).map(|image| (at, image.to_owned())));
        at += line.len();
    }
    if lines.is_empty() {
        lines.push((0, file.name.clone()));
    }
    for (at, text) in lines {
        file.add_unresolved(at, text, "the file is a template");
    }
    Ok(())
}
