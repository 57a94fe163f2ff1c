//! The session of a run: the configuration, the pins, and the stores.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::Read as _;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context as _;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::Unable;
use super::pins::Pins;
use crate::aws::Sessions;
use crate::cli::Global;
use crate::config::{Config, ImageRule, Overrides, Problems, RegistrySettings, Settings};
use crate::copy::{CopyOptions, Readiness};
use crate::error::{Error, Kind, Side, Stage};
use crate::lock::{self, Lock};
use crate::oci::{Registry, Repository};
use crate::plan::{self, Plan, Prefetch};
use crate::progress::{Finished, Progress, Task};
use crate::provision::{Provisioners, Work};
use crate::referrers::Finder;
use crate::registry::{BasicTokens, Hosts};
use crate::report::{ProxyCacheOutcome, Quota, RegistryUse, Report, RepositoryOutcome};
use crate::resolve::{self, Resolution, Update};
use crate::retry::{Waiting, Waits};
use crate::select::Only;
use crate::store::Stores;
use crate::store::cache::CachedStores;
use crate::store::layout::LayoutStores;
use crate::store::mirrors::{MirroredStores, Mirrors};
use crate::store::places::Places;
use crate::store::registry::RegistryStores;
use crate::verify::{self, Depth, Verification};

/// What every verb is called with.
#[derive(Clone)]
pub(super) struct Start {
    pub(super) global: Global,
    /// The folder and the size of the manifest cache, if it is used.
    pub(super) cache: Option<(PathBuf, u64)>,
    pub(super) progress: Arc<dyn Progress>,
    pub(super) stop: CancellationToken,
}

/// A run that has read its configuration and hasn't sent a request yet.
pub(super) struct Session {
    pub(super) global: Global,
    pub(super) images: Vec<ImageRule>,
    pub(super) transfers: usize,
    bandwidth: Option<NonZeroU64>,
    pub(super) progress: Arc<dyn Progress>,
    pub(super) stop: CancellationToken,
    pub(super) stores: Arc<dyn Stores>,
    pub(super) layouts: Arc<LayoutStores>,
    /// The manifest cache and its maximum size.
    cache: Option<(Arc<CachedStores>, u64)>,
    pub(super) finder: Arc<Finder>,
    pub(super) hosts: Arc<Hosts>,
    pub(super) used: BTreeSet<Registry>,
    /// Hosts that have settings but aren't used by the run.
    pub(super) unused: Vec<Registry>,
    lacking: Option<Problems>,
    pub(super) provisioners: Provisioners,
    started: Timestamp,
    clock: Instant,
}

/// Before anything was resolved.
static NONE_FAILED: BTreeMap<lock::Name, Error> = BTreeMap::new();

/// Reports to the progress which hosts the run waits for.
#[derive(Debug)]
struct ProgressWaits(Arc<dyn Progress>);

impl Waits for ProgressWaits {
    fn changed(&self, host: &str, waiting: Waiting) {
        self.0.waits(host, waiting);
    }
}

impl Start {
    /// Reads mirror.yaml and its lock.
    pub(super) fn session(self) -> anyhow::Result<(Session, Pins)> {
        self.session_for(&Overrides::default())
    }

    /// [`Start::session`], with overrides of mirror.yaml.
    pub(super) fn session_for(self, detour: &Overrides) -> anyhow::Result<(Session, Pins)> {
        let text = read_config(self.global.config())?;
        let config = Config::read_for(&text, self.global.config(), detour, &variable)?;
        let pins = Pins::of(&self.global)?;
        let Config { images, registries, limits, used, lacking, .. } = config;
        let settings = Settings { registries, limits, lacking };
        Ok((self.with(images, settings, used, detour.from.clone()), pins))
    }

