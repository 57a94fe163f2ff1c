//! The part of Harbor's API v2.0 that a mirror needs: whether a project exists, its settings and its limit, how to
//! create it, and which digest a tag has.

use axum::body::to_bytes;
use axum::extract::Request;
use axum::http::header::{CONTENT_TYPE, LOCATION};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse as _, Response};
use regex::Regex;
use serde_json::{Value, json};
use transship::oci::Selector;
use transship::store::Source as _;

use super::{IS_NAME, Identity, Project, Role, Shared, World, document, refusal};

pub(super) async fn answer(state: &Shared, request: Request) -> Response {
    // Bearer tokens of the registry aren't accepted here.
    let identity = state.lock().identify(&request);
    let Identity::Account(account) = identity else {
        return refusal(401, "UNAUTHORIZED", "unauthorized");
    };
    let path = request.uri().path().to_owned();
    let by_name = request.headers().get(IS_NAME).is_some_and(|value| value == "true");
    let rest = path.strip_prefix("/api/v2.0/projects/").map(|rest| rest.split('/').collect::<Vec<_>>());
    let name = match rest.as_deref() {
        None => None,
        Some([name]) => Some((*name).to_owned()),
        Some([name, "summary"]) if request.method() == Method::GET => return state.lock().summary(&account, name),
        Some([name, "repositories", repository, "artifacts", reference]) if request.method() == Method::GET => {
            return artifact(state, &account, (name, repository, reference), by_name).await;
        }
        Some([name, "metadatas", key]) if request.method() == Method::PUT => {
            let (name, key) = ((*name).to_owned(), (*key).to_owned());
            let body = to_bytes(request.into_body(), 1 << 20).await.expect("a body from a test");
            let body = serde_json::from_slice::<Value>(&body).unwrap_or_default();
            return state.lock().change(&account, (&name, &key), &body);
        }
        Some(_) => return StatusCode::NOT_FOUND.into_response(),
    };
    match (request.method().clone(), name) {
        (Method::HEAD, None) => {
            let query = request.uri().query().unwrap_or_default();
            let name = url::form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == "project_name");
            match name.is_some_and(|(_, name)| state.lock().projects.contains_key(name.as_ref())) {
                true => StatusCode::OK.into_response(),
                false => StatusCode::NOT_FOUND.into_response(),
            }
        }
        (Method::GET, Some(name)) => state.lock().show(&account, &name, by_name),
        (Method::POST, None) => {
            let is_json = request.headers().get(CONTENT_TYPE).is_some_and(|value| value == "application/json");
            let body = to_bytes(request.into_body(), 1 << 20).await.expect("a body from a test");
            match serde_json::from_slice::<Value>(&body) {
                Ok(body) if is_json => state.lock().create(&account, &body),
                _ => refusal(422, "UNPROCESSABLE_ENTITY", "parsing body body failed"),
            }
        }
        _ => StatusCode::METHOD_NOT_ALLOWED.into_response(),
    }
}

/// The artifact `reference` in a repository, whose name is encoded twice. Its size is that of all its content.
async fn artifact(state: &Shared, account: &str, named: (&str, &str, &str), by_name: bool) -> Response {
    let (project, repository, reference) = named;
    let decode = |text: &str| {
        let pairs = format!("x={text}");
        url::form_urlencoded::parse(pairs.as_bytes()).next().expect("one pair").1.into_owned()
    };
    let is_number = project.bytes().all(|byte| byte.is_ascii_digit());
    if is_number && !by_name || !state.lock().has(account, project, "artifact: read") {
        return refusal(403, "FORBIDDEN", "forbidden");
    }
    let path = format!("{project}/{}", decode(&decode(repository)));
    let name = match (reference.parse(), reference.parse()) {
        (Ok(digest), _) => Selector::Digest(digest),
        (_, Ok(tag)) => Selector::Tag(tag),
        _ => return refusal(400, "BAD_REQUEST", "invalid reference"),
    };
    match state.inside(&path).resolve(&name).await {
        Ok(found) => {
            let body = json!({
                "digest": found.digest.to_string(),
                "media_type": "application/vnd.oci.image.config.v1+json",
                "manifest_media_type": found.media_type.as_str(),
                "size": found.size + 1_000_000,
            });
            document(200, &body)
        }
        Err(_) => refusal(404, "NOT_FOUND", &format!("artifact {path}:{reference} not found")),
    }
}

impl World {
    /// Accounts that are logged in get more members.
    pub(super) fn system_info(&self, request: &Request) -> Response {
        let Identity::Account(_) = self.identify(request) else {
            return document(200, &json!({ "auth_mode": "db_auth" }));
        };
        let restriction = if self.only_admins_create { "adminonly" } else { "everyone" };
        let body = json!({
            "auth_mode": "db_auth",
            "harbor_version": format!("v2.{}.2-f37a8d43", self.minor.unwrap_or(15)),
            "project_creation_restriction": restriction,
            "read_only": self.read_only,
        });
        document(200, &body)
    }

