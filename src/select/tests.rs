use super::*;

fn tags(text: &str) -> Vec<Tag> {
    text.split_whitespace().map(|tag| tag.parse().unwrap()).collect()
}

fn spec(yaml: &str) -> Spec {
    serde_yaml::from_str(yaml).unwrap()
}

fn pick(yaml: &str, from: &str) -> String {
    let selection = Selection::new(spec(yaml)).unwrap();
    let mut from = tags(from);
    let picked = selection.apply(&from);
    from.reverse();
    assert_eq!(selection.apply(&from), picked, "{yaml}: the order of the tag list matters");
    picked.tags.iter().map(Tag::as_str).collect::<Vec<_>>().join(" ")
}

#[test]
fn filters_and_orders() {
    for (yaml, from, expected) in [
        // Versions as images spell them.
        ("latest: 3", "1.9 1.10 1.2 latest", "1.10 1.9 1.2"),
        ("latest: 9", "latest 1.27.1 v1.27.6-eks-1-27-14 1.27 1.27.0", "v1.27.6-eks-1-27-14 1.27.1 1.27.0 1.27 latest"),
        ("latest: 9", "3.12.1 3.12.1-slim 3.12.1-alpine", "3.12.1 3.12.1-slim 3.12.1-alpine"),
        ("latest: 9", "1.27.6-eks-9 1.27.6-eks-10", "1.27.6-eks-10 1.27.6-eks-9"),
        (
            "latest: 9",
            "1.2.0 1.2.0-rc.2 1.2.0-rc.10 1.2.0-beta1 1.1.9",
            "1.2.0 1.2.0-rc.10 1.2.0-rc.2 1.2.0-beta1 1.1.9",
        ),
        ("latest: 9", "3.13.0rc2-slim 3.13.0a1 3.13.0 3.12.9", "3.13.0 3.13.0rc2-slim 3.13.0a1 3.12.9"),
        ("latest: 9", "2.361.4 2.361.4.1 2.361.4.0", "2.361.4.1 2.361.4.0 2.361.4"),
        ("latest: 9", "8f3c2d1 2024w 7 007", "7 007 8f3c2d1 2024w"),
        // Requirements.
        (
            "semver: '>=1.15, <1.17'",
            "1.14.9 1.15 v1.15.2 1.16.0-alpine 1.16.9 1.17 1.17.0-rc1 1.16.0-rc1",
            "1.16.9 1.16.0-alpine v1.15.2 1.15",
        ),
        ("semver: '>=1.16.0-rc.1'", "1.16.0-rc1 1.16.0-beta1 1.16.0 1.17.0-rc1", "1.16.0 1.16.0-rc1"),
        ("semver: '1.27'", "1.26 1.27 1.28.1 2.0", "1.28.1 1.27"),
        ("semver: '~1.27'", "1.27.9 1.28.0", "1.27.9"),
        ("semver: '*'", "1.0 latest 15.10-alpine", "15.10-alpine 1.0"),
        // Globs, exclude and their combination.
        ("{glob: ['1.*', '2.*'], exclude: ['*-rc*', '*-alpine']}", "1.1 2.1 3.1 2.2-rc1 1.2-alpine", "2.1 1.1"),
        ("{glob: ['*-alpine'], semver: '>=2', latest: 1}", "1.0-alpine 2.0-alpine 3.0-alpine 4.0", "3.0-alpine"),
        // A regex is anchored, and its key is what is ordered.
        ("regex: '1\\.[0-9]+'", "1.1 11.1 1.1-x 1.22", "1.22 1.1"),
        ("regex: 'a|b'", "a b ab", "b a"),
        (
            "{regex: '^RELEASE\\.(?<key>[0-9T-]+)Z$', sort: text, latest: 2}",
            "RELEASE.2024-01-02T00-00-00Z RELEASE.2025-01-02T00-00-00Z RELEASE.2023-01-02T00-00-00Z latest",
            "RELEASE.2025-01-02T00-00-00Z RELEASE.2024-01-02T00-00-00Z",
        ),
        (
            "{regex: 'release-(?<key>.+)', semver: '<3'}",
            "release-1.0 release-2.0 release-3.0 1.0",
            "release-2.0 release-1.0",
        ),
        ("{regex: 'b(?<key>[0-9]+)?', sort: number}", "b b9 b10", "b10 b9 b"),
        // Other orders.
        (
            "{glob: ['*'], sort: number}",
            "build-9 build-10 x build-99999999999999999999999",
            "build-99999999999999999999999 build-10 build-9 x",
        ),
        ("{glob: ['*'], sort: text}", "b a10 a9", "b a9 a10"),
        // What isn't an image.
        ("glob: ['*']", "1.0 sha256-abc sha512-abc sha256-abc.sig 1.0.sig 1.0.att 1.0.sbom", "1.0"),
        ("glob: ['*']", "1.0 1.0", "1.0"),
    ] {
        assert_eq!(pick(yaml, from), expected, "{yaml}");
    }
}

#[test]
fn each_step_reports_what_it_dropped() {
    let selection = Selection::new(spec("{semver: '>=1', exclude: ['*-rc*'], latest: 1, min: 1}")).unwrap();
    let picked = selection.apply(&tags("0.9 1.0 1.1 1.2-rc sha256-abc"));
    let steps: Vec<String> = picked.steps.iter().map(|step| format!("{}: {:?}", step.what, step.dropped)).collect();
    assert_eq!(
        steps,
        [
            "tags of signatures and referrers: [sha256-abc]",
            "semver >=1: [0.9, 1.2-rc]",
            "exclude *-rc*: []",
            "latest 1: [1.0]"
        ]
    );
    assert!(picked.is_enough());
    assert!(!selection.apply(&tags("0.9")).is_enough());
    let selection = Selection::new(spec("{glob: ['1*'], min: 2}")).unwrap();
    assert!(!selection.apply(&tags("1.0")).is_enough());
}

#[test]
fn every_problem_is_reported_with_its_key() {
    for (yaml, key, index, part) in [
        ("glob: ['a', '[']", "glob", Some(1), "`[` isn't a glob"),
        ("{latest: 1, exclude: ['{a']}", "exclude", Some(0), "isn't a glob"),
        ("regex: '('", "regex", None, "isn't a regular expression: unclosed group"),
        ("regex: 'a)|(b'", "regex", None, "isn't a regular expression"),
        ("semver: '>=1.15 <1.17'", "semver", None, "isn't a version requirement"),
        ("{latest: 1, sort: date}", "sort", None, "`date` isn't an order"),
        ("{}", "", None, "it selects nothing"),
        ("latest: 0", "latest", None, "1 or more"),
        ("{latest: 1, min: 2}", "min", None, "more than latest"),
    ] {
        let faults = Selection::new(spec(yaml)).unwrap_err();
        assert_eq!((faults[0].key, faults[0].index), (key, index), "{yaml}");
        assert!(faults[0].message.contains(part), "{yaml}: {}", faults[0].message);
    }
    assert_eq!(Selection::new(spec("{semver: one, sort: y, latest: 0}")).unwrap_err().len(), 3);
}