    /// A session for `images` that uses the registries in `used`, and with `from` reads all images from a layout.
    pub(super) fn with(
        self,
        images: Vec<ImageRule>,
        settings: Settings,
        used: BTreeSet<Registry>,
        from: Option<Registry>,
    ) -> Session {
        let Settings { registries: set, limits, lacking } = settings;
        let sessions = Arc::new(Sessions::new());
        let hosts = Hosts::new(set.clone(), &limits, Arc::clone(&sessions) as Arc<dyn BasicTokens>);
        let hosts = hosts.with_waits(Arc::new(ProgressWaits(Arc::clone(&self.progress))));
        let repositories = images.iter().flat_map(|rule| rule.destinations.iter().chain([&rule.repository]));
        let hosts = Arc::new(hosts.expecting(repositories.cloned()).expecting(mirrored(&images, &set)));
        let registries: Arc<dyn Stores> = Arc::new(RegistryStores::new(Arc::clone(&hosts)));
        let registries: Arc<dyn Stores> = Arc::new(MirroredStores::new(registries, mirrors(&set)));
        let cache = self.cache.map(|(folder, size)| {
            (Arc::new(CachedStores::new(Arc::clone(&registries), folder, limits.manifest_size)), size)
        });
        let registries = cache.as_ref().map_or(registries, |(cached, _)| Arc::clone(cached) as Arc<dyn Stores>);
        let layouts = Arc::new(LayoutStores::new(limits.manifest_size));
        let stores: Arc<dyn Stores> = Arc::new(Places::new(registries, Arc::clone(&layouts), from));
        Session {
            finder: Arc::new(Finder::new(Arc::clone(&stores))),
            stores,
            layouts,
            cache,
            provisioners: Provisioners::new(&set, sessions).with_hosts(Arc::clone(&hosts)),
            hosts,
            unused: set.keys().filter(|host| !used.contains(host)).cloned().collect(),
            used,
            lacking,
            images,
            transfers: self.global.jobs.map_or(limits.transfers, usize::from),
            bandwidth: limits.bandwidth,
            global: self.global,
            progress: self.progress,
            stop: self.stop,
            started: Timestamp::now(),
            clock: Instant::now(),
        }
    }
}

impl Session {
    /// Reads secrets and certificates: the last check before the first request.
    pub(super) fn prepare(&self) -> anyhow::Result<()> {
        if let Some(lacking) = &self.lacking {
            return Err(lacking.clone().into());
        }
        Ok(self.hosts.prepare(&self.used)?)
    }

    /// The images of this run, after [`Session::prepare`].
    pub(super) fn only(&self, globs: &[String], old: &Lock) -> anyhow::Result<Only> {
        let only = Only::new(globs).map_err(|message| Unable::error(message, "a glob such as docker.io/library/*"))?;
        if !resolve::may_match(&self.images, old, &only) {
            let hint = "name an image as in mirror.yaml, or write a glob for canonical names, such as */nginx:*";
            return Err(Unable::error(format!("--only matches no image in {}", self.global.config().display()), hint));
        }
        self.prepare()?;
        Ok(only)
    }

    /// The error if no target can be used because all are unsuitable directories. It is reported before a source is
    /// contacted.
    pub(super) async fn unusable_targets(&self) -> Option<Error> {
        let destinations = self.images.iter().flat_map(|rule| &rule.destinations);
        let targets: BTreeSet<&Registry> = destinations.map(Repository::registry).collect();
        let mut first = None;
        for target in targets {
            first = first.or(Some(self.unusable_target(target).await?));
        }
        first
    }

    /// The error if `target` can't be used, as far as that is known without a request.
    pub(super) async fn unusable_target(&self, target: &Registry) -> Option<Error> {
        target.directory()?;
        let refused = self.layouts.check(target).await.err()?;
        // A missing directory is created later.
        (refused.kind() != Kind::NotFound).then(|| refused.on(Side::Target).at(Stage::Plan))
    }

    /// Resolves the images at the sources.
    pub(super) async fn resolve(&self, old: &Lock, update: &Update, only: &Only) -> Resolution {
        let request = resolve::Request {
            images: &self.images,
            old,
            update,
            only,
            stores: &self.stores,
            finder: &self.finder,
            progress: &self.progress,
            stop: &self.stop,
        };
        resolve::resolve(request).await
    }

