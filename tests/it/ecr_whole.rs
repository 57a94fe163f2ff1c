//! Mirroring into ECR as a user does it: the binary, the API and the registry.

use serde_json::{Value, json};

use crate::support::cli::Cli;
use crate::support::cosign;
use crate::support::docker_registry::{self, DockerRegistry};
use crate::support::ecr::{Ecr, HOST};
use crate::support::images::{Image, image};
use crate::support::moto::Moto;
use crate::support::registry::Registry;

const CREATE: &str = "create: {tag_mutability: IMMUTABLE, scan_on_push: true, encryption: KMS, kms_key: alias/m, \
                      lifecycle_policy: lifecycle.json, tags: {team: platform}}";

const LIFECYCLE: &str = r#"{"rules": [{"rulePriority": 1, "description": "few", "action": {"type": "expire"},
  "selection": {"tagStatus": "untagged", "countType": "imageCountMoreThan", "countNumber": 100}}]}"#;

const POLICY: &str = r#"{"Version": "2012-10-17", "Statement": [{"Sid": "Pull", "Effect": "Allow", "Principal": "*",
  "Action": ["ecr:BatchGetImage"]}]}"#;

struct Scene {
    source: Registry,
    ecr: Ecr,
    cli: Cli,
}

impl Scene {
    async fn new() -> Self {
        let (source, ecr) = (Registry::start().await, Ecr::start().await);
        let cli = aws(Cli::new(), &ecr.api()).file("lifecycle.json", LIFECYCLE);
        Self { source, ecr, cli }
    }

    /// Pushes each `NAME:TAG` to the source, with a layer that all share, and lists it in mirror.yaml.
    async fn publish(&self, names: &[&str], ecr: &str) -> Vec<Image> {
        let mut images = Vec::new();
        for name in names {
            let image = image(name).shared_layer("base", 20_000).build();
            let (path, tag) = name.split_once(':').expect("NAME:TAG");
            image.push(&self.source.inside(path), tag).await;
            images.push(image);
        }
        self.cli.write("mirror.yaml", config(self.source.name().as_str(), names, &self.ecr.endpoint(), ecr));
        images
    }

    async fn assert_mirrored(&self, images: &[Image], names: &[&str]) {
        for (image, name) in images.iter().zip(names) {
            let (path, tag) = name.split_once(':').expect("NAME:TAG");
            image.assert_in(&self.ecr.account.inside(&format!("mirror/{path}")), tag).await;
        }
    }
}

fn aws(cli: Cli, endpoint: &str) -> Cli {
    let cli = cli.env("AWS_ENDPOINT_URL_ECR", endpoint).env("AWS_ACCESS_KEY_ID", "test");
    cli.env("AWS_SECRET_ACCESS_KEY", "test")
}

fn config(source: &str, names: &[&str], endpoint: &str, ecr: &str) -> String {
    let images: String = names.iter().map(|name| format!("  - {source}/{name}\n")).collect();
    format!(
        "target: {HOST}/mirror\nlayout: \"{{repository}}\"\nimages:\n{images}registries:\n  {HOST}:\n    endpoint: \
         {endpoint}\n    ecr:\n      {ecr}\n"
    )
}

#[tokio::test]
async fn eight_images_for_a_missing_repository_make_one_create_call() {
    let scene = Scene::new().await;
    let names = ["app:1", "app:2", "app:3", "app:4", "app:5", "app:6", "app:7", "app:8"];
    let images = scene.publish(&names, CREATE).await;
    let sync = scene.cli.run("sync --json").await;
    assert_eq!(sync.code, 0, "{sync}");
    scene.assert_mirrored(&images, &names).await;
    let account = &scene.ecr.account;
    let created = json!({
        "registryId": "123456789012",
        "repositoryName": "mirror/app",
        "imageTagMutability": "IMMUTABLE",
        "imageScanningConfiguration": {"scanOnPush": true},
        "encryptionConfiguration": {"encryptionType": "KMS", "kmsKey": "alias/m"},
        "tags": [{"Key": "team", "Value": "platform"}],
    });
    assert_eq!(account.asked("CreateRepository"), [created]);
    let lifecycle = account.asked("PutLifecyclePolicy");
    assert_eq!((lifecycle.len(), &lifecycle[0]["lifecyclePolicyText"]), (1, &json!(LIFECYCLE)));
    assert_eq!(account.asked("GetAuthorizationToken").len(), 1);
    assert_eq!(
        sync.json()["repositories"],
        json!([{"target": format!("{HOST}/mirror/app"), "created": true, "changes": []}])
    );

    scene.ecr.script.clear();
    let again = scene.cli.run("sync").await;
    assert_eq!(again.code, 0, "{again}");
    assert_eq!(account.asked("DescribePullThroughCacheRules").len(), 1);
    assert_eq!(account.asked("DescribeRepositories").len(), 1, "a run without work requests only a token");
    assert_eq!(scene.ecr.script.count("HEAD", "/manifests/"), 8 + 1, "each tag, and one request for the challenge");
}

