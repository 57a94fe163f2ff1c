//! mirror.yaml → validated [`Config`].
//!
//! Reading has two halves. `crate::yaml` gives a tree with positions, from which serde fills the structs of `raw`;
//! only a syntax error or a wrong type ends it. Then every value is checked by its path, and unknown keys, duplicate keys
//! and errors of meaning come out together ([`Problems`]), in the order of the text. Keys that a later version will know
//! are refused by name (`keys`), never ignored.
//!
//! The environment comes in as a function, and no file is opened but those that are named for registries in use.
//! Relative paths are relative to the file's folder.

mod check;
mod ecr;
mod findings;
mod handling;
mod harbor;
mod images;
mod keys;
mod limits;
mod mirrors;
mod proxy_caches;
mod raw;
mod registries;
mod rule;
mod schema;
mod target;

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::oci::{Digest, Platform, Referrer, Registry, Repository, Tag};
use crate::select::Selection;
use crate::yaml::Document;
pub use crate::yaml::{KeyPath, Problem, Problems};
use check::Scope;
use findings::Findings;
pub use target::{Layout, Overrides, TargetRoot};

/// The largest file that is read: far above any list that a person or a generator writes.
const MAX_BYTES: usize = 4 << 20;

/// Looks an environment variable up; `None` if it isn't set.
pub type Env<'a> = dyn Fn(&str) -> Option<String> + 'a;

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
    /// The registries that a run talks to.
    pub used: BTreeSet<Registry>,
    /// Files that settings of these registries name and that can't be read. Nothing is wrong with this one: it is told when
    /// they are needed, which is before the first request.
    pub lacking: Option<Problems>,
}

/// One entry of `images`, with the defaults merged in.
#[derive(Debug, Clone)]
pub struct ImageRule {
    /// Where it comes from.
    pub repository: Repository,
    /// Which of its images.
    pub wanted: Wanted,
    /// The repository under each target, instead of the layout's.
    pub to: Option<String>,
    /// How they are mirrored.
    pub handling: Handling,
    /// Where it goes: one repository for each of [`Config::targets`], in their order.
    pub destinations: Vec<Repository>,
    /// The line of the file in which it begins.
    pub line: usize,
    /// Its place in the file, `images[3]`.
    pub path: KeyPath,
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

/// How an image is mirrored: what an entry and `defaults` may both say. An entry's word counts before that of `defaults`,
/// and that before what is built in.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Handling {
    /// What to do about a target tag that holds something else.
    pub overwrite: Overwrite,
    /// The platforms that are mirrored, sorted; empty = all, byte for byte.
    pub platforms: Vec<Platform>,
    /// What is mirrored of that which refers to the image.
    pub referrers: ReferrerRule,
    /// What to do about layers that may not be distributed.
    pub foreign: Foreign,
    /// What to do about attestations that an index lists and its registry doesn't serve.
    pub missing_attestations: MissingAttestations,
}

/// Which referrers are mirrored with an image.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ReferrerRule {
    /// Whether they are.
    pub policy: ReferrerPolicy,
    /// Only those of these artifact types; empty = all.
    pub artifact_types: Vec<String>,
}

impl ReferrerRule {
    /// Whether `referrer` is to be mirrored.
    pub fn wants(&self, referrer: &Referrer) -> bool {
        let listed = || self.artifact_types.iter().any(|wanted| Some(wanted.as_str()) == referrer.kind());
        self.policy != ReferrerPolicy::None && (self.artifact_types.is_empty() || listed())
    }
}

/// Whether referrers are mirrored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ReferrerPolicy {
    /// Whatever there is.
    #[default]
    All,
    /// None, and nobody is asked for them.
    None,
    /// Whatever there is, and an image that has none has failed.
    Require,
}

/// What to do about layers that may not be distributed ("foreign" to Docker, "non-distributable" to OCI).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Foreign {
    /// Mirror them as any other if the source registry serves them; their `urls` are never followed.
    #[default]
    Fetch,
    /// An image that has one has failed.
    Fail,
}

/// What to do about attestations that an index lists and its registry doesn't serve: some were cleared away for their age.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MissingAttestations {
    /// The image fails.
    #[default]
    Fail,
    /// The index is mirrored without them, under a digest of its own.
    Drop,
}

