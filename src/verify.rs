//! Lock + state of the targets → Outcomes and differences: whether a mirror matches the lock.
//!
//! Only the lock and the targets are used; no source is asked. Each request is sent once per target repository, or
//! layout. Below missing content nothing is checked, so that one cause is one difference, reported with the first
//! image it affects. An error is never a difference: without an answer nothing is known, and that image has failed.
//!
//! `wanted` lists what should exist, `graph` checks it, and `extra` does the reverse: it lists content that the
//! lock doesn't know.

mod extra;
mod graph;
mod wanted;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use futures::StreamExt as _;
use tokio_util::sync::CancellationToken;

use crate::config::{ImageRule, Overwrite};
use crate::error::Stage;
use crate::lock::Lock;
use crate::oci::{Referrer, Repository};
use crate::plan::{Planned, Transfer};
use crate::progress::{Finished, Progress, Step, Task};
use crate::report::{Bytes, Difference, Outcome, Part, Reason, ReferrerOutcome, Status};
use crate::select::Only;
use crate::store::Stores;
use graph::{Finding, Inspector, Seen};

/// Images in flight.
const IMAGES: usize = 64;

/// How thorough to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Depth {
    /// Check the tags and the referrers of their images by HEAD.
    Tags,
    /// Read each manifest, and check that each blob exists with the right size.
    Graph,
    /// Read every byte.
    Content,
}

/// What to verify.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The desired images and their targets.
    pub images: &'a [ImageRule],
    /// The pins.
    pub lock: &'a Lock,
    /// The images that this run is limited to.
    pub only: &'a Only,
    /// How thorough to be.
    pub depth: Depth,
    /// Whether to list tags that the lock doesn't know.
    pub extra: bool,
    /// Opens the targets.
    pub stores: &'a Arc<dyn Stores>,
    /// Receives progress events.
    pub progress: &'a Arc<dyn Progress>,
    /// Cancelled when no further requests are to be sent.
    pub stop: &'a CancellationToken,
    /// Blobs that are read concurrently.
    pub transfers: usize,
}

/// The result of a verification.
#[derive(Debug, Clone, Default)]
pub struct Verification {
    /// One for each image and target, in the order of mirror.yaml. `up_to_date`: as pinned; `differs`: not as
    /// pinned, and unchanged. `bytes.present`: bytes that were checked and are right.
    pub outcomes: Vec<Outcome>,
    /// Where the targets differ from the lock, in the same order, followed by content that the lock doesn't know.
    pub differences: Vec<Difference>,
}

/// Compares the targets with the lock.
pub async fn verify(request: Request<'_>) -> Verification {
    let planned = wanted::wanted(request.images, request.lock, request.only);
    let task = if request.depth == Depth::Content { Task::Read } else { Task::Verify };
    let images: Vec<String> = planned.iter().map(Planned::source).collect();
    request.progress.begin(task, &images);
    let inspector = Arc::new(Inspector::new(request));
    let looked = planned.iter().enumerate().map(|(index, planned)| {
        let inspector = &inspector;
        async move { (index, look(request, inspector, planned).await) }
    });
    let mut looked: Vec<_> = futures::stream::iter(looked).buffer_unordered(IMAGES).boxed().collect().await;
    looked.sort_by_key(|(index, _)| *index);
    let looked: Vec<Looked> = looked.into_iter().map(|(_, looked)| looked).collect();
    let mut verification = Verification::default();
    let mut told = HashSet::new();
    for Looked { outcome, differences, .. } in &looked {
        verification.outcomes.push(outcome.clone());
        let fresh = differences.iter().filter(|(cause, _)| told.insert(cause.clone()));
        verification.differences.extend(fresh.map(|(_, difference)| difference.clone()));
    }
    if request.extra {
        let answered = answered(request, &planned, &looked);
        let extra = extra::extra(request, &inspector, answered).await;
        verification.outcomes.extend(extra.outcomes);
        verification.differences.extend(extra.differences);
    }
    request.progress.end();
    verification
}

/// The result for one image at one target.
struct Looked {
    outcome: Outcome,
    /// With their causes, which other images may share.
    differences: Vec<(String, Difference)>,
    /// Whether its whole graph was checked.
    whole: bool,
}

