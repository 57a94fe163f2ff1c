//! `registries`: settings by host.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use url::Url;

use super::ecr;
use super::findings::Findings;
use super::raw::{RawRegistry, RawSecret};
use super::{EcrSettings, Env, HarborSettings, harbor};
use crate::oci::{Registry, Service};
use crate::yaml::KeyPath;

/// One entry of `registries`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RegistrySettings {
    /// The user name.
    pub username: Option<Secret>,
    /// The password or token of that user.
    pub password: Option<Secret>,
    /// A bearer token.
    pub token: Option<Secret>,
    /// A PEM file with additional certificate authorities, or with the server's own certificate; also for the hosts
    /// that the registry redirects to.
    pub ca: Option<PathBuf>,
    /// The client certificate for the registry's own host and port.
    pub client: Option<ClientCertificate>,
    /// Accept any certificate of the registry's own host and port.
    pub insecure: bool,
    /// Plain HTTP: forced on or off; by default, on for loopback hosts.
    pub plain_http: Option<bool>,
    /// The URL of a proxy, instead of the environment's. `Plain` only if it contains no password.
    pub proxy: Option<Secret>,
    /// The URL to connect to instead of the host.
    pub endpoint: Option<url::Url>,
    /// Mirrors to read content from by digest, in the order in which they are asked.
    pub mirrors: Vec<Mirror>,
    /// Settings for ECR.
    pub ecr: EcrSettings,
    /// Settings for Harbor. They mark the registry as one; without them it is recognised by its answers.
    pub harbor: Option<HarborSettings>,
}

impl RegistrySettings {
    /// Whether `registry`, with these settings, uses plain HTTP. Loopback hosts do by default.
    pub fn speaks_plain_http(&self, registry: &Registry) -> bool {
        let has_tls_endpoint = self.endpoint.as_ref().is_some_and(|endpoint| endpoint.scheme() == "https");
        let tls_expected = self.ca.is_some() || self.insecure || has_tls_endpoint || !registry.is_loopback();
        self.plain_http.unwrap_or(!tls_expected)
    }
}

/// `REGISTRY[/PREFIX]`. Below the prefix a repository has the same path as at its origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirror {
    /// The registry.
    pub registry: Registry,
    /// The path before each repository, without leading and trailing slashes; may be empty.
    pub prefix: String,
}

/// `client_cert` and `client_key`, both PEM files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The certificate, followed by its chain up to an authority.
    pub certificate: PathBuf,
    /// The private key of the certificate.
    pub key: PathBuf,
}

/// Where a secret is read from when its host is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Secret {
    /// A literal value: only for user names, and for proxies without a password.
    Plain(String),
    /// An environment variable.
    Env(String),
    /// A file; one trailing newline is stripped.
    File(PathBuf),
}

/// All settings. Environment variables and policies are looked up only for the hosts in `used`: a file may serve
/// several jobs.
pub(super) fn settings(
    raw: Option<&BTreeMap<String, Option<RawRegistry>>>,
    mut mirrors: BTreeMap<Registry, Vec<Mirror>>,
    used: &BTreeSet<Registry>,
    env: &Env<'_>,
    findings: &mut Findings<'_>,
) -> BTreeMap<Registry, RegistrySettings> {
    let list = KeyPath::default().key("registries");
    let mut settings = BTreeMap::new();
    for (host, raw) in raw.into_iter().flatten() {
        let path = list.key(host);
        let Some(registry) = findings.ok(&path, host.parse::<Registry>()) else { continue };
        let default = RawRegistry::default();
        let raw = raw.as_ref().unwrap_or(&default);
        let mut entry = one(raw, &registry, &path, used.contains(&registry), findings);
        entry.mirrors = mirrors.remove(&registry).unwrap_or_default();
        if used.contains(&registry) {
            let secrets = [
                ("username", &entry.username),
                ("password", &entry.password),
                ("token", &entry.token),
                ("proxy", &entry.proxy),
            ];
            for (key, secret) in secrets {
                match secret {
                    Some(Secret::Env(name)) => look_up(name, &path.key(key).key("env"), env, findings),
                    Some(Secret::File(file)) => look_into(file, &path.key(key).key("file"), findings),
                    Some(Secret::Plain(_)) | None => {}
                }
            }
            let client = entry.client.as_ref();
            let files = [
                ("ca", entry.ca.as_ref()),
                ("client_cert", client.map(|client| &client.certificate)),
                ("client_key", client.map(|client| &client.key)),
            ];
            for (key, file) in files {
                if let Some(file) = file {
                    look_into(file, &path.key(key), findings);
                }
            }
        }
        if settings.insert(registry.clone(), entry).is_some() {
            findings.add_hint(&path, format!("there are settings for {registry} already"), "put them under one key");
        }
    }
    settings
}

fn look_up(name: &str, path: &KeyPath, env: &Env<'_>, findings: &mut Findings<'_>) {
    // An invalid name was reported already.
    if !is_env_name(name) {
        return;
    }
    let state = match env(name) {
        None => "isn't set",
        Some(value) if value.is_empty() => "is empty",
        Some(_) => return,
    };
    findings.add_hint(path, format!("the environment variable {name} {state}"), format!("export {name}, or use file:"));
}

/// A file that is named has to exist, and must not be empty.
fn look_into(file: &Path, path: &KeyPath, findings: &mut Findings<'_>) {
    // An invalid path was reported already.
    if findings.has(path) {
        return;
    }
    let why = match fs::metadata(file) {
        // A pipe can be read only once, when its content is needed.
        Ok(metadata) if !metadata.is_file() && !metadata.is_dir() => return,
        Ok(_) => match fs::read(file) {
            Ok(content) if content.trim_ascii().is_empty() => "is empty".to_owned(),
            Ok(_) => return,
            Err(error) => unread(&error),
        },
        Err(error) => unread(&error),
    };
    findings.add_lacking(path, format!("{} {why}", file.display()));
}

