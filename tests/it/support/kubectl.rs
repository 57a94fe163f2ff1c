//! helm and kubectl: the real programs, without a cluster.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::docker_registry::installed;

/// A program of Kubernetes that works only on files.
#[derive(Debug)]
pub(crate) struct Program(PathBuf);

impl Program {
    /// `None`, with a message, if it isn't installed.
    pub(crate) fn helm() -> Option<Self> {
        Self::find("TRANSSHIP_TEST_HELM", "helm")
    }

    /// `None`, with a message, if it isn't installed.
    pub(crate) fn kubectl() -> Option<Self> {
        Self::find("TRANSSHIP_TEST_KUBECTL", "kubectl")
    }

    fn find(variable: &str, program: &str) -> Option<Self> {
        let path = std::env::var_os(variable).map_or_else(|| program.into(), PathBuf::from);
        let tried = Command::new(&path).arg("help").stdout(Stdio::null()).stderr(Stdio::null()).status();
        installed(program, tried).map(|_| Self(path))
    }

    /// `PATH` with the program on it.
    pub(crate) fn on_path(&self) -> std::ffi::OsString {
        let folder = self.0.parent().filter(|folder| !folder.as_os_str().is_empty());
        let path = std::env::var_os("PATH").unwrap_or_default();
        let all = folder.map(Path::to_owned).into_iter().chain(std::env::split_paths(&path));
        std::env::join_paths(all).expect("paths without a colon")
    }

    /// Its output when run in `folder`.
    pub(crate) fn run(&self, folder: &Path, line: &str) -> String {
        let output = Command::new(&self.0).args(line.split_whitespace()).current_dir(folder).output();
        let output = output.unwrap_or_else(|error| panic!("{line}: {error}"));
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("UTF-8")
    }
}
