//! dockerd: `daemon.json`, for Docker Hub only.
//!
//! moby inserts a mirror's path before `/v2`, and versions before 24.0.8 and 25.0 reject any path. So no prefix inside
//! the registry is reachable.

use serde::Serialize;

use super::image::{self, Image};
use super::text::about;
use super::{Export, File, Input, Kind, Needs, Refusal};
use crate::oci::{Registry, Service};

pub(super) const KIND: Kind =
    Kind { name: "docker", about: "daemon.json of dockerd: Docker Hub only", flags: &[], needs: Needs::Images, write };

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Daemon<'a> {
    registry_mirrors: [String; 1],
    #[serde(skip_serializing_if = "Option::is_none")]
    insecure_registries: Option<[&'a str; 1]>,
}

fn write(input: &Input<'_>) -> Result<Export, Refusal> {
    let is_of_hub = |image: &&Image<'_>| Service::of(image.from().registry()) == Service::DockerHub;
    let images: Vec<Image<'_>> = input.images.iter().filter(is_of_hub).copied().collect();
    if images.is_empty() {
        let why = "none of the images is from Docker Hub, and dockerd uses mirrors only for Docker Hub";
        return Err(Refusal::new(
            why,
            "use `transship export containerd`, or podman with `transship export registries-conf`",
        ));
    }
    for image in &images {
        if !image.kept_below("dockerd")?.is_empty() {
            let why = format!(
                "{} is {} at the target, and dockerd looks for {} there",
                image.source(),
                image.place.reference,
                image.from().path()
            );
            let hint = "write target: without a prefix and layout: \"{repository}\", or use another kind (`transship export --list`)";
            return Err(Refusal::new(why, hint));
        }
        image.check_pull_by_own_name()?;
    }
    let registry = input.target.registry;
    let is_insecure = input.target.insecure || input.target.plain_http;
    let daemon = Daemon {
        registry_mirrors: [input.target.url()],
        insecure_registries: is_insecure.then(|| [registry.as_str()]),
    };
    let others = input.images.len() - images.len();
    let left = format!("Docker Hub only: {others} of the images come from other registries, and are pulled there.");
    let text = serde_json::to_string_pretty(&daemon).unwrap_or_default() + "\n";
    let about = about(
        "docker",
        &[
            &format!(
                "Covers: what dockerd pulls from {}. What {registry} lacks still comes from there.",
                Registry::DOCKER_HUB
            ),
            &format!("Limits: {left}"),
            "dockerd sends no credentials to a mirror.",
            &image::parts(&images),
            "Install: merge it into /etc/docker/daemon.json, then run: systemctl reload docker",
        ],
    );
    Ok(Export { files: vec![File { name: "daemon.json".to_owned(), text, is_secret: false }], aside: Some(about) })
}

#[cfg(test)]
mod tests {
    use super::super::tests::{LIST, refusal, text};

    #[test]
    fn snapshot() {
        let list = "target: h.example\nlayout: '{repository}'\nimages: ['nginx:1', 'quay.io/a/b:1']\nregistries: {h.example: {plain_http: true}}\n";
        insta::assert_snapshot!(text(super::KIND.name, list), @r#"
        == aside
        Written by `transship export docker`. Run it again when mirror.yaml or mirror.lock changes.
        Covers: what dockerd pulls from docker.io. What h.example lacks still comes from there.
        Limits: Docker Hub only: 1 of the images come from other registries, and are pulled there.
        dockerd sends no credentials to a mirror.
        Install: merge it into /etc/docker/daemon.json, then run: systemctl reload docker
        == daemon.json
        {
          "registry-mirrors": [
            "http://h.example"
          ],
          "insecure-registries": [
            "h.example"
          ]
        }
        "#);
    }

    #[test]
    fn a_prefix_is_refused() {
        insta::assert_snapshot!(refusal(super::KIND.name, LIST), @r#"
        docker.io/grafana/grafana:11.2.0 is h.example/m/docker.io/grafana/grafana:11.2.0 at the target, and dockerd looks for grafana/grafana there
        hint: write target: without a prefix and layout: "{repository}", or use another kind (`transship export --list`)
        "#);
        let none = refusal(super::KIND.name, "target: h.example\nimages: ['quay.io/a/b:1']\n");
        assert!(none.starts_with("none of the images is from Docker Hub"), "{none}");
    }
}
