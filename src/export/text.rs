//! Comments, and what else the formats have in common.

/// What a comment begins with: who has written the file, and when to write it anew. Then `lines`.
pub(super) fn about(kind: &str, lines: &[&str]) -> String {
    let first = format!("Written by `transship export {kind}`. Run it again when mirror.yaml or mirror.lock changes.");
    let all = std::iter::once(first.as_str()).chain(lines.iter().copied().filter(|line| !line.is_empty()));
    all.fold(String::new(), |text, line| text + line + "\n")
}

/// As comment of TOML, YAML and shells.
pub(super) fn comment(about: &str) -> String {
    about.lines().fold(String::new(), |text, line| text + "# " + line + "\n")
}

/// `1 image`, `2 images`.
pub(super) fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}
