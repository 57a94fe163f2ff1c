//! Pipelines of GitLab: `image` and `services`, for all jobs and for each.

use std::path::Path;

use super::{File, Node};

pub(super) fn is_named(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let is_yaml = name.ends_with(".yml") || name.ends_with(".yaml");
    let is_included = path.components().any(|part| part.as_os_str() == ".gitlab");
    is_yaml && (is_included || name.trim_end_matches(".yml").trim_end_matches(".yaml").ends_with("gitlab-ci"))
}

pub(super) fn read(file: &mut File, documents: &[Node]) {
    for document in documents {
        images(file, document);
        document.entries().iter().filter(|(_, job)| job.is_map()).for_each(|(_, job)| images(file, job));
    }
}

fn images(file: &mut File, job: &Node) {
    let services = job.get("services").map(Node::items).unwrap_or_default();
    for node in job.get("image").into_iter().chain(services) {
        let scalar = node.scalar().or_else(|| node.get("name").and_then(Node::scalar));
        if let Some(scalar) = scalar.filter(|scalar| !scalar.is_null()) {
            file.add_scalar(scalar);
        }
    }
}
