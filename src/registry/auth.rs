//! Who we are to a host: nobody, a user with each request, or the bearer of a token.
//!
//! No ping: the first request goes alone and unadorned, and its 401 tells what the host wants; that is remembered, and
//! later challenges never change it (a Harbor that refuses a token names another scheme). Only where credentials are at hand
//! and a refusal doesn't say how it wants them, `/v2/` is asked once: some registries hide what they have from strangers.
//! Tokens are kept by exact scope set and fetched once for all who wait. A credential is tried by one request until it has
//! proved good; if it is refused, all hear of that one refusal. What is refused after that is a right, not the login.

pub(super) mod challenge;
pub(super) mod credentials;
pub(super) mod docker;
mod fetch;
pub(super) mod scopes;
mod token;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use reqwest::StatusCode;
use reqwest::header::HeaderValue;
use tokio::sync::OnceCell;
use tokio::time::Instant;

use self::challenge::Challenge;
use self::credentials::{Credential, Credentials};
use self::token::Token;
use crate::error::{Error, Kind, Result};
use crate::once::OnceMap;
use crate::registry::action::Request;
use crate::registry::admission::gate::{Gate, Pass};
use crate::registry::admission::pulls::Account;
use crate::registry::answer::Answer;
use crate::registry::services::harbor;
use crate::registry::services::harbor::tokens::Reach;
use crate::registry::transport::Transport;

pub(crate) use self::fetch::ANONYMOUS;
pub(crate) use self::scopes::Scopes;

/// The authentication of one host.
#[derive(Debug)]
pub(crate) struct Auth {
    transport: Arc<Transport>,
    credentials: Credentials,
    /// Until the first answer, one request at a time.
    first: Gate,
    challenge: Mutex<Option<Challenge>>,
    /// What `/v2/` asks for, where it was asked.
    at_base: OnceCell<Option<Challenge>>,
    logins: Mutex<HashMap<Credential, Login>>,
    tokens: OnceMap<TokenKey, Result<Token>>,
    generations: Mutex<Generations>,
    /// At a Harbor.
    reach: Reach,
}

/// What a token is good for, of which generation it is, and whether it was waited for in trouble: who waits for that
/// doesn't share the failure of who doesn't.
type TokenKey = (Scopes, u64, bool);

/// Which generation of tokens is in use.
#[derive(Debug, Default)]
struct Generations {
    /// How often all tokens were given up.
    all: u64,
    /// How often the token of a scope set was.
    own: HashMap<Scopes, u64>,
}

impl Generations {
    fn current(&self, scopes: &Scopes) -> u64 {
        self.all + self.own.get(scopes).copied().unwrap_or_default()
    }
}

/// What is known of a credential.
#[derive(Debug, Default, Clone)]
struct Login {
    gate: Gate,
    refused: Arc<Mutex<Option<Refusal>>>,
}

/// How a login was refused.
#[derive(Debug, Clone)]
struct Refusal {
    message: String,
    status: u16,
}

/// What to make of a refusal of who we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Doubt {
    /// The host hasn't been told: it doesn't say how it wants to be.
    Untold,
    /// There is nobody to be, or not the one who is wanted.
    Login,
    /// The host doesn't believe a token that its own token service has given.
    Token,
    /// The login was good, or has bought the token that is refused.
    Right,
}

/// What a request is sent with.
#[derive(Debug)]
pub(crate) struct Authorization {
    pub(crate) header: Option<HeaderValue>,
    basis: Basis,
    pass: Option<Pass>,
}

#[derive(Debug)]
enum Basis {
    /// What the host wants isn't known.
    Unknown,
    /// The host wants credentials, and there are none.
    Anonymous,
    Token {
        scopes: Scopes,
        generation: u64,
        /// It was fetched for this very request.
        fresh: bool,
        fetched_at: Instant,
    },
    Credential(Credential),
}

impl Authorization {
    /// The answer was no refusal of who we are.
    pub(crate) fn accepted(self) {
        if let Some(pass) = self.pass {
            pass.open();
        }
    }

