//! The arguments of the verbs that are about mirror.yaml and its lock.

use clap::Args;

/// The images that a verb applies to.
#[derive(Debug, Clone, Default, Args)]
pub struct Selection {
    /// Only images that match this name or glob; repeatable
    ///
    /// A name is written as in the lock or the config; without a tag it means
    /// the whole repository. A glob is matched against names such as
    /// docker.io/library/nginx:1.27; its * also matches /. Other pins don't
    /// change.
    #[arg(verbatim_doc_comment, long, value_name = "IMAGE")]
    pub only: Vec<String>,
}

/// Arguments of `sync`.
#[derive(Debug, Clone, Default, Args)]
pub struct Sync {
    /// First move all pins to what upstream serves now
    ///
    /// Also finds and copies signatures and other referrers that were added
    /// since. An image that can't be resolved keeps its pin, is mirrored from
    /// it, and is reported as failed.
    #[arg(long, verbatim_doc_comment)]
    pub update: bool,

    /// Fail if the lock would change; resolve nothing
    #[arg(long)]
    pub locked: bool,

    /// Print the plan and stop
    #[arg(long)]
    pub dry_run: bool,

    /// Wait until no other run uses this lock
    ///
    /// Concurrent runs are safe; without this flag there is a warning.
    #[arg(long, verbatim_doc_comment)]
    pub wait: bool,

    /// Also restore content missing below unchanged tags
    ///
    /// Checks every manifest and blob, and copies what is missing from
    /// another target, the cache or the source.
    #[arg(long, verbatim_doc_comment)]
    pub repair: bool,

    /// Mirror to LOCATION, not to the config's targets
    ///
    /// REGISTRY[/PREFIX], or oci:DIR, an OCI image layout.
    #[arg(long, value_name = "LOCATION", verbatim_doc_comment)]
    pub target: Option<String>,

    /// Read all images from the layout oci:DIR
    ///
    /// No source is contacted. Images are found by their canonical source, as
    /// sync --target oci:DIR writes them. Images that the lock lacks are
    /// pinned for this run only.
    #[arg(long, value_name = "oci:DIR", verbatim_doc_comment)]
    pub from: Option<String>,

    /// The images.
    #[command(flatten)]
    pub selection: Selection,
}

/// Arguments of `plan`.
#[derive(Debug, Clone, Default, Args)]
pub struct Plan {
    /// Plan as after `update`; the lock doesn't change
    #[arg(long)]
    pub update: bool,

    /// Plan for LOCATION, not for the config's targets
    #[arg(long, value_name = "LOCATION")]
    pub target: Option<String>,

    /// Plan with all images from the layout oci:DIR
    #[arg(long, value_name = "oci:DIR")]
    pub from: Option<String>,

    /// Exit with 3 if there is work to do
    #[arg(long)]
    pub check: bool,

    /// Also check below unchanged tags, as sync does
    #[arg(long)]
    pub repair: bool,

    /// Compute all bytes to copy, even if that costs pulls
    ///
    /// Without it, sizes come from sources that don't count pulls and from
    /// the cache. With it, manifests are read that count against a quota;
    /// the cache keeps them, so sync doesn't read them again.
    #[arg(long, verbatim_doc_comment)]
    pub bytes: bool,

    /// The images.
    #[command(flatten)]
    pub selection: Selection,
}

/// Arguments of `lock`.
#[derive(Debug, Clone, Default, Args)]
pub struct Lock {
    /// Wait until no other run uses this lock
    #[arg(long)]
    pub wait: bool,

    /// Compare pins with upstream; exit with 3 if they differ
    #[arg(long)]
    pub check: bool,
}

/// Arguments of `update`.
#[derive(Debug, Clone, Args)]
pub struct Update {
    /// Only these images, named as in lock or config [default: all]
    ///
    /// Without a tag, the whole repository. A tag@digest never moves.
    #[arg(verbatim_doc_comment, value_name = "IMAGE")]
    pub images: Vec<String>,

    /// Wait until no other run uses this lock
    #[arg(long)]
    pub wait: bool,
}

/// Arguments of `check`.
#[derive(Debug, Clone, Args)]
pub struct Check {
    /// The images.
    #[command(flatten)]
    pub selection: Selection,
}

/// Arguments of `verify`.
#[derive(Debug, Clone, Default, Args)]
pub struct Verify {
    /// Also check the content of each image
    ///
    /// Without it: that each tag holds what the lock pins, and that the
    /// image's referrers are there. That costs one HEAD for each tag and one
    /// list for each image. With it, every manifest is read and every blob is
    /// checked. Registries that record pulls, such as Harbor, record those
    /// reads.
    #[arg(long, verbatim_doc_comment)]
    pub deep: bool,

    /// Also download every blob and compare every byte
    ///
    /// Implies --deep. Each blob is read once for each target repository.
    #[arg(long, verbatim_doc_comment)]
    pub content: bool,

    /// Also list tags that the lock doesn't contain
    ///
    /// Only in repositories of the verified images. Tags that belong to a
    /// digest, such as those of signatures, are listed only with --deep.
    #[arg(long, verbatim_doc_comment)]
    pub extra: bool,

    /// Verify LOCATION, not the config's targets
    ///
    /// REGISTRY[/PREFIX], or oci:DIR, an OCI image layout.
    #[arg(long, value_name = "LOCATION", verbatim_doc_comment)]
    pub target: Option<String>,

    /// The images.
    #[command(flatten)]
    pub selection: Selection,
}
