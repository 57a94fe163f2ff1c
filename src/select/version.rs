//! Versions in image tags.
//!
//! A tag is `[v]N[.N[.N[.N…]]]`, followed by a prerelease, a flavour, both, or nothing:
//! - missing numbers are 0: `1.27` is 1.27.0; further numbers (`2.361.4.1`) count only in the order;
//! - a prerelease is one of the words `alpha beta rc pre preview dev snapshot nightly canary milestone a b m`, with
//!   or without a number, after `-`, `.`, `_` or nothing: `1.2.0-rc.1`, `1.2.0-beta2`, `3.13.0rc2`;
//! - anything else after `-`, `_` or `.` is a flavour: `3.12.1-slim`, `15.10-alpine`, `v1.27.6-eks-1-27-14`. It
//!   says how the image was built, not which version it is, so it neither affects requirements nor lowers the
//!   precedence.
//!
//! A requirement sees numbers and prerelease, by the rules of the `semver` crate: a prerelease matches only if the
//! requirement names one of the same version. Order: by numbers, prerelease before release, then (for one version
//! under several tags) more numbers before fewer, no flavour before a flavour, and flavours in natural order.

use std::cmp::Ordering;
use std::sync::LazyLock;

use regex::Regex;
use semver::{BuildMetadata, Prerelease, VersionReq};

use super::order::Natural;

static GRAMMAR: LazyLock<Regex> = LazyLock::new(|| {
    let words = "alpha|beta|rc|pre|preview|dev|snapshot|nightly|canary|milestone|a|b|m";
    Regex::new(&format!(r"(?i)^v?(\d+(?:\.\d+)*)(?:[-._]?({words})(?:[-._]?(\d+))?(?:[-_.](.*))?|[-_.](.*))?$"))
        .expect("a constant pattern, compiled by the tests")
});

/// The version in a tag. Greater is newer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Version<'t> {
    core: semver::Version,
    /// Numbers after the third.
    further: Vec<u64>,
    numbers: usize,
    flavour: &'t str,
}

impl<'t> Version<'t> {
    /// `None` if `text` has no version.
    pub(super) fn read(text: &'t str) -> Option<Self> {
        let parts = GRAMMAR.captures(text)?;
        let numbers: Vec<u64> = parts[1].split('.').map(str::parse).collect::<Result<_, _>>().ok()?;
        let number = |index: usize| numbers.get(index).copied().unwrap_or(0);
        let pre = match (parts.get(2), parts.get(3)) {
            (None, _) => Prerelease::EMPTY,
            (Some(word), None) => Prerelease::new(&word.as_str().to_ascii_lowercase()).ok()?,
            (Some(word), Some(digits)) => {
                // Parsed as a number, not passed as text, because semver forbids leading zeros.
                let number: u64 = digits.as_str().parse().ok()?;
                Prerelease::new(&format!("{}.{number}", word.as_str().to_ascii_lowercase())).ok()?
            }
        };
        let core =
            semver::Version { major: number(0), minor: number(1), patch: number(2), pre, build: BuildMetadata::EMPTY };
        let flavour = parts.get(4).or_else(|| parts.get(5)).map_or("", |flavour| flavour.as_str());
        Some(Self { core, further: numbers.iter().skip(3).copied().collect(), numbers: numbers.len(), flavour })
    }

    pub(super) fn satisfies(&self, requirement: &VersionReq) -> bool {
        requirement.matches(&self.core)
    }
}

impl Ord for Version<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        let numbers = |v: &Self| (v.core.major, v.core.minor, v.core.patch);
        numbers(self)
            .cmp(&numbers(other))
            .then_with(|| self.further.cmp(&other.further))
            .then_with(|| self.core.pre.cmp(&other.core.pre))
            .then_with(|| self.numbers.cmp(&other.numbers))
            .then_with(|| self.flavour.is_empty().cmp(&other.flavour.is_empty()))
            .then_with(|| Natural(self.flavour).cmp(&Natural(other.flavour)))
    }
}

impl PartialOrd for Version<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
