//! Serde reads the tree. Scalars are literal text unless a type requests something else, so that YAML's implicit
//! types affect neither one-or-many visitors nor strings that look like numbers, booleans or dates.

use std::fmt;
use std::rc::Rc;

use serde::de::{self, DeserializeOwned, DeserializeSeed, Deserializer, IntoDeserializer, Unexpected, Visitor};

use super::document::{Document, Entry, Node, Value};
use super::{KeyPath, Position, Problem, Segment};

impl Document {
    /// Reads a `T`; calls `unknown` with the path of each key that `T` doesn't have.
    ///
    /// # Errors
    /// The first value of a wrong type.
    pub(crate) fn read<T: DeserializeOwned>(&self, mut unknown: impl FnMut(KeyPath)) -> Result<T, Problem> {
        let callback = |path: serde_ignored::Path<'_>| unknown(KeyPath(segments(&path)));
        serde_ignored::deserialize(&*self.root, callback).map_err(|fault: Fault| {
            let path = KeyPath(fault.path.into_iter().rev().collect());
            Problem::new(fault.at.unwrap_or(self.root.at), path, fault.message)
        })
    }
}

fn segments(path: &serde_ignored::Path<'_>) -> Vec<Segment> {
    use serde_ignored::Path;
    let (parent, segment) = match path {
        Path::Root => return Vec::new(),
        Path::Seq { parent, index } => (parent, Some(Segment::Index(*index))),
        Path::Map { parent, key } => (parent, Some(Segment::Key(key.clone()))),
        Path::Some { parent } | Path::NewtypeStruct { parent } | Path::NewtypeVariant { parent } => (parent, None),
    };
    let mut segments = segments(parent);
    segments.extend(segment);
    segments
}

/// A wrong type. The path is reversed: it grows from the inside out while the error propagates.
#[derive(Debug)]
pub(crate) struct Fault {
    message: String,
    at: Option<Position>,
    path: Vec<Segment>,
}

impl Fault {
    fn at(mut self, node: &Node) -> Self {
        self.at.get_or_insert(node.at);
        self
    }

    fn within(mut self, segment: Segment) -> Self {
        self.path.push(segment);
        self
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Fault {}

impl de::Error for Fault {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self { message: message.to_string(), at: None, path: Vec::new() }
    }

    /// In YAML's terms, and without the value, which may be a secret.
    fn invalid_type(found: Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        let found = match found {
            Unexpected::Unit | Unexpected::Option => "nothing",
            Unexpected::Seq => "a list",
            Unexpected::Map => "a map",
            _ => "a single value",
        };
        Self::custom(format_args!("expected {expected}, found {found}"))
    }
}

impl Node {
    fn wrong(&self, expected: &str) -> Fault {
        let found = match &self.value {
            Value::Null => "nothing",
            Value::Scalar(_) => "a single value",
            Value::List(_) => "a list",
            Value::Map(_) => "a map",
        };
        de::Error::custom(format_args!("expected {expected}, found {found}"))
    }

    fn scalar(&self, expected: &str) -> Result<&str, Fault> {
        match &self.value {
            Value::Scalar(text) => Ok(text),
            _ => Err(self.wrong(expected).at(self)),
        }
    }
}

impl<'de> Deserializer<'de> for &'de Node {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.value {
            Value::Null => visitor.visit_unit(),
            Value::Scalar(text) => visitor.visit_borrowed_str(text),
            Value::List(items) => visitor.visit_seq(List(items.iter().enumerate())),
            Value::Map(entries) => visitor.visit_map(Map { entries: entries.iter(), current: None }),
        }
        .map_err(|fault| fault.at(self))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.value {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_borrowed_str(self.scalar("a single value")?).map_err(|fault: Fault| fault.at(self))
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.scalar("true or false")? {
            "true" | "True" | "TRUE" => visitor.visit_bool(true),
            "false" | "False" | "FALSE" => visitor.visit_bool(false),
            _ => Err(de::Error::custom("expected true or false")),
        }
        .map_err(|fault: Fault| fault.at(self))
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let text = self.scalar("a whole number")?;
        let digits = text.bytes().all(|b| b.is_ascii_digit());
        match text.parse() {
            Ok(number) if digits => visitor.visit_u64(number),
            _ => Err(de::Error::custom("expected a whole number, 0 or more")),
        }
        .map_err(|fault: Fault| fault.at(self))
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.value {
            Value::List(_) => self.deserialize_any(visitor),
            // A single text counts as a list.
            Value::Scalar(_) => visitor.visit_seq(One(Some(self))).map_err(|fault| fault.at(self)),
            _ => Err(self.wrong("a list").at(self)),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.value {
            Value::Map(_) => self.deserialize_any(visitor),
            _ => Err(self.wrong("a map").at(self)),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.deserialize_map(visitor)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_str(visitor)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_str(visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_unit()
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _name: &'static str, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self)
    }

    serde::forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u8 u16 u32 u128 f32 f64 char bytes byte_buf unit unit_struct tuple tuple_struct enum
    }
}

struct List<'de>(std::iter::Enumerate<std::slice::Iter<'de, Rc<Node>>>);

impl<'de> de::SeqAccess<'de> for List<'de> {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Fault> {
        let Some((index, node)) = self.0.next() else { return Ok(None) };
        seed.deserialize(&**node).map(Some).map_err(|fault| fault.at(node).within(Segment::Index(index)))
    }
}

/// A text where a list is expected.
struct One<'de>(Option<&'de Node>);

impl<'de> de::SeqAccess<'de> for One<'de> {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Fault> {
        let Some(node) = self.0.take() else { return Ok(None) };
        seed.deserialize(node).map(Some).map_err(|fault| fault.at(node))
    }
}

struct Map<'de> {
    entries: std::slice::Iter<'de, Entry>,
    current: Option<&'de Entry>,
}

impl<'de> de::MapAccess<'de> for Map<'de> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Fault> {
        self.current = self.entries.next();
        let Some(entry) = self.current else { return Ok(None) };
        seed.deserialize(entry.key.as_str().into_deserializer()).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Fault> {
        let Some(entry) = self.current else { return Err(de::Error::custom("a value without a key")) };
        let path = || Segment::Key(entry.key.clone());
        seed.deserialize(&*entry.node).map_err(|fault| fault.at(&entry.node).within(path()))
    }
}
