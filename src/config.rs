//! mirror.yaml → validated Config.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::oci::{Digest, Reference, Registry, Repository, Tag};
use crate::select::Selection;

/// A mirror.yaml that can be acted on: everything that can be known without a request has been checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where images go; at least one.
    pub targets: Vec<TargetRoot>,
    /// How a source repository is named under a target.
    pub layout: Layout,
    /// What to mirror, in the order of the file.
    pub images: Vec<ImageRule>,
    /// Settings by registry.
    pub registries: BTreeMap<Registry, RegistrySettings>,
    /// Bounds of a run.
    pub limits: Limits,
}

/// `REGISTRY[/PREFIX]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetRoot {
    /// The registry.
    pub registry: Registry,
    /// The path before each repository, without slashes at its ends; may be empty.
    pub prefix: String,
}

/// The template for target repositories: `{registry}`, `{repository}`, `{name}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout(pub(crate) String);

/// One entry of `images`, with the defaults merged in.
#[derive(Debug, Clone)]
pub struct ImageRule {
    /// Where it comes from.
    pub repository: Repository,
    /// Which of its images.
    pub wanted: Wanted,
    /// The repository under each target, instead of the layout's.
    pub to: Option<String>,
    /// What to do about a target tag that holds something else.
    pub overwrite: Overwrite,
}

/// Which images of a repository an entry asks for.
#[derive(Debug, Clone, PartialEq)]
pub enum Wanted {
    /// These tags; each may be pinned to a digest by the list itself.
    Tags(Vec<(Tag, Option<Digest>)>),
    /// A digest alone; lands under the tag that `as` names, or untagged.
    Digest(Digest, Option<Tag>),
    /// What a selection picks from the tag list.
    Select(Selection),
}

/// What to do about a target tag that holds something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Overwrite {
    /// Replace it.
    #[default]
    Replace,
    /// It is a conflict: that image fails.
    Refuse,
    /// Leave it, without a failure.
    Keep,
}

/// One entry of `registries`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RegistrySettings {
    /// The user's name.
    pub username: Option<Secret>,
    /// The password or token of that user.
    pub password: Option<Secret>,
    /// A ready bearer token.
    pub token: Option<Secret>,
    /// A PEM file with further certificate authorities.
    pub ca: Option<PathBuf>,
    /// Take any certificate.
    pub insecure: bool,
    /// Plain HTTP: forced on or off; unsaid, loopback hosts get it.
    pub plain_http: Option<bool>,
    /// The URL to talk to instead of the host.
    pub endpoint: Option<url::Url>,
    /// What is special to ECR.
    pub ecr: EcrSettings,
}

/// Where a secret is read from when its host is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Secret {
    /// As it stands: only for user names.
    Plain(String),
    /// An environment variable.
    Env(String),
    /// A file; one trailing newline is stripped.
    File(PathBuf),
}

/// `registries.HOST.ecr`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EcrSettings {
    /// A named profile of the AWS configuration.
    pub profile: Option<String>,
    /// A role to assume.
    pub role_arn: Option<String>,
    /// Goes with `role_arn`.
    pub external_id: Option<String>,
    /// How missing repositories are created; `None` = never.
    pub create: Option<EcrCreate>,
}

/// `registries.HOST.ecr.create`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EcrCreate {
    /// `MUTABLE` or `IMMUTABLE`.
    pub tag_mutability: Option<String>,
    /// Scan images as they are pushed.
    pub scan_on_push: Option<bool>,
    /// A KMS key: its alias, id or ARN.
    pub kms_key: Option<String>,
    /// Tags of the repository as an AWS resource.
    pub tags: BTreeMap<String, String>,
}

/// Bounds of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Blobs in flight; an upper bound, not a target.
    pub transfers: usize,
    /// How long a connection may be silent: connect, first byte, gaps.
    pub idle_timeout: Duration,
    /// The largest manifest that is taken, in bytes.
    pub manifest_size: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { transfers: 32, idle_timeout: Duration::from_secs(60), manifest_size: 4 << 20 }
    }
}

impl Config {
    /// Where `rule`'s images go under `target`.
    pub fn target_repository(&self, rule: &ImageRule, target: &TargetRoot) -> Repository {
        let _ = (rule, target);
        todo!("the validation has built it once")
    }
}

/// Unused until the parser lands.
#[doc(hidden)]
pub type Unused = Reference;
