//! Referrers in the lock: one HEAD per tag, one list for all others, and their graph with --deep.

use transship::serve::Options;

use super::Pins;
use crate::support::images::{image, index};
use crate::support::registry::{Registry, Settings};
use crate::support::scene::Scene;

#[tokio::test]
async fn referrers_cost_one_list_and_one_head_per_tag() {
    let scene = Scene::new().await;
    let app = image("app").build();
    let referrer = |seed: &str| image(seed).artifact("application/x").subject(app.descriptor()).build();
    let [signature, sbom, bundle] = ["signature", "sbom", "bundle"].map(referrer);
    let tags: Vec<String> = app.digest().cosign_tags().map(|tag| tag.to_string()).collect();
    scene.mirrored("app", "1", &app).await;
    scene.mirrored("app", &tags[0], &signature).await;
    scene.mirrored("app", &tags[2], &sbom).await;
    bundle.try_push(&scene.target.inside("mirror/app"), None).await.expect("it is taken");
    let all = [(&signature, Some(tags[0].as_str())), (&sbom, Some(tags[2].as_str())), (&bundle, None)];
    let pins = Pins::default().pin("SRC/app:1", &app).referrers(&all);
    scene.mirror("  - SRC/app:1\n", &pins);
    let run = scene.verify("").await;
    assert_eq!((run.code, scene.asked().len(), scene.target.script.count("GET", "")), (0, 4, 1), "{run}");
    assert_eq!(run.json()["images"][0]["referrers"].as_array().map(Vec::len), Some(3), "{run}");
    assert_eq!(scene.target.script.count("HEAD", bundle.digest().as_str()), 0);
    let deep = scene.verify("--deep").await;
    assert_eq!((deep.code, scene.target.script.count("GET", "/manifests/")), (0, 4), "{deep}");
    assert_eq!(scene.target.script.count("GET", "/referrers/"), 2);

    let other = referrer("another signature");
    scene.mirrored("app", &tags[0], &other).await;
    scene.delete(&format!("/manifests/{}", tags[2]));
    scene.target.inside("mirror/app").delete_manifest(bundle.digest());
    let run = scene.verify("--deep").await;
    let mut found = scene.differences(&run);
    found.sort();
    let mut expected = [
        format!("DST/mirror/app:1 referrer {} {}", signature.digest(), other.digest()),
        format!("DST/mirror/app:1 referrer {} -", sbom.digest()),
        format!("DST/mirror/app:1 referrer {} -", bundle.digest()),
    ];
    expected.sort();
    assert_eq!((run.code, found), (3, expected.to_vec()), "{run}");

    scene.mirror("  - {image: \"SRC/app:1\", referrers: none}\n", &pins);
    assert_eq!(scene.verify("").await.code, 0, "who wants none misses none");
    assert_eq!(scene.asked(), ["HEAD /v2/mirror/app/manifests/1 200"]);
}

#[tokio::test]
async fn referrers_shared_by_several_tags_are_looked_up_once() {
    let scene = Scene::new().await;
    let app = image("app").build();
    let referrer = |seed: &str| image(seed).artifact("application/x").subject(app.descriptor()).build();
    let [signature, bundle] = ["signature", "bundle"].map(referrer);
    let tag = app.digest().cosign_tags().next().expect("a tag").to_string();
    for name in ["1", "latest"] {
        scene.mirrored("app", name, &app).await;
    }
    scene.mirrored("app", &tag, &signature).await;
    bundle.try_push(&scene.target.inside("mirror/app"), None).await.expect("it is taken");
    let all = [(&signature, Some(tag.as_str())), (&bundle, None)];
    let pins = Pins::default().pin("SRC/app:1", &app).referrers(&all).pin("SRC/app:latest", &app).referrers(&all);
    scene.mirror("  - {image: SRC/app, tags: [\"1\", latest]}\n", &pins);
    assert_eq!(
        (scene.verify("").await.code, scene.asked().len()),
        (0, 4),
        "two tags, two referrers: {:?}",
        scene.asked()
    );
    scene.clear();
    assert_eq!((scene.verify("--deep").await.code, scene.target.script.count("GET", "/referrers/")), (0, 1));
}

#[tokio::test]
async fn deep_verifies_the_content_of_referrers() {
    let scene = Scene::new().await;
    let app = image("app").build();
    let signature = image("signature").artifact("application/x").subject(app.descriptor()).build();
    scene.mirrored("app", "1", &app).await;
    signature.try_push(&scene.target.inside("mirror/app"), None).await.expect("it is taken");
    let pins = Pins::default().pin("SRC/app:1", &app).referrers(&[(&signature, None)]);
    scene.mirror("  - SRC/app:1\n", &pins);
    let payload = signature.blobs[1].digest();
    scene.delete(&format!("/blobs/{payload}"));
    let run = scene.verify("--deep").await;
    let expected = format!("DST/mirror/app:1 blob {payload} -");
    assert_eq!((run.code, scene.differences(&run)), (3, vec![expected]), "{run}");
}

#[tokio::test]
async fn a_referrer_that_cant_be_found_is_missing() {
    let settings = Settings { options: Options { referrers: false, ..Options::default() }, ..Settings::default() };
    let scene = Scene { target: Registry::with(settings).await, ..Scene::new().await };
    let app = image("app").build();
    let signature = image("signature").artifact("application/x").subject(app.descriptor()).build();
    scene.mirrored("app", "1", &app).await;
    signature.try_push(&scene.target.inside("mirror/app"), None).await.expect("it is taken");
    let fallback = app.digest().referrers_tag().to_string();
    let pins = Pins::default().pin("SRC/app:1", &app).referrers(&[(&signature, None)]);
    scene.mirror("  - SRC/app:1\n", &pins);
    let run = scene.verify("--deep").await;
    let expected = format!("DST/mirror/app:1 referrer {} -", signature.digest());
    assert_eq!((run.code, scene.differences(&run)), (3, vec![expected]), "{run}");
    let text = scene.cli.run("verify --deep").await.stdout;
    assert!(text.contains("  missing     referrer  ") && text.contains(": it isn't listed as a referrer of"), "{text}");
    let index = index().nested(signature).build();
    scene.mirrored("app", &fallback, &index).await;
    assert_eq!(scene.verify("--deep").await.code, 0);
}
