//! All keys of mirror.yaml, including those of later versions: these are refused by name, never ignored, and a
//! misspelt key gets a hint.

use crate::yaml::Position;
use crate::yaml::{KeyPath, Problem, Segment};

/// A place, its keys, and its keys in a later version. `[]` is any item, `*` any key.
pub(super) const KEYS: &[(&str, &[&str], &[&str])] = &[
    ("", &["version", "target", "targets", "layout", "images", "defaults", "registries", "limits"], &[]),
    (
        "images[]",
        &[
            "image",
            "tags",
            "select",
            "to",
            "as",
            "overwrite",
            "platforms",
            "referrers",
            "artifact_types",
            "foreign",
            "missing_attestations",
        ],
        &[],
    ),
    ("images[].select", &["glob", "regex", "semver", "exclude", "sort", "latest", "min"], &[]),
    ("defaults", &["overwrite", "platforms", "referrers", "artifact_types", "foreign", "missing_attestations"], &[]),
    (
        "registries.*",
        &[
            "username",
            "password",
            "token",
            "ca",
            "client_cert",
            "client_key",
            "insecure",
            "plain_http",
            "proxy",
            "endpoint",
            "mirrors",
            "ecr",
            "harbor",
        ],
        &[],
    ),
    ("registries.*.username", &["env", "file"], &[]),
    ("registries.*.password", &["env", "file"], &[]),
    ("registries.*.token", &["env", "file"], &[]),
    ("registries.*.proxy", &["env", "file"], &[]),
    ("registries.*.ecr", &["profile", "role_arn", "external_id", "create", "reconcile"], &[]),
    (
        "registries.*.ecr.create",
        &[
            "tag_mutability",
            "mutability_exclusions",
            "scan_on_push",
            "encryption",
            "kms_key",
            "lifecycle_policy",
            "repository_policy",
            "tags",
        ],
        &[],
    ),
    ("registries.*.harbor", &["create", "proxy_caches"], &[]),
    ("registries.*.harbor.proxy_caches[]", &["project", "upstream", "public"], &[]),
    (
        "registries.*.harbor.create",
        &[
            "public",
            "storage_limit",
            "auto_scan",
            "auto_sbom_generation",
            "prevent_vul",
            "severity",
            "reuse_sys_cve_allowlist",
        ],
        &[],
    ),
    ("limits", &["transfers", "idle_timeout", "max_wait", "bandwidth", "quota_reserve", "manifest_size"], &[]),
];

/// The problem for a key that the raw structs don't have.
pub(super) fn unknown(path: KeyPath, at: Position) -> Problem {
    let place = place(&path);
    let key = match path.0.last() {
        Some(Segment::Key(key)) => key.clone(),
        _ => String::new(),
    };
    let (now, later) =
        KEYS.iter().find(|(p, ..)| *p == place).map_or((&[][..], &[][..]), |(_, now, later)| (now, later));
    if later.contains(&key.as_str()) {
        return not_yet(at, path, &format!("the key `{key}`"));
    }
    let hint = if key == "<<" {
        "merge keys aren't supported: use defaults:, or a list shared by an alias".to_owned()
    } else if let Some(near) = nearest(&key, &[now, later].concat()) {
        let yet = if later.contains(&near) { " (it isn't supported yet)" } else { "" };
        format!("did you mean `{near}`?{yet}")
    } else if let Some((elsewhere, ..)) = KEYS.iter().find(|(_, now, _)| now.contains(&key.as_str())) {
        let elsewhere = if elsewhere.is_empty() { "the top of the file" } else { elsewhere };
        format!("`{key}` belongs to {elsewhere}")
    } else {
        format!("the keys here are {}", now.join(", "))
    };
    Problem::new(at, path, format!("unknown key `{key}`")).with_hint(hint)
}

/// The problem for a feature of a later version.
fn not_yet(at: Position, path: KeyPath, what: &str) -> Problem {
    Problem::new(at, path, format!("{what} isn't supported yet by this version of transship"))
        .with_hint("remove it, or update transship")
}

/// The path of the map that contains the last key, in the notation of [`KEYS`].
fn place(path: &KeyPath) -> String {
    let mut place = String::new();
    let around = path.0.split_last().map_or(&[][..], |(_, around)| around);
    for (position, segment) in around.iter().enumerate() {
        let registry = position == 1 && around.first() == Some(&Segment::Key("registries".into()));
        let dot = if place.is_empty() { "" } else { "." };
        match segment {
            Segment::Index(_) => place.push_str("[]"),
            Segment::Key(_) if registry => place.push_str(".*"),
            Segment::Key(key) => place.extend([dot, key.as_str()]),
        }
    }
    place
}

/// The key that was probably meant.
fn nearest<'k>(key: &str, keys: &[&'k str]) -> Option<&'k str> {
    let distance = |candidate: &str| strsim::damerau_levenshtein(key, candidate);
    let near = keys.iter().copied().min_by_key(|candidate| distance(candidate))?;
    let tolerated = (near.len() / 3).max(1);
    (distance(near) <= tolerated).then_some(near)
}
