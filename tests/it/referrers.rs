//! Signatures, SBOMs and attestations between registries that store them differently.

mod late;
mod listed;
mod refused;
mod resigned;

use serde_json::json;
use transship::oci::{Digest, Manifest, MediaType, Referrer, Repository, Selector};
use transship::serve::Options;
use transship::store::{Source as _, Target};

use crate::support::cli::{Cli, Run};
use crate::support::cosign;
use crate::support::docker_registry::DockerRegistry;
use crate::support::gate::Gate;
use crate::support::images::{Image, image, index, multi_platform, tagged};
use crate::support::registry::{Registry, Settings};
use crate::support::scene::Scene;
use crate::support::script::Fault;
use crate::support::stores::registry_target;

/// An image of two platforms and all its referrers.
struct Signed {
    root: Image,
    by_subject: Vec<Image>,
    by_tag: Vec<(String, Image)>,
}

impl Signed {
    fn new() -> Self {
        let root = multi_platform("signed", &["linux/amd64", "linux/arm64"]);
        let [amd, arm] = [&root.children[0], &root.children[1]];
        let bundle = cosign::bundle(amd.descriptor());
        let sbom = image("sbom").artifact("application/spdx+json").layer(2000).subject(amd.descriptor()).build();
        let of_sbom = cosign::bundle(sbom.descriptor());
        let by_tag =
            vec![cosign::signature(arm.digest()), cosign::attestation(arm.digest()), cosign::sbom(arm.digest())];
        Self { by_subject: vec![bundle, sbom, of_sbom], by_tag, root }
    }

    async fn push(&self, target: &dyn Target) {
        self.root.push(target, "1").await;
        for image in &self.by_subject {
            image.try_push(target, None).await.unwrap();
        }
        for (tag, image) in &self.by_tag {
            image.push(target, tag).await;
        }
    }

    async fn assert_in(&self, target: &dyn Target) {
        self.root.assert_in(target, "1").await;
        for (tag, image) in &self.by_tag {
            image.assert_in(target, tag).await;
        }
        for image in &self.by_subject {
            let found = target.manifest(image.digest()).await.unwrap();
            assert_eq!(found.bytes(), image.manifest.bytes());
            let subject = image.manifest.subject().unwrap();
            let listed = target.referrers(&subject.digest).await.unwrap().list();
            assert!(listed.contains(&Referrer::of(&image.manifest)), "{target}: {listed:?}");
        }
    }
}

async fn mirror(from: &Repository, to: &str) -> Run {
    let list = format!("target: {to}\nlayout: \"{{repository}}\"\nimages:\n  - {from}:1\n");
    let run = Cli::new().file("mirror.yaml", list).run("sync --json").await;
    assert_eq!(run.code, 0, "{run}");
    run
}

#[tokio::test]
async fn from_the_api_to_fallback_tags_and_back() {
    let Some(between) = DockerRegistry::start() else { return };
    let (first, last) = (Registry::start().await, Registry::start().await);
    let signed = Signed::new();
    signed.push(&first.inside("app")).await;
    let run = mirror(&first.repository("app"), between.name().as_str()).await;
    let rows = run.json()["images"][0]["referrers"].clone();
    assert_eq!(rows.as_array().unwrap().len(), 6, "{rows}");
    signed.assert_in(&*registry_target(&between.repository("app"))).await;

    mirror(&between.repository("app"), last.name().as_str()).await;
    signed.assert_in(&last.inside("app")).await;
    // The last registry has the API and needs no index.
    let fallback = signed.root.children[0].digest().referrers_tag();
    assert!(last.inside("app").resolve(&fallback.into()).await.is_err());
}

#[tokio::test]
async fn a_fallback_index_is_copied_byte_for_byte() {
    let (Some(from), Some(to)) = (DockerRegistry::start(), DockerRegistry::start()) else { return };
    let signed = Signed::new();
    let source = registry_target(&from.repository("app"));
    signed.push(&*source).await;
    let mut indexes = Vec::new();
    for subject in [&signed.root.children[0], &signed.by_subject[1]] {
        let about =
            signed.by_subject.iter().filter(|image| image.manifest.subject().unwrap().digest == *subject.digest());
        let entries: Vec<_> = about.map(|image| Referrer::entry(&image.manifest)).collect();
        let text = serde_json::to_string_pretty(&json!({ "manifests": entries, "schemaVersion": 2 })).unwrap();
        let bytes = bytes::Bytes::from(text.replace('}', " }"));
        let index = Manifest::new(Digest::of(&bytes), Some(MediaType::OCI_INDEX), bytes).unwrap();
        let tag = Selector::Tag(subject.digest().referrers_tag());
        source.push_manifest(&index, &tag).await.unwrap();
        indexes.push((tag, index));
    }
    let list = format!("target: {}\nimages:\n  - {{image: {}:1, to: app}}\n", to.name(), from.repository("app"));
    // Directly, and through a layout.
    for (under, lines) in [("app", ["sync", "verify"]), ("late/app", ["sync --target oci:out", "sync --from oci:out"])]
    {
        let cli = Cli::new().file("mirror.yaml", list.replace("to: app", &format!("to: {under}")));
        for line in lines {
            let run = cli.run(line).await;
            assert_eq!(run.code, 0, "{line}: {run}");
        }
        let target = registry_target(&to.repository(under));
        signed.assert_in(&*target).await;
        for (tag, index) in &indexes {
            let found = target.resolve(tag).await.unwrap();
            assert_eq!(found.digest, *index.digest(), "{tag} of {under}");
        }
    }
}

