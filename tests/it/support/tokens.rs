//! Bearer tokens as Docker Hub and others require them: a token endpoint with scopes, and a layer that checks them
//! (distribution's "Token Authentication Specification").

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::{AUTHORIZATION, HOST, WWW_AUTHENTICATE};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use serde_json::json;

use super::jwt::{self, Signer};

/// A token service. A clone is another handle to the same service.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tokens(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    user: Option<(String, String)>,
    realm: Option<String>,
    public: bool,
    expires_in: Option<u64>,
    uses: Option<usize>,
    signer: Option<Signer>,
    one_scope: bool,
    stale_is_400: bool,
    issued: Vec<String>,
    requests: Vec<BTreeSet<String>>,
    refused: usize,
    valid: HashMap<String, Grant>,
}

#[derive(Debug)]
struct Grant {
    /// `repository:NAME:ACTION`, one for each action.
    rights: BTreeSet<String>,
    uses_left: usize,
}

impl Tokens {
    /// Issues every token to everybody.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Issues only to this user, by Basic authentication.
    pub(crate) fn user(self, name: &str, password: &str) -> Self {
        self.lock().user = Some((name.to_owned(), password.to_owned()));
        self
    }

    /// The realm is this URL, and not the registry's.
    pub(crate) fn at(&self, realm: String) {
        self.lock().realm = Some(realm);
    }

    /// Everybody may pull: a request with missing or wrong credentials gets an anonymous token, as at Harbor.
    pub(crate) fn public(self) -> Self {
        self.lock().public = true;
        self
    }

    /// The lifetime in the answers, in seconds; if unset it is missing, and means 60 s.
    pub(crate) fn expires_in(self, seconds: u64) -> Self {
        self.lock().expires_in = Some(seconds);
        self
    }

    /// Each token is valid for this many requests: an expiry without a clock.
    pub(crate) fn uses(self, uses: usize) -> Self {
        self.lock().uses = Some(uses);
        self
    }

    /// An expired token is answered with 400 and no challenge, as at ECR Public.
    pub(crate) fn stale_is_400(self) -> Self {
        self.lock().stale_is_400 = true;
        self
    }

    /// The tokens are JWTs, for registries that verify them offline.
    pub(crate) fn signed_by(self, signer: Signer) -> Self {
        self.lock().signer = Some(signer);
        self
    }

    /// Of several scopes, only those with push are granted, as if the account couldn't read the other repository.
    pub(crate) fn one_scope(&self) {
        self.lock().one_scope = true;
    }

    /// Revokes all tokens issued so far.
    pub(crate) fn revoke(&self) {
        self.lock().valid.clear();
    }

    /// Revokes the token of `request`.
    pub(crate) fn revoke_that_of(&self, request: &Request) {
        let header = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        if let Some(token) = header.and_then(|text| text.strip_prefix("Bearer ")) {
            self.lock().valid.remove(token);
        }
    }

    /// The scopes of every token request that was granted, in order.
    pub(crate) fn requests(&self) -> Vec<BTreeSet<String>> {
        self.lock().requests.clone()
    }

    /// How many tokens were issued.
    pub(crate) fn issued(&self) -> usize {
        self.lock().issued.len()
    }

    /// The tokens themselves.
    pub(crate) fn secrets(&self) -> Vec<String> {
        self.lock().issued.clone()
    }

    /// How many token requests had wrong credentials.
    pub(crate) fn refused(&self) -> usize {
        self.lock().refused
    }

    /// Adds the check, and the endpoint `/token`, around `router`.
    pub(crate) fn around(&self, router: Router) -> Router {
        router.layer(middleware::from_fn_with_state(self.clone(), check))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().expect("no request panics while it holds the tokens")
    }

