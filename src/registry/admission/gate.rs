//! A gate that one passes at a time until somebody has found out what all want to know; from then on it is open.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{Mutex, OwnedMutexGuard};

/// Closed at first.
#[derive(Debug, Default, Clone)]
pub(crate) struct Gate {
    open: Arc<AtomicBool>,
    lock: Arc<Mutex<()>>,
}

/// The right of the one who finds out. Dropped without [`Pass::open`], the next one tries.
#[derive(Debug)]
pub(crate) struct Pass {
    open: Arc<AtomicBool>,
    _guard: OwnedMutexGuard<()>,
}

impl Gate {
    /// Waits for those before; `None` if the gate is open.
    pub(crate) async fn enter(&self) -> Option<Pass> {
        self.enter_unless(std::future::pending()).await
    }

    /// The same, but nobody waits any longer once `other` is over: `None` then, too.
    pub(crate) async fn enter_unless(&self, other: impl Future<Output = ()>) -> Option<Pass> {
        if self.open.load(Ordering::Acquire) {
            return None;
        }
        let guard = tokio::select! {
            biased;
            guard = Arc::clone(&self.lock).lock_owned() => guard,
            () = other => return None,
        };
        let closed = !self.open.load(Ordering::Acquire);
        closed.then(|| Pass { open: Arc::clone(&self.open), _guard: guard })
    }
}

impl Pass {
    /// It is known now: lets everybody through.
    pub(crate) fn open(self) {
        self.open.store(true, Ordering::Release);
    }
}
