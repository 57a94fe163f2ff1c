//! The authorization of one request, what it rests on, and what its refusal means.

use http::header::HeaderValue;
use tokio::time::Instant;

use super::credentials::Credential;
use super::scopes::Scopes;
use crate::registry::admission::gate::Pass;

/// The meaning of a refused authentication.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unauthorized {
    /// Credentials weren't sent: the host doesn't say how it expects them.
    NotSent,
    /// There are no credentials, or they are wrong.
    Login,
    /// The host rejects a token of its own token service.
    OwnToken,
    /// A permission is missing: the login was accepted, also if a token that it was exchanged for is rejected.
    Permission,
}

/// The authorization of a request.
#[derive(Debug)]
pub(crate) struct Authorization {
    pub(crate) header: Option<HeaderValue>,
    pub(super) basis: Basis,
    pub(super) pass: Option<Pass>,
}

/// What an authorization rests on.
#[derive(Debug)]
pub(super) enum Basis {
    /// It isn't known what the host wants.
    Unknown,
    /// The host wants credentials, and there are none.
    Anonymous,
    Token {
        scopes: Scopes,
        generation: u64,
        /// It was fetched for this request.
        fresh: bool,
        fetched_at: Instant,
    },
    Credential(Credential),
}

impl Authorization {
    /// Records that the answer didn't refuse the authentication.
    pub(crate) fn accepted(self) {
        if let Some(pass) = self.pass {
            pass.open();
        }
    }

    /// Whether it is a token that was fetched for an earlier request, and may have expired.
    pub(crate) fn is_kept_token(&self) -> bool {
        matches!(self.basis, Basis::Token { fresh: false, .. })
    }

    /// Whether it isn't known yet what the host wants, so that it may hide content from anonymous clients.
    pub(crate) fn is_unknown(&self) -> bool {
        matches!(self.basis, Basis::Unknown)
    }

    /// Records that there was no answer. Requests that wait for the host's first answer then needn't wait one after
    /// another.
    pub(crate) fn unanswered(self) {
        if matches!(self.basis, Basis::Unknown) {
            self.accepted();
        }
    }
}
