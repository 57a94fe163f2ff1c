//! The state of the current task: finished images, images in progress, and bytes. It knows neither a clock nor a
//! terminal: times are passed in.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use super::{Finished, Step, Task};
use crate::retry::{Wait, Waiting};
use crate::terminal::{escape, shorten, width};

/// The rate is averaged over this time.
const RECENT: Duration = Duration::from_secs(3);
/// Shorter waits aren't reported.
const WORTH_A_WORD: Duration = Duration::from_secs(1);
/// Hosts aren't shortened to less than this width.
const MOST_OF_A_HOST: usize = 12;

/// A task.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) task: Task,
    pub(super) began: Instant,
    /// The number of targets left for each image.
    left: HashMap<String, usize>,
    pub(super) images: usize,
    pub(super) done: usize,
    pub(super) failed: usize,
    begun: HashSet<String>,
    /// In the order in which they were started.
    pub(super) flights: Vec<Flight>,
    pub(super) bytes: Tally,
    pub(super) transfers: usize,
    /// All transferred bytes, useless ones included, with their times.
    come: u64,
    samples: VecDeque<(Instant, u64)>,
    /// Reasons that were printed already: the report lists all images of each reason.
    told: HashSet<String>,
}

/// An image in progress.
#[derive(Debug, Clone)]
pub(super) struct Flight {
    pub(super) image: String,
    pub(super) since: Instant,
    /// The number of its targets in progress.
    targets: usize,
    pub(super) bytes: Tally,
}

/// The expected bytes, as far as known, and the transferred ones.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Tally {
    expected: u64,
    pub(super) moved: u64,
}

impl Tally {
    fn count(&mut self, step: Step) {
        match step {
            Step::Expects(bytes) => self.expected += bytes,
            Step::Spares(bytes) => self.expected = self.expected.saturating_sub(bytes),
            Step::Bytes(bytes) => self.moved += bytes,
            Step::TransferEnded(lost) => self.moved = self.moved.saturating_sub(lost),
            Step::Started | Step::TransferBegan => {}
        }
    }

    pub(super) fn goal(self) -> u64 {
        self.expected.max(self.moved)
    }
}

/// What to print for an image that has ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// Nothing: it continues for other targets, or failed for a reason that was printed already.
    Untold,
    /// It is done.
    Well,
    /// It failed, for this reason.
    Failed,
}

impl Work {
    pub(super) fn new(task: Task, images: &[String], now: Instant) -> Self {
        let mut left: HashMap<String, usize> = HashMap::new();
        images.iter().for_each(|image| *left.entry(image.clone()).or_default() += 1);
        Self {
            task,
            began: now,
            images: left.len(),
            left,
            done: 0,
            failed: 0,
            begun: HashSet::new(),
            flights: Vec::new(),
            bytes: Tally::default(),
            transfers: 0,
            come: 0,
            samples: VecDeque::from([(now, 0)]),
            told: HashSet::new(),
        }
    }

    pub(super) fn step(&mut self, image: &str, step: Step, now: Instant) {
        match step {
            Step::Started => self.start(image, now),
            Step::TransferBegan => self.transfers += 1,
            Step::TransferEnded(_) => self.transfers = self.transfers.saturating_sub(1),
            Step::Bytes(count) => self.come += count,
            Step::Expects(_) | Step::Spares(_) => {}
        }
        self.bytes.count(step);
        if let Some(flight) = self.flight(image) {
            flight.bytes.count(step);
        }
    }

    fn start(&mut self, image: &str, now: Instant) {
        self.begun.insert(image.to_owned());
        match self.flight(image) {
            Some(flight) => flight.targets += 1,
            None => {
                self.flights.push(Flight { image: image.to_owned(), since: now, targets: 1, bytes: Tally::default() });
            }
        }
    }

