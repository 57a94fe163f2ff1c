//! Kustomize: a component with an `images:` transformer, pinned by digest.
//!
//! Kustomize takes `name` as a pattern that is followed by an optional tag and digest. An entry for a repository would
//! give all its tags the same digest. So each entry has the tag in its name, and each spelling has an entry.

use std::collections::BTreeSet;

use serde::Serialize;

use super::text::{about, yaml};
use super::{Export, Image, Input, Kind, Needs, Refusal};
use crate::oci::{Repository, Service};

pub(super) const KIND: Kind = Kind {
    name: "kustomize",
    about: "a component that sets images, pinned by digest",
    flags: &[],
    needs: Needs::Images,
    write,
};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Component {
    api_version: &'static str,
    kind: &'static str,
    images: Vec<Entry>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    name: String,
    new_name: String,
    digest: String,
}

#[expect(clippy::unnecessary_wraps, reason = "the shape of all kinds")]
fn write(input: &Input<'_>) -> Result<Export, Refusal> {
    let named: Vec<(String, &Image<'_>)> =
        input.images.iter().flat_map(|image| names(image).into_iter().map(move |name| (name, image))).collect();
    let all: BTreeSet<&str> = named.iter().map(|(name, _)| name.as_str()).collect();
    let entry = |(name, image): &(String, &Image<'_>)| Entry {
        name: pattern(name, &all),
        new_name: image.to().to_string(),
        digest: image.mirrored.target_digest.to_string(),
    };
    let component = Component {
        api_version: "kustomize.config.k8s.io/v1alpha1",
        kind: "Component",
        images: named.iter().map(entry).collect(),
    };
    let about = about(
        "kustomize",
        &[
            "Covers: the tags below in all resources that kustomize knows, short names included.",
            "Limits: a tag that is written with another digest gets the mirrored one, too.",
            "Install: transship export kustomize -o transship, then add `components: [transship]` to kustomization.yaml",
        ],
    );
    Ok(Export::commented("kustomization.yaml", &about, &yaml(&component)))
}

/// Every spelling of an image. A name without a tag means `latest`; the `$` keeps it from matching other tags.
fn names(image: &Image<'_>) -> Vec<String> {
    let mut tags: Vec<&str> = Vec::new();
    for tag in [image.source().tag(), image.place.reference.tag()].into_iter().flatten() {
        if !tags.contains(&tag.as_str()) {
            tags.push(tag.as_str());
        }
    }
    let digest = image.source().digest();
    let named = |name: String| {
        let tagged = tags.iter().map(|tag| format!("{name}:{tag}")).collect::<Vec<_>>();
        let bare = tags.contains(&"latest").then(|| format!("{name}$"));
        let digested = digest.map(|digest| format!("{name}@{digest}"));
        tagged.into_iter().chain(bare).chain(digested)
    };
    spellings(image.from()).into_iter().flat_map(named).collect()
}

fn spellings(repository: &Repository) -> Vec<String> {
    if Service::of(repository.registry()) != Service::DockerHub {
        return vec![repository.to_string()];
    }
    let path = repository.path();
    let paths = path.strip_prefix("library/").into_iter().chain([path]);
    let paths: Vec<&str> = paths.collect();
    let with_registry = paths.iter().map(|path| format!("{}/{path}", repository.registry()));
    paths.iter().map(ToString::to_string).chain(with_registry).collect()
}

/// `name` as a pattern for kustomize. It is escaped only if it contains brackets or would also match another name.
fn pattern(name: &str, all: &BTreeSet<&str>) -> String {
    let (text, end) = name.strip_suffix('$').map_or((name, ""), |text| (text, "$"));
    let could_match = |other: &&&str| {
        let other = other.strip_suffix('$').unwrap_or(other);
        other != text && other.len() == text.len() && other.chars().zip(text.chars()).all(|(o, t)| t == '.' || o == t)
    };
    if !text.contains('[') && !all.iter().any(|other| could_match(&other)) {
        return name.to_owned();
    }
    let escape =
        |pattern: String, c: char| if ".[]".contains(c) { format!("{pattern}\\{c}") } else { pattern + &c.to_string() };
    text.chars().fold(String::new(), escape) + end
}

#[cfg(test)]
mod tests {
    use super::super::tests::text;

    #[test]
    fn snapshot() {
        let list = "target: h.example/m\nimages: ['nginx:1.27', 'nginx:1-27', 'grafana/grafana', 'quay.io/a/b:v1']\n";
        insta::assert_snapshot!(text(super::KIND.name, list), @r"
        == kustomization.yaml
        # Written by `transship export kustomize`. Run it again when mirror.yaml or mirror.lock changes.
        # Covers: the tags below in all resources that kustomize knows, short names included.
        # Limits: a tag that is written with another digest gets the mirrored one, too.
        # Install: transship export kustomize -o transship, then add `components: [transship]` to kustomization.yaml
        apiVersion: kustomize.config.k8s.io/v1alpha1
        kind: Component
        images:
        - name: grafana/grafana:latest
          newName: h.example/m/docker.io/grafana/grafana
          digest: sha256:f266c6660e6356188323fdd51296728f4f800c137238d87c1398ad032baa7144
        - name: grafana/grafana$
          newName: h.example/m/docker.io/grafana/grafana
          digest: sha256:f266c6660e6356188323fdd51296728f4f800c137238d87c1398ad032baa7144
        - name: docker.io/grafana/grafana:latest
          newName: h.example/m/docker.io/grafana/grafana
          digest: sha256:f266c6660e6356188323fdd51296728f4f800c137238d87c1398ad032baa7144
        - name: docker.io/grafana/grafana$
          newName: h.example/m/docker.io/grafana/grafana
          digest: sha256:f266c6660e6356188323fdd51296728f4f800c137238d87c1398ad032baa7144
        - name: nginx:1-27
          newName: h.example/m/docker.io/library/nginx
          digest: sha256:a962b424c624ead393668d9590c85121d3eb1975b85846ea30174fa1013a46e7
        - name: library/nginx:1-27
          newName: h.example/m/docker.io/library/nginx
          digest: sha256:a962b424c624ead393668d9590c85121d3eb1975b85846ea30174fa1013a46e7
        - name: docker.io/nginx:1-27
          newName: h.example/m/docker.io/library/nginx
          digest: sha256:a962b424c624ead393668d9590c85121d3eb1975b85846ea30174fa1013a46e7
        - name: docker.io/library/nginx:1-27
          newName: h.example/m/docker.io/library/nginx
          digest: sha256:a962b424c624ead393668d9590c85121d3eb1975b85846ea30174fa1013a46e7
        - name: nginx:1\.27
          newName: h.example/m/docker.io/library/nginx
          digest: sha256:6965a10c15290ad0b29ca7fd1866de1850408b3cb15fb11a3bbbbc2fddb158bd
        - name: library/nginx:1\.27
          newName: h.example/m/docker.io/library/nginx
          digest: sha256:6965a10c15290ad0b29ca7fd1866de1850408b3cb15fb11a3bbbbc2fddb158bd
        - name: docker\.io/nginx:1\.27
          newName: h.example/m/docker.io/library/nginx
          digest: sha256:6965a10c15290ad0b29ca7fd1866de1850408b3cb15fb11a3bbbbc2fddb158bd
        - name: docker\.io/library/nginx:1\.27
          newName: h.example/m/docker.io/library/nginx
          digest: sha256:6965a10c15290ad0b29ca7fd1866de1850408b3cb15fb11a3bbbbc2fddb158bd
        - name: quay.io/a/b:v1
          newName: h.example/m/quay.io/a/b
          digest: sha256:2f4a4f7f54f080faf5b47202392d25be50739e59ae63b428ba485dad2fbef940
        ");
    }
}
