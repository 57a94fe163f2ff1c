//! All hosts of a run, each set up once from its settings and from what the hosts of a run share.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use crate::config::{Limits, RegistrySettings};
use crate::error::Result;
use crate::oci::{Registry, Repository};
use crate::registry::admission::pulls::Budgets;
use crate::registry::admission::{Admissions, Paces};
use crate::registry::auth::Auth;
use crate::registry::auth::credentials::{BasicTokens, Credentials, Environment};
use crate::registry::counters::{Counters, HostStats};
use crate::registry::net::destination::Home;
use crate::registry::net::setup::{ClientSettings, Clients};
use crate::registry::referrers::ReferrersApi;
use crate::registry::services::harbor;
use crate::registry::services::quirks::Quirks;
use crate::registry::transport::Transport;
use crate::registry::types::OddTypes;
use crate::registry::upload::ChunkPolicy;
use crate::registry::{Host, lock};
use crate::retry::{Backoff, Waits};

/// All hosts of a run, each set up on first use.
#[derive(Debug)]
pub struct Hosts {
    settings: BTreeMap<Registry, RegistrySettings>,
    limits: Limits,
    admissions: Arc<Admissions>,
    environment: Environment,
    sessions: Arc<dyn BasicTokens>,
    /// Settings that were read for hosts that aren't in use yet.
    client_settings: Mutex<BTreeMap<Registry, ClientSettings>>,
    /// The repositories that the run will use.
    expected: Vec<Repository>,
    open: Mutex<BTreeMap<Registry, Arc<Host>>>,
}

impl Hosts {
    /// `sessions` supplies the credentials of hosts that use the AWS chain.
    pub fn new(
        settings: BTreeMap<Registry, RegistrySettings>,
        limits: &Limits,
        sessions: Arc<dyn BasicTokens>,
    ) -> Self {
        Self::with_environment(settings, limits, sessions, Environment::new(|name| std::env::var(name).ok()))
    }

    pub(crate) fn with_environment(
        settings: BTreeMap<Registry, RegistrySettings>,
        limits: &Limits,
        sessions: Arc<dyn BasicTokens>,
        environment: Environment,
    ) -> Self {
        let admissions = Arc::new(Admissions::new(Backoff::default(), limits.max_wait));
        let (client_settings, expected, open) = (Mutex::default(), Vec::new(), Mutex::default());
        Self { settings, limits: limits.clone(), admissions, environment, sessions, client_settings, expected, open }
    }

    /// Announces the repositories of the run: if one token can cover several, it is requested for them together.
    #[must_use]
    pub fn expecting(mut self, repositories: impl IntoIterator<Item = Repository>) -> Self {
        self.expected.extend(repositories);
        self
    }

    /// Changes the pauses between attempts, for hosts that aren't in use yet.
    #[must_use]
    pub fn with_backoff(mut self, backoff: Backoff) -> Self {
        self.admissions = Arc::new(Admissions::new(backoff, self.limits.max_wait).with_waits(self.admissions.heard()));
        self
    }

    /// Reports waits to `waits`, for hosts that aren't in use yet.
    #[must_use]
    pub fn with_waits(mut self, waits: Arc<dyn Waits>) -> Self {
        let backoff = self.admissions.backoff();
        self.admissions = Arc::new(Admissions::new(backoff, self.limits.max_wait).with_waits(waits));
        self
    }

    /// The host of `registry`.
    ///
    /// # Errors
    /// `Configuration` if its settings can't be used.
    pub fn host(self: &Arc<Self>, registry: &Registry) -> Result<Arc<Host>> {
        let mut open = lock(&self.open);
        if let Some(host) = open.get(registry) {
            return Ok(Arc::clone(host));
        }
        let host = Arc::new(self.set_up(registry)?);
        open.insert(registry.clone(), Arc::clone(&host));
        Ok(host)
    }

    /// Reads the files and variables in the settings of these hosts, before any of them is used.
    ///
    /// # Errors
    /// `Configuration` if the settings of one can't be used.
    pub fn prepare<'a>(&self, registries: impl IntoIterator<Item = &'a Registry>) -> Result<()> {
        for registry in registries.into_iter().filter(|registry| registry.is_host()) {
            let client_settings = self.read_client_settings(registry)?;
            lock(&self.client_settings).insert(registry.clone(), client_settings);
        }
        Ok(())
    }

    fn read_client_settings(&self, registry: &Registry) -> Result<ClientSettings> {
        let settings = self.settings.get(registry).cloned().unwrap_or_default();
        ClientSettings::read(registry, settings, &self.environment)
    }

    /// The requests to each host so far, sorted by host.
    pub fn stats(&self) -> Vec<HostStats> {
        let open = lock(&self.open);
        let stats = open
            .values()
            .map(|host| host.transport.counters.stats(&host.registry, host.budgets.tightest(), host.meters_pulls()));
        stats.collect()
    }

    /// The source of credentials for `registry`.
    pub(crate) fn credentials(&self, registry: &Registry) -> Credentials {
        self.credentials_with(registry, self.settings.get(registry).cloned().unwrap_or_default())
    }

    fn credentials_with(&self, registry: &Registry, settings: RegistrySettings) -> Credentials {
        Credentials {
            registry: registry.clone(),
            settings,
            environment: self.environment.clone(),
            sessions: Arc::clone(&self.sessions),
            state: tokio::sync::Mutex::default(),
        }
    }

    fn set_up(self: &Arc<Self>, registry: &Registry) -> Result<Host> {
        let quirks = Quirks::of(registry);
        let client_settings = lock(&self.client_settings).remove(registry);
        let client_settings = client_settings.map_or_else(|| self.read_client_settings(registry), Ok)?;
        let (settings, base) = (client_settings.settings.clone(), client_settings.base.clone());
        self.admissions.call(&base, registry.as_str());
        let transport = Arc::new(Transport {
            clients: Clients::new(client_settings, self.limits.idle_timeout),
            home: Home::new(base, registry),
            paces: Paces::new(quirks.paces),
            admissions: Arc::clone(&self.admissions),
            counters: Counters::default(),
            idle: self.limits.idle_timeout,
        });
        let set_as_harbor = settings.harbor.is_some();
        let credentials = self.credentials_with(registry, settings);
        let auth = Arc::new(Auth::new(Arc::clone(&transport), credentials));
        auth.expect(self.expected.iter().filter(|one| one.registry() == registry).map(Repository::path));
        let chunk_policy = ChunkPolicy::new(quirks.most_at_once, quirks.chunks);
        let (registry, manifest_size) = (registry.clone(), self.limits.manifest_size);
        let (harbor, referrers) = (harbor::Facts::default(), ReferrersApi::default());
        let budgets = Budgets::new(registry.clone(), self.limits.quota_reserve);
        Ok(Host {
            registry,
            quirks,
            chunk_policy,
            transport,
            auth,
            manifest_size,
            set_as_harbor,
            harbor,
            referrers,
            budgets,
            refuses_heads: AtomicBool::default(),
            others: Arc::downgrade(self),
            odd_types: OddTypes::default(),
        })
    }
}
