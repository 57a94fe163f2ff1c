//! `registries.HOST.mirrors`: other registries from which the content of a registry can be read by digest.

use std::collections::BTreeMap;

use super::findings::Findings;
use super::raw::RawRegistry;
use super::{ImageRule, Mirror, TargetRoot};
use crate::oci::{Registry, Repository};
use crate::yaml::KeyPath;

/// The mirrors of each registry that has any, in the order in which they are tried. Invalid host names are reported
/// elsewhere.
pub(super) fn all(
    raw: Option<&BTreeMap<String, Option<RawRegistry>>>,
    images: &[ImageRule],
    targets: &[TargetRoot],
    findings: &mut Findings<'_>,
) -> BTreeMap<Registry, Vec<Mirror>> {
    let list = KeyPath::default().key("registries");
    let mut all = BTreeMap::new();
    for (host, raw) in raw.into_iter().flatten() {
        let listed = raw.as_ref().and_then(|raw| raw.mirrors.as_deref()).unwrap_or_default();
        let Ok(origin) = host.parse::<Registry>() else { continue };
        if listed.is_empty() {
            continue;
        }
        let path = list.key(host).key("mirrors");
        let sources: Vec<&Repository> = images.iter().map(|rule| &rule.repository).collect();
        let sources: Vec<&Repository> = sources.into_iter().filter(|source| *source.registry() == origin).collect();
        if sources.is_empty() && targets.iter().any(|target| target.registry == origin) {
            let hint = "set mirrors: for the registry that images are pulled from";
            findings.add_hint(&path, format!("{origin} is a target, not a source"), hint);
            continue;
        }
        let mut mirrors: Vec<Mirror> = Vec::new();
        for (index, text) in listed.iter().enumerate() {
            let path = path.index(index);
            let Some(mirror) = one(text, &origin, &path, findings) else { continue };
            if mirrors.contains(&mirror) {
                findings.add(&path, format!("`{text}` is a mirror already"));
                continue;
            }
            let mut names = sources.iter().map(|source| (source, mirror.repository(source)));
            if let Some((source, Err(error))) = names.find(|(_, name)| name.is_err()) {
                findings.add(&path, format!("it gives {source} an invalid name: {error}"));
            }
            mirrors.push(mirror);
        }
        all.insert(origin, mirrors);
    }
    all
}

fn one(text: &str, origin: &Registry, path: &KeyPath, findings: &mut Findings<'_>) -> Option<Mirror> {
    let form = "write host[:port][/prefix]; connection settings go under registries:";
    if text.contains("://") {
        findings.add_hint(path, format!("`{text}` has a scheme"), form);
        return None;
    }
    let TargetRoot { registry, prefix } = findings.ok(path, text.parse())?;
    if !registry.is_host() {
        findings.add_hint(path, format!("`{text}` isn't a registry"), form);
        return None;
    }
    if registry == *origin && prefix.is_empty() {
        findings.add_hint(path, format!("`{text}` is the registry itself"), "remove it: it is always tried last");
        return None;
    }
    Some(Mirror { registry, prefix })
}

impl Mirror {
    /// The repository at the mirror that has the content of `source`.
    ///
    /// # Errors
    /// If prefix and path don't form a repository name.
    pub fn repository(&self, source: &Repository) -> Result<Repository, crate::oci::ReferenceError> {
        Repository::below(&self.registry, &self.prefix, source.path())
    }
}
