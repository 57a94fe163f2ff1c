//! The credentials of the registries that an export needs, looked up as a run does. No other registry is looked up.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::super::Unable;
use super::super::discover::Known;
use super::super::session::variable;
use crate::aws::Sessions;
use crate::cli::Global;
use crate::config::{Config, Settings};
use crate::export::{Login, Logins};
use crate::oci::{Registry, Service};
use crate::registry::{BasicTokens, Credential, Hosts};

/// A user name and a password.
type Password = (String, String);

/// The credentials of the targets, or of the target `chosen`, counted from 0; with `upstream`, those of the sources.
pub(super) async fn of(
    global: &Global,
    known: &Known,
    chosen: Option<usize>,
    upstream: bool,
) -> anyhow::Result<Logins> {
    let all = paths(&known.config, chosen, upstream);
    let mut logins = Logins::default();
    let (ecr, others): (Vec<Registry>, Vec<Registry>) =
        all.keys().cloned().partition(|registry| matches!(Service::of(registry), Service::Ecr { .. }));
    logins.ecr = ecr;
    let Settings { registries, limits, lacking } =
        Config::read_settings(&known.text, global.config(), &others, &variable)?;
    if let Some(lacking) = lacking {
        return Err(lacking.into());
    }
    let hosts = Hosts::new(registries, &limits, Arc::new(Sessions::new()) as Arc<dyn BasicTokens>);
    for registry in others {
        let credentials = hosts.credentials(&registry);
        let mut found: BTreeMap<&str, Option<Password>> = BTreeMap::new();
        for path in &all[&registry] {
            let credential = credentials.get(path).await?;
            found.insert(path, credential.map(|credential| password(&registry, credential)).transpose()?);
        }
        add(&mut logins, &registry, &found);
    }
    logins.known.sort_by(|one, other| one.key.cmp(&other.key));
    Ok(logins)
}

/// The registries, with their repositories: credentials may differ by path.
fn paths(config: &Config, chosen: Option<usize>, upstream: bool) -> BTreeMap<Registry, BTreeSet<String>> {
    let mut paths: BTreeMap<Registry, BTreeSet<String>> = BTreeMap::new();
    if upstream {
        for rule in &config.images {
            let path = rule.repository.path().to_owned();
            paths.entry(rule.repository.registry().clone()).or_default().insert(path);
        }
        return paths;
    }
    let targets = config.targets.iter().enumerate().filter(|(number, _)| chosen.is_none_or(|chosen| chosen == *number));
    for (_, target) in targets.filter(|(_, target)| target.registry.is_host()) {
        paths.entry(target.registry.clone()).or_default().insert(target.prefix.clone());
    }
    paths
}

/// Adds one entry if all paths have the same credentials, otherwise one for each path.
fn add(logins: &mut Logins, registry: &Registry, found: &BTreeMap<&str, Option<Password>>) {
    let host = match Service::of(registry) {
        Service::DockerHub => "https://index.docker.io/v1/".to_owned(),
        _ => registry.to_string(),
    };
    let distinct: BTreeSet<&Option<Password>> = found.values().collect();
    let mut login = |key: String, (username, password): &Password| {
        logins.known.push(Login { key, username: username.clone(), password: password.clone() });
    };
    match distinct.first() {
        Some(Some(one)) if distinct.len() == 1 => login(host, one),
        Some(None) if distinct.len() == 1 => logins.without.push(registry.clone()),
        _ => {
            for (path, password) in found.iter().filter_map(|(path, password)| Some((path, password.as_ref()?))) {
                login(if path.is_empty() { host.clone() } else { format!("{registry}/{path}") }, password);
            }
        }
    }
}

fn password(registry: &Registry, credential: Credential) -> anyhow::Result<Password> {
    match credential {
        Credential::Password { username, password } => Ok((username, password)),
        Credential::IdentityToken(_) | Credential::Bearer(_) | Credential::Basic(_) => {
            let message =
                format!("the credential of {registry} is a token, which neither pods nor the kubelet can use");
            Err(Unable::error(message, "set username and password for it under registries: in mirror.yaml"))
        }
    }
}
