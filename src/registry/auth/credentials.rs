//! The credentials of a host: from its `registries` entry, for ECR from the AWS chain, then from the files of
//! docker and podman.
//!
//! Nothing is read before the host asks for credentials. Each source is read once, and again after a 401, because
//! projected tokens rotate.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::aws::Sessions;
use crate::config::{EcrSettings, RegistrySettings, Secret};
use crate::error::{Error, Kind, Result};
use crate::oci::Registry;
use crate::registry::auth::docker;
use crate::registry::services::quirks::Quirks;

/// Supplies Basic credentials for hosts that use the AWS chain.
#[async_trait]
pub trait BasicTokens: fmt::Debug + Send + Sync {
    /// The base64 text after `Basic `, and how long it is valid.
    ///
    /// # Errors
    /// If the chain has no credentials, or the service refuses them.
    async fn token(&self, registry: &Registry, settings: &EcrSettings) -> Result<(String, Duration)>;

    /// Whether the account lets repositories mount each other's blobs.
    async fn mounts(&self, _registry: &Registry, _settings: &EcrSettings) -> bool {
        false
    }
}

#[async_trait]
impl BasicTokens for Sessions {
    async fn token(&self, registry: &Registry, settings: &EcrSettings) -> Result<(String, Duration)> {
        let token = self.session(registry, settings).authorization_token().await?;
        Ok((token.basic, token.lifetime))
    }

    async fn mounts(&self, registry: &Registry, settings: &EcrSettings) -> bool {
        self.session(registry, settings).blob_mounting().await
    }
}

/// Environment variables; in tests a table.
#[derive(Clone)]
pub(crate) struct Environment(Arc<Lookup>);

type Lookup = dyn Fn(&str) -> Option<String> + Send + Sync;

impl Environment {
    pub(crate) fn new(lookup: impl Fn(&str) -> Option<String> + Send + Sync + 'static) -> Self {
        Self(Arc::new(lookup))
    }

    /// The value of a variable that is set and not empty.
    pub(crate) fn get(&self, name: &str) -> Option<String> {
        (self.0)(name).filter(|value| !value.is_empty())
    }

    /// The text of `secret`.
    ///
    /// # Errors
    /// Why there is none.
    pub(crate) fn read(&self, secret: &Secret) -> Result<String, String> {
        let text = match secret {
            Secret::Plain(text) => return Ok(text.clone()),
            Secret::Env(name) => self.get(name).ok_or_else(|| format!("the environment variable {name} isn't set"))?,
            Secret::File(path) => {
                std::fs::read_to_string(path).map_err(|e| format!("can't read {}: {e}", path.display()))?
            }
        };
        let line = text.strip_suffix('\n').unwrap_or(&text);
        Ok(line.strip_suffix('\r').unwrap_or(line).to_owned())
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Environment")
    }
}

/// A credential for a host or its token service.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) enum Credential {
    Password {
        username: String,
        password: String,
    },
    /// Buys tokens at the realm (`grant_type=refresh_token`).
    IdentityToken(String),
    /// A token.
    Bearer(String),
    /// The text after `Basic `, from the AWS chain.
    Basic(String),
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Password { .. } => "Password(…)",
            Self::IdentityToken(_) => "IdentityToken(…)",
            Self::Bearer(_) => "Bearer(…)",
            Self::Basic(_) => "Basic(…)",
        })
    }
}

/// Finds the credentials of one host.
#[derive(Debug)]
pub(crate) struct Credentials {
    pub(crate) registry: Registry,
    pub(crate) settings: RegistrySettings,
    pub(crate) environment: Environment,
    pub(crate) sessions: Arc<dyn BasicTokens>,
    pub(crate) state: Mutex<State>,
}

/// What was read so far.
#[derive(Debug, Default)]
pub(crate) struct State {
    /// By repository path: files may have entries for paths.
    found: HashMap<String, Found>,
    /// From the AWS chain: one token for all repositories of the host.
    chain: Option<Found>,
    files: Option<Vec<(PathBuf, docker::File)>>,
    /// The answers of helpers, by helper.
    asked: HashMap<String, Option<Credential>>,
}

#[derive(Debug, Clone)]
struct Found {
    credential: Option<Credential>,
    /// The source, for messages.
    origin: String,
    until: Option<Instant>,
}

impl Found {
    fn is_good(&self) -> bool {
        self.until.is_none_or(|until| until > Instant::now())
    }
}

impl Credentials {
    /// Whether the AWS account of the host lets repositories mount each other's blobs.
    pub(crate) async fn account_mounts(&self) -> bool {
        self.sessions.mounts(&self.registry, &self.settings.ecr).await
    }

