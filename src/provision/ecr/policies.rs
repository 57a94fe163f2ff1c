//! Lifecycle and repository policies: set when a repository is created, and kept as configured with `reconcile`.
//!
//! Facts: ECR's API reference, `GetLifecyclePolicy`, `PutLifecyclePolicy`, `GetRepositoryPolicy`,
//! `SetRepositoryPolicy`.

use std::sync::PoisonError;

use aws_sdk_ecr::Client;
use aws_sdk_ecr::error::{ProvideErrorMetadata, SdkError};
use serde_json::Value;

use super::Ecr;
use crate::config::{EcrCreate, Policy};
use crate::error::{Error, Result};
use crate::oci::Repository;

/// A policy of a repository: its key in mirror.yaml, the permissions to read and set it, and the commands for doing
/// so.
#[derive(Debug)]
pub(super) struct PolicyKind {
    key: &'static str,
    read: &'static str,
    write: &'static str,
    command: (&'static str, &'static str),
    of: fn(&EcrCreate) -> Option<&Policy>,
}

static LIFECYCLE: PolicyKind = PolicyKind {
    key: "lifecycle_policy",
    read: "ecr:GetLifecyclePolicy",
    write: "ecr:PutLifecyclePolicy",
    command: ("put-lifecycle-policy", "--lifecycle-policy-text"),
    of: |settings| settings.lifecycle_policy.as_ref(),
};

static REPOSITORY: PolicyKind = PolicyKind {
    key: "repository_policy",
    read: "ecr:GetRepositoryPolicy",
    write: "ecr:SetRepositoryPolicy",
    command: ("set-repository-policy", "--policy-text"),
    of: |settings| settings.repository_policy.as_ref(),
};

/// The configured policies.
fn configured(settings: &EcrCreate) -> impl Iterator<Item = (&'static PolicyKind, &Policy)> {
    [&LIFECYCLE, &REPOSITORY].into_iter().filter_map(|kind| Some((kind, (kind.of)(settings)?)))
}

impl Ecr {
    /// Sets the policies of a repository that was just created.
    pub(super) async fn set_policies(&self, client: &Client, new: &Repository, settings: &EcrCreate) -> Result<()> {
        for (kind, policy) in configured(settings) {
            let attempted = format!("set {} of the new repository {new}", kind.key);
            // Without reconcile, the next run leaves the repository unchanged, so the user has to finish this.
            self.set_policy(client, new, kind, policy, attempted).await.map_err(|error| {
                let by_hand = self.policy_command(new, kind, policy);
                let finish = format!("run `{by_hand}`, then run this again");
                also(error, &format!("the repository exists by now, without it: {finish}"))
            })?;
        }
        Ok(())
    }

