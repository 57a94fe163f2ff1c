//! Pulls that are reserved for an image before its first manifest is requested, so that no image is begun that
//! can't be finished.

use std::collections::HashSet;
use std::sync::Arc;

use super::{Budget, State, Wanted, as_signed};
use crate::error::Result;

/// Reserved pulls; unused ones are returned on drop.
#[derive(Debug)]
pub(crate) struct Reservation {
    budget: Arc<Budget>,
    named: HashSet<Wanted>,
    unnamed: u64,
}

impl Budget {
    /// An empty reservation.
    pub(crate) fn reservation(self: &Arc<Self>) -> Reservation {
        Reservation { budget: Arc::clone(self), named: HashSet::new(), unnamed: 0 }
    }
}

impl Reservation {
    /// Extends the reservation to cover `wanted` as well, and replaces its number of unnamed pulls by `unnamed`.
    /// All or nothing. Manifests that are already reserved for another image are shared.
    ///
    /// # Errors
    /// `QuotaExceeded` if too few pulls are left.
    pub(crate) fn extend(
        &mut self,
        wanted: impl IntoIterator<Item = Wanted>,
        unnamed: u64,
        attempted: &str,
    ) -> Result<()> {
        let fresh: HashSet<Wanted> = wanted.into_iter().filter(|one| !self.named.contains(one)).collect();
        let mut state = self.budget.lock();
        let named = fresh.iter().filter(|one| !state.set_aside.contains_key(*one)).count() as u64;
        let more = as_signed(named + unnamed) - as_signed(self.unnamed);
        let is_limited = state.reported.is_some() || state.used_up.is_some();
        if is_limited && more > 0 && (state.used_up.is_some() || more > state.room(self.budget.margin)) {
            return Err(self.budget.refusal(&mut state, attempted, named + unnamed));
        }
        for one in &fresh {
            *state.set_aside.entry(one.clone()).or_default() += 1;
        }
        state.unnamed = state.unnamed - self.unnamed + unnamed;
        drop(state);
        self.named.extend(fresh);
        self.unnamed = unnamed;
        Ok(())
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut state = self.budget.lock();
        state.unnamed -= self.unnamed;
        for one in &self.named {
            release(&mut state, one);
        }
    }
}

fn release(state: &mut State, wanted: &Wanted) {
    let Some(holders) = state.set_aside.get_mut(wanted) else { return };
    *holders -= 1;
    if *holders == 0 {
        state.set_aside.remove(wanted);
    }
}
