//! What a plan is asked for.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::config::ImageRule;
use crate::error::Error;
use crate::lock::{self, Lock};
use crate::provision::Provisioners;
use crate::select::Only;
use crate::store::Stores;

/// Questions to the targets in flight.
pub(super) const QUESTIONS: usize = 64;

/// What to plan.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// What is asked for, and where it goes.
    pub images: &'a [ImageRule],
    /// The pins.
    pub lock: &'a Lock,
    /// What the lock pinned before this run; `None` where that isn't known. Of what is new since, most likely nothing is at the
    /// target.
    pub before: Option<&'a Lock>,
    /// Why a source has no pin, or has kept an old one.
    pub failed: &'a BTreeMap<lock::Name, Error>,
    /// Which images this run is about.
    pub only: &'a Only,
    /// Where repositories are opened.
    pub stores: &'a Arc<dyn Stores>,
    /// Who knows which repositories have to be created.
    pub provisioners: &'a Provisioners,
    /// Whether to look for new referrers of what the images consist of and of their referrers, also where nothing else is
    /// to be done.
    pub follow: bool,
    /// Cancelled when nothing more is to be asked.
    pub stop: &'a CancellationToken,
}
