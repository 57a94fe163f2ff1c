//! Pulls that a copy doesn't need because another place has the manifest: another target, or a mirror, which is
//! asked by HEAD.

use std::collections::HashSet;
use std::sync::Arc;

use super::super::{Plan, Transfer};
use crate::oci::Digest;
use crate::store::{Source, Stores};

/// The images that can be read from a target.
pub(super) struct Elsewhere(HashSet<Digest>);

impl Elsewhere {
    /// The images of `plan` that are right at a target from which they may be read.
    pub(super) fn new(plan: &Plan, stores: &Arc<dyn Stores>) -> Self {
        let is_readable =
            |transfer: &&Transfer| stores.target(&transfer.target).is_ok_and(|target| !target.records_pull_time());
        Self(plan.right().filter(is_readable).map(|transfer| transfer.target_digest().clone()).collect())
    }

    /// Whether `manifest`, of `transfer`, is available without a metered pull.
    pub(super) async fn has(&self, transfer: &Transfer, source: &dyn Source, manifest: &Digest) -> bool {
        self.0.contains(transfer.target_digest()) || !source.costs_pull(manifest).await
    }
}
