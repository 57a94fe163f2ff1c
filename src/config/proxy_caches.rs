//! `registries.HOST.harbor.proxy_caches`: the projects in a Harbor that cache another registry.

use std::collections::{BTreeMap, BTreeSet};

use super::findings::Findings;
use super::raw::{RawProxyCache, RawRegistry};
use super::{ImageRule, ProxyCache};
use crate::oci::{Registry, Repository, Service};
use crate::yaml::KeyPath;

/// The proxy caches at each host, in the order of the file. Invalid host names are reported elsewhere.
pub(super) fn all(
    raw: Option<&BTreeMap<String, Option<RawRegistry>>>,
    images: &[ImageRule],
    findings: &mut Findings<'_>,
) -> BTreeMap<Registry, Vec<ProxyCache>> {
    let list = KeyPath::default().key("registries");
    let mut all = BTreeMap::new();
    for (host, raw) in raw.into_iter().flatten() {
        let listed = raw.as_ref().and_then(|raw| raw.harbor.as_ref()?.proxy_caches.as_deref()).unwrap_or_default();
        let Ok(registry) = host.parse::<Registry>() else { continue };
        let path = list.key(host).key("harbor").key("proxy_caches");
        let mut caches: Vec<ProxyCache> = Vec::new();
        for (index, raw) in listed.iter().enumerate() {
            let path = path.index(index);
            let Some(cache) = one(raw, &registry, images, &path, findings) else { continue };
            if caches.iter().any(|other| other.project == cache.project) {
                findings.add(&path.key("project"), format!("project {} is a proxy cache already", cache.project));
                continue;
            }
            caches.push(cache);
        }
        if !caches.is_empty() {
            all.insert(registry, caches);
        }
    }
    all
}

fn one(
    raw: &RawProxyCache,
    host: &Registry,
    images: &[ImageRule],
    path: &KeyPath,
    findings: &mut Findings<'_>,
) -> Option<ProxyCache> {
    let mut given = |key: &str, value: &Option<String>| {
        if value.is_none() {
            findings.add_hint(path, format!("{key} is missing"), "write {project: dockerhub, upstream: docker.io}");
        }
        value.clone()
    };
    let (project, upstream) = (given("project", &raw.project), given("upstream", &raw.upstream));
    let project = project.filter(|project| check_project(project, host, images, &path.key("project"), findings))?;
    let upstream = check_upstream(&upstream?, host, &path.key("upstream"), findings)?;
    let from_there = images.iter().filter(|rule| *rule.repository.registry() == upstream);
    let repositories: BTreeSet<String> = from_there.map(|rule| rule.repository.path().to_owned()).collect();
    let repositories = repositories.into_iter().collect();
    Some(ProxyCache { project, upstream, public: raw.public.unwrap_or(false), repositories })
}

fn check_project(
    project: &str,
    host: &Registry,
    images: &[ImageRule],
    path: &KeyPath,
    findings: &mut Findings<'_>,
) -> bool {
    // Any repository in the project shows whether Harbor accepts the project's name.
    let within = Repository::new(host.clone(), &format!("{project}/any")).ok();
    let is_name = !project.contains('/') && within.is_some_and(|within| Service::Harbor.check_name(&within).is_ok());
    if !is_name {
        let hint = "a project's name consists of lower-case letters and digits, with single ., _ or - between them";
        findings.add_hint(path, format!("Harbor refuses the project `{project}`"), hint);
        return false;
    }
    let destinations = images.iter().flat_map(|rule| &rule.destinations);
    let mut here = destinations.filter(|destination| destination.registry() == host);
    let pushed = here.find(|destination| destination.path().split('/').next() == Some(project));
    if let Some(pushed) = pushed {
        let message = format!("{pushed} is mirrored to project {project}, and a proxy cache accepts no pushes");
        findings.add_hint(path, message, "name another project here, or in target:, layout: or to:");
    }
    pushed.is_none()
}

fn check_upstream(text: &str, host: &Registry, path: &KeyPath, findings: &mut Findings<'_>) -> Option<Registry> {
    let hint = "write host[:port], such as docker.io; connection settings go under registries:";
    let upstream = match text.parse::<Registry>() {
        Ok(upstream) if upstream.is_host() => upstream,
        Ok(_) => {
            findings.add_hint(path, format!("`{text}` isn't a registry"), hint);
            return None;
        }
        Err(error) => {
            findings.add_hint(path, format!("`{text}` isn't a registry: {error}"), hint);
            return None;
        }
    };
    if upstream == *host {
        findings.add_hint(path, format!("`{text}` is the Harbor itself"), "name the registry to cache");
        return None;
    }
    Some(upstream)
}
