//! A project's policy (`prevent_vul`, cosign's content trust) prevents manifests from being served: GET and HEAD
//! are answered with 412, the latter without a reason. Missing content still gives 404, everything may be written,
//! and blobs can be checked.
//!
//! So a 412 means that the name exists. The artifacts API shows which manifest a tag names, but only to accounts with
//! `artifact: read`.

use serde::Deserialize;

use super::project;
use crate::error::{Error, Kind, Result};
use crate::oci::{Digest, Repository, Tag};
use crate::registry::Host;
use crate::registry::action::Action;
use crate::registry::request::Request;

/// The hint for pushes to such a project.
const ASK_FOR_RIGHT: &str = "give the account the permission `artifact: read`, which allows reading the content of tags, or change \
    the project's policy (vulnerabilities or signatures)";

const WITHHELD: &str = "the project's policy (vulnerabilities or signatures) prevents pulls of it";

/// The relevant part of Harbor's `Artifact`. Its size isn't the manifest's.
#[derive(Deserialize)]
struct Artifact {
    digest: Digest,
}

impl Host {
    /// `error`, explained if it comes from a policy.
    pub(super) fn explain_policy(&self, request: &Request, error: Error) -> Error {
        let reads = matches!(request.action, Action::Resolve | Action::PullManifest);
        if !reads || error.status() != Some(412) || error.kind() == Kind::Denied || !self.is_harbor() {
            return error;
        }
        let why = format!("{}: {WITHHELD}", error.why());
        error.reclassified(Kind::Denied, why)
    }

    /// Whether `error` says that a manifest exists, but not which one.
    pub(crate) fn withholds(&self, error: &Error) -> bool {
        error.kind() == Kind::Denied && error.status() == Some(412) && self.is_harbor()
    }

    /// The digest that `tag` names according to the artifacts API, after a policy has `refused` the request for it.
    /// The first request in a project determines whether the account may use this API.
    ///
    /// # Errors
    /// `refused` with advice, if the account may not.
    pub(crate) async fn artifact_digest(&self, repository: &Repository, tag: &Tag, refused: Error) -> Result<Digest> {
        let may_ask = self.harbor.artifacts(project(repository.path()));
        let mut own = None;
        let slot = &mut own;
        let first = || async move {
            let told = self.ask_for_artifact(repository, tag.as_str()).await;
            let may_ask = !matches!(&told, Err(error) if error.kind() == Kind::Denied);
            *slot = Some(told);
            may_ask
        };
        let may_ask = *may_ask.get_or_init(first).await;
        let told = match own {
            Some(told) => told.ok(),
            None if may_ask => self.ask_for_artifact(repository, tag.as_str()).await.ok(),
            None => None,
        };
        told.ok_or_else(|| refused.with_hint(ASK_FOR_RIGHT))
    }

    /// Whether manifest `digest` is stored in `repository`, according to the artifacts API; `None` without that API
    /// or without permission.
    ///
    /// # Errors
    /// As everywhere.
    pub(crate) async fn stores_artifact(&self, repository: &Repository, digest: &Digest) -> Result<Option<bool>> {
        let may_ask = self.harbor.artifacts(project(repository.path()));
        if !self.is_harbor() || may_ask.get() == Some(&false) {
            return Ok(None);
        }
        let told = self.ask_for_artifact(repository, digest.as_str()).await;
        let known = match told {
            Ok(_) => Some(true),
            Err(error) if error.kind() == Kind::NotFound => Some(false),
            Err(error) if matches!(error.kind(), Kind::Denied | Kind::Unauthorized | Kind::Unsupported) => None,
            Err(error) => return Err(error),
        };
        // Another request may have determined this meanwhile.
        let _ = may_ask.set(known.is_some());
        Ok(known)
    }

    /// The digest that `name`, a tag or a digest, stands for.
    async fn ask_for_artifact(&self, repository: &Repository, name: &str) -> Result<Digest> {
        let (project, within) = repository.path().split_once('/').unwrap_or((repository.path(), ""));
        // The API requires doubly encoded slashes.
        let within = within.replace('/', "%252F");
        let path = format!("projects/{project}/repositories/{within}/artifacts/{name}");
        let mut request = self.project_request(Action::ShowArtifact, repository, &path)?;
        request.attempted = format!("resolve {name} of {repository} in Harbor");
        let answer = self.send(&request).await?;
        let told: Artifact = serde_json::from_slice(&answer.body).map_err(|e| answer.unreadable(&request, e))?;
        Ok(told.digest)
    }
}
