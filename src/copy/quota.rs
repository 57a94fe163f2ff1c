//! Storage quotas that several target repositories share, such as those of a Harbor project. After the first
//! refusal no further repository is begun. Work in flight may finish, as small parts may still fit, but a refused
//! repository stops sending. All others fail with the same cause before anything is read for them.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

use super::route::Route;
use crate::error::{Error, Kind, Result, Side};
use crate::oci::Repository;

/// The quotas of the run, by name.
#[derive(Debug, Default)]
pub(super) struct Quotas(Mutex<HashMap<String, Quota>>);

#[derive(Debug, Default)]
struct Quota {
    /// The first refusal.
    full: Option<Error>,
    /// Repositories to which something was sent.
    begun: HashSet<Repository>,
    refused: HashSet<Repository>,
}

impl Quotas {
    /// Checks whether work for the target of `route` may begin or continue.
    pub(super) fn check(&self, route: &Route) -> Result<()> {
        self.with(route, |quota, target| quota.check(target)).unwrap_or(Ok(()))
    }

    /// [`Quotas::check`] before something is sent.
    pub(super) fn begin(&self, route: &Route) -> Result<()> {
        let begin = |quota: &mut Quota, target: &Repository| {
            quota.check(target)?;
            quota.begun.insert(target.clone());
            Ok(())
        };
        self.with(route, begin).unwrap_or(Ok(()))
    }

    /// Updates the quota from the result of sending something.
    pub(super) fn learn<T>(&self, route: &Route, sent: &Result<T>) {
        let Err(error) = sent else { return };
        if error.kind() == Kind::QuotaExceeded && error.side() == Some(Side::Target) {
            self.with(route, |quota, target| {
                quota.full.get_or_insert_with(|| error.clone());
                quota.refused.insert(target.clone());
            });
        }
    }

    /// `None` if the target shares no quota.
    fn with<T>(&self, route: &Route, look: impl FnOnce(&mut Quota, &Repository) -> T) -> Option<T> {
        let shared = route.target.shared_quota()?;
        let mut quotas = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Some(look(quotas.entry(shared).or_default(), route.target_repository()))
    }
}

impl Quota {
    fn check(&self, target: &Repository) -> Result<()> {
        let may_go_on = self.begun.contains(target) && !self.refused.contains(target);
        match &self.full {
            Some(error) if !may_go_on => Err(error.clone()),
            _ => Ok(()),
        }
    }
}
