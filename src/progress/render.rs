//! The bars of a task, fitted to the terminal: the task, hosts that the run waits for, and images in progress.

use std::cmp::Reverse;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::work::{Flight, Waited, Work, clock, stopping};
use crate::terminal::colour::{YELLOW, paint};
use crate::terminal::{padded, shorten, size, truncate, width, wrap};

/// The minimum and maximum width of a bar.
const BAR: (usize, usize) = (10, 30);
/// Below this width, an image has only its percentage.
const NARROW: usize = 60;

/// The state to show.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shown<'a> {
    pub(super) work: &'a Work,
    pub(super) waited: &'a Waited,
    /// The time limit of transfers in progress, after the first Ctrl-C.
    pub(super) stops: Option<Instant>,
}

/// The terminal.
#[derive(Debug, Clone, Copy)]
pub(super) struct Screen {
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) is_coloured: bool,
}

impl Screen {
    /// The usable width of a line: one column less than the screen.
    pub(super) fn room(self) -> usize {
        self.columns.saturating_sub(1)
    }

    /// One row stays empty, so that nothing scrolls.
    pub(super) fn most_lines(self) -> usize {
        self.rows.saturating_sub(1)
    }
}

/// The lines to draw.
pub(super) fn bars(shown: Shown<'_>, screen: Screen, now: Instant) -> Vec<ProgressBar> {
    let room = screen.room();
    let yellow = |line: &str| plain(paint(&truncate(line, room), YELLOW, screen.is_coloured));
    let mut bars = vec![overall(shown.work, room, now)];
    let waits: Vec<String> = shown.waited.lines(now, room).collect();
    // A third of the screen is for images, an eighth for hosts; the rest is for finished lines.
    let most_waits = (screen.rows / 8).max(1);
    bars.extend(waits.iter().take(most_waits).map(|line| yellow(line)));
    if waits.len() > most_waits {
        bars.push(yellow(&format!("and {} more hosts are being waited for", waits.len() - most_waits)));
    }
    let mut flights: Vec<&Flight> = shown.work.flights.iter().collect();
    // The sort is stable: among equals, the one that has been in progress for longest comes first.
    flights.sort_by_key(|flight| Reverse(flight.bytes.goal()));
    let most = (screen.rows / 3).max(1);
    bars.extend(images(&flights[..flights.len().min(most)], room, now));
    if flights.len() > most {
        let more = format!("  … and {} more in progress", flights.len() - most);
        bars.push(plain(truncate(&more, room).into_owned()));
    }
    if let Some(stops) = shown.stops {
        let said = stopping(shown.work.transfers, stops.saturating_duration_since(now));
        bars.extend(wrap(&said, room, "  ").iter().map(|line| yellow(line)));
    }
    bars
}

/// As much as fits the line; the least important part comes last.
fn overall(work: &Work, room: usize, now: Instant) -> ProgressBar {
    let task = work.task.word();
    let (one, many) = work.task.noun();
    let bare = format!("{task} {}/{} {}", work.done, work.images, if work.images == 1 { one } else { many });
    let is_in_bytes = work.bytes.goal() > 0;
    let (moved, goal) = match is_in_bytes {
        true => (work.bytes.moved, work.bytes.goal()),
        false => (work.done as u64, work.images as u64),
    };
    let share = share(moved, goal);
    let more = if work.is_unread() { "+" } else { "" };
    let bytes = format!("{} of {}{more}  {share:>3} %", size(moved), size(goal));
    let facts = match is_in_bytes {
        true => format!("{bytes}{}", speed(work, more)),
        false => format!("{share:>3} %  {}", clock(now.duration_since(work.began))),
    };
    let columns = room.saturating_sub(width(&bare) + width(&facts) + 6).min(BAR.1);
    if columns >= BAR.0 {
        let bar = line(&format!("{{prefix}}  [{{bar:{columns}}}]  {{msg}}"));
        bar.set_length(goal);
        return bar.with_position(moved).with_prefix(bare).with_message(facts);
    }
    let narrower = match is_in_bytes {
        true => vec![format!("{bare}  {facts}"), format!("{task}  {facts}"), format!("{task}  {bytes}"), bytes],
        false => vec![format!("{bare}  {facts}"), bare],
    };
    plain(fitting(&narrower, room))
}

