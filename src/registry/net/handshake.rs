//! Explains failed TLS handshakes, with advice. The settings or a certificate have to change, so these aren't
//! retried.

use jiff::Timestamp;
use rustls::pki_types::UnixTime;
use rustls::{AlertDescription, CertificateError, Error as TlsError};

use crate::registry::net::http::HttpError;
use crate::registry::net::tls::is_authoritys;
use crate::registry::net::way::Way;

/// The problem, and what to do about it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Diagnosis {
    pub(crate) why: String,
    pub(crate) hint: String,
}

fn diagnosis(why: impl Into<String>, hint: impl Into<String>) -> Diagnosis {
    Diagnosis { why: why.into(), hint: hint.into() }
}

const CLIENT_HINT: &str =
    "the server requires a client certificate: set client_cert: and client_key: for this registry";
const OTHER_CLIENT_HINT: &str = "set client_cert: and client_key: to a certificate that is valid for this use, and \
    signed by an authority that the server trusts";

/// The TLS failure behind `error`, if it is one.
pub(crate) fn find(error: &HttpError) -> Option<&TlsError> {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        // The `source()` of an I/O error skips the error inside it.
        let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        let inner = inner.map(|inner| inner as &(dyn std::error::Error + 'static));
        let found = [Some(error), inner].into_iter().flatten().find_map(|error| error.downcast_ref());
        if found.is_some() {
            return found;
        }
        cause = inner.or(error.source());
    }
    None
}

/// The meaning of `error` on this way; `None` if it is transient.
pub(crate) fn diagnose(error: &TlsError, way: &Way<'_>) -> Option<Diagnosis> {
    Some(match error {
        TlsError::InvalidCertificate(error) => certificate(error, way),
        TlsError::AlertReceived(alert) => of_alert(*alert, way)?,
        // The answer to the greeting isn't TLS, most likely plain HTTP.
        TlsError::InvalidMessage(_) => diagnosis("the server doesn't speak TLS", way.plain_hint()),
        TlsError::PeerIncompatible(_) => no_common_ground(),
        _ => return None,
    })
}

fn no_common_ground() -> Diagnosis {
    diagnosis(
        "the server supports no TLS version or cipher that transship supports",
        "update the server's configuration: it must support TLS 1.2 or 1.3 with a current cipher",
    )
}

fn of_alert(alert: AlertDescription, way: &Way<'_>) -> Option<Diagnosis> {
    use AlertDescription as Alert;
    Some(match alert {
        Alert::CertificateRequired
        | Alert::CertificateUnknown
        | Alert::BadCertificate
        | Alert::UnsupportedCertificate
        | Alert::CertificateExpired
        | Alert::CertificateRevoked
        | Alert::UnknownCA
        // The client's certificate was signed by another authority of the same name.
        | Alert::DecryptError
        | Alert::AccessDenied => match way.has_identity() {
            true => diagnosis(format!("the server refuses the client certificate ({alert:?})"), OTHER_CLIENT_HINT),
            false => diagnosis(format!("the server wants a client certificate ({alert:?})"), CLIENT_HINT),
        },
        Alert::ProtocolVersion | Alert::HandshakeFailure | Alert::InsufficientSecurity => no_common_ground(),
        Alert::UnrecognisedName => diagnosis(
            "the server doesn't know this name",
            "use the name in its certificate for the registry, and set endpoint: to its address",
        ),
        _ => return None,
    })
}

fn certificate(error: &CertificateError, way: &Way<'_>) -> Diagnosis {
    let renew = "renew it, or correct this machine's clock";
    match error {
        CertificateError::Expired => diagnosis("its certificate has expired", renew),
        CertificateError::ExpiredContext { time, not_after } => {
            let why = format!("its certificate expired at {} (now: {})", shown(*not_after), shown(*time));
            diagnosis(why, renew)
        }
        CertificateError::NotValidYet => diagnosis("its certificate isn't valid yet", renew),
        CertificateError::NotValidYetContext { time, not_before } => {
            let why = format!("its certificate is valid only from {} on (now: {})", shown(*not_before), shown(*time));
            diagnosis(why, renew)
        }
        CertificateError::NotValidForName => diagnosis("its certificate is for another name", name_hint(way)),
        CertificateError::NotValidForNameContext { expected, presented } => {
            let names: Vec<&str> = presented.iter().map(|name| bare(name)).collect();
            let whose =
                if names.is_empty() { "has no name in it".to_owned() } else { format!("is for {}", names.join(", ")) };
            diagnosis(format!("its certificate {whose}, not for {}", expected.to_str()), name_hint(way))
        }
        CertificateError::UnknownIssuer => unknown_issuer("", way),
        CertificateError::BadSignature => unknown_issuer(", except one of the same name with another key", way),
        CertificateError::Revoked => {
            diagnosis("its certificate is revoked", "replace it; don't trust the server until then")
        }
        CertificateError::UnknownRevocationStatus
        | CertificateError::ExpiredRevocationList
        | CertificateError::ExpiredRevocationListContext { .. } => diagnosis(
            "the revocation status of its certificate is unknown",
            "update the revocation list of its authority",
        ),
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => not_for_servers(),
        CertificateError::Other(other) if is_authoritys(other) => diagnosis(
            "its certificate is an authority's, not a server's",
            format!("issue one for the server, or trust this one: {}", way.ca_hint()),
        ),
        CertificateError::Other(other) if format!("{other:?}").contains("EkuError") => not_for_servers(),
        CertificateError::Other(other) if format!("{other:?}").contains("UnsupportedCertVersion") => diagnosis(
            "its certificate has version 1, which can't contain server names",
            "issue one of version 3, with the server's name as subjectAltName",
        ),
        other => diagnosis(format!("its certificate can't be checked: {other}"), "issue another one for the server"),
    }
}

fn not_for_servers() -> Diagnosis {
    diagnosis("its certificate isn't for servers", "issue one with the extended key usage serverAuth")
}

fn unknown_issuer(but: &str, way: &Way<'_>) -> Diagnosis {
    match way.ca() {
        Some(path) => diagnosis(
            format!(
                "its certificate isn't signed by an authority that this machine or ca: ({}) trusts{but}",
                path.display()
            ),
            format!("the authority may have changed: {}", way.ca_hint()),
        ),
        None => diagnosis(
            format!("its certificate isn't signed by an authority that this machine trusts{but}"),
            way.ca_hint(),
        ),
    }
}

fn name_hint(way: &Way<'_>) -> String {
    match way.is_own() {
        true => format!(
            "issue one for this name; or use the certificate's name for the registry, and set endpoint: of {} to its \
             address",
            way.key()
        ),
        false => {
            format!("its owner has to issue one for this name, or {} has to use another name for it", way.registry())
        }
    }
}

/// `DnsName("h.io")` and `IpAddress(127.0.0.1)` without the wrapper, for display.
fn bare(name: &str) -> &str {
    let inner = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')')).unwrap_or(name);
    inner.trim_matches('"')
}

