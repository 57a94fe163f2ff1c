//! What goes to the log, and how: one line an event, on stderr, beside the progress.
//!
//! `-v` shows each request, `-vv` headers, `-vvv` everything, and `TRANSSHIP_LOG` filters in detail. Dependencies stay silent
//! below that: what is wrong is told by whoever asked them. Our own events are made to hold no secret; those of dependencies aren't, and are cut off below where some of them show headers, bodies or
//! the credentials of a proxy, whatever the filter says.

use std::io;
use std::sync::Arc;

use tracing::Metadata;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::{EnvFilter, filter_fn};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::progress::{Log, Progress};

/// How much of a dependency may ever be shown, by the beginning of its events' target; the first row that fits counts.
const MOST: &[(&str, LevelFilter)] = &[
    ("transship", LevelFilter::TRACE),
    // Connections and the pool: addresses only.
    ("hyper_util::client::legacy", LevelFilter::TRACE),
    ("rustls", LevelFilter::DEBUG),
    // The SDK traces requests with their session tokens, and answers with ECR's; reqwest tells a proxy's password.
    ("", LevelFilter::INFO),
];

/// Starts the log. A second start in one process, as in tests, keeps the first.
pub(super) fn start(verbosity: u8, colour: bool, progress: &Arc<dyn Progress>) {
    let default = match verbosity {
        0 => "off,transship=warn",
        1 => "off,transship=debug",
        2 => "off,transship=trace",
        _ => "trace",
    };
    let filter = EnvFilter::try_from_env("TRANSSHIP_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(Lines(Log::new(Arc::clone(progress))))
        .with_ansi(colour)
        .with_target(false)
        .compact();
    let _ = tracing_subscriber::registry().with(filter_fn(is_safe)).with(filter).with(lines).try_init();
}

fn is_safe(event: &Metadata<'_>) -> bool {
    MOST.iter().find(|(target, _)| event.target().starts_with(target)).is_some_and(|(_, most)| event.level() <= most)
}

/// Makes of each event, which comes in one piece, one line: what others said may hold line breaks.
#[derive(Clone)]
struct Lines(Log);

impl io::Write for Lines {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        self.0.write_all(one_line(&String::from_utf8_lossy(event)).as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// `event` with all control characters escaped but the last line break and ESC: those in values are escaped already, and
/// what is left of them are colours.
fn one_line(event: &str) -> String {
    let body = event.strip_suffix('\n').unwrap_or(event);
    let escaped = body.chars().flat_map(|c| match c.is_control() && c != '\u{1b}' {
        true => c.escape_default().collect::<Vec<char>>(),
        false => vec![c],
    });
    escaped.chain(['\n']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line() {
        assert_eq!(one_line("a\r\nb\tc \u{1b}[2mx\u{7}\n"), "a\\r\\nb\\tc \u{1b}[2mx\\u{7}\n");
    }
}
