//! A runner for the binary, in a separate folder and environment, isolated from the machine.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use regex::Regex;
use tokio::io::{AsyncBufReadExt as _, BufReader};

/// How long a run may take before it counts as hung.
const LIMIT: Duration = Duration::from_secs(180);

/// A folder to run in.
#[derive(Debug)]
pub(crate) struct Cli {
    folder: tempfile::TempDir,
    variables: Vec<(OsString, OsString)>,
}

/// The result of a run.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    folder: PathBuf,
}

impl Cli {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::create_dir(folder.path().join("home")).expect("a folder in a fresh folder");
        Self { folder, variables: Vec::new() }
    }

    /// With `text` as the file `name`; missing folders are created.
    pub(crate) fn file(self, name: &str, text: impl AsRef<[u8]>) -> Self {
        self.write(name, text);
        self
    }

    /// With an environment variable.
    pub(crate) fn env(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.variables.push((name.into(), value.into()));
        self
    }

    /// The path of the file `name`.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().expect("a file in a folder")).expect("a folder");
        std::fs::write(path, text).expect("a file");
    }

    /// The text of the file `name`; `None` if it isn't there.
    pub(crate) fn read(&self, name: &str) -> Option<String> {
        std::fs::read_to_string(self.path(name)).ok()
    }

    /// Runs `transship` with the words of `line`; a word can't contain a space.
    pub(crate) async fn run(&self, line: &str) -> Run {
        self.run_with_input(line, "").await
    }

    /// [`Cli::run`] with `input` on its standard input.
    pub(crate) async fn run_with_input(&self, line: &str, input: &str) -> Run {
        let mut command = assert_cmd::Command::new(assert_cmd::cargo::cargo_bin!("transship"));
        command.args(line.split_whitespace()).current_dir(self.folder.path()).env_clear();
        command.envs(environment(self.folder.path())).envs(self.variables.iter().cloned());
        command.write_stdin(input).timeout(LIMIT);
        // The registries of the test run on this runtime, which must not be blocked.
        let output = tokio::task::spawn_blocking(move || command.output()).await.expect("the task doesn't panic");
        let output = output.unwrap_or_else(|e| panic!("run transship {line}: {e}"));
        let code = output.status.code().unwrap_or_else(|| panic!("transship {line} was killed: {output:?}"));
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
        let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
        Run { code, stdout, stderr, folder: self.folder.path().to_owned() }
    }
}

#[cfg(unix)]
impl Cli {
    /// Makes the named pipe `name`. It has no writer, so whoever opens it to read waits for ever.
    pub(crate) fn pipe(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        let made = std::process::Command::new("mkfifo").arg(&path).status().expect("mkfifo runs");
        assert!(made.success());
        path
    }

    /// [`Cli::pipe`] with a writer that writes nothing, once the program has opened it to read.
    pub(crate) fn endless_pipe(&self, name: &str) -> impl Future<Output = std::fs::File> {
        let path = self.pipe(name);
        let opened = tokio::task::spawn_blocking(move || std::fs::OpenOptions::new().write(true).open(path));
        async { opened.await.expect("the task doesn't panic").expect("the pipe") }
    }

    /// [`Cli::run`] with this as its standard output; returns the exit status and standard error.
    pub(crate) async fn run_into(&self, line: &str, stdout: impl Into<std::process::Stdio>) -> (i32, String) {
        let mut command = tokio::process::Command::new(assert_cmd::cargo::cargo_bin!("transship"));
        command.args(line.split_whitespace()).current_dir(self.folder.path()).env_clear().kill_on_drop(true);
        command.envs(environment(self.folder.path())).envs(self.variables.iter().cloned());
        command.stdin(std::process::Stdio::null()).stdout(stdout).stderr(std::process::Stdio::piped());
        let ended = command.spawn().expect("it starts").wait_with_output();
        let output = tokio::time::timeout(LIMIT, ended).await.expect("it ends in time").expect("it ends");
        let code = output.status.code().unwrap_or_else(|| panic!("transship {line} was killed: {output:?}"));
        (code, String::from_utf8(output.stderr).expect("UTF-8"))
    }

