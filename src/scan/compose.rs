//! Compose files: `services.NAME.image`, with the defaults of variables.

use std::path::{Path, PathBuf};

use super::{File, Node, dockerfile};

pub(super) fn is_named(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let is_yaml = name.ends_with(".yml") || name.ends_with(".yaml");
    let stem = name.split('.').next().unwrap_or_default();
    is_yaml && (stem == "compose" || stem.starts_with("docker-compose") || stem.starts_with("podman-compose"))
}

/// Whether it has `services` with an image or a build each, and no sign of Kubernetes.
pub(super) fn is_content(documents: &[Node]) -> bool {
    let [document] = documents else { return false };
    let services = document.get("services").map(Node::entries).unwrap_or_default();
    let is_service = |node: &Node| node.get("image").is_some() || node.get("build").is_some();
    document.get("apiVersion").is_none() && services.iter().any(|(_, service)| is_service(service))
}

pub(super) fn read(file: &mut File, documents: &[Node]) {
    let services = documents.iter().filter_map(|document| document.get("services")).flat_map(Node::entries);
    for (_, service) in services {
        contexts(file, service);
        inline(file, service);
        let Some(image) = service.get("image").and_then(Node::scalar).filter(|scalar| !scalar.is_null()) else {
            continue;
        };
        if service.get("build").is_some() {
            file.add_unresolved(image.start, image.value.clone(), "this service builds it");
        } else {
            file.add_scalar(image);
        }
    }
}

/// `build.dockerfile_inline`: a Dockerfile within this file, whose images are reported.
fn inline(file: &mut File, service: &Node) {
    const WHY: &str = "it is in an inline Dockerfile: move that to a separate file";
    let text = service.get("build").and_then(|build| build.get("dockerfile_inline")).and_then(Node::scalar);
    let Some(text) = text else { return };
    let mut inner = File::new(PathBuf::new(), String::new(), text.value.clone(), Vec::new());
    dockerfile::read(&mut inner);
    let (first, _) = file.position(text.start);
    // A literal block has the lines of its text, other scalars have not.
    let at = |line: usize| {
        let in_text = text.value.lines().nth(line - 1).map(str::trim);
        let start = file.lines.get(first + line - 2).copied();
        start.filter(|start| file.text[*start..].lines().next().map(str::trim) == in_text).unwrap_or(text.start)
    };
    let found = inner.found.into_iter().map(|found| (found.line, found.written, WHY.to_owned()));
    let unresolved = inner.unresolved.into_iter().map(|one| (one.line, one.text, one.why));
    let told: Vec<_> = found.chain(unresolved).map(|(line, written, why)| (at(line), written, why)).collect();
    told.into_iter().for_each(|(at, written, why)| file.add_unresolved(at, written, why));
}

/// `build.additional_contexts`: images that a build reads from.
fn contexts(file: &mut File, service: &Node) {
    const SCHEME: &str = "docker-image://";
    let Some(contexts) = service.get("build").and_then(|build| build.get("additional_contexts")) else { return };
    let named = contexts.entries().iter().map(|(_, node)| node);
    for scalar in named.chain(contexts.items()).filter_map(Node::scalar) {
        if let Some(at) = scalar.value.find(SCHEME) {
            file.add_from(scalar, at + SCHEME.len());
        }
    }
}
