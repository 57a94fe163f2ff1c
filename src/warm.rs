//! Lock + pull-through caches → Outcomes: fills the caches with what the lock pins, or finds out what they lack.
//!
//! A pull-through cache fetches requested content and stores it later. It is filled by pulling as a client does: the
//! tag by HEAD, then the manifests by digest in quick succession, so that they are stored together, then the blobs,
//! whose bytes are verified and discarded. What a HEAD proves depends on the cache ([`HeadProves`]), and the report
//! says so.
//!
//! `graph` finds the content of an image, `fill` pulls it within the upstream's quota (`pulls`), and `look` checks what
//! is there. Referrers are ignored: Harbor's caches don't request them, and others answer for their upstream.
//!
//! [`HeadProves`]: crate::store::HeadProves

mod ask;
mod fill;
mod graph;
mod look;
mod pulls;
mod wanted;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use futures::StreamExt as _;
use tokio_util::sync::CancellationToken;

use crate::config::{ImageRule, TargetRoot};
use crate::error::{Error, Kind, Result, Side};
use crate::lock::Lock;
use crate::oci::{Digest, Registry};
use crate::plan::{Planned, Transfer};
use crate::progress::{Finished, Progress, Step, Task};
use crate::report::{Bytes, Cached, Difference, Outcome, Part, Reason, Status};
use crate::select::Only;
use crate::store::Stores;
use ask::Caches;

/// Images in flight.
const IMAGES: usize = 32;

/// What to fill or to check.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Request<'a> {
    /// The images of the list.
    pub images: &'a [ImageRule],
    /// The pins.
    pub lock: &'a Lock,
    /// The caches: below each, an image is named by its repository's whole path.
    pub caches: &'a [TargetRoot],
    /// The images of this run.
    pub only: &'a Only,
    /// Read nothing; check by HEAD what the caches have.
    pub check: bool,
    /// Opens repositories.
    pub stores: &'a Arc<dyn Stores>,
    /// Receives the progress.
    pub progress: &'a Arc<dyn Progress>,
    /// Cancelled to stop the run.
    pub stop: &'a CancellationToken,
    /// The maximum number of concurrent blob reads.
    pub transfers: usize,
}

/// The result.
#[derive(Debug, Clone, Default)]
pub(crate) struct Warming {
    /// One for each image and cache, in the order of mirror.yaml. `copied` means pulled through the cache, `up_to_date`
    /// means present as far as can be verified, `differs` means that something is missing.
    pub outcomes: Vec<Outcome>,
    /// What the caches lack, without duplicates; only with `check`.
    pub differences: Vec<Difference>,
    /// An upper bound of the pulls that the caches took from the quotas of their upstreams, or would take.
    pub pulls: BTreeMap<Registry, u64>,
}

/// Content that a cache lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
struct MissingContent {
    part: Part,
    digest: Digest,
}

/// The result for one image at one cache.
#[derive(Debug, Clone)]
struct Seen {
    cached: Cached,
    bytes: Bytes,
    lacks: Vec<MissingContent>,
    /// Whether anything was pulled.
    is_pulled: bool,
}

/// Fills the caches, or checks what they have.
pub(crate) async fn warm(request: Request<'_>) -> Warming {
    let planned = wanted::wanted(request.images, request.lock, request.caches, request.only);
    let task = if request.check { Task::Verify } else { Task::Warm };
    let images: Vec<String> = planned.iter().map(Planned::source).collect();
    request.progress.begin(task, &images);
    let caches = Arc::new(Caches::new(request, &planned));
    let worked = planned.iter().enumerate().map(|(index, planned)| {
        let caches = &caches;
        async move { (index, work(request, caches, index, planned).await) }
    });
    let mut worked: Vec<_> = futures::stream::iter(worked).buffer_unordered(IMAGES).boxed().collect().await;
    worked.sort_by_key(|(index, _)| *index);
    request.progress.end();
    let mut warming = Warming { pulls: caches.pulls.taken(), ..Warming::default() };
    let mut told = HashSet::new();
    for (index, (outcome, lacks)) in worked {
        warming.outcomes.push(outcome);
        let Planned::Image(transfer) = &planned[index] else { continue };
        let fresh = lacks.into_iter().filter(|lack| told.insert((transfer.target.clone(), lack.digest.clone())));
        warming.differences.extend(fresh.map(|lack| difference(transfer, lack)));
    }
    warming
}

async fn work(
    request: Request<'_>,
    caches: &Arc<Caches>,
    place: usize,
    planned: &Planned,
) -> (Outcome, Vec<MissingContent>) {
    let transfer = match planned {
        Planned::Image(transfer) => transfer,
        Planned::Failed { source, target, error } => {
            let outcome = Outcome { target: target.clone(), ..Outcome::unresolved(source.clone(), error.clone()) };
            request.progress.finished(source, Finished::new(outcome.word(), false, Some(error)));
            return (outcome, Vec::new());
        }
    };
    let (started, source) = (Instant::now(), transfer.source.to_string());
    request.progress.step(&source, Step::Started);
    let seen = if request.check { caches.look(transfer).await } else { caches.fill(transfer, place).await };
    let (outcome, lacks) = told(transfer, seen);
    let is_lacking = outcome.status == Status::Differs;
    let word = if is_lacking { "lacks" } else { outcome.word() };
    let ok = !outcome.is_failure() && !is_lacking;
    request.progress.finished(&source, Finished::new(word, ok, outcome.error.as_ref()));
    (Outcome { seconds: started.elapsed().as_secs_f64(), ..outcome }, lacks)
}

/// The result, for the report.
fn told(transfer: &Transfer, seen: Result<Seen>) -> (Outcome, Vec<MissingContent>) {
    let Seen { cached, bytes, lacks, is_pulled } = match seen {
        Ok(seen) => seen,
        Err(error) => {
            // A cache that forwards requests spends the upstream's quota; deferred images follow in the next run.
            let side = if error.kind() == Kind::QuotaExceeded { Side::Source } else { Side::Target };
            return (Outcome::failed(transfer, error.moved_to(side)), Vec::new());
        }
    };
    let (status, reason) = match (lacks.is_empty(), is_pulled) {
        (false, _) => (Status::Differs, Some(Reason::Differs)),
        (true, true) => (Status::Copied, None),
        (true, false) => (Status::UpToDate, Some(Reason::Unchanged)),
    };
    (Outcome { reason, bytes, cached: Some(cached), ..Outcome::of(transfer, status) }, lacks)
}

fn difference(transfer: &Transfer, lack: MissingContent) -> Difference {
    Difference {
        source: transfer.source.to_string(),
        target: Some(transfer.target_text()),
        what: lack.part,
        expected: Some(lack.digest),
        found: None,
        why: None,
    }
}

/// Extends `error`, that content is missing, by what that may mean at a cache.
fn not_had(error: Error) -> Error {
    error.with_hint(
        "a cache has only images of its upstream: select them with --only, such as --only 'docker.io/*'; if it is \
         an image of this cache, the pinned digest may be gone upstream: run `transship update`",
    )
}
