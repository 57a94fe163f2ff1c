//! Debian's dockerd and its client, with no network but loopback.

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use super::containerd::no_way_out;
use super::docker_registry::installed;

/// How long it may take to start before it counts as hung.
const LIMIT: Duration = Duration::from_secs(60);

/// A running dockerd in a separate folder; it ends when this is dropped, as does the containerd that it starts.
#[derive(Debug)]
pub(crate) struct Dockerd {
    /// Until it is dropped.
    process: Option<Child>,
    client: PathBuf,
    folder: tempfile::TempDir,
}

impl Dockerd {
    /// Starts one with this daemon.json and `proxy` to other hosts; `None`, with a message, if it is not installed.
    pub(crate) fn start(proxy: &str, config: &Path) -> Option<Self> {
        let program = std::env::var_os("TRANSSHIP_TEST_DOCKERD").map_or_else(|| "dockerd".into(), PathBuf::from);
        let folder = tempfile::tempdir().expect("a temporary folder");
        let log = File::create(folder.path().join("log")).expect("a fresh folder");
        let path = |name: &str| folder.path().join(name);
        let mut command = Command::new(&program);
        command.env("PATH", programs(&program)).arg("--config-file").arg(config);
        command.arg("--data-root").arg(path("root")).arg("--exec-root").arg(path("exec"));
        command.arg("-p").arg(path("pid")).arg("-H").arg(socket(folder.path()));
        command.args(["--iptables=false", "--ip6tables=false", "--ip-forward=false", "--ip-masq=false"]);
        command.args(["--bridge=none", "--storage-driver=vfs"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let process = installed("dockerd", no_way_out(&mut command, proxy).spawn())?;
        let mut started = Self { process: Some(process), client: program.with_file_name("docker"), folder };
        let begin = Instant::now();
        while !path_exists(&started) || !started.run("version").status.success() {
            let ended = started.process.as_mut().and_then(|process| process.try_wait().expect("it is ours"));
            assert!(ended.is_none() && begin.elapsed() < LIMIT, "dockerd didn't start: {ended:?} {}", started.log());
            std::thread::yield_now();
        }
        Some(started)
    }

    /// Runs its client.
    pub(crate) fn run(&self, line: &str) -> Output {
        let mut command = Command::new(&self.client);
        command.arg("-H").arg(socket(self.folder.path())).args(line.split(' ')).env("HOME", self.folder.path());
        command.output().expect("docker is installed")
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

fn path_exists(dockerd: &Dockerd) -> bool {
    dockerd.folder.path().join("socket").exists()
}

fn socket(folder: &Path) -> OsString {
    let mut socket = OsString::from("unix://");
    socket.push(folder.join("socket"));
    socket
}

/// `PATH` with the programs that dockerd starts: runc beside it, and containerd.
fn programs(dockerd: &Path) -> OsString {
    let containerd = std::env::var_os("TRANSSHIP_TEST_CONTAINERD").map(PathBuf::from);
    let beside = [Some(dockerd.to_owned()), containerd].into_iter().flatten();
    let folders = beside.filter_map(|program| program.parent().map(Path::to_owned));
    let folders = folders.filter(|folder| !folder.as_os_str().is_empty());
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::join_paths(folders.chain(std::env::split_paths(&path))).expect("paths without a colon")
}

impl Drop for Dockerd {
    fn drop(&mut self) {
        let Some(mut process) = self.process.take() else { return };
        let end = |signal: &str, id: u32| Command::new("kill").args([signal, &id.to_string()]).status();
        let id = process.id();
        let (send, ended) = std::sync::mpsc::channel();
        let waiting = std::thread::spawn(move || send.send(process.wait()));
        // At SIGTERM it ends its containerd, and then itself.
        let _ = end("-TERM", id);
        if ended.recv_timeout(LIMIT).is_err() {
            let _ = end("-KILL", id);
        }
        let _ = waiting.join();
    }
}
