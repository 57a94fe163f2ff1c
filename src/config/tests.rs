mod ecr;
mod handling;
mod harbor;
mod images;
mod mirrors;
mod registries;

use super::*;
use crate::oci::Registry;

const D: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
const ECR: &str = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";

fn env(name: &str) -> Option<String> {
    match name {
        "HUB_TOKEN" => Some("secret".into()),
        "EMPTY" => Some(String::new()),
        _ => None,
    }
}

fn read(text: &str) -> Result<Config, Problems> {
    Config::read(text, Path::new("conf/mirror.yaml"), &env)
}

/// Each problem as `LINE:COLUMN path: message`.
fn problems(text: &str) -> Vec<String> {
    let problems = read(text).expect_err(text);
    problems.iter().map(|p| format!("{}:{} {}: {}", p.line, p.column, p.path, p.message)).collect()
}

/// Asserts that each file has exactly this problem.
fn assert_problems(files: Vec<(String, &str)>) {
    let wrong = files.into_iter().filter_map(|(text, expected)| {
        let found = problems(&text);
        (found != [expected]).then(|| format!("expected {expected}\n   found {found:#?}"))
    });
    let wrong: Vec<_> = wrong.collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A file with a target, these additional lines, and one image.
fn with(lines: &str) -> String {
    format!("target: h.example/m\nimages: [nginx]\n{lines}")
}

/// A file with these images, from line 3 on.
fn images(lines: &str) -> String {
    format!("target: h.example/m\nimages:\n{lines}")
}

fn destinations(text: &str) -> Vec<String> {
    let config = read(text).unwrap_or_else(|problems| panic!("{text}\n{problems}"));
    config.images.iter().flat_map(|rule| &rule.destinations).map(ToString::to_string).collect()
}

#[test]
fn the_example_is_valid() {
    let text = include_str!("../../mirror.yaml.example");
    let config = Config::read(text, Path::new("mirror.yaml"), &|_| Some("x".into())).unwrap_or_else(|p| panic!("{p}"));
    assert!(config.images.len() > 4 && config.registries.len() > 2);
}

#[test]
fn settings_alone_need_no_list() {
    let text = "registries: {h.example: {username: u, password: {env: UNSET}}}\nlimits: {transfers: 2}";
    let read = |hosts: &[&str]| {
        let hosts: Vec<Registry> = hosts.iter().map(|host| host.parse().unwrap()).collect();
        Config::read_settings(text, Path::new("mirror.yaml"), &hosts, &env)
    };
    assert_eq!(read(&["docker.io"]).unwrap().limits.transfers, 2);
    assert_eq!(read(&["h.example"]).unwrap_err().len(), 1);
}

#[test]
fn a_wrong_shape_is_refused_with_position() {
    assert_problems(vec![
        (with("layot: x"), "3:1 layot: unknown key `layot`"),
        (with("defaults: {tags: [a]}"), "3:12 defaults.tags: unknown key `tags`"),
        (with("target: b.example"), "3:1 target: duplicate key, first at line 1"),
        (with("limits:\n  transfers: many"), "4:14 limits.transfers: expected a whole number, 0 or more"),
        (images("  - image: a\n    tags: {a: 1}"), "4:11 images[0].tags: expected a list, found a map"),
        (images("  - [a]"), "3:5 images[0]: expected an image reference or a map with the key image, found a list"),
        (with("version: 2"), "3:10 version: version `2` isn't supported: this transship reads version 1"),
        (
            "target: [\n".into(),
            "2:1 target[0]: it isn't valid YAML: while parsing a node, did not find expected node content",
        ),
        (
            with(&format!("registries: {{{ECR}: {{ecr: {{reconcile: true, create: {{scan_on_push: true}}}}}}}}")),
            "3:78 registries.123456789012.dkr.ecr.eu-west-1.amazonaws.com.ecr.reconcile: there is no policy for existing repositories",
        ),
    ]);
}

#[test]
fn all_problems_are_reported_in_the_order_of_the_text() {
    let text = "\
target: h.example/m
image: nginx
images:
  - nginx:1:2
  - image: alpine
    tag: '3'
    tags: ['3.20', '3.21 ']
    tags: ['3.19']
registries:
  docker.io:
    username: me
    password: hunter2
limits: {bandwith: 5, transfers: 0}
";
    let shown = read(text).unwrap_err().to_string();
    let expected = "\
conf/mirror.yaml:2:1: image: unknown key `image`
hint: did you mean `images`?
conf/mirror.yaml:4:5: images[0]: `1:2` isn't a tag: expected up to 128 letters, digits, _ . - and none of . - first
conf/mirror.yaml:6:5: images[1].tag: unknown key `tag`
hint: did you mean `tags`?
conf/mirror.yaml:7:20: images[1].tags[1]: `3.21 ` isn't a tag: expected up to 128 letters, digits, _ . - and none of . - first
conf/mirror.yaml:8:5: images[1].tags: duplicate key, first at line 7
hint: remove one of them
conf/mirror.yaml:12:15: registries.docker.io.password: a password can't be a literal value
hint: write password: {env: VARIABLE} or password: {file: PATH}
conf/mirror.yaml:13:10: limits.bandwith: unknown key `bandwith`
hint: did you mean `bandwidth`?
conf/mirror.yaml:13:34: limits.transfers: expected 1 or more";
    assert_eq!(shown, expected);
    assert!(!shown.contains("hunter2"));
}

#[test]
fn a_wrong_type_is_reported_together_with_earlier_problems() {
    assert_eq!(
        problems("a: 1\ntarget: x\ntarget: y\nimages: 5"),
        [
            "1:1 a: unknown key `a`",
            "3:1 target: duplicate key, first at line 2",
            "4:9 images: expected a list, found a single value",
        ]
    );
}

#[test]
fn hints_know_where_a_key_belongs() {
    for (text, expected) in [
        (with("hosts: {}"), "the keys here are"),
        (with("limits: {bandwith: 1}"), "did you mean `bandwidth`?"),
        (with("limits: {quota_reserv: 1}"), "did you mean `quota_reserve`?"),
        (with("registrys: {}"), "did you mean `registries`?"),
        (with("transfers: 5"), "`transfers` belongs to limits"),
        (with("defaults: {<<: {}}"), "merge keys aren't supported"),
        (with("defaults: {limits: {}}"), "`limits` belongs to the top of the file"),
    ] {
        let problems = read(&text).unwrap_err();
        let hint = problems.iter().next().unwrap().hint.clone().unwrap_or_default();
        assert!(hint.starts_with(expected), "{hint}");
    }
}

#[test]
fn a_yaml_bomb_is_refused_with_position() {
    let bomb: String =
        (1..20).map(|n| format!("a{n}: &a{n} [{}]\n", vec![format!("*a{}", n - 1); 9].join(","))).collect();
    let text = format!("a0: &a0 [{}]\n{bomb}", ["x"; 9].join(","));
    assert_eq!(problems(&text), ["5:10 a4[0]: the file's aliases expand to more than 10000 values"]);
}

#[test]
fn the_schema_has_keys_that_the_structs_have() {
    let root = schema::of_file().to_value();
    for (place, map) in keys::maps(&root) {
        for key in keys::names(map) {
            let mut text = format!("{{{key}: }}");
            for around in place.split('.').rev().filter(|around| !around.is_empty()) {
                text = match (around, around.strip_suffix("[]")) {
                    ("*", _) => format!("{{x.io: {text}}}"),
                    (_, Some(list)) => format!("{{{list}: [{text}]}}"),
                    (other, None) => format!("{{{other}: {text}}}"),
                };
            }
            let problems = problems(&text);
            assert!(!problems.iter().any(|problem| problem.contains("unknown key")), "{text}: {problems:?}");
        }
    }
}