    /// Whether it is a token that was fetched for an earlier request, and may have ended since.
    pub(crate) fn is_kept_token(&self) -> bool {
        matches!(self.basis, Basis::Token { fresh: false, .. })
    }

    /// Whether nobody knows yet what the host wants, so that it may hide from strangers what it has.
    pub(crate) fn is_unknown(&self) -> bool {
        matches!(self.basis, Basis::Unknown)
    }

    /// There was no answer. Whoever waits for the host's first word need not wait in line for its silence.
    pub(crate) fn unanswered(self) {
        if matches!(self.basis, Basis::Unknown) {
            self.accepted();
        }
    }
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

    /// What to send `request` with.
    ///
    /// # Errors
    /// If credentials can't be read, are known to be refused, or no token is given for them.
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

    /// Whose pulls of the repository at `path` are counted, as far as the host has asked who we are.
    pub(crate) async fn account(&self, path: &str) -> Account {
        if self.known().is_none() && !self.credentials.has_ready_token() {
            return Account::Anonymous;
        }
        // What can't be read is told by the request itself.
        match self.credentials.get(path).await.ok().flatten() {
            None => Account::Anonymous,
            Some(Credential::Password { username, .. }) => Account::User(username),
            Some(token) => Account::Token(token),
        }
    }

    /// What to send `request` with, if that is known without another request.
    pub(crate) async fn cached_manifest(&self, request: &Request) -> Option<Option<HeaderValue>> {
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

    /// `answer` refuses who we are: what is in doubt then, and whether it is worth asking again, with a new
    /// [`Auth::authorize`].
    ///
    /// # Errors
    /// If what the host wants may not or can't be given.
    pub(crate) async fn refused(
        &self,
        authorization: Authorization,
        request: &Request,
        answer: &Answer,
    ) -> Result<(Doubt, bool)> {
        let Authorization { basis, pass, .. } = authorization;
        match basis {
            Basis::Anonymous => Ok((Doubt::Login, false)),
            Basis::Unknown => {
                let mut wanted = challenge::read(&answer.headers);
                if wanted.is_none() && matches!(self.credential(&request.repository).await, Ok(Some(_))) {
                    wanted = self.challenge_at_base(request).await;
                }
                let learnt = wanted.is_some();
                if let Some(wanted) = wanted {
                    lock(&self.challenge).get_or_insert(wanted);
                }
                if let Some(pass) = pass {
                    pass.open();
                }
                Ok((Doubt::Untold, learnt))
            }
            Basis::Token { scopes, generation, fresh, fetched_at } => {
                let is_current = self.generation(&scopes) == generation;
                if is_current && self.says_all(fetched_at) && !self.is_renewed(request).await? {
                    return Ok((Doubt::Right, false));
                }
                self.give_up(&scopes, generation);
                let doubt = if challenge::invalid_token(&answer.headers) { Doubt::Token } else { Doubt::Right };
                // The token service has said just now what we may do: it won't say otherwise a moment later.
                Ok((doubt, !(fresh && challenge::insufficient_scope(&answer.headers))))
            }
            Basis::Credential(credential) => {
                if self.credentials.reread(&request.repository, &credential).await? {
                    return Ok((Doubt::Login, true));
                }
                // One that was good before isn't wrong now: that request lacks a right.
                let Some(pass) = pass else { return Ok((Doubt::Right, false)) };
                self.is_wrong(&credential, answer);
                pass.open();
                Ok((Doubt::Login, false))
            }
        }
    }

    /// All who go with `credential` are to hear of this.
    fn is_wrong(&self, credential: &Credential, answer: &Answer) {
        let refusal = Refusal { message: answer.message(), status: answer.status.as_u16() };
        *lock(&self.login(credential).refused) = Some(refusal);
    }

    /// [`Credentials::whom`].
    pub(crate) async fn whom(&self, path: &str) -> Result<Option<String>> {
        self.credentials.whom(path).await
    }

    /// Whether there are no credentials for `path`.
    pub(crate) async fn is_anonymous(&self, path: &str) -> bool {
        matches!(self.credential(path).await, Ok(None))
    }

    /// What requests about `path` go with.
    ///
    /// # Errors
    /// If it can't be read.
    pub(crate) async fn credential(&self, path: &str) -> Result<Option<Credential>> {
        self.credentials.get(path).await
    }

    /// Whether the host has ever asked who we are, or is told without asking.
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

    /// The right to try `credential`, or to use it if it is known to be good.
    async fn try_login(&self, request: &Request, credential: &Credential) -> Result<Option<Pass>> {
        let login = self.login(credential);
        let pass = login.gate.enter().await;
        let refused = lock(&login.refused).clone();
        refused.map_or(Ok(pass), |Refusal { message, status }| {
            Err(request.error(Kind::Unauthorized, message).with_status(status).about_login())
        })
    }

    /// The credential with the request itself.
    async fn direct(&self, request: &Request) -> Result<Authorization> {
        let Some(credential) = self.credentials.get(&request.repository).await? else {
            return Ok(Authorization { header: None, basis: Basis::Anonymous, pass: None });
        };
        let pass = self.try_login(request, &credential).await?;
        let header = token::direct(&credential).ok_or_else(|| {
            request
                .error(Kind::Configuration, "there is an identity token for it, but it wants a user name and password")
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
                    self.give_up(&scopes, generation);
                    Error::defect(format!("get a token for {}", request.repository), lost)
                })?;
            // A failure is shared by those who waited for it, not by those who come later.
            let token = token.inspect_err(|_| self.give_up(&scopes, generation))?;
            if fetched || token.renew_at > Instant::now() {
                let basis = Basis::Token { scopes, generation, fresh: fetched, fetched_at: token.fetched_at };
                return Ok(Authorization { header: Some(token.header), basis, pass: None });
            }
            self.give_up(&scopes, generation);
        }
    }

