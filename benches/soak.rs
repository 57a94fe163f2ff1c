//! A long run with faults: 2,000 images, while one in twenty requests at either side fails in one of six ways. It
//! checks that every image arrives within ten minutes, that memory stays flat after the first quarter of the images,
//! and that no task, socket or upload is left at the end. Run it with `just soak`; `just soak 200` copies 200 images.
//!
//! The registries run in a separate process (this program again), so that only the engine and the client are measured.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use transship::aws::Sessions;
use transship::config::Limits;
use transship::copy::{CopyOptions, Readiness, copy};
use transship::oci::{Repository, Tag};
use transship::plan::{Action, Plan, Planned, Transfer};
use transship::progress::{Finished, Progress};
use transship::provision::Provisioners;
use transship::referrers::Finder;
use transship::registry::Hosts;
use transship::report::{Outcome, Status};
use transship::store::Stores;
use transship::store::registry::RegistryStores;

#[path = "soak/fakes.rs"]
mod fakes;
#[path = "../tests/it/support/images.rs"]
#[allow(dead_code, reason = "shared with the tests in tests/it")]
mod images;

use fakes::Fakes;

const LONGEST: Duration = Duration::from_secs(600);
/// How much memory, in KiB, may grow after the first quarter of the images: each result takes about 4 KiB.
const GROWTH: u64 = 24 << 10;

/// The resources that this process holds.
#[derive(Debug, Clone, Copy, Default)]
struct Held {
    memory: u64,
    sockets: usize,
    tasks: usize,
}

impl Held {
    fn now() -> Self {
        let status = std::fs::read_to_string("/proc/self/status").expect("Linux tells a process of itself");
        let memory = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let memory = memory.and_then(|text| text.trim().trim_end_matches(" kB").parse().ok()).expect("a number of kB");
        let files = std::fs::read_dir("/proc/self/fd").expect("Linux tells a process of itself");
        let is_socket = |file: std::io::Result<std::fs::DirEntry>| {
            let path = file.and_then(|file| std::fs::read_link(file.path()));
            path.is_ok_and(|path| path.to_string_lossy().starts_with("socket:"))
        };
        let sockets = files.map(is_socket).filter(|is_socket| *is_socket).count();
        Self { memory, sockets, tasks: Handle::current().metrics().num_alive_tasks() }
    }
}

/// Counts finished images.
#[derive(Debug, Default)]
struct Done(AtomicUsize);

impl Progress for Done {
    fn finished(&self, _: &str, _: Finished) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// The plan that copies `images` images from one side to the other.
fn plan(images: usize, fakes: &Fakes) -> Plan {
    let transfer = |n: usize| {
        let (path, tag, image) = fakes::one(n);
        let repository = Repository::new(fakes.source.clone(), &path).expect("a repository path");
        let target = Repository::new(fakes.target.clone(), &format!("mirror/{path}")).expect("a repository path");
        let source = format!("{repository}:{tag}").parse().expect("a reference");
        let tag = tag.parse::<Tag>().expect("a tag");
        Planned::Image(Transfer::new(source, image.descriptor().clone(), target, Some(tag), Action::Copy))
    };
    Plan { images: (0..images).map(transfer).collect(), ..Plan::default() }
}

/// Executes `plan`.
async fn mirror(plan: Plan, done: Arc<Done>) -> Vec<Outcome> {
    let registries = BTreeMap::new();
    let hosts = Arc::new(Hosts::new(registries.clone(), &Limits::default(), Arc::new(Sessions::new())));
    let targets = plan.images.iter().filter_map(|planned| match planned {
        Planned::Image(transfer) => Some(transfer.target.clone()),
        Planned::Failed { .. } => None,
    });
    let targets: Vec<Repository> = targets.collect();
    let ensured = Provisioners::new(&registries, Arc::new(Sessions::new())).ensure(&targets).await;
    let ready: Readiness = ensured.into_iter().collect();
    let stores: Arc<dyn Stores> = Arc::new(RegistryStores::new(hosts));
    let means = CopyOptions {
        finder: Arc::new(Finder::new(Arc::clone(&stores))),
        stores,
        progress: done,
        stop: CancellationToken::new(),
        transfers: 32,
        bandwidth: None,
    };
    copy(plan, &ready, means).await
}

/// The resources held once so many images are done.
async fn held_at(done: &Done, images: usize) -> Held {
    while done.0.load(Ordering::Relaxed) < images {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Held::now()
}

/// Waits until no more resources are held than `before`: connections and their tasks end a little later.
async fn let_go(before: Held) -> Held {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let now = Held::now();
        if now.tasks <= before.tasks && now.sockets <= before.sockets || Instant::now() > deadline {
            return now;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn soak(images: usize) -> std::io::Result<ExitCode> {
    let mut fakes = Fakes::start(images).await?;
    let (plan, done) = (plan(images, &fakes), Arc::new(Done::default()));
    let (before, began) = (Held::now(), Instant::now());
    let early = tokio::time::timeout(LONGEST, held_at(&done, images / 4));
    let run = tokio::time::timeout(LONGEST, mirror(plan, Arc::clone(&done)));
    let (outcomes, early) = tokio::join!(run, early);
    let late = Held::now();
    let (Ok(outcomes), Ok(early)) = (outcomes, early) else {
        println!("not done after {} s: {} of {images} images", LONGEST.as_secs(), done.0.load(Ordering::Relaxed));
        return Ok(ExitCode::FAILURE);
    };
    let seconds = began.elapsed().as_secs();
    let copied = outcomes.iter().filter(|outcome| outcome.status == Status::Copied).count();
    for error in outcomes.iter().filter_map(|outcome| outcome.error.as_ref()).take(10) {
        println!("    {error}");
    }
    drop(outcomes);
    let (after, (uploads, faults)) = (let_go(before).await, fakes.counts().await?);
    println!("{copied} of {images} images in {seconds} s, {faults} requests failed");
    println!("memory: {} KiB at a quarter of the way, {} KiB at the end", early.memory, late.memory);
    println!("tasks: {} before, {} at the end, {} after", before.tasks, late.tasks, after.tasks);
    println!("sockets: {} before, {} at the end, {} after", before.sockets, late.sockets, after.sockets);
    println!("open uploads at the target: {uploads}");
    let holds = [
        (copied == images, "every image arrives"),
        (late.memory <= early.memory + GROWTH, "memory stays flat"),
        (after.tasks <= before.tasks, "no task is left"),
        (after.sockets <= before.sockets, "no socket is left"),
        (uploads == 0, "no upload is left"),
    ];
    let broken: Vec<_> = holds.iter().filter(|(holds, _)| !holds).map(|(_, what)| *what).collect();
    for what in &broken {
        println!("it doesn't hold that {what}");
    }
    Ok(if broken.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[tokio::main]
async fn main() -> std::io::Result<ExitCode> {
    // cargo adds `--bench`.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let images = arguments.last().and_then(|number| number.parse().ok()).unwrap_or(2000);
    match arguments.first().map(String::as_str) {
        Some(fakes::ROLE) => fakes::serve(images).await,
        _ => soak(images).await,
    }
}
