//! Harbor: a project, which is a repository's first segment, has to exist before a push; a push creates the
//! repositories in it.
//!
//! Facts: Harbor's API v2.0 (`api/v2.0/swagger.yaml`), `POST /projects`. `registry::harbor` queries projects.
//! `proxy_caches` handles proxy-cache projects, which accept no pushes.

pub(super) mod proxy_caches;

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Map, Value, json};
use tokio::sync::Semaphore;

use super::{Provisioner, Unprovable};
use crate::config::{HarborCreate, StorageLimit};
use crate::error::{Error, Kind, Result};
use crate::oci::{Repository, Service};
use crate::once::OnceMap;
use crate::registry::{Host, Project, project};

/// Requests in flight to one registry.
const IN_FLIGHT: usize = 4;

/// One Harbor.
#[derive(Debug)]
pub(super) struct Harbor {
    api: Arc<Api>,
    /// Settings for creating projects; `None` = never create.
    create: Option<HarborCreate>,
    /// The result of creating each project, once per run.
    made: OnceMap<String, Result<bool>>,
}

#[derive(Debug)]
struct Api {
    host: Arc<Host>,
    /// One per request in flight.
    permits: Semaphore,
}

impl Harbor {
    pub(super) fn new(host: Arc<Host>, create: Option<HarborCreate>) -> Self {
        let api = Arc::new(Api { host, permits: Semaphore::new(IN_FLIGHT) });
        Self { api, create, made: OnceMap::default() }
    }
}

impl Api {
    async fn state(&self, repository: &Repository) -> Result<Project> {
        let _permit = self.permits.acquire().await.expect("never closed");
        self.host.project(repository).await
    }

    /// `false` if another client was faster.
    async fn create(&self, repository: &Repository, settings: &HarborCreate) -> Result<bool> {
        let _permit = self.permits.acquire().await.expect("never closed");
        let settings_json = body(project(repository.path()), settings);
        let created = self.host.create_project(repository, &settings_json).await?;
        if let Some(limit) = settings.storage_limit.filter(|_| created) {
            self.check_limit(repository, bytes(limit)).await;
        }
        Ok(created)
    }

    /// Harbor lets permitted accounts create a project, but silently ignores the quota unless they are
    /// administrators or robots with `project: create`.
    async fn check_limit(&self, repository: &Repository, wanted: i64) {
        let set = match self.host.storage_limit(repository).await {
            Ok(set) if set == wanted => return,
            Ok(-1) => "it has none".to_owned(),
            Ok(set) => format!("it is {set} bytes"),
            Err(error) => {
                tracing::debug!("{error}");
                "the account isn't allowed to read it".to_owned()
            }
        };
        let (name, host) = (project(repository.path()), repository.registry());
        tracing::warn!(
            hint = "ask an administrator to set the project's quota",
            "project {name} at {host} was created with storage_limit, but {set}: Harbor takes it only from administrators \
             and system robots with the permission `project: create`"
        );
    }
}

