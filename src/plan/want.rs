//! A wanted image as an entry of the plan.

use super::{Action, Planned, Transfer};
use crate::desired::Want;
use crate::error::Error;
use crate::lock::LockedImage;
use crate::oci::{Descriptor, Reference};

/// The image as pinned by `pin`. Its cost isn't known yet.
pub(crate) fn transfer(want: &Want<'_>, pin: &LockedImage, action: Action) -> Transfer {
    let root = Descriptor { media_type: pin.media_type.clone(), digest: pin.digest.clone(), size: pin.size };
    let referrers = pin.referrers.iter().filter(|referrer| want.handling.referrers.wants(referrer));
    Transfer {
        mirrored: pin.mirrored.clone(),
        handling: want.handling.clone(),
        referrers: referrers.cloned().collect(),
        ..Transfer::new(want.source.clone(), root, want.target.clone(), want.tag.clone(), action)
    }
}

/// The image, as failed with `error`.
pub(crate) fn failed(want: &Want<'_>, error: Error) -> Planned {
    let target = match &want.tag {
        Some(tag) => Reference::tagged(want.target.clone(), tag.clone()).to_string(),
        None => want.target.to_string(),
    };
    Planned::Failed { source: want.source.to_string(), target, error }
}
