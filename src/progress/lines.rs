//! Progress for logs: a line per copied image, and a sign of life when nothing else was said for a while.

use std::fmt;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bytesize::ByteSize;

use super::{Finished, Progress, Task};

/// CI systems stop jobs that are silent for some minutes; people get nervous sooner.
const SIGN_OF_LIFE: Duration = Duration::from_secs(30);

/// Whole lines, without colours or cursor movements.
///
/// The sign of life comes from a thread of its own, so that it doesn't depend on the runtime being idle enough to tick.
pub struct Lines {
    shared: Arc<Shared>,
    ticker: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    state: Mutex<State>,
    /// Wakes the ticker when the task has ended.
    ended: Condvar,
}

struct State {
    out: Box<dyn Write + Send>,
    task: Option<Task>,
    images: usize,
    done: usize,
    failed: usize,
    bytes: u64,
    current: Vec<String>,
    began: Instant,
    spoke: Instant,
}

impl Lines {
    /// On stderr.
    pub fn stderr() -> Self {
        Self::new(io::stderr())
    }

    fn new(out: impl Write + Send + 'static) -> Self {
        let now = Instant::now();
        let state = State {
            out: Box::new(out),
            task: None,
            images: 0,
            done: 0,
            failed: 0,
            bytes: 0,
            current: Vec::new(),
            began: now,
            spoke: now,
        };
        Self { shared: Arc::new(Shared { state: Mutex::new(state), ended: Condvar::new() }), ticker: Mutex::default() }
    }

    fn stop_ticker(&self) {
        self.shared.lock().task = None;
        self.shared.ended.notify_all();
        let ticker = self.ticker.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(ticker) = ticker {
            let _ = ticker.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tick(&self, interval: Duration) {
        let mut state = self.lock();
        while state.task.is_some() {
            let mut rest = interval.saturating_sub(state.spoke.elapsed());
            if rest.is_zero() {
                let line = state.sign_of_life();
                state.say(&line);
                rest = interval;
            }
            // Waiting is what lets go of the lock: it happens on every round.
            state = self.ended.wait_timeout(state, rest).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl State {
    /// A line that can't be written must not end the run.
    fn say(&mut self, line: &str) {
        let _ = writeln!(self.out, "{line}");
        self.spoke = Instant::now();
    }

    fn sign_of_life(&self) -> String {
        let task = self.task.map_or("working", Task::word);
        let mut line = format!("still {task}: {} of {} images done", self.done, self.images);
        if self.failed > 0 {
            line.push_str(&format!(", {} of them failed", self.failed));
        }
        if self.bytes > 0 {
            line.push_str(&format!(", {} moved", ByteSize::b(self.bytes).display().si()));
        }
        line.push_str(&format!(", {} s", self.began.elapsed().as_secs()));
        // The one that has been at it for longest is the one that somebody will ask about.
        if let Some(oldest) = self.current.first() {
            line.push_str(&format!("; now {oldest}"));
            if self.current.len() > 1 {
                line.push_str(&format!(" and {} more", self.current.len() - 1));
            }
        }
        line
    }
}

impl Progress for Lines {
    fn begin(&self, task: Task, images: usize, bytes: Option<u64>) {
        self.stop_ticker();
        let mut state = self.shared.lock();
        let now = Instant::now();
        (state.task, state.images, state.began, state.spoke) = (Some(task), images, now, now);
        (state.done, state.failed, state.bytes) = (0, 0, 0);
        state.current.clear();
        if matches!(task, Task::Copy | Task::Warm) && images > 0 {
            let size = bytes.map(|bytes| format!(", {}", ByteSize::b(bytes).display().si())).unwrap_or_default();
            let noun = if images == 1 { "image" } else { "images" };
            state.say(&format!("{} {images} {noun}{size}", task.word()));
        }
        drop(state);
        let shared = Arc::clone(&self.shared);
        let ticker = thread::Builder::new().name("progress".to_owned()).spawn(move || shared.tick(SIGN_OF_LIFE));
        // Without a thread there is no sign of life, and still a run.
        *self.ticker.lock().unwrap_or_else(PoisonError::into_inner) = ticker.ok();
    }

    fn started(&self, image: &str) {
        self.shared.lock().current.push(image.to_owned());
    }

    fn bytes(&self, count: u64) {
        self.shared.lock().bytes += count;
    }

    fn finished(&self, image: &str, how: Finished) {
        let mut state = self.shared.lock();
        state.done += 1;
        state.failed += usize::from(!how.ok);
        if let Some(position) = state.current.iter().position(|current| current == image) {
            state.current.remove(position);
        }
        // What is asked of hundreds of images before the first byte moves is news only when it fails.
        if matches!(state.task, Some(Task::Copy | Task::Warm)) || !how.ok {
            let line = format!("[{}/{}] {} {image}", state.done, state.images, how.word);
            state.say(&line);
        }
    }

    fn end(&self) {
        self.stop_ticker();
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        self.stop_ticker();
    }
}

impl fmt::Debug for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lines")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl Write for Page {
        fn write(&mut self, text: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(text)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn text(page: &Page) -> String {
        String::from_utf8(page.0.lock().unwrap().clone()).unwrap()
    }

    const COPIED: Finished = Finished { word: "copied", ok: true };
    const FAILED: Finished = Finished { word: "failed", ok: false };

    #[test]
    fn a_line_per_copied_image() {
        let page = Page::default();
        let lines = Lines::new(page.clone());
        lines.begin(Task::Resolve, 2, None);
        lines.finished("docker.io/library/nginx:1.27", Finished { word: "resolved", ok: true });
        lines.finished("quay.io/gone:1", FAILED);
        lines.end();
        lines.begin(Task::Copy, 2, Some(52_000_000));
        for image in ["docker.io/library/nginx:1.27", "ghcr.io/a/b:2"] {
            lines.started(image);
        }
        lines.finished("ghcr.io/a/b:2", COPIED);
        lines.bytes(3_100_000);
        assert_eq!(
            lines.shared.lock().sign_of_life(),
            "still copying: 1 of 2 images done, 3.1 MB moved, 0 s; now docker.io/library/nginx:1.27"
        );
        lines.finished("docker.io/library/nginx:1.27", FAILED);
        lines.end();
        insta::assert_snapshot!(text(&page), @r"
        [2/2] failed quay.io/gone:1
        copying 2 images, 52.0 MB
        [1/2] copied ghcr.io/a/b:2
        [2/2] failed docker.io/library/nginx:1.27
        ");
    }

    #[test]
    fn silence_is_broken_until_the_end() {
        let page = Page::default();
        let lines = Arc::new(Lines::new(page.clone()));
        lines.begin(Task::Copy, 0, None);
        let ticker = {
            let lines = Arc::clone(&lines);
            thread::spawn(move || lines.shared.tick(Duration::from_micros(1)))
        };
        while text(&page).lines().count() < 2 {
            thread::yield_now();
        }
        lines.end();
        ticker.join().unwrap();
        assert!(text(&page).starts_with("still copying: 0 of 0 images done, 0 s\n"));
    }
}
