//! `registries.HOST.harbor`: which hosts are configured as Harbor, and the settings for creating projects.

use std::collections::{BTreeMap, BTreeSet};

use super::findings::Findings;
use super::raw::{RawCreate, RawHarbor, RawHarborCreate, RawRegistry};
use super::{HarborCreate, HarborSettings, StorageLimit};
use crate::oci::{Registry, Service};
use crate::yaml::KeyPath;

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
        let message = format!("`{text}` isn't understood: expected one of {}", SEVERITIES.join(", "));
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
