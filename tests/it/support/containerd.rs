//! Debian's containerd and its client, with no network but loopback.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use super::docker_registry::installed;

/// How long it may take to start before it counts as hung.
const LIMIT: Duration = Duration::from_secs(60);

/// Calls runtime.v1.ImageService/PullImage. Its messages, `PullImageRequest { ImageSpec image = 1 }` and
/// `ImageSpec { string image = 1 }`, are encoded by hand.
const PULL_IMAGE: &str = "
import sys, grpc
field = lambda data: b'\\n' + bytes([len(data)]) + data
channel = grpc.insecure_channel('unix://' + sys.argv[1])
pull = channel.unary_unary('/runtime.v1.ImageService/PullImage', request_serializer=None, response_deserializer=None)
pull(field(field(sys.argv[2].encode())), timeout=50)
";

/// A running containerd in a separate folder; it is killed when this is dropped.
#[derive(Debug)]
pub(crate) struct Containerd {
    process: Child,
    client: PathBuf,
    folder: tempfile::TempDir,
}

impl Containerd {
    /// Starts one that reaches other hosts through `proxy`; `None`, with a message, if it isn't installed.
    pub(crate) fn start(proxy: &str) -> Option<Self> {
        Self::with(proxy, "disabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n", "")
    }

    /// [`Containerd::start`] with the plugin that Kubernetes talks to, which reads `hosts`.
    pub(crate) fn with_cri(proxy: &str, hosts: &Path) -> Option<Self> {
        let cri = format!(
            "[plugins.\"io.containerd.grpc.v1.cri\".containerd]\nsnapshotter = \"native\"\n\
             [plugins.\"io.containerd.grpc.v1.cri\".registry]\nconfig_path = \"{}\"\n",
            hosts.display()
        );
        Self::with(proxy, "", &cri)
    }

    fn with(proxy: &str, first: &str, last: &str) -> Option<Self> {
        let program = std::env::var_os("TRANSSHIP_TEST_CONTAINERD").map_or_else(|| "containerd".into(), PathBuf::from);
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().display();
        let config = format!(
            "version = 2\nroot = \"{path}/root\"\nstate = \"{path}/state\"\n{first}\
             [grpc]\naddress = \"{path}/socket\"\n[plugins.\"io.containerd.internal.v1.opt\"]\npath = \"{path}/opt\"\n{last}"
        );
        std::fs::write(folder.path().join("config.toml"), config).expect("a fresh folder");
        let log = File::create(folder.path().join("log")).expect("a fresh folder");
        let mut command = Command::new(&program);
        command.arg("-c").arg(folder.path().join("config.toml")).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let process = installed("containerd", no_way_out(&mut command, proxy).spawn())?;
        let client = program.with_file_name("ctr");
        let mut started = Self { process, client, folder };
        let begin = Instant::now();
        while !started.answers() {
            let ended = started.process.try_wait().expect("it is ours");
            assert!(ended.is_none() && begin.elapsed() < LIMIT, "containerd didn't start: {ended:?} {}", started.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(started)
    }

    fn answers(&self) -> bool {
        self.folder.path().join("socket").exists()
            && self.command("", &["version"]).output().is_ok_and(|o| o.status.success())
    }

    fn command(&self, proxy: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.client);
        command.arg("-a").arg(self.folder.path().join("socket")).args(arguments);
        no_way_out(&mut command, proxy);
        command
    }

    /// Pulls an image by the files in `hosts`; the client reaches other hosts through `proxy`.
    pub(crate) fn pull(&self, proxy: &str, hosts: &Path, image: &str) -> Output {
        let hosts = hosts.to_str().expect("UTF-8");
        let pull = ["images", "pull", "--hosts-dir", hosts, "--snapshotter", "native", image];
        self.command(proxy, &pull).output().expect("ctr is installed")
    }

    /// Makes the plugin of Kubernetes pull an image, as a kubelet does; `None`, with a message, if Python's gRPC isn't
    /// installed.
    pub(crate) fn pull_by_cri(&self, image: &str) -> Option<Output> {
        let python = std::env::var_os("TRANSSHIP_TEST_GRPCIO").unwrap_or_else(|| "python3".into());
        let mut command = Command::new(&python);
        let has_grpc = Command::new(&python).args(["-c", "import grpc"]).stderr(Stdio::null()).status();
        let missing = || std::io::Error::from(std::io::ErrorKind::NotFound);
        let has_grpc = has_grpc.and_then(|status| if status.success() { Ok(()) } else { Err(missing()) });
        installed("grpcio", has_grpc)?;
        command.args(["-c", PULL_IMAGE]).arg(self.folder.path().join("socket")).arg(image);
        Some(no_way_out(&mut command, "").output().expect("python is installed"))
    }

    /// The digest of an image that was pulled.
    pub(crate) fn digest(&self, image: &str) -> String {
        self.digest_in("default", image)
    }

    /// The digest of an image that was pulled for Kubernetes.
    pub(crate) fn digest_by_cri(&self, image: &str) -> String {
        self.digest_in("k8s.io", image)
    }

    fn digest_in(&self, namespace: &str, image: &str) -> String {
        let named = format!("name=={image}");
        let list = self.command("", &["-n", namespace, "images", "ls", &named]).output().expect("ctr is installed");
        String::from_utf8_lossy(&list.stdout)
            .split_whitespace()
            .find(|word| word.starts_with("sha256:"))
            .unwrap_or_default()
            .to_owned()
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// All hosts except loopback are reached through `proxy`.
pub(crate) fn no_way_out<'a>(command: &'a mut Command, proxy: &str) -> &'a mut Command {
    for name in ["HTTPS_PROXY", "HTTP_PROXY", "https_proxy", "http_proxy"] {
        command.env(name, proxy);
    }
    command.env("NO_PROXY", "127.0.0.1,localhost").env("no_proxy", "127.0.0.1,localhost")
}
