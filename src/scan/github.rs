//! Workflows and actions of GitHub, also used by Gitea and Forgejo: `container`, `services`, `uses: docker://…`.

use std::path::Path;

use super::{File, Node, Scalar};

const SCHEME: &str = "docker://";

pub(super) fn is_named(path: &Path) -> bool {
    let text = path.to_string_lossy().replace('\\', "/");
    let is_yaml = text.ends_with(".yml") || text.ends_with(".yaml");
    let is_workflow = [".github", ".gitea", ".forgejo"].iter().any(|top| text.contains(&format!("{top}/workflows/")));
    let is_action = path.file_stem().is_some_and(|stem| stem == "action");
    is_yaml && (is_workflow || is_action)
}

/// Whether it has `jobs` with steps or a runner each.
pub(super) fn is_content(documents: &[Node]) -> bool {
    let [document] = documents else { return false };
    let jobs = document.get("jobs").map(Node::entries).unwrap_or_default();
    document.get("on").is_some() && jobs.iter().any(|(_, job)| job.get("runs-on").is_some())
}

pub(super) fn read(file: &mut File, documents: &[Node]) {
    for document in documents {
        for (_, job) in document.get("jobs").map(Node::entries).unwrap_or_default() {
            container(file, job.get("container"));
            for (_, service) in job.get("services").map(Node::entries).unwrap_or_default() {
                container(file, Some(service));
            }
            steps(file, job);
        }
        if let Some(runs) = document.get("runs") {
            runs.get("image").and_then(Node::scalar).into_iter().for_each(|image| prefixed(file, image));
            steps(file, runs);
        }
    }
}

fn steps(file: &mut File, job: &Node) {
    for step in job.get("steps").map(Node::items).unwrap_or_default() {
        step.get("uses").and_then(Node::scalar).into_iter().for_each(|uses| prefixed(file, uses));
    }
}

/// `container: IMAGE`, or `container: {image: IMAGE}`.
fn container(file: &mut File, node: Option<&Node>) {
    let Some(node) = node else { return };
    let scalar = node.scalar().or_else(|| node.get("image").and_then(Node::scalar));
    match scalar {
        Some(scalar) if scalar.value.starts_with(SCHEME) => prefixed(file, scalar),
        Some(scalar) if !scalar.is_null() => file.add_scalar(scalar),
        _ => {}
    }
}

/// A `docker://` image. Anything else is another action, or a Dockerfile.
fn prefixed(file: &mut File, scalar: &Scalar) {
    if scalar.value.starts_with(SCHEME) {
        file.add_from(scalar, SCHEME.len());
    }
}
