//! Progress: what a run prints while it is running, at a terminal and in a log.
//!
//! The engine calls [`Progress`] and knows nothing about terminals. All progress goes to stderr; stdout is for the
//! report. `work` counts, `render` formats, `bars` draws at a terminal, and `lines` writes a log.

mod bars;
mod lines;
mod render;
mod work;

use std::fmt::Debug;
use std::io::{self, IsTerminal as _, Write as _};
use std::sync::Arc;
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

use crate::error::{Error, Kind};
use crate::retry::Waiting;

pub use bars::Bars;
pub use lines::Lines;

/// A phase of a run, from [`Progress::begin`] to [`Progress::end`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// Resolving at the sources.
    Resolve,
    /// Querying the targets.
    Plan,
    /// Checking both, by repository.
    Check,
    /// Creating what is missing at the targets.
    Provision,
    /// Comparing the targets with the lock.
    Verify,
    /// Reading the content of the targets.
    Read,
    /// Pulling through caches.
    Warm,
    /// Copying.
    Copy,
}

impl Task {
    const fn word(self) -> &'static str {
        match self {
            Self::Resolve => "resolving",
            Self::Plan => "planning",
            Self::Check => "checking",
            Self::Provision => "provisioning",
            Self::Verify => "verifying",
            Self::Read => "reading",
            Self::Warm => "warming",
            Self::Copy => "copying",
        }
    }

    /// What the task counts, in the singular and the plural.
    const fn noun(self) -> (&'static str, &'static str) {
        match self {
            Self::Check => ("repository", "repositories"),
            _ => ("image", "images"),
        }
    }

    /// Whether each finished image has its own line. Tasks that only query images by the hundred print only failures.
    const fn tells_each(self) -> bool {
        matches!(self, Self::Copy | Self::Warm)
    }
}

/// A step of the work on an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Work starts. An image may be in progress for several targets at once.
    Started,
    /// This many more bytes are expected.
    Expects(u64),
    /// This many bytes need not be copied after all.
    Spares(u64),
    /// A transfer starts.
    TransferBegan,
    /// This many more bytes were transferred.
    Bytes(u64),
    /// A transfer has ended; this many of its bytes were useless.
    TransferEnded(u64),
}

/// How the work on an image ended, in the report's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// The status, as the result line spells it.
    pub word: &'static str,
    /// Whether it isn't a failure.
    pub ok: bool,
    /// Why it failed, if it did.
    pub reason: Option<String>,
}

impl Finished {
    /// A success.
    pub const fn well(word: &'static str) -> Self {
        Self { word, ok: true, reason: None }
    }

    /// The status `word`, and its error, if there is one.
    pub fn new(word: &'static str, ok: bool, error: Option<&Error>) -> Self {
        Self { word, ok, reason: error.map(ToString::to_string) }
    }

    /// The end of a query: `word`, unless it failed. An interruption isn't a failure of the image.
    pub fn asked(word: &'static str, error: Option<&Error>) -> Self {
        match error.filter(|error| error.kind() != Kind::Interrupted) {
            Some(error) => Self::new("failed", false, Some(error)),
            None => Self::well(word),
        }
    }
}

/// Observes a run. Calls come from many tasks, must not block for long, and can't fail.
pub trait Progress: Debug + Send + Sync {
    /// A task starts for these images: canonical source references, one for each target.
    fn begin(&self, _task: Task, _images: &[String]) {}

    /// A step of the work on `image`.
    fn step(&self, _image: &str, _step: Step) {}

    /// The work on `image` for one of its targets has ended. It need not have been started.
    fn finished(&self, _image: &str, _how: Finished) {}

    /// Whether the run waits for `host`.
    fn waits(&self, _host: &str, _waiting: Waiting) {}

    /// The run was interrupted: transfers in progress have this long to finish.
    fn stopping(&self, within: Duration) {
        write_stderr(format!("{}\n", work::stopping(0, within)).as_bytes());
    }

    /// The task has ended: the progress is cleared, except for finished lines.
    fn end(&self) {}

    /// Writes whole lines to stderr, between the lines of the progress.
    fn log(&self, text: &[u8]) {
        write_stderr(text);
    }
}

/// A log that can't be written must not end the run.
fn write_stderr(text: &[u8]) {
    let _ = io::stderr().write_all(text);
}

/// No progress.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {}

/// The kind of progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// Bars at a terminal, lines elsewhere.
    #[default]
    Auto,
    /// Bars; nothing if stderr isn't a terminal.
    Bars,
    /// One line per finished image, and a regular status line.
    Lines,
    /// Nothing.
    None,
}

/// The environment that the choice depends on.
#[derive(Debug, Clone, Copy)]
struct Surroundings {
    terminal: bool,
    dumb: bool,
    ci: bool,
}

impl Surroundings {
    fn look() -> Self {
        Self {
            terminal: io::stderr().is_terminal(),
            dumb: std::env::var_os("TERM").is_some_and(|term| term == "dumb"),
            ci: std::env::var_os("CI").is_some_and(|ci| !ci.is_empty()),
        }
    }

    fn settle(self, mode: Mode) -> Mode {
        match mode {
            Mode::Auto if self.terminal && !self.dumb && !self.ci => Mode::Bars,
            Mode::Auto => Mode::Lines,
            // A dumb terminal can't show bars.
            Mode::Bars if self.terminal && self.dumb => Mode::Lines,
            Mode::Bars if !self.terminal => Mode::None,
            other => other,
        }
    }
}

/// The progress for `mode` in this environment, with coloured bars if `is_coloured`.
pub fn choose(mode: Mode, is_coloured: bool) -> Arc<dyn Progress> {
    match Surroundings::look().settle(mode) {
        Mode::Bars => Arc::new(Bars::stderr(is_coloured)),
        Mode::None => Arc::new(Silent),
        Mode::Lines | Mode::Auto => Arc::new(Lines::stderr()),
    }
}

/// The writer for tracing: log lines go through the progress, so that neither overwrites the other.
#[derive(Debug, Clone)]
pub struct Log(Arc<dyn Progress>);

impl Log {
    /// A log beside `progress`.
    pub fn new(progress: Arc<dyn Progress>) -> Self {
        Self(progress)
    }
}

impl io::Write for Log {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.0.log(text);
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_drawn_only_at_interactive_terminals() {
        let at = |terminal, dumb, ci| Surroundings { terminal, dumb, ci };
        for (surroundings, mode, expected) in [
            (at(true, false, false), Mode::Auto, Mode::Bars),
            (at(false, false, false), Mode::Auto, Mode::Lines),
            (at(true, true, false), Mode::Auto, Mode::Lines),
            (at(true, false, true), Mode::Auto, Mode::Lines),
            (at(true, false, true), Mode::Bars, Mode::Bars),
            (at(true, true, false), Mode::Bars, Mode::Lines),
            (at(false, false, false), Mode::Bars, Mode::None),
            (at(true, false, false), Mode::Lines, Mode::Lines),
            (at(true, false, false), Mode::None, Mode::None),
        ] {
            assert_eq!(surroundings.settle(mode), expected, "{surroundings:?} {mode:?}");
        }
    }
}