#[async_trait]
impl Provisioner for Harbor {
    fn unit<'a>(&self, repository: &'a Repository) -> &'a str {
        project(repository.path())
    }

    async fn missing(&self, repositories: &[Repository]) -> Result<Vec<Repository>> {
        let mut valid = repositories.to_vec();
        valid.retain(|repository| check_name(repository).is_ok());
        let Some(first) = valid.first() else { return Ok(Vec::new()) };
        match self.api.state(first).await? {
            Project::Missing => Ok(valid),
            Project::There | Project::Hidden => Ok(Vec::new()),
            Project::Unknown => {
                let (name, host) = (project(first.path()), first.registry());
                tracing::warn!(
                    "{host} doesn't serve Harbor's API: whether project {name} exists will be known after the first push"
                );
                Ok(Vec::new())
            }
            Project::ProxyCache => Err(self.api.host.proxy_cache_error(first)),
        }
    }

    async fn refused(&self, repository: &Repository) -> Option<Error> {
        check_name(repository).err()
    }

    async fn check_creation(&self, repository: &Repository) -> Result<Unprovable> {
        if self.create.is_none() {
            self.ensure(repository).await?;
        }
        let name = project(repository.path());
        let info = self.api.host.system_info(repository.path()).await;
        if info.read_only == Some(true) {
            let attempted = format!("create project {name} at {}", repository.registry());
            let why = "Harbor is in read-only mode";
            let hint = "run it again later, or end that mode";
            return Err(Error::new(Kind::Denied, attempted, why).with_hint(hint));
        }
        let who = match info.only_admins_create() {
            true => "here only administrators and system robots with the permission `project: create` may",
            false => "a project robot may not, and the push permission can't be verified before",
        };
        let hint = "a system robot needs the permission `project: create`, and pull and push of repository on all projects; check \
            the name, too: a project that nobody may push to stays empty";
        let why = format!("project {name} doesn't exist yet, and sync will create it: {who}");
        Ok(Unprovable { why, hint: Some(hint.to_owned()) })
    }

    async fn ensure(&self, repository: &Repository) -> Result<bool> {
        check_name(repository)?;
        let name = project(repository.path());
        if let Some(settings) = self.create.clone() {
            let (api, one) = (Arc::clone(&self.api), repository.clone());
            let made = self.made.get_or_work(name.to_owned(), || async move { api.create(&one, &settings).await });
            return made.await.map_err(|lost| Error::defect(format!("create project {name}"), lost))?.0;
        }
        if self.api.state(repository).await? != Project::Missing {
            return Ok(false);
        }
        let registry = repository.registry();
        let why = "it doesn't exist, and `create: false` prevents creating it";
        Err(Error::new(Kind::NotFound, format!("prepare project {name} at {registry}"), why).with_hint(format!(
            "create the project in Harbor, or remove `create: false` from registries.{registry}.harbor in mirror.yaml"
        )))
    }
}

/// The check of mirror.yaml for hosts that are configured as Harbor; here the host was recognised by its answers.
fn check_name(repository: &Repository) -> Result<()> {
    Service::Harbor.check_name(repository).map_err(|why| {
        let hint = "Harbor wants PROJECT/NAME, and lower case letters and digits with single ., _ or - between them in \
            PROJECT: name another in target:, layout: or to:";
        Error::new(Kind::Invalid, format!("push to {repository}"), why).with_hint(hint)
    })
}

/// The limit in Harbor's format.
fn bytes(limit: StorageLimit) -> i64 {
    match limit {
        StorageLimit::Unlimited => -1,
        StorageLimit::Bytes(bytes) => bytes,
    }
}

/// Harbor's `ProjectReq`. All metadata values are texts; omitted settings get Harbor's defaults.
fn body(name: &str, settings: &HarborCreate) -> Value {
    let flags = [
        ("public", Some(settings.public)),
        ("auto_scan", settings.auto_scan),
        ("auto_sbom_generation", settings.auto_sbom_generation),
        ("prevent_vul", settings.prevent_vul),
        ("reuse_sys_cve_allowlist", settings.reuse_sys_cve_allowlist),
    ];
    let flags = flags.into_iter().filter_map(|(key, flag)| Some((key, flag?.to_string())));
    let severity = settings.severity.iter().map(|severity| ("severity", severity.clone()));
    let metadata: Map<String, Value> =
        flags.chain(severity).map(|(key, text)| (key.to_owned(), Value::String(text))).collect();
    let mut body = json!({ "project_name": name, "metadata": metadata });
    if let Some(limit) = settings.storage_limit {
        body["storage_limit"] = bytes(limit).into();
    }
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn project_metadata_contains_only_set_values_as_text() {
        let default = json!({ "project_name": "m", "metadata": { "public": "false" } });
        assert_eq!(body("m", &HarborCreate::default()), default);
        let settings = HarborCreate {
            public: true,
            storage_limit: Some(StorageLimit::Unlimited),
            prevent_vul: Some(true),
            severity: Some("high".into()),
            ..HarborCreate::default()
        };
        let expected = json!({
            "project_name": "m",
            "storage_limit": -1,
            "metadata": { "public": "true", "prevent_vul": "true", "severity": "high" },
        });
        assert_eq!(body("m", &settings), expected);
    }
}
