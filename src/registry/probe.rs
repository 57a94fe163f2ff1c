//! Checks a host without naming anything in it: whether it answers, and whether it accepts the credentials.
//!
//! Only `check` does this; no other run pings. The credentials are tried as `docker login` tries them, with `GET
//! /v2/` and a token without a scope. With a scope, Harbor and others answer a wrong password with an anonymous
//! token, and a public repository accepts any password.

use http::header::WWW_AUTHENTICATE;

use crate::error::Result;
use crate::oci::Repository;
use crate::registry::Host;
use crate::registry::action::Action;
use crate::registry::auth::credentials::Credential;
use crate::registry::request::Request;

/// The result of a login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Login {
    /// There are no credentials for the host.
    Anonymous,
    /// The credentials are accepted.
    Accepted,
    /// The host asks for no credentials, or not yet: the existing ones weren't tried.
    Unasked,
}

/// The result for one of a host's credentials, or for anonymous access.
#[derive(Debug)]
pub(crate) struct Probe {
    /// The first of the repositories that use it.
    pub(crate) repository: Repository,
    pub(crate) login: Result<Login>,
    /// The user, and the source of the credentials, if known.
    pub(crate) account: Option<String>,
}

impl Host {
    /// Checks anonymously whether it answers, over TLS if that is configured.
    ///
    /// # Errors
    /// `Unavailable`, `Configuration` for a certificate that isn't trusted, `Invalid` for a web page.
    pub(crate) async fn probe_connection(&self) -> Result<()> {
        let request = self.ping("connect to", "")?;
        let mut tries = self.backoff().tries();
        loop {
            let answer = self.transport.exchange(&request, None).await;
            if let Ok(answer) = &answer
                && let Some(error) = self.tls_expected(&request, answer)
            {
                return Err(error);
            }
            let error = match answer {
                // A proxy that wants a password answers with a web page, too.
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

    /// Tries the credentials for `repositories` of this host, each once.
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
                // If credentials can't be read for one repository, neither can they for the others.
                Err(_) if unreadable => continue,
                Err(error) => {
                    unreadable = true;
                    Err(error)
                }
            };
            let account = self.auth.account_name(repository.path()).await.ok().flatten();
            probes.push(Probe { repository: repository.clone(), login, account });
        }
        probes
    }

    /// Tries the credentials for the repository `path`: one request, and possibly one for a token.
    pub(super) async fn log_in(&self, path: &str) -> Result<Login> {
        self.send(&self.ping("log in to", path)?).await?;
        Ok(if self.auth.wants_credentials() { Login::Accepted } else { Login::Unasked })
    }

    /// `GET /v2/`, with the credentials for `path`.
    fn ping(&self, verb: &str, path: &str) -> Result<Request> {
        self.own_request(Action::Ping, format!("{verb} {}", self.registry), "v2/", path)
    }
}
