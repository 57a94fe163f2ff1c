//! The part of Harbor's API v2.0 that a mirror needs: whether a project is there, what it is, and to create it.

use axum::body::to_bytes;
use axum::extract::Request;
use axum::http::header::{CONTENT_TYPE, LOCATION};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse as _, Response};
use regex::Regex;
use serde_json::{Value, json};

use super::{IS_NAME, Identity, Project, Role, Shared, World, document, refusal};

pub(super) async fn answer(state: &Shared, request: Request) -> Response {
    // No bearer of the registry counts here.
    let identity = state.lock().identify(&request);
    let Identity::Account(account) = identity else {
        return refusal(401, "UNAUTHORIZED", "unauthorized");
    };
    let path = request.uri().path().to_owned();
    let name = path.strip_prefix("/api/v2.0/projects/").map(str::to_owned);
    match (request.method().clone(), name) {
        (Method::HEAD, None) => {
            let query = request.uri().query().unwrap_or_default();
            let name = url::form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == "project_name");
            match name.is_some_and(|(_, name)| state.lock().projects.contains_key(name.as_ref())) {
                true => StatusCode::OK.into_response(),
                false => StatusCode::NOT_FOUND.into_response(),
            }
        }
        (Method::GET, Some(name)) => {
            let by_name = request.headers().get(IS_NAME).is_some_and(|value| value == "true");
            state.lock().show(&account, &name, by_name)
        }
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

impl World {
    /// What is missing looks like what is forbidden to all but administrators.
    fn show(&self, account: &str, name: &str, by_name: bool) -> Response {
        let role = self.role(account);
        let is_number = name.bytes().all(|byte| byte.is_ascii_digit());
        let found = self.projects.get(name).filter(|_| by_name || !is_number);
        match (found, role) {
            (Some(project), Role::Admin | Role::SystemRobot | Role::Reader) => {
                document(200, &json!({ "name": name, "registry_id": project.registry_id }))
            }
            (None, Role::Admin) => refusal(404, "NOT_FOUND", &format!("project {name} not found")),
            _ => refusal(403, "FORBIDDEN", "forbidden"),
        }
    }

    fn create(&mut self, account: &str, body: &Value) -> Response {
        self.creations.push(body.clone());
        let metadata = body["metadata"].as_object();
        if !metadata.is_some_and(|metadata| metadata.values().all(Value::is_string)) {
            return refusal(422, "UNPROCESSABLE_ENTITY", "cannot unmarshal into Go struct field of type string");
        }
        match self.role(account) {
            Role::ProjectRobot(_) => return refusal(403, "FORBIDDEN", "Only system level robot can create project"),
            Role::Reader => return refusal(403, "FORBIDDEN", "forbidden"),
            Role::SystemRobot if self.only_admins_create => {
                return refusal(403, "FORBIDDEN", "Only system admin can create project");
            }
            Role::SystemRobot | Role::Admin => {}
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
        let public = body["metadata"]["public"] == "true";
        let project = Project { created: self.now, public, storage_limit: limit, ..Project::default() };
        self.projects.insert(name.to_owned(), project);
        (StatusCode::CREATED, [(LOCATION, format!("/api/v2.0/projects/{}", self.projects.len()))]).into_response()
    }
}
