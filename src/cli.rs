//! The command line as clap reads it, and nothing else: help, completions and man pages come from these structs.
//!
//! Usage errors end with exit 2, which is what clap uses. Help is laid out by hand for 80 columns.

mod copy;
mod export;
mod scan;
mod warm;

use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use clap::error::ErrorKind;
use clap::{ArgAction, Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::terminal::colour;
pub use copy::{Copy, Referrers};
pub use export::Export;
pub use scan::{Discover, Rewrite};
pub use warm::Warm;

const EXAMPLES: &str = "\
Examples:
  transship init nginx:1.27 --target harbor.example.com/mirror
  transship check                will it work? Nothing is copied
  transship plan                 what sync would do, and what it would cost
  transship sync                 mirror what mirror.lock pins
  transship sync --update        move the pins to what upstream serves, first
  transship sync --locked        for CI: fail if mirror.lock isn't complete
  transship verify --deep        is the mirror what mirror.lock says it is?
  transship copy nginx:1.27 harbor.example.com/mirror/nginx
  transship discover .           which images do these files refer to?
  transship rewrite . --pin      make them refer to the mirror
  transship export containerd    make a node pull from the mirror
  transship demo                 see it work, on this machine alone";

const DETAILS: &str = "\
Exit status:
  0    success
  1    some image failed or conflicts, the others are done; or a check failed
  2    could not run: usage, configuration, lock, or no target answered
  3    a difference was found (lock --check, plan --check, verify,
       discover --check, rewrite --check, warm --check)
  4    nothing failed, but some images were put off because a quota is used up
  130  interrupted; what was done is reported

Environment:
  TRANSSHIP_LOG        the log's filter, such as transship=debug; wins over -v
  TRANSSHIP_CACHE_DIR  where manifests are kept from run to run; else in
                       $XDG_CACHE_HOME/transship, else in ~/.cache/transship
  TRANSSHIP_CACHE_SIZE how much of them is kept, such as 500MiB; else 1GiB
  DOCKER_CONFIG        where Docker's config.json is, for credentials
  REGISTRY_AUTH_FILE   a file with credentials, read before Docker's
  NO_COLOR             set to anything: no colours
  CLICOLOR_FORCE       set to anything but 0: colours, also in a pipe
  CI                   set to anything: no bars, no colours";

/// Mirrors container images into a private registry
///
/// Pinned, byte for byte, sparing of pull quotas.
#[derive(Debug, Clone, Parser)]
#[command(name = "transship", version, arg_required_else_help = true)]
#[command(after_help = EXAMPLES, after_long_help = format!("{EXAMPLES}\n\n{DETAILS}"))]
pub struct Cli {
    /// What holds for every verb.
    #[command(flatten, next_help_heading = "Options of every verb")]
    pub global: Global,
    /// The verb.
    #[command(subcommand)]
    pub verb: Verb,
}

/// Flags of every verb.
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// What to mirror; - is stdin [default: mirror.yaml]
    ///
    /// Paths inside the file are relative to it. From stdin it has no place
    /// of its own, and so needs --lock or --no-lock.
    #[arg(short, long, global = true, value_name = "FILE", verbatim_doc_comment)]
    pub config: Option<PathBuf>,

    /// Where the pins are [default: mirror.lock]
    ///
    /// Else they are beside the config, with the ending .lock: prod.yaml has
    /// prod.lock.
    #[arg(verbatim_doc_comment, long, global = true, value_name = "FILE")]
    pub lock: Option<PathBuf>,

    /// Read and write no lock: everything is resolved anew
    #[arg(long, global = true)]
    pub no_lock: bool,

    /// Keep no manifests from run to run, and use none
    ///
    /// They are kept by digest, so that none is pulled twice; deleting them
    /// does no harm. TRANSSHIP_CACHE_DIR says where.
    #[arg(verbatim_doc_comment, long, global = true)]
    pub no_cache: bool,

    /// Move at most N blobs at a time
    ///
    /// Wins over limits.transfers of the config. A bound, not a target. Blobs
    /// of at most 128 KiB have as many places of their own.
    #[arg(verbatim_doc_comment, short = 'j', long = "jobs", global = true, value_name = "N")]
    pub jobs: Option<NonZeroUsize>,

    /// Print one JSON document instead of text
    #[arg(long, global = true)]
    pub json: bool,

    /// Also write the JSON document to FILE
    ///
    /// It is what --json prints, is written however the run ends, and
    /// replaces the file as a whole. `transship schema report` describes it.
    #[arg(verbatim_doc_comment, long, global = true, value_name = "FILE")]
    pub report: Option<PathBuf>,

    /// Print failures and the summary only
    #[arg(short, long, global = true)]
    pub quiet: bool,

    /// Say more; -v requests, -vv headers, -vvv everything
    ///
    /// Also lists the images that needed no work. Secrets are never shown.
    #[arg(verbatim_doc_comment, short, long, global = true, action = ArgAction::Count)]
    pub verbose: u8,

    /// Use colours: auto, always or never
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto", hide_default_value = true)]
    #[arg(hide_possible_values = true)]
    pub color: ColorChoice,

    /// Show progress as: auto, bars, lines or none
    ///
    /// auto: bars if stderr is a terminal, TERM isn't dumb and CI isn't set;
    /// else a line per finished image, and a sign of life every 30 seconds.
    #[arg(long, global = true, value_name = "HOW", default_value = "auto", hide_default_value = true)]
    #[arg(hide_possible_values = true, verbatim_doc_comment)]
    pub progress: ProgressMode,
}

