//! Shortens image names that are too long for their line.

use super::{head, truncate, width};

/// `name` in at most `columns` columns, with `…` in place of the middle. The parts that tell images apart are kept as
/// long as possible: the tag, and 12 digits of a digest.
pub(crate) fn shorten(name: &str, columns: usize) -> String {
    if width(name) <= columns {
        return name.to_owned();
    }
    let (path, end) = split(name);
    let end = short_digest(end);
    if width(path) + width(&end) <= columns {
        return format!("{path}{end}");
    }
    let Some(room) = columns.checked_sub(width(&end) + 1).filter(|room| *room > 0) else {
        return truncate(end.trim_start_matches([':', '@']), columns).into_owned();
    };
    // The end of a path says more than its start.
    let (first, last) = (room / 3, room - room / 3);
    let head = if first == 0 { "" } else { head(path, first) };
    let mut at = path.len();
    let mut taken = 0;
    for (index, c) in path.char_indices().rev() {
        taken += super::columns(c);
        if taken > last {
            break;
        }
        at = index;
    }
    format!("{head}…{}{end}", &path[at..])
}

/// The path, and the tag with the digest. A port isn't a tag.
fn split(name: &str) -> (&str, &str) {
    let (named, _) = name.split_once('@').unwrap_or((name, ""));
    let last = named.rfind('/').map_or(0, |slash| slash + 1);
    let end = named[last..].find(':').map_or(named.len(), |colon| last + colon);
    name.split_at(end)
}

/// `end`, with its digest shortened to 12 digits.
fn short_digest(end: &str) -> String {
    match end.rsplit_once(':') {
        Some((before, hex)) if end.contains('@') && hex.len() > 12 && hex.is_ascii() => {
            format!("{before}:{}", &hex[..12])
        }
        _ => end.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_shortened_in_the_middle_and_stays_distinguishable() {
        let long = "registry.example.com:5000/department/team/service-with-a-long-name:v1.27.3-alpine";
        assert_eq!(shorten(long, 100), long);
        assert_eq!(shorten(long, 40), "registry…with-a-long-name:v1.27.3-alpine");
        let digested = "ghcr.io/owner/name@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(shorten(digested, 50), "ghcr.io/owner/name@sha256:e3b0c44298fc");
        assert_eq!(shorten(digested, 32), "ghc…ner/name@sha256:e3b0c44298fc");
        for columns in 1..90 {
            assert!(width(&shorten(long, columns)) <= columns, "{columns}");
            assert!(width(&shorten(digested, columns)) <= columns, "{columns}");
        }
        for columns in 20..90 {
            assert!(shorten(long, columns).ends_with(":v1.27.3-alpine"), "{columns}");
        }
    }
}
