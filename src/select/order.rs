//! The orders of a selection: each tag gets a rank; greater is newer.

use std::cmp::Ordering;

use super::Sort;
use super::version::Version;

/// The rank of a tag. Tags that can't be parsed rank lowest.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rank<'t> {
    Unreadable,
    Text(&'t str),
    Number(Natural<'t>),
    Version(Version<'t>),
}

impl<'t> Rank<'t> {
    pub(super) fn of(key: Option<&'t str>, sort: Sort) -> Self {
        let Some(key) = key else { return Self::Unreadable };
        match sort {
            Sort::Text => Self::Text(key),
            Sort::Number if key.bytes().any(|b| b.is_ascii_digit()) => Self::Number(Natural(key)),
            Sort::Number => Self::Unreadable,
            Sort::Semver => Version::read(key).map_or(Self::Unreadable, Self::Version),
        }
    }
}

/// Text in which runs of digits compare as numbers of any length, and the rest byte by byte: `build-9` <
/// `build-10`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Natural<'t>(pub(super) &'t str);

impl<'t> Natural<'t> {
    /// Splits off the first run of digits, or of other characters.
    fn run(text: &'t str) -> (&'t str, &'t str) {
        let digit = |b: u8| b.is_ascii_digit();
        let first = text.bytes().next().is_some_and(digit);
        let end = text.bytes().position(|b| digit(b) != first).unwrap_or(text.len());
        text.split_at(end)
    }
}

impl Ord for Natural<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        let (mut a, mut b) = (self.0, other.0);
        while !a.is_empty() && !b.is_empty() {
            let ((left, rest_a), (right, rest_b)) = (Natural::run(a), Natural::run(b));
            let numbers = [left, right].iter().all(|run| run.starts_with(|c: char| c.is_ascii_digit()));
            let order = if numbers {
                let (left, right) = (left.trim_start_matches('0'), right.trim_start_matches('0'));
                left.len().cmp(&right.len()).then_with(|| left.cmp(right))
            } else {
                left.cmp(right)
            };
            if order.is_ne() {
                return order;
            }
            (a, b) = (rest_a, rest_b);
        }
        // One is a prefix of the other, or they differ only in leading zeros.
        a.len().cmp(&b.len()).then_with(|| self.0.cmp(other.0))
    }
}

impl PartialOrd for Natural<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Natural<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl Eq for Natural<'_> {}
