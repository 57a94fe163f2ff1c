//! `update [IMAGE…]`: moves pins to what upstream serves now, and copies nothing.

use super::Unable;
use super::lock::unresolved;
use super::run_lock::RunLock;
use super::session::{Session, Start};
use super::sync::changes;
use crate::cli;
use crate::oci::{Reference, Repository, Tag};
use crate::report::Report;
use crate::resolve::Update;
use crate::select::Only;

pub(super) async fn run(start: Start, arguments: &cli::Update) -> anyhow::Result<Report> {
    let _run_lock = RunLock::take(&start, arguments.wait, true).await;
    let (session, pins) = start.session()?;
    let update = if arguments.images.is_empty() {
        Update::All
    } else {
        let images = arguments.images.iter().map(|image| named(&session, image));
        Update::These(images.collect::<anyhow::Result<_>>()?)
    };
    session.prepare()?;
    let resolution = session.resolve(&pins.old, &update, &Only::default()).await;
    let mut report = unresolved(&session, &resolution);
    session.bound_cache(&resolution.lock);
    if !session.stop.is_cancelled() {
        report.changes = Some(changes(&pins.old, &pins.write(resolution.lock)?));
    }
    Ok(session.finish("update", report))
}

/// An image of mirror.yaml, canonical or as written; without a tag, its whole repository.
fn named(session: &Session, image: &str) -> anyhow::Result<(Repository, Option<Tag>)> {
    let (repository, tag) = match image.parse::<Repository>() {
        Ok(repository) => (repository, None),
        Err(_) => {
            let reference: Reference = image.parse()?;
            (reference.repository().clone(), reference.tag().cloned())
        }
    };
    if session.images.iter().any(|rule| rule.asks_for(&repository, tag.as_ref())) {
        return Ok((repository, tag));
    }
    let hint = "name it as in mirror.yaml, or omit the tag for the whole repository";
    Err(Unable::error(format!("{image} isn't in {}", session.global.config().display()), hint))
}
