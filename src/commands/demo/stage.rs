//! The text of the demo between the verbs: headings, and prose that is wrapped at a terminal.

use super::super::output::is_coloured;
use super::super::printed;
use crate::cli::Global;
use crate::terminal::colour::{BOLD, paint};
use crate::terminal::{columns_of_stdout, wrap};

/// The output: stdout, as for the reports.
pub(super) struct Stage {
    is_quiet: bool,
    is_coloured: bool,
    columns: Option<usize>,
}

impl Stage {
    pub(super) fn of(global: &Global) -> Self {
        let is_coloured = is_coloured(global, &std::io::stdout());
        Self { is_quiet: global.quiet, is_coloured, columns: columns_of_stdout() }
    }

    /// A step: a heading and its description.
    pub(super) fn step(&self, heading: &str, prose: &str) -> anyhow::Result<()> {
        if self.is_quiet {
            return Ok(());
        }
        let columns = self.columns.unwrap_or(usize::MAX);
        let heading = wrap(heading, columns, "   ").into_iter().map(|line| paint(&line, BOLD, self.is_coloured));
        let lines: Vec<String> = heading.chain(self.folded(prose)).collect();
        printed(&format!("\n{}\n\n", lines.join("\n"))).map(drop)
    }

    /// A paragraph; indented lines are printed unchanged.
    pub(super) fn say(&self, prose: &str) -> anyhow::Result<()> {
        if self.is_quiet { Ok(()) } else { self.result(prose) }
    }

    /// A paragraph that is also printed with `--quiet`.
    pub(super) fn result(&self, prose: &str) -> anyhow::Result<()> {
        printed(&(self.folded(prose).join("\n") + "\n")).map(drop)
    }

    fn folded(&self, prose: &str) -> Vec<String> {
        // A pipe has no width, but its text may still be read by people.
        let columns = self.columns.unwrap_or(100).min(100);
        let fold = |line: &str| {
            let indent = " ".repeat(line.len() - line.trim_start().len());
            wrap(line, columns, &indent)
        };
        prose.lines().flat_map(fold).collect()
    }
}
