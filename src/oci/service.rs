//! Recognises the service that a host belongs to, and checks its rules for repository names.

use std::sync::LazyLock;

use regex::Regex;

use super::{Registry, Repository};

/// A registry service. [`Service::of`] recognises it by its host name; any other host is [`Service::Other`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Service {
    /// Docker Hub: a manifest GET counts against the pull quota.
    DockerHub,
    /// Amazon ECR, private.
    Ecr {
        /// Twelve digits.
        account: String,
        /// For instance `eu-west-1`.
        region: String,
        /// FIPS endpoint.
        fips: bool,
        /// Dual-stack endpoint, IPv4 and IPv6.
        dual_stack: bool,
    },
    /// Harbor: recognised not by its host name, but by settings or by the host's answers.
    Harbor,
    /// Any other.
    Other,
}

/// Amazon's host patterns: commercial, China, GovCloud, sovereign partitions, FIPS and dual stack.
static ECR: LazyLock<Regex> = LazyLock::new(|| {
    let suffixes = r"amazonaws\.(?:com(?:\.cn)?|eu)|on\.(?:aws|amazonwebservices\.com\.cn|amazonwebservices\.eu)|sc2s\.sgov\.gov|c2s\.ic\.gov|cloud\.adc-e\.uk|csp\.hci\.ic\.gov";
    Regex::new(&format!(r"^(\d{{12}})\.dkr([.-])ecr(-fips)?\.([a-z0-9][a-z0-9_-]*)\.(?:{suffixes})$"))
        .expect("a constant pattern, compiled by the tests")
});

/// ECR's `repositoryName`, from the API reference of `CreateRepository`.
static ECR_NAME: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*$")
        .expect("a constant pattern, compiled by the tests")
});

/// Harbor's rule for project names (`src/pkg/project/models`); the project is the first segment of a repository.
static HARBOR_PROJECT: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"^[a-z0-9]+(?:[._-][a-z0-9]+)*$").expect("a constant pattern, compiled by the tests"));

impl Service {
    /// The service of `registry`.
    pub fn of(registry: &Registry) -> Self {
        let host = registry.as_str();
        if host == Registry::DOCKER_HUB {
            return Self::DockerHub;
        }
        // Most hosts aren't Amazon's: no pattern is compiled for them.
        if host.contains("ecr")
            && let Some(found) = ECR.captures(host)
        {
            return Self::Ecr {
                account: found[1].to_owned(),
                region: found[4].to_owned(),
                fips: found.get(3).is_some(),
                dual_stack: &found[2] == "-",
            };
        }
        Self::Other
    }

    /// Checks `repository` against the service's rules for names.
    ///
    /// # Errors
    /// If the name is invalid.
    pub fn check_name(&self, repository: &Repository) -> Result<(), String> {
        let path = repository.path();
        match self {
            Self::Ecr { .. } if !(2..=256).contains(&path.len()) => {
                Err(format!("ECR refuses the repository name `{path}`: it must have 2 to 256 characters"))
            }
            Self::Ecr { .. } if !ECR_NAME.is_match(path) => Err(format!("ECR refuses the repository name `{path}`")),
            Self::Harbor => match path.split_once('/') {
                None => Err(format!("Harbor refuses the repository name `{path}`: it is PROJECT/NAME there")),
                Some((project, _)) if !HARBOR_PROJECT.is_match(project) => {
                    Err(format!("Harbor refuses the project name `{project}`"))
                }
                Some(_) => Ok(()),
            },
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ecr(host: &str) -> Option<(String, String, bool, bool)> {
        match Service::of(&host.parse().unwrap()) {
            Service::Ecr { account, region, fips, dual_stack } => Some((account, region, fips, dual_stack)),
            _ => None,
        }
    }

    #[test]
    fn ecr_hosts_give_account_and_region() {
        for (host, region, fips, dual_stack) in [
            ("123456789012.dkr.ecr.eu-west-1.amazonaws.com", "eu-west-1", false, false),
            ("123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn", "cn-north-1", false, false),
            ("123456789012.dkr.ecr-fips.us-gov-west-1.amazonaws.com", "us-gov-west-1", true, false),
            ("123456789012.dkr-ecr.us-east-1.on.aws", "us-east-1", false, true),
            ("123456789012.dkr-ecr-fips.us-east-1.on.aws", "us-east-1", true, true),
            ("123456789012.dkr.ecr.eusc-de-east-1.amazonaws.eu", "eusc-de-east-1", false, false),
            ("123456789012.dkr.ecr.us-iso-east-1.c2s.ic.gov", "us-iso-east-1", false, false),
            ("123456789012.dkr.ecr.us-isob-east-1.sc2s.sgov.gov", "us-isob-east-1", false, false),
            ("123456789012.dkr.ecr.eu-isoe-west-1.cloud.adc-e.uk", "eu-isoe-west-1", false, false),
            ("123456789012.dkr.ecr.us-isof-south-1.csp.hci.ic.gov", "us-isof-south-1", false, false),
            ("123456789012.dkr-ecr.cn-north-1.on.amazonwebservices.com.cn", "cn-north-1", false, true),
        ] {
            assert_eq!(ecr(host), Some(("123456789012".into(), region.into(), fips, dual_stack)), "{host}");
        }
        for other in ["public.ecr.aws", "12345.dkr.ecr.eu-west-1.amazonaws.com", "x.dkr.ecr.eu-west-1.example.com"] {
            assert_eq!(ecr(other), None, "{other}");
        }
    }

    #[test]
    fn ecr_names_are_checked() {
        let registry: Registry = "123456789012.dkr.ecr.eu-west-1.amazonaws.com".parse().unwrap();
        let check = |path: &str| Service::of(&registry).check_name(&Repository::new(registry.clone(), path).unwrap());
        assert!(check("mirror/docker.io/library/nginx").is_ok());
        assert!(check("a").unwrap_err().contains("2 to 256"));
    }

    #[test]
    fn harbor_names_are_checked() {
        let check = |path: &str| Service::Harbor.check_name(&Repository::new("h.io".parse().unwrap(), path).unwrap());
        for good in ["mirror/nginx", "a.b-c_d/e/f", "1/a__b"] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for bad in ["nginx", "a__b/c", "a--b/c"] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }
}
