//! Copies the images of a plan and returns an outcome for each: the engine.
//!
//! One file per idea: `image` defines the order of the steps for one image, `walk` traverses its graph and `read`
//! loads its manifests, `referrers` finds and copies referrers level by level, `referrer_set` copies the referrers
//! of one manifest, `pulls` reserves pulls where they are limited, `place` decides how a blob gets to its target,
//! `stream` transfers its bytes, `empty` avoids existence checks in empty repositories, `repair` resends content
//! that a target reports as missing, `fallback` maintains the referrers tag at targets without the referrers API,
//! `writable` checks whether a target accepts pushes before anything is pulled, `turns` serializes work by key,
//! `meter` reports how many bytes have to move, and `quota` stops work that a full quota would refuse. All share one
//! view of the whole batch (`holders`), so that nothing is fetched, sent or checked twice. A failed image becomes an
//! [`Outcome`]; the others continue.
//!
//! No task holds a permit while it waits for other work, and a task that others wait for waits only for a permit,
//! so there can be no deadlock.

mod bandwidth;
mod child;
mod empty;
mod fallback;
mod foreign;
mod holders;
mod image;
mod listed;
mod memory;
mod meter;
mod nearby;
mod permits;
mod place;
mod pulls;
mod push_outcome;
mod quota;
mod read;
mod referrer_set;
mod referrers;
mod repair;
mod route;
mod spared;
mod stream;
mod turns;
mod walk;
mod writable;

use std::collections::HashMap;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use tokio_util::sync::CancellationToken;

use crate::error::{Error, Kind, Result, Stage};
use crate::oci::{Digest, Manifest, Registry, Repository, Selector};
use crate::once::OnceMap;
use crate::plan::{Action, Plan, Planned, ReferrerPolicy, RepairFindings, Transfer};
use crate::progress::{Finished, Progress, Step};
use crate::provision::Ready;
use crate::referrers::Finder;
use crate::report::{Outcome, Reason, ReferrerOutcome, Status};
use crate::store::{PullOrder, Stores};

/// Images in flight: enough to keep every transfer busy, few enough to finish images early.
const IMAGES: usize = 64;
/// How long images in flight may continue after a stop.
pub const DRAIN: Duration = Duration::from_secs(10);

/// The options and collaborators of a copy.
#[derive(Debug, Clone)]
pub struct CopyOptions {
    /// Opens repositories.
    pub stores: Arc<dyn Stores>,
    /// Finds the referrers of a manifest at the sources.
    pub finder: Arc<Finder>,
    /// Receives progress events.
    pub progress: Arc<dyn Progress>,
    /// Cancelled when nothing new may be started.
    pub stop: CancellationToken,
    /// Blobs in flight.
    pub transfers: usize,
    /// The read limit for all sources together, in bytes per second.
    pub bandwidth: Option<NonZeroU64>,
}

/// For each target repository: ready for pushes, or the error that prevents them.
pub type Readiness = HashMap<Repository, Result<Ready>>;

/// Content in transit: source repository, target repository and digest.
type Key = (Repository, Repository, Digest);

/// The view of the whole batch.
#[derive(Debug)]
struct Engine {
    stores: Arc<dyn Stores>,
    finder: Arc<Finder>,
    progress: Arc<dyn Progress>,
    stop: CancellationToken,
    permits: permits::Permits,
    meter: meter::Meter,
    bandwidth: Arc<bandwidth::Bandwidth>,
    /// Manifests by source repository and digest.
    manifests: OnceMap<(Repository, Digest), Result<Arc<Manifest>>>,
    /// How many bytes of manifests are in memory.
    held: memory::ManifestMemory,
    /// Whether a target repository had a manifest when this run first checked.
    present: OnceMap<(Repository, Digest), Result<bool>>,
    /// Copied content, by key and declared size: a manifest that declares a wrong size affects only itself.
    copied: OnceMap<(Key, u64), Result<walk::CopiedReferrers>>,
    /// Pushed referrers, by the name they are pushed under.
    referred: OnceMap<(Key, Selector), referrer_set::Push>,
    /// Serializes writes of a fallback index, by target repository and subject.
    listings: turns::Turns<(Repository, Digest), ()>,
    holders: holders::Holders,
    spared: spared::SparedPulls,
    nearby: nearby::Nearby,
    empty_repositories: empty::EmptyRepositories,
    quotas: quota::Quotas,
    writable: writable::Writable,
    /// The order in which images reserve pulls.
    order: Arc<PullOrder>,
    repair_findings: RepairFindings,
}

