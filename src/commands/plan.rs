//! `plan`: what a sync would do and what it would cost. Nothing is written, at the targets or on disk.

use super::session::Start;
use crate::cli;
use crate::plan::{Plan, Planned, weigh};
use crate::report::Report;
use crate::resolve::Update;

pub(super) async fn run(start: Start, arguments: &cli::Plan) -> anyhow::Result<Report> {
    let (session, pins) = start.session()?;
    let only = session.only(&arguments.selection.only, &pins.old)?;
    let resolution = session.resolve(&pins.old, &Update::Nothing, &only).await;
    if session.global.verbose > 0 {
        for note in &resolution.notes {
            session.progress.log(format!("{note}\n").as_bytes());
        }
    }
    let mut plan = session.plan(&resolution, &only).await;
    warn_of_untagged(&plan);
    if arguments.bytes {
        // Asked to stop, the plan stays without.
        session.stop.run_until_cancelled(weigh(&mut plan, &session.stores)).await;
    }
    let mut report = session.report("plan").with_plan(plan);
    report.expect_no_work = arguments.check;
    Ok(session.finish("plan", report))
}

/// Registries may clear away what has no tag.
pub(super) fn warn_of_untagged(plan: &Plan) {
    let images = plan.images.iter().filter_map(|planned| match planned {
        Planned::Image(transfer) if transfer.tag.is_none() && transfer.action.has_work() => Some(transfer),
        _ => None,
    });
    for transfer in images {
        tracing::warn!("{} lands without a tag, and may be cleared away: name one with as:", transfer.target_text());
    }
}
