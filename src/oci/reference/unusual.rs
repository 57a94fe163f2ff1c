//! Texts that were meant as references but aren't: explains the error.

use super::ReferenceError;

/// The prefixes of other tools, with advice. Words that are also image names, such as `dir` and `registry`, aren't
/// among them.
const TRANSPORTS: &[(&str, &str)] = &[
    ("docker://", PLAIN),
    ("oci://", PLAIN),
    ("https://", PLAIN),
    ("http://", PLAIN),
    ("docker-daemon:", ELSEWHERE),
    ("docker-archive:", ELSEWHERE),
    ("oci-archive:", ELSEWHERE),
    ("containers-storage:", ELSEWHERE),
    ("dir:/", ELSEWHERE),
    ("dir:.", ELSEWHERE),
];

const PLAIN: &str = "write [host/]repository[:tag][@digest], without a prefix";
const ELSEWHERE: &str = "only registries and layouts (oci:DIR) can be read; `skopeo copy` can convert it to a layout";

/// # Errors
/// If `text` is unusual in a known way.
pub(super) fn check(text: &str) -> Result<(), ReferenceError> {
    check_signs(text)?;
    let meant = TRANSPORTS.iter().find(|(prefix, _)| text.starts_with(prefix));
    meant.map_or(Ok(()), |(_, next)| Err(ReferenceError::Transport(text.to_owned(), next)))
}

/// # Errors
/// If `text` has a non-ASCII or non-printable character.
pub(super) fn check_signs(text: &str) -> Result<(), ReferenceError> {
    let Some(sign) = text.chars().find(|sign| !sign.is_ascii_graphic() && *sign != ' ') else { return Ok(()) };
    let number = format!("U+{:04X}", u32::from(sign));
    let sign = match is_visible(sign) {
        true => format!("the character {sign} ({number})"),
        false => format!("an invisible or odd character ({number})"),
    };
    let plain = |c: char| c.is_ascii_graphic() || c == ' ' || is_visible(c);
    let shown = text.chars().map(|c| if plain(c) { c.to_string() } else { c.escape_unicode().to_string() }).collect();
    Err(ReferenceError::Sign { shown, sign })
}

/// Letters and digits of any script are visible; other characters may not be.
fn is_visible(c: char) -> bool {
    c.is_alphanumeric()
}

/// The tag that Helm uses for a version with `+`, if the `+` is the only error.
pub(super) fn without_plus(text: &str) -> Option<String> {
    text.contains('+').then(|| text.replace('+', "_")).filter(|plain| plain.parse::<super::Tag>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::super::{Reference, Registry, Repository, Tag};

    #[test]
    fn unusual_references_are_reported() {
        let reference = |text: &str| text.parse::<Reference>().map(|_| ()).unwrap_err().to_string();
        for (text, words) in [
            ("docker://nginx:1.27", "without a prefix"),
            ("docker://ghcr.io/a/b", "without a prefix"),
            ("oci://ghcr.io/a/chart:1", "without a prefix"),
            ("https://ghcr.io/a/b:1", "without a prefix"),
            ("oci-archive:app.tar", "layouts (oci:DIR)"),
            ("oci-archive:/tmp/app.tar:1", "layouts (oci:DIR)"),
            ("docker-archive:app.tar", "layouts (oci:DIR)"),
            ("docker-daemon:nginx:1.27", "layouts (oci:DIR)"),
            ("containers-storage:localhost/a:1", "layouts (oci:DIR)"),
            ("dir:/tmp/x", "layouts (oci:DIR)"),
            ("ghcr.io/a/chart:1.2.3+build.5", "Helm and others store it as `1.2.3_build.5`"),
            ("ngi\u{200b}nx:1", "`ngi\\u{200b}nx:1` contains an invisible or odd character (U+200B)"),
            ("\u{feff}nginx:1", "(U+FEFF)"),
            ("nginx:1\u{a0}", "an invisible or odd character (U+00A0)"),
            ("nginx:1\u{ad}", "an invisible or odd character (U+00AD)"),
            ("nginx\u{202e}:1", "an invisible or odd character (U+202E)"),
            ("nginx:1\t", "an invisible or odd character (U+0009)"),
            ("nginx:1\n", "an invisible or odd character (U+000A)"),
            ("nginx:\u{7f}1", "an invisible or odd character (U+007F)"),
            ("nginх:1", "the character х (U+0445)"),
            ("nginx:1–2", "(U+2013)"),
        ] {
            assert!(reference(text).contains(words), "{text:?}: {}", reference(text));
        }
        assert!("1.0+2".parse::<Tag>().unwrap_err().to_string().contains("`1.0_2`"));
        assert!("+".parse::<Tag>().unwrap_err().to_string().contains("isn't a tag"));
        assert!("docker://h/a".parse::<Repository>().unwrap_err().to_string().contains("without a prefix"));
        assert!("h\u{200b}.io".parse::<Registry>().unwrap_err().to_string().contains("U+200B"));
    }

    #[test]
    fn references_that_only_look_unusual_are_accepted() {
        for text in [
            "dir:1.0",
            "registry:2",
            "registry:5000/app:1",
            "dir:8080/a",
            "docker/library:1",
            "oci/a:1",
            "tarball",
            "dir",
        ] {
            let parsed = text.parse::<Reference>();
            assert!(parsed.is_ok(), "{text}: {parsed:?}");
        }
    }
}
