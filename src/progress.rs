//! Progress: what a run says while it goes on, for a person who watches and for a log.
//!
//! The engine speaks to [`Progress`] in plain words and knows no terminal. All of it goes to stderr; stdout is the report's.
//! `work` keeps count, `render` makes lines of it, `bars` draws them over and over at a terminal, `lines` writes a log.

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

/// What is being done. A run goes through several, each from [`Progress::begin`] to [`Progress::end`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// Asking the sources.
    Resolve,
    /// Asking the targets.
    Plan,
    /// Asking both what they would let us do: repository by repository.
    Check,
    /// Creating what is missing at the targets.
    Provision,
    /// Asking the targets what they hold.
    Verify,
    /// Reading back what the targets hold.
    Read,
    /// Pulling through caches.
    Warm,
    /// Moving bytes.
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

    /// What it goes through.
    const fn noun(self) -> (&'static str, &'static str) {
        match self {
            Self::Check => ("repository", "repositories"),
            _ => ("image", "images"),
        }
    }

    /// Whether each image that is done is worth a line. What is asked of hundreds of them before the first byte moves is news
    /// only when it fails.
    const fn tells_each(self) -> bool {
        matches!(self, Self::Copy | Self::Warm)
    }
}

/// A step of the work on an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Work begins. The same image may be worked on for several targets at once.
    Started,
    /// So many more bytes are known to be needed.
    Expects(u64),
    /// So many of them needn't be moved after all.
    Spares(u64),
    /// A transfer begins.
    TransferBegan,
    /// So many more bytes have come, for a target or from one.
    Bytes(u64),
    /// A transfer has ended; so many of its bytes were of no use.
    TransferEnded(u64),
}

/// How work on an image ended, in the report's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// The status, as the result line spells it.
    pub word: &'static str,
    /// Whether it is as it should be, or at least no failure.
    pub ok: bool,
    /// What keeps it from being so.
    pub reason: Option<String>,
}

impl Finished {
    /// It is as it should be.
    pub const fn well(word: &'static str) -> Self {
        Self { word, ok: true, reason: None }
    }

    /// The status `word`, and the error that led to it, if there is one.
    pub fn new(word: &'static str, ok: bool, error: Option<&Error>) -> Self {
        Self { word, ok, reason: error.map(ToString::to_string) }
    }

    /// The end of a question: `word`, unless it failed. A run that was asked to stop is no failure of the image.
    pub fn asked(word: &'static str, error: Option<&Error>) -> Self {
        match error.filter(|error| error.kind() != Kind::Interrupted) {
            Some(error) => Self::new("failed", false, Some(error)),
            None => Self::well(word),
        }
    }
}

/// Watches a run. Calls come from many tasks at once, must not block for long, and cannot fail.
pub trait Progress: Debug + Send + Sync {
    /// A task begins, about these: canonical source references, each once for each of its targets.
    fn begin(&self, _task: Task, _images: &[String]) {}

    /// The work on `image` goes on.
    fn step(&self, _image: &str, _step: Step) {}

    /// Work on `image`, for one of its targets, has ended. It need not have been started.
    fn finished(&self, _image: &str, _how: Finished) {}

    /// Whether `host` is waited for.
    fn waits(&self, _host: &str, _waiting: Waiting) {}

    /// The run was asked to stop: what is under way has this long.
    fn stopping(&self, within: Duration) {
        write_stderr(format!("{}\n", work::stopping(0, within)).as_bytes());
    }

    /// The task has ended: nothing of it stays on the screen but what is worth keeping.
    fn end(&self) {}

    /// Writes whole lines to stderr, without tearing what is shown there.
    fn log(&self, text: &[u8]) {
        write_stderr(text);
    }
}

/// A log that can't be written must not end the run.
fn write_stderr(text: &[u8]) {
    let _ = io::stderr().write_all(text);
}

/// Says nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {}

/// Which kind of progress is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// Bars for a person at a terminal, else lines.
    #[default]
    Auto,
    /// Bars; nothing where stderr is no terminal.
    Bars,
    /// A line per finished image, and a sign of life.
    Lines,
    /// Nothing.
    None,
}

/// What the choice depends on.
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
            // It couldn't draw them.
            Mode::Bars if self.terminal && self.dumb => Mode::Lines,
            Mode::Bars if !self.terminal => Mode::None,
            other => other,
        }
    }
}

/// The progress for `mode` where this process runs, with colours where bars are.
pub fn choose(mode: Mode, is_coloured: bool) -> Arc<dyn Progress> {
    match Surroundings::look().settle(mode) {
        Mode::Bars => Arc::new(Bars::stderr(is_coloured)),
        Mode::None => Arc::new(Silent),
        Mode::Lines | Mode::Auto => Arc::new(Lines::stderr()),
    }
}

/// Where tracing writes: through the progress, so that neither tears the other.
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
    fn bars_are_for_people_at_terminals() {
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
