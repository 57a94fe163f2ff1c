//! The peculiarities of registries as data: one row per service, so that no other code depends on the service.

use crate::oci::{Registry, Service};
use crate::registry::action::Action;

/// Differences from a registry that follows the distribution specification.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Quirks {
    /// The host of the API, if it isn't the registry's name.
    pub(crate) api_host: Option<&'static str>,
    /// The key in credential helpers, if it isn't the registry's name.
    pub(crate) helper_key: Option<&'static str>,
    /// Each manifest GET counts against a quota, whether or not headers say so.
    pub(crate) meters_pulls: bool,
    /// Its credentials come from the AWS chain.
    pub(crate) aws: bool,
    /// Answers an expired bearer token with 400 and without a challenge.
    pub(crate) stale_is_400: bool,
    /// Tags per page: ECR refuses more than 1000, and no registry returns more.
    pub(crate) tag_page: u32,
    /// The most bytes of a blob in one request.
    pub(crate) most_at_once: u64,
    /// A blob may be sent in several chunks.
    pub(crate) chunks: bool,
    /// Rate limits of actions; unlisted ones are unlimited.
    pub(crate) paces: &'static [Pace],
}

/// The rate limit of an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pace {
    pub(crate) action: Action,
    /// The sustained rate per second …
    pub(crate) per_second: u32,
    /// … and the burst after a rest.
    pub(crate) burst: u32,
}

const PLAIN: Quirks = Quirks {
    api_host: None,
    helper_key: None,
    meters_pulls: false,
    aws: false,
    stale_is_400: false,
    tag_page: 1000,
    most_at_once: u64::MAX,
    chunks: true,
    paces: &[],
};

const DOCKER_HUB: Quirks = Quirks {
    api_host: Some("registry-1.docker.io"),
    helper_key: Some("https://index.docker.io/v1/"),
    meters_pulls: true,
    ..PLAIN
};

/// Answers each chunk with 201, but stores only the first, whatever `Range` says.
const ECR: Quirks = Quirks { aws: true, chunks: false, paces: ECR_PACES, ..PLAIN };

/// About four fifths of ECR's quotas per second for an account in a region, by the API action behind a request:
/// PutImage 10, InitiateLayerUpload and CompleteLayerUpload 100, BatchCheckLayerAvailability 1000, BatchGetImage
/// 2000, GetDownloadUrlForLayer 3000. An index with twelve platforms takes 13 PutImage.
const ECR_PACES: &[Pace] = &[
    pace(Action::PushManifest, 8, 10),
    pace(Action::OpenUpload, 80, 20),
    pace(Action::MountBlob, 80, 20),
    pace(Action::PushBlob, 80, 20),
    pace(Action::FindBlob, 800, 100),
    pace(Action::Resolve, 1600, 200),
    pace(Action::PullManifest, 1600, 200),
    pace(Action::PullBlob, 2400, 200),
];

const fn pace(action: Action, per_second: u32, burst: u32) -> Pace {
    Pace { action, per_second, burst }
}

/// Stores only the last of several chunks.
const GHCR: Quirks = Quirks { chunks: false, ..PLAIN };

/// Artifact Registry and Container Registry don't support chunks.
const GOOGLE: Quirks = Quirks { chunks: false, ..PLAIN };

/// Refuses, or breaks off, a request of more than about 20 MB.
const ACR: Quirks = Quirks { most_at_once: 16 << 20, ..PLAIN };

/// Belongs to no account: uses ordinary tokens, except for the way it refuses one (aws/containers-roadmap#2835).
/// Without a login it serves one image per second to an address. Faster requests are refused, and a mirror that
/// refuses is skipped.
const ECR_PUBLIC: Quirks = Quirks { stale_is_400: true, paces: &[pace(Action::PullManifest, 1, 3)], ..PLAIN };

/// Services that are recognised by the host's name: it equals this domain or is in it.
const BY_DOMAIN: &[(&str, Quirks)] = &[
    ("azurecr.io", ACR),
    ("azurecr.cn", ACR),
    ("azurecr.us", ACR),
    ("ghcr.io", GHCR),
    ("gcr.io", GOOGLE),
    ("pkg.dev", GOOGLE),
    ("public.ecr.aws", ECR_PUBLIC),
];

impl Quirks {
    /// The quirks of `registry`.
    pub(crate) fn of(registry: &Registry) -> Self {
        match Service::of(registry) {
            Service::DockerHub => DOCKER_HUB,
            Service::Ecr { .. } => ECR,
            Service::Harbor | Service::Other => by_domain(registry.as_str()),
        }
    }
}

fn by_domain(registry: &str) -> Quirks {
    let host = registry.split(':').next().unwrap_or_default();
    let within = |domain: &str| host.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    BY_DOMAIN.iter().find(|(domain, _)| within(domain)).map_or(PLAIN, |(_, quirks)| *quirks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_are_recognised_by_host_name() {
        let anything = (u64::MAX, true);
        for (host, expected) in [
            ("myregistry.azurecr.io", (16 << 20, true)),
            ("myregistry.azurecr.io:443", (16 << 20, true)),
            ("ghcr.io", (u64::MAX, false)),
            ("eu.gcr.io", (u64::MAX, false)),
            ("europe-docker.pkg.dev", (u64::MAX, false)),
            ("123456789012.dkr.ecr.eu-west-1.amazonaws.com", (u64::MAX, false)),
            ("docker.io", anything),
            ("public.ecr.aws", anything),
            ("quay.io", anything),
            ("notgcr.io", anything),
            ("gcr.io.example.com", anything),
            ("127.0.0.1:5000", anything),
        ] {
            let quirks = Quirks::of(&host.parse().unwrap());
            assert_eq!((quirks.most_at_once, quirks.chunks), expected, "{host}");
            assert_eq!(quirks.stale_is_400, host == "public.ecr.aws", "{host}");
            assert_eq!(quirks.paces.is_empty(), !(host.contains("amazonaws") || host == "public.ecr.aws"), "{host}");
        }
    }
}
