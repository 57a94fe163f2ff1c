//! The command line, as clap parses it. Help, completions and man pages are generated from these structs.
//!
//! Usage errors exit with 2, as clap does. Help is laid out by hand for 80 columns.

mod again;
mod copy;
mod export;
mod mirror;
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
pub use mirror::{Check, Lock, Plan, Selection, Sync, Update, Verify};
pub use scan::{Discover, Rewrite};
pub use warm::Warm;

const EXAMPLES: &str = "\
Examples:
  transship init nginx:1.27 --target harbor.example.com/mirror
  transship check                check that a sync can work; copy nothing
  transship plan                 show what sync would do and what it would cost
  transship sync                 mirror what mirror.lock pins
  transship sync --update        first move the pins to what upstream serves
  transship sync --locked        for CI: fail if mirror.lock isn't complete
  transship verify --deep        compare the mirror with mirror.lock
  transship copy nginx:1.27 harbor.example.com/mirror/nginx
  transship discover .           list the images that these files refer to
  transship rewrite . --pin      make them pull from the mirror, by digest
  transship export containerd    make a node pull from the mirror
  transship demo                 see it work, on this machine only";

const DETAILS: &str = "\
Exit status:
  0    success
  1    an image failed or conflicts, the others are done; or a check failed
  2    couldn't run: usage, configuration, lock, or no target answered
  3    a difference was found (lock --check, plan --check, verify,
       discover --check, rewrite --check, warm --check)
  4    nothing failed, but images were deferred because a quota is used up
  130  interrupted; the report has what was done

Environment:
  TRANSSHIP_LOG        a log filter, such as transship=debug; overrides -v
  TRANSSHIP_CACHE_DIR  the folder of the manifest cache; the default is
                       $XDG_CACHE_HOME/transship or ~/.cache/transship
  TRANSSHIP_CACHE_SIZE the maximum size of the cache [default: 1GiB]
  DOCKER_CONFIG        the folder of Docker's config.json, for credentials
  REGISTRY_AUTH_FILE   a file with credentials, read before Docker's
  NO_COLOR             set to anything: no colours
  CLICOLOR_FORCE       set to anything but 0: colours, even in a pipe
  CI                   set to anything: no bars, no colours";

/// Mirrors container images into a private registry
///
/// Pins every image, copies it byte for byte, and spares pull quotas.
#[derive(Debug, Clone, Parser)]
#[command(name = "transship", version, arg_required_else_help = true)]
#[command(after_help = EXAMPLES, after_long_help = format!("{EXAMPLES}\n\n{DETAILS}"))]
pub struct Cli {
    /// The global flags.
    #[command(flatten, next_help_heading = "Options of every verb")]
    pub global: Global,
    /// The verb.
    #[command(subcommand)]
    pub verb: Verb,
    /// What the next command repeats.
    #[arg(skip)]
    pub(crate) given: again::Given,
}

/// Flags that every verb accepts.
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// What to mirror; - is stdin [default: mirror.yaml]
    ///
    /// Paths in the file are relative to it. A config from stdin has no
    /// default lock, so it needs --lock or --no-lock.
    #[arg(short, long, global = true, value_name = "FILE", verbatim_doc_comment)]
    pub config: Option<PathBuf>,

    /// The lock file [default: mirror.lock]
    ///
    /// With --config, the default is the same path with the extension .lock:
    /// prod.lock for prod.yaml.
    #[arg(verbatim_doc_comment, long, global = true, value_name = "FILE")]
    pub lock: Option<PathBuf>,

    /// Read and write no lock; resolve every image again
    #[arg(long, global = true)]
    pub no_lock: bool,

    /// Don't use the manifest cache
    ///
    /// The cache keeps manifests by digest, so none is pulled twice. It is
    /// safe to delete. TRANSSHIP_CACHE_DIR sets its folder.
    #[arg(verbatim_doc_comment, long, global = true)]
    pub no_cache: bool,

    /// Copy at most N blobs at a time
    ///
    /// Overrides limits.transfers of the config. Another N blobs of up to
    /// 128 KiB may be copied besides.
    #[arg(verbatim_doc_comment, short = 'j', long = "jobs", global = true, value_name = "N")]
    pub jobs: Option<NonZeroUsize>,

    /// Print one JSON document instead of text
    #[arg(long, global = true)]
    pub json: bool,

    /// Also write the JSON document to FILE
    ///
    /// The document that --json prints, written even if the run fails. FILE
    /// is replaced atomically. `transship schema report` describes it.
    #[arg(verbatim_doc_comment, long, global = true, value_name = "FILE")]
    pub report: Option<PathBuf>,

    /// Print only failures and the summary
    #[arg(short, long, global = true)]
    pub quiet: bool,

    /// Print more: -v requests, -vv headers, -vvv everything
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
    /// otherwise one line per finished image, and a status every 30 seconds.
    #[arg(long, global = true, value_name = "HOW", default_value = "auto", hide_default_value = true)]
    #[arg(hide_possible_values = true, verbatim_doc_comment)]
    pub progress: ProgressMode,
}

