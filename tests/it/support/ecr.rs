//! Amazon ECR in this process: the JSON API and the registry share one state, and are as strict as the real ones.
//!
//! It follows ECR's API reference. The registry is `serve` with ECR's deviations around it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, LOCATION, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use transship::oci::{Edge, Repository};
use transship::serve::{self, Options, Server};
use transship::store::Source as _;
use transship::store::memory::{Memory, MemoryRepository};

use super::images::tagged;
use super::script::Script;

/// The name of the registry.
pub(crate) const HOST: &str = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";

/// `PutImage` per second, and the burst.
const MANIFESTS: f64 = 10.0;

/// The registry of an account in a region; it stops when it is dropped.
#[derive(Debug)]
pub(crate) struct Ecr {
    pub(crate) account: Account,
    /// Around the registry.
    pub(crate) script: Script,
    registry: Server,
    api: Server,
}

/// The state that both halves share. A clone is another handle to it.
#[derive(Debug, Clone)]
pub(crate) struct Account {
    memory: Memory,
    state: Arc<Mutex<Inner>>,
}

#[derive(Debug)]
struct Inner {
    /// The creation request of each repository.
    repositories: BTreeMap<String, Value>,
    /// Operations of the API that are answered with this error code.
    refused: BTreeMap<&'static str, &'static str>,
    asked: Vec<(String, Value)>,
    mounting: bool,
    /// The policies, by repository and by the operation that reads them.
    policies: BTreeMap<(String, &'static str), String>,
    /// Prefixes of pull-through caches.
    pull_through: Vec<&'static str>,
    issued: usize,
    /// The number of requests for which the next token is valid: an expiry without a clock. Only the newest is valid.
    uses: usize,
    uses_left: usize,
    manifests: f64,
    since: Instant,
}

impl Ecr {
    pub(crate) async fn start() -> Self {
        let state = Inner {
            repositories: BTreeMap::new(),
            refused: BTreeMap::new(),
            asked: Vec::new(),
            mounting: false,
            policies: BTreeMap::new(),
            pull_through: Vec::new(),
            issued: 0,
            uses: usize::MAX,
            uses_left: 0,
            manifests: MANIFESTS,
            since: Instant::now(),
        };
        let account = Account { memory: Memory::strict(), state: Arc::new(Mutex::new(state)) };
        let script = Script::default();
        let router = serve::router(Arc::new(account.memory.clone()), Options::default());
        let router = router.layer(middleware::from_fn_with_state(account.clone(), registry));
        let api = Router::new().fallback(api).with_state(account.clone());
        let registry = Server::start_router(script.around(router), 0).await.expect("a free port on 127.0.0.1");
        let api = Server::start_router(api, 0).await.expect("a free port on 127.0.0.1");
        Self { account, script, registry, api }
    }

    /// The URL of the registry.
    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.registry.address())
    }

    /// The value for `AWS_ENDPOINT_URL_ECR`.
    pub(crate) fn api(&self) -> String {
        format!("http://{}", self.api.address())
    }
}

impl Account {
    /// A repository, accessed directly.
    pub(crate) fn inside(&self, path: &str) -> MemoryRepository {
        self.memory.repository(&inside(path))
    }

    /// Creates a repository directly.
    pub(crate) fn create(&self, path: &str, settings: Value) {
        self.memory.create(&inside(path));
        self.lock().repositories.insert(path.to_owned(), settings);
    }

    pub(crate) fn refuse(&self, operation: &'static str, code: &'static str) {
        self.lock().refused.insert(operation, code);
    }

    pub(crate) fn enable_mounting(&self) {
        self.lock().mounting = true;
    }

    /// Sets the lifecycle policy of a repository directly.
    pub(crate) fn set_lifecycle(&self, path: &str, text: &str) {
        self.lock().policies.insert((path.to_owned(), "GetLifecyclePolicy"), text.to_owned());
    }

    /// Repositories under `prefix` are a cache of Docker Hub.
    pub(crate) fn pull_through(&self, prefix: &'static str) {
        self.lock().pull_through.push(prefix);
    }

    /// The next token is valid for this many requests, later ones for any number.
    pub(crate) fn uses(&self, uses: usize) {
        self.lock().uses = uses;
    }

    /// The bodies of the calls of one operation.
    pub(crate) fn asked(&self, operation: &str) -> Vec<Value> {
        let inner = self.lock();
        inner.asked.iter().filter(|(name, _)| name == operation).map(|(_, body)| body.clone()).collect()
    }

