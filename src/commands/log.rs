//! The log on stderr, beside the progress. At a terminal, warnings look like a compiler's; elsewhere, and with `-v`,
//! each event is one line with its time.
//!
//! `-v` shows each request, `-vv` headers, `-vvv` everything, and `TRANSSHIP_LOG` is a detailed filter. Dependencies
//! are silent below that level: their callers report their errors. Our own events contain no secrets. Those of
//! dependencies may: some show headers, bodies or proxy credentials. `MOST` caps them, whatever the filter says.

use std::fmt;
use std::io::{self, IsTerminal as _};
use std::sync::Arc;

use jiff::Timestamp;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::filter::{EnvFilter, filter_fn};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::progress::{Log, Progress};
use crate::terminal::colour::{BOLD, GREEN, RED, YELLOW, paint};
use crate::terminal::{columns_of_stderr, escape, wrap};

/// The most verbose level of a dependency, by the prefix of its events' target; the first match counts.
const MOST: &[(&str, LevelFilter)] = &[
    ("transship", LevelFilter::TRACE),
    // Connections and the pool: addresses only.
    ("hyper_util::client::legacy", LevelFilter::TRACE),
    ("rustls", LevelFilter::DEBUG),
    // The SDK logs requests with their session tokens, and ECR's answers with theirs.
    ("", LevelFilter::INFO),
];

/// Starts the log. A second start in one process, as in tests, has no effect.
pub(super) fn start(verbosity: u8, is_coloured: bool, progress: &Arc<dyn Progress>) {
    let default = match verbosity {
        0 => "off,transship=warn",
        1 => "off,transship=debug",
        2 => "off,transship=trace",
        _ => "trace",
    };
    let filter = EnvFilter::try_from_env("TRANSSHIP_LOG");
    // With a higher verbosity, the output is a log, also at a terminal.
    let is_plain = verbosity == 0 && filter.is_err() && io::stderr().is_terminal();
    let filter = filter.unwrap_or_else(|_| EnvFilter::new(default));
    let format = Format { is_plain, is_coloured };
    let lines = tracing_subscriber::fmt::layer().with_writer(Log::new(Arc::clone(progress))).event_format(format);
    let _ = tracing_subscriber::registry().with(filter_fn(is_safe)).with(filter).with(lines).try_init();
}

fn is_safe(event: &Metadata<'_>) -> bool {
    MOST.iter().find(|(target, _)| event.target().starts_with(target)).is_some_and(|(_, most)| event.level() <= most)
}

/// The format of an event: like a compiler's warning at a terminal, otherwise one line of a log.
struct Format {
    is_plain: bool,
    is_coloured: bool,
}

impl<S, N> FormatEvent<S, N> for Format
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut said = Said::default();
        event.record(&mut said);
        let level = *event.metadata().level();
        let text = if self.is_plain { said.plain(level, self.is_coloured) } else { said.line(level, self.is_coloured) };
        out.write_str(&text)
    }
}

/// The text of an event. Line breaks are escaped: text from others may contain some.
#[derive(Debug, Default)]
struct Said {
    message: String,
    hint: Option<String>,
    fields: String,
}

impl Visit for Said {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = format!("{value:?}");
        let text = escape(&text);
        match field.name() {
            "message" => self.message.push_str(&text),
            "hint" => self.hint = Some(text.into_owned()),
            name => self.fields.push_str(&format!(" {name}={text}")),
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" | "hint" => self.record_debug(field, &format_args!("{value}")),
            _ => self.record_debug(field, &value),
        }
    }
}

impl Said {
    /// `warning: …`, with the hint below it.
    fn plain(&self, level: Level, is_coloured: bool) -> String {
        let (word, colour) = match level {
            Level::ERROR => ("error", RED),
            Level::WARN => ("warning", YELLOW),
            _ => ("note", BOLD),
        };
        let columns = columns_of_stderr().unwrap_or(usize::MAX);
        let mut lines = wrap(&format!("{word}: {}{}", self.message, self.fields), columns, "  ");
        lines[0].replace_range(..word.len(), &paint(word, colour, is_coloured));
        if let Some(hint) = self.hint.as_ref().filter(|hint| !hint.is_empty()) {
            lines.extend(wrap(&format!("hint: {hint}"), columns, "  "));
        }
        lines.join("\n") + "\n"
    }

    /// One line, with the time to the second.
    fn line(&self, level: Level, is_coloured: bool) -> String {
        let now = Timestamp::from_second(Timestamp::now().as_second()).unwrap_or(Timestamp::UNIX_EPOCH);
        let colour = match level {
            Level::ERROR => RED,
            Level::WARN => YELLOW,
            _ => GREEN,
        };
        let level = paint(&format!("{level:>5}"), colour, is_coloured);
        let hint = self.hint.as_ref().filter(|hint| !hint.is_empty());
        let hint = hint.map_or_else(String::new, |hint| format!("; hint: {hint}"));
        format!("{now} {level} {}{}{hint}\n", self.message, self.fields)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said() -> Said {
        let mut said = Said::default();
        said.message.push_str(&escape("it is\r\nso\u{7}"));
        said.hint = Some("do this".to_owned());
        said.fields.push_str(" name=\"a\"");
        said
    }

    #[test]
    fn a_message_is_plain_for_people_and_one_line_in_a_log() {
        let plain = "warning: it is\\r\\nso\\u{7} name=\"a\"\nhint: do this\n";
        assert_eq!(said().plain(Level::WARN, false), plain);
        assert!(said().plain(Level::WARN, true).starts_with("\u{1b}[33mwarning\u{1b}[0m: "));
        let line = said().line(Level::WARN, false);
        let (time, rest) = line.split_once(' ').unwrap();
        assert_eq!((time.len(), time.ends_with('Z')), ("2026-11-29T10:44:19Z".len(), true), "{time}");
        assert_eq!(rest, " WARN it is\\r\\nso\\u{7} name=\"a\"; hint: do this\n");
    }
}
