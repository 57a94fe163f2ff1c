//! Derives the URL and client of a host from its settings.
//!
//! Files and variables are read when a run begins (`ClientSettings`), so that errors in them are reported before
//! the first request; clients are created on first use.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use url::Url;

use crate::config::RegistrySettings;
use crate::error::Result;
use crate::oci::Registry;
use crate::registry::auth::credentials::Environment;
use crate::registry::net::connect::Connector;
use crate::registry::net::destination::is_same_origin;
use crate::registry::net::http::Client;
use crate::registry::net::proxies::Proxies;
use crate::registry::net::tls::{Peer, Protocol, Tls};
use crate::registry::net::unusable::unusable;
use crate::registry::net::way::Way;
use crate::registry::services::quirks::Quirks;

/// The prefix of the registry's URLs.
pub(crate) fn base_url(registry: &Registry, settings: &RegistrySettings, quirks: &Quirks) -> Result<Url> {
    if let Some(endpoint) = &settings.endpoint {
        return Ok(endpoint.clone());
    }
    let scheme = if settings.speaks_plain_http(registry) { "http" } else { "https" };
    let host = quirks.api_host.unwrap_or(registry.as_str());
    Url::parse(&format!("{scheme}://{host}")).map_err(|e| unusable(registry, e.to_string()))
}

/// Everything that determines how to connect to a host.
#[derive(Debug)]
pub(crate) struct ClientSettings {
    pub(crate) registry: Registry,
    pub(crate) settings: RegistrySettings,
    /// The prefix of its URLs.
    pub(crate) base: Url,
    proxies: Arc<Proxies>,
    tls: Tls,
}

impl ClientSettings {
    /// Reads the files and variables in the settings.
    ///
    /// # Errors
    /// `Configuration` if the settings can't be used, or a proxy variable is invalid.
    pub(crate) fn read(registry: &Registry, settings: RegistrySettings, environment: &Environment) -> Result<Self> {
        let base = base_url(registry, &settings, &Quirks::of(registry))?;
        let proxies = Proxies::new(registry, &settings, &base, environment)?;
        proxies.of(&base)?;
        let tls = Tls::read(registry, &settings)?;
        Ok(Self { registry: registry.clone(), settings, base, proxies: Arc::new(proxies), tls })
    }
}

/// The clients for a host, and for the hosts it redirects to.
#[derive(Debug)]
pub(crate) struct Clients {
    settings: ClientSettings,
    idle: Duration,
    /// By peer and protocol, each created on first use.
    made: [[OnceLock<Result<Client>>; 2]; 3],
    /// Whether the registry itself has answered by HTTP/2.
    speaks_http2: AtomicBool,
    /// Whether HTTP/2 has failed here.
    avoids_http2: AtomicBool,
}

impl Clients {
    /// `idle` limits how long connecting may take.
    pub(crate) fn new(settings: ClientSettings, idle: Duration) -> Self {
        let (speaks_http2, avoids_http2) = (AtomicBool::new(false), AtomicBool::new(false));
        Self { settings, idle, made: Default::default(), speaks_http2, avoids_http2 }
    }

    /// The client for `url`, at the registry or behind a redirect of it. `bulk`: for the bytes of a blob.
    ///
    /// # Errors
    /// `Configuration` if the settings can't be used after all.
    pub(crate) fn to(&self, url: &Url, bulk: bool) -> Result<&Client> {
        // A variable that names no proxy is an error, and no reason to connect directly.
        self.settings.proxies.of(url)?;
        let peer = match (url.scheme() == "https", is_same_origin(url, &self.settings.base)) {
            (false, _) => Peer::Plain,
            (true, true) => Peer::Registry,
            (true, false) => Peer::Other,
        };
        // Without HTTP/2, blobs and short requests share their connections.
        let is_apart = bulk && (peer == Peer::Other || self.speaks_http2.load(Ordering::Relaxed));
        let protocol = match is_apart || peer == Peer::Plain || self.avoids_http2.load(Ordering::Relaxed) {
            true => Protocol::Http1,
            false => Protocol::Offered,
        };
        let made = &self.made[peer as usize][protocol as usize];
        made.get_or_init(|| self.client(peer, protocol)).as_ref().map_err(Clone::clone)
    }