/// The current rate, and the remaining time at that rate.
fn speed(work: &Work, more: &str) -> String {
    let Some(rate) = work.rate() else { return String::new() };
    let left = (work.bytes.goal() - work.bytes.moved).checked_div(rate);
    let left = left.map_or_else(String::new, |left| format!("  {}{more} left", clock(Duration::from_secs(left))));
    format!("  {}/s{left}", size(rate))
}

/// A bar with this template, drawn once it has a target.
fn line(template: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(template).expect("templates are constant but for a number");
    ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden()).with_style(style.progress_chars("=> "))
}

/// A line with only text.
fn plain(text: String) -> ProgressBar {
    line("{msg}").with_message(text)
}

fn share(part: u64, of: u64) -> u64 {
    part.min(of).saturating_mul(100).checked_div(of).unwrap_or(0)
}

fn fitting(candidates: &[String], room: usize) -> String {
    let first = candidates.iter().find(|line| width(line) <= room);
    first.cloned().unwrap_or_else(|| truncate(candidates.last().map_or("", String::as_str), room).into_owned())
}

/// One line each: the name, shortened to fit, and its progress.
fn images(flights: &[&Flight], room: usize, now: Instant) -> Vec<ProgressBar> {
    let facts: Vec<String> = flights.iter().map(|flight| far(flight, room, now)).collect();
    let widest = |texts: &mut dyn Iterator<Item = usize>| texts.max().unwrap_or(0);
    let beside = widest(&mut facts.iter().map(|fact| width(fact)));
    let names = widest(&mut flights.iter().map(|flight| width(&flight.image)));
    let names = names.min(room.saturating_sub(beside + 4));
    let lines = flights.iter().zip(&facts).map(|(flight, fact)| {
        let name = padded(&shorten(&flight.image, names), names);
        plain(truncate(&format!("  {name}  {fact}"), room).into_owned())
    });
    lines.collect()
}

