//! A gate that lets one task at a time through until one has found out what all need to know; from then on it is
//! open.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{Mutex, OwnedMutexGuard};

/// Initially closed.
#[derive(Debug, Default, Clone)]
pub(crate) struct Gate {
    open: Arc<AtomicBool>,
    lock: Arc<Mutex<()>>,
}

/// The right to find out. If it is dropped without [`Pass::open`], the next task tries.
#[derive(Debug)]
pub(crate) struct Pass {
    open: Arc<AtomicBool>,
    _guard: OwnedMutexGuard<()>,
}

impl Gate {
    /// Waits for earlier tasks; `None` if the gate is open.
    pub(crate) async fn enter(&self) -> Option<Pass> {
        self.enter_unless(std::future::pending()).await
    }

    /// Like [`Gate::enter`], but stops waiting once `other` completes: then also `None`.
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
    /// Opens the gate for all.
    pub(crate) fn open(self) {
        self.open.store(true, Ordering::Release);
    }
}
