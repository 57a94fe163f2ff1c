//! Mirroring into a third-party ECR whose registry has only repositories created by its API.

use std::sync::Arc;

use aws_sdk_ecr::types::ImageTagMutability;
use serde_json::json;
use transship::aws::Sessions;
use transship::config::EcrSettings;

use crate::support::cli::Cli;
use crate::support::ecr::HOST;
use crate::support::images::{Image, multi_platform};
use crate::support::ministack::Ministack;
use crate::support::registry::Registry;
use crate::support::stores::registry_target;

struct Scene {
    source: Registry,
    ecr: Ministack,
    cli: Cli,
}

impl Scene {
    /// Pushes `app:1` to the source, and lists it in mirror.yaml with `create` for its target.
    async fn new(create: &str) -> Option<(Self, Image)> {
        let (source, ecr) = (Registry::start().await, Ministack::start()?);
        let list = format!(
            "target: {HOST}/mirror\nlayout: \"{{name}}\"\nimages: [\"{}/app:1\"]\nregistries:\n  {HOST}: {{endpoint: \
             \"{}\", ecr: {{create: {create}}}}}\n",
            source.name(),
            ecr.endpoint()
        );
        let cli = Cli::new().env("AWS_ENDPOINT_URL_ECR", ecr.endpoint()).env("AWS_ACCESS_KEY_ID", "test");
        let cli = cli.env("AWS_SECRET_ACCESS_KEY", "test").file("mirror.yaml", list);
        let scene = Self { source, ecr, cli };
        let image = scene.publish("old").await;
        Some((scene, image))
    }

    /// Moves `app:1` at the source to another image.
    async fn publish(&self, seed: &str) -> Image {
        let image = multi_platform(seed, &["linux/amd64", "linux/arm64"]);
        image.push(&self.source.inside("app"), "1").await;
        image
    }

    fn api(&self) -> Arc<Sessions> {
        Arc::new(Sessions::at_endpoint(self.ecr.endpoint(), "test", "test"))
    }

    async fn assert_mirrored(&self, image: &Image) {
        image.assert_in(&*registry_target(&self.ecr.repository("mirror/app")), "1").await;
    }
}

#[tokio::test]
async fn images_are_pushed_to_the_created_repository() {
    let Some((scene, image)) = Scene::new("{tag_mutability: IMMUTABLE}").await else { return };
    let sync = scene.cli.run("sync --json").await;
    assert_eq!((sync.code, &sync.json()["repositories"][0]["created"]), (0, &json!(true)), "{sync}");
    scene.assert_mirrored(&image).await;

    let host = HOST.parse().expect("a registry");
    let ecr = scene.api().session(&host, &EcrSettings::default()).ecr().await.expect("a client");
    let described = ecr.describe_repositories().repository_names("mirror/app").send().await.expect("it exists");
    let mutability = described.repositories()[0].image_tag_mutability().map(ImageTagMutability::as_str);
    assert_eq!(mutability, Some("IMMUTABLE"));
    let described = ecr.describe_images().repository_name("mirror/app").send().await.expect("it has images");
    let tagged: Vec<_> = described.image_details().iter().filter(|image| image.image_tags() == ["1"]).collect();
    assert_eq!(tagged.len(), 1, "{described:?}");
    assert_eq!(tagged[0].image_digest(), Some(image.digest().as_str()));

    scene.source.script.clear();
    let again = scene.cli.run("sync --json").await;
    assert_eq!((again.code, &again.json()["images"][0]["status"]), (0, &json!("up_to_date")), "{again}");
    assert_eq!(again.json()["repositories"], json!([]));
    assert_eq!(scene.source.script.lines(), Vec::<String>::new());
}

#[tokio::test]
async fn without_permission_to_create_a_repository_nothing_is_pulled_for_it() {
    let Some((scene, _)) = Scene::new("false").await else { return };
    let sync = scene.cli.run("sync --json").await;
    assert_eq!(sync.code, 1, "{sync}");
    let error = &sync.json()["images"][0]["error"];
    assert_eq!((&error["stage"], &error["kind"]), (&json!("provision"), &json!("not_found")), "{sync}");
    let message = error["message"].as_str().unwrap_or_default();
    assert!(message.contains("mirror/app"), "{message}");
    assert_eq!(scene.source.script.reads(), 0, "{:?}", scene.source.script.lines());
}

#[tokio::test]
async fn a_moved_tag_is_a_conflict_before_any_transfer() {
    let Some((scene, old)) = Scene::new("{tag_mutability: IMMUTABLE}").await else { return };
    let sync = scene.cli.run("sync").await;
    assert_eq!(sync.code, 0, "{sync}");
    let new = scene.publish("new").await;
    scene.source.script.clear();
    let update = scene.cli.run("sync --update --json").await;
    let report = update.json();
    let image = &report["images"][0];
    assert_eq!((update.code, &image["status"]), (1, &json!("conflict")), "{update}");
    let message = image["error"]["message"].as_str().unwrap_or_default();
    // A message has the first twelve digits.
    let both = [&old, &new].map(|image| &image.digest().as_str()[.."sha256:".len() + 12]);
    assert!(both.iter().all(|digest| message.contains(digest)), "{message}");
    assert_eq!(scene.source.script.count("GET", "/blobs/"), 0, "{:?}", scene.source.script.lines());
    scene.assert_mirrored(&old).await;
}
