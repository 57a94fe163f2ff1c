//! `plan`, `sync` and `verify` agree about a mirror, whatever was deleted there.
//!
//! A property over random deletions of tags, manifests, blobs, fallback indexes and referrers at the target, seeded so
//! that each run tries the same.

use transship::oci::{Digest, Tag};
use transship::serve::Options;
use transship::store::Source as _;
use transship::store::memory::MemoryRepository;

use crate::support::cosign;
use crate::support::images::{Image, image, index, multi_platform};
use crate::support::registry::{Registry, Settings};
use crate::support::scene::Scene;

const ROUNDS: u64 = 14;

/// A generator of numbers that look random (xorshift).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % sides as u64).unwrap()
    }
}

#[derive(Debug, Clone)]
enum Deletion {
    Tag(&'static str, Tag),
    Manifest(&'static str, Digest),
    Blob(&'static str, Digest),
}

/// Images with all that the lock can know of them, mirrored once.
struct Mirror {
    scene: Scene,
}

const REPOSITORIES: [&str; 3] = ["app", "tool", "bare"];

impl Mirror {
    async fn new(has_api: bool) -> Self {
        let settings =
            Settings { options: Options { referrers: has_api, ..Options::default() }, ..Settings::default() };
        let scene = Scene { target: Registry::with(settings).await, ..Scene::new().await };
        let inner = multi_platform("inner", &["linux/riscv64"]);
        let app = index().child("linux/amd64", image("app").layer(2000).build()).nested(inner).build();
        let source = scene.source.inside("app");
        app.push(&source, "1").await;
        app.push(&source, "latest").await;
        for referrer in [cosign::bundle(app.descriptor()), sbom(&app, "a"), sbom(&app, "b")] {
            referrer.try_push(&source, None).await.unwrap();
        }
        for (tag, signature) in [cosign::signature(app.digest()), cosign::sbom(app.digest())] {
            signature.push(&source, &tag).await;
        }
        let tool = image("tool").shared_layer("base", 3000).build();
        tool.push(&scene.source.inside("tool"), "1").await;
        sbom(&tool, "c").try_push(&scene.source.inside("tool"), None).await.unwrap();
        let bare = image("bare").shared_layer("base", 3000).build();
        bare.push(&scene.source.inside("bare"), "1").await;
        scene.list(&format!(
            "  - {{image: SRC/app, tags: [\"1\", latest]}}\n  - SRC/tool:1\n  - SRC/bare@{}\n",
            bare.digest()
        ));
        let mirror = Self { scene };
        mirror.expect("sync", 0, "at first").await;
        mirror
    }

    fn repository(&self, name: &str) -> MemoryRepository {
        self.scene.target.inside(&format!("mirror/{name}"))
    }

    /// All that can be deleted now.
    async fn deletions(&self) -> Vec<Deletion> {
        let mut all = Vec::new();
        for name in REPOSITORIES {
            let repository = self.repository(name);
            all.extend(repository.tags().await.unwrap_or_default().into_iter().map(|tag| Deletion::Tag(name, tag)));
            let manifests = repository.manifests().unwrap_or_default().into_iter();
            all.extend(manifests.map(|manifest| Deletion::Manifest(name, manifest.digest().clone())));
            let mut blobs = repository.blobs().unwrap_or_default();
            blobs.sort();
            all.extend(blobs.into_iter().map(|blob| Deletion::Blob(name, blob)));
        }
        all
    }

    fn delete(&self, deletion: &Deletion) {
        match deletion {
            Deletion::Tag(name, tag) => self.repository(name).delete_tag(tag),
            Deletion::Manifest(name, digest) => self.repository(name).delete_manifest(digest),
            Deletion::Blob(name, digest) => self.repository(name).delete_blob(digest),
        }
    }

    async fn code(&self, line: &str) -> i32 {
        self.scene.cli.run(line).await.code
    }

    async fn expect(&self, line: &str, code: i32, when: &str) {
        let run = self.scene.cli.run(line).await;
        assert_eq!(run.code, code, "{line}, {when}: {run}");
    }

    /// Both look alike, as far as they look.
    async fn assert_agreed(&self, when: &str) {
        for (plan, verify) in [("plan --check", "verify"), ("plan --check --repair", "verify --deep")] {
            let (planned, verified) = (self.code(plan).await, self.code(verify).await);
            assert_eq!(planned, verified, "{plan} and {verify}, {when}");
            assert!(matches!(planned, 0 | 3), "{plan}: {planned}, {when}");
        }
    }
}

fn sbom(subject: &Image, seed: &str) -> Image {
    image(&format!("sbom {seed}")).artifact("application/spdx+json").layer(500).subject(subject.descriptor()).build()
}

async fn agree(has_api: bool) {
    let mirror = Mirror::new(has_api).await;
    mirror.expect("plan --check --repair", 0, "after the first sync").await;
    mirror.expect("verify --deep", 0, "after the first sync").await;
    for seed in 1..=ROUNDS {
        let mut dice = Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let mut deleted = Vec::new();
        for _ in 0..=dice.roll(4) {
            let all = mirror.deletions().await;
            let deletion = all[dice.roll(all.len())].clone();
            mirror.delete(&deletion);
            deleted.push(deletion);
        }
        let when = format!("seed {seed}, API {has_api}, deleted {deleted:?}");
        mirror.assert_agreed(&when).await;
        // Sync restores what verify says it restores.
        mirror.expect("sync", 0, &when).await;
        mirror.expect("plan --check", 0, &format!("after sync, {when}")).await;
        mirror.expect("verify", 0, &format!("after sync, {when}")).await;
        mirror.expect("sync --repair", 0, &when).await;
        mirror.expect("plan --check --repair", 0, &format!("after sync --repair, {when}")).await;
        mirror.expect("verify --deep", 0, &format!("after sync --repair, {when}")).await;
    }
}

#[tokio::test]
async fn commands_agree_on_deleted_content_in_a_registry_with_the_referrers_api() {
    agree(true).await;
}

#[tokio::test]
async fn commands_agree_on_deleted_content_in_a_registry_with_fallback_tags() {
    agree(false).await;
}
