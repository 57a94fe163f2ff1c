//! Third-party programs that read and write registries.

use std::path::Path;
use std::process::{Command, Output};

use super::docker_registry::installed;

/// Runs a program to its end; `None` if it isn't installed.
pub(crate) fn run(program: &str, arguments: &[&str]) -> Option<Output> {
    let output = installed(program, Command::new(program).args(arguments).output())?;
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {error}");
    Some(output)
}

/// The manifest that skopeo reads, as the registry serves it.
pub(crate) fn raw(reference: &str) -> Option<Vec<u8>> {
    Some(run("skopeo", &["inspect", "--raw", "--tls-verify=false", &format!("docker://{reference}")])?.stdout)
}

/// buildah with a separate store in `folder`.
pub(crate) fn buildah(folder: &Path, arguments: &[&str]) -> Option<String> {
    let (store, state) = (folder.join("store"), folder.join("run"));
    let mut all = vec!["--root", store.to_str()?, "--runroot", state.to_str()?, "--storage-driver", "vfs"];
    all.extend(arguments);
    Some(String::from_utf8(run("buildah", &all)?.stdout).expect("UTF-8").trim().to_owned())
}