#[tokio::test]
async fn a_late_signature_needs_no_call_to_the_control_plane() {
    let scene = Scene::new().await;
    scene.cli.write("policy.json", POLICY);
    let images = scene.publish(&["app:1"], POLICIES).await;
    assert_eq!(scene.cli.run("sync").await.code, 0);
    let account = &scene.ecr.account;
    let calls = || CONTROL_PLANE.map(|operation| account.asked(operation).len());
    let before = calls();

    let signature = cosign::bundle(images[0].descriptor());
    signature.try_push(&scene.source.inside("app"), None).await.expect("it can be pushed");
    let sync = scene.cli.run("sync --update --json").await;
    assert_eq!(sync.code, 0, "{sync}");
    assert_eq!(sync.json()["images"][0]["referrers"][0]["status"], "copied", "{sync}");
    assert_eq!(calls(), before, "its tag is up to date, so its repository exists");
}

/// The API calls of a run about repositories, without those for tokens.
const CONTROL_PLANE: [&str; 5] = [
    "DescribePullThroughCacheRules",
    "DescribeRepositories",
    "CreateRepository",
    "GetLifecyclePolicy",
    "GetRepositoryPolicy",
];

#[tokio::test]
async fn without_permission_to_create_nothing_is_pulled() {
    let scene = Scene::new().await;
    scene.publish(&["app:1", "app:2"], CREATE).await;
    scene.ecr.account.refuse("CreateRepository", "AccessDeniedException");
    let sync = scene.cli.run("sync --json").await;
    assert_eq!(sync.code, 1, "{sync}");
    assert_eq!(scene.source.script.reads(), 0, "{:?}", scene.source.script.lines());
    for image in sync.json()["images"].as_array().expect("images") {
        let error = &image["error"];
        assert_eq!((&error["stage"], &error["kind"]), (&json!("provision"), &json!("denied")));
        assert!(error["message"].as_str().is_some_and(|text| text.contains("ecr:CreateRepository isn't allowed")));
    }
}

#[tokio::test]
async fn a_pull_through_cache_is_refused_before_anything_is_pulled() {
    let scene = Scene::new().await;
    scene.publish(&["app:1"], "create: true").await;
    scene.ecr.account.pull_through("mirror");
    for command in ["plan --json", "sync --json"] {
        let run = scene.cli.run(command).await;
        assert_eq!(run.code, 1, "{run}");
        let error = &run.json()["images"][0]["error"];
        assert_eq!((&error["stage"], &error["kind"]), (&json!("provision"), &json!("unsupported")));
        let why = "everything under mirror/ is a pull-through cache of registry-1.docker.io, and can't be pushed to";
        assert!(error["message"].as_str().is_some_and(|text| text.ends_with(why)), "{error}");
        assert!(error["hint"].as_str().is_some_and(|text| text.contains("another prefix than mirror/")), "{error}");
    }
    assert_eq!(scene.source.script.reads(), 0, "{:?}", scene.source.script.lines());
    assert_eq!(scene.ecr.account.asked("CreateRepository").len(), 0);
    assert_eq!(scene.ecr.account.asked("DescribePullThroughCacheRules").len(), 2, "once in each run");
}

const POLICIES: &str =
    "reconcile: true\n      create: {lifecycle_policy: lifecycle.json, repository_policy: policy.json}";

