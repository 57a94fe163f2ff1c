//! Registry endpoints: listing them, reading one, and creating one, for which Harbor checks that something answers
//! there.

use axum::body::to_bytes;
use axum::extract::Request;
use axum::http::header::LOCATION;
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};

use super::{Endpoint, Identity, Shared, World, document, refusal};

pub(super) async fn answer(state: &Shared, request: Request) -> Response {
    let identity = state.lock().identify(&request);
    let Identity::Account(account) = identity else {
        return refusal(401, "UNAUTHORIZED", "unauthorized");
    };
    let path = request.uri().path().trim_start_matches("/api/v2.0/registries").trim_start_matches('/').to_owned();
    match (request.method().clone(), path.as_str()) {
        (Method::GET, "") => {
            let query = request.uri().query().unwrap_or_default().to_owned();
            state.lock().list_endpoints(&account, &query)
        }
        (Method::GET, id) => state.lock().show_endpoint(&account, id),
        (Method::POST, "") => {
            let body = to_bytes(request.into_body(), 1 << 20).await.expect("a body from a test");
            let body = serde_json::from_slice(&body).unwrap_or_default();
            state.lock().create_endpoint(&account, &body)
        }
        _ => StatusCode::METHOD_NOT_ALLOWED.into_response(),
    }
}

fn shown((id, endpoint): (&u64, &Endpoint)) -> Value {
    json!({ "id": id, "name": endpoint.name, "type": endpoint.kind, "url": endpoint.url, "status": "healthy" })
}

impl World {
    /// A page of them; the tests use few.
    fn list_endpoints(&self, account: &str, query: &str) -> Response {
        if !self.has(account, "", "registry: list") {
            return refusal(403, "FORBIDDEN", "forbidden");
        }
        let number = |wanted: &str| {
            let found = url::form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == wanted);
            found.and_then(|(_, value)| value.parse::<usize>().ok())
        };
        let (page, size) = (number("page").unwrap_or(1), number("page_size").unwrap_or(10).min(100));
        let all: Vec<Value> = self.endpoints.iter().map(shown).skip((page - 1) * size).take(size).collect();
        document(200, &json!(all))
    }

    fn show_endpoint(&self, account: &str, id: &str) -> Response {
        if !self.has(account, "", "registry: read") {
            return refusal(403, "FORBIDDEN", "forbidden");
        }
        match id.parse::<u64>().ok().and_then(|id| self.endpoints.get_key_value(&id)) {
            Some(found) => document(200, &shown(found)),
            None => refusal(404, "NOT_FOUND", &format!("registry {id} not found")),
        }
    }

    fn create_endpoint(&mut self, account: &str, body: &Value) -> Response {
        if !self.has(account, "", "registry: create") {
            return refusal(403, "FORBIDDEN", "forbidden");
        }
        let text = |key: &str| body[key].as_str().unwrap_or_default().to_owned();
        let endpoint = Endpoint { name: text("name"), kind: text("type"), url: text("url") };
        if self.endpoints.values().any(|other| other.name == endpoint.name) {
            return refusal(409, "CONFLICT", &format!("registry {} already exists", endpoint.name));
        }
        if self.unreachable.as_deref() == Some(&endpoint.url) {
            return refusal(400, "BAD_REQUEST", "the registry is unhealthy");
        }
        let id = self.endpoints.keys().last().map_or(1, |last| last + 1);
        self.endpoints.insert(id, endpoint);
        (StatusCode::CREATED, [(LOCATION, format!("/api/v2.0/registries/{id}"))]).into_response()
    }
}
