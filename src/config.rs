//! mirror.yaml → validated [`Config`].
//!
//! Reading has two steps. `crate::yaml` parses the text to a tree with positions, from which serde fills the
//! structs of `raw`; only a syntax error or a wrong type stops this step. Then every value is checked by its path,
//! and unknown keys, duplicate keys and invalid values are reported together ([`Problems`]), in the order of the
//! text. A key that doesn't exist is never ignored; `keys` finds the one that was meant.
//!
//! The environment is passed as a function, and only files of registries in use are opened. Relative paths are
//! relative to the file's folder.

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
use std::path::Path;

use crate::oci::{Digest, Platform, Referrer, Registry, Repository, Tag};
use crate::select::Selection;
use crate::yaml::Document;
pub use crate::yaml::{KeyPath, Problem, Problems};
use check::Scope;
pub use ecr::{EcrCreate, EcrSettings, Policy};
use findings::Findings;
pub use harbor::{HarborCreate, HarborSettings, ProxyCache, StorageLimit};
pub use limits::Limits;
pub use registries::{ClientCertificate, Mirror, RegistrySettings, Secret};
pub use target::{Layout, Overrides, TargetRoot};

/// The largest file that is read: far above any list written by a person or a generator.
const MAX_BYTES: usize = 4 << 20;

/// Looks an environment variable up; `None` if it isn't set.
pub type Env<'a> = dyn Fn(&str) -> Option<String> + 'a;

/// A valid mirror.yaml: everything that can be checked without a request was checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// The targets; at least one.
    pub targets: Vec<TargetRoot>,
    /// The template for repository names under a target.
    pub layout: Layout,
    /// The images to mirror, in the order of the file.
    pub images: Vec<ImageRule>,
    /// Settings by registry.
    pub registries: BTreeMap<Registry, RegistrySettings>,
    /// Limits of a run.
    pub limits: Limits,
    /// The registries that a run uses.
    pub used: BTreeSet<Registry>,
    /// Unreadable files named in the settings of these registries. mirror.yaml itself is valid, so this is reported
    /// when they are needed, before the first request.
    pub lacking: Option<Problems>,
}

/// One entry of `images`, with the defaults merged in.
#[derive(Debug, Clone)]
pub struct ImageRule {
    /// The source repository.
    pub repository: Repository,
    /// Which of its images to mirror.
    pub wanted: Wanted,
    /// The repository under each target, instead of that by the layout.
    pub to: Option<String>,
    /// How to mirror them.
    pub handling: Handling,
    /// The target repositories, one for each of [`Config::targets`], in order.
    pub destinations: Vec<Repository>,
    /// The first line of the entry in the file.
    pub line: usize,
    /// Its path in the file, `images[3]`.
    pub path: KeyPath,
}

/// The images of a repository that an entry asks for.
#[derive(Debug, Clone, PartialEq)]
pub enum Wanted {
    /// These tags, each with a digest if the list pins it.
    Tags(Vec<(Tag, Option<Digest>)>),
    /// A digest alone, with the target tag in `as`, if any.
    Digest(Digest, Option<Tag>),
    /// The tags of a selection.
    Select(Selection),
}

/// How an image is mirrored: the keys that an entry and `defaults` share. An entry overrides `defaults`, which
/// override the built-in values.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Handling {
    /// What to do if a target tag holds something else.
    pub overwrite: Overwrite,
    /// The platforms to mirror, sorted; empty = all, byte for byte.
    pub platforms: Vec<Platform>,
    /// Which referrers to mirror.
    pub referrers: ReferrerRule,
    /// What to do about non-distributable layers.
    pub foreign: Foreign,
    /// What to do about attestations that an index lists but its registry doesn't serve.
    pub missing_attestations: MissingAttestations,
}

/// Which referrers are mirrored with an image.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ReferrerRule {
    /// Whether they are mirrored.
    pub policy: ReferrerPolicy,
    /// Only referrers of these artifact types; empty = all.
    pub artifact_types: Vec<String>,
}

impl ReferrerRule {
    /// Whether to mirror `referrer`.
    pub fn wants(&self, referrer: &Referrer) -> bool {
        let listed = || self.artifact_types.iter().any(|wanted| Some(wanted.as_str()) == referrer.kind());
        self.policy != ReferrerPolicy::None && (self.artifact_types.is_empty() || listed())
    }
}

/// Whether referrers are mirrored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ReferrerPolicy {
    /// All referrers.
    #[default]
    All,
    /// None; the source isn't asked for them.
    None,
    /// All referrers; an image without any fails.
    Require,
}

/// What to do about layers that may not be distributed ("foreign" to Docker, "non-distributable" to OCI).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Foreign {
    /// Mirror them like any other layer if the source registry serves them; their `urls` are never followed.
    #[default]
    Fetch,
    /// Fail the image.
    Fail,
}

/// What to do about attestations that an index lists but its registry doesn't serve: some registries delete them by
/// age.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MissingAttestations {
    /// Fail the image.
    #[default]
    Fail,
    /// Mirror the index without them, which changes its digest.
    Drop,
}

/// What to do if a target tag holds something else: the tag of an image or of a referrer. A referrer that can't get
/// its tag doesn't affect the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Overwrite {
    /// Replace it.
    #[default]
    Replace,
    /// Fail with a conflict.
    Refuse,
    /// Keep it, without failing.
    Keep,
}

/// The settings for a command that mirrors no list: how to access registries, and the limits of a run.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Settings by registry.
    pub registries: BTreeMap<Registry, RegistrySettings>,
    /// Limits of a run.
    pub limits: Limits,
    /// [`Config::lacking`].
    pub lacking: Option<Problems>,
}

impl Config {
    /// Parses the text of the file `origin`. Environment variables are looked up only for registries in use: those
    /// of targets and images.
    ///
    /// # Errors
    /// All problems of the file.
    pub fn read(text: &str, origin: &Path, env: &Env<'_>) -> Result<Self, Problems> {
        Self::read_for(text, origin, &Overrides::default(), env)
    }

    /// [`Config::read`] for a run with `detour`: its targets replace those of the file, and registries that the run
    /// doesn't need aren't in use.
    ///
    /// # Errors
    /// All problems of the file.
    pub fn read_for(text: &str, origin: &Path, detour: &Overrides, env: &Env<'_>) -> Result<Self, Problems> {
        Self::read_scope(text, origin, Scope::Mirror(detour), env)
    }

    /// Reads `registries` and `limits` for a command that uses `hosts` and mirrors no list. Targets and images may
    /// be missing, but must be valid if present.
    ///
    /// # Errors
    /// All problems of the file.
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
