//! Unusual content: copied byte for byte if possible, and explained otherwise.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use transship::oci::{Digest, MediaType};

use crate::support::cli::Run;
use crate::support::docker_registry::{DockerRegistry, installed};
use crate::support::images::{Blob, DOCKER_FOREIGN_LAYER, Image, image, index, read};
use crate::support::registry::Registry;
use crate::support::scene::{Scene, statuses};
use crate::support::shapes::every_shape;
use crate::support::stores::registry_target;

/// The shapes that Debian's registry refuses, with part of the reason or hint.
fn refused_shapes() -> Vec<(&'static str, Image, &'static str)> {
    let typed = |kind: &str, members: Value, blob: Blob| Image::of(kind, members, vec![blob]);
    let (unknown, artifact) =
        ("application/vnd.example.manifest.v1+json", "application/vnd.oci.artifact.manifest.v1+json");
    let blob = |seed: &str| Blob::seeded("application/x-thing", seed, 300);
    let entry = |blob: &Blob| json!([{ "mediaType": "application/x-thing", "digest": blob.digest(), "size": 300 }]);
    let (one, other) = (blob("one"), blob("other"));
    let of_unknown = json!({ "mediaType": unknown, "layers": entry(&one), "odd": 1.50 });
    let of_artifact = json!({ "mediaType": artifact, "artifactType": "x/y", "blobs": entry(&other) });
    let child = image("child by sha512").build().by_sha512();
    vec![
        ("no-config", image("bare").without_config().layer(500).build(), "without a config"),
        ("unknown", typed(unknown, of_unknown, one), "doesn't accept manifests of this kind"),
        ("artifact-manifest", typed(artifact, of_artifact, other), "doesn't accept manifests of this kind"),
        ("sha512-child", index().child("linux/amd64", child).build(), "doesn't accept a manifest with a sha512 digest"),
        ("foreign-urls", image("urls").docker().layer_of(DOCKER_FOREIGN_LAYER, 900).urls().build(), "allow its urls"),
    ]
}

/// A chart as `helm push` stores it. `None` if tar isn't installed.
fn chart() -> Option<Image> {
    let folder = tempfile::tempdir().expect("a folder");
    let (root, archive) = (folder.path().join("hello"), folder.path().join("hello-0.1.0.tgz"));
    std::fs::create_dir_all(root.join("templates")).expect("a folder");
    std::fs::write(root.join("Chart.yaml"), "apiVersion: v2\nname: hello\nversion: 0.1.0\n").expect("a file");
    std::fs::write(root.join("values.yaml"), "greeting: hello\n").expect("a file");
    let template = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: hello}\ndata: {say: {{ .Values.greeting }}}\n";
    std::fs::write(root.join("templates/hello.yaml"), template).expect("a file");
    let packed = Command::new("tar").arg("-C").arg(folder.path()).arg("-czf").arg(&archive).arg("hello").status();
    assert!(installed("tar", packed)?.success());
    let config = Blob::new(
        "application/vnd.cncf.helm.config.v1+json",
        r#"{"name":"hello","version":"0.1.0","apiVersion":"v2"}"#,
    );
    let content = std::fs::read(&archive).expect("the archive");
    let content = Blob::new("application/vnd.cncf.helm.chart.content.v1.tar+gzip", content);
    Some(image("chart").config(config).blob(content).annotation("org.opencontainers.image.title", "hello").build())
}

fn files_of(archive: &[u8], folder: &Path) -> String {
    let file = folder.join("archive.tgz");
    std::fs::write(&file, archive).expect("a file");
    let listed = Command::new("tar").arg("-tzf").arg(&file).output().expect("tar, which packed it");
    String::from_utf8(listed.stdout).expect("UTF-8")
}

/// The outcome of `name` at `target`.
fn outcome(run: &Run, name: &str, target: &transship::oci::Registry) -> Value {
    let report = run.json();
    let mut images = report["images"].as_array().expect("images").iter();
    let target = format!("{target}/m/{name}:1");
    let found = images.find(|image| image["target"] == target.as_str());
    found.cloned().unwrap_or_else(|| panic!("no {target} in {run}"))
}

