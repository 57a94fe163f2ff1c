//! Settings for ECR.

use super::*;

#[test]
fn ecr_policies_are_read_and_checked_before_any_request() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    let rule = r#"{"rulePriority": 1, "selection": {"tagStatus": "untagged", "countType": "imageCountMoreThan"}}"#;
    file("good.json", &format!(r#"{{"rules": [{rule}]}}"#));
    file("broken.json", "{\n  \"rules\": [}\n");
    file("short.json", r#"{"rules": [{}]}"#);
    file("policy.json", r#"{"Version": "2012-10-17", "Statement": {"Effect": "Allow"}}"#);
    let read = |host: &str, create: &str| {
        let text = format!(
            "target: {ECR}/m\nimages: [nginx]\nregistries:\n  {host}:\n    ecr:\n      create:\n        {create}\n"
        );
        Config::read(&text, &folder.path().join("mirror.yaml"), &env)
    };
    let config = read(ECR, "{lifecycle_policy: good.json, repository_policy: ./policy.json}").unwrap();
    let create = config.registries[&ECR.parse::<Registry>().unwrap()].ecr.create.clone().unwrap();
    assert!(create.lifecycle_policy.unwrap().text.contains("rulePriority"));
    assert_eq!(create.repository_policy.unwrap().file, folder.path().join("./policy.json"));
    for (create, message) in [
        ("lifecycle_policy: none.json", "none.json can't be read: "),
        ("lifecycle_policy: broken.json", "broken.json:2:13: it isn't JSON: "),
        ("lifecycle_policy: short.json", "short.json has 15 characters, but ECR accepts 100 to 30720"),
        ("lifecycle_policy: policy.json", "policy.json has no rules"),
        ("repository_policy: good.json", "good.json has no Statement"),
    ] {
        let problems = read(ECR, create).unwrap_err();
        let all: Vec<_> = problems.iter().collect();
        assert!(all.len() == 1 && all[0].message.contains(message), "{create}: {problems}");
        assert_eq!(all[0].line, 7, "{problems}");
        assert!(read("210987654321.dkr.ecr.eu-west-1.amazonaws.com", create).is_ok(), "that host isn't in use");
    }
}

#[test]
fn ecr_settings_have_to_agree() {
    let with = |create: &str| with(&format!("registries:\n  {ECR}: {{ecr: {{create: {{{create}}}}}}}\n"));
    for good in [
        "tag_mutability: MUTABLE, mutability_exclusions: ['v*', latest]",
        "encryption: KMS_DSSE, kms_key: alias/m",
        "encryption: AES256",
        "encryption: KMS",
    ] {
        assert!(read(&with(good)).is_ok(), "{good}");
    }
    for (bad, message) in [
        ("mutability_exclusions: [a]", "tag_mutability is missing"),
        ("tag_mutability: IMMUTABLE, mutability_exclusions: []", "expected 1 to 5 patterns"),
        ("tag_mutability: IMMUTABLE, mutability_exclusions: ['a b']", "`a b` isn't a pattern of tags"),
        ("tag_mutability: IMMUTABLE_WITH_EXCLUSION", "expected MUTABLE or IMMUTABLE"),
        ("encryption: AES256, kms_key: alias/m", "AES256 doesn't use a key"),
        ("encryption: SSE", "expected AES256, KMS or KMS_DSSE"),
    ] {
        let problems = problems(&with(bad));
        assert!(problems.len() == 1 && problems[0].contains(message), "{bad}: {problems:?}");
    }
}