/// Executes `plan`. Returns one outcome for each of its images, in plan order.
pub async fn copy(plan: Plan, ready: &Readiness, options: CopyOptions) -> Vec<Outcome> {
    let engine = Arc::new(Engine {
        permits: permits::Permits::new(options.transfers),
        meter: meter::Meter::new(Arc::clone(&options.progress)),
        bandwidth: Arc::new(bandwidth::Bandwidth::new(options.bandwidth)),
        stores: options.stores,
        finder: options.finder,
        progress: options.progress,
        stop: options.stop,
        manifests: OnceMap::default(),
        held: memory::ManifestMemory::default(),
        present: OnceMap::default(),
        copied: OnceMap::default(),
        referred: OnceMap::default(),
        listings: turns::Turns::default(),
        holders: holders::Holders::new(&plan),
        spared: spared::SparedPulls::default(),
        nearby: nearby::Nearby::new(&plan),
        empty_repositories: empty::EmptyRepositories::new(&plan, ready),
        quotas: quota::Quotas::default(),
        writable: writable::Writable::default(),
        order: PullOrder::new(pulling(&plan)),
        repair_findings: plan.repair_findings.clone(),
    });
    nearby::record_present(&engine, &plan).await;
    let images = plan.images.into_iter().enumerate().map(|(index, planned)| {
        let engine = Arc::clone(&engine);
        async move {
            let outcome = engine.image(index, &planned, ready).await;
            if let Planned::Image(transfer) = &planned {
                engine.holders.ended(&transfer.target, index);
            }
            (index, outcome)
        }
    });
    let mut outcomes: Vec<_> = futures::stream::iter(images).buffer_unordered(IMAGES).collect().await;
    writable::abandon_unused(&engine).await;
    outcomes.sort_by_key(|(index, _)| *index);
    outcomes.into_iter().map(|(_, outcome)| outcome).collect()
}

/// The registries that each image may be pulled from, with the image's place in the plan.
fn pulling(plan: &Plan) -> impl Iterator<Item = (Registry, usize)> {
    plan.images.iter().enumerate().filter_map(|(place, planned)| match planned {
        Planned::Image(transfer) if may_push(transfer) => {
            Some((transfer.source.repository().registry().clone(), place))
        }
        _ => None,
    })
}

/// Whether copying `transfer` may push something.
fn may_push(transfer: &Transfer) -> bool {
    transfer.action.has_work() || follows(transfer)
}

/// Whether the tag is already right, so that only new referrers of the image's parts are looked for.
fn follows(transfer: &Transfer) -> bool {
    transfer.action == Action::UpToDate && transfer.follow && transfer.handling.referrers.policy != ReferrerPolicy::None
}

fn is_about_referrers(transfer: &Transfer) -> bool {
    matches!(transfer.action, Action::Refer | Action::UpToDate)
}

fn has_come(referrers: &[ReferrerOutcome]) -> bool {
    referrers.iter().any(|row| row.status == Status::Copied)
}

