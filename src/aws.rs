//! AWS: one lazy SDK session per profile, role and region, for ECR's tokens and its control plane.
//!
//! Until a session is used, the SDK isn't initialised, no file is read and no request is sent. Region, FIPS and dual
//! stack follow from the registry's host, so the SDK never queries the instance metadata for them. Endpoints
//! (`AWS_ENDPOINT_URL_ECR`), retries and credentials come from the SDK's own configuration, except that a profile in
//! mirror.yaml overrides credentials in the environment.
//!
//! Facts: ECR's API reference (`GetAuthorizationToken`).

mod failure;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::provider_config::ProviderConfig;
use aws_config::sts::AssumeRoleProvider;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_ecr::error::{ProvideErrorMetadata, SdkError};
use tokio::sync::OnceCell;

use crate::config::EcrSettings;
use crate::error::{Error, Kind, Result};
use crate::oci::{Registry, Service};

/// The timeout of one attempt at the control plane; its answers are small.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(30);

/// The minimum lifetime of a token, for tokens whose expiry is unknown or in the past by this machine's clock. A wrong
/// clock, or a test double with old dates, must not cost a request for each use.
const LEAST_LIFETIME: Duration = Duration::from_secs(5 * 60);

/// The sessions of a run, each opened at most once.
#[derive(Debug, Default)]
pub struct Sessions {
    stand_in: Option<StandIn>,
    open: Mutex<HashMap<Identity, Arc<Session>>>,
}

/// What identifies a session; registries with the same identity share one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Identity {
    profile: Option<String>,
    role_arn: Option<String>,
    external_id: Option<String>,
    region: Option<String>,
    fips: bool,
    dual_stack: bool,
}

/// A replacement for AWS's ECR API.
#[derive(Debug, Clone)]
struct StandIn {
    endpoint: String,
    credentials: Credentials,
}

impl Sessions {
    /// With AWS's endpoints and the configuration of the environment.
    pub fn new() -> Self {
        Self::default()
    }

    /// With the URL `endpoint` instead of ECR's API, and these credentials instead of the environment's: for tests and
    /// emulators in this process. Roles aren't assumed.
    pub fn at_endpoint(endpoint: impl Into<String>, access_key_id: &str, secret_access_key: &str) -> Self {
        let credentials = Credentials::new(access_key_id, secret_access_key, None, None, "stand-in");
        Self { stand_in: Some(StandIn { endpoint: endpoint.into(), credentials }), open: Mutex::default() }
    }

    /// The session for `registry`, shared by all registries with the same profile, role and region. Sends nothing.
    ///
    /// For a host that isn't ECR's, the region comes from the AWS configuration.
    pub fn session(&self, registry: &Registry, settings: &EcrSettings) -> Arc<Session> {
        let (region, fips, dual_stack) = match Service::of(registry) {
            Service::Ecr { region, fips, dual_stack, .. } => (Some(region), fips, dual_stack),
            _ => (None, false, false),
        };
        let identity = Identity {
            profile: settings.profile.clone(),
            role_arn: settings.role_arn.clone(),
            external_id: settings.external_id.clone(),
            region,
            fips,
            dual_stack,
        };
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let session = open.entry(identity).or_insert_with_key(|identity| {
            let (client, blob_mounting) = (OnceCell::new(), OnceCell::new());
            Arc::new(Session { identity: identity.clone(), stand_in: self.stand_in.clone(), client, blob_mounting })
        });
        Arc::clone(session)
    }
}

/// One identity in one region.
pub struct Session {
    identity: Identity,
    stand_in: Option<StandIn>,
    client: OnceCell<aws_sdk_ecr::Client>,
    blob_mounting: OnceCell<bool>,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Session({self})")
    }
}

/// `ECR in eu-west-1`, with the configured profile and role.
impl fmt::Display for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ECR in {}", self.identity.region.as_deref().unwrap_or("the default region"))?;
        if let Some(profile) = &self.identity.profile {
            write!(f, " with profile {profile}")?;
        }
        self.identity.role_arn.as_ref().map_or(Ok(()), |role| write!(f, " as {role}"))
    }
}

/// A password for ECR's registries.
#[derive(Clone, PartialEq, Eq)]
pub struct AuthorizationToken {
    /// Base64 of `AWS:<password>`, to be sent verbatim after `Authorization: Basic `.
    pub basic: String,
    /// Its remaining lifetime; never less than some minutes.
    pub lifetime: Duration,
}

/// Without the token, which is a secret.
impl fmt::Debug for AuthorizationToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthorizationToken").field("lifetime", &self.lifetime).finish_non_exhaustive()
    }
}

impl Session {
    /// A new token for all registries that this identity can access. Sends one request; nothing is cached.
    ///
    /// # Errors
    /// `Unauthorized` without usable credentials, `Denied` if the identity may not call `ecr:GetAuthorizationToken` or
    /// assume its role, `Unavailable` without an answer. The hint says how to log in.
    pub async fn authorization_token(&self) -> Result<AuthorizationToken> {
        let attempted = || format!("get an authorization token from {self}");
        let answer = self
            .ecr()
            .await?
            .get_authorization_token()
            .send()
            .await
            .map_err(|error| self.failure(attempted(), "ecr:GetAuthorizationToken", error))?;
        let data = answer.authorization_data().first();
        let basic = data.and_then(|data| data.authorization_token()).ok_or_else(|| {
            Error::new(Kind::Invalid, attempted(), "the answer contains no token")
                .with_hint("check the endpoint in AWS_ENDPOINT_URL_ECR and in the profile: it isn't ECR's")
        })?;
        let expires = data.and_then(|data| data.expires_at()).map_or(0, aws_sdk_ecr::primitives::DateTime::secs);
        Ok(AuthorizationToken { basic: basic.to_owned(), lifetime: lifetime(expires, SystemTime::now()) })
    }

