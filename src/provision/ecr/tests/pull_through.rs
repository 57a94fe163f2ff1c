//! Repositories that are filled from an upstream.

use super::*;

#[tokio::test]
async fn only_repositories_below_a_pull_through_prefix_are_refused() {
    let account = Account { rules: Some(vec!["a", "b/c", "quay"]), ..holding(&["quay/x"]) };
    let (account, provisioners) = provisioners(account, Some(EcrCreate::default())).await;
    let all = ["quay/x", "quayside/x", "quay", "b/c/x"].map(repository);
    for _ in 0..2 {
        let answers = provisioners.missing(&all).await;
        let refused: Vec<bool> = answers.iter().map(|(_, answer)| answer.is_err()).collect();
        assert_eq!(refused, [true, false, false, true]);
        let error = answers[0].1.as_ref().unwrap_err();
        assert_eq!((error.kind(), error.stage()), (Kind::Unsupported, Some(Stage::Provision)));
        let why = "everything under quay/ is a pull-through cache of quay.io, and can't be pushed to";
        assert_eq!(error.to_string(), format!("prepare repository {HOST}/quay/x: {why}"));
        assert!(error.hint().unwrap().starts_with("choose another prefix than quay/ with target:"));
    }
    assert_eq!(account.lock().unwrap().rules_asked, 1, "once in a run");
}

#[tokio::test]
async fn a_pull_through_rule_for_the_root_refuses_every_repository() {
    let account = Account { rules: Some(vec!["ROOT"]), ..holding(&["m/a"]) };
    let (_, provisioners) = provisioners(account, None).await;
    let (_, answer) = provisioners.missing(&[repository("m/a")]).await.remove(0);
    let error = answer.unwrap_err();
    assert!(error.to_string().contains("every repository of this registry"), "{error}");
    assert!(error.hint().unwrap().contains("another account or region"));
}

#[tokio::test]
async fn unavailable_pull_through_rules_count_as_none_and_arent_requested_again() {
    let (account, provisioners) = provisioners(holding(&["m/a"]), None).await;
    for _ in 0..2 {
        assert_eq!(missing(&provisioners, &[repository("m/a")]).await, [false]);
    }
    assert_eq!(account.lock().unwrap().rules_asked, 3, "as often as the SDK tries");
}
