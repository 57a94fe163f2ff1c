//! The proxy-cache projects in mirror.yaml: what was done for them, and which ones aren't available.

use std::io;

use super::images::spoken;
use super::{BAD, GOOD, Page};
use crate::report::phrase::circumstances;
use crate::report::{ProxyCacheOutcome, Report};
use crate::terminal::escape;

impl Page<'_> {
    pub(super) fn proxy_caches(&mut self, report: &Report) -> io::Result<()> {
        let (create, change) = if report.plan.is_some() { ("create", "change") } else { ("created", "changed") };
        let quiet = self.style.quiet;
        for cache in report.proxy_caches.iter().flatten().filter(|_| !quiet) {
            if cache.created {
                self.worded((create, GOOD), &named(cache))?;
            } else if !cache.changes.is_empty() {
                let settings = spoken(&cache.changes);
                self.worded((change, GOOD), &format!("{}  {settings}", named(cache)))?;
            }
        }
        Ok(())
    }

    pub(super) fn failed_caches(&mut self, report: &Report) -> io::Result<()> {
        for cache in report.proxy_caches.iter().flatten() {
            let Some(error) = &cache.error else { continue };
            self.gap()?;
            self.worded(("failed", BAD), &named(cache))?;
            self.line(&format!("  {}{}", escape(&error.to_string()), circumstances(error)))?;
            self.hint(2, error.hint())?;
        }
        Ok(())
    }
}

/// `harbor.example.com/dockerhub  proxy cache of docker.io`.
fn named(cache: &ProxyCacheOutcome) -> String {
    format!("{}  proxy cache of {}", escape(&cache.target), escape(&cache.upstream))
}