    fn issue(&self, request: &Request) -> Response {
        let mut inner = self.lock();
        let query = request.uri().query().unwrap_or_default();
        let scopes: BTreeSet<String> = url::form_urlencoded::parse(query.as_bytes())
            .filter(|(key, _)| key == "scope")
            .flat_map(|(_, value)| value.split(' ').map(str::to_owned).collect::<Vec<_>>())
            .collect();
        let is_user = inner.user.as_ref().is_none_or(|user| basic(request).as_ref() == Some(user));
        if !is_user && (!inner.public || scopes.is_empty()) {
            inner.refused += 1;
            return (StatusCode::UNAUTHORIZED, r#"{"errors":[{"code":"UNAUTHORIZED"}]}"#).into_response();
        }
        let several = inner.one_scope && scopes.len() > 1;
        let granted = scopes.iter().filter(|scope| !several || scope.ends_with("push"));
        let allowed = |right: &String| is_user || right.ends_with(":pull");
        let rights: BTreeSet<String> = granted.flat_map(|scope| rights(scope)).filter(allowed).collect();
        let number = inner.issued.len() + 1;
        let token = match &inner.signer {
            Some(signer) => signer.sign(&rights, number),
            None => format!("token-of-the-tests-{number}"),
        };
        inner.issued.push(token.clone());
        let uses_left = inner.uses.unwrap_or(usize::MAX);
        inner.valid.insert(token.clone(), Grant { rights, uses_left });
        inner.requests.push(scopes);
        let mut body = json!({ "token": token });
        if let Some(seconds) = inner.expires_in {
            body["expires_in"] = seconds.into();
        }
        body.to_string().into_response()
    }

    /// The error for `request` in the challenge, if it isn't authorized.
    fn refuse(&self, request: &Request, needed: &BTreeSet<String>) -> Option<&'static str> {
        let mut inner = self.lock();
        let header = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let Some(token) = header.and_then(|text| text.strip_prefix("Bearer ")) else { return Some("") };
        let Some(grant) = inner.valid.get_mut(token).filter(|grant| grant.uses_left > 0) else {
            return Some(r#",error="invalid_token""#);
        };
        if !needed.iter().flat_map(|scope| rights(scope)).all(|right| grant.rights.contains(&right)) {
            return Some(r#",error="insufficient_scope""#);
        }
        grant.uses_left -= 1;
        None
    }
}

async fn check(State(tokens): State<Tokens>, request: Request, next: Next) -> Response {
    if request.uri().path() == "/token" {
        return tokens.issue(&request);
    }
    let needed = scopes(&request);
    let Some(why) = tokens.refuse(&request, &needed) else {
        return next.run(request).await;
    };
    if why.contains("invalid_token") && tokens.lock().stale_is_400 {
        let body = json!({ "errors": [{ "code": "DENIED", "message": "Your Authorization Token is invalid." }] });
        return (StatusCode::BAD_REQUEST, body.to_string()).into_response();
    }
    let host = request.headers().get(HOST).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let needed = Vec::from_iter(needed).join(" ");
    let scope = if needed.is_empty() { String::new() } else { format!(r#",scope="{needed}""#) };
    let realm = tokens.lock().realm.clone().unwrap_or_else(|| format!("http://{host}/token"));
    let challenge = format!(r#"Bearer realm="{realm}",service="{}"{scope}{why}"#, jwt::SERVICE);
    let body = json!({ "errors": [{ "code": "UNAUTHORIZED", "message": "authentication required" }] });
    (StatusCode::UNAUTHORIZED, [(WWW_AUTHENTICATE, challenge)], body.to_string()).into_response()
}

/// The scopes that `request` needs: pull to read, pull and push to write, and pull from the source of a mount.
fn scopes(request: &Request) -> BTreeSet<String> {
    let path = request.uri().path().trim_start_matches("/v2/");
    let ends = ["/manifests/", "/blobs/", "/tags/", "/referrers/"];
    let name = ends.iter().filter_map(|end| path.rfind(end)).max().map(|end| &path[..end]);
    let actions = if request.method().is_safe() { "pull" } else { "pull,push" };
    let query = request.uri().query().unwrap_or_default();
    let from = url::form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == "from").map(|(_, from)| from);
    let from = from.map(|from| format!("repository:{from}:pull"));
    name.map(|name| format!("repository:{name}:{actions}")).into_iter().chain(from).collect()
}

/// `repository:a:pull,push` as `repository:a:pull` and `repository:a:push`.
fn rights(scope: &str) -> Vec<String> {
    let (resource, actions) = scope.rsplit_once(':').unwrap_or((scope, ""));
    actions.split(',').map(|action| format!("{resource}:{action}")).collect()
}

fn basic(request: &Request) -> Option<(String, String)> {
    let text = request.headers().get(AUTHORIZATION)?.to_str().ok()?.strip_prefix("Basic ")?;
    let decoded = base64::engine::general_purpose::STANDARD.decode(text).ok()?;
    let text = String::from_utf8(decoded).ok()?;
    text.split_once(':').map(|(name, password)| (name.to_owned(), password.to_owned()))
}
