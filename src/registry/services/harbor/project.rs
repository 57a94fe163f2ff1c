//! Harbor's project API: a project's kind and quota, and the request that creates one.
//!
//! The API takes the credentials themselves, and is asked once per run for each project.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use serde::Deserialize;
use serde_json::Value;

use super::project;
use crate::error::{Error, Kind, Result};
use crate::oci::Repository;
use crate::registry::Host;
use crate::registry::action::Action;
use crate::registry::request::Request;

/// What is known about a project.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Project {
    /// It accepts pushes.
    There,
    Missing,
    /// It fills itself from another registry.
    ProxyCache,
    /// It exists, but the account may not read it.
    Hidden,
    /// The API isn't available.
    Unknown,
}

/// The relevant part of Harbor's `Project`.
#[derive(Deserialize)]
struct Shown {
    registry_id: Option<i64>,
}

/// The relevant part of Harbor's `ProjectSummary`.
#[derive(Deserialize)]
struct Summary {
    quota: Quota,
}

#[derive(Deserialize)]
struct Quota {
    hard: Hard,
}

#[derive(Deserialize)]
struct Hard {
    storage: i64,
}

/// The relevant part of Harbor's `GeneralInfo`, for a signed-in account.
#[derive(Debug, Default, Clone, Deserialize)]
pub(crate) struct SystemInfo {
    pub(crate) harbor_version: Option<String>,
    pub(crate) read_only: Option<bool>,
    project_creation_restriction: Option<String>,
}

impl SystemInfo {
    /// Whether it has at least this version of Harbor.
    pub(crate) fn is_since(&self, wanted: (u64, u64)) -> bool {
        let text = self.harbor_version.as_deref().unwrap_or_default().trim_start_matches('v');
        let mut numbers = text.split(['.', '-']).map_while(|number| number.parse().ok());
        matches!((numbers.next(), numbers.next()), (Some(major), Some(minor)) if (major, minor) >= wanted)
    }

    /// Whether only administrators and robots with `project: create` may create projects.
    pub(crate) fn only_admins_create(&self) -> bool {
        self.project_creation_restriction.as_deref() == Some("adminonly")
    }
}

impl Host {
    /// The project of `repository`; asked once.
    ///
    /// # Errors
    /// `Unauthorized` and `Unavailable` as everywhere.
    pub(crate) async fn project(&self, repository: &Repository) -> Result<Project> {
        let known = self.harbor.project(project(repository.path()));
        known.get_or_init(|| self.ask_for_project(repository)).await.clone()
    }

    /// `GET` returns everything, but only to accounts that may read the project. All others, including most robots,
    /// get a 403 even for a missing project, and only `HEAD` tells them whether it exists.
    async fn ask_for_project(&self, repository: &Repository) -> Result<Project> {
        let name = project(repository.path());
        let show = self.project_request(Action::ShowProject, repository, &format!("projects/{name}"))?;
        match self.send(&show).await {
            Ok(answer) => match serde_json::from_slice::<Shown>(&answer.body) {
                // Harbor's JSON omits a 0.
                Ok(Shown { registry_id: None | Some(0) }) => Ok(Project::There),
                Ok(_) => Ok(Project::ProxyCache),
                Err(error) => Err(answer.unreadable(&show, error)),
            },
            Err(error) if error.kind() == Kind::NotFound => Ok(Project::Missing),
            Err(error) if error.kind() == Kind::Unsupported => {
                tracing::debug!("{error}");
                Ok(Project::Unknown)
            }
            Err(error) if error.kind() == Kind::Denied => {
                let find = format!("projects?project_name={name}");
                let find = self.project_request(Action::FindProject, repository, &find)?;
                match self.send(&find).await {
                    Ok(_) => Ok(Project::Hidden),
                    Err(error) if error.kind() == Kind::NotFound => Ok(Project::Missing),
                    Err(error) => Err(error),
                }
            }
            Err(error) => Err(error),
        }
    }

    /// Creates the project of `repository`; `false` if another client was faster. `settings` is Harbor's
    /// `ProjectReq`.
    ///
    /// # Errors
    /// `Denied` without the permission, `Configuration` if Harbor refuses the settings; others as everywhere.
    pub(crate) async fn create_project(&self, repository: &Repository, settings: &Value) -> Result<bool> {
        let mut request = self.project_request(Action::CreateProject, repository, "projects")?;
        request.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        request.body = Bytes::from(settings.to_string());
        let created = match self.send(&request).await {
            Ok(_) => true,
            Err(error) if error.kind() == Kind::Conflict => false,
            Err(error) => return Err(error),
        };
        if created {
            let is_cache = settings.get("registry_id").is_some_and(Value::is_number);
            let state = if is_cache { Project::ProxyCache } else { Project::There };
            self.harbor.created(project(repository.path()), state);
        }
        // Older tokens don't include the project, and are refused because they are older than it.
        self.auth.discard_all();
        Ok(created)
    }

    /// The storage quota in bytes of the project of `repository`; -1 for unlimited.
    ///
    /// # Errors
    /// `Denied` to all but its owner and administrators.
    pub(crate) async fn storage_limit(&self, repository: &Repository) -> Result<i64> {
        let path = format!("projects/{}/summary", project(repository.path()));
        let request = self.project_request(Action::ShowProject, repository, &path)?;
        let answer = self.send(&request).await?;
        let summary: Summary = serde_json::from_slice(&answer.body).map_err(|e| answer.unreadable(&request, e))?;
        Ok(summary.quota.hard.storage)
    }

    /// Harbor's system information for a signed-in account, with the credentials for `path`; empty if it isn't
    /// available, or for another registry. Asked once.
    pub(crate) async fn system_info(&self, path: &str) -> SystemInfo {
        if !self.is_harbor() {
            return SystemInfo::default();
        }
        let ask = || async {
            self.ask_for_system_info(path).await.unwrap_or_else(|error| {
                tracing::debug!("{error}");
                SystemInfo::default()
            })
        };
        self.harbor.info.get_or_init(ask).await.clone()
    }

    async fn ask_for_system_info(&self, path: &str) -> Result<SystemInfo> {
        let attempted = format!("ask {} for its settings", self.registry);
        let request = self.own_request(Action::ShowProject, attempted, "api/v2.0/systeminfo", path)?;
        let answer = self.send(&request).await?;
        serde_json::from_slice(&answer.body).map_err(|e| answer.unreadable(&request, e))
    }

    /// A request about the project of `repository`, to `path` below the API.
    ///
    /// # Errors
    /// `Invalid` if the URL is invalid.
    pub(super) fn project_request(&self, action: Action, repository: &Repository, path: &str) -> Result<Request> {
        let (verb, preposition) = action.traits().words;
        let project = project(repository.path());
        let attempted = format!("{verb} project {project} {preposition} {}", repository.registry());
        let mut request = self.own_request(action, attempted, &format!("api/v2.0/{path}"), repository.path())?;
        // Otherwise a project named 12 is taken for the one with that number.
        request.headers.insert(HeaderName::from_static("x-is-resource-name"), HeaderValue::from_static("true"));
        Ok(request)
    }

    /// The error if the target is a proxy cache.
    pub(crate) fn proxy_cache_error(&self, repository: &Repository) -> Error {
        let attempted = format!("prepare project {} at {}", project(repository.path()), self.registry);
        let why = "it is a proxy cache of another registry, and can't be pushed to";
        Error::new(Kind::Unsupported, attempted, why)
    }
}
