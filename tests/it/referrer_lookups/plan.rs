//! Locked referrers that are missing at the targets are planned; each form costs one request to look up.

use std::sync::Arc;

use transship::config::{ImageRule, ReferrerPolicy, Wanted};
use transship::lock::{Lock, LockedImage};
use transship::oci::{Reference, Referrer, Repository, Tag};
use transship::plan::{Action, Planned};
use transship::serve::Options;
use transship::store::Stores;
use transship::store::memory::Memory;

use super::{attach, cosign, list_under_tag, planned, signature};
use crate::support::images::{Image, image, multi_platform};
use crate::support::registry::{Registry, Settings};
use crate::support::scene::{Scene, statuses};
use crate::support::script::Fault;

/// An image with a signature by its subject and one by its tag, locked and mirrored without them.
async fn signed(api_at_target: bool) -> (Scene, Image, Image, Image) {
    let options = Options { referrers: api_at_target, ..Options::default() };
    let target = Registry::with(Settings { options, ..Settings::default() }).await;
    let scene = Scene { target, ..Scene::new().await };
    let app = multi_platform("app", &["linux/amd64"]);
    let (inside, mirror) = (scene.source.inside("app"), scene.target.inside("mirror/app"));
    app.push(&inside, "1").await;
    let (listed, tagged) = (signature("s1", &app), image("s2").build());
    attach(&listed, &inside).await;
    tagged.push(&inside, &cosign(&app, "sig")).await;
    scene.publish("plain", "1").await.push(&scene.target.inside("mirror/plain"), "1").await;
    app.push(&mirror, "1").await;
    scene.list("  - SRC/app:1\n  - SRC/plain:1\n");
    assert_eq!(scene.cli.run("lock").await.code, 0);
    scene.clear();
    (scene, app, listed, tagged)
}

#[tokio::test]
async fn each_form_costs_one_request_and_an_image_without_referrers_none() {
    let (scene, app, listed, tagged) = signed(true).await;
    let run = scene.cli.run("plan --check --json").await;
    assert_eq!(run.code, 3, "{run}");
    let report = run.json();
    let images = report["images"].as_array().unwrap();
    assert_eq!((&images[0]["action"], &images[1]["action"]), (&"copy".into(), &"none".into()), "{run}");

    let mirror = scene.target.inside("mirror/app");
    attach(&listed, &mirror).await;
    assert_eq!(scene.cli.run("plan --check").await.code, 3);
    // Another signature exists under the tag.
    image("old").build().push(&mirror, &cosign(&app, "sig")).await;
    assert_eq!(scene.cli.run("plan --check").await.code, 3);
    tagged.push(&mirror, &cosign(&app, "sig")).await;
    scene.clear();
    let run = scene.cli.run("sync --json").await;
    assert_eq!(statuses(&run), ["up_to_date", "up_to_date"], "{run}");
    assert_eq!(scene.source.script.lines(), Vec::<String>::new());
    let mut asked = scene.target.script.lines();
    asked.sort();
    let expected = [
        format!("GET /v2/mirror/app/referrers/{} 200", app.digest()),
        "HEAD /v2/mirror/app/manifests/1 200".to_owned(),
        format!("HEAD /v2/mirror/app/manifests/{} 200", cosign(&app, "sig")),
        "HEAD /v2/mirror/plain/manifests/1 200".to_owned(),
    ];
    assert_eq!(asked, expected);
}

#[tokio::test]
async fn at_a_target_without_the_api_referrers_are_found_under_the_fallback_tag() {
    let (scene, app, listed, tagged) = signed(false).await;
    let mirror = scene.target.inside("mirror/app");
    tagged.push(&mirror, &cosign(&app, "sig")).await;
    // It exists, but clients wouldn't find it.
    attach(&listed, &mirror).await;
    assert_eq!(scene.cli.run("plan --check").await.code, 3);
    list_under_tag(&app, &[&listed], &mirror).await;
    let run = scene.cli.run("plan --check").await;
    assert_eq!(run.code, 0, "{run}");
}

#[tokio::test]
async fn a_target_that_cant_list_referrers_fails_the_image() {
    let (scene, ..) = signed(true).await;
    scene.target.script.always("GET", "/referrers/", Fault::html(200));
    let run = scene.cli.run("sync --json").await;
    assert_eq!(statuses(&run), ["failed", "up_to_date"], "{run}");
    let error = run.json()["images"][0]["error"].clone();
    assert_eq!((&error["side"], &error["stage"]), (&"target".into(), &"plan".into()), "{run}");
}

#[tokio::test]
async fn the_cost_includes_locked_referrers() {
    let (scene, ..) = signed(true).await;
    scene.source.script.always("HEAD", "/manifests/", Fault::Quota { remaining: 50 });
    let bytes = scene.cli.run("plan --bytes --json").await.json()["images"][0]["bytes"]["copied"].clone();
    // The content of two manifests: an empty config and the layers of one, config and layers of the other.
    assert!(bytes.as_u64().unwrap() > 6000, "{bytes}");
    scene.write("mirror.yaml", "target: DST/new\nlayout: \"{repository}\"\nimages: [\"SRC/app:1\"]\n");
    scene.cli.run("update").await;
    let image = scene.cli.run("plan --no-lock --no-cache --json").await.json()["images"][0].clone();
    assert_eq!((&image["pulls"], &image["pulls_exact"]), (&3.into(), &false.into()), "{image}");
}

#[tokio::test]
async fn an_update_follows_referrers_of_up_to_date_images() {
    let memory = Memory::new();
    let from: Repository = "src.test/app".parse().unwrap();
    let to: Repository = "dst.test/app".parse().unwrap();
    let (parts, single) = (multi_platform("parts", &["linux/amd64"]), image("single").build());
    let referrer = Referrer::of(&signature("s", &parts).manifest);
    let mut lock = Lock::default();
    let mut rules = Vec::new();
    // The tag at the target, and whether referrers are wanted.
    for (tag, image, there, policy) in [
        ("there", &parts, Some("there"), ReferrerPolicy::All),
        ("none", &parts, Some("none"), ReferrerPolicy::None),
        ("single", &single, Some("single"), ReferrerPolicy::All),
        ("untagged", &parts, None, ReferrerPolicy::All),
    ] {
        if let Some(there) = there {
            image.push(&memory.repository(&to), there).await;
        }
        let tag: Tag = tag.parse().unwrap();
        let pinned = LockedImage::new(Reference::tagged(from.clone(), tag.clone()), image.descriptor());
        let referrers = if tag.as_str() == "untagged" { vec![referrer.clone()] } else { vec![] };
        lock.pin(LockedImage { referrers, ..pinned });
        let mut rule = ImageRule::new(from.clone(), Wanted::Tags(vec![(tag, None)]), vec![to.clone()]);
        rule.handling.referrers.policy = policy;
        rules.push(rule);
    }
    let stores: Arc<dyn Stores> = Arc::new(memory);
    for follow in [false, true] {
        let plan = planned(&rules, &lock, &stores, follow).await;
        let told = plan.images.iter().map(|planned| match planned {
            Planned::Image(transfer) => (transfer.action.clone(), transfer.follow, transfer.referrers.len()),
            Planned::Failed { error, .. } => panic!("{error}"),
        });
        let expected = [
            (Action::UpToDate, follow, 0),
            (Action::UpToDate, false, 0),
            (Action::UpToDate, follow, 0),
            (Action::Tag, false, 1),
        ];
        assert_eq!(told.collect::<Vec<_>>(), expected);
    }
}
