//! YAML with positions: what `mirror.yaml` and `mirror.lock` are read with.
//!
//! One pass over the events of one parser gives a small tree in which every value knows its line and column, and finds
//! duplicate keys. Serde reads that tree ([`deserialize`]), so what a message points at and what a struct holds can't
//! come from two opinions about YAML. Scalars keep their literal text: an unquoted `1.10` read as a string is `1.10`.
//!
//! Text from outside is bounded before anything is built from it: length, depth, and what aliases expand to.

mod deserialize;
mod document;
mod problem;

pub(crate) use document::Document;
pub use problem::{KeyPath, Problem, Problems};
pub(crate) use problem::{Position, Segment};

#[cfg(test)]
mod tests;
