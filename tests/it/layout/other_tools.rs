//! Layouts read and written by other tools: skopeo, buildah and umoci.

use std::path::Path;
use std::process::{Command, Output};

use crate::support::cli::Cli;
use crate::support::docker_registry::{DockerRegistry, installed};
use crate::support::images::multi_platform;
use crate::support::layout::{assert_valid, inside, names};
use crate::support::registry::Registry;

/// Runs a program to its end in `folder`; `None` if it isn't installed.
fn run(folder: &Path, program: &str, arguments: &[&str]) -> Option<Output> {
    let output = installed(program, Command::new(program).args(arguments).current_dir(folder).output())?;
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {error}");
    Some(output)
}

/// buildah with a separate store in `folder`.
fn buildah(folder: &Path, arguments: &[&str]) -> Option<String> {
    let mut all = vec!["--root", "store", "--runroot", "run", "--storage-driver", "vfs"];
    all.extend(arguments);
    Some(String::from_utf8(run(folder, "buildah", &all)?.stdout).expect("UTF-8").trim().to_owned())
}

/// An image with a real layer, pushed to `reference`.
fn build(folder: &Path, reference: &str) -> Option<()> {
    std::fs::create_dir_all(folder.join("root/etc")).expect("a folder");
    std::fs::write(folder.join("root/etc/motto"), "as it was\n").expect("a file");
    let container = buildah(folder, &["from", "scratch"])?;
    buildah(folder, &["add", "-q", &container, "root", "/"])?;
    let image = buildah(folder, &["commit", "-q", "--format", "oci", "--timestamp", "0", &container])?;
    buildah(folder, &["push", "-q", "--tls-verify=false", &image, reference])?;
    Some(())
}

#[tokio::test]
async fn skopeo_buildah_and_umoci_read_our_layouts() {
    let Some(source) = DockerRegistry::start() else { return };
    let cli = Cli::new();
    let folder = cli.path("");
    let reference = format!("{}/library/app:1.27", source.name());
    if build(&folder, &format!("docker://{reference}")).is_none() {
        return;
    }
    let list = multi_platform("list", &["linux/amd64", "linux/arm64"]);
    list.push(&*crate::support::stores::registry_target(&source.repository("list")), "1").await;
    cli.write("mirror.yaml", format!("target: oci:out\nimages:\n  - {reference}\n  - {}/list:1\n", source.name()));
    let sync = cli.run("sync").await;
    assert_eq!(sync.code, 0, "{sync}");
    assert_valid(&cli.path("out"));

    let raw =
        |reference: &str| Some(run(&folder, "skopeo", &["inspect", "--raw", "--tls-verify=false", reference])?.stdout);
    let Some(manifest) = raw(&format!("docker://{reference}")) else { return };
    assert_eq!(raw(&format!("oci:out:{reference}")), Some(manifest.clone()));
    assert_eq!(raw(&format!("oci:out:{}/list:1", source.name())).as_deref(), Some(&list.manifest.bytes()[..]));
    run(&folder, "skopeo", &["copy", "-q", &format!("oci:out:{reference}"), "dir:copied"]);
    assert_eq!(std::fs::read(cli.path("copied/manifest.json")).ok(), Some(manifest));

    let pulled = buildah(&folder, &["pull", "-q", &format!("oci:out:{reference}")]);
    assert!(pulled.is_some_and(|id| !id.is_empty()));
    for image in [format!("out:{reference}"), "short:1.27".to_owned()] {
        if image.starts_with("short") {
            let copy = cli.run(&format!("copy oci:out:{reference} oci:short:1.27")).await;
            assert_eq!(copy.code, 0, "{copy}");
        }
        let bundle = image.replace(['/', ':'], "_");
        if run(&folder, "umoci", &["unpack", "--rootless", "--image", &image, &bundle]).is_none() {
            return;
        }
        assert_eq!(cli.read(&format!("{bundle}/rootfs/etc/motto")).as_deref(), Some("as it was\n"), "{image}");
    }
}

#[tokio::test]
async fn layouts_of_skopeo_buildah_and_umoci_are_read() {
    let cli = Cli::new();
    let folder = cli.path("");
    if build(&folder, "oci:buildah:app:1").is_none() {
        return;
    }
    for (from, to) in
        [("oci:buildah:app:1", "oci:skopeo:docker.io/library/app:1"), ("oci:buildah:app:1", "oci:nameless")]
    {
        if run(&folder, "skopeo", &["copy", "-q", "--preserve-digests", from, to]).is_none() {
            return;
        }
    }
    std::fs::create_dir(cli.path("umoci")).expect("a folder");
    for arguments in [["init", "--layout", "umoci/l"], ["new", "--image", "umoci/l:latest"]] {
        if run(&folder, "umoci", &arguments).is_none() {
            return;
        }
    }
    let target = Registry::start().await;
    let mut found = Vec::new();
    for (source, name) in [
        ("oci:buildah", "buildah:x"),
        ("oci:buildah:app:1", "buildah:y"),
        ("oci:skopeo:app:1", "skopeo:x"),
        ("oci:nameless", "nameless:x"),
        ("oci:umoci/l", "umoci"),
    ] {
        let copy = cli.run(&format!("copy {source} {}/{name} --json", target.name())).await;
        assert_eq!(copy.code, 0, "{source}: {copy}");
        found.push(copy.json()["images"][0]["digest"].as_str().expect("a digest").to_owned());
    }
    assert!(found[..4].iter().all(|digest| *digest == found[0]), "{found:?}");
    assert_ne!(found[4], found[0]);

    // Written into a layout that skopeo created, and read by skopeo.
    let list = multi_platform("list", &["linux/amd64"]);
    list.push(&*inside(&cli.path("skopeo"), "docker.io/library/list"), "1").await;
    assert_eq!(names(&cli.path("skopeo")), ["docker.io/library/app:1", "docker.io/library/list:1"]);
    assert_valid(&cli.path("skopeo"));
    let Some(raw) = run(&folder, "skopeo", &["inspect", "--raw", "oci:skopeo:docker.io/library/app:1"]) else { return };
    assert_eq!(transship::oci::Digest::of(&raw.stdout).as_str(), found[0]);
    // The list gives the images, so that a whole layout can be read.
    let text = format!("target: {}/m\nimages: [app:1]\n", target.name());
    cli.write("mirror.yaml", text);
    let sync = cli.run("sync --from oci:skopeo --json").await;
    assert_eq!((sync.code, &sync.json()["images"][0]["digest"]), (0, &found[0].as_str().into()), "{sync}");
}
