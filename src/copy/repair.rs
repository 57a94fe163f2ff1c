//! What a target says is missing: it is asked for each part of the manifest, and sent what it lacks.
//!
//! An answer that something is there can be old or wrong: a cache in front, a garbage collection in between, an earlier
//! run that was interrupted. One repair heals that; a target that still misses something is broken.

use std::sync::Arc;

use futures::FutureExt as _;
use futures::future::{BoxFuture, join_all};

use super::Engine;
use super::place::Ask;
use super::walk::{Route, bring_edge};
use crate::error::{Error, Kind, Result};
use crate::oci::{Descriptor, Manifest};
use crate::report::Bytes;

/// Brings again what `manifest` points at, believing nothing that was known of it.
pub(super) fn repair<'a>(
    engine: &'a Arc<Engine>,
    route: &'a Arc<Route>,
    manifest: &'a Manifest,
    depth: usize,
) -> BoxFuture<'a, Result<Bytes>> {
    async move {
        let branches = manifest.successors().iter().map(|edge| {
            engine.holders.remove(edge.descriptor(), route.target_repository());
            let Descriptor { digest, size, .. } = edge.descriptor();
            engine.brought.forget(&(route.key(digest), *size));
            bring_edge(engine, route, edge, depth, Ask::Always)
        });
        let mut tally = Bytes::default();
        for branch in join_all(branches).await {
            // What is present now was credited when it was first brought.
            tally += Bytes { present: 0, ..branch? };
        }
        Ok(tally)
    }
    .boxed()
}

/// A target that still says so, though it was asked for each part and has it, means something else.
pub(super) fn in_vain(error: Error) -> Error {
    match error.kind() {
        Kind::MissingContent => error.with_hint(
            "it has been asked for each part and has it: perhaps it doesn't take manifests of this kind, such as those \
             without config; mirror it to a registry that does",
        ),
        _ => error,
    }
}