/// Three existing repositories: one equals the settings except for the order of keys; one differs; one gets no image.
async fn existing(ecr: &str) -> (Scene, Vec<Image>) {
    let mut scene = Scene::new().await;
    scene.cli = scene.cli.file("policy.json", POLICY);
    let account = &scene.ecr.account;
    for name in ["mirror/same", "mirror/other", "mirror/done"] {
        account.create(name, json!({}));
    }
    let lifecycle: Value = serde_json::from_str(LIFECYCLE).expect("JSON");
    account.set_lifecycle("mirror/same", &lifecycle.to_string());
    account.set_lifecycle("mirror/other", &LIFECYCLE.replace("100", "7"));
    let images = scene.publish(&["same:1", "other:1", "done:1"], ecr).await;
    images[2].push(&scene.ecr.account.inside("mirror/done"), "1").await;
    (scene, images)
}

#[tokio::test]
async fn policies_of_existing_repositories_are_reconciled_if_set() {
    let (scene, images) = existing(POLICIES).await;
    let account = &scene.ecr.account;
    let plan = scene.cli.run("plan").await;
    assert_eq!(plan.code, 0, "{plan}");
    for line in [
        format!("change      {HOST}/mirror/same  repository policy\n"),
        format!("change      {HOST}/mirror/other  lifecycle policy, repository policy\n"),
        "2 repositories to change".to_owned(),
    ] {
        assert!(plan.stdout.contains(&line), "{plan}");
    }
    assert_eq!(account.asked("PutLifecyclePolicy").len() + account.asked("SetRepositoryPolicy").len(), 0);

    let sync = scene.cli.run("sync --json").await;
    assert_eq!(sync.code, 0, "{sync}");
    scene.assert_mirrored(&images, &["same:1", "other:1", "done:1"]).await;
    let entry = |name: &str, changes: &[&str]| json!({"target": format!("{HOST}/mirror/{name}"), "created": false, "changes": changes});
    let both = ["lifecycle_policy", "repository_policy"];
    assert_eq!(sync.json()["repositories"], json!([entry("other", &both), entry("same", &both[1..])]));
    let lifecycle = account.asked("PutLifecyclePolicy");
    assert_eq!((lifecycle.len(), &lifecycle[0]["repositoryName"]), (1, &json!("mirror/other")));
    assert_eq!(account.asked("SetRepositoryPolicy").len(), 2);
    let asked = account.asked("GetLifecyclePolicy").len();
    assert_eq!(asked, 2 * 2, "plan and sync, for the two with images");

    assert_eq!(scene.cli.run("sync").await.code, 0);
    assert_eq!(account.asked("GetLifecyclePolicy").len(), asked, "without work, nothing is compared");
}

#[tokio::test]
async fn a_denied_policy_fails_its_repository_before_anything_is_pulled() {
    let (scene, images) = existing(POLICIES).await;
    scene.ecr.account.refuse("PutLifecyclePolicy", "AccessDeniedException");
    let sync = scene.cli.run("sync --json").await;
    assert_eq!(sync.code, 1, "{sync}");
    let report = sync.json();
    let statuses: Vec<&Value> = report["images"].as_array().expect("images").iter().map(|i| &i["status"]).collect();
    assert_eq!(statuses, ["copied", "failed", "up_to_date"]);
    let error = &report["images"][1]["error"];
    assert_eq!((&error["stage"], &error["kind"]), (&json!("provision"), &json!("denied")));
    let message = error["message"].as_str().expect("a message");
    assert!(message.starts_with("set lifecycle_policy of repository"), "{message}");
    assert!(message.contains("ecr:PutLifecyclePolicy isn't allowed"), "{message}");
    let config = images[1].blobs[0].digest().as_str();
    assert_eq!(scene.source.script.count("GET", config), 0, "{:?}", scene.source.script.lines());
}

#[tokio::test]
async fn policies_of_existing_repositories_are_kept_by_default() {
    let (scene, _) = existing("create: {lifecycle_policy: lifecycle.json, repository_policy: policy.json}").await;
    let sync = scene.cli.run("sync --json").await;
    assert_eq!(sync.code, 0, "{sync}");
    for operation in ["GetLifecyclePolicy", "GetRepositoryPolicy", "PutLifecyclePolicy", "SetRepositoryPolicy"] {
        assert_eq!(scene.ecr.account.asked(operation).len(), 0, "{operation}");
    }
}

