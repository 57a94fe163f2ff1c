//! Kyverno: a `ClusterPolicy` that rewrites the images of pods.
//!
//! Kyverno doesn't check whether the target has an image, so each pattern names the mirrored tags and digests, and all
//! spellings of a repository. Patterns contain no backslash, which YAML, JMESPath and RE2 would each interpret
//! differently.

use std::collections::BTreeMap;

use serde::Serialize;

use super::text::{about, yaml};
use super::{Export, Image, Input, Kind, NAME, Needs, Refusal};
use crate::oci::{Repository, Service};

pub(super) const KIND: Kind = Kind {
    name: "kyverno",
    about: "a ClusterPolicy of Kyverno that rewrites pods",
    flags: &[],
    needs: Needs::Images,
    write,
};

const LISTS: [&str; 3] = ["containers", "initContainers", "ephemeralContainers"];

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Policy {
    api_version: &'static str,
    kind: &'static str,
    metadata: Metadata,
    spec: Spec,
}

#[derive(Serialize)]
struct Metadata {
    name: &'static str,
}

#[derive(Serialize)]
struct Spec {
    background: bool,
    rules: Vec<Rule>,
}

#[derive(Serialize)]
struct Rule {
    name: String,
    r#match: Match,
    preconditions: All,
    mutate: Mutate,
}

#[derive(Serialize)]
struct Match {
    any: [Resources; 1],
}

#[derive(Serialize)]
struct Resources {
    resources: Pods,
}

