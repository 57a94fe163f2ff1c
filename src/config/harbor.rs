//! `registries.HOST.harbor`: which hosts are configured as Harbor, and the settings for creating projects.

use std::collections::{BTreeMap, BTreeSet};

use super::findings::Findings;
use super::raw::{RawCreate, RawHarbor, RawHarborCreate, RawRegistry};
use crate::oci::{Registry, Service};
use crate::yaml::KeyPath;

/// `registries.HOST.harbor`. By default private projects are created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HarborSettings {
    /// Settings for creating missing projects; `None` = never create.
    pub create: Option<HarborCreate>,
    /// The proxy-cache projects to create.
    pub proxy_caches: Vec<ProxyCache>,
}

impl Default for HarborSettings {
    fn default() -> Self {
        Self { create: Some(HarborCreate::default()), proxy_caches: Vec::new() }
    }
}

/// One entry of `registries.HOST.harbor.proxy_caches`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyCache {
    /// The project's name.
    pub project: String,
    /// The registry that it caches.
    pub upstream: Registry,
    /// Whether anybody may pull.
    pub public: bool,
    /// The upstream repositories in the list of images, sorted. If there are any, only these may be pulled through
    /// the cache.
    pub repositories: Vec<String>,
}

/// `registries.HOST.harbor.create`. `None` means Harbor's own default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HarborCreate {
    /// Whether anybody may pull.
    pub public: bool,
    /// The storage quota of the project.
    pub storage_limit: Option<StorageLimit>,
    /// Scan images on push.
    pub auto_scan: Option<bool>,
    /// Create an SBOM of images on push.
    pub auto_sbom_generation: Option<bool>,
    /// Prevent pulls of images with vulnerabilities of `severity` or worse.
    pub prevent_vul: Option<bool>,
    /// `none`, `low`, `medium`, `high` or `critical`.
    pub severity: Option<String>,
    /// Whether the project uses the system's list of tolerated vulnerabilities.
    pub reuse_sys_cve_allowlist: Option<bool>,
}

/// The storage quota of a Harbor project.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StorageLimit {
    /// No limit.
    Unlimited,
    /// This many bytes, at least 1.
    Bytes(i64),
}

/// Severities of vulnerabilities, in Harbor's words.
const SEVERITIES: &[&str] = &["none", "low", "medium", "high", "critical"];

/// The hosts that the file configures as Harbor. Invalid names are reported elsewhere.
pub(super) fn hosts(raw: Option<&BTreeMap<String, Option<RawRegistry>>>) -> BTreeSet<Registry> {
    let entries = raw.into_iter().flatten();
    let harbors = entries.filter(|(_, raw)| raw.as_ref().is_some_and(|raw| raw.harbor.is_some()));
    harbors.filter_map(|(host, _)| host.parse().ok()).collect()
}

pub(super) fn settings(
    raw: &RawHarbor,
    registry: &Registry,
    path: &KeyPath,
    findings: &mut Findings<'_>,
) -> HarborSettings {
    if Service::of(registry) != Service::Other {
        findings.add(path, format!("{registry} is another kind of registry, not a Harbor"));
    }
    let create = match &raw.create {
        None => Some(HarborCreate::default()),
        Some(RawCreate::Never) => None,
        Some(RawCreate::With(raw)) => Some(create(raw, &path.key("create"), findings)),
    };
    HarborSettings { create, proxy_caches: Vec::new() }
}

fn create(raw: &RawHarborCreate, path: &KeyPath, findings: &mut Findings<'_>) -> HarborCreate {
    if let Some(text) = raw.severity.as_deref().filter(|text| !SEVERITIES.contains(text)) {
        let message = format!("`{text}` isn't supported: expected one of {}", SEVERITIES.join(", "));
        findings.add(&path.key("severity"), message);
    }
    HarborCreate {
        public: raw.public.unwrap_or(false),
        storage_limit: raw.storage_limit.as_deref().and_then(|text| limit(text, &path.key("storage_limit"), findings)),
        auto_scan: raw.auto_scan,
        auto_sbom_generation: raw.auto_sbom_generation,
        prevent_vul: raw.prevent_vul,
        severity: raw.severity.clone(),
        reuse_sys_cve_allowlist: raw.reuse_sys_cve_allowlist,
    }
}

fn limit(text: &str, path: &KeyPath, findings: &mut Findings<'_>) -> Option<StorageLimit> {
    if matches!(text, "-1" | "unlimited") {
        return Some(StorageLimit::Unlimited);
    }
    match text.parse::<bytesize::ByteSize>().ok().and_then(|size| i64::try_from(size.as_u64()).ok()) {
        Some(bytes) if bytes > 0 => Some(StorageLimit::Bytes(bytes)),
        Some(_) => {
            findings.add_hint(
                path,
                "expected more than 0",
                "write unlimited, or leave it out for Harbor's own default",
            );
            None
        }
        None => {
            let hint = "write a number and a unit, such as 500GiB, or unlimited";
            findings.add_hint(path, format!("`{text}` isn't a size"), hint);
            None
        }
    }
}
