//! Peculiarities of Harbor: how it is recognised, and its 401s. Inside: its projects (`project`), its registry
//! endpoints (`endpoint`), its policies (`policy`), its proxy caches (`proxy`), and the reach of its tokens
//! (`tokens`).
//!
//! Its challenge identifies it by the service `harbor-registry`, so that no other registry ever gets additional
//! requests. Its API takes the credentials themselves. Its token service rejects a wrong password only in a request
//! without scopes, and otherwise issues a useless token; so a request without scopes is sent first, once. A 401
//! from the registry can mean three things: the project doesn't exist (the challenge is empty), a permission is
//! missing, or the password has changed.

mod endpoint;
mod policy;
mod project;
mod proxy;
pub(crate) mod tokens;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use http::header::WWW_AUTHENTICATE;
use tokio::sync::OnceCell;

use crate::error::{Error, Kind, Result};
use crate::registry::Host;
use crate::registry::action::Action;
use crate::registry::answer::Answer;
use crate::registry::request::Request;

pub(crate) use self::endpoint::{Caching, Endpoint, FILTER};
pub(crate) use self::project::Project;
use self::project::SystemInfo;

/// The `service` of every Harbor.
pub(crate) const SERVICE: &str = "harbor-registry";

const NO_PROJECT: &str = "create the project in Harbor, or let `transship` create it: don't set `create: false`, and \
    give the account permission (see registries: in mirror.yaml)";

const NO_SUCH_SOURCE: &str = "check the spelling of the project, the first segment of the repository's path";

const NO_RIGHT: &str = "the account has no permission on this project: a system robot needs both pull and push of \
    repository on it or on all projects, a user needs the role of a developer";

const WRONG_PASSWORD: &str = "check user name and password: write a robot's full name, with its prefix (robot$ \
    unless Harbor's administrator has changed it), the robot may be disabled, or its secret expired or renewed";

const UNREADABLE_CONFIG: &str = "Harbor failed on this manifest alone: see the log of its core. Check that the \
    image's config is JSON: Harbor rejects an image whose config it can't parse";

/// What a run has learnt about one Harbor.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    projects: Mutex<HashMap<String, Arc<OnceCell<Result<Project>>>>>,
    info: OnceCell<SystemInfo>,
    /// Whether the account may read the artifacts of projects.
    artifacts: Mutex<HashMap<String, Arc<OnceCell<bool>>>>,
    /// Whether projects store the content that they return.
    holding: Mutex<HashMap<String, Arc<OnceCell<Result<()>>>>>,
    /// Projects for which the warning about hidden referrers was given.
    told: Mutex<HashSet<String>>,
    /// Projects that this run has created.
    created: Mutex<HashSet<String>>,
}

impl Facts {
    fn project(&self, name: &str) -> Arc<OnceCell<Result<Project>>> {
        let mut projects = self.projects.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(projects.entry(name.to_owned()).or_default())
    }

    fn holding(&self, name: &str) -> Arc<OnceCell<Result<()>>> {
        let mut holding = self.holding.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(holding.entry(name.to_owned()).or_default())
    }

    /// Records a warning about `project`. Returns whether it is the first one.
    fn is_first_warning(&self, project: &str) -> bool {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).insert(project.to_owned())
    }

    fn artifacts(&self, name: &str) -> Arc<OnceCell<bool>> {
        let mut artifacts = self.artifacts.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(artifacts.entry(name.to_owned()).or_default())
    }

    fn created(&self, project: &str, state: Project) {
        let there = Arc::new(OnceCell::new_with(Some(Ok(state))));
        self.projects.lock().unwrap_or_else(PoisonError::into_inner).insert(project.to_owned(), there);
        self.created.lock().unwrap_or_else(PoisonError::into_inner).insert(project.to_owned());
    }

    fn has_created(&self, project: &str) -> bool {
        self.created.lock().unwrap_or_else(PoisonError::into_inner).contains(project)
    }
}

impl Host {
    /// Whether it is a Harbor: by its settings, or by its answers so far.
    pub(crate) fn is_harbor(&self) -> bool {
        self.set_as_harbor || self.auth.is_challenged_by(SERVICE)
    }

    /// The error for a 401 that means a missing project; `None` for other answers.
    pub(crate) fn missing_project(&self, request: &Request, answer: &Answer) -> Option<Error> {
        let of_registry = !request.action.is_about_project() && request.action != Action::Ping;
        if answer.status.as_u16() != 401 || answer.foreign || !of_registry || !self.is_harbor() {
            return None;
        }
        let challenged = answer.headers.get_all(WWW_AUTHENTICATE).iter().any(|value| !value.is_empty());
        let project = project(&request.repository);
        (!challenged).then(|| {
            let error = request.error(Kind::NotFound, format!("project {project} doesn't exist"));
            let hint = if request.action.traits().writes { NO_PROJECT } else { NO_SUCH_SOURCE };
            error.with_status(answer.status.as_u16()).with_hint(hint)
        })
    }

    /// `error`, a refusal, with what Harbor leaves open: whether the password is wrong or a permission is missing.
    /// One more request determines that, and a wrong password isn't sent again afterwards.
    pub(crate) async fn explain_unauthorized(&self, request: &Request, error: Error) -> Error {
        if !self.is_harbor() {
            return error;
        }
        if request.action.is_about_project() || request.action == Action::Ping {
            return self.about_account(error);
        }
        let status = error.status().unwrap_or(401);
        let why = error.why().to_owned();
        match Box::pin(self.log_in(&request.repository)).await {
            Ok(_) => request.error(Kind::Denied, why).with_status(status).with_hint(self.missing_right(request)),
            Err(probed) if probed.kind() == Kind::Unauthorized => {
                let why = "Harbor doesn't accept the user name or the password";
                self.about_account(request.error(Kind::Unauthorized, why).with_status(status)).about_login()
            }
            Err(_) => error,
        }
    }

    fn missing_right(&self, request: &Request) -> String {
        let project = project(&request.repository);
        if !self.harbor.has_created(project) {
            return NO_RIGHT.to_owned();
        }
        format!(
            "project {project} was created just now, is empty, and the account may not push to it: give it pull and \
             push of repository there or on all projects; if the name is wrong, correct target: or to: and delete the \
             project"
        )
    }

    /// `error`, an answer to `request`, with Harbor's meaning of it.
    pub(crate) fn explain(&self, request: &Request, error: Error) -> Error {
        if request.action == Action::PushManifest && error.status() == Some(500) && self.is_harbor() {
            return error.with_hint(UNREADABLE_CONFIG);
        }
        self.explain_policy(request, error)
    }

    /// `error`, from signing in, with advice about Harbor accounts.
    pub(crate) fn about_account(&self, error: Error) -> Error {
        let is_refused = error.kind() == Kind::Unauthorized && self.is_harbor();
        if is_refused { error.with_hint(WRONG_PASSWORD) } else { error }
    }
}

/// The project of a repository: the first segment of its path.
pub(crate) fn project(path: &str) -> &str {
    path.split('/').next().unwrap_or(path)
}
