//! Which images have to be put off: what each takes is set aside in the order of the plan, as the copy does, and given back
//! at the end.

use std::sync::Arc;

use super::super::{Action, Cost, Transfer};
use crate::error::{Error, Kind, Side, Stage};
use crate::store::{PullsAside, Stores};

/// The pulls that are left at each source.
#[derive(Default)]
pub(super) struct Allowance<'a> {
    stores: Option<&'a Arc<dyn Stores>>,
    aside: Vec<PullsAside>,
}

impl<'a> Allowance<'a> {
    pub(super) fn new(stores: &'a Arc<dyn Stores>) -> Self {
        Self { stores: Some(stores), aside: Vec::new() }
    }

    /// Sets aside what the image takes. The error says when it is worth coming back, where too few pulls are left.
    pub(super) async fn take(&mut self, transfer: &Transfer, cost: &Cost) -> Option<Error> {
        let source = self.stores?.source(transfer.source.repository()).ok()?;
        // For nothing: where the source may count pulls and hasn't told how many are left, it is asked by a HEAD.
        if cost.pulls == 0 || source.pulls_left(&transfer.root.digest).await.is_none() {
            return None;
        }
        let mut aside = PullsAside::default();
        match source.set_aside(&mut aside, &[], least(transfer, cost)).await {
            Ok(()) => {
                self.aside.push(aside);
                None
            }
            Err(error) if error.kind() == Kind::QuotaExceeded => Some(error.on(Side::Source).at(Stage::Plan)),
            Err(error) => {
                tracing::debug!("{error}");
                None
            }
        }
    }
}

/// The pulls without which the image isn't begun. An index alone is of no use.
fn least(transfer: &Transfer, cost: &Cost) -> u64 {
    let is_unread = transfer.action == Action::Copy && transfer.root.media_type.is_index() && !cost.pulls_exact;
    if is_unread { cost.pulls.max(2) } else { cost.pulls }
}
