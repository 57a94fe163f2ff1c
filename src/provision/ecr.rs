//! Amazon ECR: repositories have to exist before a push.
//!
//! Facts: ECR's API reference, `DescribeRepositories`, `CreateRepository`.

mod policies;
mod pull_through;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use aws_sdk_ecr::error::BuildError;
use aws_sdk_ecr::operation::create_repository::builders::CreateRepositoryFluentBuilder;
use aws_sdk_ecr::types::{
    EncryptionConfiguration, EncryptionType, ImageScanningConfiguration, ImageTagMutability,
    ImageTagMutabilityExclusionFilter, ImageTagMutabilityExclusionFilterType, Repository as Described, Tag,
};
use futures::future::try_join_all;
use globset::Glob;
use tokio::sync::{OnceCell, Semaphore};

use self::policies::PolicyKind;
use self::pull_through::Rule;
use super::{Provisioner, Unprovable};
use crate::aws::Session;
use crate::config::EcrCreate;
use crate::error::{Error, Kind, Result};
use crate::oci::{self, Repository};

/// The most names in one `DescribeRepositories`.
const BATCH: usize = 100;

/// Requests in flight to one registry: control planes throttle early, and ECR publishes no figures for this one.
const IN_FLIGHT: usize = 4;

/// One account's registry in one region.
#[derive(Debug)]
pub(super) struct Ecr {
    session: Arc<Session>,
    account: String,
    region: String,
    create: Option<EcrCreate>,
    /// Whether existing repositories also get the policies of `create`.
    reconcile: bool,
    /// One per request in flight. The SDK retries throttled requests.
    permits: Semaphore,
    /// By name, the immutable tags of each described repository that has some.
    immutable: Mutex<HashMap<String, Immutable>>,
    /// The pull-through cache rules, requested once.
    rules: OnceCell<Vec<Rule>>,
    /// By name, the policies of each compared repository that differ from the configuration.
    compared: Mutex<HashMap<String, Vec<&'static PolicyKind>>>,
}

/// The immutable tags of a repository.
#[derive(Debug)]
struct Immutable {
    /// Whether all tags are immutable but those that match a pattern. If not, only those that match one are immutable.
    all_but: bool,
    patterns: Vec<String>,
}

impl Immutable {
    /// `None` if all tags are mutable.
    fn of(described: &Described) -> Option<Self> {
        let filters = described.image_tag_mutability_exclusion_filters().iter();
        let patterns = filters.map(|filter| filter.filter().to_owned()).collect();
        match described.image_tag_mutability()? {
            ImageTagMutability::Immutable => Some(Self { all_but: true, patterns: Vec::new() }),
            ImageTagMutability::ImmutableWithExclusion => Some(Self { all_but: true, patterns }),
            ImageTagMutability::MutableWithExclusion => Some(Self { all_but: false, patterns }),
            _ => None,
        }
    }

    fn holds(&self, tag: &oci::Tag) -> bool {
        // ECR's patterns support only `*` among the glob characters.
        let fits =
            |pattern: &String| Glob::new(pattern).is_ok_and(|glob| glob.compile_matcher().is_match(tag.as_str()));
        self.all_but != self.patterns.iter().any(fits)
    }
}

/// What is known about some repositories.
enum Known {
    /// The ones that exist.
    Existing(HashSet<String>),
    /// At least one doesn't exist; the answer doesn't say which.
    SomeMissing,
    /// The identity lacks `ecr:DescribeRepositories`.
    MayNotAsk,
}

