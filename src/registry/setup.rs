//! From a host's settings to where and how it is spoken to.

use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use url::Url;

use super::credentials::Environment;
use super::quirks::Quirks;
use crate::config::{ClientCertificate, RegistrySettings, Secret};
use crate::error::{Error, Kind, Result};
use crate::oci::Registry;

/// Shorter than the minute after which common load balancers drop a silent connection.
const POOL_IDLE: Duration = Duration::from_secs(45);

/// This machine, which no proxy knows as we do; a registry may send us there.
const NEVER_PROXIED: &str = "localhost,127.0.0.0/8,::1";

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

/// Everything that decides how a host is spoken to.
#[derive(Debug)]
pub(super) struct Recipe {
    pub(super) registry: Registry,
    pub(super) settings: RegistrySettings,
    pub(super) base: Url,
    pub(super) idle: Duration,
    pub(super) environment: Environment,
}

/// What a host is spoken to with.
#[derive(Debug)]
pub(super) struct Clients {
    recipe: Recipe,
    /// For a registry on this machine that speaks plain HTTP: made without the machine's certificate authorities, whose
    /// reading takes longer than all else before the first request.
    plain: Option<reqwest::Client>,
    full: OnceLock<Result<reqwest::Client>>,
}

impl Clients {
    /// # Errors
    /// `Configuration` if the settings can't be used.
    pub(super) fn new(recipe: Recipe) -> Result<Self> {
        let is_plain = recipe.is_loopback() && recipe.base.scheme() == "http";
        let plain = if is_plain { Some(recipe.build(recipe.builder().tls_certs_only([]))?) } else { None };
        let clients = Self { recipe, plain, full: OnceLock::new() };
        if !is_plain {
            clients.full()?;
        }
        Ok(clients)
    }

    /// The client for `url`, where the registry or a redirect of it has sent us.
    ///
    /// # Errors
    /// As [`Clients::new`], if what the first request needed left something to be read.
    pub(super) fn to(&self, url: &Url) -> Result<&reqwest::Client> {
        match &self.plain {
            Some(plain) if url.scheme() == "http" => Ok(plain),
            _ => self.full(),
        }
    }

    fn full(&self) -> Result<&reqwest::Client> {
        self.full.get_or_init(|| self.recipe.full()).as_ref().map_err(Clone::clone)
    }
}

impl Recipe {
    fn is_loopback(&self) -> bool {
        self.base.host_str().is_some_and(|host| host.parse().is_ok_and(|host: Registry| host.is_loopback()))
    }

    fn builder(&self) -> reqwest::ClientBuilder {
        let builder = reqwest::Client::builder()
            // HTTP/2's flow control costs more than its multiplexing gives to blobs.
            .http1_only()
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("transship/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(self.idle)
            .pool_idle_timeout(POOL_IDLE)
            .tls_danger_accept_invalid_certs(self.settings.insecure);
        if self.is_loopback() { builder.no_proxy() } else { builder }
    }

    fn full(&self) -> Result<reqwest::Client> {
        let Self { registry, settings, environment, .. } = self;
        let mut builder = self.builder();
        if let Some(secret) = settings.proxy.as_ref().filter(|_| !self.is_loopback()) {
            builder = builder.proxy(proxy(registry, secret, environment)?);
        }
        if let Some(path) = &settings.ca {
            builder = builder.tls_certs_merge(certificates(registry, "ca", path)?.1);
        }
        if let Some(client) = &settings.client {
            builder = builder.identity(identity(registry, client)?);
        }
        self.build(builder)
    }

    fn build(&self, builder: reqwest::ClientBuilder) -> Result<reqwest::Client> {
        builder.build().map_err(|e| {
            let source = std::error::Error::source(&e).map(ToString::to_string);
            let why = source.unwrap_or_else(|| e.to_string());
            match &self.settings.client {
                // What is left to go wrong after the files were read one by one.
                Some(client) => at_key(&self.registry, "client_key", &format!("{}: {why}", client.key.display())),
                None => unusable(&self.registry, why),
            }
        })
    }
}

fn at_key(registry: &Registry, key: &str, why: &str) -> Error {
    unusable(registry, format!("registries.{registry}.{key}: {why}"))
}

fn contents(registry: &Registry, key: &str, path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|e| at_key(registry, key, &format!("{}: can't be read: {e}", path.display())))
}

/// The certificates in a file, and its text.
fn certificates(registry: &Registry, key: &str, path: &Path) -> Result<(Vec<u8>, Vec<reqwest::Certificate>)> {
    let pem = contents(registry, key, path)?;
    let certificates = reqwest::Certificate::from_pem_bundle(&pem).ok().filter(|certificates| !certificates.is_empty());
    let none = || at_key(registry, key, &format!("{}: holds no certificate in PEM form", path.display()));
    certificates.map(|certificates| (pem, certificates)).ok_or_else(none)
}

fn identity(registry: &Registry, client: &ClientCertificate) -> Result<reqwest::Identity> {
    let (mut pem, _) = certificates(registry, "client_cert", &client.certificate)?;
    pem.push(b'\n');
    pem.extend(contents(registry, "client_key", &client.key)?);
    // The certificate is there: it is the key that isn't.
    let none =
        |_| at_key(registry, "client_key", &format!("{}: holds no private key in PEM form", client.key.display()));
    reqwest::Identity::from_pem(&pem).map_err(none)
}

fn proxy(registry: &Registry, secret: &Secret, environment: &Environment) -> Result<reqwest::Proxy> {
    let text = environment.read(secret).map_err(|why| at_key(registry, "proxy", &why))?;
    let url = Url::parse(&text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    // Neither the text nor what a parser says of it is shown: there may be a password in it.
    let proxy = url.and_then(|url| reqwest::Proxy::all(url).ok());
    let not_one = || at_key(registry, "proxy", "it isn't a URL such as http://USER:PASSWORD@HOST:PORT");
    Ok(proxy.ok_or_else(not_one)?.no_proxy(reqwest::NoProxy::from_string(NEVER_PROXIED)))
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

    /// The error of setting up `h.io` like this.
    fn refusal(settings: &RegistrySettings) -> Error {
        let registry: Registry = "h.io".parse().unwrap();
        let base = base_url(&registry, settings, &Quirks::of(&registry)).unwrap();
        let environment = Environment::new(|name| (name == "SOCKS").then(|| "socks5://u:hunter2@p".to_owned()));
        let (settings, idle) = (settings.clone(), Duration::from_secs(60));
        Clients::new(Recipe { registry, settings, base, idle, environment }).unwrap_err()
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
