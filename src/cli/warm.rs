//! The arguments of `warm`.

use clap::Args;

use super::Selection;

/// Arguments of `warm`.
#[derive(Debug, Clone, Args)]
pub struct Warm {
    /// The caches: HOST[/PREFIX]
    ///
    /// A Harbor proxy-cache project, an ECR pull-through cache, or a registry
    /// with proxy.remoteurl. An image is named HOST/PREFIX/library/nginx
    /// there: the prefix, followed by its whole path.
    #[arg(verbatim_doc_comment, value_name = "CACHE", required = true)]
    pub caches: Vec<String>,

    /// Read nothing; exit with 3 if a cache lacks an image
    ///
    /// Sends only HEAD requests. Harbor answers them from the cache; other
    /// caches forward them, so they only show what is available.
    #[arg(long, verbatim_doc_comment)]
    pub check: bool,

    /// The images.
    #[command(flatten)]
    pub selection: Selection,
}
