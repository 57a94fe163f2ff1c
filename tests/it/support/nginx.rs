//! Debian's nginx in front of a registry, configured as in practice.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use super::certificates::Authority;
use super::docker_registry::installed;

/// Debian's path of nginx, which isn't in every PATH.
const PROGRAM: &str = "/usr/sbin/nginx";

/// A running nginx in a separate folder; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Nginx {
    process: Child,
    pub(crate) address: SocketAddr,
    folder: tempfile::TempDir,
}

/// The settings of nginx.
#[derive(Debug, Clone, Default)]
pub(crate) struct Settings {
    /// HTTPS, with a certificate of an untrusted CA.
    pub(crate) tls: bool,
    /// HTTP/2 over it.
    pub(crate) http2: bool,
    /// Directives for `/`, where `REGISTRY` is the address of the registry behind and `FOLDER` the folder of nginx.
    pub(crate) location: String,
    /// Further servers and directives, with the same words.
    pub(crate) more: String,
    /// The only user and the password, in `FOLDER/htpasswd`.
    pub(crate) user: Option<(&'static str, &'static str)>,
}

impl Nginx {
    /// Starts one in front of `registry`; `None`, with a message, if it isn't installed.
    pub(crate) fn start(registry: SocketAddr, settings: &Settings) -> Option<Self> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let write = |name: &str, text: &[u8]| std::fs::write(folder.path().join(name), text).expect("a fresh folder");
        if let Some((name, password)) = settings.user {
            let made = installed("htpasswd", Command::new("htpasswd").args(["-Bbn", name, password]).output())?;
            write("htpasswd", &made.stdout);
        }
        if settings.tls {
            let authority = Authority::new();
            let server = authority.server();
            write("ca.pem", authority.pem().as_bytes());
            write("leaf.pem", server.certificate.as_bytes());
            write("key.pem", server.key.as_bytes());
        }
        // It inherits the socket, as from an older nginx: so the kernel chooses the port, and it listens already.
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let path = folder.path().to_str().expect("UTF-8");
        let config = configuration(address, settings);
        let config = config.replace("REGISTRY", &registry.to_string()).replace("FOLDER", path);
        write("nginx.conf", config.as_bytes());
        let mut command = Command::new(PROGRAM);
        command.args(["-p", path, "-c", "nginx.conf"]).env_clear().env("NGINX", "0;");
        command.stdin(Stdio::from(OwnedFd::from(listener))).stdout(Stdio::null()).stderr(Stdio::null());
        let process = installed(PROGRAM, command.spawn())?;
        Some(Self { process, address, folder })
    }

    /// `127.0.0.1:PORT`.
    pub(crate) fn name(&self) -> transship::oci::Registry {
        self.address.to_string().parse().expect("an address is host:port")
    }

    /// The certificate to trust, with [`Settings::tls`].
    pub(crate) fn ca(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// Its error log.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("error.log")).unwrap_or_default()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // Not SIGKILL, which wouldn't reach its worker. It may have ended already.
        let _ = Command::new("kill").args(["-TERM", &self.process.id().to_string()]).status();
        let _ = self.process.wait();
    }
}

fn configuration(address: SocketAddr, settings: &Settings) -> String {
    let Settings { tls, http2, location, more, .. } = settings;
    let (kind, certificate) = match tls {
        true => (
            if *http2 { " ssl http2" } else { " ssl" },
            "ssl_certificate FOLDER/leaf.pem; ssl_certificate_key FOLDER/key.pem;",
        ),
        false => ("", ""),
    };
    let folders = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let folders: String = folders.iter().map(|name| format!("{name}_temp_path FOLDER/{name};\n")).collect();
    // Only the user of the tests can read the folder, and that may be root.
    format!(
        "daemon off;\nuser root;\nworker_processes 1;\npid FOLDER/pid;\nerror_log FOLDER/error.log;\nevents {{}}\n\
         http {{\naccess_log off;\n{folders}client_max_body_size 0;\n{more}\n\
         server {{\nlisten {address}{kind};\n{certificate}\nlocation / {{\n{location}\n}}\n}}\n}}\n"
    )
}
