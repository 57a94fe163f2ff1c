//! Parses the challenge of a refusal (`WWW-Authenticate`, RFC 9110 §11.6.1; Bearer by the distribution project's
//! token specification).
//!
//! Lenient: accepts what the parsers of docker and containerd accept, and other forms that registries and proxies are
//! known to send: misplaced spaces, unquoted values, several challenges in one line.

use http::header::{HeaderMap, WWW_AUTHENTICATE};

/// An authentication scheme.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Challenge {
    /// The credentials with each request.
    Basic,
    /// A token from `realm`.
    Bearer {
        /// The URL of the token service, verbatim.
        realm: String,
        /// The value for `service`.
        service: Option<String>,
    },
}

/// The challenge to follow among all in `headers`: Bearer before Basic, because a stolen token is worth less.
pub(crate) fn read(headers: &HeaderMap) -> Option<Challenge> {
    let all = offers(headers);
    let bearer = all.iter().filter(|offer| offer.scheme == "bearer").find_map(|offer| {
        let realm = offer.value("realm")?.to_owned();
        Some(Challenge::Bearer { realm, service: offer.value("service").map(ToOwned::to_owned) })
    });
    bearer.or_else(|| all.iter().any(|offer| offer.scheme == "basic").then_some(Challenge::Basic))
}

/// The scopes in a Bearer challenge.
pub(crate) fn scopes(headers: &HeaderMap) -> Vec<String> {
    let all = offers(headers);
    let scope = all.iter().filter(|offer| offer.scheme == "bearer").find_map(|offer| offer.value("scope"));
    scope.unwrap_or_default().split(' ').filter(|scope| !scope.is_empty()).map(ToOwned::to_owned).collect()
}

/// Whether a challenge says that the token is valid, but insufficient (RFC 6750 §3.1).
pub(crate) fn insufficient_scope(headers: &HeaderMap) -> bool {
    names_error(headers, "insufficient_scope")
}

/// Whether a challenge says that the token is invalid (RFC 6750 §3.1).
pub(crate) fn invalid_token(headers: &HeaderMap) -> bool {
    names_error(headers, "invalid_token")
}

fn names_error(headers: &HeaderMap, name: &str) -> bool {
    offers(headers).iter().any(|offer| offer.value("error") == Some(name))
}

/// One challenge: a scheme and its parameters, both with lower-case names.
#[derive(Debug, Default)]
struct Offer {
    scheme: String,
    parameters: Vec<(String, String)>,
}

impl Offer {
    /// The value of a parameter; an empty one counts as none, and of several the last counts.
    fn value(&self, name: &str) -> Option<&str> {
        let named = self.parameters.iter().rev().find(|(key, _)| key == name);
        named.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }
}

fn offers(headers: &HeaderMap) -> Vec<Offer> {
    let texts = headers.get_all(WWW_AUTHENTICATE).iter().map(|value| String::from_utf8_lossy(value.as_bytes()));
    texts.flat_map(|text| offers_in(&text)).collect()
}

/// Separators of words, which also end an unquoted value.
fn divides(c: char) -> bool {
    c.is_ascii_whitespace() || matches!(c, ',' | ';')
}

/// The challenges in one line. A word followed by `=` is the name of a parameter; otherwise it begins a challenge.
fn offers_in(line: &str) -> Vec<Offer> {
    let mut offers: Vec<Offer> = Vec::new();
    let mut bare_scope = false;
    let mut rest = line.trim_start_matches(divides);
    while !rest.is_empty() {
        let end = rest.find(|c: char| divides(c) || c == '=').unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        let value = after.trim_start().strip_prefix('=').map(str::trim_start);
        rest = match (value, offers.last_mut()) {
            (Some(value), Some(offer)) => {
                let (value, quoted, after) = value_at(value);
                let key = word.to_ascii_lowercase();
                bare_scope = key == "scope" && !quoted;
                offer.parameters.push((key, value));
                after
            }
            // A parameter without a challenge.
            (Some(value), None) => value_at(value).2,
            // An unquoted `repository:a:pull,push` is one scope, not the beginning of another challenge.
            (None, Some(offer)) if bare_scope && is_action(word) => {
                if let Some((_, scope)) = offer.parameters.last_mut() {
                    scope.push(',');
                    scope.push_str(word);
                }
                after
            }
            (None, _) => {
                bare_scope = false;
                offers.push(Offer { scheme: word.to_ascii_lowercase(), parameters: Vec::new() });
                after
            }
        };
        rest = rest.trim_start_matches(divides);
    }
    offers
}

fn is_action(word: &str) -> bool {
    matches!(word, "pull" | "push" | "delete" | "*")
}

