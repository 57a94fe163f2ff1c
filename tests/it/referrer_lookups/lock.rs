//! The lock lists the referrers of the roots, and changes of them are reported.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use transship::config::{ImageRule, ReferrerPolicy, ReferrerRule, Wanted};
use transship::lock::{Lock, LockedImage};
use transship::oci::{Digest, Repository};
use transship::referrers::Finder;
use transship::resolve::{Request, Update, from_lock, resolve};
use transship::select::Only;
use transship::store::Stores;
use transship::store::memory::Memory;

use super::{attach, cosign, signature};
use crate::support::images::{Image, image, multi_platform};
use crate::support::recorded::{Recorded, What};
use crate::support::scene::{Scene, statuses};
use crate::support::script::Fault;

/// The only image of the lock.
fn locked(scene: &Scene) -> LockedImage {
    let text = scene.cli.read("mirror.lock").expect("a lock");
    let lock = Lock::read(&text, "mirror.lock".as_ref()).expect("a sound lock");
    assert_eq!(lock.images().len(), 1, "{text}");
    lock.images().next().unwrap().clone()
}

fn digests(image: &LockedImage) -> Vec<Digest> {
    image.referrers.iter().map(|referrer| referrer.digest.clone()).collect()
}

fn sorted(images: &[&Image]) -> Vec<Digest> {
    let mut digests: Vec<_> = images.iter().map(|image| image.digest().clone()).collect();
    digests.sort();
    digests
}

#[tokio::test]
async fn referrers_are_locked_refreshed_by_update_and_reported_as_drift() {
    let scene = Scene::new().await;
    let app = multi_platform("app", &["linux/amd64"]);
    let inside = scene.source.inside("app");
    app.push(&inside, "1").await;
    let (first, tagged) = (signature("s1", &app), image("s2").build());
    attach(&first, &inside).await;
    tagged.push(&inside, &cosign(&app, "sig")).await;
    scene.list("  - SRC/app:1\n");
    assert_eq!(scene.cli.run("lock").await.code, 0);
    let old = locked(&scene);
    assert_eq!(digests(&old), sorted(&[&first, &tagged]));

    let late = signature("late", &app);
    attach(&late, &inside).await;
    scene.clear();
    assert_eq!(scene.cli.run("lock").await.code, 0);
    assert_eq!(scene.source.script.lines(), Vec::<String>::new(), "locked referrers are not looked up");
    let check = scene.cli.run("lock --check").await;
    assert_eq!(check.code, 3, "{check}");
    let said = format!("app:1  upstream has a new referrer {}", late.digest().short());
    assert!(check.stdout.contains(&said), "{check}");
    let check = scene.cli.run("lock --check --json").await.json();
    let differences = check["differences"].as_array().unwrap();
    assert_eq!(differences.len(), 1);
    let told = [&differences[0]["what"], &differences[0]["found"]];
    assert_eq!(told, ["referrer", late.digest().as_str()]);
    assert_eq!(locked(&scene), old);

    let update = scene.cli.run("update").await;
    assert!(update.stdout.contains(&format!("referrer new → {}", late.digest().short())), "{update}");
    assert!(update.stdout.contains("0 pins, 1 referrer changed"), "{update}");
    let new = locked(&scene);
    assert_eq!(digests(&new), sorted(&[&first, &tagged, &late]));
    assert_eq!((new.digest, new.since), (old.digest, old.since));
    assert_eq!(scene.cli.run("lock --check").await.code, 0);
}

#[tokio::test]
async fn images_pinned_by_digest_get_new_referrers_too() {
    let scene = Scene::new().await;
    let app = scene.publish("app", "1").await;
    scene.list(&format!("  - SRC/app:1@{}\n", app.digest()));
    assert_eq!(scene.cli.run("lock").await.code, 0);
    assert_eq!(digests(&locked(&scene)), []);
    let late = signature("late", &app);
    attach(&late, &scene.source.inside("app")).await;
    scene.clear();
    assert_eq!(scene.cli.run("update").await.code, 0);
    assert_eq!(digests(&locked(&scene)), sorted(&[&late]));
    assert_eq!(scene.source.script.count("HEAD", "/manifests/1"), 0);
}

