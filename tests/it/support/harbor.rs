//! A fake Harbor in this process: projects that have to be created, an API beside `/v2/`, and a token service that
//! refuses no request, not even with a wrong password.
//!
//! It follows Harbor 2.15: it is strict where Harbor is strict, and gives the same misleading answers. Its clock stands
//! still until a test moves it.

mod api;
mod data;
mod endpoints;
mod proxy;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use serde_json::{Value, json};
use transship::oci::{Registry as Name, Repository};
use transship::serve::{self, Options, Server};
use transship::store::memory::{Memory, MemoryRepository};

use super::images::Image;
use super::script::Script;

/// A running Harbor; it stops when it is dropped.
#[derive(Debug)]
pub(crate) struct Harbor {
    pub(crate) script: Script,
    pub(crate) state: Shared,
    server: Server,
}

/// The state, which tests set and read.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shared {
    world: Arc<Mutex<World>>,
    memory: Memory,
}

#[derive(Debug, Default)]
pub(crate) struct World {
    pub(crate) projects: BTreeMap<String, Project>,
    accounts: HashMap<String, Account>,
    tokens: HashMap<String, Token>,
    issued: usize,
    /// Harbor's clock, in seconds.
    pub(crate) now: u64,
    pub(crate) read_only: bool,
    /// `project_creation_restriction: adminonly`.
    pub(crate) only_admins_create: bool,
    /// The registry endpoints, by number.
    pub(crate) endpoints: BTreeMap<u64, Endpoint>,
    /// The address of an endpoint that Harbor can't reach.
    pub(crate) unreachable: Option<String>,
    /// The version's second number, if it isn't the usual one.
    pub(crate) minor: Option<u64>,
    /// The body of each request to create a project, successful or not.
    pub(crate) creations: Vec<Value>,
    /// Content that was pulled through proxy caches and isn't stored yet.
    pulled: Vec<proxy::Pulled>,
    /// The tags that were requested there.
    named: Vec<proxy::Named>,
    /// Manifests that were read: each counts as a pull.
    pub(crate) pulls: Vec<String>,
    /// `repository:tag` of existing tags.
    tags: HashSet<String>,
}

/// The source of a proxy cache for missing content.
#[derive(Debug, Clone)]
pub(crate) struct Endpoint {
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) url: String,
}

/// The settings of a project.
#[derive(Debug, Clone, Default)]
pub(crate) struct Project {
    pub(crate) created: u64,
    pub(crate) public: bool,
    /// The registry that it is a proxy cache of.
    pub(crate) registry_id: Option<u64>,
    /// The address of that registry, `HOST:PORT`.
    pub(crate) upstream: Option<String>,
    /// The user who created it.
    pub(crate) owner: Option<String>,
    pub(crate) storage_limit: Option<u64>,
    pub(crate) used: u64,
    /// The repositories that a proxy cache serves.
    pub(crate) filter: Option<String>,
    /// Existing tags can't be moved.
    pub(crate) immutable: bool,
    /// `prevent_vul`: no image is served, because none has been scanned yet.
    pub(crate) prevents: bool,
    /// `enable_content_trust_cosign`: unsigned images aren't served.
    pub(crate) trusts: bool,
}

impl Project {
    /// A proxy cache of the registry at `upstream`.
    pub(crate) fn proxy_of(upstream: &Name) -> Self {
        Self { registry_id: Some(1), upstream: Some(upstream.to_string()), ..Self::default() }
    }
}

