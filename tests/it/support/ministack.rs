//! ministack, a double of AWS whose ECR has both halves: the API and the registry share one state.
//!
//! Not strict: the registry needs no credentials, and accepts manifests whose blobs are missing.

use transship::oci::{Registry, Repository};

use super::emulator::Emulator;
use super::moto::ACCOUNT;

/// A running, empty server; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Ministack(Emulator);

impl Ministack {
    /// Starts one. `None`, with a message, if it isn't installed.
    ///
    /// # Panics
    /// As [`Emulator::start`].
    pub(crate) fn start() -> Option<Self> {
        let emulator = Emulator::start("ministack", ("TRANSSHIP_TEST_MINISTACK", "ministack"), |command, port| {
            // By default it binds all addresses, and offers services that start processes.
            command.env("BIND_HOST", "127.0.0.1").env("SERVICES", "ecr,sts");
            command.env("GATEWAY_PORT", port.to_string()).env("MINISTACK_ACCOUNT_ID", ACCOUNT);
        });
        emulator.map(Self)
    }

    /// The URL of both halves.
    pub(crate) fn endpoint(&self) -> String {
        self.0.endpoint()
    }

    /// A repository at the address of the registry, which requires no credentials.
    pub(crate) fn repository(&self, path: &str) -> Repository {
        let registry: Registry = self.0.address().to_string().parse().expect("a registry");
        Repository::new(registry, path).expect("a repository path")
    }
}
