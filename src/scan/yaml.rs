//! YAML as a tree in which every scalar has its byte range.
//!
//! It is built from the parser's events, never by patterns over the text. Any number of documents and any tag are
//! accepted; an alias is the same node as its anchor, so that a text is edited where it is written. Nesting beyond
//! [`MAX_DEPTH`] is refused.

use std::collections::HashMap;
use std::ops::Range;
use std::rc::Rc;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle};

const MAX_DEPTH: usize = 200;

/// A value; cheap to clone, as aliases share it.
#[derive(Debug, Clone)]
pub(crate) struct Node(Rc<Value>);

/// The kind of a node.
#[derive(Debug)]
pub(crate) enum Value {
    /// A text, or nothing.
    Scalar(Scalar),
    /// A sequence, and the offset of its end.
    List(Vec<Node>, Range<usize>),
    /// Keys and values in the order of the text; duplicates are kept.
    Map(Vec<(Scalar, Node)>),
}

/// A text and its position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Scalar {
    /// Its text, folded and unescaped.
    pub value: String,
    /// The offset of its start, including quotes.
    pub start: usize,
    /// The bytes of its text, without quotes. `None` if they can't be isolated, as in folded lines.
    pub inner: Option<Range<usize>>,
    /// Whether these bytes are exactly its value, without escapes.
    pub is_literal: bool,
    /// How it is written.
    pub style: Style,
    /// Whether it has an anchor that is used elsewhere, so that an edit affects other places, too.
    pub is_shared: bool,
}

/// How a scalar is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// Without quotes.
    Plain,
    /// In single or double quotes.
    Quoted,
    /// `|` or `>`.
    Block,
}

/// Why a text isn't YAML.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SyntaxError {
    /// The line, counted from 1.
    pub line: usize,
    /// The column, counted from 1.
    pub column: usize,
    /// The problem.
    pub why: String,
}

impl Node {
    /// What it is.
    pub(crate) fn value(&self) -> &Value {
        &self.0
    }

    /// The text, if it is one.
    pub(crate) fn scalar(&self) -> Option<&Scalar> {
        match self.value() {
            Value::Scalar(scalar) => Some(scalar),
            _ => None,
        }
    }

    /// The text, if it is one and not empty.
    pub(crate) fn text(&self) -> Option<&str> {
        self.scalar().filter(|scalar| !scalar.is_null()).map(|scalar| scalar.value.as_str())
    }

    /// The items; empty if it isn't a list.
    pub(crate) fn items(&self) -> &[Self] {
        match self.value() {
            Value::List(items, _) => items,
            _ => &[],
        }
    }

    /// Keys and values; empty if it isn't a map.
    pub(crate) fn entries(&self) -> &[(Scalar, Self)] {
        match self.value() {
            Value::Map(entries) => entries,
            _ => &[],
        }
    }

    /// Whether it is a map.
    pub(crate) fn is_map(&self) -> bool {
        matches!(self.value(), Value::Map(_))
    }

    /// The value of `key`, or its value from a merge key (`<<`).
    pub(crate) fn get(&self, key: &str) -> Option<&Self> {
        self.entry(key).map(|(_, value)| value)
    }

    /// Key and value of `key`.
    pub(crate) fn entry(&self, key: &str) -> Option<&(Scalar, Self)> {
        let own = self.entries().iter().find(|(name, _)| name.value == key);
        own.or_else(|| {
            let merged = self.entries().iter().find(|(name, _)| name.value == "<<").map(|(_, node)| node)?;
            let maps = if merged.is_map() { std::slice::from_ref(merged) } else { merged.items() };
            maps.iter().find_map(|map| map.entries().iter().find(|(name, _)| name.value == key))
        })
    }

    /// Distinguishes shared nodes from equal ones.
    pub(crate) fn id(&self) -> usize {
        Rc::as_ptr(&self.0).addr()
    }
}

impl Scalar {
    /// Whether it is null.
    pub(crate) fn is_null(&self) -> bool {
        self.style == Style::Plain && matches!(self.value.as_str(), "" | "~" | "null" | "Null" | "NULL")
    }
}

/// The documents of `text`.
///
/// # Errors
/// The first syntax error.
pub(crate) fn parse(text: &str) -> Result<Vec<Node>, SyntaxError> {
    let body = text.trim_start_matches('\u{feff}');
    let offsets = Offsets::new(body, text.len() - body.len());
    let mut builder = Builder { text, ..Builder::default() };
    for event in Parser::new_from_str(body) {
        let (event, span) = event.map_err(|error| {
            let (line, column) = (error.marker().line(), error.marker().col() + 1);
            SyntaxError { line, column, why: error.info().to_owned() }
        })?;
        let range = offsets.at(&span.start)..offsets.at(&span.end);
        builder.take(event, range).map_err(|why| {
            let (line, column) = (span.start.line(), span.start.col() + 1);
            SyntaxError { line, column, why: why.to_owned() }
        })?;
    }
    Ok(builder.finish())
}

/// Converts the parser's character offsets to byte offsets.
struct Offsets {
    /// `None` where each character is one byte.
    starts: Option<Vec<usize>>,
    base: usize,
    len: usize,
}

impl Offsets {
    fn new(text: &str, base: usize) -> Self {
        let starts = (!text.is_ascii()).then(|| text.char_indices().map(|(at, _)| at).collect());
        Self { starts, base, len: text.len() }
    }

    fn at(&self, marker: &Marker) -> usize {
        let at = match &self.starts {
            Some(starts) => starts.get(marker.index()).copied().unwrap_or(self.len),
            None => marker.index().min(self.len),
        };
        self.base + at
    }
}

