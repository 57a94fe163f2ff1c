//! The fault table: every fault × every kind of request × every time, each in separate hosts with the real program.
//!
//! Each cell checks that the run ends within its time limit; that no image fails but those that may; that all others
//! are complete at the targets; that no tag is visible without its graph; that no manifest is pushed before its
//! content, or pulled twice; and that a second run without faults completes everything.
//!
//! The suite tries one cell of each fifth pair of fault and kind, with the times in rotation. These are the same cells
//! in each run, and cover each fault, each kind and each time. `just faults` tries all cells
//! (`TRANSSHIP_FAULT_TABLE=all`), and `just faults 'kind: Mount'` those whose name contains the text.

mod network;
mod plot;
mod rules;
mod world;

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use futures::{StreamExt as _, stream};

use self::plot::{Fault, Host, Kind, Plot, Seen};
use self::rules::{Cell, Cost};
use self::world::{Corpus, Entry, World};
use crate::support::cli::Run;

/// `limits.max_wait` of the runs.
const MAX_WAIT: Duration = Duration::from_secs(6);
/// The time limit of a run: the waiting time for hosts, and the rest of the work on a busy machine.
const BOUND: Duration = Duration::from_secs(120);
/// One of so many pairs is tried.
const STRIDE: usize = 5;
/// Cells at once: most of them wait.
const AT_ONCE: usize = 8;

/// The result of a cell.
#[derive(Debug, Default)]
struct Figures {
    hits: usize,
    failed: usize,
    seconds: f64,
    /// The failed checks.
    wrong: Vec<String>,
}

/// One line of a report: an image at a target.
struct Outcome {
    /// `a:1`, or `tools` if the tags aren't known.
    source: String,
    /// `None` if the report names no target.
    target: Option<usize>,
    failed: bool,
    error: String,
    /// The report says that the target has refused a referrer.
    lacks_referrers: bool,
}

impl Outcome {
    fn is_of(&self, entry: &Entry) -> bool {
        self.source == format!("{}:{}", entry.repository, entry.tag) || self.source == entry.repository
    }
}

fn outcomes(run: &Run, world: &World) -> Vec<Outcome> {
    let report = run.json();
    let images = report["images"].as_array().cloned().unwrap_or_default();
    let read = |image: &serde_json::Value| {
        let text = |key: &str| image[key].as_str().unwrap_or_default().to_owned();
        let source = text("source").replace(&format!("{}/", world.source), "");
        let target = text("target");
        let target = world.targets.iter().position(|(address, _)| target.starts_with(&address.to_string()));
        let failed = !matches!(text("status").as_str(), "copied" | "up_to_date" | "tagged");
        let error = image["error"]["message"].as_str().unwrap_or("-").to_owned();
        let referrers = image["referrers"].as_array().cloned().unwrap_or_default();
        let lacks_referrers = referrers.iter().any(|row| !row["error"].is_null());
        Outcome { source, target, failed, error, lacks_referrers }
    };
    images.iter().map(read).collect()
}

/// Counts the requests of each kind in a run without faults, and checks that the run sends no unnecessary ones.
async fn without_faults(corpus: &Corpus) -> HashMap<Kind, usize> {
    let plot = Plot::new(None, 0);
    let world = World::start(corpus, &plot, None).await;
    let run = world.cli.run("sync --json").await;
    assert_eq!((run.code, outcomes(&run, &world).len()), (0, 2 * corpus.entries.len()), "{run}");
    let mut counts = HashMap::new();
    for kind in plot.seen().iter().filter_map(|seen| seen.kind) {
        *counts.entry(kind).or_default() += 1;
    }
    for kind in Kind::ALL {
        assert!(counts.contains_key(&kind), "no request is a {kind:?}: {:#?}", plot.seen());
    }
    let mut figures = Figures::default();
    figures.judge_requests(&plot.seen(), corpus, true);
    assert!(figures.wrong.is_empty(), "{:#?}", figures.wrong);
    counts
}