#[tokio::test]
async fn the_policy_none_sends_no_request_and_drops_locked_referrers() {
    let scene = Scene::new().await;
    let app = scene.publish("app", "1").await;
    attach(&signature("s", &app), &scene.source.inside("app")).await;
    scene.list("  - {image: SRC/app:1, referrers: none}\n");
    assert_eq!(scene.cli.run("lock").await.code, 0);
    assert_eq!(scene.source.script.lines(), ["HEAD /v2/app/manifests/1 200"]);
    assert_eq!(digests(&locked(&scene)), []);

    scene.list("  - SRC/app:1\n");
    assert_eq!(scene.cli.run("update").await.code, 0);
    assert_eq!(digests(&locked(&scene)).len(), 1);
    scene.list("  - {image: SRC/app:1, referrers: none}\n");
    let refused = scene.cli.run("sync --locked").await;
    assert_eq!(refused.code, 2, "{refused}");
    scene.clear();
    assert_eq!(scene.cli.run("lock").await.code, 0);
    assert_eq!(digests(&locked(&scene)), []);
    assert_eq!(scene.source.script.lines(), Vec::<String>::new());
    assert_eq!(scene.cli.run("sync --locked").await.code, 0);
}

/// With this answer to lookups of referrers the image is pinned without any.
#[tokio::test]
async fn every_answer_of_a_registry_without_the_api_is_recognised() {
    for fault in [Fault::redirect(303, "https://github.invalid/app"), Fault::html(404), Fault::refuse(404, "PAGE")] {
        let scene = Scene::new().await;
        scene.publish("app", "1").await;
        scene.list("  - SRC/app:1\n");
        scene.source.script.always("GET", "/referrers/", fault.clone());
        let run = scene.cli.run("lock").await;
        assert_eq!(run.code, 0, "{fault:?} {run}");
        assert_eq!(digests(&locked(&scene)), []);
        assert_eq!(scene.source.script.count("GET", "/manifests/sha256-"), 1);
    }
}

/// With this answer to lookups of referrers the image fails.
#[tokio::test]
async fn a_failed_list_of_referrers_never_counts_as_empty() {
    for (fault, kind) in [
        (Fault::refuse(500, "UNKNOWN"), "unavailable"),
        (Fault::refuse(429, "TOOMANYREQUESTS"), "rate_limited"),
        (Fault::html(200), "invalid"),
        (Fault::Set("link", "<?page=2>; rel=next".into()), "invalid"),
        (Fault::Set("link", "<https://elsewhere.invalid/x>; rel=next".into()), "invalid"),
        (Fault::Cut { after: 10 }, "unavailable"),
        (Fault::Corrupt, "invalid"),
    ] {
        let scene = Scene::new().await;
        scene.publish("app", "1").await;
        let other = scene.publish("other", "1").await;
        scene.list("  - SRC/app:1\n  - SRC/other:1\nlimits: {max_wait: 1s}\n");
        scene.source.script.always("GET", "/v2/app/referrers/", fault.clone());
        let run = scene.cli.run("sync --json").await;
        assert_eq!(run.code, 1, "{fault:?} {run}");
        assert_eq!(statuses(&run), ["failed", "copied"], "{fault:?} {run}");
        let error = run.json()["images"][0]["error"].clone();
        let told = [&error["side"], &error["stage"], &error["kind"]];
        assert_eq!(told, ["source", "resolve", kind], "{fault:?} {run}");
        assert_eq!(locked(&scene).digest, *other.digest());
    }
}

#[tokio::test]
async fn an_error_on_update_keeps_the_old_pin_with_its_referrers() {
    let scene = Scene::new().await;
    let app = scene.publish("app", "1").await;
    let inside = scene.source.inside("app");
    attach(&signature("s", &app), &inside).await;
    scene.list("  - SRC/app:1\n");
    assert_eq!(scene.cli.run("lock").await.code, 0);
    let old = locked(&scene);
    image("moved").build().push(&inside, "1").await;
    scene.source.script.always("GET", "/referrers/", Fault::html(200));
    let run = scene.cli.run("update").await;
    assert_eq!(run.code, 1, "{run}");
    assert_eq!(locked(&scene), old);
}

