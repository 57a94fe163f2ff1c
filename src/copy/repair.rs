//! Resends content that a target reports as missing.
//!
//! A target's answer that it has something can be outdated or wrong because of a cache in front of it, a garbage
//! collection in between, a mount without effect, or replication delay. So the target is asked for each part and
//! sent the missing ones. If it still reports missing content, the parts that it names, or otherwise all parts, are
//! sent without asking. Nothing is mounted here, and there is a pause before each further push. If that doesn't
//! help, the target is broken.

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

/// For each further push of the manifest: how its parts are checked before, and the pause.
const TRIES: [(Option<Ask>, Duration); 4] = [
    (Some(Ask::Always), Duration::from_millis(200)),
    (Some(Ask::Never), Duration::from_millis(500)),
    (None, Duration::from_secs(1)),
    (None, Duration::from_secs(2)),
];

/// Whether `error` says that the target lacks something that `manifest` points at. Some registries have no code for
/// this and name the missing digest (Artifactory: MANIFEST_INVALID).
pub(super) fn misses_content(error: &Error, manifest: &Manifest) -> bool {
    let refused = matches!(error.kind(), Kind::Unsupported | Kind::Invalid | Kind::NotFound);
    let answered = error.status().is_some_and(|status| (400..500).contains(&status));
    error.kind() == Kind::MissingContent || refused && answered && !named(error, manifest).is_empty()
}

/// The edges of `manifest` that `error` names.
fn named<'a>(error: &Error, manifest: &'a Manifest) -> Vec<&'a Edge> {
    let is_named = |edge: &&Edge| {
        let (_, hex) = edge.descriptor().digest.as_str().split_once(':').unwrap_or_default();
        error.why().contains(hex)
    };
    manifest.successors().iter().filter(is_named).collect()
}

/// Pushes `manifest` again after the target reported missing content in `missing`, at most as often as [`TRIES`]
/// allows. Returns the target's answer and the bytes that were moved.
pub(super) async fn push_again(
    engine: &Arc<Engine>,
    route: &Arc<Route>,
    manifest: &Manifest,
    name: &Selector,
    depth: usize,
    mut missing: Error,
) -> Result<(Accepted, Bytes)> {
    let mut moved = Bytes::default();
    // The missing content may be the subject, which the caller has to send.
    let lacks_subject = match manifest.subject() {
        Some(subject) => !route::has_manifest(route, &subject.digest).await?,
        None => false,
    };
    for (ask, pause) in TRIES.into_iter().take(if lacks_subject { 1 } else { TRIES.len() }) {
        if let Some(ask) = ask {
            let named = named(&missing, manifest);
            let all = || manifest.successors().iter().collect();
            let edges = if ask == Ask::Always || named.is_empty() { all() } else { named };
            tracing::info!("{missing}: pushing the missing content");
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

/// Copies `edges` again, regardless of what was known about them.
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
            // Present content was counted when it was first copied.
            tally += Bytes { present: 0, ..branch? };
        }
        Ok(tally)
    }
    .boxed()
}

/// Explains why a target still reports missing content although it was sent each part.
fn explain_missing(error: Error) -> Error {
    match error.kind() {
        Kind::MissingContent => error.with_hint(
            "all content was pushed: the registry may not accept manifests of this kind, such as those without a config; \
             mirror it to a registry that does",
        ),
        _ => error,
    }
}