async fn look(request: Request<'_>, inspector: &Arc<Inspector>, planned: &Planned) -> Looked {
    let transfer = match planned {
        Planned::Image(transfer) => transfer,
        Planned::Failed { source, target, error } => {
            let outcome = Outcome { target: target.clone(), ..Outcome::unresolved(source.clone(), error.clone()) };
            request.progress.finished(source, Finished::new(outcome.status.word(), false, Some(error)));
            return Looked { outcome, differences: Vec::new(), whole: false };
        }
    };
    let (started, source) = (Instant::now(), transfer.source.to_string());
    request.progress.step(&source, Step::Started);
    let looked = compare(transfer, inspector.image(transfer).await, request.depth);
    let Outcome { status, .. } = looked.outcome;
    let ok = !looked.outcome.is_failure() && status != Status::Differs;
    request.progress.finished(&source, Finished::new(status.word(), ok, looked.outcome.error.as_ref()));
    let seconds = started.elapsed().as_secs_f64();
    Looked { outcome: Outcome { seconds, ..looked.outcome }, ..looked }
}

/// Turns findings into differences.
fn compare(transfer: &Transfer, seen: Seen, depth: Depth) -> Looked {
    let is_kept = |finding: &Finding| {
        transfer.handling.overwrite == Overwrite::Keep && finding.part == Part::Tag && finding.found.is_some()
    };
    let Seen { mut findings, error, known_as, bytes } = seen;
    let kept = take_kept(transfer, &mut findings);
    let whole = depth > Depth::Tags && findings.is_empty() && error.is_none();
    let bytes = Bytes { present: bytes, ..Bytes::default() };
    let outcome = |status, reason| Outcome { reason: Some(reason), bytes, ..Outcome::of(transfer, status) };
    let outcome = match error {
        Some(error) => Outcome { bytes, ..Outcome::failed(transfer, error.at(Stage::Verify)) },
        None if findings.is_empty() => Outcome {
            mirrored: known_as.or_else(|| transfer.mirrored.clone()),
            referrers: transfer.wanted_referrers().map(|one| ReferrerOutcome::seen(one, kept.contains(one))).collect(),
            ..outcome(Status::UpToDate, Reason::Unchanged)
        },
        None if findings.iter().all(is_kept) => outcome(Status::Skipped, Reason::Kept),
        None => outcome(Status::Differs, Reason::Differs),
    };
    let differences = findings.into_iter().filter(|finding| !is_kept(finding));
    let differences = differences.map(|finding| (cause(transfer, &finding), difference(transfer, finding)));
    Looked { outcome, differences: differences.collect(), whole }
}

/// Removes the referrers whose tags hold something else that is kept from `findings`: their image is as configured.
fn take_kept(transfer: &Transfer, findings: &mut Vec<Finding>) -> Vec<Referrer> {
    let holds_else = |referrer: &Referrer, finding: &Finding| {
        finding.part == Part::Referrer && finding.expected == referrer.digest && finding.found.is_some()
    };
    let keeps = transfer.handling.overwrite == Overwrite::Keep;
    let tagged = transfer.referrers.iter().filter(|referrer| keeps && referrer.tag.is_some());
    let kept = tagged.filter(|referrer| findings.iter().any(|finding| holds_else(referrer, finding)));
    let kept: Vec<Referrer> = kept.cloned().collect();
    findings.retain(|finding| !kept.iter().any(|referrer| holds_else(referrer, finding)));
    kept
}

/// Identifies a difference: tags by name, referrers by digest and repository, and content by digest and the
/// repositories that share it.
fn cause(transfer: &Transfer, finding: &Finding) -> String {
    match finding.part {
        Part::Tag => transfer.target_text(),
        Part::Manifest | Part::Blob => format!("{}@{}", transfer.target.blob_scope(), finding.expected),
        _ => format!("{}@{}", transfer.target, finding.expected),
    }
}

fn difference(transfer: &Transfer, finding: Finding) -> Difference {
    let Finding { part, expected, found, why } = finding;
    Difference {
        source: transfer.source.to_string(),
        target: Some(transfer.target_text()),
        what: part,
        expected: Some(expected),
        found,
        why,
    }
}

/// The target repositories that have answered, and whether everything that the lock knows of them was checked.
fn answered(request: Request<'_>, planned: &[Planned], looked: &[Looked]) -> Vec<(Repository, bool)> {
    let mut order: Vec<&Repository> = Vec::new();
    let mut states: HashMap<&Repository, (bool, bool)> = HashMap::new();
    for (planned, looked) in planned.iter().zip(looked) {
        let Planned::Image(transfer) = planned else { continue };
        let state = states.entry(&transfer.target).or_insert_with(|| {
            order.push(&transfer.target);
            (false, request.only.is_everything())
        });
        state.0 |= looked.outcome.error.is_none();
        state.1 &= looked.whole;
    }
    order.into_iter().filter(|target| states[target].0).map(|target| (target.clone(), states[target].1)).collect()
}
