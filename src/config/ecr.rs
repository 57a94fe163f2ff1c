//! `registries.HOST.ecr`: the identity, and the settings for creating repositories.
//!
//! Limits are those of ECR's API reference.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use super::findings::Findings;
use super::raw::{RawCreate, RawEcr, RawEcrCreate};
use crate::yaml::KeyPath;

/// `registries.HOST.ecr`. By default repositories are created with the account's defaults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EcrSettings {
    /// A named profile of the AWS configuration.
    pub profile: Option<String>,
    /// A role to assume.
    pub role_arn: Option<String>,
    /// The external ID for `role_arn`.
    pub external_id: Option<String>,
    /// Settings for creating missing repositories; `None` = never create.
    pub create: Option<EcrCreate>,
    /// Whether existing repositories that get a tag also get the policies of `create`.
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
    /// Exceptions from `tag_mutability`: 1 to 5 patterns with `*`; empty = none.
    pub mutability_exclusions: Vec<String>,
    /// Scan images on push.
    pub scan_on_push: Option<bool>,
    /// `AES256`, `KMS` or `KMS_DSSE`; `KMS` if only a key is given.
    pub encryption: Option<String>,
    /// A KMS key: its alias, id or ARN.
    pub kms_key: Option<String>,
    /// The lifecycle policy.
    pub lifecycle_policy: Option<Policy>,
    /// The repository policy.
    pub repository_policy: Option<Policy>,
    /// Tags of the repository as an AWS resource.
    pub tags: BTreeMap<String, String>,
}

/// A policy in AWS's format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// The file that it was read from.
    pub file: PathBuf,
    /// Its text: JSON of a valid shape and size.
    pub text: String,
}

/// The settings at `path`. Policy files are read if the registry is `used`.
pub(super) fn settings(raw: &RawEcr, path: &KeyPath, used: bool, findings: &mut Findings<'_>) -> EcrSettings {
    for (key, value) in [("profile", &raw.profile), ("external_id", &raw.external_id)] {
        if value.as_deref() == Some("") {
            findings.add(&path.key(key), "it is empty");
        }
    }
    if let Some(arn) = &raw.role_arn
        && !(arn.starts_with("arn:") && arn.contains(":role/"))
    {
        let hint = "write arn:aws:iam::ACCOUNT:role/NAME";
        findings.add_hint(&path.key("role_arn"), format!("`{arn}` isn't the ARN of a role"), hint);
    }
    if raw.external_id.is_some() && raw.role_arn.is_none() {
        findings.add(&path.key("external_id"), "role_arn is missing: external_id goes with it");
    }
    let create = match &raw.create {
        None => Some(EcrCreate::default()),
        Some(RawCreate::Never) => None,
        Some(RawCreate::With(raw)) => Some(create(raw, &path.key("create"), used, findings)),
    };
    let policies = |raw: &RawEcrCreate| raw.lifecycle_policy.is_some() || raw.repository_policy.is_some();
    let reconcile = raw.reconcile.unwrap_or(false);
    if reconcile && !matches!(&raw.create, Some(RawCreate::With(raw)) if policies(raw)) {
        let hint = "set create.lifecycle_policy or create.repository_policy, or remove reconcile";
        findings.add_hint(&path.key("reconcile"), "there is no policy for existing repositories", hint);
    }
    EcrSettings {
        profile: raw.profile.clone(),
        role_arn: raw.role_arn.clone(),
        external_id: raw.external_id.clone(),
        create,
        reconcile,
    }
}

fn create(raw: &RawEcrCreate, path: &KeyPath, used: bool, findings: &mut Findings<'_>) -> EcrCreate {
    mutability(raw, path, findings);
    encryption(raw, path, findings);
    let mut policy = |key: &str, file: &Option<String>, shape: &Shape| {
        let path = path.key(key);
        let file = findings.file(&path, file.as_deref()?);
        if used { findings.ok(&path, read(file, shape)) } else { None }
    };
    let lifecycle_policy = policy("lifecycle_policy", &raw.lifecycle_policy, &LIFECYCLE);
    let repository_policy = policy("repository_policy", &raw.repository_policy, &REPOSITORY);
    EcrCreate {
        tag_mutability: raw.tag_mutability.clone(),
        mutability_exclusions: raw.mutability_exclusions.clone().unwrap_or_default(),
        scan_on_push: raw.scan_on_push,
        encryption: raw.encryption.clone(),
        kms_key: raw.kms_key.clone(),
        lifecycle_policy,
        repository_policy,
        tags: tags(raw, path, findings),
    }
}

