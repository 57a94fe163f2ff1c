//! Ensures that target repositories exist before anything is pushed to them.
//!
//! Most registries create a repository on the first push, and so does a layout. Amazon ECR doesn't, nor does Harbor
//! in a project that doesn't exist. Every push requires a [`Ready`], and only this file can create one, so a
//! registry that needs its repositories created first can't be forgotten.

mod ecr;
mod harbor;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt::Debug;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use futures::future::join_all;

use crate::aws::Sessions;
use crate::config::{EcrSettings, HarborSettings, ProxyCache, RegistrySettings};
use crate::error::{Error, Kind, Result, Side, Stage};
use crate::oci::{Registry, Repository, Service, Tag};
use crate::registry::Hosts;

use self::harbor::proxy_caches::Wanted;
pub use self::harbor::proxy_caches::Work;

/// The control plane of one registry. It bounds by itself how many requests are in flight.
#[async_trait]
pub trait Provisioner: Debug + Send + Sync {
    /// The unit that `repository` belongs to: repositories of one unit are queried together, and fail together.
    fn unit<'a>(&self, repository: &'a Repository) -> &'a str;

    /// The members of `repositories` (all of this registry and of one unit) that [`Provisioner::ensure`] would have
    /// to create or couldn't use. A repository that may not be queried counts as missing if it may be created, and
    /// otherwise as existing: then its first push shows.
    ///
    /// # Errors
    /// If the registry can't be queried at all, or nothing can be pushed to the unit in any case.
    async fn missing(&self, repositories: &[Repository]) -> Result<Vec<Repository>>;

    /// Why nothing can be pushed to `repository`, although it can be to others of its unit; known without trying.
    async fn refused(&self, _repository: &Repository) -> Option<Error> {
        None
    }

    /// Creates `repository` if it doesn't exist, and returns whether it did. Idempotent; concurrent creation by
    /// another client is a success.
    ///
    /// # Errors
    /// `NotFound` if it doesn't exist and may not be created, `Denied` without permission, `QuotaExceeded` if there
    /// are too many, `Configuration` if the registry refuses the settings; `Unauthorized` and `Unavailable` as
    /// everywhere.
    async fn ensure(&self, repository: &Repository) -> Result<bool>;

    /// The settings of the existing `repository` that [`Provisioner::reconcile`] would change.
    ///
    /// # Errors
    /// `Denied` if they may not be read; `Unauthorized` and `Unavailable` as everywhere.
    async fn differing(&self, _repository: &Repository) -> Result<Vec<&'static str>> {
        Ok(Vec::new())
    }

    /// Changes the existing `repository` to the configured settings, and returns which ones it changed. Sends no
    /// request if the settings are known to be right, or aren't to be changed.
    ///
    /// # Errors
    /// As [`Provisioner::differing`]; `Denied` also if they may not be changed.
    async fn reconcile(&self, _repository: &Repository) -> Result<Vec<&'static str>> {
        Ok(Vec::new())
    }

    /// Checks whether the missing `repository` can be created, without creating it. Returns why only
    /// [`Provisioner::ensure`] can show it.
    ///
    /// # Errors
    /// Why it can't be created, if that is already known.
    async fn check_creation(&self, repository: &Repository) -> Result<Unprovable>;

    /// Whether `tag` of `repository` is immutable once it is set, as far as [`Provisioner::missing`] has learnt.
    fn is_immutable(&self, _repository: &Repository, _tag: &Tag) -> bool {
        false
    }
}

/// What can't be known about a repository before it is created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unprovable {
    /// Why not.
    pub why: String,
    /// What the user can do.
    pub hint: Option<String>,
}

/// Proof that a repository can be pushed to: it exists, or its registry creates it on the first push.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ready {
    repository: Repository,
    created: bool,
    changes: Vec<&'static str>,
}

impl Ready {
    /// `repository` exists because a tag was seen in it: nothing has to be created for a push.
    pub(crate) fn seen(repository: &Repository) -> Self {
        Self { repository: repository.clone(), created: false, changes: Vec::new() }
    }

    /// The repository.
    pub fn repository(&self) -> &Repository {
        &self.repository
    }

    /// Whether it was just created, and is therefore empty.
    pub fn created(&self) -> bool {
        self.created
    }

    /// The settings of an existing repository that were just changed.
    pub fn changes(&self) -> &[&'static str] {
        &self.changes
    }
}

/// A configured proxy cache.
#[derive(Debug, Clone)]
pub struct ProxyCacheWork {
    /// `HOST/PROJECT`.
    pub target: String,
    /// The registry that it caches.
    pub upstream: Registry,
    /// The work to be done or already done, or the error that prevents it.
    pub work: Result<Work>,
}

/// The provisioners of a run, one for each registry that needs one.
#[derive(Debug)]
pub struct Provisioners {
    ecr: BTreeMap<Registry, EcrSettings>,
    harbor: BTreeMap<Registry, HarborSettings>,
    /// The settings of the upstreams of proxy caches.
    upstreams: BTreeMap<Registry, RegistrySettings>,
    sessions: Arc<Sessions>,
    hosts: Option<Arc<Hosts>>,
    open: Mutex<HashMap<Registry, Arc<dyn Provisioner>>>,
    /// Repositories that [`Provisioners::missing`] found to exist, so that no second request is sent.
    there: Mutex<HashSet<Repository>>,
}