impl Global {
    /// The flags that say which files a run is about, each after a space.
    pub(crate) fn which_files(&self) -> String {
        let named = [("-c", &self.config), ("--lock", &self.lock)];
        named.iter().filter_map(|(flag, path)| Some(format!(" {flag} {}", path.as_ref()?.display()))).collect()
    }

    /// The config that was named, else the one that is looked for.
    pub fn config(&self) -> &Path {
        self.config.as_deref().unwrap_or(Path::new("mirror.yaml"))
    }
}

/// When to use colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ColorChoice {
    /// At a terminal, unless `NO_COLOR` is set
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// How to show progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ProgressMode {
    /// Bars for a person at a terminal, else lines
    Auto,
    /// Bars
    Bars,
    /// A line per finished image
    Lines,
    /// Nothing
    None,
}

/// What to do.
#[derive(Debug, Clone, Subcommand)]
pub enum Verb {
    /// Mirror what the lock pins; pin first what it lacks
    Sync(Sync),
    /// Show what sync would do, and what it would cost
    Plan(Plan),
    /// Pin what the lock lacks, and copy nothing
    Lock(Lock),
    /// Move pins to what upstream serves now, and copy nothing
    Update(Update),
    /// Copy one image; needs no configuration
    Copy(Copy),
    /// Prove that a sync can work, and copy nothing
    Check(Check),
    /// Compare the targets with the lock, and change nothing
    Verify(Verify),
    /// Show what is left of the sources' pull quotas
    Quota,
    /// Write a first mirror.yaml
    Init(Init),
    /// List the images that files refer to
    Discover(Discover),
    /// Make files refer to the mirror
    Rewrite(Rewrite),
    /// Write the configuration of those who pull from the mirror
    Export(Export),
    /// Fill pull-through caches with what the lock pins
    Warm(Warm),
    /// See it work, on this machine alone
    Demo(Demo),
    /// Print a JSON schema: of mirror.yaml, or of the reports
    Schema(Schema),
    /// Print the completions of a shell
    Completions(Completions),
    /// Print the manual page
    Man,
}

impl Verb {
    /// As it is typed.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Sync(_) => "sync",
            Self::Plan(_) => "plan",
            Self::Lock(_) => "lock",
            Self::Update(_) => "update",
            Self::Copy(_) => "copy",
            Self::Check(_) => "check",
            Self::Verify(_) => "verify",
            Self::Quota => "quota",
            Self::Init(_) => "init",
            Self::Discover(_) => "discover",
            Self::Rewrite(_) => "rewrite",
            Self::Export(_) => "export",
            Self::Warm(_) => "warm",
            Self::Demo(_) => "demo",
            Self::Schema(_) => "schema",
            Self::Completions(_) => "completions",
            Self::Man => "man",
        }
    }

    /// Whether `--json` and `--report` mean something.
    fn has_report(&self) -> bool {
        !matches!(
            self,
            Self::Demo(_) | Self::Export(_) | Self::Init(_) | Self::Schema(_) | Self::Completions(_) | Self::Man
        )
    }

    /// Whether it is about what a lock pins.
    fn has_lock(&self) -> bool {
        matches!(
            self,
            Self::Sync(_)
                | Self::Plan(_)
                | Self::Lock(_)
                | Self::Update(_)
                | Self::Check(_)
                | Self::Verify(_)
                | Self::Quota
                | Self::Rewrite(_)
                | Self::Export(_)
                | Self::Warm(_)
        )
    }
}

/// Which images a verb is about.
#[derive(Debug, Clone, Default, Args)]
pub struct Selection {
    /// Only images of this name or glob; repeatable
    ///
    /// A name as lock or config spell it; without a tag, all of its
    /// repository. A glob is matched with docker.io/library/nginx:1.27, and
    /// its * also matches /. Other pins stay as they are.
    #[arg(verbatim_doc_comment, long, value_name = "IMAGE")]
    pub only: Vec<String>,
}