    /// The configured policies that the existing `repository` lacks or has with other content. Requested once.
    pub(super) async fn differing(&self, repository: &Repository) -> Result<Vec<&'static PolicyKind>> {
        let Some(settings) = self.create.as_ref().filter(|_| self.reconcile) else { return Ok(Vec::new()) };
        if let Some(known) = self.compared.lock().unwrap_or_else(PoisonError::into_inner).get(repository.path()) {
            return Ok(known.clone());
        }
        let mut differing = Vec::new();
        let _permit = self.permits.acquire().await.expect("never closed");
        let client = self.session.ecr().await?;
        for (kind, policy) in configured(settings) {
            let found = self.policy(&client, repository, kind).await?;
            if !found.is_some_and(|found| says_the_same(&found, &policy.text)) {
                differing.push(kind);
            }
        }
        self.remember(repository, differing.clone());
        Ok(differing)
    }

    /// Sets the differing policies, and returns them.
    pub(super) async fn reconcile(&self, repository: &Repository) -> Result<Vec<&'static str>> {
        let differing = self.differing(repository).await?;
        let Some(settings) = self.create.as_ref().filter(|_| !differing.is_empty()) else { return Ok(Vec::new()) };
        let _permit = self.permits.acquire().await.expect("never closed");
        let client = self.session.ecr().await?;
        for kind in &differing {
            let Some(policy) = (kind.of)(settings) else { continue };
            let attempted = format!("set {} of repository {repository}", kind.key);
            self.set_policy(&client, repository, kind, policy, attempted).await.map_err(|error| {
                let by_hand = self.policy_command(repository, kind, policy);
                also(error, &format!("or set it with `{by_hand}`; or {}", without(repository)))
            })?;
        }
        self.remember(repository, Vec::new());
        Ok(keys(&differing))
    }

    /// Records the policies of `repository` that differ from the configuration.
    pub(super) fn remember(&self, repository: &Repository, differing: Vec<&'static PolicyKind>) {
        let mut compared = self.compared.lock().unwrap_or_else(PoisonError::into_inner);
        compared.insert(repository.path().to_owned(), differing);
    }

    /// The policy of `repository`; `None` if there is none.
    async fn policy(&self, client: &Client, repository: &Repository, kind: &PolicyKind) -> Result<Option<String>> {
        let (account, name) = (&self.account, repository.path());
        if kind.key == LIFECYCLE.key {
            let answer = client.get_lifecycle_policy().registry_id(account).repository_name(name).send().await;
            self.found(answer.map(|answer| answer.lifecycle_policy_text), repository, kind)
        } else {
            let answer = client.get_repository_policy().registry_id(account).repository_name(name).send().await;
            self.found(answer.map(|answer| answer.policy_text), repository, kind)
        }
    }

    fn found<E>(
        &self,
        answer: Result<Option<String>, SdkError<E>>,
        repository: &Repository,
        kind: &PolicyKind,
    ) -> Result<Option<String>>
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        const NONE: [&str; 2] = ["LifecyclePolicyNotFoundException", "RepositoryPolicyNotFoundException"];
        match answer {
            Err(error) if error.code().is_some_and(|code| NONE.contains(&code)) => Ok(None),
            Err(error) => {
                let attempted = format!("compare {} of repository {repository}", kind.key);
                Err(also(self.session.failure(attempted, kind.read, error), &format!("or {}", without(repository))))
            }
            Ok(text) => Ok(text),
        }
    }

    async fn set_policy(
        &self,
        client: &Client,
        repository: &Repository,
        kind: &PolicyKind,
        policy: &Policy,
        attempted: String,
    ) -> Result<()> {
        let (account, name, text) = (&self.account, repository.path(), &policy.text);
        let failed = if kind.key == LIFECYCLE.key {
            let request = client.put_lifecycle_policy().registry_id(account).repository_name(name);
            let answer = request.lifecycle_policy_text(text).send().await;
            answer.err().map(|error| self.session.failure(attempted, kind.write, error))
        } else {
            let request = client.set_repository_policy().registry_id(account).repository_name(name);
            let answer = request.policy_text(text).send().await;
            answer.err().map(|error| self.session.failure(attempted, kind.write, error))
        };
        failed.map_or(Ok(()), Err)
    }

    /// The command for a user with permission.
    fn policy_command(&self, repository: &Repository, kind: &PolicyKind, policy: &Policy) -> String {
        let Self { account, region, .. } = self;
        let ((operation, option), name, file) = (kind.command, repository.path(), policy.file.display());
        format!(
            "aws ecr {operation} --region {region} --registry-id {account} --repository-name {name} {option} \
             file://{file}"
        )
    }
}

/// The keys in mirror.yaml.
pub(super) fn keys(kinds: &[&'static PolicyKind]) -> Vec<&'static str> {
    kinds.iter().map(|kind| kind.key).collect()
}

/// The alternative for a user who may not change, or not even read, the policies.
fn without(repository: &Repository) -> String {
    format!("remove `reconcile: true` from registries.{}.ecr in mirror.yaml", repository.registry())
}

/// `error` with another alternative in its hint.
fn also(error: Error, more: &str) -> Error {
    let hint = error.hint().map_or_else(|| more.to_owned(), |hint| format!("{hint}; {more}"));
    error.with_hint(hint)
}

/// Whether two policies differ only in formatting.
fn says_the_same(one: &str, other: &str) -> bool {
    let value = |text| serde_json::from_str::<Value>(text).ok();
    one == other || value(one).is_some_and(|one| value(other) == Some(one))
}