/// The roles of accounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// An administrator.
    Admin,
    /// A person with all permissions on their own projects.
    User,
    /// A system robot with pull and push on all projects, which may read their settings.
    SystemRobot,
    /// A system robot with pull and push on one project.
    SystemRobotOn(&'static str),
    /// A system robot that may only pull.
    Reader,
    /// A robot of one project.
    ProjectRobot(&'static str),
}

#[derive(Debug, Clone)]
struct Account {
    secret: String,
    role: Role,
    /// Additional permissions of a robot, such as `repository: delete`, `artifact: read`, `project: create`.
    rights: Vec<&'static str>,
}

/// The permissions of an account on the images of a project.
#[derive(Debug, Clone, Copy, Default)]
struct Rights {
    pull: bool,
    push: bool,
    delete: bool,
}

/// A bearer token: the permissions of its owner when it was issued, whatever the scope.
#[derive(Debug)]
struct Token {
    pub(crate) owner: Option<String>,
    issued: u64,
    access: HashMap<String, Rights>,
}

/// The client of a request.
#[derive(Debug)]
enum Identity {
    /// Anonymous, without a header.
    None,
    /// An invalid header.
    Unknown,
    Account(String),
    Token(String),
}

impl Harbor {
    /// No projects, no accounts.
    pub(crate) async fn start() -> Self {
        let (script, state) = (Script::default(), Shared::default());
        let router = serve::router(Arc::new(state.memory.clone()), Options::default());
        let router: Router = router.layer(middleware::from_fn_with_state(state.clone(), answer));
        let server = Server::start_router(script.around(router), 0).await.expect("a free port on 127.0.0.1");
        Self { script, state, server }
    }

    /// With an account.
    pub(crate) fn account(self, name: &str, secret: &str, role: Role) -> Self {
        let account = Account { secret: secret.to_owned(), role, rights: Vec::new() };
        self.state.lock().accounts.insert(name.to_owned(), account);
        self
    }

    /// With an additional permission for a robot of that name.
    pub(crate) fn grant(self, name: &str, right: &'static str) -> Self {
        self.state.lock().accounts.get_mut(name).expect("an account").rights.push(right);
        self
    }

    /// With a project.
    pub(crate) fn project(self, name: &str, project: Project) -> Self {
        self.state.lock().projects.insert(name.to_owned(), project);
        self
    }

    /// `127.0.0.1:PORT`.
    pub(crate) fn name(&self) -> Name {
        self.server.registry()
    }

    /// A repository, accessed directly.
    pub(crate) fn inside(&self, path: &str) -> MemoryRepository {
        self.state.inside(path)
    }

    /// Stores `image` directly, bypassing all rules.
    pub(crate) async fn hold(&self, image: &Image, path: &str, tag: &str) {
        image.push(&self.inside(path), tag).await;
        self.state.lock().tags.insert(format!("{path}:{tag}"));
    }

    /// `http://127.0.0.1:PORT` and `path`.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.server.address())
    }
}

impl Shared {
    pub(crate) fn lock(&self) -> MutexGuard<'_, World> {
        self.world.lock().expect("no request panics while it holds the world")
    }

    fn inside(&self, path: &str) -> MemoryRepository {
        let inside = Options::default().registry;
        self.memory.repository(&Repository::new(inside, path).expect("a repository path"))
    }
}

impl World {
    /// Changes the secret of an account; the old one and its tokens become invalid.
    pub(crate) fn renew(&mut self, name: &str, secret: &str) {
        if let Some(account) = self.accounts.get_mut(name) {
            secret.clone_into(&mut account.secret);
        }
        self.tokens.retain(|_, token| token.owner.as_deref() != Some(name));
    }

    fn identify(&self, request: &Request) -> Identity {
        let header = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let Some(header) = header else { return Identity::None };
        if let Some(token) = header.strip_prefix("Bearer ") {
            return if self.tokens.contains_key(token) { Identity::Token(token.to_owned()) } else { Identity::Unknown };
        }
        self.signed_in(header).map_or(Identity::Unknown, Identity::Account)
    }

    /// The account of a valid Basic header.
    fn signed_in(&self, header: &str) -> Option<String> {
        let decoded = base64::engine::general_purpose::STANDARD.decode(header.strip_prefix("Basic ")?).ok()?;
        let text = String::from_utf8(decoded).ok()?;
        let (name, secret) = text.split_once(':')?;
        self.accounts.get(name).filter(|account| account.secret == secret).map(|_| name.to_owned())
    }

    fn role(&self, account: &str) -> Role {
        self.accounts[account].role
    }

