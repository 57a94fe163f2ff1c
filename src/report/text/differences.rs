//! Differences and how to fix them: at the targets by image, between lock and upstream by pin.

use std::io;

use super::super::{Difference, Part, Report};
use super::{BAD, Page, WAITING};
use crate::oci::{Digest, Location};
use crate::terminal::escape;

/// What is wrong with a part of an image at a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wrong {
    Missing,
    Different,
    Damaged,
    Extra,
}

/// A fix for some differences.
struct Remedy {
    helps: fn(&Difference) -> bool,
    text: &'static str,
}

/// In the order in which they are printed.
const REMEDIES: [Remedy; 5] = [
    Remedy {
        helps: Difference::is_seen_by_sync,
        text: "tag, referrer: `transship sync` sets it again, or reports why it can't",
    },
    Remedy {
        helps: |difference| Wrong::of(difference) == Wrong::Missing && !difference.is_seen_by_sync(),
        text: "missing part: `transship sync --repair` restores it",
    },
    Remedy {
        helps: |difference| Wrong::of(difference) == Wrong::Damaged && !difference.is_in_a_layout(),
        text: "damaged part: delete it there, run the registry's garbage collection, then `transship sync --repair`",
    },
    Remedy {
        helps: |difference| Wrong::of(difference) == Wrong::Damaged && difference.is_in_a_layout(),
        text: "damaged part of a layout: remove its file below blobs/, then `transship sync --repair`",
    },
    Remedy {
        helps: |difference| Wrong::of(difference) == Wrong::Extra,
        text: "extra tag: transship deletes nothing; remove it at the target, or add it to mirror.yaml",
    },
];

/// Fixes for pull-through caches.
const AT_CACHES: [Remedy; 1] =
    [Remedy { helps: |_| true, text: "`transship warm` without --check makes the cache fetch what it lacks" }];

impl Wrong {
    fn of(difference: &Difference) -> Self {
        match difference {
            Difference { expected: None, .. } => Self::Extra,
            Difference { why: Some(_), what, .. } if *what != Part::Referrer => Self::Damaged,
            Difference { found: None, .. } => Self::Missing,
            Difference { .. } => Self::Different,
        }
    }

    fn look(self) -> (&'static str, &'static str) {
        match self {
            Self::Missing => ("missing", BAD),
            Self::Different => ("different", BAD),
            Self::Damaged => ("damaged", BAD),
            Self::Extra => ("extra", WAITING),
        }
    }
}

impl Part {
    /// The word in text reports, of at most eight letters.
    fn word(self) -> &'static str {
        match self {
            Self::Pin => "pin",
            Self::Tag => "tag",
            Self::Manifest => "manifest",
            Self::Blob => "blob",
            Self::Referrer => "referrer",
        }
    }
}

impl Difference {
    /// Whether a plain sync restores it: tags, referrers, and images without a tag.
    fn is_seen_by_sync(&self) -> bool {
        let is_root = || self.target.as_ref().zip(self.expected.as_ref()).is_some_and(|(t, d)| t.ends_with(d.as_str()));
        let wrong = matches!(Wrong::of(self), Wrong::Missing | Wrong::Different);
        wrong && (matches!(self.what, Part::Tag | Part::Referrer) || self.what == Part::Manifest && is_root())
    }

    /// A layout has no repository to delete and no garbage collection.
    fn is_in_a_layout(&self) -> bool {
        self.target.as_ref().is_some_and(|target| Location::is_layout(target))
    }
}

impl Page<'_> {
    pub(super) fn differences(&mut self, report: &Report) -> io::Result<()> {
        let all = report.differences.as_deref().unwrap_or_default();
        let (pins, parts): (Vec<_>, Vec<_>) = all.iter().partition(|difference| difference.target.is_none());
        for pin in &pins {
            self.worded(("differs", WAITING), &format!("{}  {}", escape(&pin.source), how_it_differs(pin)))?;
        }
        if !pins.is_empty() {
            self.line(
                "  hint: `transship update` pins what upstream serves now, `transship lock` only images without a pin",
            )?;
        }
        if !parts.is_empty() {
            self.gap()?;
        }
        for of_target in parts.chunk_by(|one, next| one.target == next.target) {
            self.name(0, of_target[0].target.as_deref().unwrap_or_default())?;
            for part in of_target {
                let text = format!("{:<8}  {}", part.what.word(), describe_part(part));
                self.worded_at(2, Wrong::of(part).look(), &text)?;
            }
        }
        let remedies: &[Remedy] = if report.of_caches { &AT_CACHES } else { &REMEDIES };
        for remedy in remedies {
            if parts.iter().any(|part| (remedy.helps)(part)) {
                self.line(&format!("  hint: {}", remedy.text))?;
            }
        }
        Ok(())
    }
}

fn short(digest: Option<&Digest>) -> &str {
    digest.map_or("nothing", Digest::short)
}

/// Describes a difference between a pin and upstream.
fn how_it_differs(pin: &Difference) -> String {
    let (expected, found) = (short(pin.expected.as_ref()), short(pin.found.as_ref()));
    match (&pin.expected, &pin.found) {
        (None, _) if pin.what == Part::Referrer => format!("upstream has a new referrer {found}"),
        (_, None) if pin.what == Part::Referrer => format!("upstream lacks the pinned referrer {expected}"),
        _ if pin.what == Part::Referrer => format!("pinned to referrer {expected}, upstream has {found}"),
        (None, _) => format!("not pinned yet, upstream has {found}"),
        (_, None) => format!("pinned to {expected}, no longer in mirror.yaml"),
        _ => format!("pinned to {expected}, upstream has {found}"),
    }
}

/// Describes a difference at a target.
fn describe_part(part: &Difference) -> String {
    let (expected, found) = (short(part.expected.as_ref()), short(part.found.as_ref()));
    match part {
        Difference { expected: None, .. } => format!("{found}, which isn't in the lock"),
        Difference { found: Some(_), .. } => format!("expected {expected}, found {found}"),
        Difference { why: Some(why), .. } => format!("{expected}: {}", escape(why)),
        Difference { .. } => expected.to_owned(),
    }
}