    /// The header of a request with a new token.
    pub(crate) fn authorization(&self) -> String {
        format!("Basic {}", self.lock().issue())
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.state.lock().expect("no request panics while it holds the account")
    }

    /// Whether a manifest in `from` refers to `digest`.
    fn refers(&self, from: &str, digest: &str) -> bool {
        let manifests = self.inside(from).manifests().unwrap_or_default();
        let mut edges = manifests.iter().flat_map(transship::oci::Manifest::successors);
        edges.any(|edge| matches!(edge, Edge::Blob(blob) if blob.digest.as_str() == digest))
    }
}

impl Inner {
    fn issue(&mut self) -> String {
        self.issued += 1;
        self.uses_left = std::mem::replace(&mut self.uses, usize::MAX);
        token(self.issued)
    }

    /// The refusal of a request with this header.
    fn refuse_entry(&mut self, header: Option<&str>) -> Option<Response> {
        let Some(basic) = header.and_then(|header| header.strip_prefix("Basic ")) else {
            let challenge = [(WWW_AUTHENTICATE, r#"Basic realm="https://ecr",service="ecr.amazonaws.com""#)];
            return Some((StatusCode::UNAUTHORIZED, challenge, "Not Authorized\n").into_response());
        };
        if basic == token(self.issued) && self.uses_left > 0 {
            self.uses_left -= 1;
            return None;
        }
        let message = "Your authorization token has expired. Reauthenticate and try again.";
        let known = (1..=self.issued).any(|number| basic == token(number));
        Some(refusal(403, "DENIED", if known { message } else { "Your authorization token is invalid." }))
    }

    /// The answer to a call about a policy of a repository that exists.
    fn policy(&mut self, operation: &str, name: String, body: &Value) -> Result<Value, &'static str> {
        let (get, key, none) = match operation {
            "PutLifecyclePolicy" | "GetLifecyclePolicy" => {
                ("GetLifecyclePolicy", "lifecyclePolicyText", "LifecyclePolicyNotFoundException")
            }
            _ => ("GetRepositoryPolicy", "policyText", "RepositoryPolicyNotFoundException"),
        };
        if operation == get {
            return self.policies.get(&(name, get)).map(|text| json!({ key: text })).ok_or(none);
        }
        self.policies.insert((name, get), body[key].as_str().expect("a policy").to_owned());
        Ok(json!({}))
    }

    /// Whether one more `PutImage` is within the quota.
    fn may_put(&mut self) -> bool {
        let now = Instant::now();
        let come = now.duration_since(self.since).as_secs_f64() * MANIFESTS;
        (self.manifests, self.since) = ((self.manifests + come).min(MANIFESTS), now);
        let may = self.manifests >= 1.0;
        self.manifests -= if may { 1.0 } else { 0.0 };
        may
    }
}

fn inside(path: &str) -> Repository {
    Repository::new(Options::default().registry, path).expect("a repository path")
}

fn token(number: usize) -> String {
    STANDARD.encode(format!("AWS:token-{number}"))
}

fn refusal(status: u16, code: &str, message: &str) -> Response {
    let body = json!({ "errors": [{ "code": code, "message": message }] }).to_string();
    (StatusCode::from_u16(status).expect("a status"), [("content-type", "application/json")], body).into_response()
}

fn parameter(request: &Request, name: &str) -> Option<String> {
    let query = request.uri().query().unwrap_or_default().to_owned();
    url::form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

/// Deviations of ECR's registry from the specification.
async fn registry(State(account): State<Account>, mut request: Request, next: Next) -> Response {
    let header = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let refused = account.lock().refuse_entry(header.as_deref());
    if let Some(refused) = refused {
        let _ = to_bytes(request.into_body(), usize::MAX).await;
        return refused;
    }
    let path = request.uri().path().to_owned();
    match request.method().as_str() {
        // Reports that it was created, and discards it.
        "PATCH" => {
            let location = request.uri().to_string();
            let _ = to_bytes(request.into_body(), usize::MAX).await;
            return (StatusCode::CREATED, [(LOCATION, location)]).into_response();
        }
        "GET"
            if path.ends_with("/tags/list")
                && parameter(&request, "n").and_then(|n| n.parse::<u32>().ok()).is_some_and(|n| n > 1000) =>
        {
            return refusal(405, "UNSUPPORTED", "Member must have value less than or equal to 1000");
        }
        "POST" => {
            let wanted = parameter(&request, "mount").zip(parameter(&request, "from"));
            let may = wanted.is_some_and(|(digest, from)| account.lock().mounting && account.refers(&from, &digest));
            if !may {
                *request.uri_mut() = path.parse::<Uri>().expect("the path of a URI");
            }
        }
        "PUT" if path.contains("/manifests/") => return put_manifest(&account, &path, request, next).await,
        _ => {}
    }
    next.run(request).await
}

async fn put_manifest(account: &Account, path: &str, request: Request, next: Next) -> Response {
    if !account.lock().may_put() {
        return refusal(429, "TOOMANYREQUESTS", "Rate exceeded");
    }
    let (name, reference) = path.trim_start_matches("/v2/").split_once("/manifests/").expect("a manifest's path");
    let mutability = account.lock().repositories.get(name).map(|settings| settings["imageTagMutability"].clone());
    let is_tag = !reference.contains(':');
    if is_tag
        && mutability == Some(json!("IMMUTABLE"))
        && account.inside(name).resolve(&tagged(reference)).await.is_ok()
    {
        let message = format!(
            "The image tag '{reference}' already exists in the '{name}' repository and cannot be overwritten because the \
             repository is immutable."
        );
        return refusal(400, "TAG_INVALID", &message);
    }
    let mut response = next.run(request).await;
    response.headers_mut().remove(LOCATION);
    response
}

/// The JSON API.
async fn api(State(account): State<Account>, headers: HeaderMap, body: Body) -> (StatusCode, String) {
    let body = to_bytes(body, usize::MAX).await.expect("a body");
    let body: Value = serde_json::from_slice(&body).expect("JSON");
    let target = headers["x-amz-target"].to_str().expect("text").to_owned();
    let operation = target.rsplit('.').next().expect("an operation");
    let mut inner = account.lock();
    inner.asked.push((operation.to_owned(), body.clone()));
    let error = |code: &str, message: &str| {
        (StatusCode::BAD_REQUEST, json!({ "__type": code, "message": message }).to_string())
    };
    if let Some(code) = inner.refused.get(operation) {
        return error(code, &format!("User: arn:aws:iam::1:user/u is not authorized to perform: ecr:{operation}"));
    }
    let name = body["repositoryName"].as_str().unwrap_or_default().to_owned();
    let answer = match operation {
        "CreateRepository" => {
            let name = body["repositoryName"].as_str().expect("a name");
            if inner.repositories.contains_key(name) {
                return error("RepositoryAlreadyExistsException", "it exists");
            }
            account.memory.create(&inside(name));
            inner.repositories.insert(name.to_owned(), body.clone());
            json!({ "repository": body })
        }
        "DescribeRepositories" => {
            let names = body["repositoryNames"].as_array().expect("names");
            let found: Option<Vec<Value>> = names
                .iter()
                .map(|name| {
                    let mut described = inner.repositories.get(name.as_str()?)?.clone();
                    described["repositoryName"] = name.clone();
                    Some(described)
                })
                .collect();
            let Some(found) = found else { return error("RepositoryNotFoundException", "one does not exist") };
            json!({ "repositories": found })
        }
        "GetAuthorizationToken" => {
            // Expires in 2015, like moto's.
            json!({ "authorizationData": [{ "authorizationToken": inner.issue(), "expiresAt": 1_420_070_400.0 }] })
        }
        "DescribePullThroughCacheRules" => {
            let rule = |prefix| json!({ "ecrRepositoryPrefix": prefix, "upstreamRegistryUrl": "registry-1.docker.io" });
            json!({ "pullThroughCacheRules": inner.pull_through.iter().map(rule).collect::<Vec<_>>() })
        }
        "GetAccountSetting" => {
            json!({ "name": body["name"], "value": if inner.mounting { "ENABLED" } else { "DISABLED" } })
        }
        "PutLifecyclePolicy" | "SetRepositoryPolicy" | "GetLifecyclePolicy" | "GetRepositoryPolicy" => {
            if !inner.repositories.contains_key(&name) {
                return error("RepositoryNotFoundException", "it does not exist");
            }
            match inner.policy(operation, name, &body) {
                Ok(answer) => answer,
                Err(code) => return error(code, "it has none"),
            }
        }
        _ => return error("UnknownOperationException", operation),
    };
    (StatusCode::OK, answer.to_string())
}
