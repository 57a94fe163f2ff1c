//! Kubernetes manifests: objects of every kind, lists of them, any number in a file.
//!
//! References are found by the shapes that all kinds of containers share, so that custom resources need no table.
//! `status` and `metadata` are skipped because they contain no image to pull.

use super::shapes::{self, Context};
use super::{File, Node};

const CONTEXT: Context<'_> =
    Context { app_version: None, is_strict: false, skip: &["apiVersion", "kind", "metadata", "status"] };

pub(super) fn is_content(documents: &[Node]) -> bool {
    documents.iter().any(is_object)
}

fn is_object(node: &Node) -> bool {
    node.get("apiVersion").and_then(Node::text).is_some() && node.get("kind").and_then(Node::text).is_some()
}

pub(super) fn read(file: &mut File, documents: &[Node]) {
    documents.iter().for_each(|document| object(file, document));
}

fn object(file: &mut File, node: &Node) {
    let kind = node.get("kind").and_then(Node::text).unwrap_or_default();
    match kind {
        // A schema describes fields; it contains no images.
        "CustomResourceDefinition" => {}
        // They may contain anything, for any program.
        "ConfigMap" | "Secret" => {
            for (key, value) in ["data", "stringData"].iter().filter_map(|key| node.get(key)).flat_map(Node::entries) {
                let Some(scalar) = value.scalar() else { continue };
                shapes::nested(file, scalar);
                if key.value.eq_ignore_ascii_case("image") && !scalar.value.contains('\n') {
                    file.add_unresolved(
                        scalar.start,
                        scalar.value.clone(),
                        format!("a {kind} may use it for anything"),
                    );
                }
            }
        }
        _ if kind.ends_with("List") && node.get("items").is_some() => {
            node.get("items").into_iter().flat_map(Node::items).for_each(|item| object(file, item));
        }
        _ => shapes::walk(file, node, &CONTEXT),
    }
}
