//! The output of a run: text or one JSON document on stdout, the same document in the file of `--report`, and on stderr
//! why the verb couldn't run.

use std::io::{self, ErrorKind, IsTerminal, StdoutLock, Write as _};
use std::path::Path;
use std::process::ExitCode;

use jiff::Timestamp;

use super::report_file;
use crate::cli::{Cli, ColorChoice, Global};
use crate::config::Problems;
use crate::error::Kind;
use crate::report::{Exit, Fatal, Place, Report, Style};
use crate::terminal::colour::{self, RED, paint};
use crate::terminal::{columns_of_stderr, columns_of_stdout, wrap};

/// Why a verb couldn't run: exit status 2.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(super) struct Unable {
    message: String,
    hint: Option<String>,
    /// The file that the error is about.
    file: Option<String>,
}

impl Unable {
    pub(super) fn error(message: impl Into<String>, hint: impl Into<String>) -> anyhow::Error {
        Self { message: message.into(), hint: Some(hint.into()), file: None }.into()
    }

    /// [`Unable::error`] about `file`.
    pub(super) fn about(file: &Path, message: impl Into<String>, hint: impl Into<String>) -> anyhow::Error {
        let file = Some(file.display().to_string());
        Self { message: message.into(), hint: Some(hint.into()), file }.into()
    }
}

/// The result couldn't be written.
#[derive(Debug, thiserror::Error)]
#[error("can't write {what}: {error}")]
pub(super) struct OutputLost {
    exit: Exit,
    what: String,
    error: io::Error,
}

const OUTPUT_LOST_HINT: &str =
    "free some space, or write the output elsewhere; only the output is lost, the work is done";

/// The colours and the verbosity.
pub(super) fn style(global: &Global) -> Style {
    let color = is_coloured(global, &io::stdout());
    Style { quiet: global.quiet, verbose: global.verbose > 0, color, width: columns_of_stdout() }
}

/// Whether output to `out` is coloured.
pub(super) fn is_coloured(global: &Global, out: &impl IsTerminal) -> bool {
    let choice = match global.color {
        ColorChoice::Always => Some(true),
        ColorChoice::Never => Some(false),
        ColorChoice::Auto => None,
    };
    colour::wanted(choice, out.is_terminal())
}

/// Prints the report of a run.
pub(super) fn print(report: &Report, global: &Global) -> anyhow::Result<Exit> {
    write_output(global, report.exit(), || report.to_json(), |stdout| report.write_text(stdout, style(global)))
}

/// Prints the result of a verb that has no report: `text`, or one JSON document.
pub(super) fn print_found(
    global: &Global,
    exit: Exit,
    json: impl FnOnce() -> String,
    text: impl FnOnce() -> String,
) -> anyhow::Result<Exit> {
    write_output(global, exit, json, |stdout| stdout.write_all(text().as_bytes()))
}

/// Prints the text of a verb that has no report.
pub(super) fn printed(text: &str) -> anyhow::Result<Exit> {
    say(Exit::Success, |stdout| stdout.write_all(text.as_bytes()))
}

/// Writes the report file, then stdout, so that the file exists even if stdout can't be written.
fn write_output(
    global: &Global,
    exit: Exit,
    json: impl FnOnce() -> String,
    text: impl FnOnce(&mut StdoutLock<'_>) -> io::Result<()>,
) -> anyhow::Result<Exit> {
    let document = (global.json || global.report.is_some()).then(json).unwrap_or_default();
    let written = global.report.as_deref().map_or(Ok(()), |path| {
        report_file::write(path, &document).map_err(|error| {
            let what = format!("the report to {}", path.display());
            OutputLost { exit: exit.or(Exit::Failed), what, error }
        })
    });
    let said = say(exit, |stdout| if global.json { stdout.write_all(document.as_bytes()) } else { text(stdout) })?;
    written?;
    Ok(said)
}

/// Writes to stdout, for a run with this exit status. A closed pipe, as with head, isn't an error.
pub(super) fn say(exit: Exit, write: impl FnOnce(&mut StdoutLock<'_>) -> io::Result<()>) -> anyhow::Result<Exit> {
    let mut stdout = io::stdout().lock();
    match write(&mut stdout).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(OutputLost { exit: exit.or(Exit::Failed), what: "to standard output".to_owned(), error }.into())
        }
        _ => Ok(exit),
    }
}

