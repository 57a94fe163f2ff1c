//! containerd, podman, buildah and skopeo can't reach the sources, and pull under the original names by the exported
//! files.

use std::path::Path;
use std::process::{Command, Output};

use crate::support::containerd::{Containerd, no_way_out};
use crate::support::docker_registry::installed;
use crate::support::dockerd::Dockerd;
use crate::support::images::{Blob, Image, image};
use crate::support::proxy::Proxy;
use crate::support::scene::Scene;

const HUB: &str = "registries: {docker.io: {endpoint: 'http://SRC'}, quay.io: {endpoint: 'http://SRC'}}\n";

/// An image that can be unpacked: its layer is an empty archive.
fn real(name: &str) -> Image {
    let layer = Blob::new("application/vnd.oci.image.layer.v1.tar", vec![0; 1024]);
    let architecture = if std::env::consts::ARCH == "aarch64" { "arm64" } else { "amd64" };
    let config = serde_json::json!({
        "architecture": architecture, "os": "linux", "config": {"Labels": {"name": name}},
        "rootfs": {"type": "layers", "diff_ids": [layer.digest()]},
    });
    image(name).config(Blob::new("application/vnd.oci.image.config.v1+json", config.to_string())).blob(layer).build()
}

/// Mirrored images: `web:1` and those of `entries`.
async fn mirrored(entries: &str) -> (Scene, Image, Image) {
    let scene = Scene::new().await;
    let (web, app) = (real("web"), real("app"));
    web.push(&scene.source.inside("library/web"), "1").await;
    app.push(&scene.source.inside("team/app"), "v2").await;
    real("old").push(&scene.source.inside("team/app"), "v1").await;
    scene.write("mirror.yaml", &format!("target: DST/m\nimages:\n  - web:1\n{entries}{HUB}"));
    let sync = scene.cli.run("sync").await;
    assert_eq!(sync.code, 0, "{sync}");
    (scene, web, app)
}

