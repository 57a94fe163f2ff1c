//! Harbor's API for registry endpoints, which are the upstreams of proxy-cache projects: reading and listing them,
//! and the requests that create an endpoint and a project for it.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue, LOCATION};
use serde::Deserialize;
use serde_json::{Value, json};

use super::project;
use crate::error::{Error, Kind, Result};
use crate::oci::Repository;
use crate::registry::Host;
use crate::registry::action::Action;
use crate::registry::request::Request;

/// Endpoints per page, and the maximum number of pages.
const PAGE: usize = 100;
const PAGES: usize = 100;

/// The relevant part of Harbor's `Registry`.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Endpoint {
    pub(crate) id: i64,
    pub(crate) url: String,
    /// Its type in Harbor's words: `docker-hub`, `docker-registry`.
    #[serde(rename = "type", default)]
    pub(crate) kind: String,
}

/// The upstream of a project, and its repository filter.
#[derive(Debug, Clone)]
pub(crate) struct Caching {
    /// The ID of its endpoint; `None` = it isn't a proxy cache.
    pub(crate) endpoint: Option<i64>,
    /// Its repository filter, if it has one.
    pub(crate) filter: Option<String>,
}

/// The metadata key of a project with the pattern of permitted repositories, since Harbor 2.16.
pub(crate) const FILTER: &str = "proxy_cache_filter_pattern";

#[derive(Deserialize)]
struct Shown {
    registry_id: Option<i64>,
    #[serde(default)]
    metadata: Option<serde_json::Map<String, Value>>,
}

impl Host {
    /// The upstream of the project of `repository`. Requested each time.
    ///
    /// # Errors
    /// `NotFound` and `Denied`, which only an administrator can rely on; others as everywhere.
    pub(crate) async fn caching(&self, repository: &Repository) -> Result<Caching> {
        let path = format!("projects/{}", project(repository.path()));
        let request = self.project_request(Action::ShowProject, repository, &path)?;
        let answer = self.send(&request).await?;
        let shown: Shown = serde_json::from_slice(&answer.body).map_err(|error| answer.unreadable(&request, error))?;
        let filter = shown.metadata.as_ref().and_then(|metadata| metadata.get(FILTER)?.as_str());
        Ok(Caching {
            // Harbor's JSON omits a 0.
            endpoint: shown.registry_id.filter(|id| *id != 0),
            filter: filter.filter(|text| !text.is_empty()).map(str::to_owned),
        })
    }

    /// The endpoint with the ID `id`; `repository` is one in its project.
    ///
    /// # Errors
    /// `Denied` without permission to read endpoints; others as everywhere.
    pub(crate) async fn endpoint(&self, repository: &Repository, id: i64) -> Result<Endpoint> {
        let attempted = format!("read registry endpoint {id} at {}", self.registry);
        let path = format!("registries/{id}");
        let request = self.endpoint_request(Action::ShowProject, repository, attempted, &path)?;
        let answer = self.send(&request).await?;
        serde_json::from_slice(&answer.body).map_err(|error| answer.unreadable(&request, error))
    }

    /// The first endpoint that `is_wanted`.
    ///
    /// # Errors
    /// As [`Host::endpoint`].
    pub(crate) async fn find_endpoint(
        &self,
        repository: &Repository,
        is_wanted: impl Fn(&Endpoint) -> bool,
    ) -> Result<Option<Endpoint>> {
        for page in 1..=PAGES {
            let attempted = format!("list the registry endpoints at {}", self.registry);
            let path = format!("registries?page={page}&page_size={PAGE}");
            let request = self.endpoint_request(Action::ShowProject, repository, attempted, &path)?;
            let answer = self.send(&request).await?;
            let listed: Vec<Endpoint> =
                serde_json::from_slice(&answer.body).map_err(|error| answer.unreadable(&request, error))?;
            let is_last = listed.len() < PAGE;
            if let Some(found) = listed.into_iter().find(&is_wanted) {
                return Ok(Some(found));
            }
            if is_last {
                break;
            }
        }
        Ok(None)
    }

    /// Creates an endpoint, and returns its ID. `settings` is Harbor's `Registry`.
    ///
    /// # Errors
    /// `Denied` without permission, `Conflict` if there is one of that name, `Configuration` if Harbor can't reach
    /// its upstream; others as everywhere.
    pub(crate) async fn create_endpoint(&self, repository: &Repository, settings: &Value) -> Result<i64> {
        let url = settings["url"].as_str().unwrap_or_default();
        let attempted = format!("create a registry endpoint for {url} at {}", self.registry);
        let mut request = self.endpoint_request(Action::CreateProject, repository, attempted, "registries")?;
        as_json(&mut request, settings);
        let answer = self.send(&request).await?;
        let location = answer.headers.get(LOCATION).and_then(|value| value.to_str().ok());
        let id = location.and_then(|location| location.rsplit('/').next()?.parse().ok());
        id.ok_or_else(|| request.error(Kind::Invalid, "Harbor's answer has no id of the created object"))
    }

    /// Changes the repository filter of the project of `repository`, which has one.
    ///
    /// # Errors
    /// `Denied` without permission; others as everywhere.
    pub(crate) async fn set_filter(&self, repository: &Repository, pattern: &str) -> Result<()> {
        let path = format!("projects/{}/metadatas/{FILTER}", project(repository.path()));
        let mut request = self.project_request(Action::ChangeProject, repository, &path)?;
        as_json(&mut request, &json!({ FILTER: pattern }));
        self.send(&request).await.map(drop)
    }

    fn endpoint_request(
        &self,
        action: Action,
        repository: &Repository,
        attempted: String,
        path: &str,
    ) -> Result<Request, Error> {
        self.own_request(action, attempted, &format!("api/v2.0/{path}"), repository.path())
    }
}

fn as_json(request: &mut Request, body: &Value) {
    request.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    request.body = Bytes::from(body.to_string());
}
