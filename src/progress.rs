//! Progress: what a run says while it goes on, for a person who watches and for a log.
//!
//! The engine speaks to [`Progress`] in plain words and knows no terminal. All of it goes to stderr; stdout is the report's.

mod bars;
mod lines;

use std::fmt::Debug;
use std::io::{self, IsTerminal as _, Write as _};
use std::sync::Arc;

use tracing_subscriber::fmt::MakeWriter;

pub use bars::Bars;
pub use lines::Lines;

/// What is being done to the images. A run goes through several, each from [`Progress::begin`] to [`Progress::end`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// Asking the sources.
    Resolve,
    /// Asking the targets.
    Plan,
    /// Asking both what they would let us do.
    Check,
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
            Self::Verify => "verifying",
            Self::Read => "reading",
            Self::Warm => "warming",
            Self::Copy => "copying",
        }
    }
}

/// How an image ended, in the report's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Finished {
    /// The status, as the result line spells it.
    pub word: &'static str,
    /// Whether it is as it should be.
    pub ok: bool,
}

/// Watches a run. Calls come from many tasks at once, must not block for long, and cannot fail.
pub trait Progress: Debug + Send + Sync {
    /// A task begins: how many images, and how many bytes are to be moved if that is known.
    fn begin(&self, task: Task, images: usize, bytes: Option<u64>);

    /// Work on `image`, a canonical source reference, begins. The same image may be worked on for several targets at once.
    fn started(&self, image: &str);

    /// So many more bytes have reached a target, or were read back from one.
    fn bytes(&self, count: u64);

    /// Work on `image` has ended. It need not have been started.
    fn finished(&self, image: &str, how: Finished);

    /// The task has ended: nothing of it stays on the screen but what is worth keeping.
    fn end(&self);

    /// Writes log lines to stderr, without tearing what is shown there.
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

impl Progress for Silent {
    fn begin(&self, _: Task, _: usize, _: Option<u64>) {}
    fn started(&self, _: &str) {}
    fn bytes(&self, _: u64) {}
    fn finished(&self, _: &str, _: Finished) {}
    fn end(&self) {}
}

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
            other => other,
        }
    }
}

/// The progress for `mode` where this process runs.
pub fn choose(mode: Mode) -> Arc<dyn Progress> {
    match Surroundings::look().settle(mode) {
        Mode::Bars => Arc::new(Bars::stderr()),
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
            (at(true, false, false), Mode::Lines, Mode::Lines),
            (at(true, false, false), Mode::None, Mode::None),
        ] {
            assert_eq!(surroundings.settle(mode), expected, "{surroundings:?} {mode:?}");
        }
    }
}
