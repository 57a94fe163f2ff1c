//! `completions SHELL`: shell completions, generated from the command line's structs.

use clap::CommandFactory as _;

use crate::cli::{Cli, Completions};

pub(super) fn script(arguments: &Completions) -> String {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Cli::command(), "transship", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}
