//! Proxy-cache projects answer for their upstream, and store what was pulled through them.
//!
//! HEAD and GET find a manifest whether or not it is stored; HEAD never asks the upstream for blobs; the referrers
//! API only knows stored manifests, so its list is empty. Pushes are refused.

use futures::future::BoxFuture;

use super::{Project, project};
use crate::error::{Error, Kind, Result};
use crate::oci::{Digest, Edge, Manifest, Repository};
use crate::registry::Host;
use crate::registry::action::Action;

impl Host {
    /// Whether an empty list of referrers in `repository` may be incomplete, as it may be at any Harbor. Warns once
    /// for each project that is a proxy cache.
    pub(crate) async fn may_miss_referrers(&self, repository: &Repository) -> bool {
        if !self.is_harbor() {
            return false;
        }
        let name = project(repository.path());
        let state = self.project(repository).await;
        if matches!(state, Ok(Project::There)) || !self.harbor.is_first_warning(name) {
            return true;
        }
        if matches!(state, Ok(Project::ProxyCache)) {
            tracing::warn!(
                hint = "to mirror all of them, use the upstream itself as the source",
                "project {name} at {} is a proxy cache, which doesn't ask its upstream for referrers: signatures and \
                 attestations are found only under cosign's tags and the fallback tag",
                self.registry
            );
        } else {
            tracing::info!(
                "can't determine whether project {name} at {} is a proxy cache that hides referrers",
                self.registry
            );
        }
        true
    }

    /// Checks that `repository` stores the content that it returns. It does if the API says that its project is no
    /// proxy cache, or if it has a blob of `answered`, a manifest that it has returned. Checked once per project.
    ///
    /// # Errors
    /// `Unsupported` if it is a proxy cache.
    pub(crate) async fn check_holds(
        &self,
        repository: &Repository,
        answered: BoxFuture<'_, Option<Manifest>>,
    ) -> Result<()> {
        if !self.is_harbor() {
            return Ok(());
        }
        let name = project(repository.path());
        let is_sure = self.harbor.holding(name);
        is_sure.get_or_init(|| self.ask_whether_held(repository, answered)).await.clone()
    }

    async fn ask_whether_held(&self, repository: &Repository, answered: BoxFuture<'_, Option<Manifest>>) -> Result<()> {
        let has_blob = match answered.await.as_ref().and_then(first_blob) {
            Some(digest) => {
                let request =
                    self.request(Action::FindBlob, repository, digest.as_str(), &format!("blobs/{digest}"))?;
                Some(self.send(&request).await.is_ok())
            }
            None => None,
        };
        // A run without work sends no request to the API.
        if has_blob == Some(true) {
            return Ok(());
        }
        match (self.project(repository).await, has_blob) {
            (Ok(Project::ProxyCache), _) => Err(self.proxy_cache_error(repository)),
            (Ok(Project::Hidden), Some(false)) => {
                let attempted = format!("read project {} at {}", project(repository.path()), self.registry);
                let why = "it answers requests for an image although it lacks its blobs, like a proxy cache of another registry";
                Err(Error::new(Kind::Unsupported, attempted, why))
            }
            (Ok(Project::Hidden) | Err(_), _) => {
                self.warn_unknown(repository);
                Ok(())
            }
            (Ok(Project::There | Project::Missing | Project::Unknown), _) => Ok(()),
        }
    }

    fn warn_unknown(&self, repository: &Repository) {
        let name = project(repository.path());
        tracing::warn!(
            hint = "give the account the permission `project: read`",
            "can't determine whether project {name} at {} is a proxy cache, because the account may not read it: if it \
             is, it answers with its upstream's images, and nothing is mirrored",
            self.registry
        );
    }

    /// Whether it is a Harbor that fills `repository` from another registry, as far as is known.
    ///
    /// # Errors
    /// `Unsupported` if the project is known to be an ordinary one, `NotFound` if it doesn't exist.
    pub(crate) async fn is_proxy_cache(&self, repository: &Repository) -> Result<bool> {
        if !self.is_harbor() {
            return Ok(false);
        }
        let (name, host) = (project(repository.path()), &self.registry);
        let error = |kind, why: &str| Error::new(kind, format!("warm project {name} at {host}"), why);
        match self.project(repository).await {
            Ok(Project::There) => {
                let hint = "name a proxy-cache project, or mirror the images to this one with `transship sync`";
                Err(error(Kind::Unsupported, "it isn't a proxy cache").with_hint(hint))
            }
            Ok(Project::Missing) => {
                let hint = "create it in Harbor as a proxy cache; its name is the first segment after the host";
                Err(error(Kind::NotFound, "the project doesn't exist").with_hint(hint))
            }
            Ok(Project::ProxyCache | Project::Hidden | Project::Unknown) => Ok(true),
            Err(error) => {
                tracing::debug!("{error}");
                Ok(true)
            }
        }
    }

    /// The name of the storage quota, which all repositories of a project share; `None` if it isn't a Harbor.
    pub(crate) fn shared_quota(&self, repository: &Repository) -> Option<String> {
        self.is_harbor().then(|| format!("{}/{}", self.registry, project(repository.path())))
    }
}

fn first_blob(manifest: &Manifest) -> Option<&Digest> {
    manifest.successors().iter().find_map(|edge| match edge {
        Edge::Blob(blob) => Some(&blob.digest),
        Edge::Manifest(_) => None,
    })
}
