//! `init [IMAGE…] --target T`: writes a first mirror.yaml, with comments for the next steps. Sends no request.
//!
//! The text is validated like any mirror.yaml before it is written.

use std::io::{ErrorKind, Write as _};
use std::path::Path;

use anyhow::Context as _;

use super::Unable;
use super::detour::target;
use super::session::variable;
use crate::cli::{Global, Init};
use crate::config::Config;
use crate::oci::{Reference, Registry, Service};

/// The image in the list if none is named: a list must not be empty.
const EXAMPLE: &str = "nginx:1.27";

/// Every key, with comments.
const FULL: &str = include_str!("../../mirror.yaml.example");

const MORE_IMAGES: &str = r#"  # Several tags of one repository:
  # - image: docker.io/library/alpine
  #   tags: ["3.20", "3.21"]
  # The newest two tags that a rule selects:
  # - image: quay.io/prometheus/prometheus
  #   select: {semver: ">=2.50, <4", exclude: ["*-rc*"], latest: 2}
  # Pinned by this list, even if the tag moves:
  # - ghcr.io/OWNER/NAME:TAG@sha256:DIGEST
"#;

const HUB: &str = "\
#   docker.io:                               # a login allows more pulls
#     username: {env: HUB_USER}
#     password: {env: HUB_TOKEN}
#     mirrors: [mirror.gcr.io, public.ecr.aws/docker]   # tried first, by digest; reads there cost no pull
";

const ECR: &str = "\
#   TARGET:
#     ecr:                                   # credentials: the AWS chain
#       profile: prod
#       create:                              # false: none is ever created
#         tag_mutability: IMMUTABLE
#         scan_on_push: true
";

const OTHER: &str = "\
#   TARGET:
#     username: {env: MIRROR_USER}           # write robot$mirror as it is
#     password: {env: MIRROR_PASSWORD}       # or {file: /run/secrets/mirror}
#     ca: ./ca.pem                           # your certificate authority
";

/// The file itself for `-`; otherwise a message about the written file.
pub(super) fn run(global: &Global, arguments: &Init) -> anyhow::Result<String> {
    if arguments.full {
        return Ok(FULL.to_owned());
    }
    let path = global.config();
    let text = compose(arguments)?;
    Config::read(&text, path, &variable).context("the arguments don't make a valid mirror.yaml")?;
    if path == Path::new("-") {
        return Ok(text);
    }
    write(path, &text)?;
    if global.quiet {
        return Ok(String::new());
    }
    let config = global.config.as_ref().map(|path| format!(" -c {}", path.display())).unwrap_or_default();
    Ok(format!("wrote {}; next: transship check{config}\n", path.display()))
}

fn compose(arguments: &Init) -> anyhow::Result<String> {
    let target = target(arguments.target.as_deref().unwrap_or_default())?;
    let mut images = String::new();
    for image in &arguments.images {
        let _: Reference = image.parse().map_err(|error| {
            let hint = "an image is [HOST/]REPOSITORY[:TAG][@DIGEST], such as nginx:1.27";
            Unable::error(format!("`{image}` isn't an image: {error}"), hint)
        })?;
        images.push_str(&format!("  - {}\n", scalar(image)));
    }
    if images.is_empty() {
        images = format!("  - {EXAMPLE}\n");
    }
    let nginx = target.place(&"nginx".parse()?, "docker.io/library/nginx")?;
    Ok(format!(
        "# The images to mirror, and their target. Next: transship check, plan, sync.\n\
         # Every key: `transship init --full`, or `transship schema`.\n\n\
         # REGISTRY[/PREFIX], or oci:DIR: nginx becomes {nginx}\n\
         target: {}\n\n\
         images:\n{images}{MORE_IMAGES}\n\
         # Settings by registry. Without credentials here, those of docker login and\n\
         # podman login are used.\n\
         # registries:\n{}",
        scalar(&target.to_string()),
        registries(&target.registry)
    ))
}

/// Settings that a user of this registry is likely to need.
fn registries(target: &Registry) -> String {
    if !target.is_host() {
        return HUB.to_owned();
    }
    let own = match Service::of(target) {
        Service::Ecr { .. } => ECR,
        Service::DockerHub => return HUB.to_owned(),
        Service::Harbor | Service::Other => OTHER,
    };
    format!("{HUB}{}", own.replace("TARGET", &scalar(target.as_str())))
}

/// The text unquoted if YAML parses it as a string, which is true for most names; quoted otherwise.
fn scalar(text: &str) -> String {
    const WORDS: [&str; 9] = ["null", "true", "false", "yes", "no", "on", "off", "y", "n"];
    let is_plain = text.starts_with(|c: char| c.is_ascii_alphabetic()) && !WORDS.contains(&text);
    // Neither quotes nor backslashes occur in references.
    if is_plain { text.to_owned() } else { format!("\"{text}\"") }
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    let created = std::fs::OpenOptions::new().write(true).create_new(true).open(path);
    let mut file = match created {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            let hint = "add to it, or write another file with --config FILE; `-c -` only prints it";
            return Err(Unable::error(format!("{} exists already", path.display()), hint));
        }
        Err(error) => return Err(anyhow::Error::new(error).context(format!("can't write {}", path.display()))),
    };
    file.write_all(text.as_bytes()).with_context(|| format!("can't write {}", path.display()))
}