#[derive(Serialize)]
struct Pods {
    kinds: [&'static str; 1],
    operations: [&'static str; 2],
}

#[derive(Serialize)]
struct All {
    all: [Condition; 1],
}

#[derive(Serialize)]
struct Condition {
    key: String,
    operator: &'static str,
    value: serde_json::Value,
}

#[derive(Serialize)]
struct Mutate {
    foreach: Vec<ForEach>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ForEach {
    list: String,
    preconditions: All,
    patch_strategic_merge: Patch,
}

#[derive(Serialize)]
struct Patch {
    spec: BTreeMap<&'static str, [Container; 1]>,
}

#[derive(Serialize)]
struct Container {
    name: &'static str,
    image: String,
}

/// The spellings of a repository's images, and their place.
struct Replacement {
    pattern: String,
    to: String,
}

#[expect(clippy::unnecessary_wraps, reason = "the shape of all kinds")]
fn write(input: &Input<'_>) -> Result<Export, Refusal> {
    let mut moves: BTreeMap<(&Repository, &Repository), Vec<Image<'_>>> = BTreeMap::new();
    for image in input.images {
        moves.entry((image.from(), image.to())).or_default().push(*image);
    }
    let replacement = |((from, to), images): (&(&Repository, &Repository), &Vec<Image<'_>>)| Replacement {
        pattern: format!("^{}({})$", spellings(from), versions(images)),
        to: format!("{to}$1"),
    };
    let replacements: Vec<Replacement> = moves.iter().map(replacement).collect();
    let spec = Spec { background: false, rules: LISTS.map(|list| rule(list, &replacements)).into() };
    let policy =
        Policy { api_version: "kyverno.io/v1", kind: "ClusterPolicy", metadata: Metadata { name: NAME }, spec };
    let about = about(
        "kyverno",
        &[
            "Covers: containers, init containers and ephemeral containers of pods, by the tags and digests that are mirrored.",
            "Limits: running pods, image volumes and images that aren't mirrored don't change.",
            "It contains no credentials: pods need those of the target (`transship export pull-secret`).",
            "Install: transship export kyverno | kubectl apply -f -",
        ],
    );
    Ok(Export::commented("kyverno.yaml", &about, &yaml(&policy)))
}

fn rule(list: &'static str, replacements: &[Replacement]) -> Rule {
    let condition = |key: String, operator, value| All { all: [Condition { key, operator, value }] };
    let foreach = replacements.iter().map(|Replacement { pattern, to }| ForEach {
        list: format!("request.object.spec.{list}"),
        preconditions: condition(format!("{{{{ regex_match('{pattern}', element.image) }}}}"), "Equals", true.into()),
        patch_strategic_merge: Patch {
            spec: BTreeMap::from([(
                list,
                [Container {
                    name: "{{ element.name }}",
                    image: format!("{{{{ regex_replace_all('{pattern}', element.image, '{to}') }}}}"),
                }],
            )]),
        },
    });
    let pods = Pods { kinds: ["Pod"], operations: ["CREATE", "UPDATE"] };
    Rule {
        name: list.to_owned(),
        r#match: Match { any: [Resources { resources: pods }] },
        // A missing list can't be iterated.
        preconditions: condition(
            format!("{{{{ length(request.object.spec.{list} || `[]`) }}}}"),
            "GreaterThan",
            0.into(),
        ),
        mutate: Mutate { foreach: foreach.collect() },
    }
}

/// Every spelling of a repository; `docker.io` and `library/` are optional.
fn spellings(repository: &Repository) -> String {
    let registry = match Service::of(repository.registry()) {
        Service::DockerHub => "(?:(?:index[.])?docker[.]io/)?".to_owned(),
        _ => format!("{}/", literal(repository.registry().as_str())),
    };
    match repository.path().strip_prefix("library/") {
        Some(name) if registry.ends_with('?') => format!("{registry}(?:library/)?{}", literal(name)),
        _ => format!("{registry}{}", literal(repository.path())),
    }
}

/// What may follow the repository: a mirrored tag, or a digest that the target serves, with any tag.
fn versions(images: &[Image<'_>]) -> String {
    let tags = images.iter().flat_map(|image| [image.source().tag(), image.place.reference.tag()]).flatten();
    let mut tags: Vec<&str> = tags.map(crate::oci::Tag::as_str).collect();
    tags.sort_unstable();
    tags.dedup();
    let digests: Vec<&str> = images.iter().map(|image| image.mirrored.target_digest.as_str()).collect();
    let mut versions = vec![format!("(?::[^@]+)?@(?:{})", digests.join("|"))];
    if !tags.is_empty() {
        let tags: Vec<String> = tags.iter().map(|tag| literal(tag)).collect();
        versions.insert(0, format!(":(?:{})", tags.join("|")));
    }
    if tags.contains(&"latest") {
        versions.push(String::new());
    }
    versions.join("|")
}

/// A pattern that matches only `text`.
fn literal(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-/:".contains(c);
    text.chars().fold(String::new(), |all, c| if is_plain(c) { all + &c.to_string() } else { format!("{all}[{c}]") })
}

#[cfg(test)]
mod tests {
    use regex::Regex;
    use serde_json::Value;

    use super::super::tests::{LIST, text};

    fn policy(list: &str) -> Value {
        serde_yaml::from_str(text(super::KIND.name, list).split_once('\n').unwrap().1).unwrap()
    }

    #[test]
    fn snapshot() {
        insta::assert_snapshot!(text(super::KIND.name, "target: h.example/m\nimages: ['nginx:latest']\n"), @"
        == kyverno.yaml
        # Written by `transship export kyverno`. Run it again when mirror.yaml or mirror.lock changes.
        # Covers: containers, init containers and ephemeral containers of pods, by the tags and digests that are mirrored.
        # Limits: running pods, image volumes and images that aren't mirrored don't change.
        # It contains no credentials: pods need those of the target (`transship export pull-secret`).
        # Install: transship export kyverno | kubectl apply -f -
        apiVersion: kyverno.io/v1
        kind: ClusterPolicy
        metadata:
          name: transship
        spec:
          background: false
          rules:
          - name: containers
            match:
              any:
              - resources:
                  kinds:
                  - Pod
                  operations:
                  - CREATE
                  - UPDATE
            preconditions:
              all:
              - key: '{{ length(request.object.spec.containers || `[]`) }}'
                operator: GreaterThan
                value: 0
            mutate:
              foreach:
              - list: request.object.spec.containers
                preconditions:
                  all:
                  - key: '{{ regex_match(''^(?:(?:index[.])?docker[.]io/)?(?:library/)?nginx(:(?:latest)|(?::[^@]+)?@(?:sha256:86cee2c10898a48ff47a0626f8202a2408b5893aff5df58ae10d83166e6d7b0e)|)$'', element.image) }}'
                    operator: Equals
                    value: true
                patchStrategicMerge:
                  spec:
                    containers:
                    - name: '{{ element.name }}'
                      image: '{{ regex_replace_all(''^(?:(?:index[.])?docker[.]io/)?(?:library/)?nginx(:(?:latest)|(?::[^@]+)?@(?:sha256:86cee2c10898a48ff47a0626f8202a2408b5893aff5df58ae10d83166e6d7b0e)|)$'', element.image, ''h.example/m/docker.io/library/nginx$1'') }}'
          - name: initContainers
            match:
              any:
              - resources:
                  kinds:
                  - Pod
                  operations:
                  - CREATE
                  - UPDATE
            preconditions:
              all:
              - key: '{{ length(request.object.spec.initContainers || `[]`) }}'
                operator: GreaterThan
                value: 0
            mutate:
              foreach:
              - list: request.object.spec.initContainers
                preconditions:
                  all:
                  - key: '{{ regex_match(''^(?:(?:index[.])?docker[.]io/)?(?:library/)?nginx(:(?:latest)|(?::[^@]+)?@(?:sha256:86cee2c10898a48ff47a0626f8202a2408b5893aff5df58ae10d83166e6d7b0e)|)$'', element.image) }}'
                    operator: Equals
                    value: true
                patchStrategicMerge:
                  spec:
                    initContainers:
                    - name: '{{ element.name }}'
                      image: '{{ regex_replace_all(''^(?:(?:index[.])?docker[.]io/)?(?:library/)?nginx(:(?:latest)|(?::[^@]+)?@(?:sha256:86cee2c10898a48ff47a0626f8202a2408b5893aff5df58ae10d83166e6d7b0e)|)$'', element.image, ''h.example/m/docker.io/library/nginx$1'') }}'
          - name: ephemeralContainers
            match:
              any:
              - resources:
                  kinds:
                  - Pod
                  operations:
                  - CREATE
                  - UPDATE
            preconditions:
              all:
              - key: '{{ length(request.object.spec.ephemeralContainers || `[]`) }}'
                operator: GreaterThan
                value: 0
            mutate:
              foreach:
              - list: request.object.spec.ephemeralContainers
                preconditions:
                  all:
                  - key: '{{ regex_match(''^(?:(?:index[.])?docker[.]io/)?(?:library/)?nginx(:(?:latest)|(?::[^@]+)?@(?:sha256:86cee2c10898a48ff47a0626f8202a2408b5893aff5df58ae10d83166e6d7b0e)|)$'', element.image) }}'
                    operator: Equals
                    value: true
                patchStrategicMerge:
                  spec:
                    ephemeralContainers:
                    - name: '{{ element.name }}'
                      image: '{{ regex_replace_all(''^(?:(?:index[.])?docker[.]io/)?(?:library/)?nginx(:(?:latest)|(?::[^@]+)?@(?:sha256:86cee2c10898a48ff47a0626f8202a2408b5893aff5df58ae10d83166e6d7b0e)|)$'', element.image, ''h.example/m/docker.io/library/nginx$1'') }}'
        ");
    }

    /// The arguments of a function in an expression: quoted texts, and the image.
    fn arguments<'a>(expression: &'a str, function: &str) -> Vec<&'a str> {
        let inner = expression.strip_prefix("{{ ").unwrap().strip_suffix(") }}").unwrap();
        let arguments = inner.strip_prefix(function).unwrap().strip_prefix('(').unwrap();
        arguments.split(", ").map(|argument| argument.trim_matches('\'')).collect()
    }

    /// The image after the rule for `list`: each entry whose precondition holds replaces it.
    fn rewritten(policy: &Value, list: &str, image: &str) -> Vec<String> {
        let rules = policy["spec"]["rules"].as_array().unwrap();
        let rule = rules.iter().find(|rule| rule["name"] == list).unwrap();
        let entries = rule["mutate"]["foreach"].as_array().unwrap().iter();
        let entries = entries.filter(|entry| {
            assert_eq!(entry["list"], format!("request.object.spec.{list}"));
            let key = arguments(entry["preconditions"]["all"][0]["key"].as_str().unwrap(), "regex_match");
            assert_eq!(key[1], "element.image");
            Regex::new(key[0]).unwrap().is_match(image)
        });
        let replaced = entries.map(|entry| {
            let new = entry["patchStrategicMerge"]["spec"][list][0]["image"].as_str().unwrap();
            let new = arguments(new, "regex_replace_all");
            Regex::new(new[0]).unwrap().replace_all(image, new[2]).into_owned()
        });
        replaced.collect()
    }

    #[test]
    fn every_spelling_of_a_mirrored_image_is_rewritten_once_and_other_images_never() {
        let policy = policy(LIST);
        for list in super::LISTS {
            for (written, expected) in [
                ("nginx", "docker.io/library/nginx"),
                ("library/nginx", "docker.io/library/nginx"),
                ("docker.io/nginx:latest", "docker.io/library/nginx:latest"),
                ("index.docker.io/library/nginx:1.27", "docker.io/library/nginx:1.27"),
                ("grafana/grafana:11.2.0", "docker.io/grafana/grafana:11.2.0"),
                ("quay.io/prometheus/prometheus:v2.55.1", "quay.io/prometheus/prometheus:v2.55.1"),
                ("localhost:5000/team/app:1", "localhost-5000/team/app:1"),
            ] {
                assert_eq!(rewritten(&policy, list, written), [format!("h.example/m/{expected}")], "{written}");
            }
            let digest = crate::oci::Digest::of(b"docker.io/library/nginx:1.27");
            for written in [format!("nginx@{digest}"), format!("docker.io/library/nginx:any@{digest}")] {
                assert_eq!(rewritten(&policy, list, &written).len(), 1, "{written}");
            }
            let other = crate::oci::Digest::of(b"quay.io/prometheus/prometheus:v2.55.1");
            let part = format!("quay.io/prometheus/prometheus@{other}");
            for written in [
                "nginx:1.28",
                "nginx:1x27",
                "bitnami/nginx:1.27",
                "quay.io/nginx:1.27",
                "grafana/grafana",
                "h.example/m/docker.io/library/nginx:1.27",
                &part,
            ] {
                assert_eq!(rewritten(&policy, list, written), Vec::<String>::new(), "{written}");
            }
        }
    }
}
