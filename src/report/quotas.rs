//! What `quota` has found: what is left to each account at a source.

use crate::error::Error;
use crate::oci::Registry;

use super::Quota;

/// The pull quota of one account at one host.
#[derive(Debug, Clone)]
pub struct AccountQuota {
    /// The host.
    pub host: String,
    /// The user whose credentials are used; `None` without credentials, or where they name no user.
    pub account: Option<String>,
    /// Whom the host counts, in its words: an address or an account.
    pub counted: Option<String>,
    /// What it tells; `None` if it tells nothing, so that nothing is limited as far as is known.
    pub quota: Option<Quota>,
    /// Why it couldn't be asked.
    pub error: Option<Error>,
}

impl AccountQuota {
    /// `registry` couldn't be asked.
    pub(crate) fn unknown(registry: &Registry, error: Error) -> Self {
        Self { host: registry.to_string(), account: None, counted: None, quota: None, error: Some(error) }
    }
}
