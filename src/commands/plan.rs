//! `plan`: what a sync would do and what it would cost. It writes only to the cache.

use super::detour::detour;
use super::session::Start;
use super::sync::{as_mirrored, changes};
use crate::cli;
use crate::plan::{Plan, ReferrerPolicy, Spending, Transfer, price};
use crate::report::Report;
use crate::resolve::{self, Update};

pub(super) async fn run(start: Start, arguments: &cli::Plan) -> anyhow::Result<Report> {
    let only = &arguments.selection.only;
    let detour = detour(arguments.target.as_deref(), arguments.from.as_deref(), only)?;
    let (session, pins) = start.session_for(&detour)?;
    if let Some(from) = &detour.from {
        session.layouts.check(from).await?;
    }
    let only = session.only(only, &pins.old)?;
    let update = if arguments.update { Update::All } else { Update::Nothing };
    let mut prefetch = session.prefetch(&pins, &only);
    let mut resolution = match session.unusable_targets().await {
        Some(error) => resolve::without_asking(&session.images, &pins.old, &error),
        None => prefetch.during(session.resolve(&pins.old, &update, &only)).await,
    };
    if session.global.verbose > 0 {
        for note in &resolution.notes {
            session.progress.log(format!("{note}\n").as_bytes());
        }
    }
    let is_whole = !session.stop.is_cancelled();
    let moved = (is_whole && arguments.update).then(|| changes(&pins.old, &resolution.lock));
    if detour.from.is_some() {
        resolution.lock = as_mirrored(&session, &resolution.lock).await;
    }
    let mut plan =
        session.plan((pins.before(), &resolution), &only, prefetch, arguments.update, arguments.repair).await;
    resolution.reserved.clear();
    warn_of_untagged(&plan, "name one with as:");
    warn_of_subsets(&plan);
    let spending = if arguments.bytes { Spending::Pulls } else { Spending::Nothing };
    // When interrupted, the plan is reported without its cost.
    session.stop.run_until_cancelled(price(&mut plan, &session.stores, spending)).await;
    let mut report = session.report("plan").with_plan(plan);
    session.bound_cache(&resolution.lock);
    if detour.provisions {
        report.proxy_caches = session.proxy_caches(false).await;
    }
    report.expect_no_work = arguments.check;
    report.changes = moved;
    Ok(session.finish("plan", report))
}

/// Registries may delete content that has no tag.
pub(super) fn warn_of_untagged(plan: &Plan, what_helps: &str) {
    for transfer in plan.with_work().filter(|transfer| transfer.tag.is_none()) {
        tracing::warn!(
            hint = what_helps,
            "{} is mirrored without a tag, so the registry may delete it",
            transfer.target_text()
        );
    }
}

/// A signature names the digest of the signed image, and a subset has a different digest.
pub(super) fn warn_of_subsets(plan: &Plan) {
    let signed = |transfer: &&Transfer| transfer.handling.referrers.policy != ReferrerPolicy::None;
    let mut subsets = plan.with_work().filter(|transfer| transfer.mirrored.is_some()).filter(signed);
    let Some(first) = subsets.next() else { return };
    let others = match subsets.count() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    tracing::warn!(
        "{}{others}: only some platforms are mirrored, as an index with a different digest; signatures of the whole \
         image don't cover it, signatures of its platforms do",
        first.source
    );
}
