//! Development containers: `image` in `devcontainer.json`, which is JSON with comments.

use std::path::Path;

use super::{File, Node};

pub(super) fn is_named(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name == "devcontainer.json" || name == ".devcontainer.json")
}

pub(super) fn read(file: &mut File, documents: &[Node]) {
    for document in documents {
        if let Some(image) = document.get("image").and_then(Node::scalar).filter(|scalar| !scalar.is_null()) {
            file.add_scalar(image);
        }
    }
}

/// The text with blanks in place of comments and of tabs between values: then it is YAML, which includes JSON.
pub(super) fn without_comments(text: &str) -> String {
    let mut blank = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let taken = match c {
            '"' => string_len(rest),
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => rest.find("*/").map_or(rest.len(), |end| end + 2),
            _ => c.len_utf8(),
        };
        let (part, after) = rest.split_at(taken);
        match c {
            '/' if taken > 1 => {
                blank.extend(part.bytes().map(|b| if b == b'\n' || b == b'\r' { b as char } else { ' ' }));
            }
            '\t' => blank.push(' '),
            _ => blank.push_str(part),
        }
        rest = after;
    }
    blank
}

/// The length of the string at the start of `text`, including quotes.
fn string_len(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}
