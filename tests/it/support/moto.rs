//! moto, a double of the AWS API: its ECR control plane is complete, and shares no state with any registry.

use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The account that moto always is.
pub(crate) const ACCOUNT: &str = "123456789012";

/// A running server, with nothing in it; it ends with this value.
#[derive(Debug)]
pub(crate) struct Moto {
    server: Child,
    log: File,
    address: SocketAddr,
}

impl Moto {
    /// Starts one. `None`, said aloud, if it isn't installed.
    ///
    /// # Panics
    /// If it isn't installed but `TRANSSHIP_TEST_REQUIRE` is set, or doesn't come up.
    pub(crate) fn start() -> Option<Self> {
        let program = std::env::var_os("TRANSSHIP_TEST_MOTO").unwrap_or_else(|| "moto_server".into());
        // Another process may take the port between our letting go of it and moto's binding it: then moto exits.
        for _ in 0..5 {
            let address = free_port();
            let log = tempfile::tempfile().expect("a temporary file");
            let spawned = Command::new(&program)
                .args(["-H", "127.0.0.1", "-p", &address.port().to_string()])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(log.try_clone().expect("a second handle"))
                .spawn();
            let server = match spawned {
                Ok(server) => server,
                Err(error) if std::env::var_os("TRANSSHIP_TEST_REQUIRE").is_none() => {
                    eprintln!("skipped: moto isn't installed ({}: {error})", program.display());
                    return None;
                }
                Err(error) => panic!("moto is required, and isn't installed ({}: {error})", program.display()),
            };
            let mut moto = Self { server, log, address };
            if moto.wait() {
                return Some(moto);
            }
        }
        panic!("moto found no port");
    }

    /// What to set `AWS_ENDPOINT_URL_ECR` to.
    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Waits until it answers; `false` if the port was taken.
    fn wait(&mut self) -> bool {
        let deadline = Instant::now() + Duration::from_secs(60);
        while TcpStream::connect(self.address).is_err() {
            if self.server.try_wait().expect("its state can be asked for").is_some() {
                let mut said = String::new();
                self.log.rewind().and_then(|()| self.log.read_to_string(&mut said)).expect("its log can be read");
                assert!(said.contains("in use"), "moto ended: {said}");
                return false;
            }
            assert!(Instant::now() < deadline, "moto doesn't answer");
            std::thread::sleep(Duration::from_millis(50));
        }
        true
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

fn free_port() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has a free port");
    listener.local_addr().expect("it is bound")
}
