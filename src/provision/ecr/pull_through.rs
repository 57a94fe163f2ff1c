//! Pull-through cache: repositories under the prefix of such a rule are filled from its upstream rather than by a
//! push.
//!
//! Facts: ECR's API reference, `DescribePullThroughCacheRules`.

use std::time::Duration;

use aws_sdk_ecr::config::Config;
use aws_sdk_ecr::config::retry::RetryConfig;
use aws_sdk_ecr::types::PullThroughCacheRule;

use super::Ecr;
use crate::error::{Error, Kind};
use crate::oci::Repository;

/// The prefix of a rule for all repositories.
const ROOT: &str = "ROOT";

/// The most rules in an answer; a registry may have 50.
const PAGE: i32 = 1000;

/// Emulators without this operation answer it with a 500, so the retries have to be quick.
const BACKOFF: Duration = Duration::from_millis(100);

/// The relevant part of a rule.
#[derive(Debug)]
pub(super) struct Rule {
    prefix: String,
    upstream: Option<String>,
}

impl Rule {
    fn of(rule: &PullThroughCacheRule) -> Option<Self> {
        let upstream = rule.upstream_registry_url().map(ToOwned::to_owned);
        Some(Self { prefix: rule.ecr_repository_prefix()?.to_owned(), upstream })
    }

    fn holds(&self, repository: &Repository) -> bool {
        let below = repository.path().strip_prefix(&self.prefix);
        self.prefix == ROOT || below.is_some_and(|below| below.starts_with('/'))
    }

    fn refusal(&self, repository: &Repository) -> Error {
        let upstream = self.upstream.as_deref().unwrap_or("another registry");
        let (what, hint) = match self.prefix.as_str() {
            ROOT => (
                "every repository of this registry".to_owned(),
                "mirror to another account or region, or delete the rule for ROOT".to_owned(),
            ),
            prefix => (
                format!("everything under {prefix}/"),
                format!("choose another prefix than {prefix}/ with target:, layout: or to: in mirror.yaml"),
            ),
        };
        let why = format!("{what} is a pull-through cache of {upstream}, and can't be pushed to");
        Error::new(Kind::Unsupported, format!("prepare repository {repository}"), why).with_hint(hint)
    }
}

impl Ecr {
    /// Why `repository` can't be pushed to, if a rule prevents it.
    pub(super) async fn refusal(&self, repository: &Repository) -> Option<Error> {
        let rules = self.rules.get_or_init(|| self.ask_rules()).await;
        rules.iter().find(|rule| rule.holds(repository)).map(|rule| rule.refusal(repository))
    }

    /// Empty if they can't be read: most accounts have none, and most identities needn't know about them.
    async fn ask_rules(&self) -> Vec<Rule> {
        let attempted = || format!("ask for the pull-through cache rules of {}", self.session);
        let _permit = self.permits.acquire().await.expect("never closed");
        let asked = async {
            let request = self.session.ecr().await?.describe_pull_through_cache_rules().registry_id(&self.account);
            let retry = RetryConfig::standard().with_initial_backoff(BACKOFF);
            let request = request.max_results(PAGE).customize();
            let answer = request.config_override(Config::builder().retry_config(retry)).send().await;
            answer.map_err(|error| self.session.failure(attempted(), "ecr:DescribePullThroughCacheRules", error))
        };
        match asked.await {
            Ok(answer) => answer.pull_through_cache_rules().iter().filter_map(Rule::of).collect(),
            Err(error) => {
                tracing::debug!("{error}: assuming that it has none");
                Vec::new()
            }
        }
    }
}