/// What to do about a target tag that holds something else: an image's, and the tags of what refers to it. A referrer that
/// can't have its tag leaves the image as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Overwrite {
    /// Replace it.
    #[default]
    Replace,
    /// It is a conflict, and fails.
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
    /// A PEM file with further certificate authorities, or with the server's own certificate; also for the hosts that the
    /// registry sends us to.
    pub ca: Option<PathBuf>,
    /// Who we are to the registry's own host and port, if it asks in the TLS handshake.
    pub client: Option<ClientCertificate>,
    /// Take any certificate of the registry's own host and port.
    pub insecure: bool,
    /// Plain HTTP: forced on or off; unsaid, loopback hosts get it.
    pub plain_http: Option<bool>,
    /// The URL of a proxy, instead of the environment's. Plain only if it holds no password.
    pub proxy: Option<Secret>,
    /// The URL to talk to instead of the host.
    pub endpoint: Option<url::Url>,
    /// Where else what it serves may be read by its digest, in the order in which these are asked.
    pub mirrors: Vec<Mirror>,
    /// What is special to ECR.
    pub ecr: EcrSettings,
    /// What is special to Harbor; with it the registry is one, without it it tells by itself.
    pub harbor: Option<HarborSettings>,
}

impl RegistrySettings {
    /// Whether `registry`, whose settings these are, speaks plain HTTP. Loopback hosts do unless something says otherwise.
    pub fn speaks_plain_http(&self, registry: &Registry) -> bool {
        let has_tls_endpoint = self.endpoint.as_ref().is_some_and(|endpoint| endpoint.scheme() == "https");
        let wants_tls = self.ca.is_some() || self.insecure || has_tls_endpoint || !registry.is_loopback();
        self.plain_http.unwrap_or(!wants_tls)
    }
}

/// `REGISTRY[/PREFIX]`, below which a repository has the path that it has at its origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirror {
    /// The registry.
    pub registry: Registry,
    /// The path before each repository, without slashes at its ends; may be empty.
    pub prefix: String,
}

/// `client_cert` and `client_key`, both PEM files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The certificate, then what leads from it to an authority.
    pub certificate: PathBuf,
    /// The private key that goes with it.
    pub key: PathBuf,
}

/// Where a secret is read from when its host is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Secret {
    /// As it stands: only for user names, and for proxies that want none.
    Plain(String),
    /// An environment variable.
    Env(String),
    /// A file; one trailing newline is stripped.
    File(PathBuf),
}

/// `registries.HOST.ecr`. By default repositories are created with the account's defaults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EcrSettings {
    /// A named profile of the AWS configuration.
    pub profile: Option<String>,
    /// A role to assume.
    pub role_arn: Option<String>,
    /// Goes with `role_arn`.
    pub external_id: Option<String>,
    /// How missing repositories are created; `None` = never.
    pub create: Option<EcrCreate>,
    /// Whether existing repositories that get something are to have the policies of `create`, too.
    pub reconcile: bool,
}

impl Default for EcrSettings {
    fn default() -> Self {
        Self { profile: None, role_arn: None, external_id: None, create: Some(EcrCreate::default()), reconcile: false }
    }
}

/// `registries.HOST.ecr.create`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EcrCreate {
    /// `MUTABLE` or `IMMUTABLE`.
    pub tag_mutability: Option<String>,
    /// Tags for which the opposite of `tag_mutability` holds, 1 to 5 patterns with `*`; empty = none.
    pub mutability_exclusions: Vec<String>,
    /// Scan images as they are pushed.
    pub scan_on_push: Option<bool>,
    /// `AES256`, `KMS` or `KMS_DSSE`; with a key alone it is `KMS`.
    pub encryption: Option<String>,
    /// A KMS key: its alias, id or ARN.
    pub kms_key: Option<String>,
    /// Which images expire when.
    pub lifecycle_policy: Option<Policy>,
    /// Who else may do what with the repository.
    pub repository_policy: Option<Policy>,
    /// Tags of the repository as an AWS resource.
    pub tags: BTreeMap<String, String>,
}

/// `registries.HOST.harbor`. By default private projects are created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HarborSettings {
    /// How missing projects are created; `None` = never.
    pub create: Option<HarborCreate>,
    /// The proxy-cache projects that there are to be.
    pub proxy_caches: Vec<ProxyCache>,
}

impl Default for HarborSettings {
    fn default() -> Self {
        Self { create: Some(HarborCreate::default()), proxy_caches: Vec::new() }
    }
}

/// One of `registries.HOST.harbor.proxy_caches`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyCache {
    /// The project's name.
    pub project: String,
    /// The registry that it caches.
    pub upstream: Registry,
    /// Whether everybody may pull.
    pub public: bool,
    /// The paths of the repositories there that the list mirrors, sorted: what it may be asked for, where there are any.
    pub repositories: Vec<String>,
}

