//! harbor-container-webhook (github.com/indeedeng/harbor-container-webhook, 0.8): rules, as values of its Helm chart or
//! as its own file.
//!
//! The webhook matches the normalised reference, whose tag is dropped if there is a digest. It searches without anchors
//! and replaces only the domain. The first rule whose result exists wins.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::text::{about, re2, yaml};
use super::{Export, Flag, Image, Input, Kind, Needs, Refusal, image};
use crate::oci::Registry;

pub(super) const KIND: Kind = Kind {
    name: "webhook",
    about: "rules of harbor-container-webhook, as Helm values",
    flags: &[Flag::Plain],
    needs: Needs::Images,
    write,
};

#[derive(Serialize)]
struct Values {
    rules: Vec<Rule>,
}

/// The webhook's own file; the other settings are the defaults of its chart.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Controller {
    port: u16,
    cert_dir: &'static str,
    health_addr: &'static str,
    metrics_addr: &'static str,
    rules: Vec<Rule>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    name: String,
    matches: [String; 1],
    replace: String,
    check_upstream: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    platforms: Vec<String>,
}

/// Images that one rule covers.
struct Group<'a> {
    paths: BTreeSet<&'a str>,
    /// The platforms that all of them have; `None` = every platform.
    platforms: Option<BTreeSet<String>>,
}

fn write(input: &Input<'_>) -> Result<Export, Refusal> {
    let mut groups: BTreeMap<(&Registry, &str), Vec<Group<'_>>> = BTreeMap::new();
    for image in input.images {
        let base = image.kept_below("the webhook")?;
        image.check_pull_by_own_name()?;
        add(groups.entry((image.from().registry(), base)).or_default(), image);
    }
    let mut rules: Vec<Rule> = Vec::new();
    for ((registry, base), groups) in groups {
        for group in groups {
            let same = rules
                .iter()
                .filter(|rule| rule.matches[0].starts_with(&format!("^{}/", re2(registry.as_str()))))
                .count();
            let name = if same == 0 { registry.to_string() } else { format!("{registry} {}", same + 1) };
            rules.push(group.rule(name, registry, &replacement(input, base)));
        }
    }
    let target = input.target.registry;
    let (file, install) = match input.options.plain {
        true => (
            "config.yaml",
            "Install: transship export webhook --plain -o ., then start the webhook with --config config.yaml",
        ),
        false => {
            let install = "Install: transship export webhook -o ., then `helm upgrade --install --reuse-values -f values.yaml` the chart";
            ("values.yaml", install)
        }
    };
    let about = about(
        "webhook",
        &[
            &format!("Covers: containers and init containers of new pods. What {target} lacks is left as it is."),
            "Limits: neither ephemeral containers nor image volumes.",
            &format!(
                "If {target} requires credentials, put authSecretName: into each rule (`transship export pull-secret`)."
            ),
            &image::parts(input.images),
            install,
        ],
    );
    let text = match input.options.plain {
        true => yaml(&Controller {
            port: 9443,
            cert_dir: "/etc/hcw/certs",
            health_addr: ":8090",
            metrics_addr: ":8080",
            rules,
        }),
        false => yaml(&Values { rules }),
    };
    Ok(Export::commented(file, &about, &text))
}

/// Adds `image` to the first group that shares a platform with it: a rule checks each of its platforms.
fn add<'a>(groups: &mut Vec<Group<'a>>, image: &Image<'a>) {
    let own: BTreeSet<String> =
        image.mirrored.platforms.iter().map(|platform| format!("{}/{}", platform.os, platform.architecture)).collect();
    let own = Some(own).filter(|own| !own.is_empty());
    let common = |group: &Group<'_>| match (&group.platforms, &own) {
        (Some(one), Some(other)) => Some(one & other),
        (one, other) => one.clone().or_else(|| other.clone()),
    };
    let path = image.from().path();
    let fitting = groups.iter_mut().find(|group| common(group).is_none_or(|common| !common.is_empty()));
    match fitting {
        Some(group) => {
            group.platforms = common(group);
            group.paths.insert(path);
        }
        None => groups.push(Group { paths: BTreeSet::from([path]), platforms: own }),
    }
}

fn replacement(input: &Input<'_>, base: &str) -> String {
    let slash = if base.is_empty() { "" } else { "/" };
    format!("{}{slash}{base}", input.target.registry)
}

