//! Debian's `docker-registry` (distribution 2.8), a third-party registry.

use std::fs::OpenOptions;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use transship::oci::{Digest, Registry as Name, Repository};

use super::certificates::Authority;
use super::jwt;

const PROGRAM: &str = "docker-registry";
const ACCESS_LOG: &str = "access.log";

/// How long it may take to start before it counts as hung.
const LIMIT: Duration = Duration::from_secs(60);

/// The settings of the registry.
#[derive(Debug, Clone, Default)]
pub(crate) struct Settings {
    /// Basic authentication: the only user and the password.
    pub(crate) user: Option<(&'static str, &'static str)>,
    /// HTTPS, with a certificate of an untrusted CA.
    pub(crate) tls: bool,
    /// Bearer tokens: the realm, and the signer's certificate as PEM.
    pub(crate) tokens: Option<(String, String)>,
    /// It is a pull-through cache of the registry at this URL.
    pub(crate) upstream: Option<String>,
}

/// A running `docker-registry` in a separate folder; it is killed when this is dropped.
#[derive(Debug)]
pub(crate) struct DockerRegistry {
    process: Child,
    address: SocketAddr,
    folder: tempfile::TempDir,
}

impl DockerRegistry {
    /// Starts one; `None`, with a message, if it isn't installed.
    pub(crate) fn start() -> Option<Self> {
        Self::with(Settings::default())
    }

    pub(crate) fn with(settings: Settings) -> Option<Self> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let config = folder.path().join("config.json");
        std::fs::write(&config, configuration(folder.path(), settings)?).expect("a file in a fresh folder");
        let (process, address) = serve(&config)?;
        Some(Self { process, address, folder })
    }

    /// Ends it, as an outage does.
    pub(crate) fn stop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    /// Starts it again at the same address, with its content.
    pub(crate) fn restart(&mut self) {
        let config = self.folder.path().join("config.json");
        let text = std::fs::read_to_string(&config).expect("its own file");
        std::fs::write(&config, text.replace("127.0.0.1:0", &self.address.to_string())).expect("its own file");
        self.process = serve(&config).expect("it ran before").0;
    }

    /// `127.0.0.1:PORT`.
    pub(crate) fn name(&self) -> Name {
        self.address.to_string().parse().expect("an address is host:port")
    }

    /// The requests answered since the first start, in the combined log format.
    pub(crate) fn access_log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join(ACCESS_LOG)).expect("its own file")
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn repository(&self, path: &str) -> Repository {
        Repository::new(self.name(), path).expect("a repository path")
    }

    /// The file with the bytes of a blob or manifest, which all repositories share.
    pub(crate) fn blob_file(&self, digest: &Digest) -> PathBuf {
        let hex = digest.hex();
        self.storage().join("blobs/sha256").join(&hex[..2]).join(hex).join("data")
    }

    /// The folder of a repository: its tags, and links to its content.
    pub(crate) fn repository_folder(&self, path: &str) -> PathBuf {
        self.storage().join("repositories").join(path)
    }

    fn storage(&self) -> PathBuf {
        self.folder.path().join("data/docker/registry/v2")
    }

    /// The certificate to trust, with [`Settings::tls`].
    pub(crate) fn ca(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }
}

impl Drop for DockerRegistry {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Starts it with this configuration; returns its address.
fn serve(config: &Path) -> Option<(Child, SocketAddr)> {
    let mut command = Command::new(PROGRAM);
    let log = OpenOptions::new().create(true).append(true).open(config.with_file_name(ACCESS_LOG));
    command.arg("serve").arg(config).env_clear().stdin(Stdio::null()).stdout(log.expect("a file in its folder"));
    let mut process = installed(PROGRAM, command.stderr(Stdio::piped()).spawn())?;
    let log = BufReader::new(process.stderr.take().expect("it is piped"));
    let (found, address) = std::sync::mpsc::channel();
    // Keeps reading to the end, so that the pipe never fills up.
    std::thread::spawn(move || {
        for line in log.lines().map_while(Result::ok) {
            if let Some(address) = listening_on(&line) {
                // The receiver is gone after the first address.
                let _ = found.send(address);
            }
        }
    });
    // Ends early if the program does, because the sender is dropped.
    let Ok(address) = address.recv_timeout(LIMIT) else {
        let _ = process.kill();
        panic!("{PROGRAM} didn't come to listen: {:?}", process.wait());
    };
    Some((process, address))
}

/// The result of `started`; a missing program skips the test, or fails it in CI.
pub(crate) fn installed<T>(program: &str, started: std::io::Result<T>) -> Option<T> {
    match started {
        Ok(process) => Some(process),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            let required = std::env::var_os("TRANSSHIP_TEST_REQUIRE").is_some();
            assert!(!required, "{program} isn't installed, and TRANSSHIP_TEST_REQUIRE is set");
            println!("skipped: {program} isn't installed");
            None
        }
        Err(e) => panic!("start {program}: {e}"),
    }
}

/// The kernel chooses the port and the log contains it: no two tests share one.
fn listening_on(line: &str) -> Option<SocketAddr> {
    let rest = &line[line.find("listening on ")? + "listening on ".len()..];
    rest.split(['"', ',']).next()?.parse().ok()
}

/// The configuration file in JSON, which is valid YAML; files that it names are created.
fn configuration(folder: &Path, settings: Settings) -> Option<String> {
    let mut config = serde_json::json!({
        "version": 0.1,
        "log": { "level": "info" },
        "storage": { "filesystem": { "rootdirectory": folder.join("data") } },
        "http": { "addr": "127.0.0.1:0", "secret": "of the tests" },
    });
    if let Some((name, password)) = settings.user {
        let made = installed("htpasswd", Command::new("htpasswd").args(["-Bbn", name, password]).output())?;
        let path = folder.join("htpasswd");
        std::fs::write(&path, made.stdout).expect("a file in a fresh folder");
        config["auth"] = serde_json::json!({ "htpasswd": { "realm": "tests", "path": path } });
    }
    if settings.tls {
        let authority = Authority::new();
        let server = authority.server();
        let write = |name: &str, text: &str| {
            std::fs::write(folder.join(name), text).expect("a file in a fresh folder");
            folder.join(name)
        };
        write("ca.pem", authority.pem());
        let (certificate, key) = (write("leaf.pem", &server.certificate), write("key.pem", &server.key));
        config["http"]["tls"] = serde_json::json!({ "certificate": certificate, "key": key });
    }
    if let Some((realm, certificate)) = settings.tokens {
        let path = folder.join("signer.pem");
        std::fs::write(&path, certificate).expect("a file in a fresh folder");
        config["auth"] = serde_json::json!({ "token": {
            "realm": realm, "service": jwt::SERVICE, "issuer": jwt::ISSUER, "rootcertbundle": path,
        } });
    }
    if let Some(upstream) = settings.upstream {
        config["proxy"] = serde_json::json!({ "remoteurl": upstream });
    }
    Some(config.to_string())
}