#[tokio::test]
async fn every_shape_is_copied_byte_for_byte_or_its_refusal_is_explained() {
    let (Some(real), Some(chart)) = (DockerRegistry::start(), chart()) else { return };
    let (source, served) = (Registry::lenient().await, Registry::lenient().await);
    let (refused, chart_layer) = (refused_shapes(), chart.blobs[1].descriptor().clone());
    let mut taken = every_shape();
    taken.push(("chart", chart));
    let all =
        || taken.iter().map(|(name, image)| (*name, image)).chain(refused.iter().map(|(n, image, _)| (*n, image)));
    let mut list =
        format!("targets: [\"{}/m\", \"{}/m\"]\nlayout: \"{{repository}}\"\nimages:\n", served.name(), real.name());
    for (name, image) in all() {
        image.push(&source.inside(name), "1").await;
        list.push_str(&format!("  - {}/{name}:1\n", source.name()));
    }
    let cli = crate::support::cli::Cli::new().file("mirror.yaml", list);
    let sync = cli.run("sync --json").await;
    assert_eq!(sync.code, 1, "{sync}");
    for (name, image) in all() {
        assert_eq!(outcome(&sync, name, &served.name())["status"], "copied", "{name}: {sync}");
        image.assert_in(&served.inside(&format!("m/{name}")), "1").await;
    }
    for (name, image) in &taken {
        assert_eq!(outcome(&sync, name, &real.name())["status"], "copied", "{name}: {sync}");
        image.assert_in(&*registry_target(&real.repository(&format!("m/{name}"))), "1").await;
    }
    for (name, _, words) in &refused {
        let outcome = outcome(&sync, name, &real.name());
        assert_eq!(outcome["status"], "failed", "{name}: {sync}");
        let error = &outcome["error"];
        let told = format!("{} {}", error["message"], error["hint"]);
        assert!(told.contains(words) && error["side"] == "target" && error["hint"].is_string(), "{name}: {error:#}");
    }
    let at_target = registry_target(&real.repository("m/chart"));
    let archive = read(at_target.blob(&chart_layer, 0).await).await.expect("the chart");
    let folder = tempfile::tempdir().expect("a folder");
    assert!(files_of(&archive, folder.path()).contains("hello/templates/hello.yaml"));
    // Only refused images are tried again.
    let again = cli.run("sync --json").await;
    let (done, failed): (Vec<_>, Vec<_>) = statuses(&again).into_iter().partition(|status| status == "up_to_date");
    assert_eq!((done.len(), failed.len()), (2 * taken.len() + refused.len(), refused.len()), "{again}");
}

#[tokio::test]
async fn several_tags_on_one_digest_are_one_copy() {
    let scene = Scene::new().await;
    let app = scene.publish("app", "1").await;
    let artifact = image("sbom").artifact("application/vnd.example.sbom").build();
    artifact.push(&scene.source.inside("app"), "sbom").await;
    for tag in ["1.2", "latest"] {
        app.push(&scene.source.inside("app"), tag).await;
    }
    scene.list("  - {image: SRC/app, tags: [\"1\", \"1.2\", latest, sbom]}\n");
    let sync = scene.cli.run("sync --json").await;
    assert_eq!(sync.code, 0, "{sync}");
    for tag in ["1", "1.2", "latest"] {
        scene.assert_mirrored(&app, "app", tag).await;
    }
    // A tag of an artifact is a tag like any other.
    scene.assert_mirrored(&artifact, "app", "sbom").await;
    let path = format!("/manifests/{}", app.digest());
    assert_eq!(scene.source.script.count("GET", &path), 1);
    assert_eq!(scene.target.script.count("PUT", "/manifests/"), 4);
}

#[tokio::test]
async fn a_sha512_digest_is_kept_and_a_second_run_has_nothing_to_do() {
    let scene = Scene::new().await;
    let app = index().child("linux/amd64", image("app").build().by_sha512()).build().by_sha512();
    app.try_push(&scene.source.inside("app"), None).await.unwrap();
    scene.list(&format!("  - {{image: \"SRC/app@{}\", as: \"1\"}}\n", app.digest()));
    let sync = scene.cli.run("sync --json").await;
    assert_eq!(sync.code, 0, "{sync}");
    let target = scene.target.inside("mirror/app");
    let child = transship::store::Source::manifest(&target, app.children[0].digest()).await.unwrap();
    assert_eq!(child.bytes(), app.children[0].manifest.bytes());
    // The registry reports another digest for the tag.
    let tagged = transship::store::Source::resolve(&target, &crate::support::images::tagged("1")).await.unwrap();
    assert_eq!(tagged.digest, Digest::of(app.manifest.bytes()));
    scene.clear();
    let again = scene.cli.run("sync --json").await;
    assert_eq!((again.code, statuses(&again)), (0, vec!["up_to_date".to_owned()]), "{again}");
    assert_eq!(scene.source.script.lines(), Vec::<String>::new());
    assert_eq!(scene.target.script.count("PUT", "/"), 0);
    let verified = scene.cli.run("verify --deep").await;
    assert_eq!(verified.code, 0, "{verified}");
}

