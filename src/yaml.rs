//! YAML with positions, for reading `mirror.yaml` and `mirror.lock`.
//!
//! One pass over the events of one parser builds a small tree in which every value has its line and column, and
//! finds duplicate keys. Serde reads that tree ([`deserialize`]), so positions in messages and values in structs
//! come from the same parser. Scalars keep their literal text: an unquoted `1.10` read as a string is `1.10`.
//!
//! External text is limited before anything is built from it: its length, its depth, and the expansion of aliases.

mod deserialize;
mod document;
mod problem;

pub(crate) use document::Document;
pub use problem::{KeyPath, Problem, Problems};
pub(crate) use problem::{Position, Segment};

#[cfg(test)]
mod tests;
