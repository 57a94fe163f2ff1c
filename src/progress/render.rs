//! The lines of a task, made to fit a terminal: the task itself, hosts that are waited for, and the images under way.

use std::time::{Duration, Instant};

use super::work::{Flight, Waited, Work, clock, stopping};
use crate::terminal::colour::{YELLOW, paint};
use crate::terminal::{padded, shorten, size, truncate, width, wrap};

/// A bar has so many columns at least, and at most.
const BAR: (usize, usize) = (10, 30);
/// With fewer columns an image has its percent alone.
const NARROW: usize = 60;

/// What is shown.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shown<'a> {
    pub(super) work: &'a Work,
    pub(super) waited: &'a Waited,
    /// Until when what is under way may go on, after a first Ctrl-C.
    pub(super) stops: Option<Instant>,
}

/// Where it is shown.
#[derive(Debug, Clone, Copy)]
pub(super) struct Screen {
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) is_coloured: bool,
}

/// The lines of the frame, none as wide as the screen.
pub(super) fn lines(shown: Shown<'_>, screen: Screen, now: Instant) -> Vec<String> {
    let room = screen.columns.saturating_sub(1);
    let yellow = |line: &str| paint(&truncate(line, room), YELLOW, screen.is_coloured);
    let mut lines = vec![overall(shown.work, room, now)];
    let waits: Vec<String> = shown.waited.lines(now, room).collect();
    // A third of the screen is for images, an eighth for hosts; the rest is what has scrolled by.
    let most_waits = (screen.rows / 8).max(1);
    lines.extend(waits.iter().take(most_waits).map(|line| yellow(line)));
    if waits.len() > most_waits {
        lines.push(yellow(&format!("and {} more hosts are waited for", waits.len() - most_waits)));
    }
    let mut flights: Vec<&Flight> = shown.work.flights.iter().collect();
    // The sort is stable: of equals the one that has been at it for longest comes first.
    flights.sort_by_key(|flight| std::cmp::Reverse(flight.bytes.goal()));
    let most = (screen.rows / 3).max(1);
    lines.extend(images(&flights[..flights.len().min(most)], room, now));
    if flights.len() > most {
        lines.push(truncate(&format!("  … and {} more under way", flights.len() - most), room).into_owned());
    }
    if let Some(stops) = shown.stops {
        let said = stopping(shown.work.transfers, stops.saturating_duration_since(now));
        lines.extend(wrap(&said, room, "  ").iter().map(|line| yellow(line)));
    }
    // One row is left, so that nothing scrolls.
    lines.truncate(screen.rows.saturating_sub(1).max(1));
    lines
}

/// As much as the line holds; what is left out first is said last here.
fn overall(work: &Work, room: usize, now: Instant) -> String {
    let task = work.task.word();
    let (one, many) = work.task.noun();
    let images = format!("{}/{} {}", work.done, work.images, if work.images == 1 { one } else { many });
    let elapsed = clock(now.duration_since(work.began));
    if work.bytes.goal() == 0 {
        let share = share(work.done as u64, work.images as u64);
        let facts = format!("{share:>3} %  {elapsed}");
        let bare = format!("{task} {images}");
        return fitting(&[barred(&bare, share, &facts, room), format!("{bare}  {facts}"), bare.clone()], room);
    }
    let share = share(work.bytes.moved, work.bytes.goal());
    let more = if work.is_unread() { "+" } else { "" };
    let bytes = format!("{} of {}{more}", size(work.bytes.moved), size(work.bytes.goal()));
    let rate = work.rate();
    let speed = rate.map_or_else(String::new, |rate| format!("  {}/s", size(rate)));
    let left = rate.filter(|rate| *rate > 0).map(|rate| (work.bytes.goal() - work.bytes.moved) / rate);
    let left = left.map_or_else(String::new, |left| format!("  {}{more} left", clock(Duration::from_secs(left))));
    let facts = format!("{bytes}  {share:>3} %{speed}{left}");
    let bare = format!("{task} {images}");
    fitting(
        &[
            barred(&bare, share, &facts, room),
            format!("{bare}  {facts}"),
            format!("{task}  {facts}"),
            format!("{task}  {bytes}  {share:>3} %"),
            format!("{bytes}  {share:>3} %"),
        ],
        room,
    )
}

fn barred(before: &str, share: u64, after: &str, room: usize) -> String {
    let columns = room.saturating_sub(width(before) + width(after) + 6).min(BAR.1);
    if columns < BAR.0 {
        // Nothing that would be taken.
        return " ".repeat(room + 1);
    }
    format!("{before}  {}  {after}", bar(share, columns))
}

fn bar(share: u64, columns: usize) -> String {
    let full = columns * usize::try_from(share.min(100)).unwrap_or(100) / 100;
    let head = if full < columns { ">" } else { "" };
    format!("[{:<columns$}]", format!("{}{head}", "=".repeat(full)))
}

fn share(part: u64, of: u64) -> u64 {
    part.min(of).saturating_mul(100).checked_div(of).unwrap_or(0)
}

fn fitting(candidates: &[String], room: usize) -> String {
    let first = candidates.iter().find(|line| width(line) <= room);
    first.cloned().unwrap_or_else(|| truncate(candidates.last().map_or("", String::as_str), room).into_owned())
}

/// A line each: the name as far as there is room for it, and how far it has come.
fn images(flights: &[&Flight], room: usize, now: Instant) -> Vec<String> {
    let facts: Vec<String> = flights.iter().map(|flight| far(flight, room, now)).collect();
    let widest = |texts: &mut dyn Iterator<Item = usize>| texts.max().unwrap_or(0);
    let beside = widest(&mut facts.iter().map(|fact| width(fact)));
    let names = widest(&mut flights.iter().map(|flight| width(&flight.image)));
    let names = names.min(room.saturating_sub(beside + 4));
    let lines = flights.iter().zip(&facts).map(|(flight, fact)| {
        let name = padded(&shorten(&flight.image, names), names);
        truncate(format!("  {name}  {fact}").trim_end(), room).into_owned()
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

    const SECOND: Duration = Duration::from_secs(1);

    /// 50 images, of which 12 are under way, 3 are done, and one host is waited for.
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

    fn shown(rows: usize, columns: usize, stops: Option<u32>) -> String {
        let now = Instant::now();
        let (work, waited) = run(now);
        let stops = stops.map(|seconds| now + SECOND * seconds);
        let lines =
            lines(Shown { work: &work, waited: &waited, stops }, Screen { rows, columns, is_coloured: false }, now);
        assert!(lines.len() < rows && lines.iter().all(|line| width(line) < columns), "{columns}: {lines:#?}");
        lines.join("\n")
    }

    #[test]
    fn as_much_as_the_screen_holds() {
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
      … and 4 more under way
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
          … and 4 more under way
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
          … and 8 more under way
        ");
        for (rows, columns) in [(2, 20), (3, 30), (50, 200), (5, 60), (24, 100)] {
            shown(rows, columns, Some(3));
        }
    }

    #[test]
    fn a_task_without_bytes_is_told_in_what_it_goes_through() {
        let now = Instant::now();
        let names: Vec<String> = (0..4).map(|n| format!("quay.io/a/b:{n}")).collect();
        let mut work = Work::new(Task::Plan, &names, now);
        work.step(&names[0], Step::Started, now);
        work.finished(&names[3], &Finished::well("planned"));
        let waited = Waited::default();
        let shown = Shown { work: &work, waited: &waited, stops: None };
        let at = |columns| lines(shown, Screen { rows: 24, columns, is_coloured: true }, now + 65 * SECOND).join("\n");
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
