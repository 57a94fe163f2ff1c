//! Lock + pull-through caches → Outcomes: the caches have what the lock pins, or what they lack is known.
//!
//! A pull-through cache fetches what is asked of it, and keeps it in its own time. It is filled by pulling as a client does: the
//! tag by HEAD, the manifests by digest one right after the other, so that they are kept together, then the blobs, whose bytes
//! are hashed and dropped. What the answer to a HEAD proves differs ([`HeadProves`]), and is told.
//!
//! `graph` finds out what an image consists of, `fill` pulls it, within the quota of the upstream (`pulls`), `look` asks what is
//! there. Referrers are left alone: Harbor's
//! caches don't ask for them, and others answer for their upstream.
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

/// What to fill, or to look at.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// What is asked for.
    pub images: &'a [ImageRule],
    /// The pins.
    pub lock: &'a Lock,
    /// The caches: below each, an image is called by its repository's whole path.
    pub caches: &'a [TargetRoot],
    /// Which images this run is about.
    pub only: &'a Only,
    /// Nothing is read: the caches are asked by HEAD what they have.
    pub check: bool,
    /// Where repositories are opened.
    pub stores: &'a Arc<dyn Stores>,
    /// Who hears of what happens.
    pub progress: &'a Arc<dyn Progress>,
    /// Cancelled when nothing more is to be asked.
    pub stop: &'a CancellationToken,
    /// Blobs that are read at once.
    pub transfers: usize,
}

/// What came of it.
#[derive(Debug, Clone, Default)]
pub struct Warming {
    /// One for each image and cache, in the order of mirror.yaml. `copied` was pulled through the cache, `up_to_date` is there
    /// as far as is proved; one that lacks something `differs`.
    pub outcomes: Vec<Outcome>,
    /// What the caches lack, each once; only where nothing is read.
    pub differences: Vec<Difference>,
    /// Pulls that the caches took of the quotas of their upstreams, or would take, at most.
    pub pulls: BTreeMap<Registry, u64>,
}

/// Something that a cache lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Lack {
    part: Part,
    digest: Digest,
}

/// One image at one cache.
#[derive(Debug, Clone)]
struct Seen {
    cached: Cached,
    bytes: Bytes,
    lacks: Vec<Lack>,
    /// Whether anything was pulled.
    is_pulled: bool,
}

/// Fills the caches, or looks at what they have.
pub async fn warm(request: Request<'_>) -> Warming {
    let planned = wanted::wanted(request.images, request.lock, request.caches, request.only);
    let task = if request.check { Task::Verify } else { Task::Warm };
    let images: Vec<String> = planned.iter().map(Planned::source).collect();
    request.progress.begin(task, &images);
    let caches = Arc::new(Caches::new(request, &planned));
    let worked = planned.iter().enumerate().map(|(index, planned)| {
        let caches = &caches;
        async move { (index, work(request, caches, index, planned).await) }
    });
    let mut worked: Vec<_> = futures::stream::iter(worked).buffer_unordered(IMAGES).collect().await;
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

async fn work(request: Request<'_>, caches: &Arc<Caches>, place: usize, planned: &Planned) -> (Outcome, Vec<Lack>) {
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

/// What was seen, as the report has it.
fn told(transfer: &Transfer, seen: Result<Seen>) -> (Outcome, Vec<Lack>) {
    let Seen { cached, bytes, lacks, is_pulled } = match seen {
        Ok(seen) => seen,
        Err(error) => {
            // A cache that forwards to its upstream spends the upstream's quota, and what it puts off comes with the next run.
            let side = if error.kind() == Kind::QuotaExceeded { Side::Source } else { Side::Target };
            return (Outcome::failed(transfer, error.on(side)), Vec::new());
        }
    };
    let (status, reason) = match (lacks.is_empty(), is_pulled) {
        (false, _) => (Status::Differs, Some(Reason::Differs)),
        (true, true) => (Status::Copied, None),
        (true, false) => (Status::UpToDate, Some(Reason::Unchanged)),
    };
    (Outcome { reason, bytes, cached: Some(cached), ..Outcome::of(transfer, status) }, lacks)
}

fn difference(transfer: &Transfer, lack: Lack) -> Difference {
    Difference {
        source: transfer.source.to_string(),
        target: Some(transfer.target_text()),
        what: lack.part,
        expected: Some(lack.digest),
        found: None,
        why: None,
    }
}

/// `error`, that something isn't there, with what that may mean at a cache.
fn not_had(error: Error) -> Error {
    error.with_hint(
        "a cache has the images of its own upstream alone: choose them with --only, such as --only 'docker.io/*'; if it is \
         this one's, upstream has what is pinned no more: `transship update` pins what it has",
    )
}