#[tokio::test(flavor = "multi_thread")]
async fn containerd_pulls_under_the_original_name() {
    let proxy = Proxy::start("nobody", "none", &[]).await;
    let Some(containerd) = Containerd::start(&proxy.url("")) else { return };
    let (scene, web, app) = mirrored("  - quay.io/team/app:v2\n").await;
    let export = scene.cli.run("export containerd -o certs.d").await;
    assert_eq!(export.code, 0, "{export}");
    scene.clear();
    for (name, image) in [("docker.io/library/web:1", &web), ("quay.io/team/app:v2", &app)] {
        let pull = tokio::task::block_in_place(|| containerd.pull(&proxy.url(""), &scene.cli.path("certs.d"), name));
        assert!(pull.status.success(), "{name}: {}", String::from_utf8_lossy(&pull.stderr));
        assert_eq!(containerd.digest(name), image.manifest.digest().as_str());
    }
    assert_eq!(proxy.seen(), Vec::<String>::new(), "everything is pulled from the mirror");
    let missing = tokio::task::block_in_place(|| {
        containerd.pull(&proxy.url(""), &scene.cli.path("certs.d"), "docker.io/library/other:1")
    });
    assert!(!missing.status.success());
    assert_eq!(
        proxy.seen().first().map(String::as_str),
        Some("registry-1.docker.io:443"),
        "what the mirror lacks comes from upstream"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kubelet_pulls_under_the_original_name_through_containerd() {
    let proxy = Proxy::start("nobody", "none", &[]).await;
    let (scene, web, app) = mirrored("  - quay.io/team/app:v2\n").await;
    let export = scene.cli.run("export containerd -o certs.d").await;
    assert_eq!(export.code, 0, "{export}");
    let Some(containerd) = Containerd::with_cri(&proxy.url(""), &scene.cli.path("certs.d")) else { return };
    for (name, image) in [("docker.io/library/web:1", &web), ("quay.io/team/app:v2", &app)] {
        let pull = tokio::task::block_in_place(|| containerd.pull_by_cri(name));
        let Some(pull) = pull else { return };
        assert!(pull.status.success(), "{name}: {}", String::from_utf8_lossy(&pull.stderr));
        assert_eq!(containerd.digest_by_cri(name), image.manifest.digest().as_str());
    }
    assert_eq!(proxy.seen(), Vec::<String>::new(), "everything is pulled from the mirror");
}

#[tokio::test(flavor = "multi_thread")]
async fn dockerd_pulls_images_of_docker_hub_through_the_mirror() {
    let proxy = Proxy::start("nobody", "none", &[]).await;
    let scene = Scene::new().await;
    let web = real("web");
    web.push(&scene.source.inside("library/web"), "1").await;
    scene.write("mirror.yaml", &format!("target: DST\nlayout: '{{repository}}'\nimages: ['web:1']\n{HUB}"));
    let sync = scene.cli.run("sync").await;
    assert_eq!(sync.code, 0, "{sync}");
    let export = scene.cli.run("export docker -o etc").await;
    assert_eq!(export.code, 0, "{export}");
    let config = scene.cli.path("etc/daemon.json");
    let Some(dockerd) = tokio::task::block_in_place(|| Dockerd::start(&proxy.url(""), &config)) else { return };
    let pull = tokio::task::block_in_place(|| dockerd.run("pull -q web:1"));
    assert!(pull.status.success(), "{}", String::from_utf8_lossy(&pull.stderr));
    let digests = tokio::task::block_in_place(|| dockerd.run("image inspect --format {{.RepoDigests}} web:1"));
    let digests = String::from_utf8_lossy(&digests.stdout).into_owned();
    assert!(digests.contains(web.manifest.digest().as_str()), "{digests}");
    assert_eq!(proxy.seen(), Vec::<String>::new(), "everything is pulled from the mirror");
    let missing = tokio::task::block_in_place(|| dockerd.run("pull -q other:1"));
    assert!(!missing.status.success());
    assert!(proxy.seen().iter().any(|asked| asked == "registry-1.docker.io:443"), "{:?}", proxy.seen());
}

/// Runs a program that reads the exported file, and can reach other hosts only through `proxy`.
fn run(proxy: &Proxy, conf: &Path, folder: &Path, program: &str, line: &str) -> Option<Output> {
    let mut command = Command::new(program);
    command.args(line.split_whitespace()).env("CONTAINERS_REGISTRIES_CONF", conf).env("HOME", folder);
    installed(program, no_way_out(&mut command, &proxy.url("")).output())
}

#[tokio::test(flavor = "multi_thread")]
async fn podman_buildah_and_skopeo_pull_under_the_original_names() {
    let proxy = Proxy::start("nobody", "none", &[]).await;
    // One image of the repository has another name than the rest.
    let (scene, web, app) =
        mirrored("  - quay.io/team/app:v1\n  - {image: 'quay.io/team/app:v2', to: infra/app}\n").await;
    let export = scene.cli.run("export registries-conf -o conf").await;
    assert_eq!(export.code, 0, "{export}");
    let (conf, folder) = (scene.cli.path("conf/transship.conf"), scene.cli.path("home"));
    let store = format!("--root {0}/store --runroot {0}/run --storage-driver vfs", folder.display());
    let names = [("docker.io/library/web:1", &web), ("quay.io/team/app:v2", &app)];
    for (program, arguments) in [
        ("skopeo", format!("--registries-conf {} inspect --raw docker://", conf.display())),
        ("buildah", format!("{store} pull -q docker://")),
        ("podman", format!("{store} --cgroup-manager cgroupfs pull -q ")),
    ] {
        for (name, image) in names {
            let line = format!("{arguments}{name}");
            let output = tokio::task::block_in_place(|| run(&proxy, &conf, &folder, program, &line));
            let Some(output) = output else { return };
            assert!(output.status.success(), "{program} {line}: {}", String::from_utf8_lossy(&output.stderr));
            if program == "skopeo" {
                assert!(output.stdout[..] == image.manifest.bytes()[..], "{name}");
            }
        }
    }
    assert_eq!(proxy.seen(), Vec::<String>::new(), "everything is pulled from the mirror");
}