    /// The requests to the targets that need no resolved images.
    pub(super) fn prefetch<'a>(&'a self, pins: &'a Pins, only: &'a Only) -> Prefetch<'a> {
        Prefetch::new(self.plan_request(pins.before(), (&pins.old, &NONE_FAILED), only))
    }

    /// Plans the run against the targets. `before` is the lock before this run, if known. With `follow`, new referrers
    /// are looked up even for unchanged images; with `repair`, so is missing content below unchanged tags.
    pub(super) async fn plan(
        &self,
        (before, resolution): (Option<&Lock>, &Resolution),
        only: &Only,
        prefetch: Prefetch<'_>,
        follow: bool,
        repair: bool,
    ) -> Plan {
        let pins = (&resolution.lock, &resolution.failed);
        let request = plan::Request { follow, ..self.plan_request(before, pins, only) };
        let mut plan = plan::plan(request, prefetch).await;
        if repair {
            plan::repair(&mut plan, &self.stores, &self.stop).await;
        }
        self.progress.end();
        plan
    }

    fn plan_request<'a>(
        &'a self,
        before: Option<&'a Lock>,
        (lock, failed): (&'a Lock, &'a BTreeMap<lock::Name, Error>),
        only: &'a Only,
    ) -> plan::Request<'a> {
        plan::Request {
            images: &self.images,
            lock,
            before,
            failed,
            only,
            stores: &self.stores,
            provisioners: &self.provisioners,
            follow: false,
            progress: &self.progress,
            stop: &self.stop,
        }
    }

    /// Creates missing repositories, then copies.
    pub(super) async fn execute(&self, plan: Plan) -> Report {
        let mut report = self.report("");
        let ready = self.provision(&plan).await;
        let images: Vec<String> = plan.with_work().map(|transfer| transfer.source.to_string()).collect();
        self.progress.begin(Task::Copy, &images);
        let means = CopyOptions {
            stores: Arc::clone(&self.stores),
            finder: Arc::clone(&self.finder),
            progress: Arc::clone(&self.progress),
            stop: self.stop.clone(),
            transfers: self.transfers,
            bandwidth: self.bandwidth,
        };
        report.outcomes = crate::copy::copy(plan, &ready, means).await;
        self.progress.end();
        let prepared = ready.values().filter_map(|ready| ready.as_ref().ok());
        report.repositories = prepared
            .map(|ready| RepositoryOutcome {
                target: ready.repository().to_string(),
                created: ready.created(),
                changes: ready.changes().to_vec(),
            })
            .collect();
        report.repositories.sort_by(|a, b| a.target.cmp(&b.target));
        report
    }

    /// Compares the targets with `lock`.
    pub(super) async fn verify(&self, lock: &Lock, only: &Only, depth: Depth, extra: bool) -> Verification {
        let request = verify::Request {
            images: &self.images,
            lock,
            only,
            depth,
            extra,
            stores: &self.stores,
            progress: &self.progress,
            stop: &self.stop,
            transfers: self.transfers,
        };
        verify::verify(request).await
    }

    /// Limits the cache to its size, and keeps everything that `lock` pins.
    pub(super) fn bound_cache(&self, lock: &Lock) {
        let Some((cache, size)) = &self.cache else { return };
        let pinned = lock.images().flat_map(|image| {
            let referrers = image.referrers.iter().map(|referrer| &referrer.digest);
            referrers.chain([&image.digest]).chain(&image.mirrored).cloned()
        });
        cache.bound(*size, pinned);
    }

    /// The proxy caches in mirror.yaml, and what is missing of each; with `make` it is created. `None` if there are
    /// none, or if the run was interrupted.
    pub(super) async fn proxy_caches(&self, make: bool) -> Option<Vec<ProxyCacheOutcome>> {
        let found = self.stop.run_until_cancelled(self.provisioners.proxy_caches(make)).await?;
        let outcomes = found.into_iter().map(|cache| {
            let (work, error) = match cache.work {
                Ok(work) => (work, None),
                Err(error) => (Work::default(), Some(error)),
            };
            let Work { created, changes } = work;
            ProxyCacheOutcome { target: cache.target, upstream: cache.upstream.to_string(), created, changes, error }
        });
        Some(outcomes.collect::<Vec<_>>()).filter(|outcomes| !outcomes.is_empty())
    }

    /// A proof for each repository in which a tag is set, or an error.
    async fn provision(&self, plan: &Plan) -> Readiness {
        let repositories = plan.to_prepare();
        let mut images: HashMap<&Repository, Vec<String>> = HashMap::new();
        for transfer in plan.with_work() {
            images.entry(&transfer.target).or_default().push(transfer.source.to_string());
        }
        let images_of = |repository: &Repository| images.get(repository).into_iter().flatten();
        self.progress.begin(Task::Provision, &repositories.iter().flat_map(images_of).cloned().collect::<Vec<_>>());
        let done = |repository: &Repository| {
            images_of(repository).for_each(|image| self.progress.finished(image, Finished::well("ready")));
        };
        let ensured = self.stop.run_until_cancelled(self.provisioners.ensure_each(&repositories, &done)).await;
        self.progress.end();
        // If interrupted, the images without a proof are reported as interrupted.
        ensured.unwrap_or_default().into_iter().collect()
    }

    pub(super) fn report(&self, command: &str) -> Report {
        Report::new(command, self.started)
    }

    /// Completes the report with data that is known only at the end.
    pub(super) fn finish(&self, command: &str, mut report: Report) -> Report {
        command.clone_into(&mut report.command);
        report.seconds = self.clock.elapsed().as_secs_f64();
        report.interrupted = self.stop.is_cancelled();
        report.registries = self.registries();
        report
    }

    fn registries(&self) -> Vec<RegistryUse> {
        let stats = self.hosts.stats().into_iter();
        let uses = stats.map(|host| RegistryUse {
            host: host.host.to_string(),
            requests: host.requests,
            manifest_gets: host.manifest_gets,
            throttled: host.throttled,
            quota: host.quota.map(|quota| Quota {
                limit: quota.limit,
                remaining: quota.remaining,
                window_seconds: quota.window_seconds,
            }),
            meters_pulls: host.meters_pulls,
        });
        uses.collect()
    }
}

