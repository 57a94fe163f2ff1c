//! OCI image layouts in tests: through the store, and by reading the files as the specification defines them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;
use transship::oci::{Digest, Registry, Repository};
use transship::store::layout::LayoutStores;
use transship::store::{Stores, Target};

/// The entry called `name` in the layout at `dir`.
pub(crate) fn inside(dir: &Path, name: &str) -> Arc<dyn Target> {
    let layout = Registry::in_directory(dir).expect("UTF-8");
    let repository = Repository::new(layout, name).expect("a name");
    LayoutStores::new(4 << 20).target(&repository).expect("a target")
}

/// The file of the blob `digest`.
pub(crate) fn file(dir: &Path, digest: &Digest) -> PathBuf {
    dir.join("blobs").join(digest.as_str().replace(':', "/"))
}

/// The entries of index.json.
pub(crate) fn entries(dir: &Path) -> Vec<Value> {
    let index: Value =
        serde_json::from_slice(&std::fs::read(dir.join("index.json")).expect("index.json")).expect("JSON");
    index["manifests"].as_array().expect("a list of manifests").clone()
}

/// The names of the entries, in order; `-` if unnamed.
pub(crate) fn names(dir: &Path) -> Vec<String> {
    let name =
        |entry: &Value| entry["annotations"]["org.opencontainers.image.ref.name"].as_str().unwrap_or("-").to_owned();
    entries(dir).iter().map(name).collect()
}

/// Fails unless `dir` is a valid layout with all content of every entry, and each file matches its digest.
/// Returns the digests of that content.
pub(crate) fn assert_valid(dir: &Path) -> BTreeSet<String> {
    let marker: Value =
        serde_json::from_slice(&std::fs::read(dir.join("oci-layout")).expect("oci-layout")).expect("JSON");
    assert_eq!(marker["imageLayoutVersion"], "1.0.0");
    let mut found = BTreeSet::new();
    let mut to_visit = entries(dir);
    while let Some(descriptor) = to_visit.pop() {
        let digest: Digest = descriptor["digest"].as_str().expect("a digest").parse().expect("a digest");
        if !found.insert(digest.to_string()) {
            continue;
        }
        let bytes = std::fs::read(file(dir, &digest)).unwrap_or_else(|error| panic!("{digest}: {error}"));
        assert_eq!((descriptor["size"].as_u64(), digest.matches(&bytes)), (Some(bytes.len() as u64), true), "{digest}");
        let inside: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        if inside["schemaVersion"] == 2 {
            let lists = ["manifests", "layers"].into_iter().filter_map(|key| inside[key].as_array());
            to_visit.extend(lists.flatten().chain(inside.get("config")).cloned());
        }
    }
    found
}
