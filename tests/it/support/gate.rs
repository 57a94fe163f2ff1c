//! A gate, for tests that hold one task until another has reached some point; and a way to wait until all tasks wait.

use tokio::sync::watch;

/// Closed until it is opened, which releases all waiting tasks. A clone is another handle to the same gate.
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
        // The sender is a field of `self`, which outlives the wait.
        let _ = self.open.subscribe().wait_for(|open| *open).await;
    }

    /// Waits until a total of `count` tasks have reached the gate.
    pub(crate) async fn reached(&self, count: usize) {
        let _ = self.reached.subscribe().wait_for(|reached| *reached >= count).await;
    }
}

/// Returns when all other tasks wait: only then does paused time advance.
pub(crate) async fn all_wait() {
    tokio::time::sleep(std::time::Duration::from_millis(1)).await;
}
