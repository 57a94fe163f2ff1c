//! The arguments of `copy`.

use clap::{Args, ValueEnum};

/// Arguments of `copy`.
#[derive(Debug, Clone, Args)]
pub struct Copy {
    /// The image, such as nginx:1.27
    ///
    /// Or oci:DIR:REFERENCE, an image in an OCI image layout. oci:DIR is
    /// enough if the layout has only one image.
    #[arg(verbatim_doc_comment, value_name = "SRC")]
    pub source: String,

    /// The target; the default tag is that of SRC
    ///
    /// REGISTRY/REPOSITORY:TAG, or oci:DIR:REFERENCE in an OCI image layout.
    /// With oci:DIR, the image keeps the name of SRC.
    /// A missing repository is created if the registry allows it. If there is
    /// a config, its registries and limits apply; the lock isn't used.
    #[arg(verbatim_doc_comment, value_name = "DST")]
    pub target: String,

    /// Only this platform, such as linux/arm64; repeatable
    ///
    /// OS/ARCH[/VARIANT]. Its attestations are included. The result has a
    /// different digest, which signatures of the whole image don't cover.
    #[arg(verbatim_doc_comment, long = "platform", value_name = "PLATFORM")]
    pub platforms: Vec<String>,

    /// Referrers, such as signatures: all, none or require
    ///
    /// require fails an image that has none.
    #[arg(long, value_name = "WHICH", default_value = "all", hide_default_value = true)]
    #[arg(hide_possible_values = true, verbatim_doc_comment)]
    pub referrers: Referrers,
}

/// Which referrers to copy with an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Referrers {
    /// All referrers
    All,
    /// None; the source isn't asked for them
    None,
    /// All referrers; there must be at least one
    Require,
}
