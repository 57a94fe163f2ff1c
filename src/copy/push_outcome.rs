//! What a target says to a manifest that the image can do without: it takes it, or refuses that very one. Anything else is
//! about more, and an error.

use crate::error::{Error, Kind, Result, Side};

/// What a target makes of something that it may refuse without harm to the image.
#[derive(Debug, Clone)]
pub(super) enum PushOutcome<T> {
    Taken(T),
    Refused(Error),
}

/// What a target says to the push of a manifest: a refusal is about that manifest, anything else is about more.
pub(super) fn classify<T>(pushed: Result<T>) -> Result<PushOutcome<T>> {
    match pushed {
        Ok(taken) => Ok(PushOutcome::Taken(taken)),
        Err(error) => {
            // What a source answers to a read is no word of the target's.
            let is_targets = error.side() != Some(Side::Source);
            let answered = error.status().is_none_or(|status| is_targets && (400..500).contains(&status));
            let refuses = matches!(error.kind(), Kind::Unsupported | Kind::Invalid | Kind::Conflict);
            if answered && refuses { Ok(PushOutcome::Refused(error)) } else { Err(error) }
        }
    }
}

/// Whether a target may have refused a referrer because its subject isn't there yet. Registries have no common word for it.
pub(super) fn may_miss_its_subject(error: &Error) -> bool {
    matches!(error.kind(), Kind::MissingContent | Kind::NotFound | Kind::Unsupported | Kind::Invalid)
        && error.side() == Some(Side::Target)
        && error.status().is_none_or(|status| (400..500).contains(&status))
}
