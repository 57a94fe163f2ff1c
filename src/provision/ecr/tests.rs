//! The real SDK against a few lines of the JSON API on loopback.

mod account;
mod policies;
mod pull_through;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::json;

use self::account::{Account, Shared, holding, operations, refusing, serve};
use crate::aws::Sessions;
use crate::config::{EcrCreate, EcrSettings, Policy, RegistrySettings};
use crate::error::{Error, Kind, Result, Stage};
use crate::oci::{Registry, Repository};
use crate::provision::Provisioners;

const HOST: &str = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";

async fn provisioners(account: Account, create: Option<EcrCreate>) -> (Shared, Provisioners) {
    with(account, EcrSettings { create, ..EcrSettings::default() }).await
}

/// Policies are set, also for existing repositories.
async fn reconciling(account: Account) -> (Shared, Provisioners) {
    let create = EcrCreate {
        lifecycle_policy: Some(Policy { file: "lifecycle.json".into(), text: LIFECYCLE.to_owned() }),
        ..with_policies()
    };
    with(account, EcrSettings { create: Some(create), reconcile: true, ..EcrSettings::default() }).await
}

async fn with(account: Account, ecr: EcrSettings) -> (Shared, Provisioners) {
    let (shared, sessions) = serve(account).await;
    let registries = BTreeMap::from([(registry(), RegistrySettings { ecr, ..RegistrySettings::default() })]);
    (shared, Provisioners::new(&registries, sessions))
}

fn registry() -> Registry {
    HOST.parse().unwrap()
}

fn repository(path: &str) -> Repository {
    Repository::new(registry(), path).unwrap()
}

async fn missing(provisioners: &Provisioners, repositories: &[Repository]) -> Vec<bool> {
    provisioners.missing(repositories).await.into_iter().map(|(_, missing)| missing.unwrap()).collect()
}

async fn ensure(provisioners: &Provisioners, path: &str) -> Result<bool, Error> {
    let (_, ready) = provisioners.ensure(&[repository(path)]).await.remove(0);
    ready.map(|ready| ready.created())
}

#[tokio::test]
async fn existing_repositories_are_described_once_in_one_batch() {
    let (account, provisioners) = provisioners(holding(&["m/a", "m/b"]), Some(EcrCreate::default())).await;
    let both = [repository("m/b"), repository("m/a")];
    assert_eq!(missing(&provisioners, &both).await, [false, false]);
    for (_, ready) in provisioners.ensure(&both).await {
        assert!(!ready.unwrap().created());
    }
    let asked = std::mem::take(&mut account.lock().unwrap().asked);
    let body = json!({"registryId": "123456789012", "repositoryNames": ["m/a", "m/b"]});
    assert_eq!(asked, [("DescribeRepositories".to_owned(), body)]);
}

#[tokio::test]
async fn one_missing_repository_among_many_is_found() {
    let names: Vec<String> = (0..150).map(|n| format!("m/{n}")).collect();
    let there: Vec<&str> = names.iter().map(String::as_str).filter(|name| *name != "m/7").collect();
    let (account, provisioners) = provisioners(holding(&there), Some(EcrCreate::default())).await;
    let all: Vec<_> = names.iter().map(|name| repository(name)).collect();
    for ((asked, missing), wanted) in provisioners.missing(&all).await.into_iter().zip(&all) {
        assert_eq!((&asked, missing.unwrap()), (wanted, wanted.path() == "m/7"));
    }
    // Two batches, and each of the 50 in the second: m/7 sorts there as text.
    assert_eq!(operations(&account).len(), 2 + 50);
    assert!(account.lock().unwrap().peak <= 4);
}

const LIFECYCLE: &str = r#"{"rules": [{"a": 1, "b": [2]}]}"#;

/// The texts are passed on unchanged: their content was checked with mirror.yaml.
fn with_policies() -> EcrCreate {
    let policy = |text: &str| Some(Policy { file: "conf/policy.json".into(), text: text.to_owned() });
    EcrCreate {
        lifecycle_policy: policy("{the rules}"),
        repository_policy: policy("{the statement}"),
        ..EcrCreate::default()
    }
}

#[tokio::test]
async fn a_denied_policy_has_a_hint_with_the_command_to_set_it() {
    let account = refusing(holding(&[]), &[("SetRepositoryPolicy", "AccessDeniedException")]);
    let (account, provisioners) = provisioners(account, Some(with_policies())).await;
    let error = ensure(&provisioners, "m/a").await.unwrap_err();
    assert_eq!((error.kind(), error.stage()), (Kind::Denied, Some(Stage::Provision)));
    assert_eq!(
        error.to_string(),
        format!(
            "set repository_policy of the new repository {HOST}/m/a: ecr:SetRepositoryPolicy isn't allowed: because"
        )
    );
    let hint = error.hint().unwrap();
    assert!(hint.starts_with("allow ecr:SetRepositoryPolicy in the policies of this AWS identity; "), "{hint}");
    assert!(hint.contains("aws ecr set-repository-policy --region eu-west-1 --registry-id 123456789012"), "{hint}");
    assert!(hint.contains("--repository-name m/a --policy-text file://conf/policy.json"), "{hint}");
    assert_eq!(operations(&account), ["CreateRepository", "PutLifecyclePolicy", "SetRepositoryPolicy"]);
}

