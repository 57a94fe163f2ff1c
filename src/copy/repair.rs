//! What a target says is missing is sent again.
//!
//! An answer that something is there can be old or wrong: a cache in front, a garbage collection in between, a mount that
//! came to nothing, a registry that is only late. So the target is asked for each part, and sent what it lacks; if it still
//! misses something, what it names, or else every part, is sent without asking. Nothing is mounted here, and each further
//! push comes after a pause. A target that misses something even then is broken.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::{BoxFuture, join_all};

use super::Engine;
use super::route::Ask;
use super::route::{self, Route};
use super::walk::copy_edge;
use crate::error::{Error, Kind, Result, unless_stopped};
use crate::oci::{Descriptor, Edge, Manifest, Selector};
use crate::report::Bytes;
use crate::store::Accepted;

/// Before each further push of the manifest, what is done about the parts, and the pause.
const TRIES: [(Option<Ask>, Duration); 4] = [
    (Some(Ask::Always), Duration::from_millis(200)),
    (Some(Ask::Never), Duration::from_millis(500)),
    (None, Duration::from_secs(1)),
    (None, Duration::from_secs(2)),
];

/// Whether `error` says that the target lacks something that `manifest` points at. Some registries have no code for it and
/// name what they miss (Artifactory: MANIFEST_INVALID).
pub(super) fn misses_content(error: &Error, manifest: &Manifest) -> bool {
    let refused = matches!(error.kind(), Kind::Unsupported | Kind::Invalid | Kind::NotFound);
    let answered = error.status().is_some_and(|status| (400..500).contains(&status));
    error.kind() == Kind::MissingContent || refused && answered && !named(error, manifest).is_empty()
}

/// What `manifest` points at and `error` names.
fn named<'a>(error: &Error, manifest: &'a Manifest) -> Vec<&'a Edge> {
    let is_named = |edge: &&Edge| {
        let (_, hex) = edge.descriptor().digest.as_str().split_once(':').unwrap_or_default();
        error.why().contains(hex)
    };
    manifest.successors().iter().filter(is_named).collect()
}

/// Pushes `manifest` once more after the target said by `missing` that it lacks something, as often as [`TRIES`] has it.
/// Returns what the target says of it, and what was moved.
pub(super) async fn push_again(
    engine: &Arc<Engine>,
    route: &Arc<Route>,
    manifest: &Manifest,
    name: &Selector,
    depth: usize,
    mut missing: Error,
) -> Result<(Accepted, Bytes)> {
    let mut moved = Bytes::default();
    // It may be the subject that the target misses: then it is for the caller to send that.
    let lacks_subject = match manifest.subject() {
        Some(subject) => !route::has_manifest(route, &subject.digest).await?,
        None => false,
    };
    for (ask, pause) in TRIES.into_iter().take(if lacks_subject { 1 } else { TRIES.len() }) {
        if let Some(ask) = ask {
            let named = named(&missing, manifest);
            let all = || manifest.successors().iter().collect();
            let edges = if ask == Ask::Always || named.is_empty() { all() } else { named };
            tracing::info!("{missing}: sending what is missing");
            moved += send(engine, route, edges, depth, ask).await?;
        }
        unless_stopped(&engine.stop, tokio::time::sleep(pause).map(Ok)).await?;
        match route.target.push_manifest(manifest, name).await {
            Err(error) if misses_content(&error, manifest) => missing = error,
            pushed => return pushed.map(|accepted| (accepted, moved)),
        }
    }
    Err(explain_missing(missing))
}

/// Brings `edges` again, believing nothing that was known of them.
fn send<'a>(
    engine: &'a Arc<Engine>,
    route: &'a Arc<Route>,
    edges: Vec<&'a Edge>,
    depth: usize,
    ask: Ask,
) -> BoxFuture<'a, Result<Bytes>> {
    async move {
        let branches = edges.into_iter().map(|edge| {
            engine.holders.remove(edge.descriptor(), route.target_repository());
            let Descriptor { digest, size, .. } = edge.descriptor();
            engine.copied.forget(&(route.key(digest), *size));
            copy_edge(engine, route, edge, depth, ask)
        });
        let mut tally = Bytes::default();
        for branch in join_all(branches).await {
            // What is present now was credited when it was first copied.
            tally += Bytes { present: 0, ..branch? };
        }
        Ok(tally)
    }
    .boxed()
}

/// A target that still says so, though it was sent each part, means something else.
fn explain_missing(error: Error) -> Error {
    match error.kind() {
        Kind::MissingContent => error.with_hint(
            "it has been sent each part: perhaps it doesn't take manifests of this kind, such as those without config; \
             mirror it to a registry that does",
        ),
        _ => error,
    }
}
