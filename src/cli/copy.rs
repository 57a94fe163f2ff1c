//! `copy` as clap reads it.

use clap::{Args, ValueEnum};

/// Arguments of `copy`.
#[derive(Debug, Clone, Args)]
pub struct Copy {
    /// The image, such as nginx:1.27
    ///
    /// Or oci:DIR:REFERENCE, in an OCI image layout; oci:DIR is the only
    /// image there.
    #[arg(verbatim_doc_comment, value_name = "SRC")]
    pub source: String,

    /// Where to; without a tag it gets SRC's
    ///
    /// REGISTRY/REPOSITORY:TAG, or oci:DIR:REFERENCE, in an OCI image layout;
    /// in oci:DIR it is called what SRC is.
    /// The repository is created if it is missing and its registry allows it.
    /// If there is a config, its registries and limits are used; no lock is.
    #[arg(verbatim_doc_comment, value_name = "DST")]
    pub target: String,

    /// Only this platform, such as linux/arm64; repeatable
    ///
    /// OS/ARCH[/VARIANT]. Its attestations come with it. A part of an image
    /// has a digest of its own, which signatures of the whole don't cover.
    #[arg(verbatim_doc_comment, long = "platform", value_name = "PLATFORM")]
    pub platforms: Vec<String>,

    /// Signatures and the like: all, none or require
    ///
    /// require: an image that has none isn't copied.
    #[arg(long, value_name = "WHICH", default_value = "all", hide_default_value = true)]
    #[arg(hide_possible_values = true, verbatim_doc_comment)]
    pub referrers: Referrers,
}

/// Which referrers to copy with an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Referrers {
    /// Whatever there is
    All,
    /// None, and nobody is asked for them
    None,
    /// Whatever there is, and there has to be some
    Require,
}
