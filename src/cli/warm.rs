//! `warm` as clap reads it.

use clap::Args;

use super::Selection;

/// Arguments of `warm`.
#[derive(Debug, Clone, Args)]
pub struct Warm {
    /// The caches: HOST[/PREFIX]
    ///
    /// A proxy-cache project of Harbor, a pull-through cache of ECR, a
    /// registry with proxy.remoteurl. An image is called
    /// HOST/PREFIX/library/nginx there: the prefix, and its whole path.
    #[arg(verbatim_doc_comment, value_name = "CACHE", required = true)]
    pub caches: Vec<String>,

    /// Read nothing; exit with 3 if a cache lacks something
    ///
    /// By HEADs alone. At Harbor they prove what is kept; other caches pass
    /// them on, so that they prove what can be had.
    #[arg(long, verbatim_doc_comment)]
    pub check: bool,

    /// Which images.
    #[command(flatten)]
    pub selection: Selection,
}
