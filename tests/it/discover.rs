//! `discover`: the references in files, and which of them mirror.yaml lacks.

use crate::support::cli::Cli;
use crate::support::kubectl::Program;

const LIST: &str = "# ours\ntarget: h.example/m\nimages:\n  - nginx:1.27   # web\n\ndefaults: {}\n";
const D: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
const E: &str = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

#[tokio::test]
async fn each_reference_is_printed_with_its_locations() {
    let cli = Cli::new()
        .file("deploy/web.yaml", "apiVersion: v1\nkind: Pod\nspec:\n  a: {image: nginx:1.27}\n  b: {image: docker.io/library/nginx:1.27}\n  c: {image: 'h.example/m/x:1'}\n  d: {image: '${X}'}\n")
        .file("Dockerfile", "FROM nginx:1.27\nFROM $NONE\n")
        .file("mirror.yaml", LIST)
        .file("mirror.lock", "version: 1\n");
    let run = cli.run("discover .").await;
    insta::assert_snapshot!(run.to_string(), @"
    exit 0
    -- stdout
    docker.io/library/nginx:1.27  deploy/web.yaml:4  deploy/web.yaml:5  Dockerfile:1
    h.example/m/x:1  deploy/web.yaml:6  (mirrored already)
    -- stderr
    deploy/web.yaml:7: unresolved `${X}`: the variable X has no default
    Dockerfile:2: unresolved `$NONE`: the variable NONE has no default
    ");
    let json = cli.run("discover . --json").await.json();
    assert_eq!(
        json["images"][0],
        serde_json::json!({"source": "docker.io/library/nginx:1.27", "written": "nginx:1.27", "mirrored": false, "places": [
            {"file": "deploy/web.yaml", "line": 4, "column": 14, "kind": "kubernetes"},
            {"file": "deploy/web.yaml", "line": 5, "column": 14, "kind": "kubernetes"},
            {"file": "Dockerfile", "line": 1, "column": 6, "kind": "dockerfile"},
        ]})
    );
    assert_eq!(json["images"][1]["mirrored"], true);
    assert_eq!(
        json["unresolved"][1],
        serde_json::json!({"text": "$NONE", "file": "Dockerfile", "line": 2, "why": "the variable NONE has no default"})
    );
    // Paths are those from the working directory, however they are named.
    let absolute = cli.run(&format!("discover {}", cli.path("deploy").display())).await;
    assert!(absolute.stdout.contains("  deploy/web.yaml:4"), "{absolute}");
    let dotted = cli.run("discover ./deploy/../Dockerfile").await;
    assert_eq!(dotted.stdout, "docker.io/library/nginx:1.27  Dockerfile:1\n");
}

#[tokio::test]
async fn discover_needs_no_mirror_yaml_and_no_secrets() {
    let cli = Cli::new().file("Dockerfile", "FROM nginx:1.27\n");
    assert_eq!(cli.run("discover .").await.stdout, "docker.io/library/nginx:1.27  Dockerfile:1\n");
    for line in [
        "discover . --check",
        "discover . --write",
        "discover none",
        "discover",
        "discover . --field a..b",
        "discover . --write --check",
        "discover . -c other.yaml",
    ] {
        let run = cli.run(line).await;
        assert_eq!((run.code, run.stdout.as_str()), (2, ""), "{line} {run}");
    }
    cli.write("mirror.yaml", format!("{LIST}registries: {{docker.io: {{username: u, password: {{env: NOT_SET}}}}}}\n"));
    let run = cli.run("discover . --check").await;
    assert_eq!(run.code, 0, "{run}");
}

#[tokio::test]
async fn write_adds_only_missing_images() {
    let cli = Cli::new().file("mirror.yaml", LIST).file("Dockerfile", "FROM nginx:1.27\n");
    assert_eq!(cli.run("discover . --check").await.code, 0);
    cli.write("Dockerfile", format!("FROM nginx:1.27@{D}\nFROM redis:7\nFROM redis:7@{D}\nFROM redis@{D}\nFROM quay.io/a/b:1\nFROM h.example/m/x:1\nFROM python@{E}\nFROM two:1@{D}\nFROM two:1@{E}\n"));
    let check = cli.run("discover . --check").await;
    assert_eq!(check.code, 3, "{check}");
    assert!(check.stderr.contains("mirror.yaml lacks quay.io/a/b:1\n"), "{check}");
    assert_eq!(cli.read("mirror.yaml").as_deref(), Some(LIST));
    let run = cli.run("discover . --write").await;
    assert_eq!(run.code, 0, "{run}");
    assert!(run.stderr.contains("added 4 images to mirror.yaml\n"), "{run}");
    assert!(run.stderr.contains(&format!("docker.io/library/two:1@{D} isn't added")), "{run}");
    let added = format!(
        "  - docker.io/library/python@{E}\n  - docker.io/library/redis:7@{D}\n  - docker.io/library/two:1@{E}\n  - quay.io/a/b:1\n"
    );
    let expected = LIST.replace("# web\n", &format!("# web\n{added}"));
    assert_eq!(cli.read("mirror.yaml"), Some(expected.clone()));
    let again = cli.run("discover . --write").await;
    assert_eq!((again.code, cli.read("mirror.yaml")), (0, Some(expected)), "{again}");
    assert_eq!(cli.run("discover . --check").await.code, 0);
}

#[tokio::test]
async fn images_that_the_list_names_or_selects_count_as_covered() {
    let list = format!(
        "target: h.example/m\nimages:\n- nginx:1.27@{D}\n- {{image: quay.io/a/b, select: {{semver: '>=2'}}}}\n- {{image: 'python@{E}', as: '3.7'}}\n"
    );
    let cli = Cli::new().file("mirror.yaml", list);
    for (image, code) in [
        ("nginx:1.27", 0),
        (&format!("nginx@{D}"), 0),
        ("nginx:1.28", 3),
        ("quay.io/a/b:2.1", 0),
        ("quay.io/a/b:1.1", 3),
        ("python:3.7", 0),
        (&format!("python@{E}"), 0),
        (&format!("python@{D}"), 3),
    ] {
        cli.write("Dockerfile", format!("FROM {image}\n"));
        let run = cli.run("discover . --check").await;
        assert_eq!(run.code, code, "{image} {run}");
    }
    // The selected tags in the lock.
    cli.write(
        "mirror.lock",
        "version: 1\nselections:\n- source: quay.io/a/b\n  select:\n    semver: '>=2'\n  tags: ['3.0']\n",
    );
    for (image, code) in [("quay.io/a/b:2.1", 3), ("quay.io/a/b:3.0", 0)] {
        cli.write("Dockerfile", format!("FROM {image}\n"));
        assert_eq!(cli.run("discover . --check").await.code, code, "{image}");
    }
}

#[tokio::test]
async fn a_first_list_may_be_empty() {
    let cli =
        Cli::new().file("mirror.yaml", "target: h.example/m\nimages: []\n").file("Dockerfile", "FROM nginx:1.27\n");
    assert_eq!(cli.run("discover . --write").await.code, 0);
    assert_eq!(
        cli.read("mirror.yaml").as_deref(),
        Some("target: h.example/m\nimages: [docker.io/library/nginx:1.27]\n")
    );
    // Two sources with the same target: the first is added.
    cli.write("mirror.yaml", "target: h.example/m\nlayout: '{name}'\nimages: [x:1]\n");
    cli.write("Dockerfile", "FROM a/y:1\nFROM b/y:1\n");
    let run = cli.run("discover . --write").await;
    assert!(run.stderr.contains("docker.io/b/y:1 isn't added: mirror.yaml wouldn't be valid with it"), "{run}");
    assert_eq!(
        cli.read("mirror.yaml").as_deref(),
        Some("target: h.example/m\nlayout: '{name}'\nimages: [x:1, docker.io/a/y:1]\n")
    );
}

#[tokio::test]
async fn stdin_is_read_as_a_list_or_by_its_content() {
    let cli = Cli::new();
    let run = cli.run_with_input("discover -", "nginx:1.27 nginx:1.27\tredis:7\n# x:1\n").await;
    assert_eq!(
        (run.code, run.stdout.as_str()),
        (0, "docker.io/library/nginx:1.27  -:1\ndocker.io/library/redis:7  -:1\n"),
        "{run}"
    );
    let pods =
        "apiVersion: v1\nitems:\n- apiVersion: v1\n  kind: Pod\n  spec: {containers: [{image: nginx:1}]}\nkind: List\n";
    let run = cli.run_with_input("discover -", pods).await;
    assert_eq!(run.stdout, "docker.io/library/nginx:1  -:5\n", "{run}");
    cli.write("images.txt", "nginx:1\n");
    cli.write("notes.md", "nginx:1\n");
    assert_eq!(cli.run("discover images.txt").await.stdout, "docker.io/library/nginx:1  images.txt:1\n");
    assert_eq!(cli.run("discover .").await.stdout, "", "in a folder, only what is known to be something");
}

#[tokio::test]
async fn skipped_and_broken_files_are_reported() {
    let cli = Cli::new()
        .file(".gitignore", "ignored/\n")
        .file(".github/workflows/ci.yml", "jobs: {a: {container: node:20}}\n")
        .file("bad.yaml", "a: [\n")
        .file("tabs.yaml", "a:\n\tb: c\n")
        .file("binary.yaml", b"image: x:1\0")
        .file("crlf.yaml", "\u{feff}image: nginx:1\r\n")
        .file("mirror.yaml", LIST)
        .file("sub/mirror.lock", "x");
    for folder in ["ignored", ".git", "target", "node_modules", "a/vendor"] {
        cli.write(&format!("{folder}/Dockerfile"), "FROM skipped:1\n");
    }
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(".", cli.path("loop")).expect("a link");
        std::os::unix::fs::symlink("crlf.yaml", cli.path("again.yaml")).expect("a link");
        std::os::unix::fs::symlink("nowhere", cli.path("gone.yaml")).expect("a link");
    }
    let run = cli.run("discover .").await;
    insta::assert_snapshot!(run.to_string(), @"
    exit 1
    -- stdout
    docker.io/library/nginx:1  crlf.yaml:1
    docker.io/library/node:20  .github/workflows/ci.yml:1
    -- stderr
    error: bad.yaml: line 2, column 1: it isn't valid YAML: while parsing a node, did not find expected node content
    error: tabs.yaml: line 2, column 2: it isn't valid YAML: tabs disallowed within this context (block indentation)
    ");
    let binary = cli.run("discover binary.yaml").await;
    assert_eq!((binary.code, binary.stdout.as_str()), (1, ""), "{binary}");
    assert_eq!(binary.stderr, "error: binary.yaml: it is binary\n", "what is named isn't left in silence");
    // If named, it is read.
    assert_eq!(cli.run("discover target").await.stdout, "docker.io/library/skipped:1  target/Dockerfile:1\n");
}

#[tokio::test]
async fn ten_thousand_files_are_read_quickly() {
    let cli = Cli::new();
    for index in 0..10_000 {
        let name = format!("d{}/f{index}.yaml", index % 100);
        cli.write(&name, format!("apiVersion: v1\nkind: Pod\nspec:\n  containers:\n  - image: app:{}\n", index % 10));
    }
    let run = cli.run("discover .").await;
    assert_eq!((run.code, run.stdout.lines().count()), (0, 10));
}

const CHART: &str = "apiVersion: v2\nname: web\nversion: 0.1.0\nappVersion: '8.1'\nannotations:\n  artifacthub.io/images: |\n    - name: m\n      image: memcached:1.6\n";
const VALUES: &str = "image:\n  registry: docker.io\n  repository: library/mysql\n  tag: ''\nside: {image: {repository: memcached, tag: '1.6'}}\noff: {image: {repository: unused, tag: '1'}}\n";
const TEMPLATE: &str = "apiVersion: v1\nkind: Pod\nmetadata: {name: x}\nspec:\n  containers:\n  - name: a\n    image: \"{{ .Values.image.registry }}/{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}\"\n  - name: b\n    image: {{ printf \"%s:%s\" .Values.side.image.repository .Values.side.image.tag }}\n  - name: c\n    image: busybox:1.36\n  - name: d\n    image: {{ printf \"%s:1\" \"computed\" }}\n";

fn chart() -> Cli {
    Cli::new().file("web/Chart.yaml", CHART).file("web/values.yaml", VALUES).file("web/templates/pod.yaml", TEMPLATE)
}

#[tokio::test]
async fn a_chart_is_rendered_if_helm_is_installed() {
    let Some(helm) = Program::helm() else { return };
    let cli = chart().env("PATH", helm.on_path());
    let run = cli.run("discover .").await;
    insta::assert_snapshot!(run.to_string(), @"
    exit 0
    -- stdout
    docker.io/library/busybox:1.36  web/templates/pod.yaml:11
    docker.io/library/computed:1  web/templates/pod.yaml:1
    docker.io/library/memcached:1.6  web/values.yaml:5
    docker.io/library/mysql:8.1  web/values.yaml:3
    -- stderr
    ");
    // A chart that can't be rendered is read by its values, with a message.
    cli.write("web/templates/bad.yaml", "{{ required \"say x\" .Values.x }}\n");
    let run = cli.run("discover .").await;
    assert!(run.stderr.contains("web/Chart.yaml: the chart isn't rendered, its values.yaml and artifacthub.io/images are read instead: helm template failed: "), "{run}");
    assert!(run.stdout.contains("docker.io/library/unused:1  web/values.yaml:6"), "{run}");
}

#[tokio::test]
async fn without_helm_the_values_of_a_chart_are_read() {
    let cli = chart().env("PATH", "/nowhere");
    let run = cli.run("discover web").await;
    insta::assert_snapshot!(run.to_string(), @"
    exit 0
    -- stdout
    docker.io/library/memcached:1.6  web/Chart.yaml:8  web/values.yaml:5
    docker.io/library/mysql:8.1  web/values.yaml:3
    docker.io/library/unused:1  web/values.yaml:6
    -- stderr
    web/Chart.yaml: the chart isn't rendered, its values.yaml and artifacthub.io/images are read instead: helm isn't on PATH
    ");
}

#[tokio::test]
async fn text_in_other_encodings_is_reported_and_binary_files_are_skipped() {
    let wide: Vec<u8> = [0xff, 0xfe].into_iter().chain("FROM nginx:1.27\n".bytes().flat_map(|b| [b, 0])).collect();
    let cli = Cli::new()
        .file("Dockerfile", "FROM nginx:1.27\n")
        .file("wide/Dockerfile", &wide)
        .file("old/compose.yaml", b"services:\n  a: {image: redis:7} # gr\xfc\xdfe\n")
        .file("bin/data.yaml", b"\x00\x01image: hidden:1\n")
        .file("old/data.json", b"{\"a\": \"\xfc\"}");
    // In folders, binary files are skipped; text in another encoding isn't.
    let run = cli.run("discover .").await;
    assert_eq!((run.code, run.stdout.as_str()), (1, "docker.io/library/nginx:1.27  Dockerfile:1\n"), "{run}");
    assert_eq!(
        run.stderr,
        "error: old/compose.yaml: line 2 isn't UTF-8: save the file as UTF-8\n\
         error: wide/Dockerfile: it is written in UTF-16: save it as UTF-8\n"
    );
    for (path, why) in [
        ("wide/Dockerfile", "it is written in UTF-16"),
        ("bin/data.yaml", "it is binary"),
        ("old/data.json", "line 1 isn't UTF-8"),
    ] {
        for verb in ["discover", "discover --check -c mirror.yaml"] {
            cli.write("mirror.yaml", LIST);
            let run = cli.run(&format!("{verb} {path} Dockerfile")).await;
            assert_eq!(run.code, 1, "{run}");
            assert!(run.stderr.contains(&format!("error: {path}: {why}")), "{run}");
            assert!(run.stdout.contains("Dockerfile:1"), "the rest is done: {run}");
        }
    }
}

#[cfg(unix)]
#[tokio::test]
async fn one_signal_ends_the_reading_of_an_endless_pipe() {
    let cli = Cli::new().file("Dockerfile", "FROM nginx:1.27\n");
    let reading = cli.endless_pipe("pipe");
    let mut held = None;
    let when = async { held = Some(reading.await) };
    let run = cli.interrupted("discover pipe Dockerfile", when).await;
    assert_eq!((run.code, run.stdout.as_str()), (130, ""), "{run}");
    assert!(run.stderr.contains("interrupted: nothing was written"), "{run}");
    drop(held);
}
