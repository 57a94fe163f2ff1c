//! What can be proved about a host without naming anything in it: that it answers, and that it takes the credentials.
//!
//! For `check` alone: no other run pings. The credentials are tried as `docker login` tries them, with `GET /v2/` and a
//! token without scope: asked with a scope, Harbor and others answer a wrong password with a token for nobody, and a
//! repository that is open to all takes any.

use reqwest::header::WWW_AUTHENTICATE;

use crate::error::Result;
use crate::oci::Repository;
use crate::registry::Host;
use crate::registry::action::{Action, Request};
use crate::registry::auth::credentials::Credential;

/// Whom a host takes us for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Login {
    /// Nobody: there are no credentials for it.
    Anonymous,
    /// The owner of the credentials.
    Accepted,
    /// It wants no credentials, or none yet: those that there are have not been tried.
    Unasked,
}

/// What came of one of a host's credentials, or of having none.
#[derive(Debug)]
pub(crate) struct Probe {
    /// The first of the repositories whose requests go with it.
    pub(crate) repository: Repository,
    pub(crate) login: Result<Login>,
    /// As whom, and from where that is known.
    pub(crate) whom: Option<String>,
}

impl Host {
    /// Whether it answers at all, and over TLS where that is asked for; as nobody.
    ///
    /// # Errors
    /// `Unavailable`, `Configuration` for a certificate that isn't trusted, `Invalid` for a web page.
    pub(crate) async fn probe_connection(&self) -> Result<()> {
        let request = self.ping("connect to", "")?;
        let mut tries = self.backoff().tries();
        loop {
            let answer = self.transport.exchange(&request, None).await;
            if let Ok(answer) = &answer
                && let Some(error) = self.wants_tls(&request, answer)
            {
                return Err(error);
            }
            let error = match answer {
                // A proxy in front that wants a password says so on a page of its own.
                Ok(answer) if answer.is_web_page() && !answer.headers.contains_key(WWW_AUTHENTICATE) => {
                    answer.unreadable(&request, "")
                }
                Ok(answer) if answer.status.is_server_error() || answer.status.as_u16() == 429 => {
                    answer.failure(&request)
                }
                // A refusal is an answer, too.
                Ok(answer) => {
                    self.auth.learn(&answer);
                    return Ok(());
                }
                Err(error) => error,
            };
            tries.again(error).await?;
        }
    }

    /// Tries the credentials that requests about `repositories` of this host go with, each once.
    pub(crate) async fn probe_logins(&self, repositories: &[Repository]) -> Vec<Probe> {
        let mut known: Vec<Option<Credential>> = Vec::new();
        let mut unreadable = false;
        let mut probes: Vec<Probe> = Vec::new();
        for repository in repositories {
            let login = match self.auth.credential(repository.path()).await {
                Ok(credential) if known.contains(&credential) => continue,
                Ok(credential) => {
                    known.push(credential.clone());
                    match credential {
                        Some(_) => self.log_in(repository.path()).await,
                        None => Ok(Login::Anonymous),
                    }
                }
                // What can't be read for one can't be read for the others.
                Err(_) if unreadable => continue,
                Err(error) => {
                    unreadable = true;
                    Err(error)
                }
            };
            let whom = self.auth.whom(repository.path()).await.ok().flatten();
            probes.push(Probe { repository: repository.clone(), login, whom });
        }
        probes
    }

    /// Tries the credentials that requests about the repository `path` go with; one request, but for a token.
    pub(super) async fn log_in(&self, path: &str) -> Result<Login> {
        self.send(&self.ping("log in to", path)?).await?;
        Ok(if self.auth.wants_credentials() { Login::Accepted } else { Login::Unasked })
    }

    /// `GET /v2/`, with the credentials that are for `path`.
    fn ping(&self, verb: &str, path: &str) -> Result<Request> {
        self.own_request(Action::Ping, format!("{verb} {}", self.registry), "v2/", path)
    }
}
