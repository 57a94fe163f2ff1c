//! The proxy-cache projects in mirror.yaml: each is a project with a registry endpoint. An existing project matches
//! if its endpoint leads to the configured upstream.
//!
//! If an endpoint for the upstream exists already, it is used with its credentials, whoever created it. transship
//! never sends credentials for one host to another, so endpoints that it creates have none.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::config::{ProxyCache, RegistrySettings};
use crate::error::{Error, Kind, Result};
use crate::oci::{Registry, Repository};
use crate::registry::{Caching, Endpoint, FILTER, Host, Project};

/// The first version of Harbor with repository filters.
const HAS_FILTERS: (u64, u64) = (2, 16);
/// The longest value of a project's metadata in Harbor, in bytes.
const LONGEST: usize = 255;

/// One configured proxy cache.
#[derive(Debug, Clone)]
pub(in crate::provision) struct Wanted {
    host: Arc<Host>,
    /// The project in the form of a repository, for requests and messages.
    name: Repository,
    cache: ProxyCache,
    endpoint: Leads,
}

/// The upstream of an endpoint, in Harbor's format.
#[derive(Debug, Clone)]
struct Leads {
    kind: &'static str,
    url: String,
    insecure: bool,
}

/// The work for a proxy cache.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Work {
    /// Whether it has to be created, or was created.
    pub created: bool,
    /// The settings that differ, or were changed.
    pub changes: Vec<&'static str>,
}

impl Wanted {
    /// `settings` are those of the upstream.
    ///
    /// # Errors
    /// If the name of the project isn't a valid path.
    pub(in crate::provision) fn new(
        host: Arc<Host>,
        registry: &Registry,
        cache: ProxyCache,
        settings: Option<&RegistrySettings>,
    ) -> Result<Self> {
        let name = Repository::new(registry.clone(), &cache.project)
            .map_err(|error| Error::new(Kind::Invalid, format!("prepare {}", cache.project), error.to_string()))?;
        let endpoint = leads(&cache.upstream, settings);
        Ok(Self { host, name, cache, endpoint })
    }

    /// Determines the work to be done.
    pub(in crate::provision) async fn look(&self) -> Result<Work> {
        let found = match self.host.caching(&self.name).await {
            Ok(found) => found,
            Err(error) if error.kind() == Kind::NotFound => return Ok(Work { created: true, ..Work::default() }),
            Err(error) if error.kind() == Kind::Denied => return self.look_from_outside().await,
            Err(error) if error.kind() == Kind::Unsupported => {
                let why = "what answers there doesn't serve Harbor's API";
                return Err(self.error(Kind::Unsupported, why));
            }
            Err(error) => return Err(error),
        };
        self.check_upstream(&found).await?;
        let filter = self.differing_filter(&found).await;
        Ok(Work { created: false, changes: filter.map(|_| "repository_filter").into_iter().collect() })
    }

    /// Executes the work.
    pub(in crate::provision) async fn make(&self) -> Result<Work> {
        let work = self.look().await?;
        if work.created {
            return self.create().await;
        }
        if !work.changes.is_empty()
            && let Some(filter) = self.filter().await
        {
            self.host.set_filter(&self.name, &filter).await.map_err(|error| self.explain(error))?;
        }
        Ok(work)
    }

    async fn create(&self) -> Result<Work> {
        let is_it = |endpoint: &Endpoint| self.leads_there(endpoint);
        let found = self.host.find_endpoint(&self.name, is_it).await.map_err(|error| self.explain(error))?;
        let id = match found {
            Some(endpoint) => endpoint.id,
            None => self.create_endpoint().await?,
        };
        let mut metadata = Map::new();
        metadata.insert("public".to_owned(), self.cache.public.to_string().into());
        if let Some(filter) = self.filter().await {
            metadata.insert(FILTER.to_owned(), filter.into());
        }
        let body = json!({ "project_name": self.cache.project, "registry_id": id, "metadata": metadata });
        let created = self.host.create_project(&self.name, &body).await.map_err(|error| self.explain(error))?;
        if !created {
            // Another client was faster, and may have chosen another upstream.
            let found = self.host.caching(&self.name).await?;
            self.check_upstream(&found).await?;
        }
        Ok(Work { created, changes: Vec::new() })
    }