async fn try_cell(cell: Cell, corpus: &Corpus, count: usize) -> Figures {
    let plot = Plot::new(Some((cell.fault, cell.kind, cell.when)), count / 2);
    let world = World::start(corpus, &plot, Some(cell.fault)).await;
    let mut figures = Figures::default();
    let began = Instant::now();
    let run = world.cli.run("sync --json").await;
    figures.seconds = began.elapsed().as_secs_f64();
    if began.elapsed() > BOUND {
        figures.wrong.push(format!("it takes {:.1} s", figures.seconds));
    }
    let seen = plot.seen();
    figures.hits = seen.iter().filter(|seen| seen.hit).count();
    if figures.hits == 0 {
        figures.wrong.push("nothing meets the fault".to_owned());
    }
    figures.judge_outcomes(&run, &world, corpus, cell, &seen).await;
    plot.heal();
    world.heal();
    let again = world.cli.run("sync --update --json").await;
    if again.code != 0 {
        figures.wrong.push(format!("the second run: {again}"));
    }
    for target in 0..2 {
        for entry in corpus.entries.iter() {
            if let Some(what) = world.lacks(target, entry, true).await {
                let (repository, tag) = (entry.repository, entry.tag);
                figures.wrong.push(format!("after the second run {repository}:{tag} lacks {what} at target {target}"));
            }
        }
    }
    // If all connections break, other requests fail, too.
    let is_minimal = cell.cost == Cost::Nothing && cell.fault != Fault::NoConnection;
    figures.judge_requests(&plot.seen(), corpus, is_minimal);
    figures
}

impl Figures {
    async fn judge_outcomes(&mut self, run: &Run, world: &World, corpus: &Corpus, cell: Cell, seen: &[Seen]) {
        let outcomes = outcomes(run, world);
        let may_fail = |outcome: &Outcome| {
            let at_first = cell.kind.host() == Host::First;
            if at_first && outcome.target == Some(1) {
                return false;
            }
            match cell.cost {
                Cost::Nothing => false,
                Cost::Host => true,
                Cost::Touched => {
                    let hits = seen.iter().filter(|seen| seen.hit).map(|seen| seen.path.as_str());
                    corpus.touched(hits).into_iter().any(|entry| outcome.is_of(entry))
                }
            }
        };
        for outcome in outcomes.iter().filter(|outcome| outcome.failed) {
            self.failed += 1;
            if !may_fail(outcome) {
                self.wrong.push(format!("lost: {} at {:?}: {}", outcome.source, outcome.target, outcome.error));
            }
        }
        if (run.code == 0) != (self.failed == 0) {
            self.wrong.push(format!("exit {} with {} failures", run.code, self.failed));
        }
        // A fallback tag that isn't found means that there are no referrers.
        let has_no_fallback_tag = matches!((cell.kind, cell.fault), (Kind::Resolve, Fault::Status(404)));
        let with_referrers = cell.kind != Kind::Referrers && !has_no_fallback_tag;
        for target in 0..2 {
            for entry in corpus.entries.iter() {
                let of = |outcome: &&Outcome| outcome.is_of(entry) && outcome.target.is_none_or(|at| at == target);
                let Some(outcome) = outcomes.iter().find(of) else {
                    self.wrong.push(format!("the report lacks {}:{}", entry.repository, entry.tag));
                    continue;
                };
                if outcome.failed {
                    continue;
                }
                if let Some(what) = world.lacks(target, entry, with_referrers && !outcome.lacks_referrers).await {
                    self.wrong.push(format!(
                        "{} is reported as complete at target {target}, but lacks {what}",
                        outcome.source
                    ));
                }
            }
        }
        let broken = world.broken_tags().await;
        if !broken.is_empty() {
            self.wrong.push(format!("broken tags: {broken:?}"));
        }
    }

