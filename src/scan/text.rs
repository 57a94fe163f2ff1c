//! A reference as text: its parts, and the variables in it.
//!
//! `${NAME:-default}` is read as its default, and the default's bytes are a separate piece: an edit changes the
//! default, and keeps the variable.

use std::ops::Range;

use crate::oci::Reference;

/// Some bytes of a reference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Piece {
    /// Their text.
    pub value: String,
    /// Their position.
    pub span: Range<usize>,
    /// The variable whose default they are.
    pub variable: Option<String>,
    /// Whether nothing else in the file uses these bytes.
    pub is_own: bool,
}

/// The parts of a written reference, as byte ranges.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Parts {
    /// Where the repository ends.
    pub repository: usize,
    /// The tag, without its colon.
    pub tag: Option<Range<usize>>,
    /// The digest, without its @.
    pub digest: Option<Range<usize>>,
}

/// The syntax of variables.
pub(super) struct Syntax {
    /// The escape character: `\$NAME`.
    pub(super) escape: Option<char>,
    /// Whether `$$` is a dollar sign.
    pub(super) doubled: bool,
}

impl Syntax {
    /// `${NAME:-default}` in YAML, as in Compose and others.
    pub(super) const BRACES: Self = Self { escape: None, doubled: true };
}

/// Looks up the value of a variable in the file.
pub(super) type Lookup<'a> = dyn Fn(&str) -> Option<Vec<Piece>> + 'a;

/// The text of `pieces`.
pub(super) fn joined(pieces: &[Piece]) -> String {
    pieces.iter().map(|piece| piece.value.as_str()).collect()
}

/// Parses `written` as a reference, or says why it isn't one.
pub(super) fn read(written: &str) -> Result<Reference, String> {
    if written.contains("{{") || written.contains("{%") {
        return Err("it is a template".to_owned());
    }
    if written.contains("://") {
        return Err("it has a scheme".to_owned());
    }
    let reference: Reference = written.parse().map_err(|error: crate::oci::ReferenceError| error.to_string())?;
    match reference.repository().registry().as_str() {
        // With a port it is a registry; without one, podman and buildah use it for locally built images.
        "localhost" => Err("it is a local image".to_owned()),
        _ => Ok(reference),
    }
}

/// Splits a reference into its parts.
pub(crate) fn cut(written: &str) -> Parts {
    let at = written.find('@');
    let rest = &written[..at.unwrap_or(written.len())];
    let name = rest.rfind('/').map_or(0, |slash| slash + 1);
    let colon = rest[name..].find(':').map(|colon| name + colon);
    Parts {
        repository: colon.unwrap_or(rest.len()),
        tag: colon.map(|colon| colon + 1..rest.len()),
        digest: at.map(|at| at + 1..written.len()),
    }
}

/// The pieces of a text, given as characters with offsets, with a default for each variable.
///
/// # Errors
/// Why it can't be determined.
pub(super) fn expand(characters: &[(usize, char)], syntax: &Syntax, lookup: &Lookup<'_>) -> Result<Vec<Piece>, String> {
    let mut pieces: Vec<Piece> = Vec::new();
    let mut at = 0;
    while let Some(&(offset, c)) = characters.get(at) {
        let next = characters.get(at + 1).map(|(_, c)| *c);
        if Some(c) == syntax.escape && next == Some('$') || c == '$' && next == Some('$') && syntax.doubled {
            push(&mut pieces, characters[at + 1].0, '$');
            at += 2;
        } else if c == '$' {
            let (found, used) = variable(&characters[at..], syntax, lookup)?;
            pieces.extend(found);
            at += used;
        } else {
            push(&mut pieces, offset, c);
            at += 1;
        }
    }
    Ok(pieces)
}

/// Adds a character; one that follows the last piece directly is appended to it.
fn push(pieces: &mut Vec<Piece>, offset: usize, c: char) {
    let end = offset + c.len_utf8();
    match pieces.last_mut() {
        Some(last) if last.variable.is_none() && last.span.end == offset => {
            last.value.push(c);
            last.span.end = end;
        }
        _ => pieces.push(Piece { value: c.to_string(), span: offset..end, variable: None, is_own: true }),
    }
}

/// The variable at the start of `characters`, and its length in characters.
fn variable(characters: &[(usize, char)], syntax: &Syntax, lookup: &Lookup<'_>) -> Result<(Vec<Piece>, usize), String> {
    let braced = match characters.get(1) {
        Some((_, '{')) => true,
        Some((_, c)) if is_name(*c) => false,
        _ => return Err("it contains an expression".to_owned()),
    };
    let begin = if braced { 2 } else { 1 };
    let name: String = characters[begin..].iter().map(|(_, c)| *c).take_while(|c| is_name(*c)).collect();
    let end = begin + name.chars().count();
    if name.is_empty() {
        return Err("it contains an expression".to_owned());
    }
    let known = || lookup(&name).map(|pieces| named(pieces, &name));
    let unknown = || format!("the variable {name} has no default");
    if !braced {
        return Ok((known().ok_or_else(unknown)?, end));
    }
    let close = closing(characters).ok_or("a brace isn't closed")?;
    let body = &characters[end..close];
    let operator: String = body.iter().map(|(_, c)| *c).take(2).collect();
    let skip = match operator.as_str() {
        "" => return Ok((known().ok_or_else(unknown)?, close + 1)),
        ":-" | ":=" => 2,
        _ if operator.starts_with(['-', '=']) => 1,
        _ if operator.starts_with('?') || operator == ":?" => return Ok((known().ok_or_else(unknown)?, close + 1)),
        _ => return Err(format!("the syntax of the variable {name} isn't supported")),
    };
    if let Some(known) = known().filter(|known| skip == 1 || !joined(known).is_empty()) {
        return Ok((known, close + 1));
    }
    let mut default = expand(&body[skip..], syntax, lookup)?;
    if default.is_empty() {
        let at = characters[close].0;
        default.push(Piece { value: String::new(), span: at..at, variable: None, is_own: true });
    }
    Ok((named(default, &name), close + 1))
}

fn named(pieces: Vec<Piece>, name: &str) -> Vec<Piece> {
    pieces.into_iter().map(|piece| Piece { variable: Some(name.to_owned()), ..piece }).collect()
}

/// The brace that closes the one after the first dollar sign.
fn closing(characters: &[(usize, char)]) -> Option<usize> {
    let mut depth = 0;
    for (index, (_, c)) in characters.iter().enumerate() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => continue,
        }
        if depth == 0 {
            return Some(index);
        }
    }
    None
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}