#[tokio::test]
async fn a_token_that_expires_during_the_run_is_renewed_once() {
    let scene = Scene::new().await;
    let names = ["a:1", "b:1", "c:1"];
    let images = scene.publish(&names, "create: true").await;
    // Of about thirty requests the first fifteen or so.
    scene.ecr.account.uses(16);
    let sync = scene.cli.run("sync").await;
    assert_eq!(sync.code, 0, "{sync}");
    scene.assert_mirrored(&images, &names).await;
    assert_eq!(scene.ecr.account.asked("GetAuthorizationToken").len(), 2, "{:?}", scene.ecr.script.lines());
}

#[tokio::test]
async fn an_immutable_tag_with_another_digest_is_a_conflict_before_any_transfer() {
    let scene = Scene::new().await;
    scene.ecr.account.create("mirror/app", json!({"imageTagMutability": "IMMUTABLE"}));
    let old = image("old").build();
    old.push(&scene.ecr.account.inside("mirror/app"), "1").await;
    let new = scene.publish(&["app:1", "app:2"], "create: true").await;
    let sync = scene.cli.run("sync --json").await;
    assert_eq!(sync.code, 1, "{sync}");
    let report = sync.json();
    let statuses: Vec<&Value> =
        report["images"].as_array().expect("images").iter().map(|image| &image["status"]).collect();
    assert_eq!(statuses, ["conflict", "copied"]);
    assert_eq!(report["images"][0]["error"]["stage"], "plan");
    let message = report["images"][0]["error"]["message"].as_str().expect("a message");
    assert!(message.contains(old.digest().short()) && message.contains(new[0].digest().short()), "{message}");
    assert_eq!(report["images"][0]["digest"], new[0].digest().as_str());
    assert_eq!(scene.ecr.script.count("PUT", "/manifests/1"), 0);
}

#[tokio::test]
async fn blobs_are_mounted_only_if_the_account_enables_it() {
    for enabled in [false, true] {
        let scene = Scene::new().await;
        if enabled {
            scene.ecr.account.enable_mounting();
        }
        let names = ["a:1", "b:1", "c:1"];
        let images = scene.publish(&names, "create: true").await;
        let sync = scene.cli.run("sync").await;
        assert_eq!(sync.code, 0, "{sync}");
        scene.assert_mirrored(&images, &names).await;
        let lines = scene.ecr.script.lines();
        let mounts: Vec<_> = lines.iter().filter(|line| line.contains("mount=")).collect();
        // The first request sends the blob. Images before it in the plan don't wait for its manifest, later ones do.
        let expected = if enabled { 1..=2 } else { 0..=0 };
        assert!(expected.contains(&mounts.len()), "{lines:#?}");
        assert!(mounts.iter().all(|line| line.ends_with(" 201")), "{mounts:?}");
        assert_eq!(scene.ecr.account.asked("GetAccountSetting").len(), 1);
        let layer = images[0].blobs[1].digest().as_str();
        assert_eq!(scene.source.script.count("GET", layer), 1, "it is read from the source once");
    }
}

