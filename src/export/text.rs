//! Comments and other elements that the formats share.

/// The header of a comment: the command that wrote the file, and when to run it again. Then `lines`.
pub(super) fn about(kind: &str, lines: &[&str]) -> String {
    let first = format!("Written by `transship export {kind}`. Run it again when mirror.yaml or mirror.lock changes.");
    let all = std::iter::once(first.as_str()).chain(lines.iter().copied().filter(|line| !line.is_empty()));
    all.fold(String::new(), |text, line| text + line + "\n")
}

/// A comment for TOML, YAML and shells.
pub(super) fn comment(about: &str) -> String {
    about.lines().fold(String::new(), |text, line| text + "# " + line + "\n")
}

/// `1 image`, `2 images`.
pub(super) fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// A YAML document, without `---`.
pub(super) fn yaml(document: &impl serde::Serialize) -> String {
    serde_yaml::to_string(document).unwrap_or_default()
}

/// An RE2 pattern that matches only this text.
pub(super) fn re2(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-/:".contains(c);
    text.chars().fold(
        String::new(),
        |pattern, c| if is_plain(c) { pattern + &c.to_string() } else { format!("{pattern}\\{c}") },
    )
}