/// The first target accepts manifests by any digest, the second only by sha256.
#[tokio::test]
async fn a_target_without_sha512_gets_only_the_tag_and_another_digest() {
    for (status, code) in
        [(400, "DIGEST_INVALID"), (400, "UNSUPPORTED"), (404, "NAME_UNKNOWN"), (405, "UNSUPPORTED"), (501, "X")]
    {
        let scene = Scene::new().await;
        let second = Registry::start().await;
        let app = image("app").build().by_sha512();
        app.try_push(&scene.source.inside("app"), None).await.unwrap();
        let note = image("note").artifact("application/x.note").subject(app.descriptor()).build();
        note.try_push(&scene.source.inside("app"), None).await.unwrap();
        second.script.always("PUT", "/manifests/sha512:", crate::support::script::Fault::refuse(status, code));
        scene.write(
            "mirror.yaml",
            &format!(
                "targets: [DST, {}]\nlayout: \"{{repository}}\"\nimages:\n  - {{image: \"SRC/app@{}\", as: \"1\"}}\n",
                second.name(),
                app.digest()
            ),
        );
        let own = Digest::of(app.manifest.bytes());
        let expected = [Value::Null, own.to_string().into()];
        let mirrored = |run: &Run| {
            let report = run.json();
            let images = report["images"].as_array().unwrap();
            images.iter().map(|image| image["mirrored"].clone()).collect::<Vec<_>>()
        };
        for (line, word) in
            [("sync --json", "copied"), ("sync --json", "up_to_date"), ("verify --json --deep", "up_to_date")]
        {
            let run = scene.cli.run(line).await;
            assert_eq!((run.code, statuses(&run)), (0, vec![word.to_owned(); 2]), "{line} {status}: {run}");
            assert_eq!(mirrored(&run), expected, "{line} {status}: {run}");
        }
        let plan = scene.cli.run("plan --check --json").await;
        assert_eq!((plan.code, mirrored(&plan)), (0, expected.to_vec()), "{plan}");
        // The lock keeps the pin, and the first target has it, before its tag.
        assert!(!scene.cli.read("mirror.lock").unwrap().contains("mirrored"));
        let there = transship::store::Source::manifest(&scene.target.inside("app"), app.digest()).await.unwrap();
        assert_eq!(there.bytes(), app.manifest.bytes());
        let put = |path: String| {
            let lines = scene.target.script.lines();
            lines.iter().position(|line| line.starts_with("PUT") && line.contains(&path)).unwrap()
        };
        assert!(put(format!("/manifests/{}", app.digest())) < put("/manifests/1".to_owned()));
        let at_second = transship::store::Source::manifest(&second.inside("app"), &own).await.unwrap();
        assert_eq!(at_second.bytes(), app.manifest.bytes());
    }
}

