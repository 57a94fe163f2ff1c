//! A terminal for the binary: a pseudo-terminal, and the screen on it (by the `vt100` crate).

use std::num::NonZeroU16;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use regex::Regex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::watch;

use super::cli::{Cli, environment};

/// How long anything may take before it counts as hung.
const LIMIT: Duration = Duration::from_secs(120);

/// A run at a terminal. It is killed when it is dropped.
pub(crate) struct Terminal {
    child: tokio::process::Child,
    keyboard: pty_process::OwnedWritePty,
    screen: Arc<Mutex<Shown>>,
    /// Changes with each piece of output; closed at its end.
    changed: watch::Receiver<u64>,
}

struct Shown {
    parser: vt100::Parser,
    raw: Vec<u8>,
}

impl Terminal {
    /// Runs `line` at a terminal of this size.
    pub(crate) fn start(cli: &Cli, line: &str, (rows, columns): (u16, u16)) -> Self {
        Self::start_with(cli, line, (rows, columns), &[("TERM", "xterm-256color")])
    }

    /// [`Terminal::start`] with these variables, TERM included.
    pub(crate) fn start_with(cli: &Cli, line: &str, (rows, columns): (u16, u16), variables: &[(&str, &str)]) -> Self {
        let (pty, pts) = pty_process::open().expect("a pseudo-terminal");
        pty.resize(pty_process::Size::new(rows, columns)).expect("a size");
        let program = assert_cmd::cargo::cargo_bin!("transship");
        let command = pty_process::Command::new(program).args(line.split_whitespace()).current_dir(cli.path(""));
        let command = command.env_clear().envs(environment(&cli.path(""))).envs(variables.iter().copied());
        let child = command.kill_on_drop(true).spawn(pts).expect("it starts");
        let (mut output, keyboard) = pty.into_split();
        let parser = vt100::Parser::new(some(rows), some(columns), 0);
        let screen = Arc::new(Mutex::new(Shown { parser, raw: Vec::new() }));
        let (changes, changed) = watch::channel(0);
        let drawn = Arc::clone(&screen);
        tokio::spawn(async move {
            let mut bytes = [0; 4096];
            // Linux returns an error once the other side is closed.
            while let Ok(read @ 1..) = output.read(&mut bytes).await {
                {
                    let mut shown = drawn.lock().expect("no thread panics while it holds the lock");
                    shown.parser.process(&bytes[..read]);
                    shown.raw.extend_from_slice(&bytes[..read]);
                }
                changes.send_modify(|count| *count += 1);
            }
        });
        Self { child, keyboard, screen, changed }
    }

    /// The text on the screen, without trailing blanks.
    pub(crate) fn shown(&self) -> String {
        let shown = self.screen.lock().expect("no thread panics while it holds the lock");
        let (_, columns) = shown.parser.screen().size();
        let rows: Vec<String> =
            shown.parser.screen().rows(0, columns.get()).map(|row| row.trim_end().to_owned()).collect();
        rows.join("\n").trim_end().to_owned()
    }

    /// All that was written, with its escape sequences.
    pub(crate) fn raw(&self) -> String {
        String::from_utf8_lossy(&self.screen.lock().expect("no thread panics while it holds the lock").raw).into_owned()
    }

    /// Row and column of the cursor, and whether it is visible.
    pub(crate) fn cursor(&self) -> ((u16, u16), bool) {
        let shown = self.screen.lock().expect("no thread panics while it holds the lock");
        (shown.parser.screen().cursor_position(), !shown.parser.screen().hide_cursor())
    }

    /// Waits until `is` holds for the screen.
    pub(crate) async fn until(&mut self, is: impl Fn(&str) -> bool) -> String {
        let waited = async {
            loop {
                let shown = self.shown();
                if is(&shown) {
                    return Some(shown);
                }
                if self.changed.changed().await.is_err() {
                    return Some(self.shown()).filter(|shown| is(shown));
                }
            }
        };
        let waited = tokio::time::timeout(LIMIT, waited).await.ok().flatten();
        waited.unwrap_or_else(|| panic!("it never came to that:\n{}", self.shown()))
    }

    /// [`Terminal::until`] all of these are on the screen.
    pub(crate) async fn until_says(&mut self, words: &[&str]) -> String {
        self.until(|shown| words.iter().all(|word| shown.contains(word))).await
    }

    /// Types `keys`.
    pub(crate) async fn types(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).await.expect("a reader");
    }

    /// Resizes the window, and notifies the run. Until then drawings are for the old size, and this screen
    /// can't cut lines: it is widened before, and narrowed once `is` holds.
    pub(crate) async fn resize(&mut self, (rows, columns): (u16, u16), is: impl Fn(&str) -> bool) {
        let grid = |terminal: &Self, rows: u16, columns: u16| {
            let mut shown = terminal.screen.lock().expect("no thread panics while it holds the lock");
            let (old_rows, old_columns) = shown.parser.screen().size();
            let size = (rows.max(old_rows.get()), columns.max(old_columns.get()));
            shown.parser.screen_mut().set_size(some(size.0), some(size.1));
        };
        grid(self, rows, columns);
        self.keyboard.resize(pty_process::Size::new(rows, columns)).expect("a size");
        self.until(is).await;
        let mut shown = self.screen.lock().expect("no thread panics while it holds the lock");
        shown.parser.screen_mut().set_size(some(rows), some(columns));
    }

    /// Waits for the end; returns the exit status and the screen.
    pub(crate) async fn ended(&mut self) -> (i32, String) {
        let ended = async {
            let status = self.child.wait().await.expect("it runs");
            while self.changed.changed().await.is_ok() {}
            status
        };
        let status = tokio::time::timeout(LIMIT, ended).await;
        let status = status.unwrap_or_else(|_| panic!("it never ended:\n{}", self.shown()));
        (status.code().expect("it wasn't killed"), self.shown())
    }
}

fn some(size: u16) -> NonZeroU16 {
    NonZeroU16::new(size).expect("a size")
}

/// `screen` with the clock, machine-dependent values and ports masked.
pub(crate) fn masked(screen: &str) -> String {
    let masks = [
        // The rest of the line of a task, and its bar, which fills the remaining width.
        (r"(?m)^((?:copying|reading) .* of \S+ \S+ +\d+ %).*$", "$1  [RATE]"),
        (r"\[[=> ]{10,}\]  ", ""),
        (r"127\.0\.0\.1([:-])\d{4,5}", "127.0.0.1${1}PORT#"),
        (r"transship-demo-\w{6}", "transship-demo-RANDOM"),
        (r"sha256:[0-9a-f]{12}", "sha256:[12 DIGITS]"),
        (r"\b\d+ (m|min) \d+ s\b", "[TIME]"),
        (r"\b\d+(\.\d)? s\b", "[TIME]"),
    ];
    masks.iter().fold(screen.to_owned(), |screen, (pattern, mask)| {
        Regex::new(pattern).expect("a constant pattern").replace_all(&screen, *mask).into_owned()
    })
}
