//! One request for a bearer token, as the distribution project's "Token Authentication Specification" has it.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use serde::Deserialize;
use tokio::time::Instant;
use url::Url;

use super::action::{Action, Request};
use super::answer::Answer;
use super::auth::Scopes;
use super::credentials::Credential;
use crate::error::{Kind, Result};

/// As the specification has it for tokens that don't say how long they live.
const DEFAULT_LIFE: u64 = 60;

/// A token and when to get the next.
#[derive(Clone)]
pub(crate) struct Token {
    pub(crate) header: HeaderValue,
    pub(crate) fetched_at: Instant,
    pub(crate) renew_at: Instant,
}

#[derive(Deserialize)]
struct Body {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<f64>,
}

/// The request for a token of `scopes` at `realm`.
pub(crate) fn request(
    registry_and_path: (&str, &str),
    realm: &Url,
    service: Option<&str>,
    scopes: &Scopes,
    credential: Option<&Credential>,
) -> Request {
    let (registry, path) = registry_and_path;
    let mut url = realm.clone();
    let mut headers = HeaderMap::new();
    let (action, body) = match credential {
        Some(Credential::IdentityToken(token)) => {
            let mut form = url::form_urlencoded::Serializer::new(String::new());
            form.append_pair("grant_type", "refresh_token").append_pair("client_id", "transship");
            form.append_pair("refresh_token", token).append_pair("scope", &scopes.joined());
            form.extend_pairs(service.map(|service| ("service", service)));
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
            (Action::RefreshToken, Bytes::from(form.finish()))
        }
        _ => {
            let mut query = url.query_pairs_mut();
            query.extend_pairs(service.map(|service| ("service", service)));
            query.extend_pairs(scopes.iter().map(|scope| ("scope", scope)));
            drop(query);
            (Action::GetToken, Bytes::new())
        }
    };
    let at = realm.host_str().unwrap_or_default();
    Request {
        action,
        attempted: format!("get a token for {registry}/{path} from {at}"),
        url,
        headers,
        scopes: scopes.clone(),
        repository: path.to_owned(),
        body,
        limit: (1 << 20, "a token"),
    }
}

/// What to send as `Authorization` for `credential` itself; `None` if it only buys tokens.
pub(crate) fn direct(credential: &Credential) -> Option<HeaderValue> {
    match credential {
        Credential::Password { username, password } => {
            secret(&format!("Basic {}", STANDARD.encode(format!("{username}:{password}"))))
        }
        Credential::Basic(basic) => secret(&format!("Basic {basic}")),
        Credential::Bearer(token) => secret(&format!("Bearer {token}")),
        Credential::IdentityToken(_) => None,
    }
}

fn secret(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// The token in a successful answer to a request that was `sent` then. A tenth of its life is left for the way.
///
/// # Errors
/// `Invalid` if there is none in it.
pub(crate) fn read(request: &Request, answer: &Answer, sent: Instant) -> Result<Token> {
    let body: Body = serde_json::from_slice(&answer.body).map_err(|e| answer.unreadable(request, e))?;
    // Harbor sends both, one of them empty.
    let text = body.token.into_iter().chain(body.access_token).find(|text| !text.is_empty());
    let text = text.ok_or_else(|| request.error(Kind::Invalid, "the answer holds no token"))?;
    let header = secret(&format!("Bearer {text}"))
        .ok_or_else(|| request.error(Kind::Invalid, "the token holds what no header may"))?;
    let told = body.expires_in.and_then(|life| Duration::try_from_secs_f64(life).ok());
    let life = told.filter(|life| !life.is_zero()).unwrap_or(Duration::from_secs(DEFAULT_LIFE));
    // Longer than a day is as good as for ever, and safe to add to a clock.
    let life = life.min(Duration::from_secs(24 * 3600));
    Ok(Token { header, fetched_at: sent, renew_at: sent + life.mul_f64(0.9) })
}