#[tokio::test]
async fn schema_1_is_refused_by_name_wherever_it_occurs() {
    let signed = "application/vnd.docker.distribution.manifest.v1+prettyjws";
    let text = r#"{"schemaVersion":1,"name":"old","tag":"1","fsLayers":[],"history":[]}"#;
    let scene = Scene::new().await;
    let of = |kind: &str| {
        format!(
            r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"{kind}","digest":"{}","size":{}}}]}}"#,
            Digest::of(text.as_bytes()),
            text.len()
        )
    };
    let answer = |kind: &'static str, body: &str| crate::support::script::Fault::Answer {
        status: 200,
        headers: vec![
            ("content-type", kind.to_owned()),
            ("docker-content-digest", Digest::of(body.as_bytes()).to_string()),
        ],
        body: body.to_owned(),
    };
    let script = &scene.source.script;
    // By the content type of a HEAD; by the body only; as a child of an index, with its type or without.
    script.always("HEAD", "/v2/head/manifests/1", answer(signed, text));
    for name in ["get", "told", "untold"] {
        let child = format!("/v2/{name}/manifests/{}", Digest::of(text.as_bytes()));
        script.always("GET", child, answer("application/json", text));
    }
    script.always("HEAD", "/v2/get/manifests/1", answer(MediaType::OCI_MANIFEST, text));
    for (name, kind) in [("told", signed), ("untold", MediaType::DOCKER_MANIFEST)] {
        let index = of(kind);
        script.always("HEAD", format!("/v2/{name}/manifests/1"), answer(MediaType::OCI_INDEX, &index));
        script.always(
            "GET",
            format!("/v2/{name}/manifests/{}", Digest::of(index.as_bytes())),
            answer(MediaType::OCI_INDEX, &index),
        );
    }
    scene.list("  - SRC/head:1\n  - SRC/get:1\n  - SRC/told:1\n  - SRC/untold:1\n");
    let sync = scene.cli.run("sync --json").await;
    assert_eq!(sync.code, 1, "{sync}");
    let report = sync.json();
    for outcome in report["images"].as_array().unwrap() {
        let error = &outcome["error"];
        assert_eq!((&error["kind"], &error["side"]), (&"unsupported".into(), &"source".into()), "{outcome:#}");
        let message = error["message"].as_str().unwrap();
        assert!(message.contains("schema 1") && error["hint"].is_string(), "{outcome:#}");
    }
    assert_eq!(scene.target.script.count("PUT", "/"), 0);
}

#[tokio::test]
async fn a_missing_child_is_named_with_its_platform() {
    let scene = Scene::new().await;
    let (one, two) = (image("amd64").build(), image("arm64").build());
    let gone = two.digest().clone();
    let app = index().child("linux/amd64", one).child("linux/arm64/v8", two).build();
    app.push(&scene.source.inside("app"), "1").await;
    let unknown = crate::support::script::Fault::refuse(404, "MANIFEST_UNKNOWN");
    scene.source.script.always("GET", format!("/manifests/{gone}"), unknown);
    scene.list("  - SRC/app:1\n");
    let sync = scene.cli.run("sync --json").await;
    assert_eq!(sync.code, 1, "{sync}");
    let error = sync.json()["images"][0]["error"].clone();
    let message = error["message"].as_str().unwrap();
    for words in [gone.as_str(), app.digest().as_str(), "for linux/arm64"] {
        assert!(message.contains(words), "{words}: {error:#}");
    }
    assert_eq!((&error["kind"], &error["side"]), (&"not_found".into(), &"source".into()));
    assert!(error["hint"].as_str().unwrap().contains("platforms:"), "{error:#}");
    // Without it, the rest can be copied.
    scene.list("  - {image: SRC/app:1, platforms: [linux/amd64]}\n");
    let sync = scene.cli.run("sync --json --no-lock").await;
    assert_eq!(sync.code, 0, "{sync}");
}

#[tokio::test]
async fn a_source_that_only_serves_manifests_and_blobs_is_read_once() {
    for status in [401, 403, 405] {
        let scene = Scene::new().await;
        let app = image("app").layer(1000).build();
        app.push(&scene.source.inside("app"), "1").await;
        let refuse = || crate::support::script::Fault::refuse(status, "UNSUPPORTED");
        scene.source.script.always("HEAD", "/", refuse());
        scene.source.script.always("GET", "/tags/list", refuse());
        scene.source.script.always("GET", "/referrers/", refuse());
        scene.list("  - {image: SRC/app:1, referrers: none}\n");
        let sync = scene.cli.run("sync --json").await;
        assert_eq!(sync.code, 0, "{status}: {sync}");
        scene.assert_mirrored(&app, "app", "1").await;
        // The tag is resolved by its only pull.
        assert_eq!(scene.source.script.count("GET", "/manifests/"), 1, "{:?}", scene.source.script.lines());
        let report = sync.json();
        let hosts = report["registries"].as_array().unwrap();
        let source = hosts.iter().find(|host| host["host"] == scene.source.name().as_str()).unwrap();
        assert_eq!(source["manifest_gets"], 1, "{sync}");
    }
}