    /// The storage limit of a project, for its owner.
    fn summary(&self, account: &str, name: &str) -> Response {
        let is_owner = matches!(self.role(account), Role::Admin | Role::User) && self.has(account, name, "");
        let Some(project) = self.projects.get(name).filter(|_| is_owner) else {
            return refusal(403, "FORBIDDEN", "forbidden");
        };
        let hard = project.storage_limit.map_or(-1, |limit| i64::try_from(limit).expect("a size"));
        let quota = json!({ "hard": { "storage": hard }, "used": { "storage": project.used } });
        document(200, &json!({ "repo_count": 0, "quota": quota }))
    }

    /// Only administrators can distinguish a missing project from a forbidden one.
    fn show(&self, account: &str, name: &str, by_name: bool) -> Response {
        let role = self.role(account);
        let is_number = name.bytes().all(|byte| byte.is_ascii_digit());
        let found = self.projects.get(name).filter(|_| by_name || !is_number);
        match (found, role) {
            (Some(project), Role::Admin | Role::SystemRobot | Role::Reader) => {
                let mut metadata = json!({ "public": project.public.to_string() });
                if let Some(filter) = &project.filter {
                    metadata["proxy_cache_filter_pattern"] = json!(filter);
                }
                document(200, &json!({ "name": name, "registry_id": project.registry_id, "metadata": metadata }))
            }
            (None, Role::Admin) => refusal(404, "NOT_FOUND", &format!("project {name} not found")),
            (Some(project), Role::User) if project.owner.as_deref() == Some(account) => {
                document(200, &json!({ "name": name }))
            }
            _ => refusal(403, "FORBIDDEN", "forbidden"),
        }
    }

    fn create(&mut self, account: &str, body: &Value) -> Response {
        self.creations.push(body.clone());
        let metadata = body["metadata"].as_object();
        if !metadata.is_some_and(|metadata| metadata.values().all(Value::is_string)) {
            return refusal(422, "UNPROCESSABLE_ENTITY", "cannot unmarshal into Go struct field of type string");
        }
        if self.read_only {
            return refusal(403, "DENIED", "The system is in read only mode. Any modification is prohibited.");
        }
        let role = self.role(account);
        let is_entitled = role != Role::User && self.has(account, "", "project: create");
        match role {
            Role::ProjectRobot(_) => return refusal(403, "FORBIDDEN", "Only system level robot can create project"),
            Role::Reader => return refusal(403, "FORBIDDEN", "forbidden"),
            _ if self.only_admins_create && !is_entitled => {
                return refusal(403, "FORBIDDEN", "Only system admin can create project");
            }
            _ => {}
        }
        let name = body["project_name"].as_str().unwrap_or_default();
        let valid = Regex::new("^[a-z0-9]+(?:[._-][a-z0-9]+)*$").expect("a constant pattern");
        if !valid.is_match(name) || name.len() > 255 {
            return refusal(400, "BAD_REQUEST", "project name is not in lower case or contains illegal characters");
        }
        let limit = match &body["storage_limit"] {
            Value::Null => None,
            limit => match limit.as_i64() {
                Some(-1) => None,
                Some(bytes @ 1..) => u64::try_from(bytes).ok(),
                _ => return refusal(400, "BAD_REQUEST", "invalid hard limit value"),
            },
        };
        if self.projects.contains_key(name) {
            return refusal(409, "CONFLICT", &format!("The project named {name} already exists"));
        }
        let registry_id = body["registry_id"].as_u64();
        let endpoint = registry_id.and_then(|id| self.endpoints.get(&id));
        if registry_id.is_some() && !is_entitled {
            return refusal(403, "FORBIDDEN", "forbidden");
        }
        if registry_id.is_some() && endpoint.is_none() {
            return refusal(404, "NOT_FOUND", "registry not found");
        }
        let upstream = endpoint.map(|endpoint| {
            let address = endpoint.url.split_once("://").map_or("", |(_, rest)| rest);
            address.trim_end_matches('/').to_owned()
        });
        // Older versions ignore it.
        let filter = body["metadata"]["proxy_cache_filter_pattern"].as_str().map(str::to_owned);
        let filter = filter.filter(|_| self.minor.is_some_and(|minor| minor >= 16));
        let public = body["metadata"]["public"] == "true";
        // Others may send one, which is ignored.
        let storage_limit = limit.filter(|_| is_entitled);
        let owner = (role == Role::User).then(|| account.to_owned());
        let project = Project {
            created: self.now,
            public,
            storage_limit,
            owner,
            registry_id,
            upstream,
            filter,
            ..Project::default()
        };
        self.projects.insert(name.to_owned(), project);
        (StatusCode::CREATED, [(LOCATION, format!("/api/v2.0/projects/{}", self.projects.len()))]).into_response()
    }

    /// Existing metadata of a project.
    fn change(&mut self, account: &str, (name, key): (&str, &str), body: &Value) -> Response {
        if !self.has(account, name, "metadata: update") {
            return refusal(403, "FORBIDDEN", "forbidden");
        }
        let project = self.projects.get_mut(name);
        let filter = project.map(|project| &mut project.filter).filter(|filter| filter.is_some());
        match (filter, body[key].as_str()) {
            (Some(filter), Some(value)) if key == "proxy_cache_filter_pattern" => {
                *filter = Some(value.to_owned());
                StatusCode::OK.into_response()
            }
            _ => refusal(404, "NOT_FOUND", "metadata not found"),
        }
    }
}
