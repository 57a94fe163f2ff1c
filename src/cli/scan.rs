//! `discover` and `rewrite` as clap reads them.

use std::path::PathBuf;

use clap::Args;

/// Arguments of `discover`.
#[derive(Debug, Clone, Args)]
pub struct Discover {
    /// Files and folders; - is stdin
    ///
    /// Kubernetes manifests, Helm charts, kustomizations, Compose files,
    /// Dockerfiles, workflows of GitHub, pipelines of GitLab, development
    /// containers. A file that is named, and stdin, may also be a list:
    /// kubectl get pods -A -o jsonpath='{..image}' | transship discover -
    #[arg(verbatim_doc_comment, value_name = "PATH", required = true)]
    pub paths: Vec<PathBuf>,

    /// Add what mirror.yaml lacks to its images
    #[arg(long)]
    pub write: bool,

    /// Exit with 3 if mirror.yaml lacks something
    #[arg(long)]
    pub check: bool,

    /// Also take references at a field of YAML; repeatable
    ///
    /// Keys with dots between them, [] for each item of a list:
    /// spec.jobs[].runner
    #[arg(verbatim_doc_comment, long = "field", value_name = "FIELD")]
    pub fields: Vec<String>,
}

/// Arguments of `rewrite`.
#[derive(Debug, Clone, Args)]
pub struct Rewrite {
    /// Files and folders, of the kinds that discover reads
    #[arg(value_name = "PATH", required = true)]
    pub paths: Vec<PathBuf>,

    /// Change the files; the diff is printed as well
    #[arg(long)]
    pub write: bool,

    /// Exit with 3 if something would change
    #[arg(long)]
    pub check: bool,

    /// Write the digest that the target serves, too
    ///
    /// nginx:1.27 becomes TARGET/docker.io/library/nginx:1.27@sha256:…
    /// References to the target get the digest of the lock.
    #[arg(verbatim_doc_comment, long)]
    pub pin: bool,

    /// Which target, counted from 1 [default: 1]
    #[arg(long, value_name = "N")]
    pub target: Option<usize>,
}
