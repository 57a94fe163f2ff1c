//! Hosts that the run waits for, as the transport reports them.

use std::fmt::Debug;
use std::time::Instant;

/// Hears which hosts are waited for. Calls come from many tasks at once, must not block, and cannot fail.
pub trait Waits: Debug + Send + Sync {
    /// The wait for `host` has begun, goes on until another time, or is over.
    fn changed(&self, host: &str, waiting: Waiting);
}

/// Whether a host is waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Waiting {
    /// Nothing but one attempt at a time is sent there.
    Until(Wait),
    /// It answers again.
    Over,
    /// Nothing more is sent there in this run.
    GivenUp,
}

/// The wait for a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wait {
    /// Since when it is in trouble.
    pub since: Instant,
    /// When it is tried next.
    pub next: Instant,
    /// Whether the host itself has asked for the pause.
    pub asked: bool,
    /// Its last answer: the HTTP status, or what went wrong in place of one.
    pub answer: String,
}

/// Hears nothing.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct NoWaits;

impl Waits for NoWaits {
    fn changed(&self, _: &str, _: Waiting) {}
}