    /// [`Cli::run`] at a terminal; returns the exit status and all its output.
    pub(crate) async fn run_at_terminal(&self, line: &str) -> (i32, String) {
        use tokio::io::AsyncReadExt as _;
        let (mut terminal, other_end) = pty_process::open().expect("a pseudo-terminal");
        let command = pty_process::Command::new(assert_cmd::cargo::cargo_bin!("transship"));
        let command = command.args(line.split_whitespace()).current_dir(self.folder.path()).env_clear();
        let command = command.envs(environment(self.folder.path())).envs(self.variables.iter().cloned());
        let mut child = command.kill_on_drop(true).spawn(other_end).expect("it starts");
        let mut seen = Vec::new();
        let all = async {
            let mut part = [0; 4096];
            // Once the other end is closed, reading fails.
            while let Ok(count @ 1..) = terminal.read(&mut part).await {
                seen.extend_from_slice(&part[..count]);
            }
            child.wait().await
        };
        let status = tokio::time::timeout(LIMIT, all).await.expect("it ends in time").expect("it ends");
        (status.code().expect("it wasn't killed"), String::from_utf8(seen).expect("UTF-8"))
    }

    fn spawn(&self, line: &str) -> tokio::process::Child {
        self.spawn_by(tokio::process::Command::new(assert_cmd::cargo::cargo_bin!("transship")), line)
    }

    fn spawn_by(&self, mut command: tokio::process::Command, line: &str) -> tokio::process::Child {
        command.args(line.split_whitespace()).current_dir(self.folder.path()).env_clear().kill_on_drop(true);
        command.envs(environment(self.folder.path())).envs(self.variables.iter().cloned());
        command.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::piped());
        command.stderr(std::process::Stdio::piped()).spawn().expect("it starts")
    }

    /// Starts `line`, and returns its output up to a line that contains `says`. It is killed when it is dropped.
    pub(crate) async fn started(&self, line: &str, says: &str) -> (tokio::process::Child, String) {
        let mut child = self.spawn(line);
        let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let mut printed = String::new();
        let printing = async {
            while !printed.contains(says) {
                let line = lines.next_line().await.expect("UTF-8");
                printed.push_str(&line.unwrap_or_else(|| panic!("it ended without `{says}`: {printed}")));
                printed.push('\n');
            }
        };
        tokio::time::timeout(LIMIT, printing).await.expect("it says so in time");
        (child, printed)
    }

    /// Runs `line` and kills it, as by `kill -9`, once `when` completes.
    pub(crate) async fn killed(&self, line: &str, when: impl Future<Output = ()>) {
        let mut child = self.spawn(line);
        tokio::time::timeout(LIMIT, when).await.expect("it comes so far in time");
        child.kill().await.expect("it still runs");
    }

    /// Runs `line` and sends it SIGTERM once `when` completes.
    pub(crate) async fn interrupted(&self, line: &str, when: impl Future<Output = ()>) -> Run {
        self.signalled(line, "-TERM", when).await
    }

    /// Runs `line`, and sends it SIGTERM once `when` completes and again soon after.
    pub(crate) async fn interrupted_twice(&self, line: &str, when: impl Future<Output = ()>) -> Run {
        let child = self.spawn(line);
        let id = child.id().expect("it runs").to_string();
        let again = || {
            // Two signals at once may count as one.
            std::thread::sleep(std::time::Duration::from_millis(300));
            let sent = std::process::Command::new("kill").args(["-TERM", &id]).status();
            assert!(sent.expect("kill runs").success(), "it waits for the second signal");
        };
        self.signal(child, "-TERM", when, again).await
    }

    /// Runs `line` and sends it this signal, as named by `kill`, once `when` completes.
    pub(crate) async fn signalled(&self, line: &str, signal: &str, when: impl Future<Output = ()>) -> Run {
        // Tests started by nohup ignore SIGHUP, and so would their children.
        let mut command = tokio::process::Command::new("env");
        command.arg("--default-signal=HUP").arg(assert_cmd::cargo::cargo_bin!("transship"));
        self.signal(self.spawn_by(command, line), signal, when, || ()).await
    }

    /// Runs `line` as nohup does and sends it SIGHUP once `when` completes, and then calls `then`.
    pub(crate) async fn hung_up(&self, line: &str, when: impl Future<Output = ()>, then: impl FnOnce()) -> Run {
        let mut command = tokio::process::Command::new("sh");
        command.args(["-c", "trap '' HUP; exec \"$0\" \"$@\""]).arg(assert_cmd::cargo::cargo_bin!("transship"));
        self.signal(self.spawn_by(command, line), "-HUP", when, then).await
    }

    async fn signal(
        &self,
        child: tokio::process::Child,
        signal: &str,
        when: impl Future<Output = ()>,
        then: impl FnOnce(),
    ) -> Run {
        let id = child.id().expect("it runs").to_string();
        let ended = child.wait_with_output();
        let end = async {
            when.await;
            let sent = tokio::process::Command::new("kill").args([signal, &id]).status().await;
            assert!(sent.expect("kill runs").success());
            then();
        };
        let both = async { tokio::join!(ended, end) };
        let (output, ()) = tokio::time::timeout(LIMIT, both).await.expect("it ends in time");
        let output = output.expect("it ends");
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
        let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
        Run {
            code: output.status.code().expect("it wasn't killed"),
            stdout,
            stderr,
            folder: self.folder.path().to_owned(),
        }
    }
}

