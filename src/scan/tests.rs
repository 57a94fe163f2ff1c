use std::path::PathBuf;

use super::*;

const D: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn read(name: &str, text: &str) -> File {
    read_with(name, text, &[])
}

fn read_with(name: &str, text: &str, fields: &[&str]) -> File {
    let fields = fields.iter().map(|field| field.parse().unwrap()).collect();
    let mut file = File::new(PathBuf::from(name), name.to_owned(), text.to_owned(), fields);
    read_file(&mut file, true).unwrap_or_else(|why| panic!("{name}: {why}"));
    file.found.sort_by_key(|found| (found.line, found.column));
    file
}

/// Each reference with its position, then the unresolved ones.
fn shown(file: &File) -> String {
    let found = file.found.iter().map(|found| {
        // The offsets are those of the text.
        if let Form::Text { pieces, .. } = &found.form {
            for piece in pieces {
                let bytes = &file.text[piece.span.clone()];
                assert!(bytes == piece.value || bytes.contains('\\'), "{}: {bytes}", file.name);
            }
        }
        format!("{} {}:{} {}", found.reference, found.line, found.column, found.kind.as_str())
    });
    let unresolved = file.unresolved.iter().map(|one| format!("? {} {}: {}", one.text, one.line, one.why));
    found.chain(unresolved).collect::<Vec<_>>().join("\n")
}