    async fn create_endpoint(&self) -> Result<i64> {
        let Leads { kind, url, insecure } = &self.endpoint;
        let name = self.cache.upstream.to_string().replace([':', '[', ']'], "-");
        let body: Value = json!({ "name": name, "type": kind, "url": url, "insecure": insecure });
        match self.host.create_endpoint(&self.name, &body).await {
            Err(error) if error.kind() == Kind::Conflict => {
                let is_it = |endpoint: &Endpoint| self.leads_there(endpoint);
                let faster = self.host.find_endpoint(&self.name, is_it).await?;
                let hint = "rename that endpoint in Harbor, or change its URL";
                let why = format!("the registry endpoint {name} exists and has another URL");
                faster.map(|endpoint| endpoint.id).ok_or_else(|| self.error(Kind::Conflict, &why).with_hint(hint))
            }
            other => other.map_err(|error| self.explain(error)),
        }
    }

    /// An account that may not read a project gets a 403, whether or not the project exists.
    async fn look_from_outside(&self) -> Result<Work> {
        if self.host.project(&self.name).await? == Project::Missing {
            return Ok(Work { created: true, ..Work::default() });
        }
        self.warn_unknown("give the account the permission `project: read`");
        Ok(Work::default())
    }

    /// Checks that the project caches the configured upstream.
    async fn check_upstream(&self, found: &Caching) -> Result<()> {
        let upstream = &self.cache.upstream;
        let Some(id) = found.endpoint else {
            let hint = "name another project under proxy_caches:, or delete that one";
            return Err(self.error(Kind::Conflict, "it exists and isn't a proxy cache").with_hint(hint));
        };
        match self.host.endpoint(&self.name, id).await {
            Ok(endpoint) if self.leads_there(&endpoint) => Ok(()),
            Ok(endpoint) => {
                let hint = "Harbor can't give a project another upstream: name another project under proxy_caches:, or delete \
                    that one";
                let why = format!("it is a proxy cache of {}, not of {upstream}", endpoint.url);
                Err(self.error(Kind::Conflict, &why).with_hint(hint))
            }
            Err(error) if matches!(error.kind(), Kind::Denied | Kind::NotFound) => {
                tracing::debug!("{error}");
                self.warn_unknown("give the account the permission `registry: read`");
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn warn_unknown(&self, what_helps: &str) {
        let (name, upstream) = (&self.name, &self.cache.upstream);
        tracing::warn!(
            "project {} at {} is there; whether it is a proxy cache of {upstream} is unknown, as the account may not look at \
             it: {what_helps}",
            name.path(),
            name.registry()
        );
    }

    fn leads_there(&self, endpoint: &Endpoint) -> bool {
        if [endpoint.kind.as_str(), self.endpoint.kind].contains(&HUB) {
            return endpoint.kind == self.endpoint.kind;
        }
        address(&endpoint.url) == address(&self.endpoint.url)
    }

    /// The new filter of an existing project, if it has another one in the form that is created here. A filter in
    /// another form was set by an administrator, and a missing one permits everything; both are kept.
    async fn differing_filter(&self, found: &Caching) -> Option<String> {
        let theirs = found.filter.as_deref().filter(|text| is_list(text))?;
        self.filter().await.filter(|ours| ours != theirs)
    }

    /// The permitted repositories in Harbor's format; `None` if Harbor doesn't support filters, or all repositories
    /// are permitted.
    async fn filter(&self) -> Option<String> {
        let info = self.host.system_info(self.name.path()).await;
        let filter = filter(&self.cache.repositories).filter(|_| info.is_since(HAS_FILTERS))?;
        if filter.len() > LONGEST {
            let (name, host) = (self.name.path(), self.name.registry());
            tracing::warn!(
                "project {name} at {host} gets no repository filter: the list has too many repositories of {} for one",
                self.cache.upstream
            );
            return None;
        }
        Some(filter)
    }

    fn error(&self, kind: Kind, why: &str) -> Error {
        let Self { name, .. } = self;
        Error::new(kind, format!("prepare proxy cache {} at {}", name.path(), name.registry()), why)
    }

    /// `error` from a request that creates something, with a hint.
    fn explain(&self, error: Error) -> Error {
        let hint = match error.kind() {
            Kind::Denied if error.why().contains("read only") => return error,
            Kind::Denied => {
                "creating a proxy cache takes an administrator, or a system robot with the permissions `registry: list`, \
                 `registry: create` and `project: create`: use one, or ask for the project to be created first"
            }
            Kind::Configuration => {
                "Harbor must be able to reach the upstream: check its name, and Harbor's network (proxy, firewall). An \
                 upstream that requires a login needs an endpoint that an administrator creates"
            }
            _ => return error,
        };
        error.with_hint(hint)
    }
}

/// The type of Docker Hub's endpoints, which lead to Docker Hub whatever their URL is.
const HUB: &str = "docker-hub";

/// Upstreams with a specific endpoint type: host, type, URL. In Harbor all others are plain registries.
const TYPES: &[(&str, &str, &str)] =
    &[("docker.io", HUB, "https://hub.docker.com"), ("ghcr.io", "github-ghcr", "https://ghcr.io")];

fn leads(upstream: &Registry, settings: Option<&RegistrySettings>) -> Leads {
    let default = RegistrySettings::default();
    let settings = settings.unwrap_or(&default);
    let insecure = settings.insecure;
    if let Some((_, kind, url)) = TYPES.iter().find(|(host, ..)| upstream.to_string() == *host) {
        return Leads { kind, url: (*url).to_owned(), insecure };
    }
    let scheme = if settings.speaks_plain_http(upstream) { "http" } else { "https" };
    let url = settings.endpoint.as_ref().map(|url| url.as_str().trim_end_matches('/').to_owned());
    Leads { kind: "docker-registry", url: url.unwrap_or_else(|| format!("{scheme}://{upstream}")), insecure }
}

/// The parts by which two URLs are compared as addresses of a registry.
fn address(url: &str) -> Option<(String, Option<u16>, String)> {
    let url = url::Url::parse(url).ok()?;
    let path = url.path().trim_end_matches('/').to_owned();
    Some((url.host_str()?.to_ascii_lowercase(), url.port_or_known_default(), path))
}

/// A doublestar pattern, as Harbor expects it. The names have no character with a special meaning there.
fn filter(repositories: &[String]) -> Option<String> {
    match repositories {
        [] => None,
        [one] => Some(one.clone()),
        several => Some(format!("{{{}}}", several.join(","))),
    }
}

/// Whether the pattern has the form that [`filter`] creates.
fn is_list(pattern: &str) -> bool {
    let inner = pattern.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).unwrap_or(pattern);
    inner.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-/,".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_compared_by_their_destination() {
        let same = |a: &str, b: &str| address(a).is_some() && address(a) == address(b);
        assert!(same("https://ghcr.io", "https://GHCR.io:443/"));
        assert!(!same("https://ghcr.io", "https://ghcr.io/other"));
        assert!(!same("https://r.example", "https://r.example:5000"));
        assert!(!same("http://r.example", "https://r.example"));
    }

    #[test]
    fn endpoints_are_created_in_the_form_that_harbor_accepts() {
        let of = |upstream: &str, settings: Option<&RegistrySettings>| {
            let Leads { kind, url, insecure } = leads(&upstream.parse().unwrap(), settings);
            format!("{kind} {url} {insecure}")
        };
        assert_eq!(of("docker.io", None), "docker-hub https://hub.docker.com false");
        assert_eq!(of("ghcr.io", None), "github-ghcr https://ghcr.io false");
        assert_eq!(of("quay.io", None), "docker-registry https://quay.io false");
        let plain = RegistrySettings { plain_http: Some(true), insecure: true, ..RegistrySettings::default() };
        assert_eq!(of("r.example:5000", Some(&plain)), "docker-registry http://r.example:5000 true");
    }

    #[test]
    fn filters_name_the_repositories_of_the_list() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(filter(&[]), None);
        assert_eq!(filter(&names(&["library/nginx"])).unwrap(), "library/nginx");
        let several = filter(&names(&["grafana/grafana", "library/nginx"])).unwrap();
        assert_eq!(several, "{grafana/grafana,library/nginx}");
        assert!(is_list(&several) && is_list("library/nginx"));
        assert!(!is_list("library/**") && !is_list("^library/.*$"));
    }
}
