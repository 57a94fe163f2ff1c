//! Progress at a terminal: bars at the bottom, redrawn several times a second, and finished images above them.
//!
//! indicatif renders the bars (`render` defines them), [`Canvas`] takes the rendered lines, and [`Frame`] writes them
//! to the screen.

use std::fmt;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::render::{Screen, Shown, bars};
use super::work::{Ended, Waited, Work, stopping};
use super::{Finished, Progress, Step, Task};
use crate::retry::Waiting;
use crate::terminal::canvas::Canvas;
use crate::terminal::colour::{GREEN, RED, YELLOW, paint};
use crate::terminal::frame::Frame;
use crate::terminal::{escape, shorten, size_of_stderr, wrap};

/// The time between two drawings.
const TICK: Duration = Duration::from_millis(100);

/// A frame on stderr; nothing if that isn't a terminal. [`Progress::end`] clears it; lines above it remain.
pub struct Bars {
    shared: Arc<Shared>,
    ticker: Option<JoinHandle<()>>,
}

struct Shared {
    state: Mutex<State>,
    /// Wakes the ticker to end it.
    ended: Condvar,
}

struct State {
    out: Box<dyn Write + Send>,
    /// Rows and columns, queried for each drawing: a terminal can be resized.
    size: fn() -> Option<(usize, usize)>,
    is_coloured: bool,
    canvas: Canvas,
    frame: Frame,
    work: Option<Work>,
    waited: Waited,
    stops: Option<Instant>,
    is_over: bool,
}

impl Bars {
    /// On stderr.
    pub fn stderr(is_coloured: bool) -> Self {
        Self::new(io::stderr(), size_of_stderr, is_coloured)
    }

    fn new(out: impl Write + Send + 'static, size: fn() -> Option<(usize, usize)>, is_coloured: bool) -> Self {
        let state = State {
            out: Box::new(out),
            size,
            is_coloured,
            canvas: Canvas::default(),
            frame: Frame::default(),
            work: None,
            waited: Waited::default(),
            stops: None,
            is_over: false,
        };
        let shared = Arc::new(Shared { state: Mutex::new(state), ended: Condvar::new() });
        // A separate thread draws the frame, so that it is drawn even if the runtime is busy. Without the thread, it is
        // drawn on each event.
        let drawn = Arc::clone(&shared);
        let ticker = thread::Builder::new().name("progress".to_owned()).spawn(move || drawn.tick()).ok();
        Self { shared, ticker }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.lock()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tick(&self) {
        let mut state = self.lock();
        while !state.is_over {
            state.draw(Instant::now());
            // Waiting releases the lock in every round.
            state = self.ended.wait_timeout(state, TICK).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl State {
    fn draw(&mut self, now: Instant) {
        let lines = self.lines(now);
        let text = self.frame.draw(lines);
        self.write(&text);
    }

    fn lines(&mut self, now: Instant) -> Vec<String> {
        let (Some((rows, columns)), Some(work)) = ((self.size)(), &mut self.work) else { return Vec::new() };
        work.sample(now);
        let screen = Screen { rows, columns, is_coloured: self.is_coloured };
        let bars = bars(Shown { work, waited: &self.waited, stops: self.stops }, screen, now);
        self.canvas.draw(bars, screen.most_lines(), screen.room())
    }

    /// Prints `text`, whole lines, above the frame.
    fn say(&mut self, text: &str) {
        let text = self.frame.above(text);
        self.write(&text);
    }

    /// Prints a wrapped line, with a coloured mark at its start.
    fn say_folded(&mut self, text: &str, (mark, colour): (&str, &str)) {
        let columns = (self.size)().map_or(usize::MAX, |(_, columns)| columns);
        let mut lines = wrap(text, columns, "  ");
        if let Some(rest) = lines.first().and_then(|first| first.strip_prefix(mark)) {
            lines[0] = paint(mark, colour, self.is_coloured) + rest;
        }
        self.say(&(lines.join("\n") + "\n"));
    }

    /// The name, shortened to leave room for a mark.
    fn shortened(&self, image: &str) -> String {
        let columns = (self.size)().map_or(usize::MAX, |(_, columns)| columns);
        shorten(&escape(image), columns.saturating_sub(4))
    }

    /// A terminal that can't be written must not end the run.
    fn write(&mut self, text: &str) {
        if !text.is_empty() {
            let _ = self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush());
        }
    }

    fn end(&mut self) {
        self.work = None;
        let text = self.frame.draw(Vec::new());
        self.write(&text);
    }
}

impl Progress for Bars {
    fn begin(&self, task: Task, images: &[String]) {
        let mut state = self.lock();
        state.end();
        state.work = (!images.is_empty()).then(|| Work::new(task, images, Instant::now()));
    }

    fn step(&self, image: &str, step: Step) {
        if let Some(work) = &mut self.lock().work {
            work.step(image, step, Instant::now());
        }
    }

    fn finished(&self, image: &str, how: Finished) {
        let mut state = self.lock();
        let Some(work) = &mut state.work else { return };
        let ended = work.finished(image, &how);
        let name = state.shortened(image);
        match ended {
            Ended::Untold => {}
            // Images that were neither copied nor failed are shown with their status.
            Ended::Well if how.reason.is_some() => state.say_folded(&format!("– {name}: {}", how.word), ("–", YELLOW)),
            Ended::Well => state.say_folded(&format!("✓ {name}"), ("✓", GREEN)),
            Ended::Failed => {
                let reason = how.reason.as_deref().map_or(how.word.into(), escape);
                state.say_folded(&format!("✗ {name}: {reason}"), ("✗", RED));
            }
        }
    }

    fn waits(&self, host: &str, waiting: Waiting) {
        let _ = self.lock().waited.changed(host, waiting, Instant::now());
    }

    fn stopping(&self, within: Duration) {
        let mut state = self.lock();
        state.stops = Some(Instant::now() + within);
        match state.work {
            Some(_) => state.draw(Instant::now()),
            // The terminal has echoed ^C on this line.
            None => state.say_folded(&format!("\r{}", stopping(0, within)), ("", YELLOW)),
        }
    }

    fn end(&self) {
        self.lock().end();
    }

    fn log(&self, text: &[u8]) {
        self.lock().say(&String::from_utf8_lossy(text));
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        {
            let mut state = self.lock();
            state.end();
            state.is_over = true;
        }
        self.shared.ended.notify_all();
        if let Some(ticker) = self.ticker.take() {
            let _ = ticker.join();
        }
    }
}

impl fmt::Debug for Bars {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Bars")
    }
}
