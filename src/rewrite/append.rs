//! Adds entries to `images` of mirror.yaml, without any other change.

use crate::scan::{Node, Style, Value, parse};

/// `text` with `images` after the existing ones. `None` if it has no list to extend, and none can be added.
pub(crate) fn append(text: &str, images: &[String]) -> Option<String> {
    let documents = parse(text).ok()?;
    let document = documents.first()?;
    let Some(list) = document.get("images") else { return begin(text, text.len(), images, "images:") };
    let Value::List(items, range) = list.value() else {
        let (key, _) = document.entries().iter().find(|(key, _)| key.value == "images")?;
        let is_empty = list.scalar().is_some_and(|scalar| scalar.value.is_empty());
        let end = text[key.start..].find('\n').map_or(text.len(), |at| key.start + at + 1);
        return if is_empty { begin(text, end, images, "") } else { None };
    };
    let is_flow = text[range.start..].starts_with('[');
    let mut new = text.to_owned();
    if is_flow {
        // In JSON and similar text, all strings are quoted.
        let is_quoted = items.iter().filter_map(Node::scalar).any(|item| text[item.start..].starts_with('"'));
        let added = images.iter().map(|image| if is_quoted { format!("\"{image}\"") } else { scalar(image) });
        let added = added.collect::<Vec<_>>().join(", ");
        let (at, added) = match items.last() {
            None => (range.start + 1, added),
            // Directly after it: a comma or a comment may follow.
            Some(last) => (end(text, last, range.end)?, format!(", {added}")),
        };
        new.insert_str(at, &added);
        return Some(new);
    }
    let start = items.first().map(first_byte)?;
    let line_start = text[..start].rfind('\n').map_or(0, |at| at + 1);
    let indent = text[line_start..start].split('-').next().unwrap_or_default();
    let last = items.iter().map(last_byte).max()?;
    let line_end = text[last..].find('\n').map(|at| last + at + 1);
    let line_break = if text[..line_end.unwrap_or(text.len())].ends_with("\r\n") { "\r\n" } else { "\n" };
    let lines: String = images.iter().map(|image| format!("{indent}- {}{line_break}", scalar(image))).collect();
    match line_end {
        Some(at) => new.insert_str(at, &lines),
        // If the last line has no line break, neither does the new one.
        None => new.push_str(&format!("{line_break}{}", lines.trim_end())),
    }
    Some(new)
}

/// `text` with a new list at the offset `at`, which begins a line; below `head` if that is missing.
fn begin(text: &str, at: usize, images: &[String], head: &str) -> Option<String> {
    let line_break = if text.contains("\r\n") { "\r\n" } else { "\n" };
    let lines = Some(head.to_owned()).filter(|head| !head.is_empty()).into_iter();
    let lines = lines.chain(images.iter().map(|image| format!("  - {}", scalar(image))));
    let lines: String = lines.map(|line| line + line_break).collect();
    let mut new = text.get(..at)?.to_owned();
    if !new.is_empty() && !new.ends_with('\n') {
        new.push_str(line_break);
    }
    new.push_str(&lines);
    new.push_str(&text[at..]);
    Some(new)
}

/// Where the last item of a list in brackets ends.
fn end(text: &str, node: &Node, list_end: usize) -> Option<usize> {
    match node.value() {
        Value::Scalar(scalar) => Some(scalar.inner.as_ref()?.end + usize::from(scalar.style == Style::Quoted)),
        _ => Some(text[..list_end].rfind(['}', ']']).and_then(|close| text[..close].rfind(['}', ']']))? + 1),
    }
}

fn first_byte(node: &Node) -> usize {
    match node.value() {
        Value::Scalar(scalar) => scalar.start,
        Value::List(_, range) => range.start,
        Value::Map(entries) => entries.first().map_or(0, |(key, _)| key.start),
    }
}

/// An offset in the last line of `node`.
fn last_byte(node: &Node) -> usize {
    match node.value() {
        Value::Scalar(scalar) => scalar.inner.as_ref().map_or(scalar.start, |inner| inner.end.max(scalar.start)),
        Value::List(items, _) => items.iter().map(last_byte).max().unwrap_or_default(),
        Value::Map(entries) => {
            entries.iter().map(|(key, value)| last_byte(value).max(key.start)).max().unwrap_or_default()
        }
    }
}

/// Unquoted if YAML takes it for a text, which applies to nearly all references.
fn scalar(text: &str) -> String {
    let is_plain = text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.contains([':', '/']);
    if is_plain { text.to_owned() } else { format!("\"{text}\"") }
}
