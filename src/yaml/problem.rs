//! Problems of a file: position, message and hint.

use std::fmt;
use std::path::Path;

use crate::terminal::escape;

/// A position in a text; both count from 1, columns in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Position {
    pub(crate) line: usize,
    pub(crate) column: usize,
}

impl Position {
    pub(crate) const START: Self = Self { line: 1, column: 1 };
}

/// One step of a [`KeyPath`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Segment {
    Key(String),
    Index(usize),
}

/// The path of a value in a file: `images[2].tags[0]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyPath(pub(crate) Vec<Segment>);

impl KeyPath {
    /// The value of `key` in the map at this path.
    #[must_use]
    pub fn key(&self, key: &str) -> Self {
        self.then(Segment::Key(key.to_owned()))
    }

    /// The item `index` of the list at this path.
    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        self.then(Segment::Index(index))
    }

    /// Whether it is the path of the whole file.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn then(&self, segment: Segment) -> Self {
        let mut path = self.clone();
        path.0.push(segment);
        path
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, segment) in self.0.iter().enumerate() {
            match segment {
                Segment::Key(key) if position == 0 => write!(f, "{key}")?,
                Segment::Key(key) => write!(f, ".{key}")?,
                Segment::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

/// One problem of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// The value or key concerned; empty for the whole file.
    pub path: KeyPath,
    /// The problem: lower case, no full stop.
    pub message: String,
    /// How to fix it.
    pub hint: Option<String>,
    /// The line in the file, if it may be shown.
    pub excerpt: Option<String>,
}

impl Problem {
    pub(crate) fn new(at: Position, path: KeyPath, message: impl Into<String>) -> Self {
        Self { line: at.line, column: at.column, path, message: message.into(), hint: None, excerpt: None }
    }

    /// Adds the line of `text` that has the problem, unless it may contain a secret.
    fn quoting(mut self, text: &str) -> Self {
        const SECRETS: [&str; 4] = ["password", "token", "username", "proxy"];
        let is_secret = |key: &str| SECRETS.iter().any(|secret| key.to_lowercase().contains(secret));
        let in_secret = self.path.0.iter().any(|segment| matches!(segment, Segment::Key(key) if is_secret(key)));
        let line = text.trim_start_matches('\u{feff}').lines().nth(self.line.saturating_sub(1));
        self.excerpt = line.filter(|line| !in_secret && !is_secret(line) && !line.trim().is_empty()).map(str::to_owned);
        self
    }

    /// The line with its number, and a caret below the column; empty if there is none.
    fn quoted(&self) -> String {
        /// How much of a long line is shown: before the column, and in total.
        const BEFORE: usize = 40;
        const SHOWN: usize = 76;
        let Some(excerpt) = &self.excerpt else { return String::new() };
        let column = self.column.saturating_sub(1);
        let skipped = if column > SHOWN - 10 { column - BEFORE } else { 0 };
        let shown: String =
            excerpt.chars().skip(skipped).take(SHOWN).map(|c| if c.is_control() { ' ' } else { c }).collect();
        let number = self.line.to_string();
        let margin = " ".repeat(number.len());
        let caret = " ".repeat(column - skipped);
        format!("{margin} |\n{number} | {}\n{margin} | {caret}^", shown.trim_end())
    }

    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// All problems of a file, in the order of the text. `Display` gives each problem as `FILE:LINE:COLUMN: key.path:
/// what is wrong`, followed by a line `hint: …` if there is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems {
    origin: String,
    problems: Vec<Problem>,
}

impl Problems {
    /// Problems of the file `origin` with this `text`.
    pub(crate) fn new(origin: &Path, text: &str, problems: Vec<Problem>) -> Self {
        let mut problems: Vec<Problem> = problems.into_iter().map(|problem| problem.quoting(text)).collect();
        problems.sort_by(|a, b| (a.line, a.column, &a.path).cmp(&(b.line, b.column, &b.path)));
        problems.dedup();
        Self { origin: origin.display().to_string(), problems }
    }

    /// The name of the file, as the user gave it.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// `FILE:LINE:COLUMN: key.path: what is wrong`.
    pub fn line(&self, problem: &Problem) -> String {
        let Problem { line, column, path, message, .. } = problem;
        let path = if path.is_empty() { String::new() } else { format!("{path}: ") };
        format!("{}:{line}:{column}: {}{}", self.origin, escape(&path), escape(message))
    }

    /// Like `Display`, with the line of the file below each problem and a caret at the column.
    pub fn annotated(&self) -> String {
        let mut text = String::new();
        for problem in &self.problems {
            let hint = problem.hint.as_deref().map(|hint| format!("hint: {}", escape(hint)));
            for part in [self.line(problem), problem.quoted(), hint.unwrap_or_default()] {
                if !part.is_empty() {
                    text.push_str(&part);
                    text.push('\n');
                }
            }
        }
        text
    }

    /// The problems, in the order of the text.
    pub fn iter(&self) -> std::slice::Iter<'_, Problem> {
        self.problems.iter()
    }

    /// The number of problems; at least one.
    #[expect(clippy::len_without_is_empty, reason = "there is no such thing as no problems")]
    pub fn len(&self) -> usize {
        self.problems.len()
    }
}

impl<'a> IntoIterator for &'a Problems {
    type Item = &'a Problem;
    type IntoIter = std::slice::Iter<'a, Problem>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, problem) in self.problems.iter().enumerate() {
            let line_break = if position == 0 { "" } else { "\n" };
            write!(f, "{line_break}{}", self.line(problem))?;
            if let Some(hint) = &problem.hint {
                write!(f, "\nhint: {}", escape(hint))?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}