fn far(flight: &Flight, room: usize, now: Instant) -> String {
    let goal = flight.bytes.goal();
    if goal == 0 {
        let since = now.duration_since(flight.since);
        return if since < Duration::from_secs(1) { String::new() } else { clock(since) };
    }
    let share = share(flight.bytes.moved, goal);
    match room < NARROW {
        true => format!("{share:>3} %"),
        false => format!("{:>8} of {:>8}  {share:>3} %", size(flight.bytes.moved), size(goal)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Finished, Step, Task};
    use super::*;
    use crate::retry::{Wait, Waiting};
    use crate::terminal::canvas::Canvas;

    const SECOND: Duration = Duration::from_secs(1);

    /// 50 images, of which 12 are in progress and 3 are done, and the run waits for one host.
    fn run(now: Instant) -> (Work, Waited) {
        let names: Vec<String> = (0..50).map(|n| format!("ghcr.io/department/team/service-{n}:v1.27.{n}")).collect();
        let mut work = Work::new(Task::Copy, &names, now);
        for (n, name) in (0_u64..).zip(&names[..15]) {
            work.step(name, Step::Started, now);
            work.step(name, Step::Expects(1_000_000 * (n + 1)), now);
        }
        for name in &names[..3] {
            work.step(name, Step::Bytes(work.flights[0].bytes.goal()), now);
            work.finished(name, &Finished::well("copied"));
        }
        work.sample(now + SECOND);
        for name in &names[3..15] {
            work.step(name, Step::Bytes(2_000_000), now);
        }
        work.sample(now + 3 * SECOND);
        let mut waited = Waited::default();
        let wait = Wait { since: now, next: now + 252 * SECOND, asked: true, answer: "429".to_owned() };
        waited.changed("docker.io", Waiting::Until(wait), now);
        (work, waited)
    }

    fn drawn(shown: Shown<'_>, screen: Screen, now: Instant) -> Vec<String> {
        Canvas::default().draw(bars(shown, screen, now), screen.most_lines(), screen.room())
    }

    fn shown(rows: usize, columns: usize, stops: Option<u32>) -> String {
        let now = Instant::now();
        let (work, waited) = run(now);
        let stops = stops.map(|seconds| now + SECOND * seconds);
        let screen = Screen { rows, columns, is_coloured: false };
        let lines = drawn(Shown { work: &work, waited: &waited, stops }, screen, now);
        assert!(lines.len() < rows && lines.iter().all(|line| width(line) < columns), "{columns}: {lines:#?}");
        lines.join("\n")
    }

    #[test]
    fn only_as_many_images_as_fit_the_screen_are_drawn() {
        insta::assert_snapshot!(shown(24, 80, None), @"
    copying 3/50 images  30.0 MB of 120.0 MB+   25 %  10.0 MB/s  9 s+ left
    docker.io asks to wait 4 m 12 s (429)
      ghcr.io/department/team/service-14:v1.27.14    2.0 MB of  15.0 MB   13 %
      ghcr.io/department/team/service-13:v1.27.13    2.0 MB of  14.0 MB   14 %
      ghcr.io/department/team/service-12:v1.27.12    2.0 MB of  13.0 MB   15 %
      ghcr.io/department/team/service-11:v1.27.11    2.0 MB of  12.0 MB   16 %
      ghcr.io/department/team/service-10:v1.27.10    2.0 MB of  11.0 MB   18 %
      ghcr.io/department/team/service-9:v1.27.9      2.0 MB of  10.0 MB   20 %
      ghcr.io/department/team/service-8:v1.27.8      2.0 MB of   9.0 MB   22 %
      ghcr.io/department/team/service-7:v1.27.7      2.0 MB of   8.0 MB   25 %
      … and 4 more in progress
    ");
        insta::assert_snapshot!(shown(24, 40, Some(10)), @"
        copying  30.0 MB of 120.0 MB+   25 %
        docker.io asks to wait 4 m 12 s (429)
          ghcr.i…eam/service-14:v1.27.14   13 %
          ghcr.i…eam/service-13:v1.27.13   14 %
          ghcr.i…eam/service-12:v1.27.12   15 %
          ghcr.i…eam/service-11:v1.27.11   16 %
          ghcr.i…eam/service-10:v1.27.10   18 %
          ghcr.io…team/service-9:v1.27.9   20 %
          ghcr.io…team/service-8:v1.27.8   22 %
          ghcr.io…team/service-7:v1.27.7   25 %
          … and 4 more in progress
        stopping, at most 10 s; Ctrl-C again
          quits
        ");
        insta::assert_snapshot!(shown(12, 120, None), @"
        copying 3/50 images  [=======>                      ]  30.0 MB of 120.0 MB+   25 %  10.0 MB/s  9 s+ left
        docker.io asks to wait 4 m 12 s (429)
          ghcr.io/department/team/service-14:v1.27.14    2.0 MB of  15.0 MB   13 %
          ghcr.io/department/team/service-13:v1.27.13    2.0 MB of  14.0 MB   14 %
          ghcr.io/department/team/service-12:v1.27.12    2.0 MB of  13.0 MB   15 %
          ghcr.io/department/team/service-11:v1.27.11    2.0 MB of  12.0 MB   16 %
          … and 8 more in progress
        ");
        for (rows, columns) in [(2, 20), (3, 30), (50, 200), (5, 60), (24, 100)] {
            shown(rows, columns, Some(3));
        }
    }

    #[test]
    fn a_task_without_bytes_counts_items() {
        let now = Instant::now();
        let names: Vec<String> = (0..4).map(|n| format!("quay.io/a/b:{n}")).collect();
        let mut work = Work::new(Task::Plan, &names, now);
        work.step(&names[0], Step::Started, now);
        work.finished(&names[3], &Finished::well("planned"));
        let waited = Waited::default();
        let shown = Shown { work: &work, waited: &waited, stops: None };
        let at = |columns| drawn(shown, Screen { rows: 24, columns, is_coloured: true }, now + 65 * SECOND).join("\n");
        insta::assert_snapshot!(at(80), @"
        planning 1/4 images  [=======>                      ]   25 %  1 m 5 s
          quay.io/a/b:0  1 m 5 s
        ");
        insta::assert_snapshot!(at(30), @"
        planning 1/4 images
          quay.io/a/b:0  1 m 5 s
        ");
    }
}