    /// The credentials for `path`, a repository of the host.
    ///
    /// # Errors
    /// `Configuration` if a configured source can't be read, or the error of the AWS chain.
    pub(crate) async fn get(&self, path: &str) -> Result<Option<Credential>> {
        let mut state = self.state.lock().await;
        self.current(&mut state, path).await
    }

    /// The user for requests about `path`, and the source of the credentials, if known: `me, from
    /// /home/me/.docker/config.json`.
    ///
    /// # Errors
    /// As [`Credentials::get`].
    pub(crate) async fn account_name(&self, path: &str) -> Result<Option<String>> {
        let mut state = self.state.lock().await;
        self.current(&mut state, path).await?;
        let account = state.found.get(path).and_then(|found| {
            let name = match found.credential.as_ref()? {
                Credential::Password { username, .. } => username,
                Credential::IdentityToken(_) => "an identity token",
                Credential::Bearer(_) => "a bearer token",
                Credential::Basic(_) => "AWS",
            };
            Some(format!("{name}, from {}", found.origin))
        });
        Ok(account)
    }

    /// The AWS chain with its settings, for messages.
    fn chain(&self) -> String {
        let EcrSettings { profile, role_arn, .. } = &self.settings.ecr;
        let set = [("profile", profile), ("role", role_arn)];
        let set = set.iter().filter_map(|(word, value)| Some(format!("{word} {}", value.as_deref()?)));
        let set = set.collect::<Vec<_>>().join(", ");
        if set.is_empty() { "the AWS chain".to_owned() } else { format!("the AWS chain with {set}") }
    }

    /// Reads everything again after `used` was refused, unless that has already happened. Returns whether there are
    /// other credentials to try.
    ///
    /// # Errors
    /// As [`Credentials::get`].
    pub(crate) async fn reread(&self, path: &str, used: &Credential) -> Result<bool> {
        let mut state = self.state.lock().await;
        if self.current(&mut state, path).await?.as_ref() == Some(used) {
            *state = State::default();
        }
        Ok(self.current(&mut state, path).await?.is_some_and(|credential| credential != *used))
    }

    async fn current(&self, state: &mut State, path: &str) -> Result<Option<Credential>> {
        if let Some(found) = state.found.get(path)
            && found.is_good()
        {
            return Ok(found.credential.clone());
        }
        let found = self.look_up(state, path).await?;
        state.found.insert(path.to_owned(), found.clone());
        Ok(found.credential)
    }

    async fn look_up(&self, state: &mut State, path: &str) -> Result<Found> {
        if let Some(credential) = self.configured()? {
            let origin = format!("registries.{} in the configuration", self.registry);
            return Ok(Found { credential: Some(credential), origin, until: None });
        }
        let mut refused = None;
        if Quirks::of(&self.registry).aws {
            if let Some(found) = state.chain.as_ref().filter(|found| found.is_good()) {
                return Ok(found.clone());
            }
            match self.sessions.token(&self.registry, &self.settings.ecr).await {
                Ok((basic, lifetime)) => {
                    let until = Instant::now() + lifetime.mul_f64(0.9);
                    let found =
                        Found { credential: Some(Credential::Basic(basic)), origin: self.chain(), until: Some(until) };
                    return Ok(state.chain.insert(found).clone());
                }
                Err(error) => refused = Some(error),
            }
        }
        match (self.in_files(state, path).await?, refused) {
            (None, Some(error)) => Err(error),
            (None, None) => Ok(Found { credential: None, origin: String::new(), until: None }),
            (Some((credential, origin)), _) => Ok(Found { credential: Some(credential), origin, until: None }),
        }
    }

    /// Whether it has a token that can be sent without a challenge.
    pub(crate) fn has_ready_token(&self) -> bool {
        self.settings.token.is_some()
    }

    fn configured(&self) -> Result<Option<Credential>> {
        let RegistrySettings { username, password, token, .. } = &self.settings;
        if let Some(token) = token {
            return Ok(Some(Credential::Bearer(self.read("token", token)?)));
        }
        let (Some(username), Some(password)) = (username, password) else { return Ok(None) };
        Ok(Some(docker::login(self.read("username", username)?, self.read("password", password)?)))
    }

    fn read(&self, key: &str, secret: &Secret) -> Result<String> {
        let key = format!("registries.{}.{key}", self.registry);
        self.environment.read(secret).map_err(|why| self.error(format!("{key}: {why}")))
    }

