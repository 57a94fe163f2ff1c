//! Converts the raw values to valid ones. Each check adds its problems and continues, so that all are reported
//! together.

use super::findings::Findings;
use super::raw::RawConfig;
use super::{
    Config, Env, Handling, Layout, Mirror, Overrides, TargetRoot, handling, harbor, images, limits, mirrors,
    proxy_caches, registries,
};
use crate::oci::Registry;
use crate::yaml::KeyPath;
use std::collections::BTreeSet;

/// How much of a file is required.
#[derive(Debug, Clone, Copy)]
pub(super) enum Scope<'a> {
    /// Everything: the run mirrors it.
    Mirror(&'a Overrides),
    /// Only registries and limits, for these hosts; targets and images may be missing.
    Settings(&'a [Registry]),
}

/// The whole configuration. It is valid only if `findings` is empty.
pub(super) fn config(raw: &RawConfig, scope: Scope<'_>, env: &Env<'_>, findings: &mut Findings<'_>) -> Config {
    let root = KeyPath::default();
    if let Some(version) = raw.version.as_deref().filter(|version| *version != "1") {
        let message = format!("version `{version}` isn't supported: this transship reads version 1");
        findings.add_hint(&root.key("version"), message, "write version: 1, or update transship");
    }
    let targets = targets(raw, scope, findings);
    let layout_path = root.key("layout");
    let layout = raw.layout.as_deref().and_then(|text| findings.ok(&layout_path, text.parse()));
    let layout: Layout = layout.unwrap_or_default();
    let written = raw.defaults.as_ref().map(handling::Written::from).unwrap_or_default();
    let defaults = handling::merged(&Handling::default(), written, &root.key("defaults"), findings);
    let needs_images = matches!(scope, Scope::Mirror(detour) if !detour.list_is_optional);
    if raw.images.as_ref().is_none_or(Vec::is_empty) && needs_images {
        let path = root.key("images");
        findings.add_hint(&path, "images: is missing or empty", "list at least one image");
    }
    let places = images::Places { targets: &targets, layout: &layout, harbors: harbor::hosts(raw.registries.as_ref()) };
    let images = images::rules(raw.images.as_deref().unwrap_or_default(), &places, &defaults, findings);
    let mirrors = mirrors::all(raw.registries.as_ref(), &images, &targets, findings);
    let mut used: BTreeSet<Registry> = match scope {
        Scope::Settings(hosts) => hosts.iter().cloned().collect(),
        Scope::Mirror(Overrides { asks_nobody: true, .. }) => BTreeSet::new(),
        Scope::Mirror(Overrides { only_hosts: Some(hosts), .. }) => hosts.clone(),
        Scope::Mirror(detour) => {
            let asks_sources = detour.from.is_none() && !detour.targets_only;
            let sources = images.iter().map(|rule| rule.repository.registry()).filter(|_| asks_sources);
            sources.chain(targets.iter().map(|target| &target.registry)).cloned().collect()
        }
    };
    // Sources may be read from a mirror instead.
    let read: Vec<&Mirror> = mirrors.iter().filter(|(origin, _)| used.contains(origin)).flat_map(|(_, m)| m).collect();
    used.extend(read.into_iter().map(|mirror| mirror.registry.clone()));
    let proxy_caches = proxy_caches::all(raw.registries.as_ref(), &images, findings);
    // Provisioning connects to their hosts, whether or not they are targets.
    if matches!(scope, Scope::Mirror(Overrides { provisions: true, .. })) {
        used.extend(proxy_caches.keys().cloned());
    }
    let mut registries = registries::settings(raw.registries.as_ref(), mirrors, &used, env, findings);
    for (host, caches) in proxy_caches {
        if let Some(harbor) = registries.get_mut(&host).and_then(|settings| settings.harbor.as_mut()) {
            harbor.proxy_caches = caches;
        }
    }
    let limits = limits::limits(raw.limits.as_ref(), findings);
    Config { targets, layout, images, registries, limits, used, lacking: None }
}

fn targets(raw: &RawConfig, scope: Scope<'_>, findings: &mut Findings<'_>) -> Vec<TargetRoot> {
    if let Scope::Mirror(Overrides { target: Some(target), .. }) = scope {
        return vec![target.clone()];
    }
    let root = KeyPath::default();
    let list = root.key("targets");
    let written: Vec<(KeyPath, &str)> = match (&raw.target, &raw.targets) {
        (Some(_), Some(_)) => {
            findings.add_hint(&list, "`target` and `targets` are mutually exclusive", "put all of them under targets:");
            return Vec::new();
        }
        (Some(target), None) => vec![(root.key("target"), target)],
        (None, Some(targets)) => targets.iter().enumerate().map(|(i, text)| (list.index(i), text.as_str())).collect(),
        (None, None) => Vec::new(),
    };
    if written.is_empty() && matches!(scope, Scope::Mirror(_)) {
        let message = "there is no target";
        findings.add_hint(&list, message, "add one: target: registry.example.com/mirror");
    }
    let mut targets: Vec<TargetRoot> = Vec::new();
    for (path, text) in written {
        if text.contains("://") {
            let hint = "write host[:port][/prefix]; plain HTTP is set under registries:";
            findings.add_hint(&path, format!("`{text}` has a scheme"), hint);
        } else if let Some(target) = findings.ok(&path, text.parse::<TargetRoot>()) {
            let target = target.seen_from(findings.folder());
            if targets.contains(&target) {
                findings.add(&path, format!("`{target}` is a target already"));
            } else {
                targets.push(target);
            }
        }
    }
    targets
}
