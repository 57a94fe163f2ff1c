//! The text of a refusal: its codes, and the message to show.
//!
//! Error bodies follow the distribution specification ("Error Codes"), or are plain text, or a proxy's web page.

use serde_json::Value;

use super::Answer;
use crate::terminal::escape;

/// The longest message that is passed on, in characters.
const LONGEST_MESSAGE: usize = 300;

/// The contents of an error body.
pub(super) struct Refusal {
    pub(super) codes: Vec<String>,
    pub(super) message: String,
    /// The whole text in lower case, for searching.
    pub(super) lower: String,
}

impl Refusal {
    pub(super) fn read(answer: &Answer) -> Self {
        let status = answer.status;
        let text = String::from_utf8_lossy(&answer.body);
        let lower = text.to_lowercase();
        if answer.is_web_page() {
            return Self {
                codes: Vec::new(),
                lower,
                message: format!("the answer is a web page, with status {status}"),
            };
        }
        let body: Option<Value> = serde_json::from_slice(&answer.body).ok();
        let entries: Vec<&Value> = match body.as_ref().map(|body| &body["errors"]) {
            Some(Value::Array(entries)) => entries.iter().collect(),
            Some(Value::Null) | None => body.iter().filter(|body| body.is_object()).collect(),
            Some(one) => vec![one],
        };
        // Verbatim, including codes that no specification defines.
        let code = |entry: &Value| entry["code"].as_str().map(str::to_ascii_uppercase);
        let codes = entries.iter().filter_map(|entry| code(entry)).collect();
        // With one entry for each missing blob, the same words occur many times.
        let mut each: Vec<String> = entries.iter().map(|entry| words(code(entry), entry)).collect();
        each.retain(|words| !words.is_empty());
        each.dedup();
        let said = match each.is_empty() {
            true => printable(text.trim()),
            false => printable(&each.join("; ")),
        };
        let message = if said.is_empty() { status.to_string() } else { format!("{status}: {said}") };
        Self { codes, lower, message }
    }
}

/// The code, message and reason in one entry of an error body; the reason is often only in `detail`.
fn words(code: Option<String>, entry: &Value) -> String {
    let told = entry["message"].as_str().map_or("", |told| once(told.trim()));
    let mut words: Vec<String> = code.into_iter().collect();
    words.extend(Some(told.to_owned()).filter(|told| !told.is_empty()));
    let mut words = words.join(" ");
    for detail in DETAILS.iter().filter(|name| **name != "message").filter_map(|name| reason(&entry[*name])) {
        if !words.contains(&detail) {
            let between = if words.is_empty() { "" } else { ": " };
            words = format!("{words}{between}{detail}");
        }
    }
    words
}

/// Members that contain the reason, in an entry or in its `detail` object.
const DETAILS: &[&str] = &["detail", "details", "reason", "description", "error_description", "error", "message"];

/// The text of a reason: the value itself, the first item of a list, or a usual member of an object.
fn reason(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.trim().to_owned()).filter(|text| !text.is_empty()),
        Value::Array(values) => values.iter().find_map(reason),
        Value::Object(_) => DETAILS.iter().find_map(|name| reason(&value[*name])),
        _ => None,
    }
}

/// Removes a repetition: Harbor repeats some messages after a colon.
fn once(message: &str) -> &str {
    let half = message.len().saturating_sub(2) / 2;
    match (message.get(..half), message.get(half..)) {
        (Some(first), Some(rest)) if rest.strip_prefix(": ") == Some(first) => first,
        _ => message,
    }
}

/// Shortened, and safe for a terminal, because a server's text may be displayed.
fn printable(text: &str) -> String {
    let mut shown = escape(&text.chars().take(LONGEST_MESSAGE).collect::<String>()).into_owned();
    if text.chars().nth(LONGEST_MESSAGE).is_some() {
        shown.push('…');
    }
    shown
}