#[tokio::test]
async fn an_existing_repository_keeps_its_policies() {
    let (account, provisioners) = provisioners(holding(&["m/a"]), Some(with_policies())).await;
    assert!(!ensure(&provisioners, "m/a").await.unwrap());
    assert_eq!(operations(&account), ["CreateRepository"]);
}

#[tokio::test]
async fn immutable_tags_are_learned_from_the_description() {
    let mut account = holding(&["m/a", "m/b", "m/c", "m/d"]);
    account.mutability = BTreeMap::from([
        ("m/b".to_owned(), json!({"imageTagMutability": "IMMUTABLE"})),
        (
            "m/c".to_owned(),
            json!({
                "imageTagMutability": "IMMUTABLE_WITH_EXCLUSION",
                "imageTagMutabilityExclusionFilters": [{"filterType": "WILDCARD", "filter": "latest*"}],
            }),
        ),
        (
            "m/d".to_owned(),
            json!({
                "imageTagMutability": "MUTABLE_WITH_EXCLUSION",
                "imageTagMutabilityExclusionFilters": [{"filterType": "WILDCARD", "filter": "v*"}],
            }),
        ),
    ]);
    let (_, provisioners) = provisioners(account, None).await;
    let all = ["m/a", "m/b", "m/c", "m/d"].map(repository);
    let held = |tag: &str| all.each_ref().map(|one| provisioners.is_immutable(one, &tag.parse().unwrap()));
    assert_eq!(held("v1"), [false; 4], "nothing is known yet");
    missing(&provisioners, &all).await;
    assert_eq!(held("v1"), [false, true, true, true]);
    assert_eq!(held("latest-2"), [false, true, false, false]);
}

#[tokio::test]
async fn the_blob_mounting_setting_is_requested_once_and_off_if_unknown() {
    for (setting, mounts) in [(Some("ENABLED"), true), (Some("DISABLED"), false), (None, false)] {
        let (account, sessions) = serve(Account { blob_mounting: setting, ..Account::default() }).await;
        for _ in 0..3 {
            assert_eq!(sessions.session(&registry(), &EcrSettings::default()).blob_mounting().await, mounts);
        }
        assert_eq!(operations(&account), ["GetAccountSetting"]);
    }
}

#[tokio::test]
async fn a_missing_repository_is_created_with_the_settings() {
    let create = EcrCreate {
        tag_mutability: Some("IMMUTABLE".into()),
        mutability_exclusions: vec!["latest*".into()],
        scan_on_push: Some(true),
        encryption: Some("KMS_DSSE".into()),
        kms_key: Some("alias/mirror".into()),
        tags: BTreeMap::from([("team".into(), "platform".into())]),
        ..with_policies()
    };
    let (account, provisioners) = provisioners(Account::default(), Some(create)).await;
    assert_eq!(missing(&provisioners, &[repository("m/a")]).await, [true]);
    assert!(ensure(&provisioners, "m/a").await.unwrap());
    assert!(!ensure(&provisioners, "m/a").await.unwrap(), "the second time, it's known to be there");
    let done = ["DescribeRepositories", "CreateRepository", "PutLifecyclePolicy", "SetRepositoryPolicy"];
    assert_eq!(operations(&account), done);
    let asked = std::mem::take(&mut account.lock().unwrap().asked);
    assert_eq!(asked[2].1["lifecyclePolicyText"], "{the rules}");
    assert_eq!(asked[3].1["policyText"], "{the statement}");
    assert_eq!(
        asked[1].1,
        json!({
            "registryId": "123456789012",
            "repositoryName": "m/a",
            "imageTagMutability": "IMMUTABLE_WITH_EXCLUSION",
            "imageTagMutabilityExclusionFilters": [{"filterType": "WILDCARD", "filter": "latest*"}],
            "imageScanningConfiguration": {"scanOnPush": true},
            "encryptionConfiguration": {"encryptionType": "KMS_DSSE", "kmsKey": "alias/mirror"},
            "tags": [{"Key": "team", "Value": "platform"}],
        })
    );
}

#[tokio::test]
async fn a_registry_without_an_entry_creates_with_the_accounts_defaults() {
    let (account, sessions) = serve(Account::default()).await;
    let provisioners = Provisioners::new(&BTreeMap::new(), sessions);
    assert!(ensure(&provisioners, "m/a").await.unwrap());
    let asked = account.lock().unwrap().asked.remove(0);
    assert_eq!(asked.1, json!({"registryId": "123456789012", "repositoryName": "m/a"}));
}

