//! The verbs: one function for each. Each reads like a line of the flow in the crate's documentation.
//!
//! This file has what all verbs share: how a run starts, stops and ends. An error returned by a verb means that it
//! couldn't run. A failed image is data in the report.

mod cache_settings;
mod check;
mod completions;
mod copy;
mod demo;
mod detour;
mod discover;
mod export;
mod init;
mod lock;
mod log;
mod man;
mod output;
mod pins;
mod plan;
mod quota;
mod report_file;
mod rewrite;
mod run_lock;
mod schema;
mod session;
mod sync;
mod update;
mod verify;
mod warm;

use std::num::NonZero;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use jiff::Timestamp;
use tokio::runtime::{Builder, Runtime};
use tokio_util::sync::CancellationToken;

use crate::cli::{Cli, Global, ProgressMode, Verb};
use crate::copy::DRAIN;
use crate::progress::{self, Progress};
use crate::report::Exit;
pub(crate) use output::answer;
use output::{Unable, fail, print, print_found, printed};

/// The most threads that read and write files, and look up names. With the default, 512, each cached manifest would
/// get a thread, which takes more memory than the manifest.
const FILE_THREADS: usize = 16;

/// The most threads that run tasks. One hashes and forwards several hundred megabytes per second.
const MOST_WORKERS: usize = 8;

/// Runs the verb and returns the exit status.
pub(crate) fn run(cli: Cli) -> ExitCode {
    let (verb, started, global) = (cli.verb.name(), Timestamp::now(), cli.global.clone());
    let fail = |error: &anyhow::Error| fail(error, verb, started, &global);
    if let Some(Err(error)) = global.report.as_deref().map(report_file::prepare) {
        return fail(&error).into();
    }
    let is_coloured = output::is_coloured(&cli.global, &std::io::stderr());
    let progress = progress::choose(progress_mode(&cli.global), is_coloured);
    log::start(cli.global.verbose, is_coloured, &progress);
    let (signals, workers) = match runtimes() {
        Ok(runtimes) => runtimes,
        Err(error) => return fail(&anyhow::Error::new(error).context("can't start")).into(),
    };
    let (stop, shown) = (CancellationToken::new(), Arc::clone(&progress));
    let ended = signals.block_on(async {
        // A demo has no transfers to finish.
        let drains = !matches!(cli.verb, Verb::Demo(_));
        tokio::spawn(listen_for_signals(stop.clone(), Arc::clone(&progress), drains));
        workers.spawn(dispatch(cli, progress, stop)).await
    });
    let ended = ended.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
    // An error may have stopped a task early.
    shown.end();
    // Abandoned uploads are left to the registry; the run doesn't wait for them.
    workers.shutdown_background();
    ended.unwrap_or_else(|error| fail(&error)).into()
}

/// The runtime of this thread, which hears signals even if a verb blocks its thread, for example by reading a pipe that
/// never ends; and that of the workers, which run the verb: each wake of a future that isn't polled there would cross
/// threads.
fn runtimes() -> std::io::Result<(Runtime, Runtime)> {
    // Half of the processors: the kernel, and often a registry, need the others. Each worker more costs wakes.
    let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
    let mut workers = Builder::new_multi_thread();
    workers.worker_threads((processors / 2).clamp(1, MOST_WORKERS)).max_blocking_threads(FILE_THREADS);
    Ok((Builder::new_current_thread().enable_all().build()?, workers.enable_all().build()?))
}

async fn dispatch(cli: Cli, progress: Arc<dyn Progress>, stop: CancellationToken) -> anyhow::Result<Exit> {
    let cache = cache_settings::folder(&cli.global, |name| std::env::var_os(name));
    let size = cache_settings::size(std::env::var("TRANSSHIP_CACHE_SIZE").ok().as_deref())?;
    let cache = cache.map(|folder| (folder, size));
    let Cli { global, verb, given } = cli;
    let start = session::Start { global: global.clone(), cache, progress, stop: stop.clone() };
    let mut report = match verb {
        Verb::Sync(arguments) => sync::run(start, &arguments).await,
        Verb::Plan(arguments) => plan::run(start, &arguments).await,
        Verb::Lock(arguments) => lock::run(start, &arguments).await,
        Verb::Update(arguments) => update::run(start, &arguments).await,
        Verb::Copy(arguments) => copy::run(start, &arguments).await,
        Verb::Check(arguments) => check::run(start, &arguments).await,
        Verb::Quota => quota::run(start).await,
        Verb::Verify(arguments) => verify::run(start, &arguments).await,
        Verb::Warm(arguments) => warm::run(start, &arguments).await,
        Verb::Demo(arguments) => return demo::run(start, &arguments).await,
        Verb::Init(arguments) => return printed(&init::run(&global, &arguments)?),
        Verb::Discover(arguments) => return discover::run(&global, &arguments, &stop).await,
        Verb::Rewrite(arguments) => return rewrite::run(&global, &arguments, &stop).await,
        Verb::Export(arguments) => return export::run(&global, &arguments).await,
        Verb::Schema(arguments) => return printed(&schema::text(&arguments)),
        Verb::Completions(arguments) => return printed(&completions::script(&arguments)),
        Verb::Man => return printed(&man::page().context("can't make the page")?),
    }?;
    report.given = given;
    print(&report, &global)
}

/// The first signal lets transfers in progress finish; the second stops the run.
async fn listen_for_signals(stop: CancellationToken, progress: Arc<dyn Progress>, drains: bool) {
    for is_first in [true, false] {
        if next_signal().await.is_err() {
            return;
        }
        if !is_first {
            progress.end();
            progress.log(b"stopped: the next run continues where this one stopped\n");
            std::process::exit(i32::from(Exit::Interrupted.code()));
        }
        stop.cancel();
        if drains {
            progress.stopping(DRAIN);
        }
    }
}

#[cfg(unix)]
async fn next_signal() -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hang_up = if ignores_hang_up() { None } else { Some(signal(SignalKind::hangup())?) };
    let hung_up = async {
        match &mut hang_up {
            Some(hang_up) => hang_up.recv().await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted,
        _ = terminate.recv() => Ok(()),
        _ = hung_up => Ok(()),
    }
}

/// Whether this process ignores SIGHUP because it was started by nohup or similar. This can be determined only on
/// Linux.
#[cfg(unix)]
fn ignores_hang_up() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    // The lowest bit is that of signal 1, SIGHUP.
    ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 == 1)
}

#[cfg(not(unix))]
async fn next_signal() -> std::io::Result<()> {
    tokio::signal::ctrl_c().await
}

fn progress_mode(global: &Global) -> progress::Mode {
    match global.progress {
        ProgressMode::Auto if global.quiet => progress::Mode::None,
        ProgressMode::Auto => progress::Mode::Auto,
        ProgressMode::Bars => progress::Mode::Bars,
        ProgressMode::Lines => progress::Mode::Lines,
        ProgressMode::None => progress::Mode::None,
    }
}
