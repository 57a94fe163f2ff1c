//! Counts the bytes to copy, as far as they are known, and the copied bytes. Only the progress display uses this.
//!
//! A blob is expected once in each target registry. It is attributed to the image whose manifest names it first. It
//! counts as spared if it turns out to be there, or is mounted. A failed transfer counts no bytes.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::route::Route;
use crate::oci::{Descriptor, Digest, Edge, Manifest, Registry};
use crate::progress::{Progress, Step};

/// The state of the blobs of a run.
#[derive(Debug)]
pub(super) struct Meter {
    progress: Arc<dyn Progress>,
    blobs: Mutex<HashMap<(Registry, Digest), State>>,
}

/// Whether a registry still needs a blob.
#[derive(Debug)]
enum State {
    /// For this image.
    Expected(Arc<str>),
    Settled,
}

/// A transfer of one blob.
#[derive(Debug)]
pub(super) struct Moving {
    progress: Arc<dyn Progress>,
    image: Arc<str>,
    size: u64,
    moved: AtomicU64,
    is_whole: AtomicBool,
}

impl Meter {
    pub(super) fn new(progress: Arc<dyn Progress>) -> Self {
        Self { progress, blobs: Mutex::default() }
    }

    /// Expects the blobs that `manifest` points at.
    pub(super) fn expect(&self, route: &Route, manifest: &Manifest) {
        for edge in manifest.successors() {
            let Edge::Blob(blob) = edge else { continue };
            if let Entry::Vacant(vacant) = self.lock().entry(key(route, blob)) {
                vacant.insert(State::Expected(Arc::clone(route.image())));
                self.progress.step(route.image(), Step::Expects(blob.size));
            }
        }
    }

    /// `blob` needn't be copied, or can't be.
    pub(super) fn settle(&self, route: &Route, blob: &Descriptor) {
        if let Some(State::Expected(image)) = self.lock().insert(key(route, blob), State::Settled) {
            self.progress.step(&image, Step::Spares(blob.size));
        }
    }

    /// A transfer of `blob` starts, for whichever image it was expected.
    pub(super) fn begin(&self, route: &Route, blob: &Descriptor) -> Arc<Moving> {
        let image = Arc::clone(route.image());
        {
            let mut blobs = self.lock();
            let before = blobs.insert(key(route, blob), State::Settled);
            let is_its_own = matches!(&before, Some(State::Expected(of)) if *of == image);
            if let Some(State::Expected(of)) = before
                && !is_its_own
            {
                self.progress.step(&of, Step::Spares(blob.size));
            }
            if !is_its_own {
                self.progress.step(&image, Step::Expects(blob.size));
            }
        }
        self.progress.step(&image, Step::TransferBegan);
        Arc::new(Moving {
            progress: Arc::clone(&self.progress),
            image,
            size: blob.size,
            moved: AtomicU64::new(0),
            is_whole: AtomicBool::new(false),
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(Registry, Digest), State>> {
        self.blobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Moving {
    /// This many more bytes were copied.
    pub(super) fn take(&self, count: u64) {
        self.moved.fetch_add(count, Ordering::Relaxed);
        self.progress.step(&self.image, Step::Bytes(count));
    }

    /// The target has all of it.
    pub(super) fn arrived(&self) {
        self.is_whole.store(true, Ordering::Relaxed);
    }
}

impl Drop for Moving {
    fn drop(&mut self) {
        let is_whole = self.is_whole.load(Ordering::Relaxed);
        let lost = if is_whole { 0 } else { self.moved.load(Ordering::Relaxed) };
        self.progress.step(&self.image, Step::TransferEnded(lost));
        if !is_whole {
            self.progress.step(&self.image, Step::Spares(self.size));
        }
    }
}

fn key(route: &Route, blob: &Descriptor) -> (Registry, Digest) {
    (route.target_repository().registry().clone(), blob.digest.clone())
}
