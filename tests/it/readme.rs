//! The commands of README.md, word for word, lead to a verified mirror in a real registry.

use std::path::Path;

use crate::support::cli::{Cli, Run};
use crate::support::docker_registry::DockerRegistry;
use crate::support::images::{Image, image, multi_platform};
use crate::support::registry::Registry;
use crate::support::stores::registry_target;

/// The registry in the examples of the README.
const EXAMPLE: &str = "localhost:5000";

/// The commands of a section, without their comments.
fn commands(heading: &str) -> Vec<String> {
    let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).expect("the README");
    let (_, section) = readme.split_once(&format!("\n## {heading}\n")).expect("the section");
    let lines = section.lines().take_while(|line| !line.starts_with("## ")).filter(|line| line.starts_with("    "));
    lines.map(|line| line.split(" #").next().unwrap_or_default().trim().to_owned()).collect()
}

/// Stand-ins for Docker Hub and quay.io, each with an image that the README names.
struct Upstream {
    registry: Registry,
    images: Vec<(&'static str, &'static str, Image)>,
}

impl Upstream {
    async fn start() -> Self {
        let registry = Registry::start().await;
        let nginx = multi_platform("nginx", &["linux/amd64", "linux/arm64"]);
        let prometheus = image("prometheus").layer(200_000).build();
        let images =
            vec![("docker.io/library/nginx", "1.27", nginx), ("quay.io/prometheus/prometheus", "v2.55.1", prometheus)];
        for (name, tag, image) in &images {
            let (_, path) = name.split_once('/').expect("a host and a path");
            image.push(&registry.inside(path), tag).await;
        }
        Self { registry, images }
    }

    /// A new user has the internet; the test appends the addresses of the stand-ins.
    fn reach(&self, cli: &Cli) {
        let list = cli.read("mirror.yaml").expect("init has written it");
        let at = format!("{{endpoint: \"http://{}\"}}", self.registry.name());
        cli.write("mirror.yaml", format!("{list}\nregistries:\n  docker.io: {at}\n  quay.io: {at}\n"));
    }
}

/// Runs a command of the README, with `target` in place of its registry.
async fn run(cli: &Cli, command: &str, target: &DockerRegistry) -> Run {
    let words = command.strip_prefix("transship ").unwrap_or_else(|| panic!("not one of transship: {command}"));
    let run = cli.run(&words.replace(EXAMPLE, target.name().as_str())).await;
    assert_eq!(run.code, 0, "{command}: {run}");
    run
}

#[tokio::test]
async fn five_commands_lead_to_a_verified_mirror() {
    let Some(target) = DockerRegistry::start() else { return };
    let upstream = Upstream::start().await;
    let commands = commands("A mirror in five commands");
    assert_eq!(commands.len(), 5, "{commands:#?}");
    // That has built the binary that runs here.
    assert_eq!(commands[0], "cargo install --path .");
    let cli = Cli::new();
    run(&cli, &commands[1], &target).await;
    upstream.reach(&cli);
    for command in &commands[2..4] {
        run(&cli, command, &target).await;
    }
    let verified = run(&cli, &commands[4], &target).await;
    assert!(commands[4].starts_with("transship verify") && verified.stdout.contains("2 images"), "{verified}");
    for (name, tag, image) in &upstream.images {
        let there = registry_target(&target.repository(&format!("mirror/{name}")));
        image.assert_in(there.as_ref(), tag).await;
    }
}

#[tokio::test]
async fn five_commands_lead_from_files_to_the_mirror_and_back() {
    let Some(target) = DockerRegistry::start() else { return };
    let upstream = Upstream::start().await;
    let commands = commands("From your files to the mirror and back, in five commands");
    assert_eq!(commands.len(), 5, "{commands:#?}");
    let cli = Cli::new().file("deploy/Dockerfile", "FROM quay.io/prometheus/prometheus:v2.55.1\n");
    run(&cli, &commands[0], &target).await;
    upstream.reach(&cli);
    for command in &commands[1..4] {
        run(&cli, command, &target).await;
    }
    let mirrored = cli.read("deploy/Dockerfile").expect("it is still there");
    let (name, tag, image) = &upstream.images[1];
    assert_eq!(mirrored, format!("FROM {}/mirror/{name}:{tag}@{}\n", target.name(), image.digest()));
    let system = "/etc/containerd";
    assert!(commands[4].contains(system), "{}", commands[4]);
    let here = cli.path("containerd");
    run(&cli, &commands[4].replace(system, &here.display().to_string()), &target).await;
    let hosts = cli.read("containerd/certs.d/quay.io/hosts.toml").expect("export has written it");
    assert!(hosts.contains(target.name().as_str()), "{hosts}");
}
