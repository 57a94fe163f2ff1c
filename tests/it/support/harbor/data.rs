//! `/v2/` of Harbor: its core in front of a distribution registry.

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::header::{AUTHORIZATION, CONTENT_LENGTH, HOST};
use axum::http::{Method, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use serde_json::Value;
use transship::oci::{Descriptor, MediaType};
use transship::store::Source as _;

use super::{Identity, Project, Shared, World, project, proxy, refusal, unauthorized};
use crate::support::images;

/// A token older than a project by this many seconds is refused.
const LEEWAY: u64 = 60;
const LARGEST_MANIFEST: usize = 4 << 20;

/// The object of a request.
pub(super) struct Asked {
    pub(super) repository: String,
    /// The reference after `/manifests/`.
    pub(super) manifest: Option<String>,
    /// The digest after `/blobs/`.
    pub(super) blob: Option<String>,
    writes: bool,
    /// An upload is cancelled.
    deletes: bool,
    mount: Option<String>,
    from: Option<String>,
    size: u64,
}

pub(super) async fn answer(state: &Shared, mut request: Request, next: Next) -> Response {
    let mut asked = Asked::read(&request);
    if let Some(asked) = &mut asked {
        asked.size += size_of_mount(state, asked).await;
    }
    let refused = match &asked {
        None => state.lock().refuse_base(&request),
        Some(asked) => state.lock().refuse(&request, asked),
    };
    if let Some(refused) = refused {
        // Read to its end, so that the client isn't cut off while it sends.
        let _ = to_bytes(request.into_body(), usize::MAX).await;
        return refused;
    }
    let Some(asked) = asked else { return next.run(request).await };
    let upstream = state.lock().projects[project(&asked.repository)].upstream.clone();
    if let Some(upstream) = upstream {
        return proxy::answer(state, &upstream, request, &asked, next).await;
    }
    if request.method() == Method::POST && !request.uri().query().unwrap_or_default().contains("mount=") {
        // Its distribution 2.8 doesn't support the monolithic POST.
        *request.uri_mut() = request.uri().path().parse::<Uri>().expect("the path of a URI");
    }
    if asked.writes && asked.manifest.is_some() {
        let (head, body) = request.into_parts();
        let body = to_bytes(body, usize::MAX).await.unwrap_or_default();
        if body.len() > LARGEST_MANIFEST {
            return refusal(413, "REQUEST_ENTITY_TOO_LARGE", "the manifest is too large");
        }
        if !has_readable_config(state, &asked.repository, &body).await {
            return refusal(500, "UNKNOWN", "unknown: invalid character '\\x00' looking for beginning of value");
        }
        request = Request::from_parts(head, Body::from(body));
    }
    let is_head = request.method() == Method::HEAD;
    let response = next.run(request).await;
    let mut world = state.lock();
    if response.status().is_success() && !asked.writes && asked.manifest.is_some() {
        return world.withhold(&asked, &response, is_head).unwrap_or(response);
    }
    if let Some(project) = world.projects.get_mut(project(&asked.repository)).filter(|_| asked.writes) {
        // The reserved bytes.
        let is_spent = response.status().is_success() && (asked.mount.is_none() || response.status() == 201);
        project.used -= if is_spent { 0 } else { asked.size };
    }
    if let Some(tag) = asked.manifest.filter(|name| asked.writes && !name.contains(':'))
        && response.status().is_success()
    {
        world.tags.insert(format!("{}:{tag}", asked.repository));
    }
    response
}

/// The bytes that a mount adds to a project: none if it has the blob.
async fn size_of_mount(state: &Shared, asked: &Asked) -> u64 {
    let (Some(mount), Some(from)) = (&asked.mount, &asked.from) else { return 0 };
    let Ok(digest) = mount.parse() else { return 0 };
    if project(from) == project(&asked.repository) {
        return 0;
    }
    state.inside(from).blob_size(&digest).await.ok().flatten().unwrap_or_default()
}

/// Harbor parses the config of an image.
async fn has_readable_config(state: &Shared, repository: &str, manifest: &[u8]) -> bool {
    let manifest: Value = serde_json::from_slice(manifest).unwrap_or_default();
    let config = &manifest["config"];
    if config["mediaType"] != MediaType::OCI_CONFIG {
        return true;
    }
    let Ok(config) = serde_json::from_value::<Descriptor>(config.clone()) else { return true };
    let bytes = images::read(state.inside(repository).blob(&config, 0).await).await;
    bytes.is_ok_and(|bytes| serde_json::from_slice::<Value>(&bytes).is_ok())
}

impl Asked {
    /// `None` for the base.
    fn read(request: &Request) -> Option<Self> {
        let path = request.uri().path().trim_start_matches("/v2").trim_start_matches('/');
        let ends = ["/manifests/", "/blobs/", "/tags/", "/referrers/"];
        let (at, end) = ends.iter().filter_map(|end| Some((path.rfind(end)?, *end))).max()?;
        let query = url::form_urlencoded::parse(request.uri().query().unwrap_or_default().as_bytes());
        let value = |name| query.clone().find(|(key, _)| key == name).map(|(_, value)| value.into_owned());
        let length = request.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        Some(Self {
            repository: path[..at].to_owned(),
            manifest: (end == "/manifests/").then(|| path[at + end.len()..].to_owned()),
            blob: (end == "/blobs/").then(|| path[at + end.len()..].to_owned()),
            writes: !request.method().is_safe(),
            deletes: request.method() == Method::DELETE,
            mount: value("mount"),
            from: value("from"),
            size: length.unwrap_or_default(),
        })
    }
}

impl World {
    fn refuse_base(&self, request: &Request) -> Option<Response> {
        let known = match self.identify(request) {
            Identity::Account(_) => true,
            Identity::Token(token) => self.tokens[&token].owner.is_some(),
            Identity::None | Identity::Unknown => false,
        };
        (!known).then(|| unauthorized(&challenge(request), "unauthorized"))
    }

    fn refuse(&mut self, request: &Request, asked: &Asked) -> Option<Response> {
        let name = &asked.repository;
        let reads_manifest = request.method() == Method::GET && asked.manifest.is_some();
        if !name.contains('/') {
            return Some(refusal(400, "BAD_REQUEST", &format!("invalid repository name: {name}")));
        }
        let wanted = match (asked.deletes, asked.writes) {
            (true, _) => "delete",
            (false, true) => "push",
            (false, false) => "pull",
        };
        if let Some(refused) = self.refuse_access(request, name, wanted) {
            return Some(refused);
        }
        if let Some(from) = &asked.from {
            if !from.contains('/') {
                return Some(refusal(400, "BAD_REQUEST", &format!("invalid repository name: {from}")));
            }
            if let Some(refused) = self.refuse_access(request, from, "pull") {
                return Some(refused);
            }
        }
        if reads_manifest {
            self.pulls.push(request.uri().path().to_owned());
        }
        let project = &self.projects[super::project(name)];
        if !asked.writes {
            return None;
        }
        if self.read_only {
            let message = "The system is in read only mode. Any modification is prohibited.";
            return Some(refusal(403, "DENIED", message));
        }
        if project.registry_id.is_some() {
            let message = format!("can not push artifact to a proxy project: {}", super::project(name));
            return Some(refusal(403, "DENIED", &message));
        }
        if project.storage_limit.is_some_and(|limit| project.used + asked.size > limit) {
            let message = "adding 3.0 MiB of storage resource, which when updated to current usage of 1.0 GiB will exceed \
                the configured upper limit of 1.0 GiB.";
            return Some(refusal(403, "DENIED", message));
        }
        if let Some(tag) = &asked.manifest
            && project.immutable
            && self.tags.contains(&format!("{name}:{tag}"))
        {
            let message = format!("Failed to process request due to '{name}:{tag}' configured as immutable.");
            return Some(refusal(412, "PRECONDITION", &message));
        }
        self.projects.get_mut(super::project(name)).expect("it exists").used += asked.size;
        None
    }

    /// The refusal of an existing manifest by a policy; a HEAD gets it without a reason.
    fn withhold(&self, asked: &Asked, response: &Response, is_head: bool) -> Option<Response> {
        let project = &self.projects[project(&asked.repository)];
        let name = asked.manifest.as_deref().unwrap_or_default();
        let digest = response.headers().get("docker-content-digest").and_then(|value| value.to_str().ok());
        let signature = format!("{}:{}.sig", asked.repository, digest.unwrap_or_default().replace(':', "-"));
        let is_trusted = name.ends_with(".sig") || self.tags.contains(&signature);
        let message = match project {
            Project { prevents: true, .. } if !name.ends_with(".sig") => {
                "current image without vulnerability scanning cannot be pulled due to configured policy in 'Prevent \
                 images with vulnerability severity of \"Low\" or higher from running.'"
            }
            Project { trusts: true, .. } if !is_trusted => "The image is not signed by cosign.",
            _ => return None,
        };
        match is_head {
            true => Some(StatusCode::PRECONDITION_FAILED.into_response()),
            false => Some(refusal(412, "PROJECTPOLICYVIOLATION", message)),
        }
    }

    /// The order is Harbor's: a HEAD without header, a missing project, then rights.
    fn refuse_access(&self, request: &Request, name: &str, action: &str) -> Option<Response> {
        let identity = self.identify(request);
        if matches!(identity, Identity::None) && request.method().is_safe() {
            return Some(unauthorized(&challenge(request), "authorize header needed to send HEAD to repository"));
        }
        let project = project(name);
        let Some(found) = self.projects.get(project) else {
            return Some(unauthorized("", &format!("project {project} not found: project {project} not found")));
        };
        let rights = match &identity {
            Identity::Account(account) => self.rights(Some(account), project),
            Identity::Token(token) => {
                let token = &self.tokens[token];
                let too_old = token.issued + LEEWAY < found.created;
                token.access.get(name).copied().filter(|_| !too_old).unwrap_or_default()
            }
            Identity::None | Identity::Unknown => self.rights(None, project),
        };
        let may = match action {
            "pull" => rights.pull,
            "push" => rights.push,
            _ => rights.delete,
        };
        let message = format!("unauthorized to access repository: {name}, action: {action}");
        (!may).then(|| unauthorized(&challenge(request), &format!("{message}: {message}")))
    }
}

/// A request with credentials gets another challenge than one without.
fn challenge(request: &Request) -> String {
    if request.headers().contains_key(AUTHORIZATION) {
        return r#"Basic realm="harbor""#.to_owned();
    }
    let host = request.headers().get(HOST).and_then(|value| value.to_str().ok()).unwrap_or_default();
    format!(r#"Bearer realm="http://{host}/service/token",service="harbor-registry""#)
}
