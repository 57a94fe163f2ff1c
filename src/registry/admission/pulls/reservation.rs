//! Pulls that are set aside for an image before its first manifest is asked for, so that none is begun that can't be ended.

use std::collections::HashSet;
use std::sync::Arc;

use super::{Budget, State, Wanted, as_signed};
use crate::error::Result;

/// Pulls that are set aside; what of them isn't spent is given back with it.
#[derive(Debug)]
pub(crate) struct Reservation {
    budget: Arc<Budget>,
    named: HashSet<Wanted>,
    unnamed: u64,
}

impl Budget {
    /// Nothing so far.
    pub(crate) fn reservation(self: &Arc<Self>) -> Reservation {
        Reservation { budget: Arc::clone(self), named: HashSet::new(), unnamed: 0 }
    }
}

impl Reservation {
    /// Sets pulls aside for `wanted` as well, and for as many as `unnamed` of which it isn't known yet what they are for, in
    /// place of those so far. All of it, or nothing changes. What is set aside for another image already is shared.
    ///
    /// # Errors
    /// `QuotaExceeded` if there aren't as many.
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
        let is_limited = state.told.is_some() || state.used_up.is_some();
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
            give_back(&mut state, one);
        }
    }
}

fn give_back(state: &mut State, wanted: &Wanted) {
    let Some(holders) = state.set_aside.get_mut(wanted) else { return };
    *holders -= 1;
    if *holders == 0 {
        state.set_aside.remove(wanted);
    }
}
