//! Harbor: a project, which is a repository's first segment, has to exist before a push; the repositories in it come by
//! themselves.
//!
//! Facts: Harbor's API v2.0 (`api/v2.0/swagger.yaml`), `GET /projects/NAME`, `HEAD` and `POST /projects`.

use std::sync::Arc;

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::sync::Semaphore;

use super::Provisioner;
use crate::config::{HarborCreate, StorageLimit};
use crate::error::{Error, Kind, Result};
use crate::oci::Repository;
use crate::once::OnceMap;
use crate::registry::{Action, Host, PROXY_CACHE};

/// Requests in flight for one registry.
const IN_FLIGHT: usize = 4;

/// One Harbor.
#[derive(Debug)]
pub(super) struct Harbor {
    api: Arc<Api>,
    /// How projects are created; `None` = never.
    create: Option<HarborCreate>,
    /// What was asked of each project, once in a run.
    asked: OnceMap<String, Result<State>>,
    /// What came of creating each project, once in a run.
    made: OnceMap<String, Result<bool>>,
}

#[derive(Debug)]
struct Api {
    host: Arc<Host>,
    /// One for each request in flight.
    permits: Semaphore,
}

/// What is known of a project.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    There,
    Missing,
    /// It is there, and filled from another registry.
    ProxyCache,
    /// The API isn't served: the first push tells.
    Unknown,
}

/// The part of Harbor's `Project` that matters here.
#[derive(Deserialize)]
struct Project {
    registry_id: Option<i64>,
}

impl Harbor {
    pub(super) fn new(host: Arc<Host>, create: Option<HarborCreate>) -> Self {
        let api = Arc::new(Api { host, permits: Semaphore::new(IN_FLIGHT) });
        Self { api, create, asked: OnceMap::default(), made: OnceMap::default() }
    }

    async fn state(&self, repository: &Repository) -> Result<State> {
        let (api, one) = (Arc::clone(&self.api), repository.clone());
        let asked = self.asked.get_or_work(project(repository).to_owned(), || async move { api.state(&one).await });
        asked.await.map_err(|lost| Error::defect(format!("ask for project {}", project(repository)), lost))?.0
    }
}

impl Api {
    /// `GET` tells all, but only to who may: everybody else, robots included, gets a 403 for what is missing, and `HEAD`
    /// tells them whether that is it.
    async fn state(&self, repository: &Repository) -> Result<State> {
        let name = project(repository);
        let show = self.host.project_request(Action::ShowProject, repository, &format!("projects/{name}"))?;
        let _permit = self.permits.acquire().await.expect("never closed");
        match self.host.send(&show).await {
            Ok(answer) => match serde_json::from_slice::<Project>(&answer.body) {
                // Harbor's JSON leaves out a 0.
                Ok(Project { registry_id: None | Some(0) }) => Ok(State::There),
                Ok(_) => Ok(State::ProxyCache),
                Err(error) => Err(answer.unreadable(&show, error)),
            },
            Err(error) if error.kind() == Kind::NotFound => Ok(State::Missing),
            Err(error) if error.kind() == Kind::Unsupported => {
                tracing::warn!("{error}: whether project {name} exists is left to the first push");
                Ok(State::Unknown)
            }
            Err(error) if error.kind() == Kind::Denied => {
                let find = format!("projects?project_name={name}");
                let find = self.host.project_request(Action::FindProject, repository, &find)?;
                match self.host.send(&find).await {
                    Ok(_) => Ok(State::There),
                    Err(error) if error.kind() == Kind::NotFound => Ok(State::Missing),
                    Err(error) => Err(error),
                }
            }
            Err(error) => Err(error),
        }
    }

    /// `false` if somebody was faster.
    async fn create(&self, repository: &Repository, settings: &HarborCreate) -> Result<bool> {
        let request = self.host.creation_request(repository, &body(project(repository), settings))?;
        let created = {
            let _permit = self.permits.acquire().await.expect("never closed");
            self.host.send(&request).await
        };
        let created = match created {
            Ok(_) => true,
            Err(error) if error.kind() == Kind::Conflict => false,
            Err(error) => return Err(error),
        };
        // They know nothing of the project, and are refused for being older than it.
        self.host.forget_tokens();
        Ok(created)
    }
}

#[async_trait]
impl Provisioner for Harbor {
    fn creates(&self) -> bool {
        self.create.is_some()
    }

    fn unit<'a>(&self, repository: &'a Repository) -> &'a str {
        project(repository)
    }

    async fn missing(&self, repositories: &[Repository]) -> Result<Vec<Repository>> {
        let Some(first) = repositories.first() else { return Ok(Vec::new()) };
        match self.state(first).await? {
            State::Missing => Ok(repositories.to_vec()),
            State::There | State::Unknown => Ok(Vec::new()),
            State::ProxyCache => {
                let name = project(first);
                let attempted = format!("prepare project {name} at {}", first.registry());
                let why = "it is a proxy cache of another registry, and can't be pushed to";
                Err(Error::new(Kind::Unsupported, attempted, why).with_hint(PROXY_CACHE))
            }
        }
    }

    async fn ensure(&self, repository: &Repository) -> Result<bool> {
        let name = project(repository);
        if let Some(settings) = self.create.clone() {
            let (api, one) = (Arc::clone(&self.api), repository.clone());
            let made = self.made.get_or_work(name.to_owned(), || async move { api.create(&one, &settings).await });
            return made.await.map_err(|lost| Error::defect(format!("create project {name}"), lost))?.0;
        }
        if self.state(repository).await? != State::Missing {
            return Ok(false);
        }
        let registry = repository.registry();
        let why = "it doesn't exist, and `create: false` forbids to create it";
        Err(Error::new(Kind::NotFound, format!("prepare project {name} at {registry}"), why).with_hint(format!(
            "create the project at Harbor, or remove `create: false` from registries.{registry}.harbor in mirror.yaml"
        )))
    }
}

/// The first segment of the repository's path.
fn project(repository: &Repository) -> &str {
    let path = repository.path();
    path.split('/').next().unwrap_or(path)
}

/// Harbor's `ProjectReq`. All metadata are texts; what isn't said isn't sent, so that Harbor's own defaults hold.
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
    match settings.storage_limit {
        None => {}
        Some(StorageLimit::Unlimited) => body["storage_limit"] = (-1).into(),
        Some(StorageLimit::Bytes(bytes)) => body["storage_limit"] = bytes.into(),
    }
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_are_texts_and_only_what_is_set() {
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