/// The environment of every run: the programs of the machine, a home without settings, and no cloud metadata.
pub(crate) fn environment(folder: &Path) -> Vec<(OsString, OsString)> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    vec![
        ("PATH".into(), path),
        ("HOME".into(), folder.join("home").into()),
        ("TRANSSHIP_CACHE_DIR".into(), folder.join("cache").into()),
        ("AWS_EC2_METADATA_DISABLED".into(), "true".into()),
    ]
}

/// Fails if a verb's document doesn't match the published schema.
pub(crate) fn assert_obeys_the_schema(document: &serde_json::Value) {
    static SCHEMA: std::sync::LazyLock<jsonschema::Validator> = std::sync::LazyLock::new(|| {
        let mut command = assert_cmd::Command::new(assert_cmd::cargo::cargo_bin!("transship"));
        let output = command.args(["schema", "report"]).output().expect("it runs");
        let schema = serde_json::from_slice(&output.stdout).expect("a schema");
        jsonschema::validator_for(&schema).expect("a valid schema")
    });
    if ["schema", "unresolved", "kinds"].iter().any(|key| document.get(key).is_some()) {
        let errors: Vec<_> = SCHEMA.iter_errors(document).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{errors:#?} in {document:#}");
    }
}

impl Run {
    /// The document on standard output, which is as `transship schema report` has it.
    pub(crate) fn json(&self) -> serde_json::Value {
        let document = serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e} in:\n{self:?}"));
        assert_obeys_the_schema(&document);
        document
    }

    /// The same with placeholders for everything that differs from run to run.
    pub(crate) fn filtered(&self) -> String {
        filtered(&self.to_string().replace(&self.folder.display().to_string(), "[DIR]"))
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "exit {}\n-- stdout\n{}-- stderr\n{}", self.code, self.stdout, self.stderr)
    }
}

/// `text` with placeholders for ports, digests and times.
pub(crate) fn filtered(text: &str) -> String {
    let replacements = [
        (r"(127\.0\.0\.1|localhost)([:-])\d+", "$1$2[PORT]"),
        (r"sha(256|512):[0-9a-f]{12,128}", "sha$1:[DIGEST]"),
        (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "[TIME]"),
        (r#"("seconds": ?)[0-9.e-]+"#, "$1[SECONDS]"),
        (r"\b\d+(\.\d+)? ?(ms|s)\b", "[SECONDS]"),
    ];
    replacements.iter().fold(text.to_owned(), |text, (pattern, placeholder)| {
        let pattern = Regex::new(pattern).expect("a constant pattern");
        pattern.replace_all(&text, *placeholder).into_owned()
    })
}