impl Global {
    /// The path of the config, or the default one.
    pub fn config(&self) -> &Path {
        self.config.as_deref().unwrap_or(Path::new("mirror.yaml"))
    }
}

/// When to use colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ColorChoice {
    /// If the output is a terminal and `NO_COLOR` isn't set
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// How to show progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ProgressMode {
    /// Bars at a terminal, lines elsewhere
    Auto,
    /// Bars
    Bars,
    /// One line per finished image
    Lines,
    /// Nothing
    None,
}

/// The verbs.
#[derive(Debug, Clone, Subcommand)]
pub enum Verb {
    /// Mirror what the lock pins; pin what it lacks first
    Sync(Sync),
    /// Show what sync would do and what it would cost
    Plan(Plan),
    /// Pin what the lock lacks; copy nothing
    Lock(Lock),
    /// Move pins to what upstream serves now; copy nothing
    Update(Update),
    /// Copy one image; needs no configuration
    Copy(Copy),
    /// Check that a sync can work; copy nothing
    Check(Check),
    /// Compare the targets with the lock; change nothing
    Verify(Verify),
    /// Show what is left of the sources' pull quotas
    Quota,
    /// Write a first mirror.yaml
    Init(Init),
    /// List the images that files refer to
    Discover(Discover),
    /// Make files pull from the mirror
    Rewrite(Rewrite),
    /// Write configuration for clients of the mirror
    Export(Export),
    /// Fill pull-through caches with what the lock pins
    Warm(Warm),
    /// Mirror a few images on this machine, as a demo
    Demo(Demo),
    /// Print the JSON schema of mirror.yaml or of the reports
    Schema(Schema),
    /// Print completions for a shell
    Completions(Completions),
    /// Print the man page
    Man,
}

impl Verb {
    /// The verb, as it is typed.
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

    /// Whether the verb prints a report, so that `--json` and `--report` apply.
    fn has_report(&self) -> bool {
        !matches!(
            self,
            Self::Demo(_) | Self::Export(_) | Self::Init(_) | Self::Schema(_) | Self::Completions(_) | Self::Man
        )
    }

    /// Whether the verb reads the lock.
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

/// Arguments of `init`.
#[derive(Debug, Clone, Args)]
pub struct Init {
    /// The images to mirror, such as nginx:1.27 [default: examples]
    #[arg(value_name = "IMAGE")]
    pub images: Vec<String>,

    /// The target: REGISTRY[/PREFIX], or oci:DIR
    ///
    /// For example harbor.example.com/mirror. --config sets the file to
    /// write; -c - prints it.
    #[arg(verbatim_doc_comment, long, value_name = "TARGET", required_unless_present = "full")]
    pub target: Option<String>,

    /// Print an example with every key; write nothing
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
    /// config (mirror.yaml) or report (--json)
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

/// Flags that are mutually exclusive. They are checked here because clap doesn't compare a global flag before the verb
/// with a flag after it.
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

    /// Parses a command line, whose first argument is the program's name.
    ///
    /// # Errors
    /// A usage error, or the text of `--help` and `--version`: clap knows where to print them and how to exit.
    pub fn read<T: Into<OsString> + Clone>(arguments: impl IntoIterator<Item = T>) -> Result<Self, clap::Error> {
        // clap reads NO_COLOR and CLICOLOR_FORCE itself, and uses colours if CI is set.
        let is_plain = std::env::var_os("CI").is_some_and(|ci| !ci.is_empty()) && !colour::wanted(None, true);
        let color = if is_plain { clap::ColorChoice::Never } else { clap::ColorChoice::Auto };
        let mut command = Self::command().color(color);
        let matches = command.try_get_matches_from_mut(arguments)?;
        let mut cli = Self::from_arg_matches(&matches)?;
        cli.given = again::given(&command, &matches);
        let mut refuse = |kind, message: String| Err(command.error(kind, message));
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
