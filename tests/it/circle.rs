//! The whole way over a tree of the most common kinds of file: find the images in use, list, lock and mirror them, and
//! point everything at the mirror.

use std::collections::BTreeMap;

use regex::Regex;

use crate::support::images::image;
use crate::support::kubectl::Program;
use crate::support::scene::Scene;

/// A tree; each reference is in its shortest form.
const TREE: &[(&str, &str)] = &[
    (
        "deploy/deployment.yaml",
        "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: web # the web\nspec:\n  selector: {matchLabels: {app: web}}\n  template:\n    metadata: {labels: {app: web}}\n    spec:\n      initContainers:\n        - {name: init, image: \"busybox:1.36\"}\n      containers:\n        - name: web\n          image: nginx:1.27   # keep me\n",
    ),
    (
        "deploy/many.yml",
        "apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {name: db}\nspec: {template: {spec: {containers: [{name: db, image: 'postgres:16'}]}}}\n---\napiVersion: v1\nkind: Service\nmetadata: {name: db}\n---\napiVersion: apps/v1\nkind: DaemonSet\nmetadata: {name: logs}\nspec:\n  template:\n    spec:\n      containers:\n      - image: quay.io/fluent/fluent-bit:3.1\n        name: logs\n",
    ),
    (
        "deploy/cron.yaml",
        "apiVersion: batch/v1\nkind: CronJob\nmetadata: {name: c}\nspec:\n  jobTemplate:\n    spec:\n      template:\n        spec:\n          containers:\n          - {name: c, image: alpine:3.20}\n",
    ),
    (
        "deploy/list.yaml",
        "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Pod\n  spec:\n    containers: [{name: a, image: redis:7}]\n    ephemeralContainers: [{name: d, image: busybox:1.36}]\n    volumes: [{name: v, image: {reference: quay.io/models/data:v1}}]\n",
    ),
    (
        "deploy/config.yaml",
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata:\n  pod.yaml: |\n    image: hidden:1\n",
    ),
    (
        "deploy/prometheus.yaml",
        "apiVersion: monitoring.coreos.com/v1\nkind: Prometheus\nmetadata: {name: p}\nspec:\n  image: quay.io/prometheus/prometheus:v2.55.1\n",
    ),
    (
        "deploy/pod.json",
        "{\n\t\"apiVersion\": \"v1\", \"kind\": \"Pod\",\n\t\"spec\": {\"containers\": [{\"name\": \"a\", \"image\": \"nginx:1.27\"}]}\n}\n",
    ),
    (
        "deploy/crlf.yaml",
        "\u{feff}apiVersion: v1\r\nkind: Pod\r\nspec:\r\n  containers:\r\n  - name: a\r\n    image: nginx:1.27\r\n",
    ),
    (
        "charts/web/values.yaml",
        "image:\n  repository: mysql\n  tag: \"8.4\"\nsidecar:\n  image:\n    repository: memcached # cache\n    tag: 1.6\n",
    ),
    (
        "charts/web/templates/pod.yaml",
        "apiVersion: v1\nkind: Pod\nmetadata: {name: {{ .Release.Name }}}\nspec:\n  containers:\n  - name: a\n    image: \"{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}\"\n  - name: b\n    image: \"{{ .Values.sidecar.image.repository }}:{{ .Values.sidecar.image.tag }}\"\n  - name: c\n    image: busybox:1.36\n",
    ),
    ("charts/web/Chart.yaml", "apiVersion: v2\nname: web\nversion: 0.1.0\nappVersion: \"8.4\"\n"),
    ("values-prod.yaml", "proxy:\n  image: {repository: traefik, tag: v3.1}\n"),
    (
        "kustomize/base/pod.yaml",
        "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec:\n  containers:\n  - {name: a, image: 'httpd:2.2'}\n  - {name: b, image: 'caddy:2'}\n  - {name: c, image: 'redis:7'}\n",
    ),
    ("kustomize/base/kustomization.yaml", "resources:\n- pod.yaml\n"),
    (
        "kustomize/prod/kustomization.yaml",
        "resources:\n- ../base\nimages:\n- name: httpd\n  newTag: \"2.4\"\n- name: caddy # renamed\n  newName: quay.io/x/caddy\n",
    ),
    ("compose.yaml", "services:\n  web:\n    image: \"nginx:${TAG:-1.27}\"\n  db: {image: '${DB:-postgres:16}'}\n"),
    (
        "legacy/docker-compose.override.yml",
        "x-app: &app\n  image: redis:7\nservices:\n  a: *app\n  b: {<<: *app, command: x}\n",
    ),
    (
        "Dockerfile",
        "# syntax=docker/dockerfile:1.7\nARG GO=1.23\nFROM --platform=$BUILDPLATFORM golang:${GO} AS build\nRUN --mount=type=bind,from=busybox:1.36,target=/b <<EOF\nFROM not:1\nEOF\nFROM alpine:3.20\nCOPY --from=build /a /a\nCOPY --from=nginx:1.27 /etc/nginx /etc/nginx\n",
    ),
    ("worker/Containerfile", "FROM python:3.12-slim \\\n  AS base\nFROM base\n"),
    (
        ".github/workflows/ci.yml",
        "on: push\njobs:\n  test:\n    runs-on: ubuntu-latest\n    container: node:20\n    services: {db: {image: postgres:16}}\n    steps:\n      - uses: docker://alpine:3.20\n      - uses: actions/checkout@v4\n",
    ),
    ("action/action.yml", "name: a\nruns:\n  using: docker\n  image: docker://busybox:1.36\n"),
    (
        ".gitlab-ci.yml",
        "image: ruby:3.3\nservices:\n  - postgres:16\n  - {name: 'redis:7', alias: r}\ntest:\n  image: {name: 'golang:1.23', entrypoint: ['']}\n  script: [x]\n",
    ),
    (".devcontainer/devcontainer.json", "// ours\n{\n  \"image\": \"quay.io/devcontainers/base:1\", /* x */\n}\n"),
    (".circleci/config.yml", "version: 2.1\njobs:\n  a:\n    docker:\n      - image: cimg/go:1.23\n"),
    ("patch.yaml", "- op: replace\n  path: /spec/containers/0/image\n  value: nginx:1.27\n"),
    ("images.txt", "# in use\nnginx:1.27\nredis:7\n"),
];

