//! What a Harbor does in its own way: how it is told from others, its projects, and its 401s.
//!
//! It tells by its challenge, the service `harbor-registry`, so that no other registry is ever asked for anything more.
//! Its API takes the credentials themselves. Its token service refuses a wrong password only to who asks for nothing in
//! particular, and gives everybody else a token of no use: so that is asked first, once. A 401 from the registry can mean
//! three things: no such project (the challenge is empty), no right, or a password that was good before.

use bytes::Bytes;
use reqwest::header::{CONTENT_TYPE, HeaderName, HeaderValue, WWW_AUTHENTICATE};
use serde_json::Value;

use super::Host;
use super::action::{Action, Request};
use super::answer::Answer;
use crate::error::{Error, Kind, Result};
use crate::oci::Repository;

/// What every Harbor names as `service`.
pub(super) const SERVICE: &str = "harbor-registry";

const NO_PROJECT: &str = "create the project at Harbor, or have it created: `create: false` forbids it, and the account \
    needs the right to (see registries: in mirror.yaml)";

const NO_RIGHT: &str = "the account lacks the right on this project: a system robot needs both pull and push of repository \
    on it or on all projects, a user the role of a developer";

const WRONG_PASSWORD: &str = "check user name and password: a robot's name begins with robot$ and is written as it is, \
    and its secret may have expired or been renewed";

impl Host {
    /// Whether it is a Harbor: by its settings, or by what it has said so far.
    pub(crate) fn is_harbor(&self) -> bool {
        self.set_as_harbor || self.auth.is_challenged_by(SERVICE)
    }

    /// Doesn't use a token of before again. Harbor takes none that is older than the project it is for.
    pub(crate) fn forget_tokens(&self) {
        self.auth.give_up_all();
    }

    /// A request about the project that `repository` belongs to, to `path` below the API.
    ///
    /// # Errors
    /// `Invalid` if that makes no URL.
    pub(crate) fn project_request(&self, action: Action, repository: &Repository, path: &str) -> Result<Request> {
        let (verb, preposition) = action.traits().words;
        let project = project(repository.path());
        let attempted = format!("{verb} project {project} {preposition} {}", repository.registry());
        let mut request = self.own_request(action, attempted, &format!("api/v2.0/{path}"), repository.path())?;
        // Else a project called 12 is taken for the one with that number.
        request.headers.insert(HeaderName::from_static("x-is-resource-name"), HeaderValue::from_static("true"));
        Ok(request)
    }

    /// The request to create that project: `settings` is Harbor's `ProjectReq`.
    ///
    /// # Errors
    /// As [`Host::project_request`].
    pub(crate) fn creation_request(&self, repository: &Repository, settings: &Value) -> Result<Request> {
        let mut request = self.project_request(Action::CreateProject, repository, "projects")?;
        request.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        request.body = Bytes::from(settings.to_string());
        Ok(request)
    }

    /// The error for a 401 that is about the project, and not about who asks.
    pub(super) fn lacks_project(&self, request: &Request, answer: &Answer) -> Option<Error> {
        let of_registry = !request.action.is_about_project() && request.action != Action::Ping;
        if answer.status.as_u16() != 401 || answer.foreign || !of_registry || !self.is_harbor() {
            return None;
        }
        let challenged = answer.headers.get_all(WWW_AUTHENTICATE).iter().any(|value| !value.is_empty());
        let project = project(&request.repository);
        (!challenged).then(|| {
            let error = request.error(Kind::NotFound, format!("there is no project {project}"));
            error.with_status(answer.status.as_u16()).with_hint(NO_PROJECT)
        })
    }

    /// `error`, a refusal, with what a Harbor leaves open: whether the password is wrong or a right is missing. One more
    /// request finds out, and a wrong password isn't sent again afterwards.
    pub(super) async fn who_is_wrong(&self, request: &Request, error: Error) -> Error {
        if !self.is_harbor() {
            return error;
        }
        if request.action.is_about_project() || request.action == Action::Ping {
            return self.about_account(error);
        }
        let status = error.status().unwrap_or(401);
        let why = error.why().to_owned();
        match Box::pin(self.log_in(&request.repository)).await {
            Ok(_) => request.error(Kind::Denied, why).with_status(status).with_hint(NO_RIGHT),
            Err(probed) if probed.kind() == Kind::Unauthorized => {
                let why = "Harbor doesn't accept the user name or the password";
                self.about_account(request.error(Kind::Unauthorized, why).with_status(status))
            }
            Err(_) => error,
        }
    }

    /// `error`, from signing in, with what is special to the accounts of a Harbor.
    pub(super) fn about_account(&self, error: Error) -> Error {
        let is_refused = error.kind() == Kind::Unauthorized && self.is_harbor();
        if is_refused { error.with_hint(WRONG_PASSWORD) } else { error }
    }
}

/// The first segment.
fn project(path: &str) -> &str {
    path.split('/').next().unwrap_or(path)
}
