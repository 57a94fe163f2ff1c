//! The arguments of a command line that the suggested next command repeats, so that it is about the same images,
//! targets and files.

use std::borrow::Cow;

use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command};

/// These arguments are repeated, in this order. All others are about how a run shows itself, or what it leaves out.
const REPEATED: [&str; 14] = [
    "config", "lock", "no_lock", "update", "locked", "bytes", "repair", "deep", "content", "extra", "target", "from",
    "only", "images",
];

/// Arguments as a shell reads them, each with the verbs that accept it.
pub(crate) type Given = Vec<(Vec<String>, String)>;

/// The arguments in `matches` that a next command repeats, if it accepts them.
pub(super) fn given(command: &Command, matches: &ArgMatches) -> Given {
    let Some((verb, matches)) = matches.subcommand() else { return Given::new() };
    let mut given = Given::new();
    for id in REPEATED {
        let of_verb = command.find_subcommand(verb).and_then(|verb| find(verb, id));
        let Some(argument) = of_verb.or_else(|| find(command, id)) else { continue };
        if matches.value_source(id) != Some(ValueSource::CommandLine) {
            continue;
        }
        let verbs = command.get_subcommands().filter(|verb| argument.is_global_set() || find(verb, id).is_some());
        let verbs: Vec<String> = verbs.map(|verb| verb.get_name().to_owned()).collect();
        given.extend(words(argument, matches).into_iter().map(|words| (verbs.clone(), words)));
    }
    given
}

fn find<'a>(command: &'a Command, id: &str) -> Option<&'a Arg> {
    command.get_arguments().find(|argument| argument.get_id() == id)
}

fn words(argument: &Arg, matches: &ArgMatches) -> Vec<String> {
    let short = argument.get_short().map(|short| format!("-{short}"));
    let flag = short.or_else(|| argument.get_long().map(|long| format!("--{long}")));
    if !argument.get_action().takes_values() {
        return flag.into_iter().collect();
    }
    let values = matches.get_raw(argument.get_id().as_str()).into_iter().flatten();
    let values = values.map(|value| quoted(&value.to_string_lossy()).into_owned());
    values.map(|value| flag.iter().cloned().chain([value]).collect::<Vec<_>>().join(" ")).collect()
}

/// A word as a shell reads it.
fn quoted(word: &str) -> Cow<'_, str> {
    let is_plain = |c: char| c.is_alphanumeric() || "_-./:@%+=,".contains(c);
    match !word.is_empty() && word.chars().all(is_plain) {
        true => Cow::Borrowed(word),
        false => Cow::Owned(format!("'{}'", word.replace('\'', r"'\''"))),
    }
}