impl Provisioners {
    /// Uses the settings of `registries`. In a registry without an entry, missing repositories are created with the
    /// defaults of its account. Sends nothing.
    pub fn new(registries: &BTreeMap<Registry, RegistrySettings>, sessions: Arc<Sessions>) -> Self {
        let entries = || registries.iter().map(|(registry, settings)| (registry.clone(), settings));
        let caches = entries().filter_map(|(_, settings)| settings.harbor.as_ref()).flat_map(|one| &one.proxy_caches);
        let upstreams = caches.filter_map(|cache| registries.get_key_value(&cache.upstream));
        Self {
            upstreams: upstreams.map(|(registry, settings)| (registry.clone(), settings.clone())).collect(),
            ecr: entries().map(|(registry, settings)| (registry, settings.ecr.clone())).collect(),
            harbor: entries().filter_map(|(registry, settings)| Some((registry, settings.harbor.clone()?))).collect(),
            sessions,
            hosts: None,
            open: Mutex::default(),
            there: Mutex::default(),
        }
    }

    /// Uses the hosts of the run: a Harbor among them is recognised by its answers to other requests so far.
    #[must_use]
    pub fn with_hosts(mut self, hosts: Arc<Hosts>) -> Self {
        self.hosts = Some(hosts);
        self
    }

    /// Whether each of `repositories` has to be created, in order. Queries only registries in which a push doesn't
    /// create repositories; if one can't be queried, only its own repositories fail.
    pub async fn missing(&self, repositories: &[Repository]) -> Vec<(Repository, Result<bool>)> {
        let mut by_unit = BTreeMap::<(&Registry, &str), (Arc<dyn Provisioner>, Vec<Repository>)>::new();
        for repository in repositories.iter().collect::<BTreeSet<_>>() {
            if let Some(provisioner) = self.provisioner(repository.registry()) {
                let unit = (repository.registry(), provisioner.unit(repository));
                by_unit.entry(unit).or_insert_with(|| (provisioner, Vec::new())).1.push(repository.clone());
            }
        }
        let asked = by_unit.into_values().map(|(provisioner, repositories)| async move {
            let missing = provisioner.missing(&repositories).await.map_err(here);
            let missing = missing.map(|missing| missing.into_iter().collect::<HashSet<_>>());
            let answers = repositories.iter().map(|one| async {
                let answer = match &missing {
                    Ok(missing) => provisioner.refused(one).await.map(here).map_or(Ok(missing.contains(one)), Err),
                    Err(error) => Err(error.clone()),
                };
                (one.clone(), answer)
            });
            join_all(answers).await
        });
        let answers: HashMap<Repository, Result<bool>> = join_all(asked).await.into_iter().flatten().collect();
        let answer = |repository: &Repository| answers.get(repository).cloned().unwrap_or(Ok(false));
        let answers: Vec<_> = repositories.iter().map(|one| (one.clone(), answer(one))).collect();
        let found = answers.iter().filter(|(_, answer)| matches!(answer, Ok(false))).map(|(one, _)| one.clone());
        self.there.lock().unwrap_or_else(PoisonError::into_inner).extend(found);
        answers
    }

    /// The settings of each of the existing `repositories` that [`Provisioners::ensure`] would change.
    pub async fn differing(&self, repositories: &[Repository]) -> Vec<(Repository, Result<Vec<&'static str>>)> {
        let asked = repositories.iter().map(|repository| async move {
            let differing = match self.provisioner(repository.registry()) {
                Some(provisioner) => provisioner.differing(repository).await.map_err(here),
                None => Ok(Vec::new()),
            };
            (repository.clone(), differing)
        });
        join_all(asked).await
    }

    /// Ensures that each of `repositories` exists, in order; a failure affects only that repository. Existing ones
    /// according to [`Provisioners::missing`], and those that a push creates, cost no request.
    pub async fn ensure(&self, repositories: &[Repository]) -> Vec<(Repository, Result<Ready>)> {
        self.ensure_each(repositories, &|_| ()).await
    }

    /// [`Provisioners::ensure`] that says of each when it is `done`, whatever came of it.
    pub async fn ensure_each(
        &self,
        repositories: &[Repository],
        done: &(dyn Fn(&Repository) + Sync),
    ) -> Vec<(Repository, Result<Ready>)> {
        let wanted: BTreeSet<_> = repositories.iter().collect();
        let ensured = wanted.into_iter().map(|one| async move {
            let ensured = self.ensure_one(one).await;
            done(one);
            (one, ensured)
        });
        let ensured: HashMap<_, _> = join_all(ensured).await.into_iter().collect();
        repositories.iter().map(|repository| (repository.clone(), ensured[repository].clone())).collect()
    }

