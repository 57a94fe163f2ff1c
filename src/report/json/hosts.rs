//! Rows about hosts: proxy caches, checks and quotas.

use schemars::JsonSchema;
use serde::Serialize;

use super::Failure;
use crate::error::{Error, Kind};
use crate::report::{AccountQuota, Check, Proof, ProxyCacheOutcome, Quota, Right};

/// The outcome of a proxy-cache project.
#[derive(Serialize, JsonSchema)]
pub(super) struct ProxyCache {
    /// `HOST/PROJECT`.
    target: String,
    /// The registry that it caches.
    upstream: String,
    /// Whether this run created it; in a plan, whether sync would.
    created: bool,
    /// Settings of an existing project that this run changed; in a plan, that sync would change.
    changes: Vec<&'static str>,
    error: Option<Failure>,
}

/// The result of one check.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Check")]
pub(super) struct Checked {
    host: String,
    /// Null for a check of the host.
    repository: Option<String>,
    action: Right,
    /// Null if the check can't tell.
    ok: Option<bool>,
    kind: Option<Kind>,
    message: Option<String>,
    /// The next step.
    hint: Option<String>,
}

/// The quota of one account at one host.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "AccountQuota")]
pub(super) struct QuotaRow {
    host: String,
    /// The user name of the credentials.
    account: Option<String>,
    /// What the host counts by, in its words: an address or an account.
    counted: Option<String>,
    /// Null if the host reports none.
    quota: Option<Quota>,
    /// Why the quota couldn't be queried.
    error: Option<Failure>,
}

impl ProxyCache {
    pub(super) fn of(cache: &ProxyCacheOutcome) -> Self {
        let ProxyCacheOutcome { target, upstream, created, changes, error } = cache.clone();
        Self { target, upstream, created, changes, error: error.as_ref().map(Failure::of) }
    }
}

impl Checked {
    pub(super) fn of(check: &Check) -> Self {
        let error = check.error();
        let note = match &check.proof {
            Proof::Holds(note) => note.clone(),
            Proof::Unknown { why, .. } => Some(why.clone()),
            Proof::Fails(error) => Some(error.to_string()),
        };
        Self {
            host: check.host.clone(),
            repository: check.repository.clone(),
            action: check.right,
            ok: check.proof.ok(),
            kind: error.map(Error::kind),
            message: note,
            hint: check.proof.hint().map(str::to_owned),
        }
    }
}

impl QuotaRow {
    pub(super) fn of(told: &AccountQuota) -> Self {
        let AccountQuota { host, account, counted, quota, error } = told;
        let error = error.as_ref().map(Failure::of);
        Self { host: host.clone(), account: account.clone(), counted: counted.clone(), quota: *quota, error }
    }
}
