//! `verify`: checks whether the targets hold what the lock pins. Changes nothing and contacts no source.

use super::detour::detour;
use super::session::Start;
use crate::cli;
use crate::config::Overrides;
use crate::report::Report;
use crate::verify::Depth;

pub(super) async fn run(start: Start, arguments: &cli::Verify) -> anyhow::Result<Report> {
    let only = &arguments.selection.only;
    let detour =
        Overrides { targets_only: true, provisions: false, ..detour(arguments.target.as_deref(), None, only)? };
    let (session, pins) = start.session_for(&detour)?;
    let lock = pins.existing()?;
    let only = session.only(only, lock)?;
    let depth = match arguments {
        cli::Verify { content: true, .. } => Depth::Content,
        cli::Verify { deep: true, .. } => Depth::Graph,
        cli::Verify { .. } => Depth::Tags,
    };
    let verification = session.verify(lock, &only, depth, arguments.extra).await;
    let mut report = session.report("verify");
    report.outcomes = verification.outcomes;
    report.differences = Some(verification.differences);
    report.verified = true;
    Ok(session.finish("verify", report))
}
