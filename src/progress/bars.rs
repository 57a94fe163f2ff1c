//! Progress for people: one summary line and the images at work. The only file that knows indicatif.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{Finished, Progress, Task, write_stderr};

/// More than this push the rest of the terminal out of sight.
const SHOWN: usize = 6;
const KNOWN: &str = "{prefix} [{bar:20}] {decimal_bytes}/{decimal_total_bytes} {decimal_bytes_per_sec} {elapsed}";
const UNKNOWN: &str = "{prefix} {decimal_bytes} {decimal_bytes_per_sec} {elapsed}";
const ASKING: &str = "{prefix} {elapsed}";
const IMAGE: &str = "  {elapsed:>4} {wide_msg}";

/// Bars on stderr; nothing if that isn't a terminal. They are gone after [`Progress::end`], failures stay.
pub struct Bars {
    multi: MultiProgress,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    task: Option<Task>,
    summary: Option<ProgressBar>,
    images: usize,
    done: usize,
    shown: Vec<(String, ProgressBar)>,
    /// Those without a line, and since when they are worked on.
    waiting: VecDeque<(String, Instant)>,
}

impl Bars {
    /// On stderr.
    pub fn stderr() -> Self {
        Self::new(ProgressDrawTarget::stderr_with_hz(10))
    }

    fn new(target: ProgressDrawTarget) -> Self {
        Self { multi: MultiProgress::with_draw_target(target), state: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn show(&self, state: &mut State, image: String, since: Instant) {
        let bar = self
            .multi
            .add(ProgressBar::no_length())
            .with_style(style(IMAGE))
            .with_message(image.clone())
            .with_elapsed(since.elapsed());
        bar.enable_steady_tick(Duration::from_secs(1));
        state.shown.push((image, bar));
    }
}

fn style(template: &str) -> ProgressStyle {
    let style = ProgressStyle::with_template(template).expect("the templates are constants and tested");
    style.progress_chars("=> ")
}

impl State {
    fn label(&self) {
        let (Some(summary), Some(task)) = (&self.summary, self.task) else { return };
        summary.set_prefix(format!("{} {}/{} images", task.word(), self.done, self.images));
    }

    /// Takes `image` off the screen or out of the queue; whether a line has become free.
    fn forget(&mut self, image: &str) -> bool {
        if let Some(position) = self.shown.iter().position(|(shown, _)| shown == image) {
            self.shown.remove(position).1.finish_and_clear();
            return true;
        }
        if let Some(position) = self.waiting.iter().position(|(waiting, _)| waiting == image) {
            self.waiting.remove(position);
        }
        false
    }
}

impl Progress for Bars {
    fn begin(&self, task: Task, images: usize, bytes: Option<u64>) {
        self.end();
        if images == 0 {
            return;
        }
        let mut state = self.lock();
        let template = match (task, bytes) {
            (Task::Copy | Task::Read | Task::Warm, Some(_)) => KNOWN,
            (Task::Copy | Task::Read | Task::Warm, None) => UNKNOWN,
            (Task::Resolve | Task::Plan | Task::Check | Task::Verify, _) => ASKING,
        };
        let bar = self.multi.add(ProgressBar::no_length()).with_style(style(template));
        if let Some(bytes) = bytes {
            bar.set_length(bytes);
        }
        bar.enable_steady_tick(Duration::from_millis(200));
        *state = State { task: Some(task), summary: Some(bar), images, ..State::default() };
        state.label();
    }

    fn started(&self, image: &str) {
        let mut state = self.lock();
        if state.shown.len() < SHOWN {
            self.show(&mut state, image.to_owned(), Instant::now());
        } else {
            state.waiting.push_back((image.to_owned(), Instant::now()));
        }
    }

    fn bytes(&self, count: u64) {
        if let Some(summary) = &self.lock().summary {
            summary.inc(count);
        }
    }

    fn finished(&self, image: &str, how: Finished) {
        let mut state = self.lock();
        state.done += 1;
        state.label();
        if state.forget(image)
            && let Some((next, since)) = state.waiting.pop_front()
        {
            self.show(&mut state, next, since);
        }
        if !how.ok {
            let _ = self.multi.println(format!("{} {image}", how.word));
        }
    }

    fn end(&self) {
        let state = std::mem::take(&mut *self.lock());
        for bar in state.shown.into_iter().map(|(_, bar)| bar).chain(state.summary) {
            bar.finish_and_clear();
        }
        let _ = self.multi.clear();
    }

    fn log(&self, text: &[u8]) {
        self.multi.suspend(|| write_stderr(text));
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        self.end();
    }
}

impl fmt::Debug for Bars {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Bars")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_sound_and_a_line_is_handed_on() {
        for template in [KNOWN, UNKNOWN, ASKING, IMAGE] {
            style(template);
        }
        let bars = Bars::new(ProgressDrawTarget::hidden());
        bars.begin(Task::Copy, 8, Some(100));
        let names: Vec<String> = (0..8).map(|n| format!("ghcr.io/a/b:{n}")).collect();
        for name in &names {
            bars.started(name);
        }
        let counts = |state: &State| (state.shown.len(), state.waiting.len());
        assert_eq!(counts(&bars.lock()), (SHOWN, 2));
        bars.finished(&names[0], Finished { word: "copied", ok: true });
        bars.finished(&names[7], Finished { word: "failed", ok: false });
        bars.finished("ghcr.io/never/started:1", Finished { word: "failed", ok: false });
        let shown: Vec<_> = bars.lock().shown.iter().map(|(name, _)| name.clone()).collect();
        assert_eq!(shown, names[1..7]);
        assert_eq!(bars.lock().summary.as_ref().unwrap().prefix(), "copying 3/8 images");
        bars.end();
        assert!(bars.lock().summary.is_none());
    }
}