#[tokio::test]
async fn manifests_are_pushed_at_the_rate_that_the_account_allows() {
    let scene = Scene::new().await;
    let names: Vec<String> = (0..16).map(|tag| format!("app:{tag}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let images = scene.publish(&names, "create: true").await;
    let sync = scene.cli.run("sync --json").await;
    assert_eq!(sync.code, 0, "{sync}");
    scene.assert_mirrored(&images, &names).await;
    let report = sync.json();
    let host = report["registries"].as_array().expect("registries").iter().find(|host| host["host"] == HOST);
    assert_eq!(host.expect("the target")["throttled"], 0);
}

/// One request to the fake with the newest token: its status and the first error's code.
async fn ask(ecr: &Ecr, request: &str, authorization: &str, body: Vec<u8>) -> (u16, String) {
    let (method, path) = request.split_once(' ').expect("METHOD PATH");
    let request = reqwest::Client::new().request(method.parse().expect("a method"), ecr.endpoint() + path);
    let request = request.header("authorization", authorization).header("content-type", "application/octet-stream");
    let answer = request.body(body).send().await.expect("an answer");
    let status = answer.status().as_u16();
    let location = answer.headers().get("location").map(|value| value.to_str().expect("text").to_owned());
    let body: Value = serde_json::from_str(&answer.text().await.expect("a body")).unwrap_or_default();
    let code = body["errors"][0]["code"].as_str().map(str::to_owned);
    (status, code.or(location).unwrap_or_default())
}

#[tokio::test]
async fn the_fake_refuses_the_same_requests_as_ecr() {
    let ecr = Ecr::start().await;
    let (old, current) = (ecr.account.authorization(), ecr.account.authorization());
    let shared = image("a").build();
    let blob = &shared.blobs[1];
    let status = async |request: &str| ask(&ecr, request, &current, Vec::new()).await;
    assert_eq!(ask(&ecr, "GET /v2/", "", Vec::new()).await.0, 401);
    assert_eq!(ask(&ecr, "GET /v2/", &old, Vec::new()).await, (403, "DENIED".into()));
    assert_eq!(status("POST /v2/missing/blobs/uploads/").await, (404, "NAME_UNKNOWN".into()));
    ecr.account.create("a", json!({"imageTagMutability": "IMMUTABLE"}));
    ecr.account.create("b", json!({}));
    assert_eq!(status("GET /v2/a/tags/list?n=1001").await.0, 405);

    // ECR accepts each chunk of this upload, but stores none of them.
    let (_, upload) = status("POST /v2/a/blobs/uploads/").await;
    let (patched, next) = ask(&ecr, &format!("PATCH {upload}"), &current, blob.bytes.to_vec()).await;
    assert_eq!(patched, 201);
    let sign = if next.contains('?') { '&' } else { '?' };
    assert_eq!(status(&format!("PUT {next}{sign}digest={}", blob.digest())).await.0, 400);

    // A blob is mounted if mounting is enabled and a manifest refers to it; and a tag never moves.
    ecr.account.enable_mounting();
    let mount = format!("POST /v2/b/blobs/uploads/?mount={}&from=a", blob.digest());
    blob.push(&ecr.account.inside("a")).await.expect("a direct push");
    assert_eq!(status(&mount).await.0, 202);
    shared.push(&ecr.account.inside("a"), "1").await;
    assert_eq!(status(&mount).await.0, 201);
    let put = ask(&ecr, "PUT /v2/a/manifests/1", &current, shared.manifest.bytes().to_vec()).await;
    assert_eq!(put, (400, "TAG_INVALID".into()));

    // Pushing manifests without a pause is throttled sooner or later.
    let mut answers = Vec::new();
    while answers.len() < 1000 && answers.last() != Some(&429) {
        answers.push(status("PUT /v2/b/manifests/x").await.0);
    }
    assert_eq!(answers.last(), Some(&429));
}

#[tokio::test]
async fn moto_and_a_registry_with_its_password_act_as_ecr() {
    let user = Some(("AWS", "123456789012-auth-token"));
    let settings = docker_registry::Settings { user, ..docker_registry::Settings::default() };
    let (Some(moto), Some(registry)) = (Moto::start(), DockerRegistry::with(settings)) else { return };
    let source = Registry::start().await;
    let image = image("app").build();
    image.push(&source.inside("app"), "1").await;
    let endpoint = format!("http://{}", registry.name());
    let cli = aws(Cli::new(), &moto.endpoint()).file("lifecycle.json", LIFECYCLE);
    cli.write("mirror.yaml", config(source.name().as_str(), &["app:1"], &endpoint, CREATE));
    let sync = cli.run("sync --json").await;
    assert_eq!(sync.code, 0, "{sync}");
    assert_eq!(sync.json()["images"][0]["status"], "copied");
    assert_eq!(sync.json()["repositories"][0]["created"], true);

    let sessions = transship::aws::Sessions::at_endpoint(moto.endpoint(), "test", "test");
    let host = HOST.parse().expect("a registry");
    let ecr = sessions.session(&host, &transship::config::EcrSettings::default()).ecr().await.expect("a client");
    let described = ecr.describe_repositories().repository_names("mirror/app").send().await.expect("it exists");
    let described = &described.repositories()[0];
    assert_eq!(described.image_tag_mutability().map(aws_sdk_ecr::types::ImageTagMutability::as_str), Some("IMMUTABLE"));
    let policy = ecr.get_lifecycle_policy().repository_name("mirror/app").send().await.expect("it has one");
    let text: Value = serde_json::from_str(policy.lifecycle_policy_text().expect("a text")).expect("JSON");
    assert_eq!(text, serde_json::from_str::<Value>(LIFECYCLE).expect("JSON"));

    let again = cli.run("sync --json").await;
    assert_eq!((again.code, &again.json()["images"][0]["status"]), (0, &json!("up_to_date")), "{again}");
}