const PATHS: &str = ". images.txt";

#[tokio::test]
async fn from_the_files_to_the_mirror_and_back() {
    let (Some(helm), Some(kubectl)) = (Program::helm(), Program::kubectl()) else { return };
    let mut scene = Scene::new().await;
    scene.cli = scene.cli.env("PATH", helm.on_path());
    let registries = "registries:\n  docker.io: {endpoint: 'http://SRC'}\n  quay.io: {endpoint: 'http://SRC'}\n";
    scene.write("mirror.yaml", &format!("# ours\ntarget: DST/mirror\nimages: []\n{registries}"));
    TREE.iter().for_each(|(name, text)| scene.cli.write(name, text));
    let built = |line: &str| kubectl.run(&scene.cli.path(""), line);
    let rendered = |line: &str| helm.run(&scene.cli.path(""), line);
    let before = (built("kustomize kustomize/prod"), rendered("template x charts/web"));

    // Find them, and add them to the list.
    let found = scene.cli.run(&format!("discover {PATHS} --write --json")).await;
    assert_eq!(found.code, 0, "{found}");
    let found = found.json();
    let sources = texts(&found["images"], "source");
    assert_eq!(sources.len(), 21, "{sources:?}");
    assert_eq!(texts(&found["unresolved"], "text"), ["hidden:1", "caddy:2"]);

    // Mirror them.
    for source in &sources {
        let (repository, tag) = source.rsplit_once(':').expect("a tag");
        let (_, path) = repository.split_once('/').expect("a registry");
        image(source).build().push(&scene.source.inside(path), tag).await;
    }
    let sync = scene.cli.run("sync").await;
    assert_eq!(sync.code, 0, "{sync}");

    // Point everything at the mirror.
    let rewrite = scene.cli.run(&format!("rewrite {PATHS} --pin --write")).await;
    assert_eq!(rewrite.code, 0, "{rewrite}");
    let again = scene.cli.run(&format!("rewrite {PATHS} --pin --check")).await;
    assert_eq!((again.code, again.stdout.as_str()), (0, ""), "{again}");

    // Nothing upstream is left, and all of it can be pulled from the mirror.
    let left = scene.cli.run(&format!("discover {PATHS} --check --json")).await;
    assert_eq!(left.code, 0, "{left}");
    let left = left.json();
    for image in left["images"].as_array().expect("images") {
        assert_eq!(image["mirrored"], true, "{image}");
        let reference: transship::oci::Reference =
            image["source"].as_str().expect("a text").parse().expect("a reference");
        let inside = scene.target.inside(reference.repository().path());
        use transship::store::Source as _;
        inside.resolve(&reference.selector()).await.unwrap_or_else(|error| panic!("{reference}: {error}"));
        if let Some(tag) = reference.tag() {
            inside.resolve(&tag.clone().into()).await.unwrap_or_else(|error| panic!("{reference}: {error}"));
        }
    }

    // The same is built and rendered, at the mirror; and in each file only the references have changed.
    let target = scene.target.name().to_string();
    let upstream = |text: &str| upstream(text, &target);
    assert_eq!(canonical(&upstream(&built("kustomize kustomize/prod"))), canonical(&before.0));
    assert_eq!(canonical(&upstream(&rendered("template x charts/web"))), canonical(&before.1));
    for (name, old) in TREE {
        let new = scene.cli.read(name).expect("a file");
        let new = upstream(&new);
        match *name {
            // An image that is replaced by another stays, and so does the entry's name.
            "kustomize/prod/kustomization.yaml" => {
                let added = old.replace("- name: httpd\n", "- name: httpd\n  newName: httpd\n");
                assert_eq!(new, added, "{name}");
            }
            _ => assert_eq!(new, *old, "{name}"),
        }
    }
}

/// `text` as it was before it was rewritten.
fn upstream(text: &str, target: &str) -> String {
    let digest = Regex::new("@sha256:[0-9a-f]{64}").expect("a constant pattern");
    let text = digest.replace_all(text, "");
    let prefixes = ["docker.io/library/", "docker.io/", ""].map(|prefix| format!("{target}/mirror/{prefix}"));
    prefixes.iter().fold(text.into_owned(), |text, prefix| text.replace(prefix.as_str(), ""))
}

/// The images of containers, and the other ones.
fn canonical(manifests: &str) -> (BTreeMap<String, usize>, Vec<String>) {
    let (images, rest): (Vec<&str>, Vec<&str>) = manifests.lines().partition(|line| line.contains("image: "));
    let mut counted = BTreeMap::new();
    for image in images {
        let image = image.trim().trim_start_matches("- ").trim_start_matches("image: ").trim_matches('"');
        *counted.entry(image.to_owned()).or_insert(0) += 1;
    }
    (counted, rest.into_iter().map(str::to_owned).collect())
}

fn texts(rows: &serde_json::Value, key: &str) -> Vec<String> {
    let rows = rows.as_array().expect("a list");
    rows.iter().map(|row| row[key].as_str().expect("a text").to_owned()).collect()
}