/// Arguments of `sync`.
#[derive(Debug, Clone, Default, Args)]
pub struct Sync {
    /// Move all pins to what upstream serves now, first
    ///
    /// Signatures and the like that were added since are found and copied.
    /// An image that can't be resolved keeps its pin, is mirrored from it,
    /// and is reported as failed.
    #[arg(long, verbatim_doc_comment)]
    pub update: bool,

    /// Fail if the lock would change; resolve nothing
    #[arg(long)]
    pub locked: bool,

    /// Stop after the plan, and show it
    #[arg(long)]
    pub dry_run: bool,

    /// Wait until no other run is at work on the lock
    ///
    /// Two runs at once do no harm; without it there is a warning.
    #[arg(long, verbatim_doc_comment)]
    pub wait: bool,

    /// Also look below the tags that are right
    ///
    /// Each manifest and blob is asked for; what is missing comes back from
    /// another target, the cache or the source.
    #[arg(long, verbatim_doc_comment)]
    pub repair: bool,

    /// Mirror to LOCATION, not to the config's targets
    ///
    /// REGISTRY[/PREFIX], or oci:DIR, an OCI image layout.
    #[arg(long, value_name = "LOCATION", verbatim_doc_comment)]
    pub target: Option<String>,

    /// Take everything from the layout oci:DIR
    ///
    /// Nothing upstream is asked. Images are found there by their canonical
    /// source, as sync --target oci:DIR writes them. What the lock lacks is
    /// pinned for this run only.
    #[arg(long, value_name = "oci:DIR", verbatim_doc_comment)]
    pub from: Option<String>,

    /// Which images.
    #[command(flatten)]
    pub selection: Selection,
}

/// Arguments of `plan`.
#[derive(Debug, Clone, Default, Args)]
pub struct Plan {
    /// As if pins had been moved first; the lock stays
    #[arg(long)]
    pub update: bool,

    /// To LOCATION, not to the config's targets
    #[arg(long, value_name = "LOCATION")]
    pub target: Option<String>,

    /// From the layout oci:DIR
    #[arg(long, value_name = "oci:DIR")]
    pub from: Option<String>,

    /// Exit with 3 if there is work to do
    #[arg(long)]
    pub check: bool,

    /// Also look below the tags that are right, as sync does
    #[arg(long)]
    pub repair: bool,

    /// Find out all bytes to move, though it costs pulls
    ///
    /// Without it they are told where that costs none: at sources that count
    /// no pulls, and of what is in the cache. With it manifests are read that
    /// count against a quota; with the cache, sync doesn't read them again.
    #[arg(long, verbatim_doc_comment)]
    pub bytes: bool,

    /// Which images.
    #[command(flatten)]
    pub selection: Selection,
}

/// Arguments of `lock`.
#[derive(Debug, Clone, Default, Args)]
pub struct Lock {
    /// Wait until no other run is at work on the lock
    #[arg(long)]
    pub wait: bool,

    /// Compare pins with upstream; exit with 3 if they differ
    #[arg(long)]
    pub check: bool,
}

/// Arguments of `update`.
#[derive(Debug, Clone, Args)]
pub struct Update {
    /// Only these, as lock or config spell them [default: all]
    ///
    /// Without a tag: all of that repository. A tag@digest never moves.
    #[arg(verbatim_doc_comment, value_name = "IMAGE")]
    pub images: Vec<String>,

    /// Wait until no other run is at work on the lock
    #[arg(long)]
    pub wait: bool,
}

/// Arguments of `check`.
#[derive(Debug, Clone, Args)]
pub struct Check {
    /// Which images.
    #[command(flatten)]
    pub selection: Selection,
}

/// Arguments of `verify`.
#[derive(Debug, Clone, Default, Args)]
pub struct Verify {
    /// Also look at all that each image consists of
    ///
    /// Without it: is each tag what the lock pins, and is what refers to its
    /// image there? That is one HEAD each tag and one list each image. With
    /// it, each manifest is read and each blob is asked for. Registries that
    /// keep account of pulls, as Harbor does, count a manifest read as one.
    #[arg(long, verbatim_doc_comment)]
    pub deep: bool,

    /// Also download each blob and compare every byte
    ///
    /// Implies --deep. Each blob is read once for each target repository.
    #[arg(long, verbatim_doc_comment)]
    pub content: bool,

    /// Also list tags that the lock doesn't know
    ///
    /// In the repositories of the images that are verified. Tags that belong
    /// to a digest, as signatures have them, are listed with --deep only.
    #[arg(long, verbatim_doc_comment)]
    pub extra: bool,

    /// Look at LOCATION, not at the config's targets
    ///
    /// REGISTRY[/PREFIX], or oci:DIR, an OCI image layout.
    #[arg(long, value_name = "LOCATION", verbatim_doc_comment)]
    pub target: Option<String>,

    /// Which images.
    #[command(flatten)]
    pub selection: Selection,
}