/// Prints why `verb` couldn't run and what to do about it.
pub(super) fn fail(error: &anyhow::Error, verb: &str, started: Timestamp, global: &Global) -> Exit {
    let exit = explain(error, is_coloured(global, &io::stderr()));
    if error.is::<OutputLost>() {
        return exit;
    }
    let document = || Report { fatal: Some(fatal(error)), ..Report::new(verb, started) }.to_json();
    // stderr has the error already.
    let _ = write_output(global, exit, document, |_| Ok(()));
    exit
}

fn explain(error: &anyhow::Error, is_coloured: bool) -> Exit {
    let mut text = match error.downcast_ref::<Problems>() {
        // The contexts of the error are printed as well.
        Some(problems) if error.to_string() == problems.to_string() => format!("error: {}", problems.annotated()),
        _ => format!("error: {error}\n"),
    };
    for cause in error.chain().skip(1) {
        text.push_str(&format!("caused by: {cause}\n"));
    }
    if let Some(hint) = hint(error) {
        text.push_str(&format!("hint: {hint}\n"));
    }
    if let Some(columns) = columns_of_stderr() {
        let lines = text.lines().flat_map(|line| wrap(line, columns, "  "));
        text = lines.map(|line| line + "\n").collect();
    }
    if let Some(rest) = text.strip_prefix("error:") {
        text = paint("error", RED, is_coloured) + ":" + rest;
    }
    let _ = io::stderr().lock().write_all(text.as_bytes());
    error.downcast_ref::<OutputLost>().map_or(Exit::Unable, |lost| lost.exit)
}

fn hint(error: &anyhow::Error) -> Option<&str> {
    let unable = error.downcast_ref::<Unable>().and_then(|unable| unable.hint.as_deref());
    let lost = error.downcast_ref::<OutputLost>().map(|_| OUTPUT_LOST_HINT);
    unable.or(lost).or_else(|| error.downcast_ref::<crate::error::Error>().and_then(crate::error::Error::hint))
}

/// The error, as the report has it.
fn fatal(error: &anyhow::Error) -> Fatal {
    let message = error.chain().map(ToString::to_string).collect::<Vec<_>>().join(": ");
    let kind = error.downcast_ref::<crate::error::Error>().map_or(Kind::Configuration, crate::error::Error::kind);
    let hint = hint(error).map(str::to_owned);
    if let Some(problems) = error.downcast_ref::<Problems>() {
        let place = |problem: &crate::config::Problem| Place {
            file: problems.origin().to_owned(),
            line: Some(problem.line),
            column: Some(problem.column),
            key: Some(problem.path.to_string()).filter(|path| !path.is_empty()),
            message: problem.message.clone(),
            hint: problem.hint.clone(),
        };
        let message = problems.iter().map(|problem| problems.line(problem)).collect::<Vec<_>>().join("\n");
        let hint = problems.iter().find_map(|problem| problem.hint.clone());
        return Fatal { kind, message, hint, places: problems.iter().map(place).collect() };
    }
    let file = error.downcast_ref::<Unable>().and_then(|unable| unable.file.clone());
    let place = file.map(|file| Place {
        file,
        line: None,
        column: None,
        key: None,
        message: error.to_string(),
        hint: hint.clone(),
    });
    Fatal { kind, message, hint, places: place.into_iter().collect() }
}

/// Prints clap's text: help, or a usage error.
pub(crate) fn answer(clap: &clap::Error, arguments: &[std::ffi::OsString]) -> ExitCode {
    let is_help = !clap.use_stderr();
    match clap.print() {
        Err(error) if is_help && error.kind() != ErrorKind::BrokenPipe => {
            let what = "to standard output".to_owned();
            let is_coloured = colour::wanted(None, io::stderr().is_terminal());
            return explain(&OutputLost { exit: Exit::Failed, what, error }.into(), is_coloured).into();
        }
        // There is nowhere to report that stderr can't be written.
        _ => {}
    }
    if !is_help && arguments.iter().any(|argument| argument == "--json") {
        let text = clap.to_string();
        let message = text.split("\n\n").next().unwrap_or_default().trim().trim_start_matches("error: ");
        let hint = Some("`transship help` lists the verbs, `transship VERB --help` their flags".to_owned());
        let fatal = Fatal { kind: Kind::Configuration, message: message.to_owned(), hint, places: Vec::new() };
        let report = Report { fatal: Some(fatal), ..Report::new(Cli::NAME, Timestamp::now()) };
        let _ = say(Exit::Unable, |stdout| stdout.write_all(report.to_json().as_bytes()));
    }
    u8::try_from(clap.exit_code()).unwrap_or(Exit::Unable.code()).into()
}
