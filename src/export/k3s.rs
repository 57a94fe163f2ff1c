//! k3s and RKE2: `registries.yaml`, whose `rewrite` can express other names.
//!
//! Rewrites are a map that is read in random order, so no two patterns may match the same name: there is one anchored
//! pattern for each repository.

use std::collections::BTreeMap;

use serde::Serialize;

use super::image::{self, Image, one_to_one};
use super::text::{about, re2, yaml};
use super::{Export, Input, Kind, Needs, Refusal};

pub(super) const KIND: Kind =
    Kind { name: "k3s", about: "registries.yaml of k3s and RKE2", flags: &[], needs: Needs::Images, write };

#[derive(Serialize)]
struct Registries {
    mirrors: BTreeMap<String, Mirror>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    configs: BTreeMap<String, Host>,
}

#[derive(Serialize)]
struct Mirror {
    endpoint: [String; 1],
    rewrite: BTreeMap<String, String>,
}

#[derive(Serialize)]
struct Host {
    tls: Tls,
}

#[derive(Serialize)]
struct Tls {
    insecure_skip_verify: bool,
}

fn write(input: &Input<'_>) -> Result<Export, Refusal> {
    input.images.iter().try_for_each(Image::check_pull_by_own_name)?;
    let mut mirrors: BTreeMap<String, Mirror> = BTreeMap::new();
    for (from, to) in one_to_one(input.images, "k3s")? {
        let mirror = mirrors
            .entry(from.registry().to_string())
            .or_insert_with(|| Mirror { endpoint: [input.target.url()], rewrite: BTreeMap::new() });
        mirror.rewrite.insert(format!("^{}$", re2(from.path())), to.path().to_owned());
    }
    let target = input.target.registry;
    let insecure = input.target.insecure && !input.target.plain_http;
    let host = insecure.then(|| (target.to_string(), Host { tls: Tls { insecure_skip_verify: true } }));
    let about = about(
        "k3s",
        &[
            &format!("Covers: the repositories below. What {target} lacks still comes from upstream."),
            &format!(
                "Limits: other repositories of these registries are tried at {target} first, under their own names."
            ),
            &format!("It contains no credentials. If {target} requires some, add them under configs."),
            &image::parts(input.images),
            "Install: transship export k3s -o /etc/rancher/k3s (for RKE2: /etc/rancher/rke2), on each node; then restart k3s",
        ],
    );
    Ok(Export::commented(
        "registries.yaml",
        &about,
        &yaml(&Registries { mirrors, configs: host.into_iter().collect() }),
    ))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{LIST, refusal, text};

    #[test]
    fn snapshot() {
        insta::assert_snapshot!(text(super::KIND.name, LIST), @"
        == registries.yaml
        # Written by `transship export k3s`. Run it again when mirror.yaml or mirror.lock changes.
        # Covers: the repositories below. What h.example lacks still comes from upstream.
        # Limits: other repositories of these registries are tried at h.example first, under their own names.
        # It contains no credentials. If h.example requires some, add them under configs.
        # Only some platforms are mirrored of 1 image, under another digest: a pull by the source's digest goes upstream.
        # Install: transship export k3s -o /etc/rancher/k3s (for RKE2: /etc/rancher/rke2), on each node; then restart k3s
        mirrors:
          docker.io:
            endpoint:
            - https://h.example
            rewrite:
              ^grafana/grafana$: m/docker.io/grafana/grafana
              ^library/nginx$: m/docker.io/library/nginx
          localhost:5000:
            endpoint:
            - https://h.example
            rewrite:
              ^team/app$: m/localhost-5000/team/app
          quay.io:
            endpoint:
            - https://h.example
            rewrite:
              ^prometheus/prometheus$: m/quay.io/prometheus/prometheus
        ");
    }

    #[test]
    fn each_repository_matches_only_its_own_rewrite_pattern() {
        let list = "target: h.example\nlayout: 'all/{name}'\nimages: ['a/b.c:1', 'a/bxc:1', {image: 'quay.io/x/y:1', to: z}]\n";
        let text = text(super::KIND.name, list);
        let yaml = text.split_once('\n').unwrap().1;
        let registries: serde_json::Value = serde_yaml::from_str(yaml).unwrap();
        for (registry, path, expected) in
            [("docker.io", "a/b.c", "all/b.c"), ("docker.io", "a/bxc", "all/bxc"), ("quay.io", "x/y", "z")]
        {
            let rewrites = registries["mirrors"][registry]["rewrite"].as_object().unwrap();
            let rewritten = rewrites.iter().filter_map(|(pattern, to)| {
                let pattern = regex::Regex::new(pattern).unwrap();
                pattern.is_match(path).then(|| pattern.replace_all(path, to.as_str().unwrap()).into_owned())
            });
            assert_eq!(rewritten.collect::<Vec<_>>(), [expected], "{path}");
        }
    }

    #[test]
    fn a_repository_split_or_merged_at_the_target_is_refused() {
        let list = "target: h.example\nimages: ['nginx:1', {image: 'nginx:2', to: other}]\n";
        insta::assert_snapshot!(refusal(super::KIND.name, list), @"
        docker.io/library/nginx:2 is h.example/other:2 at the target, apart from others of its repository, and k3s can only map whole repositories
        hint: give each repository a different to:; registries-conf, kyverno and kustomize can express it
        ");
        let list = "target: h.example\nimages: [{image: 'nginx:1', to: one}, {image: 'redis:2', to: one}]\n";
        insta::assert_snapshot!(refusal(super::KIND.name, list), @"
        docker.io/library/nginx:1 is h.example/one:1 at the target, with images of other repositories, and k3s can only map whole repositories
        hint: give each repository a different to:; kyverno and kustomize can express it
        ");
    }
}