/// The value at the start of `text`, whether it is quoted, and the rest.
fn value_at(text: &str) -> (String, bool, &str) {
    let Some(quote) = text.chars().next().filter(|c| matches!(c, '"' | '\'')) else {
        let end = text.find(divides).unwrap_or(text.len());
        return (text[..end].to_owned(), false, &text[end..]);
    };
    let mut value = String::new();
    let mut chars = text[1..].char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => value.extend(chars.next().map(|(_, escaped)| escaped)),
            c if c == quote => return (value, true, &text[1 + at + 1..]),
            c => value.push(c),
        }
    }
    // The closing quote is missing.
    (value, true, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(WWW_AUTHENTICATE, http::header::HeaderValue::from_bytes(line.as_bytes()).unwrap());
        }
        headers
    }

    #[test]
    fn every_challenge_in_every_header_is_read() {
        let bearer = |realm: &str, service: Option<&str>| {
            Some(Challenge::Bearer { realm: realm.into(), service: service.map(Into::into) })
        };
        let (url, full) = ("https://a/t", bearer("https://a/t", Some("s")));
        for (lines, expected) in [
            (&[r#"Bearer realm="https://a/t",service="s",scope="x:y:pull,push""#][..], full.clone()),
            (&[r#"Bearer realm="https://a/t", service="s", scope="x:y:pull,push""#], full.clone()),
            // Misplaced and missing white space.
            (&[r#"Bearer  realm="https://a/t",service="s""#], full.clone()),
            (&[r#"  Bearer	realm="https://a/t"  ,  service="s"  "#], full.clone()),
            (&[r#"Bearer realm = "https://a/t" , service = "s""#], full.clone()),
            (&[r#"Bearer realm="https://a/t"service="s""#], full.clone()),
            // Too many or too few commas, or semicolons.
            (&[r#"Bearer realm="https://a/t",,service="s","#], full.clone()),
            (&[r#"Bearer ,realm="https://a/t",service="s""#], full.clone()),
            (&[r#"Bearer realm="https://a/t" service="s""#], full.clone()),
            (&[r#"Bearer realm="https://a/t"; service="s""#], full.clone()),
            // Unquoted, with colons and slashes; single quotes; a missing quote.
            (&["Bearer realm=https://a/t,service=s"], full.clone()),
            (&["Bearer realm=https://a/t, service=s, scope=repository:a/b:pull"], full.clone()),
            (&["Bearer realm=https://a/t,scope=repository:a/b:pull,push,service=s"], full.clone()),
            (&["Bearer realm=https://a:5001/t?x=y,service=s"], bearer("https://a:5001/t?x=y", Some("s"))),
            (&["Bearer realm='https://a/t',service='s'"], full.clone()),
            (&[r#"Bearer service="s",realm="https://a/t"#], full.clone()),
            // Unusual case.
            (&[r#"bEARER Realm="https://a/t",SERVICE="s""#], full.clone()),
            (&[r#"BEARER REALM="https://a/t""#], bearer(url, None)),
            // Values that contain separators.
            (&[r#"Bearer realm="https://a/t",service="s, t; \"u\"""#], bearer(url, Some("s, t; \"u\""))),
            (&[r#"Bearer realm="https://a/t",service="sü""#], bearer(url, Some("sü"))),
            (&[r#"Bearer realm="https://a/t",error="x",error_description="a, b=c",service=s"#], full.clone()),
            // Several challenges.
            (&[r#"Basic realm="x", Bearer realm="https://a/t",service="s""#], full.clone()),
            (&[r#"Bearer realm="https://a/t",service="s", Basic realm="x""#], full.clone()),
            (&[r#"Basic realm="x""#, r#"Bearer realm="https://a/t""#], bearer(url, None)),
            (&[r#"Negotiate, Bearer realm="https://a/t",service="s""#], full.clone()),
            (&["Negotiate YII=, Basic realm=x"], Some(Challenge::Basic)),
            (&[r#"Digest realm="x",nonce="a==", Bearer realm="https://a/t""#], bearer(url, None)),
            (&["Bearer", r#"Bearer realm="https://a/t""#], bearer(url, None)),
            (&["Negotiate", "basic"], Some(Challenge::Basic)),
            (&["Basic"], Some(Challenge::Basic)),
            (&["Basic realm=Registry Realm"], Some(Challenge::Basic)),
            (&[r#"BASIC realm="a \"b\"""#], Some(Challenge::Basic)),
            // Challenges that can't be met.
            (&["Bearer"], None),
            (&[r#"Bearer realm="""#], None),
            (&[r#"Bearer service="s""#], None),
            (&[r#"Bearer service="s""#, "Basic realm=x"], Some(Challenge::Basic)),
            (&["=,;\"", r#"realm="https://a/t""#], None),
            (&["Negotiate", "Digest realm=x"], None),
            (&[""], None),
            (&[], None),
        ] {
            assert_eq!(read(&headers(lines)), expected, "{lines:?}");
        }
    }

    #[test]
    fn errors_and_scopes_are_read() {
        assert!(insufficient_scope(&headers(&[r#"Bearer realm="a",error="insufficient_scope""#])));
        assert!(insufficient_scope(&headers(&["Bearer realm=https://a/t,error=insufficient_scope"])));
        assert!(!insufficient_scope(&headers(&[r#"Bearer realm="a",error="invalid_token""#])));
        assert!(invalid_token(&headers(&[r#"Bearer  realm="a", error="invalid_token""#])));
        for (line, expected) in [
            (
                r#"Bearer realm="a",scope="repository:a/b:pull,push repository:c:pull""#,
                &["repository:a/b:pull,push", "repository:c:pull"][..],
            ),
            ("Bearer realm=a,scope=repository:a/b:pull,push,service=s", &["repository:a/b:pull,push"]),
            ("Bearer realm=a", &[]),
        ] {
            assert_eq!(scopes(&headers(&[line])), expected, "{line}");
        }
    }
}