impl Engine {
    async fn image(self: &Arc<Self>, place: usize, planned: &Planned, ready: &Readiness) -> Outcome {
        let started = Instant::now();
        let outcome = match (Outcome::without_work(planned), planned) {
            // The plan has reported it as finished already.
            (Some(_), Planned::Image(transfer)) if follows(transfer) => {
                let followed = self.work(place, transfer, ready).await;
                return Outcome { seconds: started.elapsed().as_secs_f64(), ..followed };
            }
            (Some(outcome), _) => return outcome,
            (None, Planned::Image(transfer)) => self.work(place, transfer, ready).await,
            (None, Planned::Failed { .. }) => unreachable!("a failed image has an outcome"),
        };
        // The report lists images that an interruption left undone.
        if outcome.reason != Some(Reason::Interrupted) {
            let how = Finished::new(outcome.status.word(), !outcome.is_failure(), outcome.error.as_ref());
            self.progress.finished(&outcome.source, how);
        }
        Outcome { seconds: started.elapsed().as_secs_f64(), ..outcome }
    }

    async fn work(self: &Arc<Self>, place: usize, transfer: &Transfer, ready: &Readiness) -> Outcome {
        let drained = async {
            self.stop.cancelled().await;
            tokio::time::sleep(DRAIN).await;
        };
        let mut referrers = Vec::new();
        let copied = tokio::select! {
            copied = self.copy_image(place, transfer, ready, &mut referrers) => copied,
            () = drained => Err(Error::interrupted()),
        };
        let outcome = match copied {
            // The tag was right, and its referrers were there or aren't copied.
            Ok(_) if is_about_referrers(transfer) && !has_come(&referrers) => Outcome::unchanged(transfer),
            Ok(image::Copied { bytes, known_as }) => {
                let mirrored = known_as.or_else(|| transfer.mirrored.clone());
                Outcome { bytes, mirrored, ..Outcome::of(transfer, Status::Copied) }
            }
            Err(error) if error.kind() == Kind::Interrupted => Outcome::interrupted(transfer),
            Err(error) => Outcome::failed(transfer, error.at(Stage::Copy)),
        };
        if transfer.handling.referrers.policy != ReferrerPolicy::None
            && let Some(withheld) = self.finder.withheld(transfer.source.repository())
        {
            self.finder.warn_of_withheld(transfer.source.repository());
            referrers.push(ReferrerOutcome::unknown(withheld.at(Stage::Copy)));
        }
        let spared = self.spared.take(transfer.source.repository());
        Outcome { referrers, spared, via: self.via(transfer).map(|host| host.to_string()), ..outcome }
    }

    /// The registry that served the root in this run, if it wasn't the source.
    fn via(&self, transfer: &Transfer) -> Option<Registry> {
        let source = self.stores.source(transfer.source.repository()).ok();
        let mirror = source.and_then(|source| source.served_by(&transfer.root.digest));
        self.nearby.gave(transfer.target_digest()).filter(|_| transfer.action == Action::Copy).or(mirror)
    }

    async fn copy_image(
        self: &Arc<Self>,
        place: usize,
        transfer: &Transfer,
        ready: &Readiness,
        referrers: &mut Vec<ReferrerOutcome>,
    ) -> Result<image::Copied> {
        // Dropped when this image ends, whatever the result.
        let turn = self.order.place(transfer.source.repository().registry(), place);
        let seen = Ready::seen(&transfer.target);
        let ready = match (ready.get(&transfer.target), &transfer.action) {
            (Some(Ok(ready)), _) => ready,
            (Some(Err(error)), _) => return Err(error.clone()),
            // The plan found its tag at the target.
            (None, Action::Refer | Action::UpToDate) => &seen,
            // Repositories are prepared for all images that get a tag, unless the run was stopped before.
            (None, _) => return Err(Error::interrupted()),
        };
        self.check_stop()?;
        if !follows(transfer) {
            self.progress.step(&transfer.source.to_string(), Step::Started);
        }
        let route = route::Route::open(&*self.stores, &transfer.source, ready, place)?;
        self.quotas.check(&route)?;
        image::copy_image(self, &route, transfer, turn, referrers).await
    }
}
