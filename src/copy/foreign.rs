//! Foreign layers: layers that their publisher distributes elsewhere (image-spec `layer.md`, "Non-Distributable
//! Layers").
//!
//! They are requested from the source registry like any other layer. The `urls` of a manifest are never followed,
//! because they would let the author of a manifest choose which hosts this machine connects to.

use std::collections::HashSet;
use std::sync::Arc;

use super::Engine;
use super::read;
use super::route::Ask;
use super::route::Route;
use super::walk;
use crate::error::{Error, Kind, Result, Side};
use crate::oci::{Descriptor, Edge, Manifest};
use crate::plan::Foreign;

/// Refuses an image with a foreign layer before any of its bytes move, if foreign layers aren't allowed. Manifests
/// that the target already has aren't read for this: they were accepted before.
pub(super) async fn check(engine: &Arc<Engine>, route: &Arc<Route>, root: &Arc<Manifest>, rule: Foreign) -> Result<()> {
    if rule == Foreign::Fetch {
        return Ok(());
    }
    let (mut unread, mut seen) = (vec![Arc::clone(root)], HashSet::new());
    while let Some(manifest) = unread.pop() {
        for edge in manifest.successors() {
            let Descriptor { digest, media_type, .. } = edge.descriptor();
            match edge {
                Edge::Blob(_) if media_type.is_foreign() => return Err(refused(route, &manifest, edge.descriptor())),
                Edge::Manifest(child) if seen.insert(digest.clone()) => {
                    let may_be_there = walk::child_may_be_there(engine, route, child, Ask::IfLikely).await;
                    if !may_be_there || !walk::is_there(engine, route, digest).await? {
                        unread.push(read::load(engine, route, digest).await?);
                    }
                }
                Edge::Blob(_) | Edge::Manifest(_) => {}
            }
        }
    }
    Ok(())
}

fn refused(route: &Route, manifest: &Manifest, layer: &Descriptor) -> Error {
    let attempted = format!("mirror {} of {}", manifest.digest(), route.source);
    let why = format!("its layer {} is a foreign layer ({})", layer.digest, layer.media_type);
    Error::new(Kind::Unsupported, attempted, why)
        .with_hint("set foreign: fetch to fetch it from the source registry, or remove the image")
        .on(Side::Source)
}

/// Explains a failed copy of `blob` if it is a foreign layer that the source lacks.
pub(super) fn explain(error: Error, blob: &Descriptor) -> Error {
    if error.kind() != Kind::NotFound || error.side() != Some(Side::Source) || !blob.media_type.is_foreign() {
        return error;
    }
    let why = "it is a foreign layer, which the source registry doesn't serve, and its urls are never followed";
    error.reclassified(Kind::NotFound, why).with_hint(
        "ask its publisher to push the layer, too (docker: allow-nondistributable-artifacts), or remove the image",
    )
}

/// Explains a refusal of `manifest` that may be caused by its `urls`: distribution's registry answers 500 unless
/// its configuration allows them.
pub(super) fn explain_refusal(error: Error, manifest: &Manifest) -> Error {
    let points_at_some = manifest.successors().iter().any(|edge| edge.descriptor().media_type.is_foreign());
    let may_be_why = match error.kind() {
        Kind::Unavailable => error.status() == Some(500),
        kind => matches!(kind, Kind::Unsupported | Kind::Invalid | Kind::MissingContent),
    };
    if !points_at_some || !may_be_why {
        return error;
    }
    error.with_hint(
        "it points at a foreign layer: allow its urls in the registry (distribution: validation.manifests.urls.allow), \
         or leave the image out",
    )
}