    /// Whether repositories can mount each other's blobs: the setting `BLOB_MOUNTING` of the identity's account in this
    /// region. Queried once; unknown or denied counts as no. A registry of another account may have another setting.
    /// That costs a declined mount or a second read, but never an image.
    pub async fn blob_mounting(&self) -> bool {
        let ask = || async {
            let client = self.ecr().await?;
            let answer = client.get_account_setting().name("BLOB_MOUNTING").send().await;
            answer.map_err(|error| {
                let attempted = format!("ask for the setting BLOB_MOUNTING of {self}");
                self.failure(attempted, "ecr:GetAccountSetting", error)
            })
        };
        let answer = self.blob_mounting.get_or_init(|| async {
            match ask().await {
                Ok(answer) => answer.value() == Some("ENABLED"),
                Err(error) => {
                    tracing::debug!("{error}: blobs aren't mounted");
                    false
                }
            }
        });
        *answer.await
    }

    /// The client for ECR's control plane. Reads the AWS configuration on the first call and sends no request.
    ///
    /// # Errors
    /// None at present: configuration errors appear when the client is used.
    pub async fn ecr(&self) -> Result<aws_sdk_ecr::Client> {
        Ok(self.client.get_or_init(|| self.open()).await.clone())
    }

    /// Converts the SDK's `error` in `attempted`, which requires the permission `action`.
    pub(crate) fn failure<E>(&self, attempted: String, action: &str, error: SdkError<E>) -> Error
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        failure::map(attempted, action, self.identity.profile.as_deref(), error)
    }

    async fn open(&self) -> aws_sdk_ecr::Client {
        let shared = self.load().await;
        let mut config = aws_sdk_ecr::config::Builder::from(&shared);
        if let Some(stand_in) = &self.stand_in {
            config = config.endpoint_url(&stand_in.endpoint);
        }
        aws_sdk_ecr::Client::from_conf(config.build())
    }

    async fn load(&self) -> SdkConfig {
        let Identity { profile, role_arn, external_id, region, fips, dual_stack } = &self.identity;
        let region = region.clone().map(Region::new);
        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            .timeout_config(TimeoutConfig::builder().operation_attempt_timeout(ATTEMPT_TIMEOUT).build());
        if let Some(region) = region.clone() {
            loader = loader.region(region);
        }
        // If the host implies neither, the AWS configuration decides: an organisation may require FIPS.
        if *fips {
            loader = loader.use_fips(true);
        }
        if *dual_stack {
            loader = loader.use_dual_stack(true);
        }
        if let Some(profile) = profile {
            // The SDK's default chain prefers credentials in the environment to an explicitly named profile.
            let provider = ProfileFileCredentialsProvider::builder()
                .profile_name(profile)
                .configure(&ProviderConfig::without_region().with_region(region))
                .build();
            loader = loader.profile_name(profile).credentials_provider(provider);
        }
        if let Some(stand_in) = &self.stand_in {
            return loader.credentials_provider(stand_in.credentials.clone()).load().await;
        }
        let shared = loader.load().await;
        let Some(role_arn) = role_arn else { return shared };
        let mut role = AssumeRoleProvider::builder(role_arn).session_name("transship").configure(&shared);
        if let Some(external_id) = external_id {
            role = role.external_id(external_id);
        }
        let role = SharedCredentialsProvider::new(role.build().await);
        shared.into_builder().credentials_provider(role).build()
    }
}

/// The remaining lifetime at `now` of a token that expires at `expires`, in seconds since the epoch.
fn lifetime(expires: i64, now: SystemTime) -> Duration {
    let expires = UNIX_EPOCH + Duration::from_secs(u64::try_from(expires).unwrap_or(0));
    expires.duration_since(now).unwrap_or_default().max(LEAST_LIFETIME)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ECR: &str = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";

    fn session(sessions: &Sessions, host: &str, settings: &EcrSettings) -> Arc<Session> {
        sessions.session(&host.parse().unwrap(), settings)
    }

    #[test]
    fn registries_with_equal_settings_share_a_session() {
        let sessions = Sessions::new();
        let plain = EcrSettings::default();
        let role = EcrSettings { role_arn: Some("arn:aws:iam::123456789012:role/m".into()), ..EcrSettings::default() };
        let first = session(&sessions, ECR, &plain);
        let other_account = session(&sessions, "210987654321.dkr.ecr.eu-west-1.amazonaws.com", &plain);
        assert!(Arc::ptr_eq(&first, &other_account));
        for (host, settings) in [
            (ECR, &role),
            ("123456789012.dkr.ecr.eu-west-2.amazonaws.com", &plain),
            ("123456789012.dkr.ecr-fips.eu-west-1.amazonaws.com", &plain),
            ("123456789012.dkr-ecr.eu-west-1.on.aws", &plain),
        ] {
            assert!(!Arc::ptr_eq(&first, &session(&sessions, host, settings)), "{host}");
        }
        assert_eq!(session(&sessions, ECR, &role).to_string(), "ECR in eu-west-1 as arn:aws:iam::123456789012:role/m");
    }

    #[test]
    fn a_new_token_is_never_treated_as_expired() {
        let now = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        assert_eq!(lifetime(1_800_043_200, now), Duration::from_secs(43_200));
        assert_eq!(lifetime(1_420_070_400, now), LEAST_LIFETIME);
        assert_eq!(lifetime(-1, now), LEAST_LIFETIME);
    }
}
