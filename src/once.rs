//! OnceMap: the first caller starts the work, and all callers share its result.
//!
//! The work runs in a separate task: a caller that stops waiting doesn't stop the work, and no caller waits for one
//! that gave up. Success and failure are both kept. So is a panic, which is reported to all waiting callers and
//! doesn't affect other work; [`OnceMap::forget`] lets the next caller start the work again.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};

use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared};

/// Work that any number of callers wait for.
type Work<V> = Shared<BoxFuture<'static, Result<V, Lost>>>;

/// Results by key, each computed at most once.
pub(crate) struct OnceMap<K, V> {
    entries: Mutex<HashMap<K, Work<V>>>,
}

/// The work panicked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the work on it ended in the middle: {0}")]
pub(crate) struct Lost(String);

impl<K, V> Default for OnceMap<K, V> {
    fn default() -> Self {
        Self { entries: Mutex::default() }
    }
}

impl<K, V> fmt::Debug for OnceMap<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OnceMap")
    }
}

impl<K: Eq + Hash, V: Clone + Send + Sync + 'static> OnceMap<K, V> {
    /// The result for `key`: from `work` if this is the first call, otherwise from the first call. The flag says
    /// whether it was the first.
    ///
    /// # Errors
    /// If the work panics, for every caller that waits for it.
    pub(crate) async fn get_or_work<F>(&self, key: K, work: impl FnOnce() -> F) -> Result<(V, bool), Lost>
    where
        F: Future<Output = V> + Send + 'static,
    {
        let (shared, first) = {
            let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
            match entries.get(&key) {
                Some(shared) => (shared.clone(), false),
                None => {
                    let task = tokio::spawn(work());
                    let shared = async move { task.await.map_err(|error| Lost(error.to_string())) }.boxed().shared();
                    entries.insert(key, shared.clone());
                    (shared, true)
                }
            }
        };
        Ok((shared.await?, first))
    }

    /// The result for `key`, if there was a call for it.
    ///
    /// # Errors
    /// As [`OnceMap::get_or_work`].
    pub(crate) async fn get(&self, key: &K) -> Option<Result<V, Lost>> {
        let shared = self.entries.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned()?;
        Some(shared.await)
    }

    /// Lets the next caller for `key` start the work again.
    pub(crate) fn forget(&self, key: &K) {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn work_is_done_once_and_outlives_its_first_caller() {
        let map = Arc::new(OnceMap::<&str, usize>::default());
        let runs = Arc::new(AtomicUsize::new(0));
        let (open, gate) = tokio::sync::oneshot::channel::<()>();
        let work = {
            let runs = Arc::clone(&runs);
            async move {
                let _ = gate.await;
                runs.fetch_add(1, Ordering::Relaxed) + 1
            }
        };
        let mut first = Box::pin(map.get_or_work("k", || work));
        assert!(futures::poll!(&mut first).is_pending());
        drop(first);
        open.send(()).unwrap();
        let never = || async { unreachable!("the first caller's work is shared") };
        let (one, two) = tokio::join!(map.get_or_work("k", never), map.get_or_work("k", never));
        assert_eq!((one, two), (Ok((1, false)), Ok((1, false))));
        assert_eq!((map.get(&"k").await, map.get(&"other").await), (Some(Ok(1)), None));
        map.forget(&"k");
        assert_eq!(map.get_or_work("k", || async { 7 }).await, Ok((7, true)));
    }

    #[tokio::test]
    async fn a_panic_is_an_error_only_for_its_waiting_callers() {
        let map = OnceMap::<&str, usize>::default();
        let broken = || async { panic!("as the test has it") };
        assert!(map.get_or_work("broken", broken).await.is_err());
        assert!(map.get_or_work("broken", || async { 1 }).await.is_err());
        assert_eq!(map.get_or_work("sound", || async { 1 }).await, Ok((1, true)));
    }
}
