//! A double of AWS's API in a separate process, on a port of this machine.

use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A running server; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Emulator {
    server: Child,
    log: File,
    address: SocketAddr,
}

impl Emulator {
    /// Starts `name`: the program that `variable` names, by default `program`; `set_up` passes its port.
    /// `None`, with a message, if it isn't installed.
    ///
    /// # Panics
    /// If it isn't installed but `TRANSSHIP_TEST_REQUIRE` is set, or doesn't come up.
    pub(crate) fn start(
        name: &str,
        (variable, program): (&str, &str),
        set_up: impl Fn(&mut Command, u16),
    ) -> Option<Self> {
        let program = std::env::var_os(variable).unwrap_or_else(|| program.into());
        // Another process may take the port before the server binds it: then the server exits.
        for _ in 0..5 {
            let address = free_port();
            let log = tempfile::tempfile().expect("a temporary file");
            let mut command = Command::new(&program);
            command.stdin(Stdio::null()).stdout(log.try_clone().expect("a second handle"));
            command.stderr(log.try_clone().expect("a third handle"));
            set_up(&mut command, address.port());
            let server = match command.spawn() {
                Ok(server) => server,
                Err(error) if std::env::var_os("TRANSSHIP_TEST_REQUIRE").is_none() => {
                    eprintln!("skipped: {name} isn't installed ({}: {error})", program.display());
                    return None;
                }
                Err(error) => panic!("{name} is required, and isn't installed ({}: {error})", program.display()),
            };
            let mut emulator = Self { server, log, address };
            if emulator.wait(name) {
                return Some(emulator);
            }
        }
        panic!("{name} found no port");
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The value for `AWS_ENDPOINT_URL_ECR`.
    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Waits until it answers; `false` if the port was taken.
    fn wait(&mut self, name: &str) -> bool {
        let deadline = Instant::now() + Duration::from_secs(60);
        while TcpStream::connect(self.address).is_err() {
            if self.server.try_wait().expect("its state is available").is_some() {
                let mut said = String::new();
                self.log.rewind().and_then(|()| self.log.read_to_string(&mut said)).expect("its log can be read");
                assert!(said.contains("in use"), "{name} ended: {said}");
                return false;
            }
            assert!(Instant::now() < deadline, "{name} doesn't answer");
            std::thread::sleep(Duration::from_millis(50));
        }
        true
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

fn free_port() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has a free port");
    listener.local_addr().expect("it is bound")
}