    pub(super) fn finished(&mut self, image: &str, how: &Finished) -> Ended {
        self.begun.insert(image.to_owned());
        if let Some(at) = self.flights.iter().position(|flight| flight.image == image) {
            self.flights[at].targets -= 1;
            if self.flights[at].targets == 0 {
                self.flights.remove(at);
            }
        }
        let left = self.left.get_mut(image).map_or(0, |left| {
            *left = left.saturating_sub(1);
            *left
        });
        self.done += usize::from(left == 0);
        if how.ok {
            return if left == 0 && self.task.tells_each() { Ended::Well } else { Ended::Untold };
        }
        self.failed += 1;
        let is_new = how.reason.as_ref().is_none_or(|reason| self.told.insert(reason.clone()));
        if is_new { Ended::Failed } else { Ended::Untold }
    }

    /// Whether the sizes of some images are unknown.
    pub(super) fn is_unread(&self) -> bool {
        let is_read = |flight: &Flight| flight.bytes.goal() > 0;
        self.begun.len() < self.images || self.task.tells_each() && !self.flights.iter().all(is_read)
    }

    /// Records the progress; called several times a second.
    pub(super) fn sample(&mut self, now: Instant) {
        self.samples.push_back((now, self.come));
        while self.samples.len() > 2 && now.duration_since(self.samples[1].0) >= RECENT {
            self.samples.pop_front();
        }
    }

    /// The current rate, in bytes per second.
    pub(super) fn rate(&self) -> Option<u64> {
        let ((began, before), (now, come)) = (self.samples.front()?, self.samples.back()?);
        let millis = u64::try_from(now.duration_since(*began).as_millis()).unwrap_or(u64::MAX);
        (millis >= 500).then(|| (come - before).saturating_mul(1000) / millis)
    }

    fn flight(&mut self, image: &str) -> Option<&mut Flight> {
        self.flights.iter_mut().find(|flight| flight.image == image)
    }
}

/// The hosts that the run waits for, and which of them were reported.
#[derive(Debug, Default)]
pub(super) struct Waited {
    pub(super) hosts: BTreeMap<String, Wait>,
    told: HashSet<String>,
}

impl Waited {
    /// The log line for the start or end of a wait.
    pub(super) fn changed(&mut self, host: &str, waiting: Waiting, now: Instant) -> Option<String> {
        let before = match waiting {
            Waiting::Until(wait) => {
                let line = wait_line(host, &wait, now, usize::MAX);
                let is_news = is_worth_a_word(&wait, now) && self.told.insert(host.to_owned());
                self.hosts.insert(host.to_owned(), wait);
                return is_news.then(|| format!("waiting: {line}"));
            }
            Waiting::Over | Waiting::GivenUp => self.hosts.remove(host),
        };
        let waited = clock(now.duration_since(before.map_or(now, |wait| wait.since)));
        match waiting {
            Waiting::GivenUp => {
                self.told.remove(host);
                Some(format!("{host} gave no answer for {waited}: given up"))
            }
            _ => self.told.remove(host).then(|| format!("{host} answers again, after {waited}")),
        }
    }

    /// One line of at most this width for each host that the run waits for.
    pub(super) fn lines(&self, now: Instant, room: usize) -> impl Iterator<Item = String> {
        let worth = self.hosts.iter().filter(move |(_, wait)| is_worth_a_word(wait, now));
        worth.map(move |(host, wait)| wait_line(host, wait, now, room))
    }
}

fn is_worth_a_word(wait: &Wait, now: Instant) -> bool {
    wait.next.saturating_duration_since(now) >= WORTH_A_WORD || now.duration_since(wait.since) >= WORTH_A_WORD
}

fn wait_line(host: &str, wait: &Wait, now: Instant, room: usize) -> String {
    // A started second counts.
    let left = wait.next.saturating_duration_since(now);
    let left = clock(Duration::from_secs(left.as_secs() + u64::from(left.subsec_millis() > 0)));
    let said = match wait.asked {
        true => format!(" asks to wait {left} ({})", escape(&wait.answer)),
        false => format!(" is in trouble, next attempt in {left} ({})", escape(&wait.answer)),
    };
    shorten(host, room.saturating_sub(width(&said)).max(MOST_OF_A_HOST)) + &said
}