    async fn in_files(&self, state: &mut State, path: &str) -> Result<Option<(Credential, String)>> {
        let State { files, asked, .. } = state;
        let files = match files {
            Some(files) => files,
            None => files.insert(self.read_files()?),
        };
        for (file, content) in files {
            let helper = content.helper(&self.registry);
            if let Some(helper) = helper.map_err(|why| self.error(format!("{}: {why}", file.display())))? {
                if !asked.contains_key(helper) {
                    let said = docker::ask(helper, &self.registry).await;
                    let said = said.map_err(|why| self.helper_error(&why, file))?;
                    asked.insert(helper.to_owned(), said);
                }
                if let Some(Some(credential)) = asked.get(helper) {
                    let origin = format!("docker-credential-{helper}, which {} names", file.display());
                    return Ok(Some((credential.clone(), origin)));
                }
            }
            let entry = content.entry(&self.registry, path);
            if let Some(entry) = entry.map_err(|why| self.error(format!("{}: {why}", file.display())))? {
                return Ok(Some((entry, file.display().to_string())));
            }
        }
        Ok(None)
    }

    fn read_files(&self) -> Result<Vec<(PathBuf, docker::File)>> {
        let mut files = Vec::new();
        for path in docker::paths(&self.environment) {
            if let Some(file) = docker::read(&path).map_err(|why| self.error(why))? {
                files.push((path, file));
            }
        }
        Ok(files)
    }

    fn helper_error(&self, why: &str, file: &Path) -> Error {
        let registry = &self.registry;
        self.error(format!("{why}; {} names this helper", file.display())).with_hint(format!(
            "install or repair the helper, or set username and password for {registry} under registries: in mirror.yaml"
        ))
    }

    fn error(&self, why: String) -> Error {
        Error::new(Kind::Configuration, format!("find the credentials of {}", self.registry), why)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    pub(crate) struct NoChain;

    #[async_trait]
    impl BasicTokens for NoChain {
        async fn token(&self, _: &Registry, _: &EcrSettings) -> Result<(String, Duration)> {
            Err(Error::new(Kind::Configuration, "sign in to AWS", "there is no chain"))
        }
    }

    fn credentials(registry: &str, settings: RegistrySettings, home: &str) -> Credentials {
        let home = home.to_owned();
        Credentials {
            registry: registry.parse().unwrap(),
            settings,
            environment: Environment::new(move |name| match name {
                "HOME" => Some(home.clone()),
                "USER_VARIABLE" => Some("me\n".to_owned()),
                _ => None,
            }),
            sessions: Arc::new(NoChain),
            state: Mutex::default(),
        }
    }

    fn password(username: &str, password: &str) -> Option<Credential> {
        Some(Credential::Password { username: username.into(), password: password.into() })
    }

    #[tokio::test]
    async fn secrets_are_read_on_first_use_and_again_after_a_refusal() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("secret");
        std::fs::write(&file, "one\n\n").unwrap();
        let settings = RegistrySettings {
            username: Some(Secret::Env("USER_VARIABLE".into())),
            password: Some(Secret::File(file.clone())),
            ..Default::default()
        };
        let credentials = credentials("h.io", settings, "/nonexistent");
        let first = credentials.get("a").await.unwrap();
        assert_eq!(first, password("me", "one\n"));
        let first = first.unwrap();
        assert!(!credentials.reread("a", &first).await.unwrap());
        std::fs::write(&file, "two").unwrap();
        assert_eq!(credentials.get("a").await.unwrap().as_ref(), Some(&first), "read once");
        assert!(credentials.reread("a", &first).await.unwrap());
        assert_eq!(credentials.get("a").await.unwrap(), password("me", "two"));
    }

    #[tokio::test]
    async fn an_unset_variable_is_named() {
        let settings = RegistrySettings { token: Some(Secret::Env("NOT_SET".into())), ..Default::default() };
        let error = credentials("h.io", settings, "/nonexistent").get("a").await.unwrap_err();
        assert_eq!(error.kind(), Kind::Configuration);
        assert!(error.to_string().contains("NOT_SET") && error.to_string().contains("registries.h.io.token"));
    }

    #[tokio::test]
    async fn credential_files_come_after_the_aws_chain_and_may_be_missing() {
        let ecr = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().to_str().unwrap();
        let none = || RegistrySettings::default();
        assert_eq!(credentials("h.io", none(), home).get("a").await.unwrap(), None);
        assert!(credentials(ecr, none(), home).get("a").await.unwrap_err().to_string().contains("no chain"));
        std::fs::create_dir(dir.path().join(".docker")).unwrap();
        let json = format!(r#"{{"auths":{{"{ecr}":{{"username":"u","password":"p"}}}}}}"#);
        std::fs::write(dir.path().join(".docker/config.json"), json).unwrap();
        assert_eq!(credentials(ecr, none(), home).get("a").await.unwrap(), password("u", "p"));
    }
}