/// The mirrors of each registry, for the stores.
fn mirrors(set: &BTreeMap<Registry, RegistrySettings>) -> Mirrors {
    let of = |settings: &RegistrySettings| {
        settings.mirrors.iter().map(|mirror| (mirror.registry.clone(), mirror.prefix.clone())).collect()
    };
    set.iter().map(|(origin, settings)| (origin.clone(), of(settings))).collect()
}

/// The digests of `images` that may be read from mirrors.
fn mirrored(images: &[ImageRule], set: &BTreeMap<Registry, RegistrySettings>) -> Vec<Repository> {
    let sources = images.iter().map(|rule| &rule.repository);
    let listed = |source: &Repository| set.get(source.registry()).map(|settings| settings.mirrors.as_slice());
    let there = |source| listed(source).unwrap_or_default().iter().filter_map(|mirror| mirror.repository(source).ok());
    sources.flat_map(there).collect()
}

/// An environment variable, for references in the configuration.
pub(super) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// The text of the configuration at `path`; `-` is stdin.
pub(super) fn read_config(path: &Path) -> anyhow::Result<String> {
    if path == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).context("can't read the configuration from stdin")?;
        return Ok(text);
    }
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let hint = "write one with `transship init`, or name another with --config FILE";
            Err(Unable::about(path, format!("{} doesn't exist", path.display()), hint))
        }
        Err(error) => Err(anyhow::Error::new(error).context(format!("can't read {}", path.display()))),
    }
}