/// The text after the first Ctrl-C.
pub(super) fn stopping(transfers: usize, within: Duration) -> String {
    let finishing = match transfers {
        0 => "stopping".to_owned(),
        1 => "finishing 1 transfer".to_owned(),
        more => format!("finishing {more} transfers"),
    };
    format!("{finishing}, at most {}; Ctrl-C again quits", clock(within))
}

/// `4 m 12 s`: at most two units.
pub(super) fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} m {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} m", seconds / 3600, seconds % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    fn failed() -> Finished {
        Finished { word: "failed", ok: false, reason: Some("it is down".to_owned()) }
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn an_image_is_done_when_all_its_targets_have_it_and_each_reason_is_reported_once() {
        let now = Instant::now();
        let mut work = Work::new(Task::Copy, &names(&["a", "a", "b", "c"]), now);
        work.step("a", Step::Started, now);
        work.step("a", Step::Started, now);
        assert_eq!((work.images, work.flights.len()), (3, 1));
        assert_eq!(work.finished("a", &Finished::well("copied")), Ended::Untold);
        assert_eq!((work.done, work.flights.len()), (0, 1));
        assert_eq!(work.finished("a", &Finished::well("copied")), Ended::Well);
        assert_eq!(work.finished("b", &failed()), Ended::Failed);
        assert_eq!(work.finished("c", &failed()), Ended::Untold);
        assert_eq!((work.done, work.failed, work.flights.len()), (3, 2, 0));
        let mut asked = Work::new(Task::Plan, &names(&["a"]), now);
        assert_eq!(asked.finished("a", &Finished::well("planned")), Ended::Untold);
    }

    #[test]
    fn the_rate_covers_the_last_seconds_and_lost_bytes_count_as_remaining() {
        let began = Instant::now();
        let mut work = Work::new(Task::Copy, &names(&["a"]), began);
        work.step("a", Step::Started, began);
        assert!(work.is_unread());
        work.step("a", Step::Expects(1000), began);
        work.step("a", Step::TransferBegan, began);
        for tick in 1..=40_u32 {
            work.step("a", Step::Bytes(if tick <= 20 { 10 } else { 1 }), began);
            work.sample(began + SECOND / 4 * tick);
        }
        assert_eq!((work.rate(), work.bytes.moved, work.bytes.goal(), work.is_unread()), (Some(4), 220, 1000, false));
        work.step("a", Step::TransferEnded(220), began);
        work.step("a", Step::Spares(400), began);
        assert_eq!((work.bytes.moved, work.bytes.goal(), work.transfers), (0, 600, 0));
    }

    #[test]
    fn a_wait_is_reported_at_its_start_and_end() {
        let now = Instant::now();
        let until = |seconds: u32, asked| {
            let wait = Wait { since: now, next: now + SECOND * seconds, asked, answer: "429".to_owned() };
            Waiting::Until(wait)
        };
        let mut waited = Waited::default();
        assert_eq!(waited.changed("a.io", until(0, false), now), None);
        assert_eq!(waited.changed("a.io", Waiting::Over, now), None);
        let told = waited.changed("a.io", until(252, true), now).unwrap();
        assert_eq!(told, "waiting: a.io asks to wait 4 m 12 s (429)");
        assert_eq!(waited.changed("a.io", until(300, true), now), None);
        let lines: Vec<_> = waited.lines(now + SECOND * 200, 80).collect();
        assert_eq!(lines, ["a.io asks to wait 1 m 40 s (429)"]);
        let told = waited.changed("a.io", Waiting::Over, now + SECOND * 300).unwrap();
        assert_eq!(told, "a.io answers again, after 5 m 0 s");
        let told = waited.changed("b.io", until(3, false), now).unwrap();
        assert_eq!(told, "waiting: b.io is in trouble, next attempt in 3 s (429)");
        assert_eq!(
            waited.changed("b.io", Waiting::GivenUp, now + SECOND).unwrap(),
            "b.io gave no answer for 1 s: given up"
        );
        assert!(waited.hosts.is_empty() && waited.told.is_empty());
    }
}
