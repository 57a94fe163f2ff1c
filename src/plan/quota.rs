//! Which images of a plan would have to be put off: what each takes is set aside in the order of the plan, as the copy does,
//! and given back at the end.

use std::sync::Arc;

use super::{Action, Plan, Planned, Transfer};
use crate::error::{Kind, Side, Stage};
use crate::store::{PullsAside, Stores};

/// Marks the images for which too few pulls are left, as far as it is known what they take.
pub async fn mark_put_off(plan: &mut Plan, stores: &Arc<dyn Stores>) {
    let mut all_aside = Vec::new();
    for planned in &mut plan.images {
        let Planned::Image(transfer) = planned else { continue };
        let Ok(source) = stores.source(transfer.source.repository()) else { continue };
        // For nothing: where the source may count pulls and hasn't told how many are left, it is asked by a HEAD.
        if transfer.pulls == 0 || source.pulls_left(&transfer.root.digest).await.is_none() {
            continue;
        }
        let mut aside = PullsAside::default();
        match source.set_aside(&mut aside, &[], least(transfer)).await {
            Ok(()) => all_aside.push(aside),
            Err(error) if error.kind() == Kind::QuotaExceeded => {
                transfer.put_off = Some(error.on(Side::Source).at(Stage::Plan));
            }
            Err(error) => tracing::debug!("{error}"),
        }
    }
}

/// The pulls without which the image isn't begun. An index alone is of no use.
fn least(transfer: &Transfer) -> u64 {
    let is_unread = transfer.action == Action::Copy && transfer.root.media_type.is_index() && !transfer.pulls_exact;
    if is_unread { transfer.pulls.max(2) } else { transfer.pulls }
}
