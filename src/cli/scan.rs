//! The arguments of `discover` and `rewrite`.

use std::path::PathBuf;

use clap::Args;

/// Arguments of `discover`.
#[derive(Debug, Clone, Args)]
pub struct Discover {
    /// Files and folders; - is stdin
    ///
    /// Kubernetes manifests, Helm charts, kustomizations, Compose files,
    /// Dockerfiles, GitHub workflows, GitLab pipelines, dev containers. A
    /// file that you name, and stdin, can also be a plain list:
    /// kubectl get pods -A -o jsonpath='{..image}' | transship discover -
    #[arg(verbatim_doc_comment, value_name = "PATH", required = true)]
    pub paths: Vec<PathBuf>,

    /// Add the images that mirror.yaml lacks
    #[arg(long)]
    pub write: bool,

    /// Exit with 3 if mirror.yaml lacks an image
    #[arg(long)]
    pub check: bool,

    /// Also read references from this YAML field; repeatable
    ///
    /// Keys separated by dots, [] for each item of a list:
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

    /// Change the files; also print the diff
    #[arg(long)]
    pub write: bool,

    /// Exit with 3 if a file would change
    #[arg(long)]
    pub check: bool,

    /// Also write the digest that the target serves
    ///
    /// nginx:1.27 becomes TARGET/docker.io/library/nginx:1.27@sha256:…
    /// References to the target get the digest from the lock.
    #[arg(verbatim_doc_comment, long)]
    pub pin: bool,

    /// The target to use, counted from 1 [default: 1]
    #[arg(long, value_name = "N")]
    pub target: Option<usize>,
}
