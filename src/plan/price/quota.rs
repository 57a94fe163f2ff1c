//! Determines which images have to be put off: pulls are reserved in plan order, as in the copy, and returned at
//! the end.

use std::sync::Arc;

use super::super::{Action, Cost, Transfer};
use crate::error::{Error, Kind, Stage};
use crate::store::{ReservedPulls, Stores};

/// The pulls that are left at each source.
#[derive(Default)]
pub(super) struct Allowance<'a> {
    stores: Option<&'a Arc<dyn Stores>>,
    reserved: Vec<ReservedPulls>,
}

impl<'a> Allowance<'a> {
    pub(super) fn new(stores: &'a Arc<dyn Stores>) -> Self {
        Self { stores: Some(stores), reserved: Vec::new() }
    }

    /// Reserves the pulls of the image. If too few are left, returns the error that says when to try again.
    pub(super) async fn take(&mut self, transfer: &Transfer, cost: &Cost) -> Option<Error> {
        let source = self.stores?.source(transfer.source.repository()).ok()?;
        // Free: if the source may meter pulls and their limit isn't known, it is asked by a HEAD.
        if cost.pulls == 0 || source.pulls_left(&transfer.root.digest).await.is_none() {
            return None;
        }
        let mut reserved = ReservedPulls::default();
        match source.reserve_pulls(&mut reserved, &[], least(transfer, cost)).await {
            Ok(()) => {
                self.reserved.push(reserved);
                None
            }
            Err(error) if error.kind() == Kind::QuotaExceeded => Some(error.at(Stage::Plan)),
            Err(error) => {
                tracing::debug!("{error}");
                None
            }
        }
    }
}

/// The pulls without which the image isn't begun. An index alone is useless.
fn least(transfer: &Transfer, cost: &Cost) -> u64 {
    let is_unread = transfer.action == Action::Copy && transfer.root.media_type.is_index() && !cost.pulls_exact;
    if is_unread { cost.pulls.max(2) } else { cost.pulls }
}
