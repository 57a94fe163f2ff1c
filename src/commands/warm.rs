//! `warm CACHE…`: fills pull-through caches with what the lock pins, or checks what they lack.

use std::collections::BTreeSet;

use super::Unable;
use super::session::Start;
use crate::cli;
use crate::config::{Overrides, TargetRoot};
use crate::report::Report;
use crate::warm;

pub(super) async fn run(start: Start, arguments: &cli::Warm) -> anyhow::Result<Report> {
    let caches = arguments.caches.iter().map(|text| cache(text)).collect::<anyhow::Result<Vec<_>>>()?;
    let hosts: BTreeSet<_> = caches.iter().map(|cache| cache.registry.clone()).collect();
    let (session, pins) = start.session_for(&Overrides { only_hosts: Some(hosts), ..Overrides::default() })?;
    let lock = pins.existing()?;
    let only = session.only(&arguments.selection.only, lock)?;
    let request = warm::Request {
        images: &session.images,
        lock,
        caches: &caches,
        only: &only,
        check: arguments.check,
        stores: &session.stores,
        progress: &session.progress,
        stop: &session.stop,
        transfers: session.transfers,
    };
    let warming = warm::warm(request).await;
    let mut report = session.report("warm");
    report.outcomes = warming.outcomes;
    report.differences = arguments.check.then_some(warming.differences);
    report.pulls_by_caches = warming.pulls.into_iter().map(|(registry, pulls)| (registry.to_string(), pulls)).collect();
    report.of_caches = true;
    Ok(session.finish("warm", report))
}

/// A cache can be any location except a directory.
fn cache(text: &str) -> anyhow::Result<TargetRoot> {
    let hint = "name a cache as HOST[:PORT][/PREFIX], such as harbor.example.com/dockerhub";
    let root: TargetRoot =
        text.parse().map_err(|error| Unable::error(format!("`{text}` isn't a cache: {error}"), hint))?;
    if root.registry.is_host() {
        return Ok(root);
    }
    Err(Unable::error(format!("`{text}` is a directory, not a cache"), hint))
}
