//! What is odd about a registry, as data: one row a service, so that nothing else asks who it talks to.

use crate::oci::{Registry, Service};

/// What differs from a registry that does as the distribution specification says.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Quirks {
    /// The host that serves the API, where it isn't the registry's name.
    pub(crate) api_host: Option<&'static str>,
    /// What credential helpers know the registry as, where it isn't its name.
    pub(crate) helper_key: Option<&'static str>,
    /// Each manifest GET counts against a quota, whether or not headers say so.
    pub(crate) counts_pulls: bool,
    /// Its credentials come from the AWS chain.
    pub(crate) aws: bool,
    /// Tags asked for at once: more than 1000 is an error on ECR, and no registry serves more.
    pub(crate) tag_page: u32,
}

const PLAIN: Quirks = Quirks { api_host: None, helper_key: None, counts_pulls: false, aws: false, tag_page: 1000 };

const DOCKER_HUB: Quirks = Quirks {
    api_host: Some("registry-1.docker.io"),
    helper_key: Some("https://index.docker.io/v1/"),
    counts_pulls: true,
    ..PLAIN
};

const ECR: Quirks = Quirks { aws: true, ..PLAIN };

impl Quirks {
    /// Those of `registry`.
    pub(crate) fn of(registry: &Registry) -> Self {
        match Service::of(registry) {
            Service::DockerHub => DOCKER_HUB,
            Service::Ecr { .. } => ECR,
            Service::Other => PLAIN,
        }
    }
}