    /// Whether a token that was fetched then is as good as a new one: that of a Harbor holds all that the account may do.
    fn says_all(&self, fetched_at: Instant) -> bool {
        self.is_challenged_by(harbor::SERVICE) && fetched_at.elapsed() < harbor::tokens::YOUNG
    }

    /// Whether the password was changed since it was last read.
    async fn is_renewed(&self, request: &Request) -> Result<bool> {
        match self.credentials.get(&request.repository).await? {
            Some(credential) => self.credentials.reread(&request.repository, &credential).await,
            None => Ok(false),
        }
    }

    /// What the token for `request` is to be good for.
    fn scopes(&self, request: &Request) -> Scopes {
        if self.is_challenged_by(harbor::SERVICE) { self.reach.widen(&request.scopes) } else { request.scopes.clone() }
    }

    /// Repositories at `paths` will be asked about.
    pub(crate) fn expect<'a>(&self, paths: impl Iterator<Item = &'a str>) {
        self.reach.expect(paths);
    }

    /// What an answer to nobody says of how the host wants to be convinced.
    pub(crate) fn learn(&self, answer: &Answer) {
        if let Some(wanted) = challenge::read(&answer.headers).filter(|_| answer.status == StatusCode::UNAUTHORIZED) {
            lock(&self.challenge).get_or_insert(wanted);
        }
    }

    fn generation(&self, scopes: &Scopes) -> u64 {
        lock(&self.generations).current(scopes)
    }

    /// The token of this generation isn't to be used again; a later one is none of our business.
    fn give_up(&self, scopes: &Scopes, generation: u64) {
        let mut generations = lock(&self.generations);
        if generations.current(scopes) == generation {
            *generations.own.entry(scopes.clone()).or_default() += 1;
            for waits in [true, false] {
                self.tokens.forget(&(scopes.clone(), generation, waits));
            }
        }
    }

    /// No token of before is used again.
    pub(crate) fn give_up_all(&self) {
        lock(&self.generations).all += 1;
    }

    /// Whether the host's challenge names `service`.
    pub(crate) fn is_challenged_by(&self, name: &str) -> bool {
        matches!(&*lock(&self.challenge), Some(Challenge::Bearer { service: Some(service), .. }) if service == name)
    }
}
