//! The images of the demo, read by skopeo, umoci and buildah: they can be unpacked and run.

use std::path::Path;

use crate::support::cli::Cli;
use crate::support::tools::{buildah, run};

/// Go's name for the architecture of this machine.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "aarch64" => "arm64",
        _ => "amd64",
    }
}

/// The files below `folder`, with their sizes.
fn files(folder: &Path) -> Vec<(String, u64)> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).expect("a folder").map(|entry| entry.expect("an entry")) {
            let (path, meta) = (entry.path(), entry.metadata().expect("a file"));
            if meta.is_dir() {
                folders.push(path);
            } else {
                found.push((path.strip_prefix(folder).expect("below").display().to_string(), meta.len()));
            }
        }
    }
    found.sort();
    found
}

#[tokio::test]
async fn the_demo_image_can_be_unpacked_and_run() {
    let cli = Cli::new();
    std::fs::create_dir(cli.path("tmp")).expect("a folder");
    let temporary = cli.path("tmp");
    let cli = cli.env("TMPDIR", temporary);
    let (_running, said) = cli.started("demo --keep", "Kept: ").await;
    let target = said.lines().find_map(|line| line.trim().strip_prefix("target: ")).expect("the list names its target");
    let nginx = format!("docker://{target}/docker.io/library/nginx:1.27");
    let folder = cli.path("work");
    std::fs::create_dir(&folder).expect("a folder");

    // skopeo copies each platform into a layout, umoci unpacks it.
    for architecture in ["amd64", "arm64"] {
        let layout = format!("{}:{architecture}", folder.join("layout").display());
        let to = format!("oci:{layout}");
        let copy = ["--override-arch", architecture, "copy", "-q", "--src-tls-verify=false", &nginx, &to];
        if run("skopeo", &copy).is_none() {
            return;
        }
        let bundle = folder.join(architecture);
        let unpack = ["unpack", "--rootless", "--image", &layout, bundle.to_str().expect("UTF-8")];
        if run("umoci", &unpack).is_none() {
            return;
        }
        let found = files(&bundle.join("rootfs"));
        let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["etc/os-release", "usr/bin/demo", "usr/lib/base", "usr/lib/own"]);
        assert!(found[2].1 == 3_000_000 && found[3].1 == 600_000, "{found:?}");
        let release = std::fs::read_to_string(bundle.join("rootfs/etc/os-release")).expect("a file");
        assert_eq!(release, "ID=debian\n");
    }

    // buildah checks the unpacked files against the configuration, and runs the image.
    let Some(container) = buildah(&folder, &["from", "--tls-verify=false", &nginx]) else { return };
    let says = buildah(&folder, &["run", "--isolation", "chroot", &container, "/usr/bin/demo"]);
    let expected = format!("library/nginx:1.27 of transship's demo runs on {}", architecture());
    assert_eq!(says, Some(expected));
}
