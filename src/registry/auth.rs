//! Authentication at a host: none, credentials with each request, or a bearer token.
//!
//! There is no ping: the first request is sent alone and without credentials, and its 401 names the scheme that the
//! host expects. Later challenges never change the scheme (a Harbor that rejects a token names another one). `/v2/` is
//! requested, once, only if credentials exist and a refusal has no challenge: some registries hide their content from
//! anonymous clients. Tokens are cached by exact scope set and fetched once for all waiting
//! requests. A credential is tried by one request until it is accepted; if it is refused, all requests share that
//! refusal. Once it was accepted, a refusal means a missing permission rather than a wrong login.

mod authorization;
pub(super) mod challenge;
pub(super) mod credentials;
pub(super) mod docker;
mod fetch;
pub(super) mod scopes;
mod token;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::StatusCode;
use http::header::HeaderValue;
use tokio::sync::OnceCell;
use tokio::time::Instant;

use self::authorization::{Authorization, Basis};
use self::challenge::Challenge;
use self::credentials::{Credential, Credentials};
use self::token::Token;
use crate::error::{Error, Kind, Result};
use crate::once::OnceMap;
use crate::registry::admission::gate::{Gate, Pass};
use crate::registry::admission::pulls::Account;
use crate::registry::answer::Answer;
use crate::registry::request::Request;
use crate::registry::services::harbor;
use crate::registry::services::harbor::tokens::Reach;
use crate::registry::transport::Transport;

pub(crate) use self::authorization::Unauthorized;
pub(crate) use self::fetch::ANONYMOUS;
pub(crate) use self::scopes::Scopes;

/// The authentication at one host.
#[derive(Debug)]
pub(crate) struct Auth {
    transport: Arc<Transport>,
    credentials: Credentials,
    /// Lets one request at a time through until the first answer.
    first: Gate,
    challenge: Mutex<Option<Challenge>>,
    /// The challenge of `/v2/`, if that was asked.
    at_base: OnceCell<Option<Challenge>>,
    logins: Mutex<HashMap<Credential, Login>>,
    tokens: OnceMap<TokenKey, Result<Token>>,
    generations: Mutex<Generations>,
    /// For a Harbor.
    reach: Reach,
}

/// The scopes of a token, its generation, and whether its request waits while the service is in trouble. A request
/// that waits doesn't share the failure of one that doesn't.
type TokenKey = (Scopes, u64, bool);

/// The current generations of tokens.
#[derive(Debug, Default)]
struct Generations {
    /// How often all tokens were discarded.
    all: u64,
    /// How often the token of a scope set was discarded.
    own: HashMap<Scopes, u64>,
}

impl Generations {
    fn current(&self, scopes: &Scopes) -> u64 {
        self.all + self.own.get(scopes).copied().unwrap_or_default()
    }
}

/// What is known about a credential.
#[derive(Debug, Default, Clone)]
struct Login {
    gate: Gate,
    refused: Arc<Mutex<Option<Refusal>>>,
}

