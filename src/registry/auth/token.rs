//! One request for a bearer token, by the distribution project's "Token Authentication Specification".

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use serde_json::{Map, Value};
use tokio::time::Instant;
use url::Url;

use crate::error::{Kind, Result};
use crate::registry::action::Action;
use crate::registry::answer::Answer;
use crate::registry::auth::challenge;
use crate::registry::auth::credentials::Credential;
use crate::registry::auth::scopes::Scopes;
use crate::registry::request::Request;

/// The specification's default for tokens without a lifetime, in seconds.
const DEFAULT_LIFE: u64 = 60;

/// A token, and when to fetch the next.
#[derive(Clone)]
pub(crate) struct Token {
    pub(crate) header: HeaderValue,
    pub(crate) fetched_at: Instant,
    pub(crate) renew_at: Instant,
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
    // With its port, unless that is the default.
    let at = &realm[url::Position::BeforeHost..url::Position::AfterPort];
    let attempted = format!("get a token for {registry}/{path} from {at}");
    let (scopes, repository, limit) = (scopes.clone(), path.to_owned(), (1 << 20, "a token"));
    Request { headers, scopes, repository, body, limit, ..Request::new(action, attempted, url) }
}

/// The `Authorization` header for `credential` itself; `None` if it only buys tokens.
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

/// Whether a token service refuses the login or the scopes; the answer doesn't always distinguish them.
pub(crate) fn refuses(answer: &Answer, credential: Option<&Credential>) -> bool {
    match answer.status.as_u16() {
        _ if answer.throttles() => false,
        401 | 403 => true,
        // A rejected refresh token is an `invalid_grant`, with status 400.
        400 => matches!(credential, Some(Credential::IdentityToken(_))),
        _ => false,
    }
}

/// Whether such a refusal may be about the scopes rather than the login.
pub(crate) fn may_mean_scope(answer: &Answer) -> bool {
    let said = String::from_utf8_lossy(&answer.body);
    answer.status == 403
        || answer.codes().iter().any(|code| code == "DENIED")
        || ["insufficient_scope", "invalid_scope"].iter().any(|word| said.contains(word))
        || challenge::insufficient_scope(&answer.headers)
}

fn secret(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// The token in a successful answer to a request that was sent at `sent`. A tenth of its lifetime is reserved for
/// latency. Member names are case-insensitive, as in docker and containerd, and unused members may be invalid.
///
/// # Errors
/// `Invalid` if it has no token.
pub(crate) fn read(request: &Request, answer: &Answer, sent: Instant) -> Result<Token> {
    let first = serde_json::Deserializer::from_slice(&answer.body).into_iter::<Map<String, Value>>().next();
    let members = first.unwrap_or_else(|| Ok(Map::new())).map_err(|e| answer.unreadable(request, e))?;
    let member = |name: &str| members.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value);
    // Harbor sends both, one of them empty.
    let texts = ["token", "access_token"].into_iter().filter_map(|name| member(name)?.as_str().map(str::trim));
    let text = texts.into_iter().find(|text| !text.is_empty());
    let text = text.ok_or_else(|| request.error(Kind::Invalid, "the answer contains no token"))?;
    let header = secret(&format!("Bearer {text}"))
        .ok_or_else(|| request.error(Kind::Invalid, "the token contains characters that are invalid in a header"))?;
    let life = member("expires_in").and_then(seconds).unwrap_or(Duration::from_secs(DEFAULT_LIFE));
    // More than a day is as good as unlimited, and safe to add to a clock.
    let life = life.min(Duration::from_secs(24 * 3600));
    Ok(Token { header, fetched_at: sent, renew_at: sent + life.mul_f64(0.9) })
}

/// A valid lifetime, as a number or a text.
fn seconds(value: &Value) -> Option<Duration> {
    let seconds = value.as_f64().or_else(|| value.as_str()?.trim().parse().ok())?;
    let longest = Duration::MAX.as_secs_f64() / 2.0;
    (seconds > 0.0).then(|| Duration::try_from_secs_f64(seconds.min(longest)).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The header and the lifetime, in seconds, of the token in `body`.
    fn token(body: &str) -> Result<(String, f64), Kind> {
        let answer = Answer::of(200, &[], body);
        let sent = Instant::now();
        let read = read(&Request::bare(Action::GetToken), &answer, sent);
        let of =
            |token: Token| (token.header.to_str().unwrap().to_owned(), (token.renew_at - sent).as_secs_f64() / 0.9);
        read.map(of).map_err(|error| error.kind())
    }

    #[test]
    fn invalid_optional_members_of_a_token_answer_are_ignored() {
        let good = |life: f64| Ok(("Bearer t".to_owned(), life));
        for (body, expected) in [
            (r#"{"token":"t","expires_in":300}"#, good(300.0)),
            (r#"{"access_token":"t"}"#, good(60.0)),
            (r#"{"token":"t","access_token":"","expires_in":300.5}"#, good(300.5)),
            (r#"{"token":"","access_token":"t"}"#, good(60.0)),
            (r#"{"token":null,"access_token":"t"}"#, good(60.0)),
            (r#"{"token":{"a":1},"access_token":"t"}"#, good(60.0)),
            (r#"{"token":"t","access_token":7}"#, good(60.0)),
            (r#"{"Token":"t","Expires_In":300}"#, good(300.0)),
            (r#"{"token":" t\n"}"#, good(60.0)),
            (r#"{"token":"t","expires_in":"300"}"#, good(300.0)),
            (r#"{"token":"t","expires_in":"soon"}"#, good(60.0)),
            (r#"{"token":"t","expires_in":null}"#, good(60.0)),
            (r#"{"token":"t","expires_in":[300]}"#, good(60.0)),
            (r#"{"token":"t","expires_in":0}"#, good(60.0)),
            (r#"{"token":"t","expires_in":-5}"#, good(60.0)),
            (r#"{"token":"t","expires_in":1e300}"#, good(86400.0)),
            (r#"{"token":"t","expires_in":99999999999999999999}"#, good(86400.0)),
            (r#"{"token":"t","issued_at":7,"refresh_token":{},"scope":false,"x":[]}"#, good(60.0)),
            ("{\"token\":\"t\"}\n{\"more\":1}", good(60.0)),
            ("{\"token\":\"t\"} and more", good(60.0)),
            (r#"{"token":"","access_token":""}"#, Err(Kind::Invalid)),
            (r#"{"expires_in":300}"#, Err(Kind::Invalid)),
            (r#"{"token":"a\nb"}"#, Err(Kind::Invalid)),
            (r#"["t"]"#, Err(Kind::Invalid)),
            ("t", Err(Kind::Invalid)),
            ("", Err(Kind::Invalid)),
            ("<html>", Err(Kind::Invalid)),
        ] {
            let read = token(body).map(|(header, life)| (header, (life * 10.0).round() / 10.0));
            assert_eq!(read, expected, "{body}");
        }
    }

    #[test]
    fn the_service_is_named_with_its_port() {
        let attempted =
            |realm: &str| request(("h.io", "a"), &realm.parse().unwrap(), None, &Scopes::default(), None).attempted;
        assert_eq!(attempted("https://h.io:5001/t?x=y"), "get a token for h.io/a from h.io:5001");
        assert_eq!(attempted("https://auth.h.io/t"), "get a token for h.io/a from auth.h.io");
        assert_eq!(attempted("http://[::1]:80/t"), "get a token for h.io/a from [::1]");
    }
}