impl Group<'_> {
    fn rule(self, name: String, registry: &Registry, replace: &str) -> Rule {
        let paths: Vec<String> = self.paths.into_iter().map(re2).collect();
        Rule {
            name,
            matches: [format!("^{}/({})[:@]", re2(registry.as_str()), paths.join("|"))],
            replace: replace.to_owned(),
            check_upstream: true,
            platforms: self.platforms.unwrap_or_default().into_iter().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use regex::Regex;
    use serde_json::Value;

    use super::super::Options;
    use super::super::tests::{LIST, export, refusal, text};
    use crate::oci::Reference;

    #[test]
    fn snapshot() {
        insta::assert_snapshot!(text(super::KIND.name, LIST), @r"
        == values.yaml
        # Written by `transship export webhook`. Run it again when mirror.yaml or mirror.lock changes.
        # Covers: containers and init containers of new pods. What h.example lacks is left as it is.
        # Limits: neither ephemeral containers nor image volumes.
        # If h.example requires credentials, put authSecretName: into each rule (`transship export pull-secret`).
        # Only some platforms are mirrored of 1 image, under another digest: a pull by the source's digest goes upstream.
        # Install: transship export webhook -o ., then `helm upgrade --install --reuse-values -f values.yaml` the chart
        rules:
        - name: docker.io
          matches:
          - ^docker\.io/(grafana/grafana|library/nginx)[:@]
          replace: h.example/m/docker.io
          checkUpstream: true
        - name: localhost:5000
          matches:
          - ^localhost:5000/(team/app)[:@]
          replace: h.example/m/localhost-5000
          checkUpstream: true
        - name: quay.io
          matches:
          - ^quay\.io/(prometheus/prometheus)[:@]
          replace: h.example/m/quay.io
          checkUpstream: true
          platforms:
          - linux/amd64
          - linux/arm64
        ");
        let plain = export(super::KIND.name, LIST, &Options { plain: true, ..Options::default() }).unwrap();
        assert_eq!(plain.files[0].name, "config.yaml");
        let plain: Value = serde_yaml::from_str(&plain.files[0].text).unwrap();
        let helm: Value = serde_yaml::from_str(text(super::KIND.name, LIST).split_once('\n').unwrap().1).unwrap();
        assert_eq!((&plain["rules"], &plain["certDir"]), (&helm["rules"], &"/etc/hcw/certs".into()));
    }

    #[test]
    fn an_image_whose_name_changes_is_reported() {
        insta::assert_snapshot!(refusal(super::KIND.name, "target: h\nimages: [{image: 'nginx:1', to: x}]\n"), @"
        docker.io/library/nginx:1 is h/x:1 at the target, and the webhook keeps the path of what it pulls
        hint: remove to: for it, or end layout: with {repository}; registries-conf, kyverno and kustomize can express it
        ");
    }

    #[test]
    fn a_rule_requires_only_platforms_that_all_its_images_have() {
        let list = "target: h.example\nimages:\n  - {image: 'a/a:1', platforms: [linux/amd64, linux/arm64]}\n  \
                    - {image: 'a/b:1', platforms: [linux/arm64/v8, windows(10.0.17763)/amd64]}\n  \
                    - {image: 'a/c:1', platforms: [linux/s390x]}\n  - a/d:1\n";
        let values: Value = serde_yaml::from_str(text(super::KIND.name, list).split_once('\n').unwrap().1).unwrap();
        let rules = values["rules"].as_array().unwrap().iter();
        let rules: Vec<String> =
            rules.map(|r| format!("{} {} {}", r["name"], r["matches"][0], r["platforms"])).collect();
        insta::assert_snapshot!(rules.join("\n"), @r#"
        "docker.io" "^docker\\.io/(a/a|a/b|a/d)[:@]" ["linux/arm64"]
        "docker.io 2" "^docker\\.io/(a/c)[:@]" ["linux/s390x"]
        "#);
    }

    /// The webhook's result for a reference, if the target has it.
    fn rewritten(rules: &Value, written: &str) -> Option<String> {
        let reference: Reference = written.parse().unwrap();
        let repository = reference.repository();
        // With a digest, the tag is dropped.
        let normal = match (reference.digest(), reference.tag()) {
            (Some(digest), _) => format!("{repository}@{digest}"),
            (None, tag) => format!("{repository}:{}", tag.unwrap()),
        };
        let matches = |rule: &&Value| {
            let patterns = rule["matches"].as_array().unwrap().iter();
            patterns
                .map(|pattern| Regex::new(pattern.as_str().unwrap()).unwrap())
                .any(|pattern| pattern.is_match(&normal))
        };
        let rule = rules.as_array().unwrap().iter().find(matches)?;
        let rest = normal.strip_prefix(repository.registry().as_str()).unwrap();
        Some(format!("{}{rest}", rule["replace"].as_str().unwrap()))
    }

    #[test]
    fn every_spelling_of_a_mirrored_image_leads_to_the_mirror_and_other_images_never_do() {
        let values: Value = serde_yaml::from_str(text(super::KIND.name, LIST).split_once('\n').unwrap().1).unwrap();
        let digest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        for (written, expected) in [
            ("nginx", "docker.io/library/nginx:latest"),
            ("nginx:1.27", "docker.io/library/nginx:1.27"),
            ("docker.io/nginx:1.27", "docker.io/library/nginx:1.27"),
            ("index.docker.io/library/nginx:1.27", "docker.io/library/nginx:1.27"),
            ("grafana/grafana:11.2.0", "docker.io/grafana/grafana:11.2.0"),
            ("quay.io/prometheus/prometheus:v2.55.1", "quay.io/prometheus/prometheus:v2.55.1"),
            ("localhost:5000/team/app:1", "localhost-5000/team/app:1"),
        ] {
            assert_eq!(rewritten(&values["rules"], written), Some(format!("h.example/m/{expected}")), "{written}");
            let pinned = format!("{written}@{digest}");
            let bare = expected.rsplit_once(':').unwrap().0;
            assert_eq!(rewritten(&values["rules"], &pinned), Some(format!("h.example/m/{bare}@{digest}")), "{pinned}");
        }
        for other in [
            "nginx-extra:1",
            "bitnami/nginx:1",
            "quay.io/library/nginx:1",
            "h.io/docker.io/library/nginx:1",
            "dockerxio/library/nginx:1",
            "nginx/nginx:1",
        ] {
            assert_eq!(rewritten(&values["rules"], other), None, "{other}");
        }
    }
}