#[tokio::test]
async fn copy_finds_referrers_by_default() {
    let scene = Scene::new().await;
    scene.publish("app", "1").await;
    let (source, target) = (scene.source.name(), scene.target.name());
    for (flags, asked) in [("", 1), ("--referrers all", 1), ("--referrers require", 1), ("--referrers none", 0)] {
        scene.clear();
        scene.cli.run(&format!("copy {flags} {source}/app:1 {target}/app")).await;
        assert_eq!(scene.source.script.count("GET", "/referrers/"), asked, "{flags}");
    }
    scene.source.script.always("GET", "/referrers/", Fault::html(200));
    let run = scene.cli.run(&format!("copy --json {source}/app:1 {target}/new:1")).await;
    assert_eq!((run.code, &run.json()["images"][0]["error"]["stage"]), (1, &"resolve".into()), "{run}");
}

/// The lock of `rules` after an update of `old`, and the number of lookups of referrers.
async fn resolved(memory: &Memory, rules: &[ImageRule], old: &Lock) -> (Lock, usize) {
    let recorded = Recorded::new(Arc::new(memory.clone()));
    let stores: Arc<dyn Stores> = Arc::new(recorded.clone());
    let request = Request {
        images: rules,
        old,
        update: &Update::All,
        only: &Only::default(),
        stores: &stores,
        finder: &Finder::new(Arc::clone(&stores)),
        progress: &(Arc::new(transship::progress::Silent) as Arc<dyn transship::progress::Progress>),
        stop: &CancellationToken::new(),
    };
    let resolution = resolve(request).await;
    assert!(resolution.failed.is_empty(), "{:?}", resolution.failed);
    (resolution.lock, recorded.count(What::Referrers))
}

#[tokio::test]
async fn only_referrers_that_some_entry_wants_are_locked() {
    let memory = Memory::new();
    let repository: Repository = "src.test/app".parse().unwrap();
    let inside = memory.repository(&repository);
    let app = image("app").build();
    app.push(&inside, "1").await;
    let typed = |kind: &str| image(kind).artifact(kind).subject(app.descriptor()).build();
    let (one, two, sig) = (typed("x/one"), typed("x/two"), image("sig").build());
    for referrer in [&one, &two] {
        attach(referrer, &inside).await;
    }
    sig.push(&inside, &cosign(&app, "sig")).await;
    let rule = |policy: ReferrerPolicy, kinds: &[&str], to: &str| {
        let wanted = Wanted::Tags(vec![("1".parse().unwrap(), None)]);
        let mut rule = ImageRule::new(repository.clone(), wanted, vec![to.parse().unwrap()]);
        let artifact_types = kinds.iter().map(|&kind| kind.to_owned()).collect();
        rule.handling.referrers = ReferrerRule { policy, artifact_types };
        rule
    };
    let of_cosign = "application/vnd.dev.cosign.artifact.sig.v1+json";
    for (rules, expected, asked) in [
        (vec![rule(ReferrerPolicy::All, &["x/one"], "dst.test/a")], sorted(&[&one]), 1),
        (vec![rule(ReferrerPolicy::Require, &[of_cosign], "dst.test/a")], sorted(&[&sig]), 1),
        (vec![rule(ReferrerPolicy::All, &["x/three"], "dst.test/a")], vec![], 1),
        (
            vec![rule(ReferrerPolicy::None, &[], "dst.test/a"), rule(ReferrerPolicy::All, &["x/one"], "dst.test/b")],
            sorted(&[&one]),
            1,
        ),
        (
            vec![
                rule(ReferrerPolicy::All, &["x/two"], "dst.test/a"),
                rule(ReferrerPolicy::All, &["x/one"], "dst.test/b"),
            ],
            sorted(&[&one, &two]),
            1,
        ),
        (vec![rule(ReferrerPolicy::None, &[], "dst.test/a")], vec![], 0),
    ] {
        let (lock, count) = resolved(&memory, &rules, &Lock::default()).await;
        let image = lock.images().next().unwrap();
        assert_eq!((digests(image), count), (expected, asked));
    }
    // Referrers of the whole index have another subject than those of the filtered one.
    let rules = [rule(ReferrerPolicy::All, &[], "dst.test/a")];
    let (mut old, _) = resolved(&memory, &rules, &Lock::default()).await;
    let whole = old.images().next().unwrap().clone();
    assert_eq!(whole.referrers.len(), 3);
    old.pin(LockedImage { mirrored: Some(one.digest().clone()), ..whole });
    let (kept, missing) = from_lock(&rules, &old);
    assert_eq!((kept.images().next().unwrap().referrers.len(), missing), (0, vec![]));
}