    /// Checks the requests: no manifest is pulled twice or pushed before its content. If nothing may fail, a blob is
    /// read again only after a fault.
    fn judge_requests(&mut self, seen: &[Seen], corpus: &Corpus, is_minimal: bool) {
        let mut pulls: HashMap<&str, usize> = HashMap::new();
        let pulled = seen.iter().filter(|seen| seen.kind == Some(Kind::Manifest) && seen.status == Some(200));
        for seen in pulled.filter(|seen| !seen.hit && seen.path.contains("sha256:")) {
            *pulls.entry(&seen.path).or_default() += 1;
        }
        // Every upload with an expired token is rejected, and its blob has to be read again.
        let is_refused = |seen: &&Seen| seen.hit || seen.kind == Some(Kind::Upload) && seen.status == Some(401);
        let hits = seen.iter().filter(is_refused).count();
        let twice: Vec<_> = pulls.iter().filter(|(_, count)| **count > 1).collect();
        if !twice.is_empty() {
            self.wrong.push(format!("pulled twice: {twice:?}"));
        }
        let is_push = |seen: &&Seen| seen.method == "PUT" && seen.path.contains("/manifests/");
        // The targets answer 400 if content is missing.
        for seen in seen.iter().filter(is_push).filter(|seen| !seen.hit && seen.status == Some(400)) {
            self.wrong.push(format!("a push is refused: {} {:?}", seen.path, seen.status));
        }
        let blobs = seen.iter().filter(|seen| seen.kind == Some(Kind::Blob) && !seen.hit).count();
        if is_minimal && blobs > corpus.blobs() + hits {
            self.wrong.push(format!("{blobs} reads of {} blobs with {hits} faults", corpus.blobs()));
        }
    }
}

/// The cells that the suite tries: one of each fifth pair.
fn sample() -> Vec<Cell> {
    let pairs = rules::table().into_iter().step_by(STRIDE).enumerate();
    pairs.map(|(at, cells)| cells[at % cells.len()]).collect()
}

/// The cells to try, the slowest first.
fn chosen() -> Vec<Cell> {
    let mut cells = match std::env::var("TRANSSHIP_FAULT_TABLE").unwrap_or_default().as_str() {
        "" => sample(),
        "all" => rules::table().concat(),
        part => rules::table().concat().into_iter().filter(|cell| format!("{cell:?}").contains(part)).collect(),
    };
    cells.sort_by_key(|cell| (cell.fault != Fault::Stall, cell.cost != Cost::Host));
    cells
}

#[test]
fn the_cells_of_the_suite_cover_every_fault_kind_and_moment() {
    fn of<T: Eq + std::hash::Hash>(cells: &[Cell], part: impl Fn(&Cell) -> T) -> HashSet<T> {
        cells.iter().map(part).collect()
    }
    let (tried, all) = (sample(), rules::table().concat());
    assert!(of(&tried, |cell| cell.fault) == of(&all, |cell| cell.fault));
    assert!(of(&tried, |cell| cell.kind) == of(&all, |cell| cell.kind));
    assert!(of(&tried, |cell| cell.when) == of(&all, |cell| cell.when));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_fault_costs_what_it_may_and_no_more() {
    let corpus = Corpus::new().await;
    let counts = without_faults(&corpus).await;
    let cells = chosen();
    let tried = stream::iter(cells).map(|cell| {
        let (corpus, count) = (corpus.clone(), counts[&cell.kind]);
        async move {
            let task = tokio::spawn(async move { try_cell(cell, &corpus, count).await });
            (cell, task.await)
        }
    });
    let began = Instant::now();
    let mut tried: Vec<_> = tried.buffer_unordered(AT_ONCE).collect().await;
    // A cell that took too long is repeated alone: the machine may have been busy.
    for (cell, figures) in &mut tried {
        if matches!(figures, Ok(figures) if figures.seconds > BOUND.as_secs_f64()) {
            *figures = Ok(try_cell(*cell, &corpus, counts[&cell.kind]).await);
        }
    }
    let (mut wrong, mut failed, mut lost, mut longest) = (Vec::new(), 0, 0, 0f64);
    for (cell, figures) in &tried {
        match figures {
            Ok(figures) => {
                failed += figures.failed;
                lost += figures.wrong.iter().filter(|wrong| wrong.starts_with("lost")).count();
                longest = longest.max(figures.seconds);
                if !figures.wrong.is_empty() {
                    wrong.push(format!("{cell:?}\n  {}", figures.wrong.join("\n  ")));
                }
            }
            Err(panicked) => wrong.push(format!("{cell:?}\n  {panicked}")),
        }
    }
    println!(
        "{} cells in {:.0} s: {failed} images failed where they may, {lost} lost where none may be; the longest run took \
         {longest:.1} s",
        tried.len(),
        began.elapsed().as_secs_f64()
    );
    assert!(wrong.is_empty(), "{} of {} cells\n{}", wrong.len(), tried.len(), wrong.join("\n"));
}
