//! `export` on the command line. The programs that use the files read them: kubectl here, container runtimes in
//! `export/pulls`.

mod pulls;

use crate::support::cli::Cli;
use crate::support::docker_registry::installed;
use crate::support::kubectl::Program;

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
    k3s              registries.yaml of k3s and RKE2
    docker           daemon.json of dockerd: Docker Hub only
    webhook          rules of harbor-container-webhook, as Helm values
    openshift        ImageDigestMirrorSet and ImageTagMirrorSet
    kyverno          a ClusterPolicy of Kyverno that rewrites pods
    kustomize        a component that sets images, pinned by digest
    pull-secret      a Secret with the credentials of the targets; for ECR a CredentialProviderConfig
    kubelet-config   config.json of the kubelet, with the credentials of the targets
    env              NGINX_IMAGE=… for shells, Compose and make
    json             a map for programs: source to target@digest
    list             one target reference per line
    -- stderr
    ");
    let json = cli.run("export --list --json").await.json();
    assert_eq!(json["kinds"][0]["name"], "containerd");
}

#[tokio::test]
async fn several_files_are_written_to_stdout_or_a_folder() {
    let cli = plain();
    let run = cli.run("export containerd").await;
    insta::assert_snapshot!(run.to_string(), @r#"
    exit 0
    -- stdout
    # ---- docker.io/hosts.toml
    # Written by `transship export containerd`. Run it again when mirror.yaml or mirror.lock changes.
    # Covers: everything that this node pulls from docker.io. What h.example lacks still comes from docker.io.
    # Limits: it contains no credentials. If h.example requires some, the node needs them (`transship export kubelet-config`).
    # Install: transship export containerd -o /etc/containerd/certs.d
    # Set config_path of the CRI plugin's registry section to that folder in config.toml. No restart is needed after later changes.

    [host."https://h.example/v2/m/docker.io"]
      capabilities = ["pull", "resolve"]
      override_path = true

    # ---- quay.io/hosts.toml
    # Written by `transship export containerd`. Run it again when mirror.yaml or mirror.lock changes.
    # Covers: everything that this node pulls from quay.io. What h.example lacks still comes from quay.io.
    # Limits: it contains no credentials. If h.example requires some, the node needs them (`transship export kubelet-config`).
    # Install: transship export containerd -o /etc/containerd/certs.d
    # Set config_path of the CRI plugin's registry section to that folder in config.toml. No restart is needed after later changes.

    [host."https://h.example/v2/m/quay.io"]
      capabilities = ["pull", "resolve"]
      override_path = true
    -- stderr
    left docker.io/library/later:1: the lock doesn't have it
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
async fn notes_that_a_format_cant_hold_as_comments_go_to_stderr() {
    let run = plain().run("export json").await;
    let map: std::collections::BTreeMap<String, String> = serde_json::from_str(&run.stdout).expect("a map");
    assert_eq!(map["docker.io/library/nginx:1.27"], format!("h.example/m/docker.io/library/nginx:1.27@{D}"));
    assert!(run.stderr.contains("Covers: 2 images"), "{run}");
    assert!(run.stderr.contains("left docker.io/library/later:1: the lock doesn't have it\n"), "{run}");
}

#[tokio::test]
async fn images_that_cant_be_exported_are_reported_before_anything_is_written() {
    let cli = plain();
    for (line, why) in [
        ("export", "required"),
        ("export nonsense", "`nonsense` isn't a kind of export"),
        ("export env --rke2", "env takes no --rke2"),
        ("export containerd --rke2 --microk8s", "cannot be used with"),
        ("export env --target 4", "mirror.yaml has 3 targets"),
        ("export env --target 3", "is a directory: nothing can be pulled from it"),
        ("export env --no-lock", "the lock doesn't exist"),
        ("export env --lock none.lock", "the lock doesn't exist"),
        ("export env -c none.yaml", "none.yaml doesn't exist"),
        ("export env -c -", "needs '--lock <FILE>'"),
        ("export env -o mirror.yaml", "can't write mirror.yaml/images.env"),
    ] {
        let run = cli.run(line).await;
        assert_eq!((run.code, run.stdout.as_str()), (2, ""), "{line} {run}");
        assert!(run.stderr.contains(why), "{line} {run}");
    }
}

#[tokio::test]
async fn an_image_that_a_format_cant_express_is_named() {
    let list = "target: h.example/m\nimages: ['nginx:1.27', {image: 'nginx:1.28', to: infra/nginx}]\n";
    let cli = scene(list, &["docker.io/library/nginx:1.27", "docker.io/library/nginx:1.28"]);
    let run = cli.run("export containerd -o out").await;
    insta::assert_snapshot!(run.to_string(), @"
    exit 2
    -- stdout
    -- stderr
    error: docker.io/library/nginx:1.28 is h.example/m/infra/nginx:1.28 at the target, and containerd keeps the path of what it pulls
    hint: remove to: for it, or end layout: with {repository}; registries-conf, kyverno and kustomize can express it
    ");
    assert!(!cli.path("out").exists(), "nothing is written");
    let conf = cli.run("export registries-conf").await;
    assert_eq!(conf.code, 0, "{conf}");
    assert!(conf.stdout.contains("location = \"h.example/m/infra/nginx\""), "{conf}");
}

#[cfg(unix)]
#[tokio::test]
async fn files_with_secrets_are_readable_only_by_their_owner() {
    use std::os::unix::fs::PermissionsExt as _;
    let ecr = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";
    let list = format!(
        "targets: [h.example/m, {ecr}/m]\nimages: ['nginx:1.27']\nregistries:\n  \
         h.example: {{username: me, password: {{env: SECRET}}}}\n  docker.io: {{token: {{env: NOT_SET}}}}\n"
    );
    // No lock is needed, because only the registries matter. Docker Hub isn't a target, so its token isn't read.
    let cli = Cli::new().env("SECRET", "hunter2").file("mirror.yaml", list);
    let run = cli.run("export pull-secret -o out --namespace web --service-account default --name pull").await;
    assert_eq!(run.code, 0, "{run}");
    assert_eq!(run.stdout, "out/pull-secret.yaml\nout/credential-provider-config.yaml\n");
    let mode = |name: &str| std::fs::metadata(cli.path(name)).expect("a file").permissions().mode() & 0o777;
    assert_eq!(mode("out/pull-secret.yaml"), 0o600);
    let config = cli.read("out/credential-provider-config.yaml").expect("a file");
    assert!(config.contains(ecr) && !config.contains("hunter2"), "{config}");
    let run = cli.run("export kubelet-config -o out").await;
    assert_eq!((run.code, mode("out/config.json")), (0, 0o600), "{run}");
    let json: serde_json::Value = serde_json::from_str(&cli.read("out/config.json").expect("a file")).expect("JSON");
    assert_eq!(
        json["auths"],
        serde_json::json!({"h.example": {"username": "me", "password": "hunter2", "auth": "bWU6aHVudGVyMg=="}})
    );
    assert!(run.stderr.contains(&format!("It lacks {ecr}")) && !run.stderr.contains("hunter2"), "{run}");
    for (line, why) in [
        ("export pull-secret --target 2 --upstream", "cannot be used with"),
        ("export pull-secret --namespace Web", "`Web` isn't a valid name in Kubernetes"),
        (
            "export kubelet-config --target 2",
            "tokens of 123456789012.dkr.ecr.eu-west-1.amazonaws.com expire after 12 hours",
        ),
        ("export kubelet-config --upstream", "the environment variable NOT_SET isn't set"),
        ("export env --yes", "env takes no --yes"),
    ] {
        let run = cli.run(line).await;
        assert_eq!((run.code, run.stdout.as_str()), (2, ""), "{line} {run}");
        assert!(run.stderr.contains(why), "{line} {run}");
    }
}

#[cfg(unix)]
#[tokio::test]
async fn secrets_are_printed_to_a_terminal_only_on_request() {
    let list =
        "target: h.example/m\nimages: [nginx]\nregistries: {h.example: {username: me, password: {env: SECRET}}}\n";
    let cli = Cli::new().env("SECRET", "hunter2").file("mirror.yaml", list);
    for (kind, shown) in [("pull-secret", "dockerconfigjson"), ("kubelet-config", "hunter2")] {
        for flags in ["", "--json"] {
            let (code, seen) = cli.run_at_terminal(&format!("export {kind} {flags}")).await;
            assert_eq!(code, 2, "{kind}: {seen}");
            assert!(seen.contains("contains passwords, and stdout is a terminal"), "{kind}: {seen}");
            assert!(seen.contains("-o DIR") && !seen.contains("hunter2"), "{kind}: {seen}");
        }
        let (code, seen) = cli.run_at_terminal(&format!("export {kind} --yes")).await;
        assert!(code == 0 && seen.contains(shown), "{kind}: {seen}");
        let (code, seen) = cli.run_at_terminal(&format!("export {kind} -o out")).await;
        assert!(code == 0 && !seen.contains("hunter2"), "{kind}: {seen}");
    }
    // Files without secrets are printed.
    let (code, seen) = cli.run_at_terminal("export env --lock mirror.lock").await;
    assert!(code == 2 && seen.contains("the lock doesn't exist"), "{seen}");
}

/// kubernetes-validate checks each object against the schema of its kind, and refuses unknown keys.
#[tokio::test]
async fn kubernetes_objects_match_their_schemas() {
    let program = std::env::var_os("TRANSSHIP_TEST_KUBEVALIDATE").unwrap_or_else(|| "kubernetes-validate".into());
    let list = "targets: [h.example/m, 'g.example/m']\nimages: [nginx]\nregistries:\n  h.example: {username: me, password: {env: \
        SECRET}}\n  docker.io: {username: me, password: {env: SECRET}}\n";
    let cli = Cli::new().env("SECRET", "hunter2").file("mirror.yaml", list);
    for (flags, kinds) in [
        ("", &["Secret"][..]),
        ("--upstream --name hub", &["Secret"]),
        ("--namespace web --service-account default", &["Secret", "ServiceAccount"]),
    ] {
        let export = cli.run(&format!("export pull-secret -o out {flags}")).await;
        assert_eq!(export.code, 0, "{export}");
        let written = cli.read("out/pull-secret.yaml").expect("a file");
        for kind in kinds {
            assert!(written.contains(&format!("kind: {kind}\n")), "{written}");
        }
        let run = std::process::Command::new(&program).arg("--strict").arg(cli.path("out/pull-secret.yaml")).output();
        let Some(run) = installed("kubernetes-validate", run) else { return };
        let said = String::from_utf8_lossy(&run.stdout).into_owned() + &String::from_utf8_lossy(&run.stderr);
        assert!(run.status.success(), "{flags}: {said}{written}");
        // An unknown key would be reported.
        cli.write("wrong.yaml", written.replacen("kind: Secret\n", "kind: Secret\nunknown: 1\n", 1));
        let run = std::process::Command::new(&program).arg("--strict").arg(cli.path("wrong.yaml")).output();
        assert!(!run.expect("it ran before").status.success());
    }
}

/// kubectl reads each object as its type, and kustomize builds with the component.
#[tokio::test]
async fn kubectl_accepts_the_kubernetes_objects() {
    let Some(kubectl) = Program::kubectl() else { return };
    let list = "target: h.example/m\nimages: ['nginx:1.27', 'nginx:1-27', 'nginx:latest', 'quay.io/a/b:v1']\nregistries: {h.example: {username: me, password: {env: SECRET}}}\n";
    let pinned =
        ["docker.io/library/nginx:1.27", "docker.io/library/nginx:1-27", "docker.io/library/nginx", "quay.io/a/b:v1"];
    let cli = scene(
        list,
        &pinned.map(|source| if source.ends_with("nginx") { "docker.io/library/nginx:latest" } else { source }),
    );
    let cli = cli.env("SECRET", "hunter2");
    for line in ["export pull-secret -o out --namespace web --service-account default", "export kustomize -o transship"]
    {
        let run = cli.run(line).await;
        assert_eq!(run.code, 0, "{run}");
    }
    let read = kubectl.run(&cli.path(""), "label --local --dry-run=client -o json -f out/pull-secret.yaml a=b");
    assert!(read.contains("\"kubernetes.io/dockerconfigjson\"") && read.contains("\"imagePullSecrets\""), "{read}");

    let images = [
        "nginx",
        "nginx:1.27",
        "docker.io/nginx:1-27",
        "library/nginx:latest",
        "nginx:9.9",
        "nginx:1x27",
        "quay.io/a/b:v1",
        "quay.io/a/b:v2",
    ];
    let containers: String =
        images.iter().enumerate().map(|(i, image)| format!("  - {{name: c{i}, image: '{image}'}}\n")).collect();
    cli.write(
        "pod.yaml",
        format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: a}}\nspec:\n  containers:\n{containers}"),
    );
    cli.write("kustomization.yaml", "resources: [pod.yaml]\ncomponents: [transship]\n");
    let built = kubectl.run(&cli.path(""), "kustomize .");
    let built: Vec<&str> =
        built.lines().filter_map(|line| line.trim_start_matches([' ', '-']).strip_prefix("image: ")).collect();
    let hub = format!("h.example/m/docker.io/library/nginx@{D}");
    let quay = format!("h.example/m/quay.io/a/b@{D}");
    assert_eq!(built, [&hub, &hub, &hub, &hub, "nginx:9.9", "nginx:1x27", &quay, "quay.io/a/b:v2"]);
}