impl Ecr {
    /// `create`: the settings for creation; `None` = never create. `reconcile`: existing repositories also get its
    /// policies.
    pub(super) fn new(
        session: Arc<Session>,
        account: String,
        region: String,
        create: Option<EcrCreate>,
        reconcile: bool,
    ) -> Self {
        Self {
            session,
            account,
            region,
            create,
            reconcile,
            permits: Semaphore::new(IN_FLIGHT),
            immutable: Mutex::default(),
            rules: OnceCell::new(),
            compared: Mutex::default(),
        }
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
                let found = answer.repositories().iter();
                let found = found.filter_map(|one| Some((one.repository_name()?.to_owned(), Immutable::of(one)?)));
                self.immutable.lock().unwrap_or_else(PoisonError::into_inner).extend(found);
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

    /// The members of a batch of at most [`BATCH`] repositories that count as missing.
    async fn missing_of(&self, batch: &[Repository]) -> Result<Vec<Repository>> {
        let mut answers = vec![(batch, self.describe(batch).await?)];
        // One missing repository makes the whole call fail: then each is queried separately.
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

    /// `CreateRepository`, then its policies; `false` if another client was faster, whose policies are left
    /// unchanged.
    async fn create(&self, repository: &Repository, settings: &EcrCreate) -> Result<bool> {
        let attempted = || format!("create repository {repository}");
        let _permit = self.permits.acquire().await.expect("never closed");
        let client = self.session.ecr().await?;
        let refused = |error: BuildError| Error::new(Kind::Configuration, attempted(), error.to_string());
        let request = client.create_repository().registry_id(&self.account).repository_name(repository.path());
        let created = with_settings(request, settings).map_err(refused)?.send().await;
        if let Err(error) = created {
            let error = self.session.failure(attempted(), "ecr:CreateRepository", error);
            return match error.kind() {
                Kind::Conflict => Ok(false),
                Kind::Denied => {
                    let grant = error.hint().unwrap_or_default().to_owned();
                    Err(error.with_hint(format!("{grant}; or create it with `{}`", self.command(repository))))
                }
                _ => Err(error),
            };
        }
        self.set_policies(&client, repository, settings).await?;
        self.remember(repository, Vec::new());
        Ok(true)
    }

    /// The command for a user with permission.
    fn command(&self, repository: &Repository) -> String {
        let Self { account, region, .. } = self;
        let name = repository.path();
        format!("aws ecr create-repository --region {region} --registry-id {account} --repository-name {name}")
    }
}

/// `request` with `settings`; omitted ones are the account's defaults.
fn with_settings(
    request: CreateRepositoryFluentBuilder,
    settings: &EcrCreate,
) -> Result<CreateRepositoryFluentBuilder, BuildError> {
    let mutability = settings.tag_mutability.as_deref().map(|mutability| match settings.mutability_exclusions.len() {
        0 => mutability.to_owned(),
        _ => format!("{mutability}_WITH_EXCLUSION"),
    });
    let mut request = request.set_image_tag_mutability(mutability.as_deref().map(ImageTagMutability::from));
    for pattern in &settings.mutability_exclusions {
        let filter = ImageTagMutabilityExclusionFilter::builder()
            .filter_type(ImageTagMutabilityExclusionFilterType::Wildcard)
            .filter(pattern);
        request = request.image_tag_mutability_exclusion_filters(filter.build()?);
    }
    // `false` is ECR's default, and the SDK omits it anyway.
    if settings.scan_on_push == Some(true) {
        request =
            request.image_scanning_configuration(ImageScanningConfiguration::builder().scan_on_push(true).build());
    }
    let with_key = settings.kms_key.as_ref().map(|_| EncryptionType::Kms);
    if let Some(kind) = settings.encryption.as_deref().map(EncryptionType::from).or(with_key) {
        let encryption = EncryptionConfiguration::builder().encryption_type(kind);
        request = request.encryption_configuration(encryption.set_kms_key(settings.kms_key.clone()).build()?);
    }
    for (key, value) in &settings.tags {
        request = request.tags(Tag::builder().key(key).value(value).build()?);
    }
    Ok(request)
}

#[async_trait]
impl Provisioner for Ecr {
    fn unit<'a>(&self, _: &'a Repository) -> &'a str {
        // One request covers many names.
        ""
    }

    async fn check_creation(&self, repository: &Repository) -> Result<Unprovable> {
        if self.create.is_none() {
            self.ensure(repository).await?;
        }
        let why = "it doesn't exist yet, and sync will create it: the permission can't be verified without creating it"
            .to_owned();
        Ok(Unprovable { why, hint: None })
    }

    async fn missing(&self, repositories: &[Repository]) -> Result<Vec<Repository>> {
        Ok(try_join_all(repositories.chunks(BATCH).map(|batch| self.missing_of(batch))).await?.concat())
    }

    async fn refused(&self, repository: &Repository) -> Option<Error> {
        self.refusal(repository).await
    }

    async fn differing(&self, repository: &Repository) -> Result<Vec<&'static str>> {
        Ok(policies::keys(&self.differing(repository).await?))
    }

    async fn reconcile(&self, repository: &Repository) -> Result<Vec<&'static str>> {
        self.reconcile(repository).await
    }

    fn is_immutable(&self, repository: &Repository, tag: &oci::Tag) -> bool {
        let immutable = self.immutable.lock().unwrap_or_else(PoisonError::into_inner);
        immutable.get(repository.path()).is_some_and(|immutable| immutable.holds(tag))
    }

    async fn ensure(&self, repository: &Repository) -> Result<bool> {
        if let Some(settings) = &self.create {
            return self.create(repository, settings).await;
        }
        if self.missing_of(std::slice::from_ref(repository)).await?.is_empty() {
            return Ok(false);
        }
        let why = "it doesn't exist, and `create: false` prevents creating it";
        Err(Error::new(Kind::NotFound, format!("prepare repository {repository}"), why).with_hint(format!(
            "run `{}`, or remove `create: false` from registries.{}.ecr in mirror.yaml",
            self.command(repository),
            repository.registry()
        )))
    }
}

#[cfg(test)]
mod tests;
