//! Fetches tokens, and the challenge of a host that sent none.

use tokio::time::Instant;
use url::Url;

use super::{Auth, Scopes};
use crate::error::{Error, Kind, Result};
use crate::registry::action::Action;
use crate::registry::admission::gate::Pass;
use crate::registry::answer::Answer;
use crate::registry::auth::challenge::{self, Challenge};
use crate::registry::auth::credentials::Credential;
use crate::registry::auth::token::{self, Token};
use crate::registry::request::Request;
use crate::registry::services::harbor;

impl Auth {
    /// The challenge of `/v2/`. If the request fails, the next caller repeats it.
    pub(super) async fn challenge_at_base(&self, of: &Request) -> Option<Challenge> {
        let ask = || async {
            let attempted = format!("log in to {}", self.credentials.registry);
            let url = self.transport.home.below("v2/");
            let url = url.map_err(|e| Error::new(Kind::Invalid, &attempted, e.to_string()))?;
            let (repository, limit) = (of.repository.clone(), (1 << 20, "an answer"));
            let request = Request { repository, limit, waits: of.waits, ..Request::new(Action::Ping, attempted, url) };
            let answer = self.transport.exchange(&request, None).await?;
            Ok::<_, Error>(challenge::read(&answer.headers).filter(|_| !answer.foreign))
        };
        self.at_base.get_or_try_init(ask).await.cloned().unwrap_or_default()
    }

    /// Whether a token may be requested from `realm`. Sends nothing.
    pub(super) fn may_ask(&self, path: &str, realm: &str) -> bool {
        self.realm(path, realm).is_ok_and(|url| self.transport.home.check(&url).is_ok())
    }

    /// A token of `scopes` from `realm`, for the repository at `path`. `waits`: wait while the token service is in
    /// trouble.
    pub(super) async fn fetch(
        &self,
        path: &str,
        (realm, service): (&str, Option<&str>),
        scopes: &Scopes,
        waits: bool,
    ) -> Result<Token> {
        let registry = self.credentials.registry.as_str();
        let realm = self.realm(path, realm)?;
        let mut rotated = false;
        loop {
            let credential = self.credentials.get(path).await?;
            let ask_for = |scopes: &Scopes| Request {
                waits,
                ..token::request((registry, path), &realm, service, scopes, credential.as_ref())
            };
            let mut request = ask_for(scopes);
            let pass = match &credential {
                Some(credential) => self.try_login(&request, credential).await?,
                None => None,
            };
            // Harbor rejects a wrong password only in a request without scopes.
            let only_tries = pass.is_some() && service == Some(harbor::SERVICE) && !scopes.is_empty();
            if only_tries {
                request = ask_for(&Scopes::default());
            }
            let sent = Instant::now();
            let header = credential.as_ref().and_then(token::direct);
            let answer = self.transport.exchange(&request, header).await?;
            if !token::refuses(&answer, credential.as_ref()) {
                let answer = answer.check(&request)?;
                if let Some(pass) = pass {
                    pass.open();
                }
                if !only_tries {
                    return token::read(&request, &answer, sent);
                }
                continue;
            }
            let Some(credential) = &credential else { return Err(anonymous(&request, &answer)) };
            if !rotated && self.credentials.reread(path, credential).await? {
                rotated = true;
                continue;
            }
            let bare = ask_for(&Scopes::default());
            return Err(self.token_refused((&request, bare), answer, credential, pass).await);
        }
    }

    /// The error if `credential` gets no token, and whether it applies to all requests with it. If the answer
    /// doesn't distinguish login and scopes, and the login hasn't been accepted before, the `bare` request without
    /// scopes decides.
    async fn token_refused(
        &self,
        (request, bare): (&Request, Request),
        answer: Answer,
        credential: &Credential,
        pass: Option<Pass>,
    ) -> Error {
        let is_scoped = !request.scopes.is_empty();
        // It was accepted before, so it isn't wrong now.
        if pass.is_none() && is_scoped {
            return lacks_right(request, &answer);
        }
        let mut wrong = answer;
        if is_scoped && token::may_mean_scope(&wrong) {
            let answer = match self.transport.exchange(&bare, token::direct(credential)).await {
                Ok(answer) => answer,
                Err(error) => return error,
            };
            if !token::refuses(&answer, Some(credential)) {
                if let Some(pass) = pass.filter(|_| answer.status.is_success()) {
                    pass.open();
                }
                return lacks_right(request, &wrong);
            }
            wrong = answer;
        }
        self.is_wrong(credential, &wrong);
        if let Some(pass) = pass {
            pass.open();
        }
        request.error(Kind::Unauthorized, wrong.message()).with_status(wrong.status.as_u16()).about_login()
    }

    /// The URL of the token service.
    fn realm(&self, path: &str, realm: &str) -> Result<Url> {
        let home = &self.transport.home;
        let url = if realm.starts_with('/') { home.base.join(realm) } else { Url::parse(realm) };
        url.map(|url| home.settle_realm(url)).map_err(|e| {
            let attempted = format!("get a token for {}/{path}", self.credentials.registry);
            Error::new(Kind::Invalid, attempted, format!("its token realm `{}` isn't a URL: {e}", realm.escape_debug()))
        })
    }
}

/// The error if an anonymous client gets no token. A 403 may mean that the repository doesn't exist.
fn anonymous(request: &Request, answer: &Answer) -> Error {
    let error = request.error(Kind::Unauthorized, answer.message()).with_status(answer.status.as_u16());
    if answer.status == 401 { error } else { error.with_hint(ANONYMOUS) }
}

/// The error if a valid login gets no token for these scopes.
fn lacks_right(request: &Request, answer: &Answer) -> Error {
    request.error(Kind::Denied, answer.message()).with_status(answer.status.as_u16())
}

/// Without a login, missing permissions aren't the reason.
pub(crate) const ANONYMOUS: &str = "without a login, a private repository and one that doesn't exist look the same: check the \
    spelling, or log in (set username and password under registries: in mirror.yaml, or use docker login)";