    /// The permissions of an account, or of an anonymous client, on the images of an existing project.
    fn rights(&self, account: Option<&str>, project: &str) -> Rights {
        let Some(found) = self.projects.get(project) else { return Rights::default() };
        let (pull, push) = match account.map(|name| self.role(name)) {
            Some(Role::Admin | Role::SystemRobot) => (true, true),
            Some(Role::Reader) => (true, false),
            Some(Role::SystemRobotOn(own) | Role::ProjectRobot(own)) => (own == project, own == project),
            Some(Role::User) => (found.owner.as_deref() == account, found.owner.as_deref() == account),
            None => (false, false),
        };
        let delete = account.is_some_and(|name| push && self.has(name, project, "repository: delete"));
        Rights { pull: pull || found.public, push, delete }
    }

    /// Whether an account has this permission.
    fn has(&self, account: &str, project: &str, right: &str) -> bool {
        match self.role(account) {
            Role::Admin => true,
            Role::User => self.projects.get(project).is_some_and(|found| found.owner.as_deref() == Some(account)),
            _ => self.accounts[account].rights.contains(&right),
        }
    }
}

async fn answer(State(state): State<Shared>, request: Request, next: Next) -> Response {
    match request.uri().path() {
        "/service/token" => state.lock().issue(&request),
        "/api/v2.0/ping" => "Pong".into_response(),
        "/api/v2.0/systeminfo" => state.lock().system_info(&request),
        path if path.starts_with("/api/v2.0/registries") => endpoints::answer(&state, request).await,
        path if path.starts_with("/api/v2.0/projects") => api::answer(&state, request).await,
        path if path == "/v2" || path.starts_with("/v2/") => data::answer(&state, request, next).await,
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

impl World {
    /// The token service: every request with a scope gets a token, possibly without permissions.
    fn issue(&mut self, request: &Request) -> Response {
        if request.method() != "GET" {
            return StatusCode::METHOD_NOT_ALLOWED.into_response();
        }
        let owner = match self.identify(request) {
            Identity::Account(name) => Some(name),
            _ => None,
        };
        let query = url::form_urlencoded::parse(request.uri().query().unwrap_or_default().as_bytes());
        let scopes: Vec<String> = query
            .filter(|(key, _)| key == "scope")
            .flat_map(|(_, value)| value.split(' ').map(str::to_owned).collect::<Vec<_>>())
            .collect();
        if owner.is_none() && scopes.is_empty() {
            return refusal(401, "UNAUTHORIZED", "unauthorized");
        }
        let paths = scopes.iter().filter_map(|scope| scope.strip_prefix("repository:")?.rsplit_once(':'));
        let access = paths
            .map(|(path, _)| (path.to_owned(), self.rights(owner.as_deref(), project(path))))
            .collect::<HashMap<_, _>>();
        self.issued += 1;
        let text = format!("token-{}", self.issued);
        self.tokens.insert(text.clone(), Token { owner, issued: self.now, access });
        let body =
            json!({ "token": text, "access_token": "", "expires_in": 1800, "issued_at": "2026-11-25T00:00:00Z" });
        document(200, &body)
    }
}

/// Harbor's error body, the same for its API and for `/v2/`.
fn refusal(status: u16, code: &str, message: &str) -> Response {
    document(status, &json!({ "errors": [{ "code": code, "message": message }] }))
}

fn document(status: u16, body: &Value) -> Response {
    let status = StatusCode::from_u16(status).expect("a status");
    (status, [(CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}

/// A 401 with this challenge, which may be empty.
fn unauthorized(challenge: &str, message: &str) -> Response {
    let mut response = refusal(401, "UNAUTHORIZED", message);
    let challenge = HeaderValue::from_str(challenge).expect("a header value");
    response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
    response
}

/// The first segment of a path.
fn project(path: &str) -> &str {
    path.split('/').next().unwrap_or(path)
}

/// Says that numbers in a path are names.
const IS_NAME: HeaderName = HeaderName::from_static("x-is-resource-name");