/// `registries.HOST.harbor.create`. What is `None` is left to Harbor's own default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HarborCreate {
    /// Whether everybody may pull.
    pub public: bool,
    /// How much the project may hold.
    pub storage_limit: Option<StorageLimit>,
    /// Scan images as they are pushed.
    pub auto_scan: Option<bool>,
    /// Make an SBOM of images as they are pushed.
    pub auto_sbom_generation: Option<bool>,
    /// Refuse to serve images with vulnerabilities from `severity` on.
    pub prevent_vul: Option<bool>,
    /// `none`, `low`, `medium`, `high` or `critical`.
    pub severity: Option<String>,
    /// Whether the system's list of tolerated vulnerabilities holds for the project, too.
    pub reuse_sys_cve_allowlist: Option<bool>,
}

/// How much a Harbor project may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StorageLimit {
    /// As much as there is.
    Unlimited,
    /// So many bytes, at least 1.
    Bytes(i64),
}

/// A policy, as AWS takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// The file that it was read from.
    pub file: PathBuf,
    /// Its text: JSON of the right shape and size.
    pub text: String,
}

/// Bounds of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Blobs in flight; an upper bound, not a target.
    pub transfers: usize,
    /// How long a connection may be silent: connect, first byte, gaps.
    pub idle_timeout: Duration,
    /// How long a host in trouble is waited for before it is given up for the run.
    pub max_wait: Duration,
    /// The most bytes a second that are read from the sources; `None` without a limit.
    pub bandwidth: Option<NonZeroU64>,
    /// Pulls of a quota that are left for others.
    pub quota_reserve: u64,
    /// The largest manifest that is taken, in bytes.
    pub manifest_size: u64,
}

/// What a command needs that mirrors no list: how to talk to registries, and the bounds of a run.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Settings by registry.
    pub registries: BTreeMap<Registry, RegistrySettings>,
    /// Bounds of a run.
    pub limits: Limits,
    /// [`Config::lacking`].
    pub lacking: Option<Problems>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            transfers: 32,
            idle_timeout: Duration::from_secs(60),
            max_wait: Duration::from_secs(300),
            bandwidth: None,
            quota_reserve: 10,
            manifest_size: 4 << 20,
        }
    }
}

impl Config {
    /// Reads the text of the file that the user calls `origin`. Environment variables are looked up for the registries
    /// in use only: those of targets and images.
    ///
    /// # Errors
    /// Everything that is wrong with the file.
    pub fn read(text: &str, origin: &Path, env: &Env<'_>) -> Result<Self, Problems> {
        Self::read_for(text, origin, &Overrides::default(), env)
    }

    /// [`Config::read`] for a run that departs from the file: its targets are those of `detour`, and registries that are
    /// out of the way aren't in use.
    ///
    /// # Errors
    /// Everything that is wrong with the file.
    pub fn read_for(text: &str, origin: &Path, detour: &Overrides, env: &Env<'_>) -> Result<Self, Problems> {
        Self::read_scope(text, origin, Scope::Mirror(detour), env)
    }

    /// Reads `registries` and `limits` for a command that talks to `hosts` and mirrors no list. Targets and images may
    /// be missing; what is there has to be valid all the same.
    ///
    /// # Errors
    /// Everything that is wrong with the file.
    pub fn read_settings(text: &str, origin: &Path, hosts: &[Registry], env: &Env<'_>) -> Result<Settings, Problems> {
        let Self { registries, limits, lacking, .. } = Self::read_scope(text, origin, Scope::Settings(hosts), env)?;
        Ok(Settings { registries, limits, lacking })
    }

    fn read_scope(text: &str, origin: &Path, scope: Scope<'_>, env: &Env<'_>) -> Result<Self, Problems> {
        let document =
            Document::parse(text, MAX_BYTES).map_err(|problem| Problems::new(origin, text, vec![problem]))?;
        let mut problems = document.duplicates.clone();
        let mut unknown = Vec::new();
        let raw = document.read(|path| unknown.push(path));
        problems.extend(unknown.into_iter().map(|path| {
            let at = document.key_position(&path);
            keys::unknown(path, at)
        }));
        let raw = match raw {
            Ok(raw) => raw,
            Err(problem) => {
                problems.push(problem);
                return Err(Problems::new(origin, text, problems));
            }
        };
        let folder = origin.parent().unwrap_or(Path::new(""));
        let mut findings = Findings::new(&document, folder, problems);
        let config = check::config(&raw, scope, env, &mut findings);
        let Findings { problems, lacking, .. } = findings;
        if !problems.is_empty() {
            return Err(Problems::new(origin, text, problems));
        }
        let lacking = Some(lacking).filter(|lacking| !lacking.is_empty());
        Ok(Self { lacking: lacking.map(|lacking| Problems::new(origin, text, lacking)), ..config })
    }
}

#[cfg(test)]
mod tests;