enum Open {
    List { items: Vec<Node>, start: usize, anchor: usize },
    Map { entries: Vec<(Scalar, Node)>, key: Option<Scalar>, anchor: usize },
}

#[derive(Default)]
struct Builder<'t> {
    text: &'t str,
    open: Vec<Open>,
    anchors: HashMap<usize, Node>,
    /// Scalars that an alias refers to.
    shared: Vec<usize>,
    documents: Vec<Node>,
}

impl Builder<'_> {
    fn take(&mut self, event: Event<'_>, range: Range<usize>) -> Result<(), &'static str> {
        match event {
            Event::Scalar(value, style, anchor, _) => {
                let scalar = scalar(self.text, value.into_owned(), style, range);
                self.add(Value::Scalar(scalar), anchor);
            }
            Event::SequenceStart(anchor, _) => {
                self.open.push(Open::List { items: Vec::new(), start: range.start, anchor });
            }
            Event::MappingStart(anchor, _) => self.open.push(Open::Map { entries: Vec::new(), key: None, anchor }),
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(Open::List { items, start, anchor }) => self.add(Value::List(items, start..range.end), anchor),
                Some(Open::Map { entries, anchor, .. }) => self.add(Value::Map(entries), anchor),
                None => {}
            },
            Event::Alias(anchor) => {
                let Some(node) = self.anchors.get(&anchor).cloned() else { return Err("an alias refers to itself") };
                if let Value::Scalar(scalar) = node.value() {
                    self.shared.push(scalar.start);
                }
                self.place(node);
            }
            _ => {}
        }
        if self.open.len() > MAX_DEPTH { Err("it is nested too deeply") } else { Ok(()) }
    }

    fn add(&mut self, value: Value, anchor: usize) {
        let node = Node(Rc::new(value));
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        self.place(node);
    }

    fn place(&mut self, node: Node) {
        match self.open.last_mut() {
            None => self.documents.push(node),
            Some(Open::List { items, .. }) => items.push(node),
            Some(Open::Map { entries, key, .. }) => match key.take() {
                Some(key) => entries.push((key, node)),
                // A key that is a list or a map is never searched for.
                None => *key = Some(node.scalar().cloned().unwrap_or_else(Scalar::nameless)),
            },
        }
    }

    /// Aliases follow their anchors, so shared scalars are known only at the end.
    fn finish(self) -> Vec<Node> {
        if self.shared.is_empty() {
            return self.documents;
        }
        let mut done = HashMap::new();
        self.documents.iter().map(|node| mark(node, &self.shared, &mut done)).collect()
    }
}

impl Scalar {
    fn nameless() -> Self {
        Self { value: String::new(), start: 0, inner: None, is_literal: false, style: Style::Plain, is_shared: false }
    }
}

fn mark(node: &Node, shared: &[usize], done: &mut HashMap<usize, Node>) -> Node {
    if let Some(marked) = done.get(&node.id()) {
        return marked.clone();
    }
    let value = match node.value() {
        Value::Scalar(scalar) => Value::Scalar(Scalar { is_shared: shared.contains(&scalar.start), ..scalar.clone() }),
        Value::List(items, range) => {
            Value::List(items.iter().map(|item| mark(item, shared, done)).collect(), range.clone())
        }
        Value::Map(entries) => {
            Value::Map(entries.iter().map(|(key, value)| (key.clone(), mark(value, shared, done))).collect())
        }
    };
    let marked = Node(Rc::new(value));
    done.insert(node.id(), marked.clone());
    marked
}

fn scalar(text: &str, value: String, style: ScalarStyle, range: Range<usize>) -> Scalar {
    let start = skip_properties(text, &range);
    let rest = &text[start..];
    let (style, open) = match style {
        ScalarStyle::Plain => (Style::Plain, 0),
        ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted => (Style::Quoted, 1),
        ScalarStyle::Literal | ScalarStyle::Folded => (Style::Block, 0),
    };
    let inner = if style == Style::Block {
        let wanted = value.trim_end();
        let raw = text.get(start..range.end).unwrap_or_default();
        let mut places = raw.match_indices(wanted).map(|(at, _)| start + at);
        let only = places.next().filter(|_| !wanted.is_empty() && places.next().is_none());
        only.map(|at| at..at + wanted.len())
    } else {
        let quote = rest.get(..open).unwrap_or_default();
        let literal = rest
            .get(open..)
            .is_some_and(|inner| inner.strip_prefix(value.as_str()).is_some_and(|after| after.starts_with(quote)));
        literal.then(|| start + open..start + open + value.len())
    };
    let is_literal = inner.is_some();
    let inner = inner.or_else(|| (style == Style::Quoted).then(|| quoted(rest, start)).flatten());
    Scalar { value, start, inner, is_literal, style, is_shared: false }
}

/// The text in the quotes at the start of `rest`.
fn quoted(rest: &str, start: usize) -> Option<Range<usize>> {
    let quote = rest.chars().next()?;
    let mut characters = rest.char_indices().skip(1).peekable();
    while let Some((at, c)) = characters.next() {
        let is_double = characters.peek().is_some_and(|(_, next)| *next == quote);
        match c {
            '\\' if quote == '"' => drop(characters.next()),
            '\'' if quote == '\'' && is_double => drop(characters.next()),
            _ if c == quote => return Some(start + 1..start + at),
            _ => {}
        }
    }
    None
}

/// Skips an anchor or a tag, in case the parser includes it.
fn skip_properties(text: &str, range: &Range<usize>) -> usize {
    let mut at = range.start;
    while text[at..].starts_with(['&', '!']) && at < range.end {
        let rest = &text[at..];
        let word = rest.find(char::is_whitespace).unwrap_or(rest.len());
        at += word + (rest[word..].len() - rest[word..].trim_start().len());
    }
    at
}
