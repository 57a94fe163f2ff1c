//! Amazon ECR: repositories have to exist before a push.
//!
//! Facts: ECR's API reference, `DescribeRepositories` and `CreateRepository`.

use std::collections::HashSet;
use std::sync::Arc;

use async_trait::async_trait;
use aws_sdk_ecr::types::{
    EncryptionConfiguration, EncryptionType, ImageScanningConfiguration, ImageTagMutability, Tag,
};
use futures::future::try_join_all;
use tokio::sync::Semaphore;

use super::Provisioner;
use crate::aws::Session;
use crate::config::EcrCreate;
use crate::error::{Error, Kind, Result};
use crate::oci::Repository;

/// The most names that `DescribeRepositories` takes.
const BATCH: usize = 100;

/// Requests in flight for one registry: control planes throttle early, and ECR publishes no figures for this one.
const IN_FLIGHT: usize = 4;

/// One account's registry in one region.
#[derive(Debug)]
pub(super) struct Ecr {
    session: Arc<Session>,
    account: String,
    region: String,
    create: Option<EcrCreate>,
    /// One for each request in flight. What is throttled all the same, the SDK retries.
    permits: Semaphore,
}

/// What is known of some repositories.
enum Known {
    /// Which of them exist.
    Existing(HashSet<String>),
    /// At least one doesn't; the answer says no more.
    SomeMissing,
    /// This identity may not ask: `ecr:DescribeRepositories` is denied.
    MayNotAsk,
}

impl Ecr {
    /// `create` tells how; `None` = never.
    pub(super) fn new(session: Arc<Session>, account: String, region: String, create: Option<EcrCreate>) -> Self {
        Self { session, account, region, create, permits: Semaphore::new(IN_FLIGHT) }
    }

    /// One `DescribeRepositories`, of at most [`BATCH`] names.
    async fn describe(&self, repositories: &[Repository]) -> Result<Known> {
        let attempted = || match repositories {
            [one] => format!("ask whether {one} exists"),
            many => format!("ask which of {} repositories of {} exist", many.len(), self.session),
        };
        let _permit = self.permits.acquire().await.expect("never closed");
        let answer = self
            .session
            .ecr()
            .await?
            .describe_repositories()
            .registry_id(&self.account)
            .set_repository_names(Some(repositories.iter().map(|one| one.path().to_owned()).collect()))
            .send()
            .await;
        match answer {
            Ok(answer) => {
                let names = answer.repositories().iter().filter_map(|one| one.repository_name());
                Ok(Known::Existing(names.map(ToOwned::to_owned).collect()))
            }
            Err(error) => match self.session.failure(attempted(), "ecr:DescribeRepositories", error) {
                error if error.kind() == Kind::NotFound => Ok(Known::SomeMissing),
                error if error.kind() == Kind::Denied => {
                    tracing::debug!("{error}");
                    Ok(Known::MayNotAsk)
                }
                error => Err(error),
            },
        }
    }

    /// Those of at most [`BATCH`] repositories that count as missing.
    async fn missing_of(&self, batch: &[Repository]) -> Result<Vec<Repository>> {
        let mut answers = vec![(batch, self.describe(batch).await?)];
        // The call fails as a whole for the sake of one: then each is asked for by itself.
        if let [(_, Known::SomeMissing)] = answers.as_slice()
            && batch.len() > 1
        {
            let each = batch.chunks(1).map(|one| async move { Ok((one, self.describe(one).await?)) });
            answers = try_join_all(each).await?;
        }
        let missing = answers.iter().flat_map(|(asked, known)| {
            asked.iter().filter(move |one| match known {
                Known::Existing(names) => !names.contains(one.path()),
                Known::SomeMissing => true,
                Known::MayNotAsk => self.create.is_some(),
            })
        });
        Ok(missing.cloned().collect())
    }

    /// `CreateRepository`; `false` if somebody was faster.
    async fn create(&self, repository: &Repository, settings: &EcrCreate) -> Result<bool> {
        let _permit = self.permits.acquire().await.expect("never closed");
        let mut request = self
            .session
            .ecr()
            .await?
            .create_repository()
            .registry_id(&self.account)
            .repository_name(repository.path())
            .set_image_tag_mutability(settings.tag_mutability.as_deref().map(ImageTagMutability::from));
        // `false` is ECR's default, and the SDK leaves it out of the body anyway.
        if settings.scan_on_push == Some(true) {
            request =
                request.image_scanning_configuration(ImageScanningConfiguration::builder().scan_on_push(true).build());
        }
        let refused = |error: &dyn std::fmt::Display| {
            Error::new(Kind::Configuration, format!("create repository {repository}"), error.to_string())
        };
        if let Some(key) = &settings.kms_key {
            let encryption = EncryptionConfiguration::builder().encryption_type(EncryptionType::Kms).kms_key(key);
            request = request.encryption_configuration(encryption.build().map_err(|error| refused(&error))?);
        }
        for (key, value) in &settings.tags {
            let tag = Tag::builder().key(key).value(value).build().map_err(|error| refused(&error))?;
            request = request.tags(tag);
        }
        let Err(error) = request.send().await else { return Ok(true) };
        let error = self.session.failure(format!("create repository {repository}"), "ecr:CreateRepository", error);
        match error.kind() {
            Kind::Conflict => Ok(false),
            Kind::Denied => {
                let grant = error.hint().unwrap_or_default().to_owned();
                Err(error.with_hint(format!("{grant}; or have it created by `{}`", self.command(repository))))
            }
            _ => Err(error),
        }
    }

    /// What somebody with the right to may run instead.
    fn command(&self, repository: &Repository) -> String {
        let Self { account, region, .. } = self;
        let name = repository.path();
        format!("aws ecr create-repository --region {region} --registry-id {account} --repository-name {name}")
    }
}

#[async_trait]
impl Provisioner for Ecr {
    fn unit<'a>(&self, _: &'a Repository) -> &'a str {
        // Many names fit into one question.
        ""
    }

    fn creates(&self) -> bool {
        self.create.is_some()
    }

    async fn missing(&self, repositories: &[Repository]) -> Result<Vec<Repository>> {
        Ok(try_join_all(repositories.chunks(BATCH).map(|batch| self.missing_of(batch))).await?.concat())
    }

    async fn ensure(&self, repository: &Repository) -> Result<bool> {
        if let Some(settings) = &self.create {
            return self.create(repository, settings).await;
        }
        if self.missing_of(std::slice::from_ref(repository)).await?.is_empty() {
            return Ok(false);
        }
        let why = "it doesn't exist, and `create: false` forbids to create it";
        Err(Error::new(Kind::NotFound, format!("prepare repository {repository}"), why).with_hint(format!(
            "run `{}`, or remove `create: false` from registries.{}.ecr in mirror.yaml",
            self.command(repository),
            repository.registry()
        )))
    }
}

#[cfg(test)]
mod tests;
