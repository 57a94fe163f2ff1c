//! The results of `quota`: the remaining pulls of each account at a source.

use crate::error::Error;
use crate::oci::Registry;

use super::Quota;

/// The pull quota of one account at one host.
#[derive(Debug, Clone)]
pub struct AccountQuota {
    /// The host.
    pub host: String,
    /// The user name of the credentials; `None` without credentials, or if they contain none.
    pub account: Option<String>,
    /// What the host counts by, in its words: an address or an account.
    pub counted: Option<String>,
    /// The quota; `None` if the host reports none, so that there is no known limit.
    pub quota: Option<Quota>,
    /// Why the quota couldn't be queried.
    pub error: Option<Error>,
}

impl AccountQuota {
    /// The quota of `registry` couldn't be queried.
    pub(crate) fn unknown(registry: &Registry, error: Error) -> Self {
        Self { host: registry.to_string(), account: None, counted: None, quota: None, error: Some(error) }
    }
}