/// A deleted signature stays listed, and the registry refuses an index with missing entries.
#[tokio::test]
async fn a_fallback_index_with_missing_entries_is_reported() {
    let (source, Some(to)) = (Registry::start().await, DockerRegistry::start()) else { return };
    let signed = Signed::new();
    signed.push(&source.inside("app")).await;
    let target = registry_target(&to.repository("app"));
    let subject = &signed.root.children[0];
    let theirs = image("theirs").artifact("application/x.theirs").subject(subject.descriptor()).build();
    let tag = subject.digest().referrers_tag();
    index().nested(theirs.clone()).build().push(&*target, tag.as_str()).await;
    let revisions = to.repository_folder("app").join("_manifests/revisions/sha256");
    std::fs::remove_dir_all(revisions.join(theirs.digest().hex())).unwrap();
    let run = mirror(&source.repository("app"), to.name().as_str()).await;
    assert!(run.stdout.contains(&format!("remove the tag {tag}")), "{run}");
    signed.root.assert_in(&*target, "1").await;
}

#[tokio::test]
async fn a_refused_referrer_has_a_hint_and_the_image_is_copied() {
    let scene = Scene::new().await;
    let root = multi_platform("app", &["linux/amd64"]);
    root.push(&scene.source.inside("app"), "1").await;
    let referrer = cosign::bundle(root.children[0].descriptor());
    referrer.try_push(&scene.source.inside("app"), None).await.unwrap();
    scene.list("  - SRC/app:1\n");
    let path = format!("/v2/mirror/app/manifests/{}", referrer.digest());
    scene.target.script.always("PUT", &path, Fault::refuse(405, "UNSUPPORTED"));
    let run = scene.cli.run("sync").await;
    assert_eq!(run.code, 0, "{run}");
    scene.assert_mirrored(&root, "app", "1").await;
    assert!(
        run.stdout.contains("hint: the image is mirrored without it: exclude its type with artifact_types:"),
        "{run}"
    );
    assert!(run.stderr.contains("405"), "a warning: {run}");
}

#[tokio::test]
async fn a_registry_that_cant_list_referrers_fails_the_image() {
    for (status, code) in [(500, "UNKNOWN"), (503, "UNAVAILABLE")] {
        let scene = Scene::new().await;
        let root = multi_platform("app", &["linux/amd64"]);
        root.push(&scene.source.inside("app"), "1").await;
        scene.list("  - SRC/app:1\n");
        let path = format!("/v2/app/referrers/{}", root.children[0].digest());
        scene.source.script.always("GET", &path, Fault::refuse(status, code));
        let run = scene.cli.run("sync").await;
        assert_eq!(run.code, 1, "{status}: {run}");
        assert!(scene.target.inside("mirror/app").resolve(&tagged("1")).await.is_err());
    }
}

/// A run killed while it copies the referrers sets no tag.
#[cfg(unix)]
#[tokio::test]
async fn a_run_killed_before_the_signature_leaves_no_tag() {
    let options = Options { referrers: false, ..Options::default() };
    let target = Registry::with(Settings { options, ..Settings::default() }).await;
    let source = Registry::start().await;
    let signed = Signed::new();
    signed.push(&source.inside("app")).await;
    let (from, to) = (source.repository("app"), target.name());
    let list = format!("target: {to}\nlayout: \"{{repository}}\"\nimages:\n  - {from}:1\n");
    let cli = Cli::new().file("mirror.yaml", list);
    let path = format!("/v2/app/manifests/{}", signed.by_subject[1].digest());
    let gate = Gate::closed();
    target.script.once("PUT", &path, Fault::Wait(gate.clone()));
    cli.killed("sync", gate.reached(1)).await;
    assert!(target.inside("app").resolve(&tagged("1")).await.is_err());
    gate.open();
    let run = cli.run("sync").await;
    assert_eq!(run.code, 0, "{run}");
    signed.root.assert_in(&target.inside("app"), "1").await;
}
