//! Registry credentials, in the format of Docker's `config.json`.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use super::Refusal;
use crate::oci::Registry;

/// The credentials for an export.
#[derive(Debug, Clone, Default)]
pub(crate) struct Logins {
    /// Registries with a password, sorted.
    pub known: Vec<Login>,
    /// Registries of Amazon ECR, whose tokens expire.
    pub ecr: Vec<Registry>,
    /// Registries without credentials.
    pub without: Vec<Registry>,
}

/// A user name and a password.
#[derive(Clone)]
pub(crate) struct Login {
    /// `host` or `host/path`, as in the files.
    pub key: String,
    /// The user.
    pub username: String,
    /// The password.
    pub password: String,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").field("key", &self.key).finish_non_exhaustive()
    }
}

#[derive(Serialize)]
struct Config<'a> {
    auths: BTreeMap<&'a str, Auth<'a>>,
}

#[derive(Serialize)]
struct Auth<'a> {
    username: &'a str,
    password: &'a str,
    auth: String,
}

pub(super) fn docker_config(logins: &[Login]) -> String {
    let entry = |login: &Login| STANDARD.encode(format!("{}:{}", login.username, login.password));
    let auths = logins.iter().map(|login| {
        let Login { key, username, password } = login;
        (key.as_str(), Auth { username, password, auth: entry(login) })
    });
    serde_json::to_string_pretty(&Config { auths: auths.collect() }).unwrap_or_default() + "\n"
}

pub(super) fn keys(logins: &[Login]) -> String {
    logins.iter().map(|login| login.key.as_str()).collect::<Vec<_>>().join(", ")
}

/// A note about registries without credentials; empty if there are none.
pub(super) fn without(logins: &Logins) -> String {
    match logins.without.is_empty() {
        true => String::new(),
        false => format!("It lacks {}: there are no credentials for them.", names(&logins.without)),
    }
}

pub(super) fn none(logins: &Logins) -> Refusal {
    if !logins.ecr.is_empty() {
        let why = format!("tokens of {} expire after 12 hours, so a file can't contain one", names(&logins.ecr));
        return Refusal::new(why, "configure the kubelet to request its own: use `transship export pull-secret`");
    }
    Refusal::new(
        format!("there are no credentials for {}", names(&logins.without)),
        "set username and password for it under registries: in mirror.yaml, or log in with docker or podman",
    )
}

fn names(registries: &[Registry]) -> String {
    registries.iter().map(Registry::as_str).collect::<Vec<_>>().join(", ")
}