    /// Records that the registry itself has answered by HTTP/2. Its first request is sent alone, so that this is
    /// known before there are many.
    pub(crate) fn record_http2(&self) {
        self.speaks_http2.store(true, Ordering::Relaxed);
    }

    /// Stops using HTTP/2: a server, or a proxy in front of it, offers it without supporting it properly.
    pub(crate) fn avoid_http2(&self) {
        self.avoids_http2.store(true, Ordering::Relaxed);
    }

    /// The way that a request to `url` takes.
    pub(crate) fn way<'a>(&'a self, url: &'a Url) -> Way<'a> {
        let ClientSettings { registry, settings, base, proxies, .. } = &self.settings;
        Way { registry, settings, base, url, proxy: proxies.of(url).ok().flatten() }
    }

    fn client(&self, peer: Peer, protocol: Protocol) -> Result<Client> {
        let ClientSettings { tls, proxies, .. } = &self.settings;
        let to_proxy = if proxies.have_tls() { Peer::Other } else { Peer::Plain };
        let (tls, proxy_tls) = (tls.config(peer, protocol)?, tls.config(to_proxy, Protocol::Http1)?);
        let connector = Connector::new(tls, proxy_tls, Arc::clone(proxies), self.idle);
        Ok(Client::new(connector, Arc::clone(proxies), protocol, self.idle))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{ClientCertificate, Secret};
    use crate::error::{Error, Kind};

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

    /// The error of setting up `h.io` with `settings`.
    fn refusal(settings: &RegistrySettings) -> Error {
        let registry: Registry = "h.io".parse().unwrap();
        let environment = Environment::new(|name| (name == "SOCKS").then(|| "socks5://u:hunter2@p".to_owned()));
        let means = match ClientSettings::read(&registry, settings.clone(), &environment) {
            Ok(means) => means,
            Err(error) => return error,
        };
        let clients = Clients::new(means, Duration::from_secs(60));
        clients.to(&"https://h.io/".parse().unwrap(), false).unwrap_err()
    }

    #[test]
    fn invalid_files_are_named_with_their_key() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            std::fs::write(folder.path().join(name), text).unwrap();
            folder.path().join(name)
        };
        let pair = || {
            let key = rcgen::KeyPair::generate().unwrap();
            let certificate = rcgen::CertificateParams::new(Vec::new()).unwrap().self_signed(&key).unwrap();
            (certificate.pem(), key.serialize_pem())
        };
        let (certificate, _) = pair();
        let (_, other_key) = pair();
        let (empty, good, other) = (file("empty", ""), file("good", &certificate), file("other", &other_key));
        let missing = folder.path().join("missing");
        let of_client = |certificate: &Path, key: &Path| {
            let client = ClientCertificate { certificate: certificate.to_owned(), key: key.to_owned() };
            RegistrySettings { client: Some(client), ..Default::default() }
        };
        let of_ca = |path: &Path| RegistrySettings { ca: Some(path.to_owned()), ..Default::default() };
        for (settings, key, path) in [
            (of_ca(&missing), "ca", &missing),
            (of_ca(&empty), "ca", &empty),
            (of_client(&empty, &other), "client_cert", &empty),
            (of_client(&missing, &other), "client_cert", &missing),
            (of_client(&good, &missing), "client_key", &missing),
            (of_client(&good, &empty), "client_key", &empty),
            (of_client(&good, &other), "client_key", &other),
        ] {
            let error = refusal(&settings);
            let named = format!("registries.h.io.{key}: {}: ", path.display());
            assert!(error.kind() == Kind::Configuration && error.to_string().contains(&named), "{named}: {error}");
        }
    }

    #[test]
    fn an_invalid_proxy_is_reported_without_its_password() {
        for (name, expected) in [("SOCKS", "it isn't a URL"), ("UNSET", "the environment variable UNSET isn't set")] {
            let proxy = Some(Secret::Env(name.to_owned()));
            let error = refusal(&RegistrySettings { proxy, ..Default::default() });
            let told = error.to_string();
            assert!(error.kind() == Kind::Configuration && told.contains("registries.h.io.proxy"), "{told}");
            assert!(told.contains(expected) && !told.contains("hunter2"), "{told}");
        }
    }
}
