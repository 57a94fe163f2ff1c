//! `sync`: list → lock → repositories → copy → report.

use super::plan::{warn_of_subsets, warn_of_untagged};
use super::session::Start;
use crate::cli::Sync;
use crate::lock::{self, Lock};
use crate::report::{Change, Part, Report};
use crate::resolve::{Resolution, Update};

pub(super) async fn run(start: Start, arguments: &Sync) -> anyhow::Result<Report> {
    let (session, pins) = start.session()?;
    let only = session.only(&arguments.selection.only, &pins.old)?;
    let resolution = if arguments.locked {
        Resolution { lock: pins.locked(&session.images)?, ..Resolution::default() }
    } else {
        let update = if arguments.update { Update::All } else { Update::Nothing };
        session.resolve(&pins.old, &update, &only).await
    };
    // What was resolved until a stop isn't all: the file stays as it is.
    let is_whole = !session.stop.is_cancelled();
    if is_whole && !arguments.locked && !arguments.dry_run {
        pins.write(&resolution.lock)?;
    }
    let plan = session.plan(&resolution, &only, arguments.update).await;
    let mut report = if arguments.dry_run {
        warn_of_untagged(&plan);
        warn_of_subsets(&plan);
        session.report("sync").with_plan(plan)
    } else {
        session.execute(plan).await
    };
    if is_whole && arguments.update {
        report.changes = Some(changes(&pins.old, &resolution.lock));
    }
    Ok(session.finish("sync", report))
}

/// Pins that differ, in the report's terms.
pub(super) fn changes(old: &Lock, new: &Lock) -> Vec<Change> {
    let differ = old.diff(new).into_iter();
    let spoken = differ.map(|change| {
        let lock::Change { source, old, new, referrer, .. } = change;
        let what = if referrer { Part::Referrer } else { Part::Pin };
        Change { source: source.to_string(), what, old, new }
    });
    spoken.collect()
}
