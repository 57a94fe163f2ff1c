//! `export`: one flat list of flags; which kind takes which is said by the table of kinds.

use std::path::PathBuf;

use clap::Args;

/// Arguments of `export`.
#[derive(Debug, Clone, Default, Args)]
pub struct Export {
    /// For whom; --list tells the kinds
    #[arg(value_name = "KIND", required_unless_present = "list")]
    pub kind: Option<String>,

    /// List the kinds
    #[arg(long, conflicts_with = "kind")]
    pub list: bool,

    /// Write files below DIR, not to stdout
    ///
    /// Files of the same names are replaced.
    #[arg(verbatim_doc_comment, short, long = "output", value_name = "DIR")]
    pub output: Option<PathBuf>,

    /// Which target, counted from 1 [default: 1]
    #[arg(long, value_name = "N")]
    pub target: Option<usize>,

    /// containerd: for nodes of MicroK8s
    #[arg(long, conflicts_with = "rke2")]
    pub microk8s: bool,

    /// containerd: for nodes of RKE2
    #[arg(long)]
    pub rke2: bool,

    /// webhook: its own file, not Helm values
    #[arg(long)]
    pub plain: bool,

    /// pull-secret: its name [default: transship]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,

    /// pull-secret: for this namespace; repeatable
    #[arg(long = "namespace", value_name = "NAMESPACE")]
    pub namespaces: Vec<String>,

    /// pull-secret: let pods of this account use it
    #[arg(long, value_name = "NAME")]
    pub service_account: Option<String>,

    /// pull-secret, kubelet-config: for the sources
    ///
    /// Instead of the targets.
    #[arg(long, conflicts_with = "target")]
    pub upstream: bool,

    /// Show secrets, even at a terminal
    #[arg(long)]
    pub yes: bool,
}
