//! A table with aligned columns, fitted to the width of the terminal: names are shortened, facts aren't.

use crate::terminal::{escape, padded, shorten, width};

/// The column of words at the start of a row, with the gap after it.
const WORDS: usize = 12;
/// Names with less room than this get their own line.
const LEAST: usize = 24;

/// One image.
pub(super) struct Row {
    pub(super) word: (&'static str, &'static str),
    pub(super) source: String,
    /// The target, if it isn't obvious.
    pub(super) target: Option<String>,
    /// The aligned facts.
    pub(super) begin: String,
    /// The facts after those.
    pub(super) rest: String,
}

/// Rows and the widths of their columns.
pub(super) struct Table {
    rows: Vec<Row>,
    sources: usize,
    targets: usize,
    /// Whether names and facts share a line.
    is_wide: bool,
}

impl Table {
    pub(super) fn new(mut rows: Vec<Row>, columns: Option<usize>) -> Self {
        for row in &mut rows {
            row.source = escape(&row.source).into_owned();
            row.target = row.target.take().map(|target| format!("→ {}", escape(&target)));
        }
        let widest = |of: &dyn Fn(&Row) -> usize| rows.iter().map(of).max().unwrap_or(0);
        let sources = widest(&|row| width(&row.source));
        let targets = widest(&|row| row.target.as_deref().map_or(0, width));
        let facts = widest(&|row| width(row.begin.trim_end()));
        let Some(columns) = columns else { return Self { rows, sources, targets, is_wide: true } };
        let room = columns.saturating_sub(WORDS + 2 + facts);
        let least = if targets > 0 { 2 * LEAST } else { LEAST };
        let is_wide = room >= least.min(sources + targets + 1);
        let room = if is_wide { room } else { columns.saturating_sub(WORDS) };
        let (sources, targets) = match (targets, is_wide) {
            (0, _) | (_, false) => (sources.min(room), targets.min(room)),
            (_, true) if sources + 1 + targets <= room => (sources, targets),
            (_, true) => {
                let sources = sources.min((room / 2).max(room.saturating_sub(targets + 1)));
                (sources, room.saturating_sub(sources + 1))
            }
        };
        Self { rows, sources, targets, is_wide }
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(super) fn word(&self, row: usize) -> (&'static str, &'static str) {
        self.rows[row].word
    }

    /// The text after the word of a row; several lines in a narrow terminal.
    pub(super) fn lines(&self, row: usize) -> Vec<String> {
        let Row { source, target, begin, rest, .. } = &self.rows[row];
        let source = shorten(source, self.sources);
        let target = target.as_deref().map(|target| shorten(target, self.targets));
        let facts = format!("{begin}{rest}");
        if !self.is_wide {
            let facts = Some(facts.trim().to_owned()).filter(|facts| !facts.is_empty());
            return [Some(source), target, facts].into_iter().flatten().collect();
        }
        let mut line = padded(&source, self.sources);
        if self.targets > 0 {
            line.push(' ');
            line.push_str(&padded(&target.unwrap_or_default(), self.targets));
        }
        vec![format!("{line}  {facts}")]
    }
}
