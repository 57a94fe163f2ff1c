//! moto, a double of the AWS API: its ECR control plane is complete, and shares no state with any registry.

use super::emulator::Emulator;

/// The account of every moto server.
pub(crate) const ACCOUNT: &str = "123456789012";

/// A running, empty server; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Moto(Emulator);

impl Moto {
    /// Starts one. `None`, with a message, if it isn't installed.
    ///
    /// # Panics
    /// As [`Emulator::start`].
    pub(crate) fn start() -> Option<Self> {
        let emulator = Emulator::start("moto", ("TRANSSHIP_TEST_MOTO", "moto_server"), |command, port| {
            command.args(["-H", "127.0.0.1", "-p", &port.to_string()]);
        });
        emulator.map(Self)
    }

    /// The value for `AWS_ENDPOINT_URL_ECR`.
    pub(crate) fn endpoint(&self) -> String {
        self.0.endpoint()
    }
}
