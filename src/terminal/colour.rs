//! Whether to use colours, decided in one place for stdout and stderr, text, log and progress.

use std::ffi::OsString;

/// The choice on the command line; `None` = it depends on the environment.
pub(crate) type Choice = Option<bool>;

pub(crate) const GREEN: &str = "32";
pub(crate) const RED: &str = "31";
pub(crate) const YELLOW: &str = "33";
pub(crate) const BOLD: &str = "1";

/// Whether to colour output to a terminal, or to anything else.
pub(crate) fn wanted(choice: Choice, is_terminal: bool) -> bool {
    choice.unwrap_or_else(|| by_surroundings(is_terminal, |name| std::env::var_os(name)))
}

/// NO_COLOR (no-color.org) overrides CLICOLOR_FORCE (bixense.com/clicolors). Without either, terminals that support
/// colours have them.
fn by_surroundings(is_terminal: bool, env: impl Fn(&str) -> Option<OsString>) -> bool {
    let is_set = |name: &str| env(name).is_some_and(|value| !value.is_empty());
    let is_forced = env("CLICOLOR_FORCE").is_some_and(|value| !value.is_empty() && value != "0");
    let is_dumb = env("TERM").is_some_and(|term| term == "dumb");
    match is_set("NO_COLOR") {
        true => false,
        false => is_forced || is_terminal && !is_dumb && !is_set("CI"),
    }
}

/// `text` in `colour`, an SGR code, if `is` is true.
pub(crate) fn paint(text: &str, colour: &str, is: bool) -> String {
    if is { format!("\u{1b}[{colour}m{text}\u{1b}[0m") } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_follow_the_terminal_unless_overridden() {
        let at = |is_terminal, set: &[(&str, &str)]| {
            by_surroundings(is_terminal, |name| {
                set.iter().find(|(key, _)| *key == name).map(|(_, value)| OsString::from(value))
            })
        };
        assert!(at(true, &[]) && at(true, &[("TERM", "xterm"), ("NO_COLOR", ""), ("CI", "")]));
        assert!(!at(false, &[]) && !at(true, &[("TERM", "dumb")]) && !at(true, &[("CI", "true")]));
        assert!(!at(true, &[("NO_COLOR", "1"), ("CLICOLOR_FORCE", "1")]));
        assert!(at(false, &[("CLICOLOR_FORCE", "1"), ("CI", "true")]) && !at(false, &[("CLICOLOR_FORCE", "0")]));
    }
}