/// Arguments of `init`.
#[derive(Debug, Clone, Args)]
pub struct Init {
    /// What to mirror, such as nginx:1.27 [default: commented examples]
    #[arg(value_name = "IMAGE")]
    pub images: Vec<String>,

    /// Where to: REGISTRY[/PREFIX], or oci:DIR
    ///
    /// harbor.example.com/mirror, for one. The file is written to where
    /// --config says; -c - prints it.
    #[arg(verbatim_doc_comment, long, value_name = "TARGET", required_unless_present = "full")]
    pub target: Option<String>,

    /// Print an example with every key, and write nothing
    #[arg(long, conflicts_with_all = ["images", "target"])]
    pub full: bool,
}

/// Arguments of `completions`.
#[derive(Debug, Clone, Args)]
pub struct Completions {
    /// bash, elvish, fish, powershell or zsh
    #[arg(hide_possible_values = true)]
    pub shell: Shell,
}

/// Arguments of `schema`.
#[derive(Debug, Clone, Args)]
pub struct Schema {
    /// config, which is mirror.yaml, or report, for --json
    #[arg(value_name = "OF", default_value = "config", hide_possible_values = true, hide_default_value = true)]
    pub of: SchemaOf,
}

/// What a schema describes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SchemaOf {
    /// mirror.yaml
    Config,
    /// The documents of --json and --report
    Report,
}

/// Arguments of `demo`.
#[derive(Debug, Clone, Args)]
pub struct Demo {
    /// Keep the demo's files and registries until Ctrl-C
    #[arg(long)]
    pub keep: bool,
}

/// What excludes what. Here and not in clap's attributes, because clap doesn't compare a flag before the verb with one
/// behind it.
const EXCLUSIONS: [(&str, &str); 6] = [
    ("--locked", "--update"),
    ("--locked", "--no-lock"),
    ("--no-lock", "--lock"),
    ("--no-lock", "--update"),
    ("--from", "--update"),
    ("--write", "--check"),
];

impl Cli {
    /// The program's name.
    pub const NAME: &'static str = "transship";

    /// Reads a command line, whose first argument is the program's name.
    ///
    /// # Errors
    /// A usage error, or the text of `--help` and `--version`: both know where to print themselves and the exit status.
    pub fn read<T: Into<OsString> + Clone>(arguments: impl IntoIterator<Item = T>) -> Result<Self, clap::Error> {
        // clap looks at NO_COLOR and CLICOLOR_FORCE itself, and takes CI for a place with colours.
        let is_plain = std::env::var_os("CI").is_some_and(|ci| !ci.is_empty()) && !colour::wanted(None, true);
        let color = if is_plain { clap::ColorChoice::Never } else { clap::ColorChoice::Auto };
        let matches = Self::command().color(color).try_get_matches_from(arguments)?;
        let cli = Self::from_arg_matches(&matches)?;
        let refuse = |kind, message: String| Err(Self::command().color(color).error(kind, message));
        if let Some((one, other)) = EXCLUSIONS.into_iter().find(|(one, other)| cli.has(one) && cli.has(other)) {
            return refuse(ErrorKind::ArgumentConflict, format!("'{one}' cannot be used with '{other}'"));
        }
        if cli.global.report.is_some() && !cli.verb.has_report() {
            let message = format!("'--report' cannot be used with '{}', which makes none", cli.verb.name());
            return refuse(ErrorKind::ArgumentConflict, message);
        }
        if cli.global.json && matches!(cli.verb, Verb::Demo(_)) {
            return refuse(ErrorKind::ArgumentConflict, "'--json' cannot be used with 'demo'".to_owned());
        }
        if cli.verb.has_lock() && cli.global.config() == Path::new("-") && !cli.has("--lock") && !cli.has("--no-lock") {
            let message = "a config from stdin needs '--lock <FILE>' or '--no-lock'";
            return refuse(ErrorKind::MissingRequiredArgument, message.to_owned());
        }
        Ok(cli)
    }

    fn has(&self, flag: &str) -> bool {
        match (flag, &self.verb) {
            ("--lock", _) => self.global.lock.is_some(),
            ("--no-lock", _) => self.global.no_lock,
            ("--locked", Verb::Sync(sync)) => sync.locked,
            ("--update", Verb::Sync(sync)) => sync.update,
            ("--from", Verb::Sync(sync)) => sync.from.is_some(),
            ("--update", Verb::Plan(plan)) => plan.update,
            ("--from", Verb::Plan(plan)) => plan.from.is_some(),
            ("--write", Verb::Discover(discover)) => discover.write,
            ("--check", Verb::Discover(discover)) => discover.check,
            ("--write", Verb::Rewrite(rewrite)) => rewrite.write,
            ("--check", Verb::Rewrite(rewrite)) => rewrite.check,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests;