#[test]
fn kubernetes_objects_of_every_kind() {
    let text = "\
apiVersion: v1
kind: List
items:
- apiVersion: batch/v1
  kind: CronJob
  metadata: {annotations: {image: 'said:1'}}
  spec:
    jobTemplate:
      spec:
        template:
          spec:
            initContainers: [{name: a, image: \"quay.io/a/init:1\"}]
            containers:
            - name: b
              image: 'busybox'
            ephemeralContainers:
            - {name: c, image: debug:2}
            volumes:
            - name: v
              image: {reference: ghcr.io/a/data:3}
  status: {image: 'reported:1'}
- kind: ConfigMap
  apiVersion: v1
  data:
    pod.yaml: |
      image: nested:1
    image: maybe:1
    other: text
---
apiVersion: monitoring.coreos.com/v1
kind: Prometheus
spec:
  image: quay.io/prometheus/prometheus:v2
  sidecar: {registry: quay.io, repository: x/y, tag: v1}
  deep: [{proxyImage: {repository: envoyproxy/envoy, tag: v1.30, digest: ''}}]
  template: '{{ x }}'
  job: {image: '{{ .Values.image }}'}
  env: {image: '${IMAGE}'}
---
kind: CustomResourceDefinition
apiVersion: apiextensions.k8s.io/v1
spec: {image: 'schema:1'}
";
    assert_eq!(
        shown(&read("x.yaml", text)),
        "\
quay.io/a/init:1 12:48 kubernetes
docker.io/library/busybox:latest 15:23 kubernetes
docker.io/library/debug:2 17:32 kubernetes
ghcr.io/a/data:3 20:34 kubernetes
quay.io/prometheus/prometheus:v2 33:10 kubernetes
quay.io/x/y:v1 34:44 kubernetes
docker.io/envoyproxy/envoy:v1.30 35:36 kubernetes
? nested:1 26: it is in a text inside the file
? maybe:1 27: a ConfigMap may use it for anything
? {{ .Values.image }} 37: it is a template
? ${IMAGE} 38: the variable IMAGE has no default"
    );
}

#[test]
fn yaml_is_read_as_yaml() {
    let document = |image: &str| {
        format!("\u{feff}apiVersion: v1\r\nkind: Pod\r\nspec:\r\n  # image: comment:1\r\n  é: ü\r\n  {image}\r\n")
    };
    for (image, expected) in [
        ("image: nginx:1 # x", "docker.io/library/nginx:1 6:10 kubernetes"),
        ("image: \"nginx:1\"", "docker.io/library/nginx:1 6:11 kubernetes"),
        ("\"image\": 'nginx:1'", "docker.io/library/nginx:1 6:13 kubernetes"),
        ("a: &x nginx:1\r\n  image: *x\r\n  b: {image: *x}", "docker.io/library/nginx:1 6:9 kubernetes"),
        ("image: &x !!str nginx:1\r\n  b: {image: *x}", "docker.io/library/nginx:1 6:19 kubernetes"),
        ("image: >-\r\n    nginx:1", "docker.io/library/nginx:1 7:5 kubernetes"),
        ("image: \"ngin\\x78:1\"", "docker.io/library/nginx:1 6:11 kubernetes"),
        ("image: \"quay.io\\/a:1\"", "quay.io/a:1 6:11 kubernetes"),
        ("image: \"n\\x67inx:${T:-1}\"", "? nginx:${T:-1} 6: it is written with escapes or over several lines"),
        ("image: localhost/built:1", "? localhost/built:1 6: it is a local image"),
        ("image: localhost:5000/built:1", "localhost:5000/built:1 6:10 kubernetes"),
        ("image: ''", ""),
        ("image:", ""),
        ("a: &a {image: nginx:1}\r\n  b: {<<: *a, c: 1}", "docker.io/library/nginx:1 6:17 kubernetes"),
        (
            "image: Not A Reference",
            "? Not A Reference 6: `Not A Reference` isn't a repository name: expected lower-case letters, digits and single . _ - between them, divided by /",
        ),
    ] {
        let file = read("x.yaml", &document(image));
        assert_eq!(shown(&file), expected, "{image}");
    }
    for text in ["a: [", "a:\n\t- b", "\"", "a: b: c", "*x"] {
        let mut file = File::new("x.yaml".into(), "x.yaml".into(), text.into(), vec![]);
        assert!(read_file(&mut file, false).unwrap_err().contains("it isn't valid YAML"), "{text}");
    }
    let template = read("t.yaml", "{{ if x }}\na: {{ b }}\n  - image: {{ c }}\n{{ end }}\n");
    assert_eq!(shown(&template), "? {{ c }} 3: the file is a template");
    // Nested aliases can't multiply the work.
    let bomb: String = (1..40).map(|n| format!("a{n}: &a{n} [*a{0}, *a{0}]\n", n - 1)).collect();
    assert_eq!(
        shown(&read("b.yaml", &format!("a0: &a0 {{image: nginx:1}}\n{bomb}"))),
        "docker.io/library/nginx:1 1:17 yaml"
    );
    let deep = "[".repeat(100_000);
    assert!(parse(&deep).is_err());
}

#[test]
fn files_of_unknown_kind_need_an_unambiguous_reference() {
    let text = "image: nginx:1.27\npicture: {image: hero.png}\njobs: [{docker: [{image: cimg/node:20.1}]}]\nx: {image: '${X}'}\n";
    let expected = "docker.io/library/nginx:1.27 1:8 yaml\ndocker.io/cimg/node:20.1 3:26 yaml\n? ${X} 4: the variable X has no default";
    assert_eq!(shown(&read("x.yml", text)), expected);
    let patch = "- op: replace\n  path: /spec/template/spec/containers/0/image\n  value: nginx:1\n";
    assert_eq!(shown(&read("patch.yaml", patch)), "docker.io/library/nginx:1 3:10 yaml");
}

#[test]
fn fields_may_be_named() {
    let text = "apiVersion: v1\nkind: X\nspec:\n  jobs:\n  - runner: {i: a:1}\n  - runner: {i: b:2}\n  any: {x: {pic: c:3}, y: {pic: d:4}}\n  list: [e:5]\n  split: {repository: f, tag: '6'}\n";
    let fields = ["spec.jobs[].runner.i", ".spec.any.*.pic", "spec.list[]", "spec.split", "not.there"];
    let expected = "docker.io/library/a:1 5:17 kubernetes\ndocker.io/library/b:2 6:17 kubernetes\ndocker.io/library/c:3 7:18 kubernetes\ndocker.io/library/d:4 7:33 kubernetes\ndocker.io/library/e:5 8:10 kubernetes\ndocker.io/library/f:6 9:23 kubernetes";
    assert_eq!(shown(&read_with("x.yaml", text, &fields)), expected);
    for wrong in ["", "a..b", "a[0].b", "a]", "."] {
        assert!(wrong.parse::<FieldPath>().is_err(), "{wrong}");
    }
}

#[test]
fn a_dockerfile_inside_a_compose_file_is_reported() {
    let inline = "        ARG V=3.20\n        FROM --platform=linux/amd64 golang:1.23 AS b\n        from b\n        \
        FROM alpine:${V}\n        COPY --from=busybox:1 /bin/sh /\n        FROM $UNKNOWN\n";
    let block = format!("services:\n  a:\n    build:\n      dockerfile_inline: |\n{inline}");
    insta::assert_snapshot!(shown(&read("compose.yaml", &block)), @"
    ? golang:1.23 6: it is in an inline Dockerfile: move that to a separate file
    ? alpine:3.20 8: it is in an inline Dockerfile: move that to a separate file
    ? busybox:1 9: it is in an inline Dockerfile: move that to a separate file
    ? $UNKNOWN 10: the variable UNKNOWN has no default
    ");
    let quoted = "services:\n  a:\n    build: {dockerfile_inline: \"FROM golang:1.23\\nFROM busybox:1\"}\n";
    insta::assert_snapshot!(shown(&read("compose.yaml", quoted)), @"
    ? golang:1.23 3: it is in an inline Dockerfile: move that to a separate file
    ? busybox:1 3: it is in an inline Dockerfile: move that to a separate file
    ");
}

#[test]
fn compose_files_with_their_defaults() {
    let text = "\
x-base: &base {image: 'shared:1'}
services:
  a: {image: 'nginx:${TAG:-1.27}'}
  b:
    image: ${IMAGE-postgres:16}
  c: {image: '${REG:-}redis:7'}
  d: {image: '${A:-${B:-alpine}}:${V:-3.20}'}
  e: {image: '$NOPE/x'}
  f: {image: '${MUST:?say}'}
  g: {image: 'built:1', build: .}
  h: {<<: *base}
  i: {build: {context: ., additional_contexts: [base=docker-image://golang:1.23]}}
  j: {image: 'x:${V:+set}'}
";
    for name in ["compose.yaml", "docker-compose.override.yml", "any.yaml"] {
        assert_eq!(
            shown(&read(name, text)),
            "\
docker.io/library/shared:1 1:24 compose
docker.io/library/nginx:1.27 3:15 compose
docker.io/library/postgres:16 5:12 compose
docker.io/library/redis:7 6:15 compose
docker.io/library/alpine:3.20 7:15 compose
docker.io/library/golang:1.23 12:69 compose
? $NOPE/x 8: the variable NOPE has no default
? ${MUST:?say} 9: the variable MUST has no default
? built:1 10: this service builds it
? x:${V:+set} 13: the syntax of the variable V isn't supported",
            "{name}"
        );
    }
}

#[test]
fn dockerfiles_follow_their_reference() {
    let text = "\
# syntax=docker/dockerfile:1.7
# check=skip=all
ARG TAG=3.20 NONE
ARG BASE=\"alpine:${TAG}\"
# FROM comment:1
FROM --platform=$BUILDPLATFORM golang:1.23 AS Build
ARG TAG
RUN --mount=type=cache,target=/c --mount=type=bind,from=busybox:1.36,target=/b \\
    # FROM inside:1
    true
COPY <<-EOF /a <<'END' /b
\tFROM here:1
\tEOF
FROM here:2
END
RUN cat <<< FROM
FROM ${BASE} as two
COPY --from=build /a /a
COPY --from=0 /a /a
COPY --link --from=nginx:1.27 /a /a
ONBUILD COPY --from=redis:7 /a /a
FROM build
FROM scratch
FROM debian:\\
12
FROM $NONE
FROM ${OTHER:-quay.io/a/b:1}
FROM x-$TARGETARCH
from ubuntu
";
    for name in ["Dockerfile", "web.Dockerfile", "Containerfile", "Dockerfile.prod", "build/dockerfile"] {
        assert_eq!(
            shown(&read(name, text)),
            format!(
                "\
docker.io/docker/dockerfile:1.7 1:10 dockerfile
docker.io/library/golang:1.23 6:32 dockerfile
docker.io/library/busybox:1.36 8:57 dockerfile
docker.io/library/alpine:3.20 17:6 dockerfile
docker.io/library/nginx:1.27 20:20 dockerfile
docker.io/library/redis:7 21:21 dockerfile
docker.io/library/debian:12 24:6 dockerfile
quay.io/a/b:1 27:6 dockerfile
docker.io/library/ubuntu:latest 29:6 dockerfile
? $NONE 26: the variable NONE has no default
? x-$TARGETARCH 28: the variable TARGETARCH has no default"
            ),
            "{name}"
        );
    }
    let windows = "# escape=`\r\nFROM mcr.microsoft.com/windows/nanoserver:ltsc2022 `\r\n AS x\r\nRUN dir C:\\\r\nFROM x\r\nFROM alpine:3\r\n";
    let expected =
        "mcr.microsoft.com/windows/nanoserver:ltsc2022 2:6 dockerfile\ndocker.io/library/alpine:3 6:6 dockerfile";
    assert_eq!(shown(&read("Dockerfile", windows)), expected);
    assert!(
        !dockerfile::is_named(Path::new("Dockerfile.dockerignore"))
            && !dockerfile::is_named(Path::new("dockerfiles.md"))
    );
}

#[test]
fn workflows_pipelines_and_development_containers() {
    let github = "on: push\njobs:\n  a:\n    runs-on: x\n    container: node:20\n    services: {db: {image: 'postgres:16'}}\n    steps:\n    - uses: docker://alpine:3.20\n    - uses: actions/checkout@v4\n  b:\n    container: {image: '${{ matrix.image }}'}\n";
    let expected = "docker.io/library/node:20 5:16 github\ndocker.io/library/postgres:16 6:29 github\ndocker.io/library/alpine:3.20 8:22 github\n? ${{ matrix.image }} 11: it contains an expression";
    assert_eq!(shown(&read(".github/workflows/ci.yml", github)), expected);
    let action = "runs: {using: docker, image: 'docker://quay.io/a/b:1'}\n";
    assert_eq!(shown(&read("action.yml", action)), "quay.io/a/b:1 1:40 github");
    assert_eq!(shown(&read("action.yml", "runs: {using: docker, image: Dockerfile}\n")), "");
    let gitlab = "image: ruby:3.3\nservices: [postgres:16, {name: 'redis:7', alias: r}]\ndefault: {image: {name: 'alpine:3'}}\njob:\n  image: $CI_REGISTRY_IMAGE:1\n  script: !reference [x, y]\n";
    let expected = "docker.io/library/ruby:3.3 1:8 gitlab\ndocker.io/library/postgres:16 2:12 gitlab\ndocker.io/library/redis:7 2:33 gitlab\ndocker.io/library/alpine:3 3:26 gitlab\n? $CI_REGISTRY_IMAGE:1 5: the variable CI_REGISTRY_IMAGE has no default";
    assert_eq!(shown(&read(".gitlab-ci.yml", gitlab)), expected);
    let container = "// ü \"x\"\n{\n\t\"name\": \"a // b\", /* \"image\": \"c:1\" */\n\t\"image\": \"mcr.microsoft.com/devcontainers/base:1\",\n}\n";
    assert_eq!(
        shown(&read(".devcontainer/devcontainer.json", container)),
        "mcr.microsoft.com/devcontainers/base:1 4:12 devcontainer"
    );
    let json = "{\"apiVersion\": \"v1\", \"kind\": \"Pod\",\n\t\"spec\": {\"containers\": [{\"image\": \"nginx:1\"}]}}";
    assert_eq!(shown(&read("pod.json", json)), "docker.io/library/nginx:1 2:37 kubernetes");
}

#[test]
fn chart_values() {
    let text = format!(
        "image: {{registry: quay.io, repository: a/b, tag: 1.10}}\nold: {{image: nginx, tag: '1'}}\npinned: {{image: {{repository: c, digest: '{D}'}}}}\nnone: {{image: {{repository: d, tag: ''}}}}\nwhole: {{image: e:1}}\nnamed: {{image: {{name: f, tag: '2'}}}}\ngit: {{repository: 'https://x/y', tag: v1}}\nempty: {{image: {{repository: ''}}}}\n"
    );
    let expected = format!(
        "quay.io/a/b:1.10 1:40 helm\ndocker.io/library/nginx:1 2:14 helm\ndocker.io/library/c@{D} 3:30 helm\ndocker.io/library/e:1 5:16 helm\ndocker.io/library/f:2 6:23 helm\n? d 4: its tag isn't set here"
    );
    assert_eq!(shown(&read("values-prod.yaml", &text)), expected);
}

#[test]
fn kustomizations_by_their_images() {
    let text = format!(
        "resources: [a.yaml]\nimages:\n- name: nginx\n  newTag: '1.27'\n- {{name: a, newName: quay.io/a/a, digest: '{D}'}}\n- name: b\n  newName: c\nhelmCharts: [{{name: chart}}]\npatches:\n- patch: |-\n    image: inline:1\n"
    );
    let expected = format!(
        "docker.io/library/nginx:1.27 3:3 kustomize\nquay.io/a/a@{D} 5:4 kustomize\n? chart 8: kustomize renders this chart when it builds\n? inline:1 11: it is in a text inside the file"
    );
    let file = read("kustomization.yaml", &text);
    assert_eq!(shown(&file), expected);
    // The version comes from the resources, which have to be there.
    let resource = read(
        "a.yaml",
        "apiVersion: v1\nkind: Pod\nspec: {containers: [{image: 'b:5'}, {image: docker.io/library/b:6}]}\n",
    );
    let mut files = vec![file, resource];
    kustomize::complete(&mut files);
    assert_eq!(files[0].found[2].reference.to_string(), "docker.io/library/c:5");
    assert_eq!(files[0].found.len(), 3, "names are compared letter by letter");
    assert_eq!(files[1].found.iter().map(|found| found.is_replaced).collect::<Vec<_>>(), [true, false]);
    assert_eq!(files[1].unresolved[0].why, "kustomize replaces it with another image");
    let mut alone = vec![read("kustomization.yaml", "images: [{name: b, newName: c}]\n")];
    kustomize::complete(&mut alone);
    assert_eq!(shown(&alone[0]), "? c 1: its tag comes from resources that weren't found");
}

#[test]
fn lists_are_words() {
    let text =
        "# all\nnginx:1.27\tquay.io/a/b # rest:1\r\n- redis@{D} bad:tag:1\n#x\n[::1]:5000/a:1\n".replace("{D}", D);
    let expected = format!(
        "docker.io/library/nginx:1.27 2:1 list\nquay.io/a/b:latest 2:12 list\ndocker.io/library/redis@{D} 3:3 list\n[::1]:5000/a:1 5:1 list\n? bad:tag:1 3: `tag:1` isn't a tag: expected up to 128 letters, digits, _ . - and none of . - first"
    );
    assert_eq!(shown(&read("images.txt", &text)), expected);
    assert_eq!(
        shown(&read("images.yaml", "- nginx:1\n- 'redis:2'\n")),
        "docker.io/library/nginx:1 1:3 yaml\ndocker.io/library/redis:2 2:4 yaml"
    );
}
