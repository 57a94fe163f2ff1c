//! Policies of repositories that exist.

use super::*;

async fn differing(provisioners: &Provisioners, path: &str) -> Result<Vec<&'static str>, Error> {
    provisioners.differing(&[repository(path)]).await.remove(0).1
}

async fn changed(provisioners: &Provisioners, path: &str) -> Result<Vec<&'static str>, Error> {
    let (_, ready) = provisioners.ensure(&[repository(path)]).await.remove(0);
    ready.map(|ready| ready.changes().to_vec())
}

#[tokio::test]
async fn differing_policies_are_reported_and_then_set() {
    let mut account = holding(&["m/a"]);
    let other_order = r#"{ "rules":[{"b":[2],"a":1}]}"#;
    account.policies.insert(("GetLifecyclePolicy", "m/a".to_owned()), other_order.to_owned());
    let (account, provisioners) = reconciling(account).await;
    assert_eq!(missing(&provisioners, &[repository("m/a")]).await, [false]);
    assert_eq!(differing(&provisioners, "m/a").await.unwrap(), ["repository_policy"]);
    assert_eq!(changed(&provisioners, "m/a").await.unwrap(), ["repository_policy"]);
    assert_eq!(changed(&provisioners, "m/a").await.unwrap(), [""; 0], "once is enough");
    let done = ["DescribeRepositories", "GetLifecyclePolicy", "GetRepositoryPolicy", "SetRepositoryPolicy"];
    assert_eq!(operations(&account), done);
}

#[tokio::test]
async fn policies_are_compared_once_a_failed_creation_shows_that_the_repository_exists() {
    let account = refusing(holding(&["m/a"]), &[("DescribeRepositories", "AccessDeniedException")]);
    let (_, provisioners) = reconciling(account).await;
    assert_eq!(missing(&provisioners, &[repository("m/a")]).await, [true]);
    assert_eq!(changed(&provisioners, "m/a").await.unwrap(), ["lifecycle_policy", "repository_policy"]);
}

#[tokio::test]
async fn a_new_repositorys_policies_arent_compared() {
    let (account, provisioners) = reconciling(holding(&[])).await;
    for _ in 0..2 {
        assert_eq!(changed(&provisioners, "m/a").await.unwrap(), [""; 0]);
    }
    assert_eq!(operations(&account), ["CreateRepository", "PutLifecyclePolicy", "SetRepositoryPolicy"]);
}

#[tokio::test]
async fn a_policy_that_cant_be_changed_fails_its_repository_with_the_reason() {
    for (operation, attempted, way_out) in [
        ("GetRepositoryPolicy", "compare repository_policy of repository", "or remove `reconcile: true` from"),
        ("SetRepositoryPolicy", "set repository_policy of repository", "or set it with `aws ecr set-repository-policy"),
    ] {
        let (_, provisioners) = reconciling(refusing(holding(&["m/a"]), &[(operation, "AccessDeniedException")])).await;
        let error = changed(&provisioners, "m/a").await.unwrap_err();
        assert_eq!((error.kind(), error.stage()), (Kind::Denied, Some(Stage::Provision)));
        assert_eq!(error.to_string(), format!("{attempted} {HOST}/m/a: ecr:{operation} isn't allowed: because"));
        assert!(error.hint().unwrap().contains(&format!("allow ecr:{operation} in the policies")), "{error:?}");
        assert!(error.hint().unwrap().contains(way_out), "{error:?}");
    }
}
