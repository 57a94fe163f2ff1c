//! `lock`: completes the lock and copies nothing. With `--check` it compares the pins with what upstream serves now.

use super::run_lock::RunLock;
use super::session::{Session, Start};
use super::sync::changes;
use crate::cli;
use crate::report::{Difference, Outcome, Report};
use crate::resolve::{Resolution, Update};
use crate::select::Only;

pub(super) async fn run(start: Start, arguments: &cli::Lock) -> anyhow::Result<Report> {
    let _run_lock = RunLock::take(&start, arguments.wait, !arguments.check).await;
    let (session, pins) = start.session()?;
    session.prepare()?;
    let update = if arguments.check { Update::All } else { Update::Nothing };
    let resolution = session.resolve(&pins.old, &update, &Only::default()).await;
    let mut report = unresolved(&session, &resolution);
    session.bound_cache(&resolution.lock);
    if arguments.check {
        let drift = changes(&pins.old, &resolution.lock).into_iter().map(|change| Difference {
            source: change.source,
            target: None,
            what: change.what,
            expected: change.old,
            found: change.new,
            why: None,
        });
        report.differences = Some(drift.collect());
    } else if !session.stop.is_cancelled() {
        report.changes = Some(changes(&pins.old, &pins.write(resolution.lock)?));
    }
    Ok(session.finish("lock", report))
}

/// A report of the images that couldn't be resolved.
pub(super) fn unresolved(session: &Session, resolution: &Resolution) -> Report {
    let mut report = session.report("lock");
    let failed = resolution.failed.iter();
    report.outcomes = failed.map(|((source, _), error)| Outcome::unresolved(source.clone(), error.clone())).collect();
    report
}
