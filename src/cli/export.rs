//! The arguments of `export`: one flat list of flags. The table of kinds defines which kind accepts which flag.

use std::path::PathBuf;

use clap::Args;

/// Arguments of `export`.
#[derive(Debug, Clone, Default, Args)]
pub struct Export {
    /// The kind of configuration; --list shows all kinds
    #[arg(value_name = "KIND", required_unless_present = "list")]
    pub kind: Option<String>,

    /// List the kinds
    #[arg(long, conflicts_with = "kind")]
    pub list: bool,

    /// Write files to DIR instead of stdout
    ///
    /// Files with the same names are replaced.
    #[arg(verbatim_doc_comment, short, long = "output", value_name = "DIR")]
    pub output: Option<PathBuf>,

    /// The target to use, counted from 1 [default: 1]
    #[arg(long, value_name = "N")]
    pub target: Option<usize>,

    /// containerd: for MicroK8s nodes
    #[arg(long, conflicts_with = "rke2")]
    pub microk8s: bool,

    /// containerd: for RKE2 nodes
    #[arg(long)]
    pub rke2: bool,

    /// webhook: a file instead of Helm values
    #[arg(long)]
    pub plain: bool,

    /// pull-secret: its name [default: transship]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,

    /// pull-secret: its namespace; repeatable
    #[arg(long = "namespace", value_name = "NAMESPACE")]
    pub namespaces: Vec<String>,

    /// pull-secret: a service account to add it to
    #[arg(long, value_name = "NAME")]
    pub service_account: Option<String>,

    /// pull-secret, kubelet-config: for the sources
    ///
    /// Write the credentials of the sources, not of the targets.
    #[arg(long, conflicts_with = "target")]
    pub upstream: bool,

    /// Show secrets, even at a terminal
    #[arg(long)]
    pub yes: bool,
}