fn unread(error: &io::Error) -> String {
    let why = error.to_string();
    format!("can't be read: {}", why.split(" (os error").next().unwrap_or_default())
}

fn one(
    raw: &RawRegistry,
    registry: &Registry,
    path: &KeyPath,
    used: bool,
    findings: &mut Findings<'_>,
) -> RegistrySettings {
    let mut secret = |key: &str, raw: &Option<RawSecret>| secret(raw.as_ref()?, key, path, findings);
    let username = secret("username", &raw.username);
    let password = secret("password", &raw.password);
    let token = secret("token", &raw.token);
    let proxy = secret("proxy", &raw.proxy);
    pair(&[("username", raw.username.is_some()), ("password", raw.password.is_some())], path, findings);
    if raw.token.is_some() && raw.username.is_some() && raw.password.is_some() {
        findings.add_hint(&path.key("token"), "there are username and password already", "keep one of the two");
    }
    let endpoint = raw.endpoint.as_deref().and_then(|text| endpoint(text, &path.key("endpoint"), findings));
    let ecr_path = path.key("ecr");
    if raw.ecr.is_some() && raw.endpoint.is_none() && !matches!(Service::of(registry), Service::Ecr { .. }) {
        let hint = "an ECR host is ACCOUNT.dkr.ecr.REGION.amazonaws.com";
        findings.add_hint(&ecr_path, format!("{registry} isn't a registry of Amazon ECR"), hint);
    }
    RegistrySettings {
        username,
        password,
        token,
        ca: raw.ca.as_deref().map(|text| findings.file(&path.key("ca"), text)),
        client: client(raw, path, findings),
        insecure: raw.insecure.unwrap_or(false),
        plain_http: raw.plain_http,
        proxy,
        endpoint,
        mirrors: Vec::new(),
        ecr: raw.ecr.as_ref().map_or_else(EcrSettings::default, |raw| ecr::settings(raw, &ecr_path, used, findings)),
        harbor: raw.harbor.as_ref().map(|raw| harbor::settings(raw, registry, &path.key("harbor"), findings)),
    }
}

/// Two keys that require each other.
fn pair(keys: &[(&str, bool); 2], path: &KeyPath, findings: &mut Findings<'_>) {
    let [(first, has_first), (second, has_second)] = *keys;
    if has_first != has_second {
        let (present, absent) = if has_first { (first, second) } else { (second, first) };
        findings.add(&path.key(present), format!("{absent} is missing: {first} and {second} go together"));
    }
}

fn client(raw: &RawRegistry, path: &KeyPath, findings: &mut Findings<'_>) -> Option<ClientCertificate> {
    let keys = [("client_cert", raw.client_cert.as_deref()), ("client_key", raw.client_key.as_deref())];
    pair(&keys.map(|(key, text)| (key, text.is_some())), path, findings);
    let [certificate, key] = keys.map(|(key, text)| text.map(|text| findings.file(&path.key(key), text)));
    certificate.zip(key).map(|(certificate, key)| ClientCertificate { certificate, key })
}

fn secret(raw: &RawSecret, key: &str, path: &KeyPath, findings: &mut Findings<'_>) -> Option<Secret> {
    let path = path.key(key);
    let source = match raw {
        RawSecret::Literal(text) if key == "username" => return Some(Secret::Plain(text.clone())),
        RawSecret::Literal(text) if key == "proxy" => return proxy(text, &path, findings),
        RawSecret::Literal(_) => {
            let hint = format!("write {key}: {{env: VARIABLE}} or {key}: {{file: PATH}}");
            findings.add_hint(&path, format!("a {key} can't be a literal value"), hint);
            return None;
        }
        RawSecret::From(source) => source,
    };
    match (&source.env, &source.file) {
        (Some(name), None) => {
            if !is_env_name(name) {
                let message = format!("`{name}` isn't the name of an environment variable");
                findings.add_hint(&path.key("env"), message, "write the name without $");
            }
            Some(Secret::Env(name.clone()))
        }
        (None, Some(file)) => Some(Secret::File(findings.file(&path.key("file"), file))),
        _ => {
            findings.add(&path, "expected one of env and file");
            None
        }
    }
}

fn is_env_name(name: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    name.bytes().all(word) && name.bytes().next().is_some_and(|b| !b.is_ascii_digit())
}

fn proxy(text: &str, path: &KeyPath, findings: &mut Findings<'_>) -> Option<Secret> {
    let hint = "write proxy: {env: VARIABLE} or proxy: {file: PATH}, with the whole URL there";
    url(text, path, hint, findings).map(|url| Secret::Plain(url.into()))
}

fn endpoint(text: &str, path: &KeyPath, findings: &mut Findings<'_>) -> Option<Url> {
    url(text, path, "use username: and password:", findings)
}

/// An HTTP URL without a user; `elsewhere` names the keys for user and password.
fn url(text: &str, path: &KeyPath, elsewhere: &str, findings: &mut Findings<'_>) -> Option<Url> {
    // The text isn't shown before it is known to contain no password.
    let url = match Url::parse(text) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => url,
        _ => {
            findings.add_hint(path, "it isn't a URL", "write http://host[:port] or https://host[:port]");
            return None;
        }
    };
    if !url.username().is_empty() || url.password().is_some() {
        findings.add_hint(path, "a URL can't contain a user and a password", elsewhere);
        return None;
    }
    if url.query().is_some() || url.fragment().is_some() {
        findings.add(path, format!("`{text}` has a query or fragment: expected scheme, host and port"));
        return None;
    }
    Some(url)
}
