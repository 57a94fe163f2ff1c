//! Builds a tree with positions from parser events.

use std::collections::HashMap;
use std::rc::Rc;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle};

use super::{KeyPath, Position, Problem, Segment};

/// The deepest level of nesting. The program's own files need seven.
const MAX_DEPTH: usize = 32;
/// The number of values that all aliases together may expand to: enough for shared lists, too few for an attack.
const MAX_ALIASED: usize = 10_000;

/// A value and its start.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) at: Position,
    pub(crate) value: Value,
    /// The number of values in it, including itself, with aliases expanded.
    size: usize,
}

#[derive(Debug)]
pub(crate) enum Value {
    /// Nothing, `~` or `null`, unquoted.
    Null,
    Scalar(String),
    List(Vec<Rc<Node>>),
    /// In the order of the text; only the first of duplicate keys.
    Map(Vec<Entry>),
}

#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) key_at: Position,
    pub(crate) node: Rc<Node>,
}

/// A YAML text as a tree.
#[derive(Debug)]
pub(crate) struct Document {
    pub(crate) root: Rc<Node>,
    /// Duplicate keys in one map.
    pub(crate) duplicates: Vec<Problem>,
}

impl Document {
    /// Parses `text`, of at most `max_bytes`.
    ///
    /// # Errors
    /// The first syntax error, or a text that is too large, too deep or has several documents.
    pub(crate) fn parse(text: &str, max_bytes: usize) -> Result<Self, Problem> {
        let whole_file = |message: String| Problem::new(Position::START, KeyPath::default(), message);
        if text.len() > max_bytes {
            return Err(whole_file(format!("the file is larger than {} MiB", max_bytes >> 20)));
        }
        let mut builder = Builder::default();
        let text = text.trim_start_matches('\u{feff}');
        for event in Parser::new_from_str(text) {
            let (event, span) = event.map_err(|error| {
                let at = position(error.marker());
                Problem::new(at, builder.path(), format!("it isn't valid YAML: {}", error.info()))
            })?;
            builder.take(event, position(&span.start))?;
        }
        let nothing = || Rc::new(Node { at: Position::START, value: Value::Null, size: 1 });
        Ok(Self { root: builder.root.unwrap_or_else(nothing), duplicates: builder.duplicates })
    }

    /// The start of the value at `path`, or of the nearest enclosing one.
    pub(crate) fn position(&self, path: &KeyPath) -> Position {
        let mut node = &self.root;
        for segment in &path.0 {
            match node.child(segment) {
                Some((_, child)) => node = child,
                None => break,
            }
        }
        node.at
    }

    /// The position of the last key in `path`.
    pub(crate) fn key_position(&self, path: &KeyPath) -> Position {
        let mut at = self.root.at;
        let mut node = &self.root;
        for segment in &path.0 {
            match node.child(segment) {
                Some((key_at, child)) => (at, node) = (key_at, child),
                None => break,
            }
        }
        at
    }
}

impl Node {
    fn child(&self, segment: &Segment) -> Option<(Position, &Rc<Self>)> {
        match (&self.value, segment) {
            (Value::List(items), Segment::Index(index)) => items.get(*index).map(|item| (item.at, item)),
            (Value::Map(entries), Segment::Key(key)) => {
                entries.iter().find(|entry| entry.key == *key).map(|entry| (entry.key_at, &entry.node))
            }
            _ => None,
        }
    }
}

fn position(marker: &Marker) -> Position {
    Position { line: marker.line(), column: marker.col() + 1 }
}

/// A list or map whose end hasn't been reached.
struct Open {
    at: Position,
    anchor: usize,
    size: usize,
    content: Content,
}

enum Content {
    List(Vec<Rc<Node>>),
    Map { entries: Vec<Entry>, seen: HashMap<String, Position>, key: Option<(String, Position)> },
}

#[derive(Default)]
struct Builder {
    open: Vec<Open>,
    anchors: HashMap<usize, Rc<Node>>,
    aliased: usize,
    root: Option<Rc<Node>>,
    duplicates: Vec<Problem>,
}

