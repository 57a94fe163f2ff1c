//! From a host's settings to where and how it is spoken to.

use std::time::Duration;

use url::Url;

use super::quirks::Quirks;
use crate::config::{Limits, RegistrySettings};
use crate::error::{Error, Kind, Result};
use crate::oci::Registry;

/// Shorter than the minute after which common load balancers drop a silent connection.
const POOL_IDLE: Duration = Duration::from_secs(45);

fn unusable(registry: &Registry, why: String) -> Error {
    Error::new(Kind::Configuration, format!("set up {registry}"), why)
}

/// What the registry's URLs begin with. Loopback hosts speak plain HTTP unless something says otherwise.
pub(super) fn base_url(registry: &Registry, settings: &RegistrySettings, quirks: &Quirks) -> Result<Url> {
    if let Some(endpoint) = &settings.endpoint {
        return Ok(endpoint.clone());
    }
    let wants_tls = settings.ca.is_some() || settings.insecure || !registry.is_loopback();
    let scheme = if settings.plain_http.unwrap_or(!wants_tls) { "http" } else { "https" };
    let host = quirks.api_host.unwrap_or(registry.as_str());
    Url::parse(&format!("{scheme}://{host}")).map_err(|e| unusable(registry, e.to_string()))
}

pub(super) fn client(
    registry: &Registry,
    settings: &RegistrySettings,
    base: &Url,
    limits: &Limits,
) -> Result<reqwest::Client> {
    let mut builder = reqwest::Client::builder()
        // HTTP/2's flow control costs more than its multiplexing gives to blobs.
        .http1_only()
        .redirect(reqwest::redirect::Policy::none())
        .user_agent(concat!("transship/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(limits.idle_timeout)
        .pool_idle_timeout(POOL_IDLE)
        .tls_danger_accept_invalid_certs(settings.insecure);
    if base.host_str().is_some_and(|host| host.parse().is_ok_and(|host: Registry| host.is_loopback())) {
        builder = builder.no_proxy();
    }
    if let Some(path) = &settings.ca {
        let failed = |why: String| unusable(registry, format!("registries.{registry}.ca: {}: {why}", path.display()));
        let pem = std::fs::read(path).map_err(|e| failed(format!("can't be read: {e}")))?;
        let certificates = reqwest::Certificate::from_pem_bundle(&pem)
            .ok()
            .filter(|certificates| !certificates.is_empty())
            .ok_or_else(|| failed("holds no certificate in PEM form".to_owned()))?;
        builder = builder.tls_certs_merge(certificates);
    }
    builder.build().map_err(|e| {
        let source = std::error::Error::source(&e).map(ToString::to_string);
        unusable(registry, source.unwrap_or_else(|| e.to_string()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schemes_follow_the_settings() {
        let (plain, none) =
            (|plain_http| RegistrySettings { plain_http, ..Default::default() }, RegistrySettings::default());
        let ca = |plain_http| RegistrySettings { plain_http, ca: Some("ca.pem".into()), ..Default::default() };
        let endpoint =
            RegistrySettings { endpoint: Some("https://127.0.0.1:1/x".parse().unwrap()), ..Default::default() };
        let insecure = RegistrySettings { insecure: true, ..Default::default() };
        for (registry, settings, expected) in [
            ("docker.io", none.clone(), "https://registry-1.docker.io/"),
            ("h.io", none.clone(), "https://h.io/"),
            ("h.io", plain(Some(true)), "http://h.io/"),
            ("localhost:5000", none, "http://localhost:5000/"),
            ("localhost:5000", plain(Some(false)), "https://localhost:5000/"),
            ("localhost:5000", ca(None), "https://localhost:5000/"),
            ("localhost:5000", ca(Some(true)), "http://localhost:5000/"),
            ("127.0.0.1:5000", insecure, "https://127.0.0.1:5000/"),
            ("h.io", endpoint, "https://127.0.0.1:1/x"),
        ] {
            let registry: Registry = registry.parse().unwrap();
            assert_eq!(
                base_url(&registry, &settings, &Quirks::of(&registry)).unwrap().as_str(),
                expected,
                "{settings:?}"
            );
        }
    }

    #[test]
    fn a_bad_certificate_file_is_named() {
        let registry: Registry = "h.io".parse().unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        for path in ["/nonexistent/ca.pem".into(), file.path().to_owned()] {
            let settings = RegistrySettings { ca: Some(path.clone()), ..Default::default() };
            let base = base_url(&registry, &settings, &Quirks::of(&registry)).unwrap();
            let error = client(&registry, &settings, &base, &Limits::default()).unwrap_err();
            assert!(
                error.kind() == Kind::Configuration && error.to_string().contains(path.to_str().unwrap()),
                "{error}"
            );
        }
    }
}
