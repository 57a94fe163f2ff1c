//! Sections about pull-through caches: what is verified, what their tags name, and what only the upstream answers to.

use std::io;

use super::super::{CacheProof, Cached, CachedTag, Outcome, Report, Status};
use super::{PLAIN, Page, WAITING};
use crate::terminal::escape;

/// What `warm --check` verified about an image, and what it means.
struct Proved {
    proof: CacheProof,
    word: &'static str,
    meaning: Option<&'static str>,
}

const PROVED: [Proved; 3] = [
    Proved { proof: CacheProof::Kept, word: "kept", meaning: None },
    Proved {
        proof: CacheProof::BlobsKept,
        word: "blobs kept",
        meaning: Some(
            "blobs kept: only Harbor's API shows which manifests it stores, to accounts with the permission `artifact: read`",
        ),
    },
    Proved {
        proof: CacheProof::Served,
        word: "served",
        meaning: Some(
            "served: this cache forwards each HEAD, so the image is available through it, but may not be stored",
        ),
    },
];

impl Page<'_> {
    pub(super) fn caches(&mut self, report: &Report) -> io::Result<()> {
        if !report.of_caches || self.style.quiet {
            return Ok(());
        }
        let known = || report.outcomes.iter().filter_map(|outcome| Some((outcome, outcome.cached.as_ref()?)));
        let looked_at: Vec<_> = known().filter(|(outcome, _)| outcome.status == Status::UpToDate).collect();
        for Proved { proof, word, meaning } in PROVED {
            let mut such = looked_at.iter().filter(|(_, cached)| cached.proof == proof).peekable();
            let is_any = such.peek().is_some();
            let is_verbose = self.style.verbose;
            for (outcome, _) in such.filter(|_| is_verbose) {
                self.worded((word, PLAIN), &place(outcome))?;
            }
            if let Some(meaning) = meaning.filter(|_| is_any && report.differences.is_some()) {
                self.line(&format!("  {meaning}"))?;
            }
        }
        self.tags(&known().collect::<Vec<_>>())?;
        self.only_upstream(&known().collect::<Vec<_>>())
    }

    /// Tags that name something other than the pinned digest.
    fn tags(&mut self, known: &[(&Outcome, &Cached)]) -> io::Result<()> {
        let mut is_any = false;
        for (outcome, cached) in known {
            let names = match &cached.tag {
                None | Some(CachedTag::AsPinned) => continue,
                Some(CachedTag::Moved(digest)) => format!("the tag names {} upstream", digest.short()),
                Some(CachedTag::Gone) => "the tag no longer exists upstream".to_owned(),
            };
            is_any = true;
            let pinned = outcome.digest.as_ref().map_or("nothing", |digest| digest.short());
            let text = format!("{}  {names}, the lock pins {pinned}", place(outcome));
            self.worded(("moved", WAITING), &text)?;
        }
        if is_any {
            let hint = "clients get the pinned image by digest; `transship update` pins what the tag names";
            self.line(&format!("  hint: {hint}"))?;
        }
        Ok(())
    }

    /// Indexes that a Harbor stores under a different digest.
    fn only_upstream(&mut self, known: &[(&Outcome, &Cached)]) -> io::Result<()> {
        let of: Vec<_> = known.iter().filter(|(_, cached)| !cached.only_upstream.is_empty()).collect();
        if of.is_empty() {
            return Ok(());
        }
        self.gap()?;
        self.line("only the upstream answers to these digests, because Harbor stores an index under another one:")?;
        for (outcome, cached) in of {
            for digest in &cached.only_upstream {
                self.line(&format!("  {digest}  {}", place(outcome)))?;
            }
        }
        let hint = "pulls by digest while the upstream is down need copies in an ordinary project: `transship sync`";
        self.line(&format!("  hint: {hint}"))
    }
}

fn place(outcome: &Outcome) -> std::borrow::Cow<'_, str> {
    escape(&outcome.target)
}