impl Builder {
    fn take(&mut self, event: Event<'_>, at: Position) -> Result<(), Problem> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.refuse_tag(tag.as_deref(), at)?;
                let null = style == ScalarStyle::Plain && matches!(&*text, "" | "~" | "null" | "Null" | "NULL");
                let value = if null && tag.is_none() { Value::Null } else { Value::Scalar(text.into_owned()) };
                self.add(Rc::new(Node { at, value, size: 1 }), anchor)
            }
            Event::SequenceStart(anchor, tag) => {
                self.refuse_tag(tag.as_deref(), at)?;
                self.start(at, anchor, Content::List(Vec::new()))
            }
            Event::MappingStart(anchor, tag) => {
                self.refuse_tag(tag.as_deref(), at)?;
                self.start(at, anchor, Content::Map { entries: Vec::new(), seen: HashMap::new(), key: None })
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(),
            Event::Alias(anchor) => self.alias(anchor, at),
            Event::DocumentStart(_) if self.root.is_some() => {
                Err(Problem::new(at, KeyPath::default(), "the file contains more than one document")
                    .with_hint("remove everything from this `---` on"))
            }
            _ => Ok(()),
        }
    }

    /// The path of the next value.
    fn path(&self) -> KeyPath {
        let segment = |open: &Open| match &open.content {
            Content::List(items) => Some(Segment::Index(items.len())),
            Content::Map { key, .. } => key.as_ref().map(|(key, _)| Segment::Key(key.clone())),
        };
        KeyPath(self.open.iter().filter_map(segment).collect())
    }

    fn problem(&self, at: Position, message: impl Into<String>) -> Problem {
        Problem::new(at, self.path(), message)
    }

    /// Refuses all tags but YAML's own, such as `!!str`, which have no effect because scalars stay text.
    fn refuse_tag(&self, tag: Option<&saphyr_parser::Tag>, at: Position) -> Result<(), Problem> {
        match tag {
            Some(tag) if !tag.is_yaml_core_schema() => {
                Err(self.problem(at, format!("the YAML tag `{tag}` isn't supported")).with_hint("remove the tag"))
            }
            _ => Ok(()),
        }
    }

    fn start(&mut self, at: Position, anchor: usize, content: Content) -> Result<(), Problem> {
        if self.open.len() == MAX_DEPTH {
            return Err(self.problem(at, format!("it is nested deeper than {MAX_DEPTH} levels")));
        }
        if let Some(Open { content: Content::Map { key: None, .. }, .. }) = self.open.last() {
            return Err(self.problem(at, "a list or map can't be a key"));
        }
        self.open.push(Open { at, anchor, size: 1, content });
        Ok(())
    }

    fn end(&mut self) -> Result<(), Problem> {
        let Some(Open { at, anchor, size, content }) = self.open.pop() else {
            return Ok(());
        };
        let value = match content {
            Content::List(items) => Value::List(items),
            Content::Map { entries, .. } => Value::Map(entries),
        };
        self.add(Rc::new(Node { at, value, size }), anchor)
    }

    fn alias(&mut self, anchor: usize, at: Position) -> Result<(), Problem> {
        let Some(node) = self.anchors.get(&anchor).map(Rc::clone) else {
            return Err(self.problem(at, "an alias refers to a value that contains it"));
        };
        self.aliased = self.aliased.saturating_add(node.size);
        if self.aliased > MAX_ALIASED {
            return Err(self
                .problem(at, format!("the file's aliases expand to more than {MAX_ALIASED} values"))
                .with_hint("write the values instead of nested aliases"));
        }
        self.add(node, 0)
    }

    /// Adds a finished value to the innermost open list or map.
    fn add(&mut self, node: Rc<Node>, anchor: usize) -> Result<(), Problem> {
        if anchor != 0 {
            self.anchors.insert(anchor, Rc::clone(&node));
        }
        let Some(parent) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        parent.size = parent.size.saturating_add(node.size);
        match &mut parent.content {
            Content::List(items) => items.push(node),
            Content::Map { key: pending @ None, .. } => match &node.value {
                Value::Scalar(text) => *pending = Some((text.clone(), node.at)),
                Value::Null => *pending = Some((String::new(), node.at)),
                Value::List(_) | Value::Map(_) => return Err(self.problem(node.at, "a list or map can't be a key")),
            },
            Content::Map { entries, seen, key } => {
                let Some((key, key_at)) = key.take() else { return Ok(()) };
                if let Some(first) = seen.get(&key) {
                    let message = format!("duplicate key, first at line {}", first.line);
                    // The map itself has no pending key now, so this is the path of the map.
                    let path = self.path().key(&key);
                    self.duplicates.push(Problem::new(key_at, path, message).with_hint("remove one of them"));
                } else {
                    seen.insert(key.clone(), key_at);
                    entries.push(Entry { key, key_at, node });
                }
            }
        }
        Ok(())
    }
}
