//! Projects with a policy that blocks pulls: existing manifests can't be read, but can be pushed.

use serde_json::{Value, json};

use super::{ROBOT, SECRET, Scene, assert_error, error};
use crate::support::cli::Run;
use crate::support::cosign;
use crate::support::harbor::{Harbor, Project, Role};
use crate::support::images::{Image, image, multi_platform};

/// The policies that block pulls.
const POLICIES: [fn(&mut Project); 2] = [|project| project.prevents = true, |project| project.trusts = true];

/// A single image and an index in a project with that policy, mirrored once. The robot also has `rights`.
async fn mirrored(policy: fn(&mut Project), rights: &[&'static str]) -> (Scene, [Image; 2]) {
    let mut project = Project::default();
    policy(&mut project);
    let harbor = Harbor::start().await.account(ROBOT, SECRET, Role::SystemRobot).project("mirror", project);
    let harbor = rights.iter().fold(harbor, |harbor, right| harbor.grant(ROBOT, right));
    let scene = Scene::with(harbor).await;
    let single = scene.publish("single").await;
    let index = multi_platform("index", &["linux/amd64", "linux/arm64"]);
    index.push(&scene.source.inside("index"), "1").await;
    scene.list(&["single:1", "index:1"], "");
    let first = scene.cli.run("sync").await;
    assert_eq!(first.code, 0, "{first}");
    scene.clear();
    (scene, [single, index])
}

fn of_each(run: &Run, key: &str) -> Vec<Value> {
    run.json()["images"].as_array().expect("images").iter().map(|image| image[key].clone()).collect()
}

fn puts(scene: &Scene) -> usize {
    scene.harbor.script.count("PUT", "/manifests/")
}

#[tokio::test]
async fn the_artifacts_api_gives_the_digest_of_a_tag() {
    for policy in POLICIES {
        let (scene, _) = mirrored(policy, &["artifact: read"]).await;
        let plan = scene.cli.run("plan --check").await;
        assert_eq!(plan.code, 0, "{plan}");
        let sync = scene.cli.run("sync --json").await;
        assert_eq!((sync.code, of_each(&sync, "status")), (0, vec![json!("up_to_date"); 2]), "{sync}");
        let verify = scene.cli.run("verify --json").await;
        assert_eq!(verify.code, 0, "{verify}");
        assert_eq!((puts(&scene), scene.source.script.lines().len()), (0, 0), "{:#?}", scene.harbor.script.lines());

        // A moved tag is recognised.
        let moved = image("another").build();
        moved.push(&scene.source.inside("single"), "1").await;
        let sync = scene.cli.run("sync --update --json").await;
        assert_eq!(of_each(&sync, "status"), ["copied", "up_to_date"], "{sync}");
        moved.assert_in(&scene.harbor.inside("mirror/single"), "1").await;
        assert!(!sync.stderr.contains("isn't known"), "{sync}");
    }
}

#[tokio::test]
async fn a_tag_of_unknown_digest_is_set_again_without_reading_a_blob() {
    for policy in POLICIES {
        let (scene, images) = mirrored(policy, &[]).await;
        let plan = scene.cli.run("plan --json").await;
        assert_eq!((plan.code, of_each(&plan, "action")), (0, vec![json!("copy"); 2]), "{plan}");
        assert!(plan.stderr.contains("is unknown, so it is pushed again"), "{plan}");
        assert_eq!(puts(&scene), 0);
        let sync = scene.cli.run("sync --json").await;
        assert_eq!((sync.code, of_each(&sync, "status")), (0, vec![json!("copied"); 2]), "{sync}");
        assert!(sync.stderr.contains("policy"), "{sync}");
        // The children exist: a missing name isn't refused by the policy.
        assert_eq!(puts(&scene), 2, "{:#?}", scene.harbor.script.lines());
        assert_eq!(scene.source.script.reads(), 0, "{:#?}", scene.source.script.lines());
        assert_eq!(scene.harbor.script.count("PUT", "/blobs/"), 0);
        for (image, name) in images.iter().zip(["mirror/single", "mirror/index"]) {
            image.assert_in(&scene.harbor.inside(name), "1").await;
        }
        // The account is refused once, not per tag.
        assert_eq!(scene.harbor.script.count("GET", "/artifacts/"), 2, "{:#?}", scene.harbor.script.lines());

        let verify = scene.cli.run("verify --json").await;
        assert_eq!(verify.code, 1, "{verify}");
        assert_error(&verify, "denied", "policy", "policy");
        assert_eq!(verify.json()["differences"], json!([]), "{verify}");
    }
}

#[tokio::test]
async fn keep_leaves_the_tag_and_false_fails_the_image() {
    for policy in POLICIES {
        let (scene, _) = mirrored(policy, &[]).await;
        scene.list_with(&["single:1", "index:1"], "overwrite: keep");
        for verb in ["sync", "plan --check"] {
            let run = scene.cli.run(verb).await;
            assert_eq!(run.code, 0, "{run}");
            assert!(run.stderr.contains("it is kept"), "{run}");
        }
        let sync = scene.cli.run("sync --json").await;
        assert_eq!(of_each(&sync, "status"), ["skipped", "skipped"], "{sync}");
        assert_eq!(of_each(&sync, "reason"), ["kept", "kept"], "{sync}");

        scene.list_with(&["single:1", "index:1"], "overwrite: false");
        for verb in ["sync --json", "plan --json"] {
            let run = scene.cli.run(verb).await;
            assert_eq!(run.code, 1, "{run}");
            assert_error(&run, "denied", "policy", "policy");
            assert_eq!((&error(&run)["side"], &error(&run)["http_status"]), (&json!("target"), &json!(412)));
        }
        assert_eq!((puts(&scene), scene.source.script.reads()), (0, 0), "{:#?}", scene.harbor.script.lines());
    }
}

#[tokio::test]
async fn an_invisible_immutable_tag_is_reported() {
    let (scene, _) = mirrored(POLICIES[0], &[]).await;
    scene.harbor.state.lock().projects.get_mut("mirror").unwrap().immutable = true;
    let sync = scene.cli.run("sync --json").await;
    assert_eq!((sync.code, of_each(&sync, "status")), (1, vec![json!("conflict"); 2]), "{sync}");
    assert_error(&sync, "conflict", "configured as immutable", "artifact: read");
    assert!(error(&sync)["message"].as_str().unwrap().contains("policy"), "{sync}");
    assert_eq!(scene.source.script.reads(), 0);
}

#[tokio::test]
async fn cosign_tags_are_treated_like_their_images() {
    for (overwrite, rights, expected) in [
        ("true", &["artifact: read"][..], "up_to_date"),
        ("true", &[], "copied"),
        ("keep", &[], "skipped"),
        ("false", &[], "failed"),
    ] {
        let (scene, [single, _]) = mirrored(POLICIES[1], rights).await;
        let attached =
            [cosign::signature(single.digest()), cosign::attestation(single.digest()), cosign::sbom(single.digest())];
        for (tag, one) in &attached {
            one.push(&scene.source.inside("single"), tag).await;
        }
        scene.list(&["single:1"], "");
        let first = scene.cli.run("sync --update --json").await;
        assert_eq!(first.code, 0, "{first}");
        scene.list_with(&["single:1"], &format!("overwrite: {overwrite}"));
        scene.clear();
        let sync = scene.cli.run("sync --json").await;
        assert_eq!(sync.code, 0, "{overwrite}: {sync}");
        let rows = sync.json()["images"][0]["referrers"].clone();
        let rows: Vec<&str> = rows.as_array().unwrap().iter().map(|row| row["status"].as_str().unwrap()).collect();
        // The signature makes the image readable.
        assert_eq!(rows, ["up_to_date", expected, expected], "{overwrite}: {sync}");
        assert_eq!(scene.source.script.reads(), 0, "{:#?}", scene.source.script.lines());
        for (tag, one) in &attached {
            one.assert_in(&scene.harbor.inside("mirror/single"), tag).await;
        }
    }
}

#[tokio::test]
async fn check_and_copy_work_with_a_policy_too() {
    let (scene, [single, _]) = mirrored(POLICIES[0], &[]).await;
    let check = scene.cli.run("check --json").await;
    assert_eq!(check.code, 0, "{check}");
    let copy = format!("copy {}/single:1 {}/mirror/single", scene.source.name(), scene.harbor.name());
    scene.cli.write(
        "mirror.yaml",
        format!(
            "target: {0}/x\nimages: []\nregistries:\n  \"{0}\": {{username: {{env: ROBOT}}, password: {{env: SECRET}}}}\n",
            scene.harbor.name()
        ),
    );
    let copy = scene.cli.run(&copy).await;
    assert_eq!(copy.code, 0, "{copy}");
    single.assert_in(&scene.harbor.inside("mirror/single"), "1").await;
}

#[tokio::test]
async fn at_a_source_the_refusal_is_explained_by_the_policy() {
    for policy in POLICIES {
        for rights in [&[][..], &["artifact: read"]] {
            let mut project = Project::default();
            policy(&mut project);
            let harbor = Harbor::start().await.account(ROBOT, SECRET, Role::SystemRobot).project("team", project);
            let harbor = rights.iter().fold(harbor, |harbor, right| harbor.grant(ROBOT, right));
            let scene = Scene::with(harbor).await;
            scene.harbor.hold(&image("app").build(), "team/app", "1").await;
            scene.harbor.hold(&multi_platform("index", &["linux/amd64"]), "team/index", "1").await;
            let (harbor, target) = (scene.harbor.name(), scene.source.name());
            let text = format!(
                "target: {target}/mirror\nimages: [\"{harbor}/team/app:1\", \"{harbor}/team/index:1\"]\nregistries:\n  \
                 \"{harbor}\": {{username: {{env: ROBOT}}, password: {{env: SECRET}}}}\n"
            );
            scene.cli.write("mirror.yaml", text);
            for verb in ["sync --json", "plan --json"] {
                let run = scene.cli.run(verb).await;
                assert_eq!((run.code, of_each(&run, "status").len()), (1, 2), "{run}");
                assert_error(&run, "denied", "policy", "policy");
                assert_eq!(error(&run)["side"], "source");
            }
        }
    }
}