#[tokio::test]
async fn of_eight_concurrent_runs_one_creates_the_repository_and_none_fails() {
    let (account, sessions) = serve(Account::default()).await;
    // Each has a separate memory, as in eight runs.
    let runs: Vec<_> = (0..8).map(|_| Provisioners::new(&BTreeMap::new(), Arc::clone(&sessions))).collect();
    let created = futures::future::join_all(runs.iter().map(|run| ensure(run, "m/a"))).await;
    assert_eq!(created.into_iter().filter(|created| *created.as_ref().unwrap()).count(), 1);
    assert_eq!(operations(&account), ["CreateRepository"; 8]);
}

#[tokio::test]
async fn a_refused_creation_names_the_permission_and_the_command() {
    let account = refusing(holding(&[]), &[("CreateRepository", "AccessDeniedException")]);
    let (_, provisioners) = provisioners(account, Some(EcrCreate::default())).await;
    let error = ensure(&provisioners, "m/a").await.unwrap_err();
    assert_eq!((error.kind(), error.stage(), error.status()), (Kind::Denied, Some(Stage::Provision), Some(400)));
    assert_eq!(error.to_string(), format!("create repository {HOST}/m/a: ecr:CreateRepository isn't allowed: because"));
    assert_eq!(
        error.hint(),
        Some(
            "allow ecr:CreateRepository in the policies of this AWS identity; or create it with `aws ecr \
             create-repository --region eu-west-1 --registry-id 123456789012 --repository-name m/a`"
        )
    );
}

#[tokio::test]
async fn without_permission_to_describe_it_tries_to_create_or_to_push() {
    let refuse = [("DescribeRepositories", "AccessDeniedException")];
    let account = refusing(holding(&["m/a"]), &refuse);
    let (_, creating) = provisioners(account, Some(EcrCreate::default())).await;
    assert_eq!(missing(&creating, &[repository("m/a")]).await, [true]);
    assert!(!ensure(&creating, "m/a").await.unwrap());

    let (_, never) = provisioners(refusing(holding(&[]), &refuse), None).await;
    assert_eq!(missing(&never, &[repository("m/a")]).await, [false]);
    assert!(!ensure(&never, "m/a").await.unwrap());
}

#[tokio::test]
async fn without_create_a_missing_repository_fails_alone() {
    let (account, provisioners) = provisioners(holding(&["m/a"]), None).await;
    let both = [repository("m/a"), repository("m/b")];
    assert_eq!(missing(&provisioners, &both).await, [false, true]);
    let ready = provisioners.ensure(&both).await;
    assert!(ready[0].1.is_ok());
    let error = ready[1].1.as_ref().unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
    assert!(error.hint().unwrap().contains("remove `create: false`"));
    assert!(!operations(&account).contains(&"CreateRepository".to_owned()));
}

#[tokio::test]
async fn an_account_at_its_repository_limit_is_a_quota_error() {
    let account = refusing(holding(&[]), &[("CreateRepository", "LimitExceededException")]);
    let (_, provisioners) = provisioners(account, Some(EcrCreate::default())).await;
    assert_eq!(ensure(&provisioners, "m/a").await.unwrap_err().kind(), Kind::QuotaExceeded);
}

#[tokio::test]
async fn a_failed_description_fails_only_repositories_of_that_registry() {
    let account = refusing(holding(&[]), &[("DescribeRepositories", "UnrecognizedClientException")]);
    let (_, provisioners) = provisioners(account, Some(EcrCreate::default())).await;
    let elsewhere: Repository = "localhost:5000/m/a".parse().unwrap();
    let answers = provisioners.missing(&[repository("m/a"), elsewhere]).await;
    assert_eq!(answers[0].1.as_ref().unwrap_err().kind(), Kind::Unauthorized);
    assert!(!answers[1].1.as_ref().unwrap());
}

#[tokio::test]
async fn a_token_is_used_for_some_minutes_whatever_its_expiry_date() {
    let (_, sessions) = serve(Account::default()).await;
    let token = sessions.session(&registry(), &EcrSettings::default()).authorization_token().await.unwrap();
    assert_eq!(token.basic, "QVdTOnNlY3JldA==");
    assert!(token.lifetime >= std::time::Duration::from_secs(60));
    assert!(!format!("{token:?}").contains("QVdT"));
}

#[tokio::test]
async fn a_missing_answer_is_unavailable() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let sessions = Sessions::at_endpoint(endpoint, "id", "secret");
    let error = sessions.session(&registry(), &EcrSettings::default()).authorization_token().await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable);
    assert!(error.to_string().starts_with("get an authorization token from ECR in eu-west-1: "), "{error}");
    assert!(!error.to_string().contains('\n'));
}