    /// Checks whether the missing `repository` can be created, without creating it. Returns why only its creation can
    /// show it; `None` if a push creates the repository.
    ///
    /// # Errors
    /// Why it can't be created, if that is already known.
    pub async fn check_creation(&self, repository: &Repository) -> Result<Option<Unprovable>> {
        match self.provisioner(repository.registry()) {
            Some(provisioner) => provisioner.check_creation(repository).await.map(Some).map_err(here),
            None => Ok(None),
        }
    }

    /// Whether `tag` of `repository` is immutable once it is set, as far as [`Provisioners::missing`] has learnt.
    pub fn is_immutable(&self, repository: &Repository, tag: &Tag) -> bool {
        let provisioner = self.provisioner(repository.registry());
        provisioner.is_some_and(|provisioner| provisioner.is_immutable(repository, tag))
    }

    /// The configured proxy caches, and the work for each; `make` executes it.
    pub async fn proxy_caches(&self, make: bool) -> Vec<ProxyCacheWork> {
        // One after the other in each Harbor, because two caches of one upstream share its endpoint.
        let mut all = Vec::new();
        for (registry, settings) in &self.harbor {
            for cache in &settings.proxy_caches {
                let work = self.proxy_cache(registry, cache, make).await.map_err(here);
                let target = format!("{registry}/{}", cache.project);
                all.push(ProxyCacheWork { target, upstream: cache.upstream.clone(), work });
            }
        }
        all
    }

    async fn proxy_cache(&self, registry: &Registry, cache: &ProxyCache, make: bool) -> Result<Work> {
        let Some(hosts) = &self.hosts else { return Ok(Work::default()) };
        let host = hosts.host(registry)?;
        let wanted = Wanted::new(host, registry, cache.clone(), self.upstreams.get(&cache.upstream))?;
        if make { wanted.make().await } else { wanted.look().await }
    }

    async fn ensure_one(&self, repository: &Repository) -> Result<Ready> {
        if let Some(directory) = repository.registry().directory() {
            make(directory).await.map_err(here)?;
        }
        let there = self.there.lock().unwrap_or_else(PoisonError::into_inner).contains(repository);
        let provisioner = self.provisioner(repository.registry());
        let created = match &provisioner {
            Some(provisioner) if !there => provisioner.ensure(repository).await.map_err(here)?,
            _ => false,
        };
        let changes = match &provisioner {
            Some(provisioner) if !created => provisioner.reconcile(repository).await.map_err(here)?,
            _ => Vec::new(),
        };
        self.there.lock().unwrap_or_else(PoisonError::into_inner).insert(repository.clone());
        Ok(Ready { repository: repository.clone(), created, changes })
    }

    /// The provisioner of `registry`, if its repositories have to be created before a push.
    fn provisioner(&self, registry: &Registry) -> Option<Arc<dyn Provisioner>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(provisioner) = open.get(registry) {
            return Some(Arc::clone(provisioner));
        }
        let provisioner: Arc<dyn Provisioner> = match Service::of(registry) {
            Service::Ecr { account, region, .. } => {
                let settings = self.ecr.get(registry).cloned().unwrap_or_default();
                let session = self.sessions.session(registry, &settings);
                Arc::new(ecr::Ecr::new(session, account, region, settings.create, settings.reconcile))
            }
            _ if !registry.is_host() => return None,
            _ => {
                // If its host can't be set up, the requests to it fail.
                let host = self.hosts.as_ref()?.host(registry).ok().filter(|host| host.is_harbor())?;
                let settings = self.harbor.get(registry).cloned().unwrap_or_default();
                Arc::new(harbor::Harbor::new(host, settings.create))
            }
        };
        open.insert(registry.clone(), Arc::clone(&provisioner));
        Some(provisioner)
    }
}

/// Creates the directory of a layout, so that an unusable one is reported before anything is read.
async fn make(directory: &Path) -> Result<()> {
    tokio::fs::create_dir_all(directory).await.map_err(|error| {
        let kind = match error.kind() {
            std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem => Kind::Denied,
            _ => Kind::Configuration,
        };
        Error::new(kind, format!("create directory {}", directory.display()), error.to_string())
            .with_hint("name a writable directory")
    })
}

fn here(error: Error) -> Error {
    error.at(Stage::Provision).on(Side::Target)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_repository_created_by_a_push_needs_no_request() {
        // Nothing listens there, so a request would fail.
        let sessions = Arc::new(Sessions::at_endpoint("http://127.0.0.1:1", "id", "secret"));
        let provisioners = Provisioners::new(&BTreeMap::new(), sessions);
        let repositories = ["ghcr.io/a/b", "localhost:5000/c"].map(|text| text.parse::<Repository>().unwrap());
        for (_, missing) in provisioners.missing(&repositories).await {
            assert!(!missing.unwrap());
        }
        let ready = provisioners.ensure(&repositories).await;
        for ((repository, ready), wanted) in ready.into_iter().zip(repositories) {
            let ready = ready.unwrap();
            assert_eq!((&repository, ready.repository(), ready.created()), (&wanted, &wanted, false));
        }
    }
}
