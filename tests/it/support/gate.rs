//! A gate, for tests that hold one task until another has reached some point; and a way to wait until all tasks wait.

use tokio::sync::watch;

/// Closed until it is opened; whoever waits at it goes on then. A clone is another handle on the same gate.
#[derive(Debug, Clone)]
pub(crate) struct Gate {
    open: watch::Sender<bool>,
    reached: watch::Sender<usize>,
}

impl Gate {
    pub(crate) fn closed() -> Self {
        Self { open: watch::Sender::new(false), reached: watch::Sender::new(0) }
    }

    pub(crate) fn open(&self) {
        self.open.send_replace(true);
    }

    /// Waits until the gate is open.
    pub(crate) async fn pass(&self) {
        self.reached.send_modify(|count| *count += 1);
        // The sender is part of `self`, which outlives the wait.
        let _ = self.open.subscribe().wait_for(|open| *open).await;
    }

    /// Waits until `count` in all have come to the gate.
    pub(crate) async fn reached(&self, count: usize) {
        let _ = self.reached.subscribe().wait_for(|reached| *reached >= count).await;
    }
}

/// Returns when nobody else can go on without it: paused time passes only then.
pub(crate) async fn all_wait() {
    tokio::time::sleep(std::time::Duration::from_millis(1)).await;
}
