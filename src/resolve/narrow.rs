//! `platforms`: what of an image is mirrored, and the digest that this gives it at the target.
//!
//! An index costs one GET of its manifest, anything else that and its configuration, which says what it is for.

use crate::error::{Error, Kind, Result};
use crate::lock::LockedImage;
use crate::oci::{self, Manifest, Platform, Subset, SubsetError, listed};
use crate::store::{SMALL, Source};

/// `image` with only `platforms` of it, if there are any: with the digest that it lands as.
///
/// # Errors
/// `NotFound` if it has none of `platforms`, `Unsupported` if it is no image of any platform; or what the source says.
pub async fn narrow(source: &dyn Source, mut image: LockedImage, platforms: &[Platform]) -> Result<LockedImage> {
    if platforms.is_empty() {
        return Ok(image);
    }
    let attempted = || format!("pick the platforms of {}", image.source);
    let manifest = source.manifest(&image.digest).await?;
    if manifest.kind() == oci::Kind::Index {
        let Subset { manifest: subset, nameless, missing } =
            manifest.subset(platforms).map_err(|error| refused(attempted(), &error))?;
        for (digest, media_type) in nameless {
            tracing::warn!("{} is mirrored without {digest}, a {media_type} for no platform", image.source);
        }
        if !missing.is_empty() {
            tracing::warn!("{} has nothing for {}: the other platforms are mirrored", image.source, listed(&missing));
        }
        image.mirrored = (subset.digest() != manifest.digest()).then(|| subset.digest().clone());
    } else {
        check_single(source, &manifest, platforms, attempted).await?;
    }
    image.platforms = platforms.to_vec();
    Ok(image)
}

fn refused(attempted: String, error: &SubsetError) -> Error {
    match error {
        SubsetError::NoMatch { .. } => Error::new(Kind::NotFound, attempted, error.to_string())
            .with_hint("name platforms that it has, or none for all of it"),
        SubsetError::Invalid(_) => Error::new(Kind::Invalid, attempted, error.to_string())
            .with_hint("name no platforms for it: the whole index can be mirrored as it is"),
    }
}

/// A single image passes if it is for one of `platforms`.
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
                .with_hint("name no platforms for it; platforms: [all] takes a default back"))
        }
    }
}
