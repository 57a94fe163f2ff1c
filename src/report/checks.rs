//! The results of `check`.

use schemars::JsonSchema;
use serde::Serialize;

use crate::error::Error;

/// The subject of a check. The JSON report uses `snake_case`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Right {
    /// The host answers, with a valid TLS certificate if it uses TLS.
    Connect,
    /// The host accepts the credentials.
    Login,
    /// The repository may be read.
    Pull,
    /// The repository may be written.
    Push,
    /// The repository may be created.
    Create,
}

impl Right {
    /// The word in text reports, of at most seven letters.
    pub fn word(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Login => "log in",
            Self::Pull => "pull",
            Self::Push => "push",
            Self::Create => "create",
        }
    }
}

/// The result of a check.
#[derive(Debug, Clone)]
pub enum Proof {
    /// It works, possibly with a note.
    Holds(Option<String>),
    /// The check can't tell.
    Unknown {
        /// Why.
        why: String,
        /// The next step.
        hint: Option<String>,
    },
    /// It fails, with this error.
    Fails(Error),
}

impl Proof {
    /// Whether it works; `None` if unknown.
    pub fn ok(&self) -> Option<bool> {
        match self {
            Self::Holds(_) => Some(true),
            Self::Unknown { .. } => None,
            Self::Fails(_) => Some(false),
        }
    }

    /// What the user can do.
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::Holds(_) => None,
            Self::Unknown { hint, .. } => hint.as_deref(),
            Self::Fails(error) => error.hint(),
        }
    }
}

/// One thing that a run needs.
#[derive(Debug, Clone)]
pub struct Check {
    /// The registry, with its port if it has one.
    pub host: String,
    /// The repository's path; `None` for a check of the host.
    pub repository: Option<String>,
    /// What the run needs.
    pub right: Right,
    /// The result.
    pub proof: Proof,
}

impl Check {
    /// Whether a run would fail because of it.
    pub fn is_failure(&self) -> bool {
        matches!(self.proof, Proof::Fails(_))
    }

    /// Why it fails.
    pub fn error(&self) -> Option<&Error> {
        match &self.proof {
            Proof::Fails(error) => Some(error),
            _ => None,
        }
    }
}
