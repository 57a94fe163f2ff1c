//! Serializes work by key; each turn sees what the earlier ones have stored.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Mutex as Turn, OwnedMutexGuard};

/// Turns by key. The holder of a turn waits only for a registry's answer.
#[derive(Debug)]
pub(super) struct Turns<K, V>(Mutex<HashMap<K, Arc<Turn<V>>>>);

impl<K, V> Default for Turns<K, V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Eq + Hash, V: Default> Turns<K, V> {
    /// Waits for a turn at `key`; the turn ends when the guard is dropped.
    pub(super) async fn take(&self, key: K) -> OwnedMutexGuard<V> {
        let turn = Arc::clone(self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(key).or_default());
        turn.lock_owned().await
    }
}
