//! One function a verb; each reads like the arrow line of the crate's documentation.
//!
//! What all have in common is here: how a run starts, how it is stopped, and how it ends. An error that comes out of a verb
//! means that it could not run; an image that fails is data in the report.

mod check;
mod completions;
mod copy;
mod demo;
mod discover;
mod export;
mod init;
mod lock;
mod log;
mod man;
mod pins;
mod plan;
mod rewrite;
mod session;
mod sync;
mod update;
mod verify;

use std::io::{self, ErrorKind, StdoutLock, Write as _};
use std::process::ExitCode;

use anyhow::Context as _;
use tokio_util::sync::CancellationToken;

use crate::cli::{Cli, ColorChoice, Global, ProgressMode, Verb};
use crate::config::Config;
use crate::progress::{self, Progress};
use crate::report::{Exit, Report, Style};

/// Why a verb could not run: exit status 2.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
struct Unable {
    message: String,
    hint: Option<String>,
}

impl Unable {
    fn error(message: impl Into<String>, hint: impl Into<String>) -> anyhow::Error {
        Self { message: message.into(), hint: Some(hint.into()) }.into()
    }
}

/// What was done could not be told: standard output can't be written.
#[derive(Debug, thiserror::Error)]
#[error("can't write to standard output: {error}")]
struct Unheard {
    exit: Exit,
    error: io::Error,
}

const UNHEARD_HINT: &str =
    "make room where the output goes, or send it elsewhere; only the output is lost, not what was done";

/// Runs the verb and says how it ended.
pub fn run(cli: Cli) -> ExitCode {
    let progress = progress::choose(progress_mode(&cli.global));
    log::start(cli.global.verbose, style(&cli.global).color, &progress);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&anyhow::Error::new(error).context("can't start")).into(),
    };
    let stop = CancellationToken::new();
    let ended = runtime.block_on(async {
        tokio::spawn(listen_for_signals(stop.clone()));
        dispatch(cli, progress, stop).await
    });
    // Uploads that were given up are left to the registry: nobody waits for them.
    runtime.shutdown_background();
    ended.unwrap_or_else(|error| fail(&error)).into()
}

async fn dispatch(cli: Cli, progress: std::sync::Arc<dyn Progress>, stop: CancellationToken) -> anyhow::Result<Exit> {
    let cache = session::cache_folder(&cli.global, |name| std::env::var_os(name));
    let start = session::Start { global: cli.global, cache, progress, stop };
    let global = start.global.clone();
    let report = match cli.verb {
        Verb::Sync(arguments) => sync::run(start, &arguments).await,
        Verb::Plan(arguments) => plan::run(start, &arguments).await,
        Verb::Lock(arguments) => lock::run(start, &arguments).await,
        Verb::Update(arguments) => update::run(start, &arguments).await,
        Verb::Copy(arguments) => copy::run(start, &arguments).await,
        Verb::Check(arguments) => check::run(start, &arguments).await,
        Verb::Verify(arguments) => verify::run(start, &arguments).await,
        Verb::Demo(arguments) => return demo::run(start, &arguments).await,
        Verb::Init(arguments) => return printed(&init::run(&global, &arguments)?),
        Verb::Discover(arguments) => return discover::run(&global, &arguments),
        Verb::Rewrite(arguments) => return rewrite::run(&global, &arguments),
        Verb::Export(arguments) => return export::run(&global, &arguments),
        Verb::Schema => return printed(&Config::schema()),
        Verb::Completions(arguments) => return printed(&completions::script(&arguments)),
        Verb::Man => return printed(&man::page().context("can't make the page")?),
    }?;
    print(&report, &global)
}

/// The first signal lets what is under way come to an end, the second doesn't.
async fn listen_for_signals(stop: CancellationToken) {
    for is_first in [true, false] {
        if next_signal().await.is_err() {
            return;
        }
        if !is_first {
            std::process::exit(i32::from(Exit::Interrupted.code()));
        }
        stop.cancel();
        tracing::warn!("stopping: what is under way may end, nothing new is started; once more stops at once");
    }
}

#[cfg(unix)]
async fn next_signal() -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hang_up = if is_deaf_to_hang_ups() { None } else { Some(signal(SignalKind::hangup())?) };
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

/// Whether this process was started so that it goes on after its terminal has gone, as by nohup. Linux tells; elsewhere it
/// isn't known.
#[cfg(unix)]
fn is_deaf_to_hang_ups() -> bool {
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

fn style(global: &Global) -> Style {
    use std::io::IsTerminal as _;
    let wanted = match global.color {
        ColorChoice::Always => true,
        ColorChoice::Never => false,
        ColorChoice::Auto => io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty()),
    };
    Style { quiet: global.quiet, verbose: global.verbose > 0, color: wanted }
}

/// Writes the report to stdout: one JSON document, or the result lines and the summary.
fn print(report: &Report, global: &Global) -> anyhow::Result<Exit> {
    say(report.exit(), |stdout| match global.json {
        true => stdout.write_all(report.to_json().as_bytes()),
        false => report.write_text(stdout, style(global)),
    })
}

/// Writes what a verb that makes no report has to say.
fn printed(text: &str) -> anyhow::Result<Exit> {
    say(Exit::Success, |stdout| stdout.write_all(text.as_bytes()))
}

/// Writes to stdout, for a run that ends like this. A reader that has gone, as in a pipe to head, isn't an error.
fn say(exit: Exit, write: impl FnOnce(&mut StdoutLock<'_>) -> io::Result<()>) -> anyhow::Result<Exit> {
    let mut stdout = io::stdout().lock();
    match write(&mut stdout).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Unheard { exit: exit.or(Exit::Failed), error }.into())
        }
        _ => Ok(exit),
    }
}

/// Tells what clap has to say: help, or what is wrong with the command line.
pub(crate) fn answer(clap: &clap::Error) -> ExitCode {
    match clap.print() {
        Err(error) if !clap.use_stderr() && error.kind() != ErrorKind::BrokenPipe => {
            fail(&Unheard { exit: Exit::Failed, error }.into()).into()
        }
        // Nobody is left to tell if stderr can't be written.
        _ => u8::try_from(clap.exit_code()).unwrap_or(Exit::Unable.code()).into(),
    }
}

/// Tells why it could not run and what to do about it.
fn fail(error: &anyhow::Error) -> Exit {
    let mut text = format!("error: {error}\n");
    for cause in error.chain().skip(1) {
        text.push_str(&format!("caused by: {cause}\n"));
    }
    let unheard = error.downcast_ref::<Unheard>();
    let unable = error.downcast_ref::<Unable>().and_then(|unable| unable.hint.as_deref());
    let hint = unable
        .or(unheard.map(|_| UNHEARD_HINT))
        .or_else(|| error.downcast_ref::<crate::error::Error>().and_then(crate::error::Error::hint));
    if let Some(hint) = hint {
        text.push_str(&format!("hint: {hint}\n"));
    }
    let _ = io::stderr().lock().write_all(text.as_bytes());
    unheard.map_or(Exit::Unable, |unheard| unheard.exit)
}