/// The refusal of a login.
#[derive(Debug, Clone)]
struct Refusal {
    message: String,
    status: u16,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Auth {
    pub(crate) fn new(transport: Arc<Transport>, credentials: Credentials) -> Self {
        Self {
            transport,
            credentials,
            first: Gate::default(),
            challenge: Mutex::default(),
            at_base: OnceCell::new(),
            logins: Mutex::default(),
            tokens: OnceMap::default(),
            generations: Mutex::default(),
            reach: Reach::default(),
        }
    }

    /// The authorization for `request`.
    ///
    /// # Errors
    /// If credentials can't be read, are known to be refused, or no token is issued for them.
    pub(crate) async fn authorize(self: &Arc<Self>, request: &Request) -> Result<Authorization> {
        if self.credentials.has_ready_token() || request.action.is_about_project() {
            return self.direct(request).await;
        }
        let mut pass = None;
        if self.known().is_none() {
            pass = self.first.enter_unless(self.transport.in_trouble()).await;
        }
        match self.known() {
            None => Ok(Authorization { header: None, basis: Basis::Unknown, pass }),
            Some(Challenge::Basic) => self.direct(request).await,
            Some(Challenge::Bearer { realm, service }) => self.bearer(request, realm, service).await,
        }
    }

    /// The account that pulls of the repository at `path` count for, as far as the host has asked for credentials.
    pub(crate) async fn account(&self, path: &str) -> Account {
        if self.known().is_none() && !self.credentials.has_ready_token() {
            return Account::Anonymous;
        }
        // The request itself reports an unreadable credential.
        match self.credentials.get(path).await.ok().flatten() {
            None => Account::Anonymous,
            Some(Credential::Password { username, .. }) => Account::User(username),
            Some(token) => Account::Token(token),
        }
    }

    /// The authorization for `request`, if it is known without another request.
    pub(crate) async fn cached(&self, request: &Request) -> Option<Option<HeaderValue>> {
        let known = self.known();
        if let (Some(Challenge::Bearer { .. }), false) = (&known, self.credentials.has_ready_token()) {
            let scopes = self.scopes(request);
            let key = (scopes.clone(), self.generation(&scopes), request.waits);
            let token = self.tokens.get(&key).await?.ok()?.ok()?;
            return (token.renew_at > Instant::now()).then_some(Some(token.header));
        }
        let credential = self.credentials.get(&request.repository).await.ok()?;
        let is_asked = known.is_some() || self.credentials.has_ready_token();
        Some(credential.filter(|_| is_asked).as_ref().and_then(token::direct))
    }

    /// Handles an `answer` that refuses the authentication. Returns its meaning, and whether to try again with a
    /// new [`Auth::authorize`].
    ///
    /// # Errors
    /// If the host wants something that may not or can't be sent.
    pub(crate) async fn refused(
        &self,
        authorization: Authorization,
        request: &Request,
        answer: &Answer,
    ) -> Result<(Unauthorized, bool)> {
        let Authorization { basis, pass, .. } = authorization;
        match basis {
            Basis::Anonymous => Ok((Unauthorized::Login, false)),
            Basis::Unknown => {
                let mut wanted = challenge::read(&answer.headers);
                if wanted.is_none() && matches!(self.credential(&request.repository).await, Ok(Some(_))) {
                    wanted = self.challenge_at_base(request).await;
                }
                if let Some(Challenge::Bearer { realm, service }) = &wanted
                    && !self.may_ask(&request.repository, realm)
                {
                    // No request is sent there, and one repository's challenge must not send others there.
                    let asked = (realm.as_str(), service.as_deref());
                    self.fetch(&request.repository, asked, &request.scopes, request.waits).await?;
                    return Ok((Unauthorized::NotSent, false));
                }
                let learnt = wanted.is_some();
                if let Some(wanted) = wanted {
                    lock(&self.challenge).get_or_insert(wanted);
                }
                if let Some(pass) = pass {
                    pass.open();
                }
                Ok((Unauthorized::NotSent, learnt))
            }
            Basis::Token { scopes, generation, fresh, fetched_at } => {
                let is_current = self.generation(&scopes) == generation;
                if is_current && self.says_all(fetched_at) && !self.is_renewed(request).await? {
                    return Ok((Unauthorized::Permission, false));
                }
                self.discard(&scopes, generation);
                let meaning = if challenge::invalid_token(&answer.headers) {
                    Unauthorized::OwnToken
                } else {
                    Unauthorized::Permission
                };
                // The token service has just determined the permissions, and would give the same answer again.
                Ok((meaning, !(fresh && challenge::insufficient_scope(&answer.headers))))
            }
            Basis::Credential(credential) => {
                if self.credentials.reread(&request.repository, &credential).await? {
                    return Ok((Unauthorized::Login, true));
                }
                // It was accepted before, so it isn't wrong now: the request lacks a permission.
                let Some(pass) = pass else { return Ok((Unauthorized::Permission, false)) };
                self.is_wrong(&credential, answer);
                pass.open();
                Ok((Unauthorized::Login, false))
            }
        }
    }

    /// Records for all requests with `credential` that it is refused.
    fn is_wrong(&self, credential: &Credential, answer: &Answer) {
        let refusal = Refusal { message: answer.message(), status: answer.status.as_u16() };
        *lock(&self.login(credential).refused) = Some(refusal);
    }

    /// [`Credentials::account_name`].
    pub(crate) async fn account_name(&self, path: &str) -> Result<Option<String>> {
        self.credentials.account_name(path).await
    }

    /// Whether there are no credentials for `path`.
    pub(crate) async fn is_anonymous(&self, path: &str) -> bool {
        matches!(self.credential(path).await, Ok(None))
    }

    /// The credential for requests about `path`.
    ///
    /// # Errors
    /// If it can't be read.
    pub(crate) async fn credential(&self, path: &str) -> Result<Option<Credential>> {
        self.credentials.get(path).await
    }

    /// Whether the host has ever asked for credentials, or gets them without asking.
    pub(crate) fn wants_credentials(&self) -> bool {
        self.credentials.has_ready_token() || self.known().is_some()
    }

    /// Whether the AWS account of the host lets repositories mount each other's blobs.
    pub(crate) async fn account_mounts(&self) -> bool {
        self.credentials.account_mounts().await
    }

    fn known(&self) -> Option<Challenge> {
        lock(&self.challenge).clone()
    }

    fn login(&self, credential: &Credential) -> Login {
        lock(&self.logins).entry(credential.clone()).or_default().clone()
    }

    /// Waits for the right to try `credential`; immediate if it is known to be good.
    async fn try_login(&self, request: &Request, credential: &Credential) -> Result<Option<Pass>> {
        let login = self.login(credential);
        let pass = login.gate.enter().await;
        let refused = lock(&login.refused).clone();
        refused.map_or(Ok(pass), |Refusal { message, status }| {
            Err(request.error(Kind::Unauthorized, message).with_status(status).about_login())
        })
    }

    /// Sends the credential with the request itself.
    async fn direct(&self, request: &Request) -> Result<Authorization> {
        let Some(credential) = self.credentials.get(&request.repository).await? else {
            return Ok(Authorization { header: None, basis: Basis::Anonymous, pass: None });
        };
        let pass = self.try_login(request, &credential).await?;
        let header = token::direct(&credential).ok_or_else(|| {
            request.error(
                Kind::Configuration,
                "the registry requires a user name and password, but there is only an identity token",
            )
        })?;
        Ok(Authorization { header: Some(header), basis: Basis::Credential(credential), pass })
    }

    async fn bearer(
        self: &Arc<Self>,
        request: &Request,
        realm: String,
        service: Option<String>,
    ) -> Result<Authorization> {
        let scopes = self.scopes(request);
        loop {
            let generation = self.generation(&scopes);
            let (token, fetched) = self
                .tokens
                .get_or_work((scopes.clone(), generation, request.waits), || {
                    let (auth, scopes, path) = (Arc::clone(self), scopes.clone(), request.repository.clone());
                    let (realm, service, waits) = (realm.clone(), service.clone(), request.waits);
                    async move { auth.fetch(&path, (&realm, service.as_deref()), &scopes, waits).await }
                })
                .await
                .map_err(|lost| {
                    self.discard(&scopes, generation);
                    Error::defect(format!("get a token for {}", request.repository), lost)
                })?;
            // A failure is shared by the requests that waited for it, not by later ones.
            let token = token.inspect_err(|_| self.discard(&scopes, generation))?;
            if fetched || token.renew_at > Instant::now() {
                let basis = Basis::Token { scopes, generation, fresh: fetched, fetched_at: token.fetched_at };
                return Ok(Authorization { header: Some(token.header), basis, pass: None });
            }
            self.discard(&scopes, generation);
        }
    }

    /// Whether a token fetched at that time is as good as a new one: one from Harbor has all permissions of the
    /// account.
    fn says_all(&self, fetched_at: Instant) -> bool {
        self.is_challenged_by(harbor::SERVICE) && fetched_at.elapsed() < harbor::tokens::YOUNG
    }

    /// Whether the password has changed since it was last read.
    async fn is_renewed(&self, request: &Request) -> Result<bool> {
        match self.credentials.get(&request.repository).await? {
            Some(credential) => self.credentials.reread(&request.repository, &credential).await,
            None => Ok(false),
        }
    }

    /// The scopes of the token for `request`.
    fn scopes(&self, request: &Request) -> Scopes {
        if self.is_challenged_by(harbor::SERVICE) { self.reach.widen(&request.scopes) } else { request.scopes.clone() }
    }

    /// Announces requests about repositories at `paths`.
    pub(crate) fn expect<'a>(&self, paths: impl Iterator<Item = &'a str>) {
        self.reach.expect(paths);
    }

    /// Learns the authentication scheme from an answer to an anonymous request.
    pub(crate) fn learn(&self, answer: &Answer) {
        if let Some(wanted) = challenge::read(&answer.headers).filter(|_| answer.status == StatusCode::UNAUTHORIZED) {
            lock(&self.challenge).get_or_insert(wanted);
        }
    }

    fn generation(&self, scopes: &Scopes) -> u64 {
        lock(&self.generations).current(scopes)
    }

    /// Discards the token of this generation, unless it was replaced already.
    fn discard(&self, scopes: &Scopes, generation: u64) {
        let mut generations = lock(&self.generations);
        if generations.current(scopes) == generation {
            *generations.own.entry(scopes.clone()).or_default() += 1;
            for waits in [true, false] {
                self.tokens.forget(&(scopes.clone(), generation, waits));
            }
        }
    }

    /// Discards all tokens.
    pub(crate) fn discard_all(&self) {
        lock(&self.generations).all += 1;
    }

    /// Whether the host's challenge names `service`.
    pub(crate) fn is_challenged_by(&self, name: &str) -> bool {
        matches!(&*lock(&self.challenge), Some(Challenge::Bearer { service: Some(service), .. }) if service == name)
    }
}
