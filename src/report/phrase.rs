//! Phrases of the text report: numbers, durations, names.

use crate::error::Error;
use crate::oci::Location;

/// Details that an error's message lacks.
pub(super) fn circumstances(error: &Error) -> String {
    // Messages from a registry begin with the status.
    let status = error.status().filter(|status| !error.to_string().contains(&format!(": {status} ")));
    let status = status.map(|status| format!("HTTP {status}"));
    let attempts = (error.attempts() > 1).then(|| format!("{} attempts", error.attempts()));
    let facts: Vec<_> = status.into_iter().chain(attempts).collect();
    if facts.is_empty() { String::new() } else { format!(" ({})", facts.join(", ")) }
}

/// How targets are printed: not at all if every target is the same prefix followed by the source's name.
pub(super) struct Targets<'a>(Option<&'a str>);

impl<'a> Targets<'a> {
    pub(super) fn of(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> Self {
        let mut prefixes = pairs.map(|(source, target)| prefix(source, target));
        let first = prefixes.next().flatten();
        Self(first.filter(|first| prefixes.all(|prefix| prefix == Some(*first))))
    }

    /// The name of an image, and its target if that isn't obvious.
    pub(super) fn names(&self, source: &str, target: &str) -> (String, Option<String>) {
        let target = match (self.0, prefix(source, target)) {
            (Some(_), _) => None,
            (None, Some(prefix)) => Some(format!("{prefix}…")),
            (None, None) => Some(target.to_owned()),
        };
        (source.to_owned(), target)
    }
}

/// The target's prefix before the source's name, if the default layout made it: a port's colon becomes a hyphen. In a
/// directory, an image has the name of its source.
fn prefix<'a>(source: &str, target: &'a str) -> Option<&'a str> {
    if let Some(directory) =
        target.strip_suffix(source).filter(|start| Location::is_layout(start) && start.ends_with(':'))
    {
        return Some(directory);
    }
    let (host, rest) = source.split_once('/')?;
    let start = target.strip_suffix(rest)?.strip_suffix('/')?.strip_suffix(&host.replace(':', "-"))?;
    start.ends_with('/').then_some(start)
}

pub(super) fn count(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

/// At most two units: `2 h 5 min`, not seconds.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "seconds of a run: small and not negative")]
pub(super) fn duration(seconds: f64) -> String {
    let whole = seconds.max(0.0).round() as u64;
    match whole {
        0..60 => format!("{seconds:.1} s"),
        60..3600 => format!("{} min {} s", whole / 60, whole % 60),
        _ => format!("{} h {} min", whole / 3600, whole % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        let times = [0.04, 12.34, 59.96, 65.0, 3599.0, 7384.0].map(duration);
        assert_eq!(times, ["0.0 s", "12.3 s", "1 min 0 s", "1 min 5 s", "59 min 59 s", "2 h 3 min"]);
    }

    #[test]
    fn targets_are_named_only_where_they_differ() {
        let source = "docker.io/library/nginx:1.27";
        let in_registry = format!("harbor.example.com/mirror/{source}");
        let in_directory = format!("oci:/media/disk:{source}");
        for target in [&in_registry, &in_directory] {
            let one = Targets::of(std::iter::once((source, target.as_str())));
            assert_eq!(one.names(source, target), (source.to_owned(), None));
        }
        let pairs = [(source, in_registry.as_str()), (source, in_directory.as_str())];
        let both = Targets::of(pairs.into_iter());
        let targets = pairs.map(|(source, target)| both.names(source, target).1.unwrap());
        assert_eq!(targets, ["harbor.example.com/mirror/…", "oci:/media/disk:…"]);
    }
}
