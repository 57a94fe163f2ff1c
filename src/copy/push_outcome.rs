//! Classifies the result of pushing an optional manifest: it is accepted or refused. An answer that isn't about
//! that manifest alone is an error.

use crate::error::{Error, Kind, Result, Side};

/// The result of pushing content that the target may refuse without failing the image.
#[derive(Debug, Clone)]
pub(super) enum PushOutcome<T> {
    Taken(T),
    Refused(Error),
}

/// Classifies the result of a manifest push: a refusal is about that manifest, anything else is an error.
pub(super) fn classify<T>(pushed: Result<T>) -> Result<PushOutcome<T>> {
    match pushed {
        Ok(taken) => Ok(PushOutcome::Taken(taken)),
        Err(error) => {
            // A source's answer to a read isn't the target's answer to the push.
            let is_targets = error.side() != Some(Side::Source);
            let answered = error.status().is_none_or(|status| is_targets && (400..500).contains(&status));
            let refuses = matches!(error.kind(), Kind::Unsupported | Kind::Invalid | Kind::Conflict);
            if answered && refuses { Ok(PushOutcome::Refused(error)) } else { Err(error) }
        }
    }
}

/// Whether a target may have refused a referrer because its subject isn't there yet. Registries share no error code
/// for this.
pub(super) fn may_miss_its_subject(error: &Error) -> bool {
    matches!(error.kind(), Kind::MissingContent | Kind::NotFound | Kind::Unsupported | Kind::Invalid)
        && error.side() == Some(Side::Target)
        && error.status().is_none_or(|status| (400..500).contains(&status))
}