fn mutability(raw: &RawEcrCreate, path: &KeyPath, findings: &mut Findings<'_>) {
    match raw.tag_mutability.as_deref() {
        None | Some("MUTABLE" | "IMMUTABLE") => {}
        Some(other) => {
            let message = format!("`{other}` isn't supported: expected MUTABLE or IMMUTABLE");
            let hint = "list its exceptions in mutability_exclusions";
            findings.add_hint(&path.key("tag_mutability"), message, hint);
        }
    }
    let Some(filters) = &raw.mutability_exclusions else { return };
    let path = path.key("mutability_exclusions");
    if raw.tag_mutability.is_none() {
        findings.add(&path, "tag_mutability is missing: mutability_exclusions are excluded from it");
    }
    if !(1..=5).contains(&filters.len()) {
        findings.add(&path, format!("expected 1 to 5 patterns, as ECR accepts, found {}", filters.len()));
    }
    for (index, filter) in filters.iter().enumerate() {
        let valid = |b: u8| b.is_ascii_alphanumeric() || b"._*-".contains(&b);
        if !(1..=128).contains(&filter.len()) || !filter.bytes().all(valid) {
            let message =
                format!("`{filter}` isn't a pattern of tags: 1 to 128 letters, digits, `.`, `_`, `-` and `*`");
            findings.add(&path.index(index), message);
        }
    }
}

fn encryption(raw: &RawEcrCreate, path: &KeyPath, findings: &mut Findings<'_>) {
    if raw.kms_key.as_deref() == Some("") {
        findings.add(&path.key("kms_key"), "it is empty");
    }
    match (raw.encryption.as_deref(), &raw.kms_key) {
        (None | Some("KMS" | "KMS_DSSE"), _) | (Some("AES256"), None) => {}
        (Some("AES256"), Some(_)) => {
            findings.add_hint(
                &path.key("kms_key"),
                "AES256 doesn't use a key",
                "write encryption: KMS, or remove the key",
            );
        }
        (Some(other), _) => {
            let message = format!("`{other}` isn't supported: expected AES256, KMS or KMS_DSSE");
            findings.add(&path.key("encryption"), message);
        }
    }
}

/// The required shape of a policy, by ECR's API reference.
struct Shape {
    /// Its length in characters.
    length: RangeInclusive<usize>,
    /// The key of its parts, and their permitted number.
    parts: (&'static str, RangeInclusive<usize>),
}

const LIFECYCLE: Shape = Shape { length: 100..=30_720, parts: ("rules", 1..=50) };
const REPOSITORY: Shape = Shape { length: 1..=10_240, parts: ("Statement", 1..=usize::MAX) };

/// The policy in `file`.
fn read(file: PathBuf, shape: &Shape) -> Result<Policy, String> {
    let name = file.display();
    let text = std::fs::read_to_string(&file).map_err(|error| format!("{name} can't be read: {error}"))?;
    let value: serde_json::Value = serde_json::from_str(&text)
        .map_err(|error| format!("{name}:{}:{}: it isn't JSON: {error}", error.line(), error.column()))?;
    let (key, wanted) = &shape.parts;
    let parts = match &value[*key] {
        serde_json::Value::Array(parts) => parts.len(),
        // IAM's grammar permits a single statement without a list.
        serde_json::Value::Object(_) => 1,
        _ => return Err(format!("{name} has no {key}")),
    };
    if !wanted.contains(&parts) {
        return Err(format!("{name} has {parts} {key}, but ECR accepts {} to {}", wanted.start(), wanted.end()));
    }
    let length = text.chars().count();
    if !shape.length.contains(&length) {
        let (least, most) = (shape.length.start(), shape.length.end());
        return Err(format!("{name} has {length} characters, but ECR accepts {least} to {most}"));
    }
    Ok(Policy { file, text })
}

/// The limits of AWS resource tags.
fn tags(raw: &RawEcrCreate, path: &KeyPath, findings: &mut Findings<'_>) -> BTreeMap<String, String> {
    let tags = raw.tags.clone().unwrap_or_default();
    let list = path.key("tags");
    if tags.len() > 50 {
        findings.add(&list, format!("{} tags are more than the 50 that AWS accepts", tags.len()));
    }
    for (key, value) in &tags {
        let path = list.key(key);
        if !(1..=128).contains(&key.chars().count()) || key.starts_with("aws:") {
            findings.add(&path, "a key has 1 to 128 characters and doesn't begin with aws:");
        }
        if value.chars().count() > 256 {
            findings.add(&path, "a value has at most 256 characters");
        }
    }
    tags
}
