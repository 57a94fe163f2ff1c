//! `export`: what the command line does with the kinds. What the kinds write is read by those who are to read it, each in a file
//! of its own.

use crate::support::cli::Cli;

const D: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// A list, of which the lock holds these images.
fn scene(list: &str, pinned: &[&str]) -> Cli {
    let entry = |source: &&str| {
        format!("- source: {source}\n  digest: {D}\n  media_type: application/vnd.oci.image.index.v1+json\n  size: 2\n")
    };
    let lock = format!("version: 1\nimages:\n{}", pinned.iter().map(entry).collect::<String>());
    Cli::new().file("mirror.yaml", list).file("mirror.lock", lock)
}

fn plain() -> Cli {
    scene(
        "targets: [h.example/m, 'g.example:5000', 'oci:out']\nimages: ['nginx:1.27', 'later:1', 'quay.io/a/b:v1']\n",
        &["docker.io/library/nginx:1.27", "quay.io/a/b:v1"],
    )
}

#[tokio::test]
async fn the_kinds_are_listed() {
    let cli = Cli::new();
    let run = cli.run("export --list").await;
    insta::assert_snapshot!(run.to_string(), @"
    exit 0
    -- stdout
    containerd       hosts.toml for each upstream: containerd, MicroK8s, RKE2
    registries-conf  a drop-in of registries.conf: podman, CRI-O, buildah, skopeo
    env              NGINX_IMAGE=… for shells, Compose and make
    json             a map for programs: source to target@digest
    list             one target reference a line
    -- stderr
    ");
    let json = cli.run("export --list --json").await.json();
    assert_eq!(json["kinds"][0]["name"], "containerd");
}

#[tokio::test]
async fn several_files_go_to_stdout_or_below_a_folder() {
    let cli = plain();
    let run = cli.run("export containerd").await;
    insta::assert_snapshot!(run.to_string(), @r#"
    exit 0
    -- stdout
    # ---- docker.io/hosts.toml
    # Written by `transship export containerd`. Run it again when mirror.yaml or mirror.lock changes.
    # Covers: everything that this node pulls from docker.io. What h.example lacks still comes from docker.io.
    # Limits: it holds no credentials. If h.example wants some, the node needs them (`transship export kubelet-config`).
    # Install: transship export containerd -o /etc/containerd/certs.d
    # Set config_path of the CRI plugin's registry section to that folder in config.toml. No restart is needed after later changes.

    [host."https://h.example/v2/m/docker.io"]
      capabilities = ["pull", "resolve"]
      override_path = true

    # ---- quay.io/hosts.toml
    # Written by `transship export containerd`. Run it again when mirror.yaml or mirror.lock changes.
    # Covers: everything that this node pulls from quay.io. What h.example lacks still comes from quay.io.
    # Limits: it holds no credentials. If h.example wants some, the node needs them (`transship export kubelet-config`).
    # Install: transship export containerd -o /etc/containerd/certs.d
    # Set config_path of the CRI plugin's registry section to that folder in config.toml. No restart is needed after later changes.

    [host."https://h.example/v2/m/quay.io"]
      capabilities = ["pull", "resolve"]
      override_path = true
    -- stderr
    left docker.io/library/later:1: the lock doesn't hold it
    "#);
    let written = cli.run("export containerd -o etc/certs.d").await;
    assert_eq!(
        (written.code, written.stdout.as_str()),
        (0, "etc/certs.d/docker.io/hosts.toml\netc/certs.d/quay.io/hosts.toml\n")
    );
    let hub = cli.read("etc/certs.d/docker.io/hosts.toml").expect("a file");
    assert!(run.stdout.contains(&hub) && hub.contains("[host.\"https://h.example/v2/m/docker.io\"]"), "{hub}");
    let other = cli.run("export containerd --microk8s --target 2 --json").await.json();
    assert_eq!(other["files"][1]["name"], "quay.io/hosts.toml");
    let text = other["files"][1]["text"].as_str().expect("a text");
    assert!(text.contains("[host.\"https://g.example:5000/v2/quay.io\"]"), "{text}");
    assert!(text.contains("--microk8s -o /var/snap/microk8s/current/args/certs.d"), "{text}");
}

#[tokio::test]
async fn what_a_format_has_no_comment_for_is_told_beside_it() {
    let run = plain().run("export json").await;
    let map: std::collections::BTreeMap<String, String> = serde_json::from_str(&run.stdout).expect("a map");
    assert_eq!(map["docker.io/library/nginx:1.27"], format!("h.example/m/docker.io/library/nginx:1.27@{D}"));
    assert!(run.stderr.contains("Covers: 2 images"), "{run}");
    assert!(run.stderr.contains("left docker.io/library/later:1: the lock doesn't hold it\n"), "{run}");
}

#[tokio::test]
async fn what_can_not_be_exported_is_known_before_anything_is_written() {
    let cli = plain();
    for (line, why) in [
        ("export", "required"),
        ("export nonsense", "there is no kind `nonsense`"),
        ("export env --rke2", "env takes no --rke2"),
        ("export containerd --rke2 --microk8s", "cannot be used with"),
        ("export env --target 4", "mirror.yaml has 3 targets"),
        ("export env --target 3", "is a directory: nothing can be pulled from it"),
        ("export env --no-lock", "there is no lock"),
        ("export env --lock none.lock", "there is no lock"),
        ("export env -c none.yaml", "there is no none.yaml"),
        ("export env -c -", "needs '--lock <FILE>'"),
        ("export env -o mirror.yaml", "can't write mirror.yaml/images.env"),
    ] {
        let run = cli.run(line).await;
        assert_eq!((run.code, run.stdout.as_str()), (2, ""), "{line} {run}");
        assert!(run.stderr.contains(why), "{line} {run}");
    }
}

#[tokio::test]
async fn an_image_that_a_kind_can_not_express_is_named() {
    let list = "target: h.example/m\nimages: ['nginx:1.27', {image: 'nginx:1.28', to: infra/nginx}]\n";
    let cli = scene(list, &["docker.io/library/nginx:1.27", "docker.io/library/nginx:1.28"]);
    let run = cli.run("export containerd -o out").await;
    insta::assert_snapshot!(run.to_string(), @"
    exit 2
    -- stdout
    -- stderr
    error: docker.io/library/nginx:1.28 is h.example/m/infra/nginx:1.28 at the target, and containerd keeps the path of what it pulls
    hint: leave out to: for it, or keep {repository} at the end of layout:; registries-conf, kyverno and kustomize can express it
    ");
    assert!(!cli.path("out").exists(), "nothing is written");
    let conf = cli.run("export registries-conf").await;
    assert_eq!(conf.code, 0, "{conf}");
    assert!(conf.stdout.contains("prefix = \"docker.io/library/nginx:1.28\""), "{conf}");
}
