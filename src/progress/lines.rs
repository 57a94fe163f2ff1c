//! Progress for logs: one line per copied image, and a status line after a while without other output.

use std::fmt;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::work::{Ended, Waited, Work, clock, stopping};
use super::{Finished, Progress, Step, Task};
use crate::retry::Waiting;
use crate::terminal::{escape, size};

/// CI systems stop jobs that are silent for some minutes.
const SIGN_OF_LIFE: Duration = Duration::from_secs(30);

/// Whole lines, without colours or cursor movements, each with the time since the start of the run.
///
/// A separate thread prints the status line, so that it appears even if the runtime is busy.
pub struct Lines {
    shared: Arc<Shared>,
    ticker: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    state: Mutex<State>,
    /// Wakes the ticker to end it.
    ended: Condvar,
}

struct State {
    out: Box<dyn Write + Send>,
    work: Option<Work>,
    waited: Waited,
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
        let state = State { out: Box::new(out), work: None, waited: Waited::default(), began: now, spoke: now };
        Self { shared: Arc::new(Shared { state: Mutex::new(state), ended: Condvar::new() }), ticker: Mutex::default() }
    }

    fn stop_ticker(&self) {
        self.shared.lock().work = None;
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
        while let Some(work) = &state.work {
            let mut rest = interval.saturating_sub(state.spoke.elapsed());
            if rest.is_zero() {
                let line = sign_of_life(work);
                state.say(&line);
                rest = interval;
            }
            // Waiting releases the lock in every round.
            state = self.ended.wait_timeout(state, rest).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl State {
    /// A line that can't be written must not end the run.
    fn say(&mut self, line: &str) {
        let _ = writeln!(self.out, "[{}] {line}", clock(self.began.elapsed()));
        self.spoke = Instant::now();
    }
}

fn sign_of_life(work: &Work) -> String {
    let mut line = format!("still {}: {} of {} {} done", work.task.word(), work.done, work.images, work.task.noun().1);
    if work.failed > 0 {
        line.push_str(&format!(", {} of them failed", work.failed));
    }
    if work.bytes.moved > 0 {
        line.push_str(&format!(", {} moved", size(work.bytes.moved)));
    }
    // The image that has been in progress for longest is named.
    if let Some(oldest) = work.flights.first() {
        line.push_str(&format!("; now {}", oldest.image));
        if work.flights.len() > 1 {
            line.push_str(&format!(" and {} more", work.flights.len() - 1));
        }
    }
    line
}

impl Progress for Lines {
    fn begin(&self, task: Task, images: &[String]) {
        self.stop_ticker();
        let mut state = self.shared.lock();
        let work = Work::new(task, images, Instant::now());
        state.spoke = Instant::now();
        if task.tells_each() && work.images > 0 {
            let noun = if work.images == 1 { "image" } else { "images" };
            state.say(&format!("{} {} {noun}", task.word(), work.images));
        }
        state.work = Some(work);
        drop(state);
        let shared = Arc::clone(&self.shared);
        let ticker = thread::Builder::new().name("progress".to_owned()).spawn(move || shared.tick(SIGN_OF_LIFE));
        // Without the thread there is no status line; the run continues.
        *self.ticker.lock().unwrap_or_else(PoisonError::into_inner) = ticker.ok();
    }

    fn step(&self, image: &str, step: Step) {
        if let Some(work) = &mut self.shared.lock().work {
            work.step(image, step, Instant::now());
        }
    }

    fn finished(&self, image: &str, how: Finished) {
        let mut state = self.shared.lock();
        let Some(work) = &mut state.work else { return };
        let ended = work.finished(image, &how);
        let line = format!("{}/{} {} {}", work.done, work.images, how.word, escape(image));
        match (ended, &how.reason) {
            (Ended::Untold, _) => {}
            (Ended::Failed, Some(reason)) => state.say(&format!("{line}: {}", escape(reason))),
            _ => state.say(&line),
        }
    }

    fn waits(&self, host: &str, waiting: Waiting) {
        let mut state = self.shared.lock();
        if let Some(line) = state.waited.changed(host, waiting, Instant::now()) {
            state.say(&line);
        }
    }

    fn stopping(&self, within: Duration) {
        let mut state = self.shared.lock();
        let transfers = state.work.as_ref().map_or(0, |work| work.transfers);
        state.say(&stopping(transfers, within));
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

    const COPIED: Finished = Finished::well("copied");

    fn failed() -> Finished {
        Finished { word: "failed", ok: false, reason: Some("it is down".to_owned()) }
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn each_copied_image_gets_a_line() {
        let page = Page::default();
        let lines = Lines::new(page.clone());
        lines.begin(Task::Resolve, &names(&["docker.io/library/nginx:1.27", "quay.io/gone:1", "quay.io/gone:2"]));
        lines.finished("docker.io/library/nginx:1.27", Finished::well("resolved"));
        lines.finished("quay.io/gone:1", failed());
        lines.finished("quay.io/gone:2", failed());
        lines.end();
        lines.begin(Task::Copy, &names(&["docker.io/library/nginx:1.27", "ghcr.io/a/b:2"]));
        for image in ["docker.io/library/nginx:1.27", "ghcr.io/a/b:2"] {
            lines.step(image, Step::Started);
        }
        lines.finished("ghcr.io/a/b:2", COPIED);
        lines.step("docker.io/library/nginx:1.27", Step::TransferBegan);
        lines.step("docker.io/library/nginx:1.27", Step::Bytes(3_100_000));
        assert_eq!(
            sign_of_life(lines.shared.lock().work.as_ref().unwrap()),
            "still copying: 1 of 2 images done, 3.1 MB moved; now docker.io/library/nginx:1.27"
        );
        lines.stopping(Duration::from_secs(10));
        lines.finished("docker.io/library/nginx:1.27", failed());
        lines.end();
        let elapsed = regex::Regex::new(r"(?m)^\[\d+ s\] ").unwrap();
        let text = text(&page);
        assert!(text.lines().all(|line| elapsed.is_match(line)), "{text}");
        insta::assert_snapshot!(elapsed.replace_all(&text, ""), @r"
        2/3 failed quay.io/gone:1: it is down
        copying 2 images
        1/2 copied ghcr.io/a/b:2
        finishing 1 transfer, at most 10 s; Ctrl-C again quits
        2/2 failed docker.io/library/nginx:1.27: it is down
        ");
    }

    #[test]
    fn status_lines_are_printed_until_the_task_ends() {
        let page = Page::default();
        let lines = Arc::new(Lines::new(page.clone()));
        lines.begin(Task::Copy, &[]);
        let ticker = {
            let lines = Arc::clone(&lines);
            thread::spawn(move || lines.shared.tick(Duration::from_micros(1)))
        };
        while text(&page).lines().count() < 2 {
            thread::yield_now();
        }
        lines.end();
        ticker.join().unwrap();
        assert!(text(&page).contains("] still copying: 0 of 0 images done\n"));
    }
}
