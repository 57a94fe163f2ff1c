//! `platforms`: the part of an image that is mirrored, and its digest at the target.
//!
//! For an index this costs one GET of its manifest; otherwise also one of the configuration, which contains the
//! platform.

use futures::future::try_join_all;

use crate::config::{Handling, MissingAttestations};
use crate::error::{Error, Kind, Result, Side};
use crate::lock::LockedImage;
use crate::oci::{self, Digest, Edge, Manifest, Platform, Selector, Subset, SubsetError, listed};
use crate::store::{PullTurn, ReservedPulls, SMALL, Source};

/// `image` limited to what `handling` asks for and its registry serves, with its digest at the target.
///
/// # Errors
/// `NotFound` if it has none of the platforms, `Unsupported` if it is no image of any platform, or the error of the
/// source.
pub async fn narrow(source: &dyn Source, image: LockedImage, handling: &Handling) -> Result<LockedImage> {
    cut(source, image, handling).await.map(|(image, _)| image)
}

/// Whether a manifest may have to be read to determine the mirrored part of an image.
pub(super) fn reads(handling: &Handling) -> bool {
    !handling.platforms.is_empty() || handling.missing_attestations == MissingAttestations::Drop
}

/// [`narrow`] in `turn` if pulls are limited. It reserves pulls for the index and for the kept part of it, so that
/// resolving doesn't spend all pulls on indexes.
pub(super) async fn narrow_in_turn(
    source: &dyn Source,
    image: LockedImage,
    handling: &Handling,
    turn: PullTurn,
) -> Result<(LockedImage, ReservedPulls)> {
    let mut reserved = ReservedPulls::default();
    if !reads(handling) || source.pulls_left(&image.digest).await.is_none() {
        drop(turn);
        return Ok((narrow(source, image, handling).await?, reserved));
    }
    turn.come().await;
    // Each platform is at least one manifest.
    let kept = if image.media_type.is_index() { handling.platforms.len().max(1) as u64 } else { 0 };
    source.reserve_pulls(&mut reserved, std::slice::from_ref(&image.digest), kept).await?;
    let (image, part) = cut(source, image, handling).await?;
    let children = part.iter().flat_map(Manifest::successors).filter_map(|edge| match edge {
        Edge::Manifest(child) => Some(child.digest.clone()),
        Edge::Blob(_) => None,
    });
    let children: Vec<Digest> = children.collect();
    source.reserve_pulls(&mut reserved, &children, 0).await?;
    Ok((image, reserved))
}

/// The image, and the kept part of its manifest.
async fn cut(
    source: &dyn Source,
    mut image: LockedImage,
    handling: &Handling,
) -> Result<(LockedImage, Option<Manifest>)> {
    let platforms = &handling.platforms;
    let drops = handling.missing_attestations == MissingAttestations::Drop && image.media_type.is_index();
    if platforms.is_empty() && !drops {
        return Ok((image, None));
    }
    let mut kept = None;
    let attempted = || format!("select the platforms of {}", image.source);
    let manifest = source.manifest(&image.digest).await?;
    if manifest.kind() == oci::Kind::Index {
        let Subset { manifest: mut part, nameless, missing } =
            manifest.subset(platforms).map_err(|error| refused(attempted(), &error))?;
        for (digest, media_type) in nameless {
            tracing::warn!("{} is mirrored without {digest}, a {media_type} without a platform", image.source);
        }
        if !missing.is_empty() {
            tracing::warn!("{} has no {}: its other platforms are mirrored", image.source, listed(&missing));
        }
        if drops {
            part = without_missing(source, &image, part).await?;
        }
        image.mirrored = (part.digest() != manifest.digest()).then(|| part.digest().clone());
        kept = Some(part);
    } else {
        check_single(source, &manifest, platforms, attempted).await?;
    }
    image.platforms.clone_from(platforms);
    Ok((image, kept))
}

/// `part` without the attestations that it lists but its registry doesn't serve.
async fn without_missing(source: &dyn Source, image: &LockedImage, part: Manifest) -> Result<Manifest> {
    let asked = part.attestations().into_iter().map(|digest| async move {
        let is_gone = match source.resolve(&Selector::Digest(digest.clone())).await {
            Ok(_) => false,
            // Some registries answer 404 to a HEAD for content that a GET returns.
            Err(error) if error.kind() == Kind::NotFound => match source.manifest(&digest).await {
                Ok(_) => false,
                Err(error) if error.kind() == Kind::NotFound => true,
                Err(error) => return Err(error),
            },
            Err(error) => return Err(error),
        };
        Ok(is_gone.then_some(digest))
    });
    let missing: Vec<Digest> = try_join_all(asked).await?.into_iter().flatten().collect();
    let attempted = || format!("remove attestations from {}", image.source);
    let rest = part.without_attestations(&missing).map_err(|error| refused(attempted(), &error))?;
    if !missing.is_empty() {
        let (source, missing) = (&image.source, missing.iter().map(Digest::short).collect::<Vec<_>>().join(", "));
        tracing::warn!(
            "{source} is mirrored without attestations that it lists but doesn't serve ({missing}): {} in place of {}",
            rest.digest(),
            image.digest
        );
    }
    Ok(rest)
}

fn refused(attempted: String, error: &SubsetError) -> Error {
    let (kind, hint) = match error {
        SubsetError::NoMatch { .. } => (Kind::NotFound, "name platforms that it has, or none to mirror all of it"),
        SubsetError::Invalid(_) => (Kind::Invalid, "remove platforms: for it, to mirror the whole index"),
    };
    Error::new(kind, attempted, error.to_string()).with_hint(hint).on(Side::Source)
}

/// Checks that a single image is for one of `platforms`.
async fn check_single(
    source: &dyn Source,
    manifest: &Manifest,
    platforms: &[Platform],
    attempted: impl Fn() -> String,
) -> Result<()> {
    let config = manifest.config().filter(|config| config.size <= SMALL);
    let platform = match config {
        Some(config) => {
            Platform::listed(&serde_json::from_slice(&source.small_blob(config).await?).unwrap_or_default())
        }
        None => None,
    };
    match platform {
        Some(is) if platforms.iter().any(|wanted| wanted.matches(&is)) => Ok(()),
        Some(is) => {
            let error = SubsetError::NoMatch { wanted: platforms.to_vec(), found: vec![is] };
            Err(refused(attempted(), &error))
        }
        None => {
            let why = "it is a single manifest without a platform: an artifact, perhaps";
            Err(Error::new(Kind::Unsupported, attempted(), why)
                .with_hint("remove platforms: for it, or override a default with platforms: [all]")
                .on(Side::Source))
        }
    }
}
