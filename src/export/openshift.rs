//! OpenShift: an `ImageDigestMirrorSet` and an `ImageTagMirrorSet` (config.openshift.io/v1), one for each way to pull.

use serde::Serialize;

use super::image::{self, Image, one_to_one};
use super::text::{about, yaml};
use super::{Export, Input, Kind, NAME, Needs, Refusal};

pub(super) const KIND: Kind = Kind {
    name: "openshift",
    about: "ImageDigestMirrorSet and ImageTagMirrorSet",
    flags: &[],
    needs: Needs::Images,
    write,
};

const POLICY: &str = "AllowContactingSource";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct MirrorSet {
    api_version: &'static str,
    kind: &'static str,
    metadata: Metadata,
    spec: Spec,
}

#[derive(Serialize)]
struct Metadata {
    name: &'static str,
}

#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    image_digest_mirrors: Vec<Mirror>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    image_tag_mirrors: Vec<Mirror>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Mirror {
    source: String,
    mirrors: [String; 1],
    mirror_source_policy: &'static str,
}

fn write(input: &Input<'_>) -> Result<Export, Refusal> {
    input.images.iter().try_for_each(Image::check_pull_by_own_name)?;
    let pairs = one_to_one(input.images, "OpenShift")?;
    let mirrors = || {
        let mirror = |(from, to): &(_, _)| Mirror {
            source: ToString::to_string(from),
            mirrors: [ToString::to_string(to)],
            mirror_source_policy: POLICY,
        };
        pairs.iter().map(mirror).collect()
    };
    let set = |kind, spec| {
        yaml(&MirrorSet { api_version: "config.openshift.io/v1", kind, metadata: Metadata { name: NAME }, spec })
    };
    let documents = [
        set("ImageDigestMirrorSet", Spec { image_digest_mirrors: mirrors(), ..Spec::default() }),
        set("ImageTagMirrorSet", Spec { image_tag_mirrors: mirrors(), ..Spec::default() }),
    ];
    let target = input.target.registry;
    let about = about(
        "openshift",
        &[
            &format!(
                "Covers: the repositories below, by digest and by tag. What {target} lacks still comes from upstream."
            ),
            "Limits: applying it restarts nodes one after another. It contains no credentials: those of the target belong into the \
             global pull secret.",
            "It verifies no signatures: ClusterImagePolicy needs keys, and mirror.yaml contains none.",
            &image::parts(input.images),
            "Install: transship export openshift | oc apply -f -",
        ],
    );
    Ok(Export::commented("openshift.yaml", &about, &documents.join("---\n")))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{LIST, refusal, text};

    #[test]
    fn snapshot() {
        insta::assert_snapshot!(text(super::KIND.name, LIST), @"
        == openshift.yaml
        # Written by `transship export openshift`. Run it again when mirror.yaml or mirror.lock changes.
        # Covers: the repositories below, by digest and by tag. What h.example lacks still comes from upstream.
        # Limits: applying it restarts nodes one after another. It contains no credentials: those of the target belong into the global pull secret.
        # It verifies no signatures: ClusterImagePolicy needs keys, and mirror.yaml contains none.
        # Only some platforms are mirrored of 1 image, under another digest: a pull by the source's digest goes upstream.
        # Install: transship export openshift | oc apply -f -
        apiVersion: config.openshift.io/v1
        kind: ImageDigestMirrorSet
        metadata:
          name: transship
        spec:
          imageDigestMirrors:
          - source: docker.io/grafana/grafana
            mirrors:
            - h.example/m/docker.io/grafana/grafana
            mirrorSourcePolicy: AllowContactingSource
          - source: docker.io/library/nginx
            mirrors:
            - h.example/m/docker.io/library/nginx
            mirrorSourcePolicy: AllowContactingSource
          - source: localhost:5000/team/app
            mirrors:
            - h.example/m/localhost-5000/team/app
            mirrorSourcePolicy: AllowContactingSource
          - source: quay.io/prometheus/prometheus
            mirrors:
            - h.example/m/quay.io/prometheus/prometheus
            mirrorSourcePolicy: AllowContactingSource
        ---
        apiVersion: config.openshift.io/v1
        kind: ImageTagMirrorSet
        metadata:
          name: transship
        spec:
          imageTagMirrors:
          - source: docker.io/grafana/grafana
            mirrors:
            - h.example/m/docker.io/grafana/grafana
            mirrorSourcePolicy: AllowContactingSource
          - source: docker.io/library/nginx
            mirrors:
            - h.example/m/docker.io/library/nginx
            mirrorSourcePolicy: AllowContactingSource
          - source: localhost:5000/team/app
            mirrors:
            - h.example/m/localhost-5000/team/app
            mirrorSourcePolicy: AllowContactingSource
          - source: quay.io/prometheus/prometheus
            mirrors:
            - h.example/m/quay.io/prometheus/prometheus
            mirrorSourcePolicy: AllowContactingSource
        ");
    }

    /// The schema of both kinds, from OpenShift's API reference.
    #[test]
    fn the_schema_is_that_of_the_api() {
        let mirrors = serde_json::json!({"type": "array", "minItems": 1, "items": {
            "type": "object", "additionalProperties": false, "required": ["source"],
            "properties": {
                "source": {"type": "string", "pattern": "^[a-z0-9.-]+(:[0-9]+)?(/[a-z0-9._/-]+)?$"},
                "mirrors": {"type": "array", "items": {"type": "string", "pattern": "^[a-z0-9.-]+(:[0-9]+)?(/[a-z0-9._/-]+)?$"}},
                "mirrorSourcePolicy": {"enum": ["NeverContactSource", "AllowContactingSource"]},
            },
        }});
        let text = text(super::KIND.name, LIST);
        let documents = text.split_once('\n').unwrap().1.split("---\n").map(|text| serde_yaml::from_str(text).unwrap());
        let documents: Vec<serde_json::Value> = documents.collect();
        assert_eq!(documents.len(), 2);
        for (document, kind, key) in [
            (&documents[0], "ImageDigestMirrorSet", "imageDigestMirrors"),
            (&documents[1], "ImageTagMirrorSet", "imageTagMirrors"),
        ] {
            let schema = serde_json::json!({
                "type": "object", "additionalProperties": false, "required": ["apiVersion", "kind", "metadata", "spec"],
                "properties": {
                    "apiVersion": {"const": "config.openshift.io/v1"}, "kind": {"const": kind},
                    "metadata": {"type": "object", "required": ["name"]},
                    "spec": {"type": "object", "additionalProperties": false, "required": [key], "properties": {key: mirrors}},
                },
            });
            jsonschema::validate(&schema, document).unwrap();
        }
    }

    #[test]
    fn a_repository_split_or_merged_at_the_target_is_refused() {
        let why = refusal(super::KIND.name, "target: h.example\nimages: ['nginx:1', {image: 'nginx:2', to: other}]\n");
        assert!(why.starts_with("docker.io/library/nginx:2 "), "{why}");
    }
}
