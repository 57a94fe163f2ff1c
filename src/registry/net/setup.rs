//! From a host's settings to where and how it is spoken to.
//!
//! Files and variables are read when a run begins (`ClientSettings`), so that what is wrong with them is told before the first request;
//! clients are made when they are first needed.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use reqwest::header::{ACCEPT_ENCODING, HeaderMap, HeaderValue};
use url::Url;

use crate::config::RegistrySettings;
use crate::error::Result;
use crate::oci::Registry;
use crate::registry::auth::credentials::Environment;
use crate::registry::net::proxies::Proxies;
use crate::registry::net::tls::{Peer, Tls};
use crate::registry::net::unusable::unusable;
use crate::registry::net::way::Way;
use crate::registry::services::quirks::Quirks;

/// Shorter than the minute after which common load balancers drop a silent connection.
const POOL_IDLE: Duration = Duration::from_secs(45);

/// What the registry's URLs begin with.
pub(crate) fn base_url(registry: &Registry, settings: &RegistrySettings, quirks: &Quirks) -> Result<Url> {
    if let Some(endpoint) = &settings.endpoint {
        return Ok(endpoint.clone());
    }
    let scheme = if settings.speaks_plain_http(registry) { "http" } else { "https" };
    let host = quirks.api_host.unwrap_or(registry.as_str());
    Url::parse(&format!("{scheme}://{host}")).map_err(|e| unusable(registry, e.to_string()))
}

/// Everything that decides how a host is spoken to.
#[derive(Debug)]
pub(crate) struct ClientSettings {
    pub(crate) registry: Registry,
    pub(crate) settings: RegistrySettings,
    /// What its URLs begin with.
    pub(crate) base: Url,
    proxies: Arc<Proxies>,
    tls: Tls,
}

impl ClientSettings {
    /// Reads what the settings name.
    ///
    /// # Errors
    /// `Configuration` if the settings can't be used, or the environment names no proxy where it should.
    pub(crate) fn read(registry: &Registry, settings: RegistrySettings, environment: &Environment) -> Result<Self> {
        let base = base_url(registry, &settings, &Quirks::of(registry))?;
        let proxies = Proxies::new(registry, &settings, &base, environment)?;
        proxies.of(&base)?;
        let tls = Tls::read(registry, &settings)?;
        Ok(Self { registry: registry.clone(), settings, base, proxies: Arc::new(proxies), tls })
    }
}

/// What a host, and where it sends us, is spoken to with.
#[derive(Debug)]
pub(crate) struct Clients {
    means: ClientSettings,
    idle: Duration,
    /// Made without the machine's certificate authorities, whose reading takes longer than all else before a first request.
    plain: OnceLock<Result<reqwest::Client>>,
    registry: OnceLock<Result<reqwest::Client>>,
    others: OnceLock<Result<reqwest::Client>>,
}

impl Clients {
    /// `idle` is how long a connection may take.
    pub(crate) fn new(means: ClientSettings, idle: Duration) -> Self {
        let (plain, registry, others) = (OnceLock::new(), OnceLock::new(), OnceLock::new());
        Self { means, idle, plain, registry, others }
    }

    /// The client for `url`, where the registry or a redirect of it has sent us.
    ///
    /// # Errors
    /// `Configuration` if what was read can't be used after all.
    pub(crate) fn to(&self, url: &Url) -> Result<&reqwest::Client> {
        let proxy = self.means.proxies.of(url)?;
        let has_tls = url.scheme() == "https" || proxy.is_some_and(|proxy| proxy.url.scheme() == "https");
        let is_as_others = self.means.tls.is_alike_for_all() || url.origin() != self.means.base.origin();
        let (client, peer) = match (has_tls, is_as_others) {
            (false, _) => (&self.plain, Peer::Plain),
            (true, false) => (&self.registry, Peer::Registry),
            (true, true) => (&self.others, Peer::Other),
        };
        client.get_or_init(|| self.client(peer)).as_ref().map_err(Clone::clone)
    }

    /// The way that a request to `url` takes.
    pub(crate) fn way<'a>(&'a self, url: &'a Url) -> Way<'a> {
        let ClientSettings { registry, settings, base, proxies, .. } = &self.means;
        Way { registry, settings, base, url, proxy: proxies.of(url).ok().flatten() }
    }

    fn client(&self, peer: Peer) -> Result<reqwest::Client> {
        let proxies = Arc::clone(&self.means.proxies);
        let proxy = reqwest::Proxy::custom(move |url| proxies.of(url).ok().flatten().map(|proxy| proxy.url.clone()));
        let client = reqwest::Client::builder()
            // HTTP/2's flow control costs more than its multiplexing gives to blobs.
            .http1_only()
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("transship/", env!("CARGO_PKG_VERSION")))
            // Digests are of the bytes as they are stored.
            .default_headers(HeaderMap::from_iter([(ACCEPT_ENCODING, HeaderValue::from_static("identity"))]))
            .connect_timeout(self.idle)
            .pool_idle_timeout(POOL_IDLE)
            .proxy(proxy)
            .tls_backend_preconfigured(self.means.tls.config(peer)?);
        client.build().map_err(|e| {
            let source = std::error::Error::source(&e).map(ToString::to_string);
            unusable(&self.means.registry, source.unwrap_or_else(|| e.to_string()))
        })
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

    /// The error of setting up `h.io` like this.
    fn refusal(settings: &RegistrySettings) -> Error {
        let registry: Registry = "h.io".parse().unwrap();
        let environment = Environment::new(|name| (name == "SOCKS").then(|| "socks5://u:hunter2@p".to_owned()));
        let means = match ClientSettings::read(&registry, settings.clone(), &environment) {
            Ok(means) => means,
            Err(error) => return error,
        };
        let clients = Clients::new(means, Duration::from_secs(60));
        clients.to(&"https://h.io/".parse().unwrap()).unwrap_err()
    }

    #[test]
    fn bad_files_are_named_with_their_key() {
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
    fn a_bad_proxy_is_told_without_its_password() {
        for (name, expected) in [("SOCKS", "it isn't a URL"), ("UNSET", "the environment variable UNSET isn't set")] {
            let proxy = Some(Secret::Env(name.to_owned()));
            let error = refusal(&RegistrySettings { proxy, ..Default::default() });
            let told = error.to_string();
            assert!(error.kind() == Kind::Configuration && told.contains("registries.h.io.proxy"), "{told}");
            assert!(told.contains(expected) && !told.contains("hunter2"), "{told}");
        }
    }
}
