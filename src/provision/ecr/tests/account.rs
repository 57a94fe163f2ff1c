//! A stand-in for the API of ECR: one account with its repositories, its refusals, and the requests it received.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use crate::aws::Sessions;

/// The contents of the account, its refusals, and the requests it received.
#[derive(Debug, Default)]
pub(super) struct Account {
    pub(super) repositories: BTreeSet<String>,
    /// Operations that are answered with this error code.
    pub(super) refuse: BTreeMap<&'static str, &'static str>,
    pub(super) asked: Vec<(String, Value)>,
    /// Additional members of a repository's description.
    pub(super) mutability: BTreeMap<String, Value>,
    pub(super) blob_mounting: Option<&'static str>,
    /// The policies of each repository, by operation and repository name.
    pub(super) policies: BTreeMap<(&'static str, String), String>,
    /// Prefixes of pull-through caches; `None` = the operation isn't known.
    pub(super) rules: Option<Vec<&'static str>>,
    /// How often they were requested, which isn't in `asked`.
    pub(super) rules_asked: usize,
    pub(super) in_flight: usize,
    /// The most requests in flight at a time.
    pub(super) peak: usize,
}

pub(super) type Shared = Arc<Mutex<Account>>;

fn error(code: &str, message: &str) -> (StatusCode, String) {
    (StatusCode::BAD_REQUEST, json!({"__type": code, "message": message}).to_string())
}

fn pull_through(rules: Option<&[&str]>) -> (StatusCode, String) {
    // Like moto, which doesn't support the operation.
    let Some(rules) = rules else { return (StatusCode::INTERNAL_SERVER_ERROR, String::new()) };
    let rule = |prefix| json!({"ecrRepositoryPrefix": prefix, "upstreamRegistryUrl": "quay.io"});
    (StatusCode::OK, json!({"pullThroughCacheRules": rules.iter().map(rule).collect::<Vec<_>>()}).to_string())
}

async fn answer(State(account): State<Shared>, headers: HeaderMap, body: String) -> (StatusCode, String) {
    let target = headers["x-amz-target"].to_str().unwrap();
    let operation = target.rsplit('.').next().unwrap();
    let body: Value = serde_json::from_str(&body).unwrap();
    let enter = |account: &mut Account| {
        account.in_flight += 1;
        account.peak = account.peak.max(account.in_flight);
    };
    enter(&mut account.lock().unwrap());
    // All other tasks send their requests now.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    let mut account = account.lock().unwrap();
    account.in_flight -= 1;
    if operation == "DescribePullThroughCacheRules" {
        account.rules_asked += 1;
        return pull_through(account.rules.as_deref());
    }
    account.asked.push((operation.to_owned(), body.clone()));
    if let Some(code) = account.refuse.get(operation) {
        return error(code, "because");
    }
    match operation {
        "DescribeRepositories" => {
            let names: Vec<String> = serde_json::from_value(body["repositoryNames"].clone()).unwrap();
            if names.len() > 100 {
                return error("InvalidParameterException", "too many names");
            }
            if names.iter().any(|name| !account.repositories.contains(name)) {
                return error("RepositoryNotFoundException", "one of them does not exist");
            }
            let describe = |name: &String| {
                let mut described = account.mutability.get(name).cloned().unwrap_or_else(|| json!({}));
                described["repositoryName"] = json!(name);
                described
            };
            let found: Vec<_> = names.iter().map(describe).collect();
            (StatusCode::OK, json!({"repositories": found}).to_string())
        }
        "CreateRepository" => {
            let name = body["repositoryName"].as_str().unwrap().to_owned();
            if !account.repositories.insert(name.clone()) {
                return error("RepositoryAlreadyExistsException", "it exists");
            }
            (StatusCode::OK, json!({"repository": {"repositoryName": name}}).to_string())
        }
        // Base64 of AWS:secret; expired in 2015, like moto's.
        "GetAuthorizationToken" => {
            let data = json!({"authorizationToken": "QVdTOnNlY3JldA==", "expiresAt": 1_420_070_400.0});
            (StatusCode::OK, json!({"authorizationData": [data]}).to_string())
        }
        "GetLifecyclePolicy" | "GetRepositoryPolicy" => {
            let name = body["repositoryName"].as_str().unwrap();
            let found = account.policies.iter().find(|((asks, of), _)| *asks == operation && of == name);
            let (key, none) = match operation {
                "GetLifecyclePolicy" => ("lifecyclePolicyText", "LifecyclePolicyNotFoundException"),
                _ => ("policyText", "RepositoryPolicyNotFoundException"),
            };
            found.map_or_else(|| error(none, "none"), |(_, text)| (StatusCode::OK, json!({key: text}).to_string()))
        }
        "PutLifecyclePolicy" | "SetRepositoryPolicy" => (StatusCode::OK, json!({}).to_string()),
        "GetAccountSetting" if account.blob_mounting.is_some() => {
            let setting = json!({"name": body["name"], "value": account.blob_mounting});
            (StatusCode::OK, setting.to_string())
        }
        _ => error("UnknownOperationException", operation),
    }
}

pub(super) async fn serve(account: Account) -> (Shared, Arc<Sessions>) {
    let shared: Shared = Arc::new(Mutex::new(account));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let router = Router::new().fallback(answer).with_state(Arc::clone(&shared));
    tokio::spawn(async move { axum::serve(listener, router).await });
    (shared, Arc::new(Sessions::at_endpoint(endpoint, "id", "secret")))
}

pub(super) fn holding(names: &[&str]) -> Account {
    Account { repositories: names.iter().map(ToString::to_string).collect(), ..Account::default() }
}

pub(super) fn refusing(mut account: Account, refuse: &[(&'static str, &'static str)]) -> Account {
    account.refuse = refuse.iter().copied().collect();
    account
}

pub(super) fn operations(account: &Shared) -> Vec<String> {
    account.lock().unwrap().asked.iter().map(|(operation, _)| operation.clone()).collect()
}
