//! containerd: a `hosts.toml` for each upstream (docs/hosts.md of containerd).

use std::collections::{BTreeMap, BTreeSet};

use super::text::{about, comment};
use super::{Export, File, Flag, Image, Input, Kind, Needs, Options, Refusal, image};
use crate::oci::Registry;

pub(super) const KIND: Kind = Kind {
    name: "containerd",
    about: "hosts.toml for each upstream: containerd, MicroK8s, RKE2",
    flags: &[Flag::Microk8s, Flag::Rke2],
    needs: Needs::Images,
    write,
};

/// The mirrored images of an upstream, and the paths below which they are.
#[derive(Default)]
struct Upstream<'a> {
    paths: BTreeSet<&'a str>,
    images: Vec<Image<'a>>,
}

fn write(input: &Input<'_>) -> Result<Export, Refusal> {
    let mut upstreams: BTreeMap<&Registry, Upstream<'_>> = BTreeMap::new();
    for image in input.images {
        let path = image.kept_below("containerd")?;
        image.check_pull_by_own_name()?;
        let upstream = upstreams.entry(image.from().registry()).or_default();
        upstream.paths.insert(path);
        upstream.images.push(*image);
    }
    let file = |(registry, upstream): (&&Registry, &Upstream<'_>)| {
        let collisions = collisions(registry, upstream, &upstreams);
        let about = about_upstream(input, registry, upstream, &collisions);
        let hosts: String = upstream.paths.iter().map(|path| host(input, path)).collect();
        File { name: format!("{}/hosts.toml", folder(registry)), text: comment(&about) + &hosts, is_secret: false }
    };
    Ok(Export { files: upstreams.iter().map(file).collect(), aside: None })
}

/// A repository of another upstream that would be mistaken for one of `registry`, because both are below the same path.
fn collisions(registry: &Registry, upstream: &Upstream<'_>, all: &BTreeMap<&Registry, Upstream<'_>>) -> String {
    let others = all.iter().filter(|(other, theirs)| **other != registry && !theirs.paths.is_disjoint(&upstream.paths));
    let collision = others.flat_map(|(_, theirs)| &theirs.images).map(Image::from).next();
    collision.map_or(String::new(), |collision| {
        let path = collision.path();
        format!("Warning: a pull of {registry}/{path} gets {collision}: both have the same path at the target. Put {{registry}} into layout:.")
    })
}

fn about_upstream(input: &Input<'_>, registry: &Registry, upstream: &Upstream<'_>, collisions: &str) -> String {
    let Place { folder, flag, setting } = place(input.options);
    let target = input.target.registry;
    about(
        "containerd",
        &[
            &format!(
                "Covers: everything that this node pulls from {registry}. What {target} lacks still comes from {registry}."
            ),
            &format!(
                "Limits: it contains no credentials. If {target} requires some, the node needs them (`transship export kubelet-config`)."
            ),
            &image::parts(&upstream.images),
            collisions,
            &format!("Install: transship export containerd{flag} -o {folder}"),
            setting,
        ],
    )
}

/// Where a node stores its files.
struct Place {
    folder: &'static str,
    flag: &'static str,
    setting: &'static str,
}

fn place(options: &Options) -> Place {
    match options {
        Options { microk8s: true, .. } => Place {
            folder: "/var/snap/microk8s/current/args/certs.d",
            flag: " --microk8s",
            setting: "This replaces the file for docker.io that MicroK8s installs. Then run: snap restart microk8s",
        },
        Options { rke2: true, .. } => Place {
            folder: "/var/lib/rancher/rke2/agent/etc/containerd/certs.d",
            flag: " --rke2",
            setting: "RKE2 rewrites this folder when it starts. For a permanent setting, use `transship export k3s`.",
        },
        _ => Place {
            folder: "/etc/containerd/certs.d",
            flag: "",
            setting: "Set config_path of the CRI plugin's registry section to that folder in config.toml. No restart is needed after later changes.",
        },
    }
}

/// containerd appends `/v2` to a URL that doesn't end in it, unless `override_path` is set.
fn host(input: &Input<'_>, path: &str) -> String {
    let slash = if path.is_empty() { "" } else { "/" };
    let skip = if input.target.insecure { "  skip_verify = true\n" } else { "" };
    format!(
        "\n[host.\"{}/v2{slash}{path}\"]\n  capabilities = [\"pull\", \"resolve\"]\n  override_path = true\n{skip}",
        input.target.url()
    )
}

/// The folder of an upstream: `localhost_5000_` for `localhost:5000`.
fn folder(registry: &Registry) -> String {
    match registry.as_str().rsplit_once(':') {
        Some((host, port)) => format!("{host}_{port}_").replace(':', ""),
        None => registry.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{LIST, text};

    #[test]
    fn snapshot() {
        insta::assert_snapshot!(text(super::KIND.name, LIST), @r#"
        == docker.io/hosts.toml
        # Written by `transship export containerd`. Run it again when mirror.yaml or mirror.lock changes.
        # Covers: everything that this node pulls from docker.io. What h.example lacks still comes from docker.io.
        # Limits: it contains no credentials. If h.example requires some, the node needs them (`transship export kubelet-config`).
        # Install: transship export containerd -o /etc/containerd/certs.d
        # Set config_path of the CRI plugin's registry section to that folder in config.toml. No restart is needed after later changes.

        [host."https://h.example/v2/m/docker.io"]
          capabilities = ["pull", "resolve"]
          override_path = true
        == localhost_5000_/hosts.toml
        # Written by `transship export containerd`. Run it again when mirror.yaml or mirror.lock changes.
        # Covers: everything that this node pulls from localhost:5000. What h.example lacks still comes from localhost:5000.
        # Limits: it contains no credentials. If h.example requires some, the node needs them (`transship export kubelet-config`).
        # Install: transship export containerd -o /etc/containerd/certs.d
        # Set config_path of the CRI plugin's registry section to that folder in config.toml. No restart is needed after later changes.

        [host."https://h.example/v2/m/localhost-5000"]
          capabilities = ["pull", "resolve"]
          override_path = true
        == quay.io/hosts.toml
        # Written by `transship export containerd`. Run it again when mirror.yaml or mirror.lock changes.
        # Covers: everything that this node pulls from quay.io. What h.example lacks still comes from quay.io.
        # Limits: it contains no credentials. If h.example requires some, the node needs them (`transship export kubelet-config`).
        # Only some platforms are mirrored of 1 image, under another digest: a pull by the source's digest goes upstream.
        # Install: transship export containerd -o /etc/containerd/certs.d
        # Set config_path of the CRI plugin's registry section to that folder in config.toml. No restart is needed after later changes.

        [host."https://h.example/v2/m/quay.io"]
          capabilities = ["pull", "resolve"]
          override_path = true
        "#);
    }
}
