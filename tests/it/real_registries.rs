//! Mirroring between third-party registries, read back by third-party clients.

use std::path::Path;

use transship::oci::Digest;

use crate::support::cli::Cli;
use crate::support::docker_registry::{DockerRegistry, Settings, installed};
use crate::support::images::{Image, ZSTD_LAYER, image, index, multi_platform};
use crate::support::registry::Registry;
use crate::support::stores::registry_target;
use crate::support::tools::{buildah, raw, run};

/// Builds an image of busybox for two architectures and pushes it to `reference`.
fn build_busybox(folder: &Path, reference: &str) -> Option<()> {
    let root = folder.join("root");
    std::fs::create_dir_all(root.join("bin")).expect("a folder");
    installed("/bin/busybox", std::fs::copy("/bin/busybox", root.join("bin/busybox")))?;
    std::os::unix::fs::symlink("busybox", root.join("bin/sh")).expect("a link");
    buildah(folder, &["manifest", "create", "list"])?;
    for architecture in ["amd64", "arm64"] {
        let container = buildah(folder, &["from", "--arch", architecture, "scratch"])?;
        buildah(folder, &["add", "-q", &container, root.to_str()?, "/"])?;
        buildah(folder, &["config", "--os", "linux", "--arch", architecture, "--cmd", r#"["/bin/sh"]"#, &container])?;
        buildah(folder, &["commit", "-q", "--format", "oci", "--timestamp", "0", "--manifest", "list", &container])?;
    }
    let to = format!("docker://{reference}");
    buildah(folder, &["manifest", "push", "-q", "--all", "--format", "oci", "--tls-verify=false", "list", &to])?;
    Some(())
}

#[tokio::test]
async fn a_real_image_arrives_byte_for_byte_and_runs() {
    let (Some(source), Some(target)) = (DockerRegistry::start(), DockerRegistry::start()) else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let from = format!("{}/library/busybox", source.name());
    if build_busybox(folder.path(), &format!("{from}:1.35")).is_none() {
        return;
    }
    let cli = Cli::new().file("mirror.yaml", format!("target: {}/mirror\nimages:\n  - {from}:1.35\n", target.name()));
    let sync = cli.run("sync").await;
    assert_eq!(sync.code, 0, "{sync}");

    let to = format!("{}/mirror/{}", target.name(), from.replace(':', "-"));
    let Some(index) = raw(&format!("{from}:1.35")) else { return };
    assert_eq!(Some(&index), raw(&format!("{to}:1.35")).as_ref());
    let parsed: serde_json::Value = serde_json::from_slice(&index).expect("JSON");
    let children = parsed["manifests"].as_array().expect("an index");
    assert_eq!(children.len(), 2);
    for child in children {
        let digest = child["digest"].as_str().expect("a digest");
        assert_eq!(raw(&format!("{from}@{digest}")), raw(&format!("{to}@{digest}")));
    }
    let Some(container) = buildah(folder.path(), &["from", "--tls-verify=false", &format!("docker://{to}:1.35")])
    else {
        return;
    };
    let says = buildah(folder.path(), &["run", "--isolation", "chroot", &container, "/bin/sh", "-c", "echo it runs"]);
    assert_eq!(says.as_deref(), Some("it runs"));
}

/// Thirty images of every common kind.
fn corpus() -> Vec<(String, Image)> {
    let zstd = image("zstd").layer_of(ZSTD_LAYER, 5000).layer(3000).build();
    let mixed = index()
        .child("linux/amd64", image("oci part").build())
        .attested()
        .child("linux/arm64", image("docker part").docker().layer(7000).build())
        .child("linux/arm/v7", zstd.clone())
        .nested(multi_platform("inner", &["linux/s390x"]))
        .annotation("org.example", "kept as it is")
        .build();
    let mut corpus = vec![
        ("odd/mixed".to_owned(), mixed),
        ("odd/zstd".to_owned(), zstd),
        ("odd/empty-layer".to_owned(), image("empty").layer(0).layer(100).build()),
        ("odd/config".to_owned(), image("odd").config_type("application/vnd.example.odd+json").build()),
        ("odd/artifact".to_owned(), image("artifact").artifact("application/vnd.example.thing").build()),
        ("odd/no-layers-shared".to_owned(), image("docker").docker().shared_layer("docker base", 50_000).build()),
    ];
    corpus.extend((0..24).map(|i| {
        let image = match i % 3 {
            0 => multi_platform(&format!("app{i}"), &["linux/amd64", "linux/arm64"]),
            1 => image(&format!("app{i}")).shared_layer("base", 200_000).layer(20_000).build(),
            _ => image(&format!("app{i}")).docker().shared_layer("docker base", 50_000).layer(10_000).build(),
        };
        (format!("team{}/app{i}", i % 4), image)
    }));
    corpus
}

#[tokio::test]
async fn a_corpus_of_thirty_images_arrives_byte_for_byte() {
    let (Some(source), Some(target)) = (DockerRegistry::start(), DockerRegistry::start()) else { return };
    let corpus = corpus();
    let mut list = format!("target: {}/mirror\nlayout: \"{{repository}}\"\nimages:\n", target.name());
    for (path, image) in &corpus {
        image.push(&*registry_target(&source.repository(path)), "v1").await;
        list.push_str(&format!("  - {}/{path}:v1\n", source.name()));
    }
    let cli = Cli::new().file("mirror.yaml", list);
    let sync = cli.run("sync --json").await;
    assert_eq!(sync.code, 0, "{sync}");
    assert_eq!(sync.json()["totals"]["images"]["copied"], 30, "{sync}");
    for (path, image) in &corpus {
        let mirrored = target.repository(&format!("mirror/{path}"));
        image.assert_in(&*registry_target(&mirrored), "v1").await;
        for manifest in image.manifests() {
            let Some(read) = raw(&format!("{mirrored}@{}", manifest.digest())) else { return };
            assert!(read[..] == manifest.bytes()[..], "{path} {}", manifest.digest());
        }
        let Some(read) = raw(&format!("{mirrored}:v1")) else { return };
        assert!(read[..] == image.manifest.bytes()[..], "{path}");
    }
}

#[tokio::test]
async fn a_manifest_without_config_is_copied() {
    // docker-registry refuses such a manifest, so a lenient registry is used.
    let (source, target) = (Registry::lenient().await, Registry::lenient().await);
    let artifact = image("bare").without_config().layer(500).build();
    artifact.push(&source.inside("bare"), "1").await;
    let list =
        format!("target: {}\nlayout: \"{{repository}}\"\nimages: [\"{}/bare:1\"]\n", target.name(), source.name());
    let sync = Cli::new().file("mirror.yaml", list).run("sync").await;
    assert_eq!(sync.code, 0, "{sync}");
    artifact.assert_in(&target.inside("bare"), "1").await;
}

#[tokio::test]
async fn passwords_and_a_private_ca_work_on_both_sides() {
    let user = Some(("robot$mirror", "p4ss"));
    let (Some(source), Some(target)) = (
        DockerRegistry::with(Settings { user, ..Settings::default() }),
        DockerRegistry::with(Settings { user, tls: true, ..Settings::default() }),
    ) else {
        return;
    };
    let app = image("app").layer(100_000).build();
    let cli = Cli::new().env("REGISTRY_PASSWORD", "p4ss").file("secret", "p4ss\n");
    let login = format!(
        "registries:\n  {}: {{username: robot$mirror, password: {{env: REGISTRY_PASSWORD}}}}\n  \
         {}: {{username: robot$mirror, password: {{file: secret}}, ca: {}}}\n",
        source.name(),
        target.name(),
        target.ca().display()
    );
    push_with_skopeo(&source, &app).await;
    let list =
        format!("target: {}/m\nlayout: \"{{name}}\"\nimages: [\"{}/app:1\"]\n{login}", target.name(), source.name());
    cli.write("mirror.yaml", &list);
    let sync = cli.run("sync -vvv").await;
    assert_eq!(sync.code, 0, "{sync}");
    assert!(!sync.to_string().contains("p4ss"), "a secret is shown: {sync}");
    let to = format!("docker://{}/m/app:1", target.name());
    let cert = target.ca();
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::copy(cert, folder.path().join("ca.crt")).expect("a copy");
    let certificates = folder.path().to_str().expect("UTF-8");
    let read = run("skopeo", &["inspect", "--raw", "--creds", "robot$mirror:p4ss", "--cert-dir", certificates, &to]);
    let Some(read) = read else { return };
    assert!(read.stdout[..] == app.manifest.bytes()[..]);

    cli.write("secret", "wrong");
    cli.write("mirror.yaml", list.replace("/m\n", "/other\n"));
    let refused = cli.run("sync").await;
    assert_eq!(refused.code, 1, "{refused}");
    assert!(refused.stdout.contains("hint: "), "{refused}");
}

/// Puts `image` into a registry that requires a password, through one that doesn't.
async fn push_with_skopeo(registry: &DockerRegistry, image: &Image) {
    let open = Registry::start().await;
    image.push(&open.inside("app"), "1").await;
    let (from, to) = (format!("docker://{}/app:1", open.name()), format!("docker://{}/app:1", registry.name()));
    tokio::task::spawn_blocking(move || {
        run(
            "skopeo",
            &[
                "copy",
                "-q",
                "--preserve-digests",
                "--src-tls-verify=false",
                "--dest-tls-verify=false",
                "--dest-creds",
                "robot$mirror:p4ss",
                &from,
                &to,
            ],
        )
    })
    .await
    .expect("it ran");
}

#[tokio::test]
async fn other_clients_pull_a_filtered_image() {
    let (Some(source), Some(target)) = (DockerRegistry::start(), DockerRegistry::start()) else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let from = format!("{}/library/busybox", source.name());
    if build_busybox(folder.path(), &format!("{from}:1.35")).is_none() {
        return;
    }
    let list = format!(
        "target: {}/mirror\nlayout: \"{{name}}\"\nimages:\n  - {{image: \"{from}:1.35\", platforms: [linux/amd64]}}\n",
        target.name()
    );
    let cli = Cli::new().file("mirror.yaml", list);
    let sync = cli.run("sync --json").await;
    assert_eq!(sync.code, 0, "{sync}");
    let report = sync.json();
    let mirrored = report["images"][0]["mirrored"].as_str().expect("another digest");

    let to = format!("{}/mirror/busybox:1.35", target.name());
    let Some(index) = raw(&to) else { return };
    assert_eq!(Digest::of(&index).as_str(), mirrored);
    assert!(cli.read("mirror.lock").is_some_and(|lock| lock.contains(&format!("mirrored: {mirrored}"))));
    let parsed: serde_json::Value = serde_json::from_slice(&index).expect("JSON");
    let children = parsed["manifests"].as_array().expect("an index");
    assert_eq!((children.len(), &children[0]["platform"]["architecture"]), (1, &"amd64".into()));

    // A copy of the whole image keeps its digest.
    let layout = format!("oci:{}:copy", folder.path().join("layout").display());
    let reference = format!("docker://{to}");
    let copy = ["copy", "-q", "--all", "--preserve-digests", "--src-tls-verify=false", &reference, &layout];
    if run("skopeo", &copy).is_none() {
        return;
    }
    let blob = folder.path().join("layout/blobs/sha256").join(mirrored.trim_start_matches("sha256:"));
    assert_eq!(std::fs::read(blob).expect("the index is in the layout"), index);
    let pulled = buildah(folder.path(), &["pull", "-q", "--arch", "amd64", "--tls-verify=false", &reference]);
    assert!(pulled.is_none_or(|image| !image.is_empty()));
}
