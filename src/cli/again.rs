//! The command line, as far as the command that goes on from here has to be about the same.

use std::borrow::Cow;

use super::{Cli, Selection, Verb};

/// Flags that were given, each with the words that give it again. What stands without a flag has an empty one.
pub(super) type Given = Vec<(&'static str, String)>;

impl Cli {
    /// What the next command is to be given as well, as far as it takes it.
    pub(crate) fn again(&self) -> Given {
        let mut given = Given::new();
        let files = [("-c", &self.global.config), ("--lock", &self.global.lock)];
        given.extend(files.iter().filter_map(|(flag, path)| Some(with(flag, &path.as_ref()?.to_string_lossy()))));
        given.extend(is_set(&[("--no-lock", self.global.no_lock)]));
        match &self.verb {
            Verb::Sync(sync) => {
                given.extend(is_set(&[
                    ("--update", sync.update),
                    ("--locked", sync.locked),
                    ("--repair", sync.repair),
                ]));
                given.extend(places(sync.target.as_deref(), sync.from.as_deref()));
                given.extend(only(&sync.selection));
            }
            Verb::Plan(plan) => {
                given.extend(is_set(&[("--update", plan.update), ("--bytes", plan.bytes), ("--repair", plan.repair)]));
                given.extend(places(plan.target.as_deref(), plan.from.as_deref()));
                given.extend(only(&plan.selection));
            }
            Verb::Verify(verify) => {
                let flags = [("--deep", verify.deep), ("--content", verify.content), ("--extra", verify.extra)];
                given.extend(is_set(&flags));
                given.extend(places(verify.target.as_deref(), None));
                given.extend(only(&verify.selection));
            }
            Verb::Check(check) => given.extend(only(&check.selection)),
            Verb::Update(update) => given.extend(update.images.iter().map(|image| ("", quoted(image).into_owned()))),
            _ => {}
        }
        given
    }
}

fn is_set(flags: &[(&'static str, bool)]) -> Given {
    flags.iter().filter(|(_, is_set)| *is_set).map(|(flag, _)| (*flag, (*flag).to_owned())).collect()
}

fn places(target: Option<&str>, from: Option<&str>) -> Given {
    let places = [("--target", target), ("--from", from)];
    places.into_iter().filter_map(|(flag, place)| Some(with(flag, place?))).collect()
}

fn only(selection: &Selection) -> Given {
    selection.only.iter().map(|image| with("--only", image)).collect()
}

fn with(flag: &'static str, value: &str) -> (&'static str, String) {
    (flag, format!("{flag} {}", quoted(value)))
}

/// A word as a shell reads it.
fn quoted(word: &str) -> Cow<'_, str> {
    let is_plain = |c: char| c.is_alphanumeric() || "_-./:@%+=,".contains(c);
    match !word.is_empty() && word.chars().all(is_plain) {
        true => Cow::Borrowed(word),
        false => Cow::Owned(format!("'{}'", word.replace('\'', r"'\''"))),
    }
}
