//! The input of a plan.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::config::ImageRule;
use crate::error::Error;
use crate::lock::{self, Lock};
use crate::progress::Progress;
use crate::provision::Provisioners;
use crate::select::Only;
use crate::store::Stores;

/// Concurrent requests to the targets.
pub(super) const QUESTIONS: usize = 64;

/// What to plan.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The desired images and their targets.
    pub images: &'a [ImageRule],
    /// The pins.
    pub lock: &'a Lock,
    /// The pins before this run; `None` if unknown. Images without an earlier pin are most likely not at the
    /// target.
    pub before: Option<&'a Lock>,
    /// Why a source has no pin, or has kept an old one.
    pub failed: &'a BTreeMap<lock::Name, Error>,
    /// The images that this run is limited to.
    pub only: &'a Only,
    /// Opens repositories.
    pub stores: &'a Arc<dyn Stores>,
    /// Determines which repositories have to be created.
    pub provisioners: &'a Provisioners,
    /// Whether to look for new referrers of an image's parts and of its referrers, even if nothing else is to be
    /// done.
    pub follow: bool,
    /// Receives progress events; the caller ends the task.
    pub progress: &'a Arc<dyn Progress>,
    /// Cancelled when no further requests are to be sent.
    pub stop: &'a CancellationToken,
}
