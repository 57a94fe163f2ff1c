//! What a 401 asks for (`WWW-Authenticate`, RFC 9110 §11.6.1; Bearer as the distribution project's token specification
//! has it), and where credentials may be taken to.

use std::net::IpAddr;

use http_auth::ChallengeParser;
use reqwest::header::{HeaderMap, WWW_AUTHENTICATE};
use url::{Host, Url};

/// How a host wants to be convinced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Challenge {
    /// The credentials with each request.
    Basic,
    /// A token that `realm` gives out.
    Bearer {
        /// Where to ask, as it was written.
        realm: String,
        /// What to name as `service`.
        service: Option<String>,
    },
}

/// The challenge to follow, of all that `headers` hold: Bearer before Basic, for a token is worth less to a thief.
pub(crate) fn read(headers: &HeaderMap) -> Option<Challenge> {
    let all = parameters(headers);
    let bearer = all.iter().find_map(|(scheme, params)| {
        let param = |name: &str| params.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, v)| v.clone());
        scheme.eq_ignore_ascii_case("bearer").then(|| param("realm"))?.map(|realm| (realm, param("service")))
    });
    match bearer {
        Some((realm, service)) => Some(Challenge::Bearer { realm, service }),
        None => all.iter().any(|(scheme, _)| scheme.eq_ignore_ascii_case("basic")).then_some(Challenge::Basic),
    }
}

/// Whether a challenge says that the token is good, but not for this (RFC 6750 §3.1).
pub(crate) fn insufficient_scope(headers: &HeaderMap) -> bool {
    let is_it = |(key, value): &(String, String)| key.eq_ignore_ascii_case("error") && value == "insufficient_scope";
    parameters(headers).iter().any(|(_, params)| params.iter().any(is_it))
}

/// Scheme and parameters of each challenge; a header that can't be parsed says nothing.
fn parameters(headers: &HeaderMap) -> Vec<(String, Vec<(String, String)>)> {
    let texts = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
    let challenges = texts.flat_map(|text| ChallengeParser::new(text).map_while(Result::ok));
    challenges
        .map(|challenge| {
            let params = challenge.params.iter().map(|(key, value)| ((*key).to_owned(), value.to_unescaped()));
            (challenge.scheme.to_owned(), params.collect())
        })
        .collect()
}

/// The realm as a URL that credentials for a registry at `registry` may be sent to.
///
/// # Errors
/// Why not: a registry could otherwise have them sent in clear text, or to a metadata service.
pub(crate) fn check_realm(realm: &str, registry: &Url) -> Result<Url, String> {
    let url = Url::parse(realm).map_err(|e| format!("its token realm isn't a URL: {e}"))?;
    let shown = url.host_str().unwrap_or_default();
    let refuse = |why: &str| Err(format!("its token realm at `{}` {why}", shown.escape_debug()));
    match (url.scheme(), registry.scheme()) {
        ("https", _) | ("http", "http") => {}
        _ => return refuse("isn't https"),
    }
    if !url.username().is_empty() || url.password().is_some() {
        return refuse("carries credentials of its own");
    }
    match reach(&url) {
        Reach::LinkLocal => refuse("is a link-local address"),
        Reach::Loopback if reach(registry) != Reach::Loopback => refuse("is on this machine, and the registry isn't"),
        _ => Ok(url),
    }
}

#[derive(PartialEq, Eq)]
enum Reach {
    LinkLocal,
    Loopback,
    Wide,
}

fn reach(url: &Url) -> Reach {
    let address = match url.host() {
        Some(Host::Ipv4(address)) => IpAddr::V4(address),
        Some(Host::Ipv6(address)) => IpAddr::V6(address).to_canonical(),
        Some(Host::Domain(name)) => {
            let name = name.trim_end_matches('.');
            return if name == "localhost" || name.ends_with(".localhost") { Reach::Loopback } else { Reach::Wide };
        }
        None => return Reach::Wide,
    };
    let link_local = match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    // The unspecified address leads to this machine as well.
    match (link_local, address.is_loopback() || address.is_unspecified()) {
        (true, _) => Reach::LinkLocal,
        (_, true) => Reach::Loopback,
        _ => Reach::Wide,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(WWW_AUTHENTICATE, line.parse().unwrap());
        }
        headers
    }

    #[test]
    fn all_challenges_of_all_headers_are_read() {
        let bearer = |realm: &str, service: Option<&str>| {
            Some(Challenge::Bearer { realm: realm.into(), service: service.map(Into::into) })
        };
        for (lines, expected) in [
            (
                &[r#"Bearer realm="https://a/t",service="s",scope="x:y:pull,push""#][..],
                bearer("https://a/t", Some("s")),
            ),
            (&[r#"bEARER Realm="https://a/t""#], bearer("https://a/t", None)),
            (&[r#"Basic realm="x", Bearer realm="https://a/t""#], bearer("https://a/t", None)),
            (&[r#"Basic realm="x""#, r#"Bearer realm="https://a/t""#], bearer("https://a/t", None)),
            (&["Negotiate", "basic"], Some(Challenge::Basic)),
            (&["Bearer", r#"BASIC realm="a \"b\"""#], Some(Challenge::Basic)),
            (&["Bearer"], None),
            (&[""], None),
            (&[], None),
        ] {
            assert_eq!(read(&headers(lines)), expected, "{lines:?}");
        }
        assert!(insufficient_scope(&headers(&[r#"Bearer realm="a",error="insufficient_scope""#])));
        assert!(!insufficient_scope(&headers(&[r#"Bearer realm="a",error="invalid_token""#])));
    }

    #[test]
    fn realms_that_would_leak_credentials_are_refused() {
        for (realm, registry, good) in [
            ("https://auth.docker.io/token", "https://registry-1.docker.io/", true),
            ("http://auth.example.com/token", "https://registry.example.com/", false),
            ("http://auth.example.com/token", "http://registry.example.com/", true),
            ("http://127.0.0.1:5001/token", "http://127.0.0.1:5000/", true),
            ("http://localhost:5001/token", "http://[::1]:5000/", true),
            ("http://127.0.0.1/token", "http://registry.example.com/", false),
            ("https://localhost/token", "https://registry.example.com/", false),
            ("https://a.localhost./token", "https://registry.example.com/", false),
            ("https://[::1]/token", "https://registry.example.com/", false),
            ("https://[::ffff:127.0.0.1]/token", "https://registry.example.com/", false),
            ("https://0.0.0.0/token", "https://registry.example.com/", false),
            ("http://169.254.169.254/latest", "http://127.0.0.1:5000/", false),
            ("https://[fe80::1]/t", "https://registry.example.com/", false),
            ("https://user:pass@auth.example.com/t", "https://registry.example.com/", false),
            ("ftp://auth.example.com/t", "http://registry.example.com/", false),
            ("/token", "https://registry.example.com/", false),
        ] {
            assert_eq!(check_realm(realm, &registry.parse().unwrap()).is_ok(), good, "{realm} for {registry}");
        }
    }
}
