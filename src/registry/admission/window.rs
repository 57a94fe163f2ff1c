//! The number of requests of one kind in flight to a host. A host that throttles gets half as many, and one more
//! with each window of successes, up to the original bound.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The window of one kind of requests.
#[derive(Debug)]
pub(crate) struct Window {
    slots: Arc<Semaphore>,
    /// The bound without throttling.
    most: usize,
    size: Mutex<Size>,
}

#[derive(Debug)]
struct Size {
    now: usize,
    in_flight: usize,
    /// Slots that are removed as soon as they are returned.
    owed: usize,
    /// Successes since the window last grew.
    successes: usize,
}

/// A place in the window; freed on drop.
#[derive(Debug)]
pub(crate) struct Slot {
    window: Arc<Window>,
    permit: Option<OwnedSemaphorePermit>,
}

impl Window {
    /// The bound of an unlimited window.
    pub(crate) const OPEN: usize = 1 << 20;

    pub(crate) fn new(most: usize) -> Arc<Self> {
        let size = Size { now: most, in_flight: 0, owed: 0, successes: 0 };
        Arc::new(Self { slots: Arc::new(Semaphore::new(most)), most, size: Mutex::new(size) })
    }

    /// Waits for a slot, first come, first served.
    pub(crate) async fn enter(self: &Arc<Self>) -> Slot {
        // The semaphore is never closed. If it were, a request would only exceed the window.
        let permit = Arc::clone(&self.slots).acquire_owned().await.ok();
        self.size().in_flight += 1;
        Slot { window: Arc::clone(self), permit }
    }

    /// Records that the host throttles: the new bound is half of what is in flight now, but at least one.
    pub(crate) fn halve(&self) {
        let mut size = self.size();
        let smaller = (size.in_flight.min(size.now) / 2).max(1);
        let mut surplus = size.now.saturating_sub(smaller);
        surplus -= self.slots.forget_permits(surplus);
        size.owed += surplus;
        (size.now, size.successes) = (smaller, 0);
    }

    /// Records that a request succeeded.
    pub(crate) fn succeeded(&self) {
        let mut size = self.size();
        if size.now == self.most {
            return;
        }
        size.successes += 1;
        if size.successes < size.now {
            return;
        }
        (size.now, size.successes) = (size.now + 1, 0);
        match size.owed {
            0 => self.slots.add_permits(1),
            _ => size.owed -= 1,
        }
    }

    fn size(&self) -> MutexGuard<'_, Size> {
        self.size.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut size = self.window.size();
        size.in_flight -= 1;
        if size.owed > 0 {
            size.owed -= 1;
            if let Some(permit) = self.permit.take() {
                permit.forget();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::poll;

    use super::*;

    #[tokio::test]
    async fn the_window_is_halved_on_failure_and_grows_with_each_window_of_successes() {
        let window = Window::new(64);
        let mut out = Vec::new();
        for _ in 0..8 {
            out.push(window.enter().await);
        }
        window.halve();
        out.truncate(4);
        assert!(poll!(Box::pin(window.enter())).is_pending(), "four are out, four may be");
        out.pop();
        drop(window.enter().await);
        window.halve();
        window.halve();
        window.halve();
        out.clear();
        let only = window.enter().await;
        assert!(poll!(Box::pin(window.enter())).is_pending(), "never less than one");
        window.succeeded();
        out.push(window.enter().await);
        assert!(poll!(Box::pin(window.enter())).is_pending());
        window.succeeded();
        assert!(poll!(Box::pin(window.enter())).is_pending(), "two successes for the third");
        window.succeeded();
        out.push(window.enter().await);
        drop(only);
    }
}