fn shown(time: UnixTime) -> String {
    let time = i64::try_from(time.as_secs()).ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
    time.map_or_else(|| "an unknown time".to_owned(), |time| time.to_string())
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::ServerName;

    use super::*;
    use crate::config::{ClientCertificate, RegistrySettings};

    const FAR: &str = "https://cdn.io/blob?signature=secret";

    /// The message for `error` with these settings for `h.io`, on the way to `url`.
    fn diagnosed(error: &TlsError, settings: &RegistrySettings, url: &str) -> Option<String> {
        let (registry, base) = ("h.io".parse().unwrap(), "https://h.io/".parse().unwrap());
        let url = url.parse().unwrap();
        let way = Way { registry: &registry, settings, base: &base, url: &url, proxy: None };
        let Diagnosis { why, hint } = diagnose(error, &way)?;
        assert!(!why.is_empty() && !hint.is_empty() && !format!("{why} {hint}").contains("secret"), "{error:?}");
        Some(format!("{why} | {hint}"))
    }

    fn time(seconds: u64) -> UnixTime {
        UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds))
    }

    #[test]
    fn every_certificate_error_has_a_message_and_a_hint() {
        use CertificateError as Wrong;
        let ca = || RegistrySettings { ca: Some("ca.pem".into()), ..Default::default() };
        for (wrong, words) in [
            (Wrong::Expired, "has expired"),
            (
                Wrong::ExpiredContext { time: time(86400), not_after: time(0) },
                "expired at 1970-01-01T00:00:00Z (now: 1970-01-02T00:00:00Z) | renew it",
            ),
            (Wrong::NotValidYet, "isn't valid yet"),
            (Wrong::NotValidYetContext { time: time(0), not_before: time(60) }, "only from 1970-01-01T00:01:00Z on"),
            (Wrong::Revoked, "is revoked | replace it"),
            (Wrong::UnknownRevocationStatus, "is unknown"),
            (Wrong::ExpiredRevocationList, "is unknown"),
            (
                Wrong::UnknownIssuer,
                "an authority that this machine or ca: (ca.pem) trusts | the authority may have changed: put",
            ),
            (Wrong::BadSignature, "trusts, except one of the same name with another key | "),
            (Wrong::NotValidForName, "is for another name | issue one for this name"),
            (
                Wrong::NotValidForNameContext {
                    expected: ServerName::try_from("h.io").unwrap(),
                    presented: vec!["DnsName(\"a.io\")".into(), "IpAddress(10.0.0.1)".into()],
                },
                "is for a.io, 10.0.0.1, not for h.io | ",
            ),
            (Wrong::InvalidPurpose, "isn't for servers"),
            (Wrong::BadEncoding, "can't be checked"),
            (Wrong::UnhandledCriticalExtension, "can't be checked"),
            (Wrong::ApplicationVerificationFailure, "can't be checked"),
        ] {
            let told = diagnosed(&TlsError::InvalidCertificate(wrong.clone()), &ca(), "https://h.io/v2/").unwrap();
            assert!(told.contains(words) && !told.contains("set ca:"), "{wrong:?}: {told}");
        }
        let unknown = TlsError::InvalidCertificate(Wrong::UnknownIssuer);
        let unset = diagnosed(&unknown, &RegistrySettings::default(), "https://h.io/").unwrap();
        assert!(unset.contains("that this machine trusts | set ca: of registries.h.io to a PEM file"), "{unset}");
        let insecure = RegistrySettings { insecure: true, ..Default::default() };
        let elsewhere = diagnosed(&unknown, &insecure, FAR).unwrap();
        assert!(
            elsewhere.contains("set ca: of registries.h.io") && elsewhere.contains("insecure: holds for h.io alone")
        );
    }

    #[test]
    fn tls_alerts_and_plain_http_answers_are_recognised() {
        use AlertDescription as Alert;
        let none = RegistrySettings::default();
        let client = ClientCertificate { certificate: "c".into(), key: "k".into() };
        let with = RegistrySettings { client: Some(client), ..Default::default() };
        for alert in [Alert::CertificateRequired, Alert::UnknownCA, Alert::BadCertificate, Alert::AccessDenied] {
            let told = |settings, url| diagnosed(&TlsError::AlertReceived(alert), settings, url).unwrap();
            assert!(told(&none, "https://h.io/").starts_with("the server wants a client certificate"), "{alert:?}");
            assert!(told(&with, "https://h.io/").starts_with("the server refuses the client certificate"), "{alert:?}");
            assert!(told(&with, FAR).starts_with("the server wants"), "it isn't shown there: {alert:?}");
        }
        for alert in [Alert::ProtocolVersion, Alert::HandshakeFailure, Alert::InsufficientSecurity] {
            assert!(
                diagnosed(&TlsError::AlertReceived(alert), &none, "https://h.io/").unwrap().contains("TLS 1.2 or 1.3")
            );
        }
        // These are transient.
        for alert in [Alert::InternalError, Alert::CloseNotify] {
            assert_eq!(diagnosed(&TlsError::AlertReceived(alert), &none, "https://h.io/"), None);
        }
        let plain = TlsError::InvalidMessage(rustls::InvalidMessage::InvalidContentType);
        for (endpoint, url, hint) in [
            (None, "https://h.io/", "the server doesn't speak TLS | set plain_http: true in registries.h.io"),
            (Some("https://h.io/"), "https://h.io/", "write http:// in endpoint: of registries.h.io"),
            (None, FAR, "h.io names it as https://: its owner has to correct that"),
        ] {
            let endpoint = endpoint.map(|url| url.parse().unwrap());
            let settings = RegistrySettings { endpoint, ..Default::default() };
            let told = diagnosed(&plain, &settings, url).unwrap();
            assert!(told.contains(hint), "{told}");
        }
    }
}
