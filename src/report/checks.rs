//! What `check` has proved, and what it couldn't.

use schemars::JsonSchema;
use serde::Serialize;

use crate::error::Error;

/// What a check is about. The JSON report spells it in `snake_case`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Right {
    /// The host answers, over TLS where it has to.
    Connect,
    /// The host takes the credentials.
    Login,
    /// The repository may be read.
    Pull,
    /// The repository may be written.
    Push,
    /// The repository may be created.
    Create,
}

impl Right {
    /// The word for people; it never has more than seven letters.
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

/// What came of a check.
#[derive(Debug, Clone)]
pub enum Proof {
    /// It works; perhaps with something worth knowing about it.
    Holds(Option<String>),
    /// Only doing it would tell.
    Unknown {
        /// Why.
        why: String,
        /// The next step.
        hint: Option<String>,
    },
    /// It would fail, and so.
    Fails(Error),
}

impl Proof {
    /// Whether it works, as far as that is known.
    pub fn ok(&self) -> Option<bool> {
        match self {
            Self::Holds(_) => Some(true),
            Self::Unknown { .. } => None,
            Self::Fails(_) => Some(false),
        }
    }

    /// The next step for a person.
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::Holds(_) => None,
            Self::Unknown { hint, .. } => hint.as_deref(),
            Self::Fails(error) => error.hint(),
        }
    }
}

/// One thing that a run will need.
#[derive(Debug, Clone)]
pub struct Check {
    /// The registry, with its port if it has one.
    pub host: String,
    /// The repository's path; `None` where it is about the host.
    pub repository: Option<String>,
    /// What is needed.
    pub right: Right,
    /// What came of it.
    pub proof: Proof,
}

impl Check {
    /// Whether a run would fail for it.
    pub fn is_failure(&self) -> bool {
        matches!(self.proof, Proof::Fails(_))
    }

    /// Why it would fail.
    pub fn error(&self) -> Option<&Error> {
        match &self.proof {
            Proof::Fails(error) => Some(error),
            _ => None,
        }
    }
}
