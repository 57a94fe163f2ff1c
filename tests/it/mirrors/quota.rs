//! Mirrors of a registry with a pull quota: third-party components and stand-ins for public mirrors.

use super::*;
use crate::support::cli::Cli;
use crate::support::docker_registry::{DockerRegistry, Settings as Proxied};
use crate::support::hub::Hub;
use crate::support::registry::Settings;
use crate::support::stores;
use crate::support::tokens::Tokens;

/// docker.io with this many pulls left, behind mirrors, and 20 images there.
struct Limited {
    origin: Registry,
    hub: Hub,
    target: Registry,
    cli: Cli,
    images: Vec<Image>,
}

impl Limited {
    async fn new(left: u32) -> Self {
        let origin = Registry::start().await;
        let hub = Hub::before(origin.name(), 100, left).await;
        let images: Vec<Image> = (0..20).map(|n| image(&format!("app{n}")).build()).collect();
        for (n, image) in images.iter().enumerate() {
            image.push(&origin.inside(&format!("library/app{n}")), "1").await;
        }
        Self { origin, hub, target: Registry::start().await, cli: Cli::new(), images }
    }

    /// mirror.yaml with all images, these mirrors, and these settings for them.
    fn list(&self, mirrors: &str, settings: &str) {
        let hub = self.hub.settings().replacen('{', &format!("{{mirrors: [{mirrors}], "), 1);
        let entries: String = (0..20).map(|n| format!("  - app{n}:1\n")).collect();
        let head = format!("target: {}/mirror\nlayout: \"{{repository}}\"\n", self.target.name());
        let limits = "limits: {quota_reserve: 2}\n";
        self.cli.write("mirror.yaml", format!("{head}{limits}registries:\n{hub}{settings}images:\n{entries}"));
    }

    async fn assert_arrived(&self, numbers: impl Iterator<Item = usize>) {
        for n in numbers {
            self.images[n].assert_in(&self.target.inside(&format!("mirror/library/app{n}")), "1").await;
        }
    }
}

#[tokio::test]
async fn images_on_a_mirror_are_copied_despite_an_exhausted_quota() {
    let scene = Limited::new(0).await;
    let mirror = Registry::start().await;
    for (n, image) in scene.images.iter().enumerate().take(18) {
        image.push(&mirror.inside(&format!("copies/library/app{n}")), "1").await;
    }
    scene.list(&format!("\"{}/copies\"", mirror.name()), "");
    let run = scene.cli.run("sync --json").await;
    let expected: Vec<String> = (0..20).map(|n| if n < 18 { "copied" } else { "deferred" }.to_owned()).collect();
    assert_eq!((run.code, statuses(&run)), (4, expected), "{run}");
    assert_eq!((scene.hub.pulls().len(), scene.hub.refused()), (0, 0), "{:?}", scene.hub.seen());
    scene.assert_arrived(0..18).await;
    scene.hub.reset(7);
    let run = scene.cli.run("sync --json").await;
    assert_eq!((run.code, scene.hub.pulls().len(), scene.hub.refused()), (0, 2, 0), "{run}");
    scene.assert_arrived(0..20).await;
}

/// mirror.gcr.io has only popular images, official ones below `library/`, and sends no challenge to a HEAD.
/// ECR Public requires a token of everybody, has the images below a prefix, and issues one token per second.
#[tokio::test]
async fn public_mirrors_are_used_without_settings() {
    let scene = Limited::new(0).await;
    let (google, tokens) = (Registry::start().await, Tokens::new().public());
    let amazon = Registry::with(Settings { tokens: Some(tokens.clone()), ..Settings::default() }).await;
    for (n, image) in scene.images.iter().enumerate() {
        let (registry, path) = if n < 16 { (&google, "library") } else { (&amazon, "docker/library") };
        image.push(&registry.inside(&format!("{path}/app{n}")), "1").await;
    }
    let endpoints = format!(
        "  mirror.gcr.io: {{endpoint: \"{}\"}}\n  public.ecr.aws: {{endpoint: \"{}\"}}\n",
        google.url(""),
        amazon.url("")
    );
    scene.list("mirror.gcr.io, public.ecr.aws/docker", &endpoints);
    let run = scene.cli.run("sync --json").await;
    assert_eq!((run.code, statuses(&run)), (0, vec!["copied".to_owned(); 20]), "{run}");
    assert_eq!((scene.hub.pulls().len(), scene.hub.refused()), (0, 0), "{:?}", scene.hub.seen());
    scene.assert_arrived(0..20).await;
    let via = via(&run);
    assert!(via[..16].iter().all(|host| *host == "mirror.gcr.io"), "{run}");
    assert!(via[16..].iter().all(|host| *host == "public.ecr.aws"), "{run}");
    assert!(tokens.issued() > 0);
}

#[tokio::test]
async fn a_mirror_that_fails_during_the_run_loses_no_image() {
    let scene = Limited::new(100).await;
    let Some(mirror) = DockerRegistry::start() else { return };
    for (n, image) in scene.images.iter().enumerate() {
        image.push(&*stores::registry_target(&mirror.repository(&format!("library/app{n}"))), "1").await;
    }
    scene.list(&format!("\"{}\"", mirror.name()), "");
    // It is stopped when the first image is copied, whatever is in progress then.
    let mirror = std::sync::Mutex::new(mirror);
    let dies = Fault::meanwhile(move || mirror.lock().expect("the registry runs").stop());
    scene.target.script.once("PUT", "/manifests/", dies);
    let run = scene.cli.run("sync --json").await;
    assert_eq!((run.code, statuses(&run)), (0, vec!["copied".to_owned(); 20]), "{run}");
    scene.assert_arrived(0..20).await;
    assert!(!scene.hub.pulls().is_empty() && scene.hub.pulls().len() < 20, "{:?}", scene.hub.seen());
    drop(scene.origin);
}

/// A third-party pull-through cache. It contacts its upstream when it starts, and the test waits for that.
#[tokio::test(flavor = "multi_thread")]
async fn a_pull_through_cache_works_as_a_mirror() {
    let scene = Scene::new().await;
    let image = multi_platform("app", &["linux/amd64", "linux/arm64"]);
    image.push(&scene.source.inside("app"), "1").await;
    let upstream = Some(scene.source.url(""));
    let Some(proxy) = DockerRegistry::with(Proxied { upstream, ..Proxied::default() }) else { return };
    let mirrors = format!("registries:\n  \"SRC\": {{mirrors: [\"{}\"]}}\n", proxy.name());
    let head = "target: DST/mirror\nlayout: \"{repository}\"\nimages: [\"SRC/app:1\"]\n";
    scene.write("mirror.yaml", &format!("{head}{mirrors}"));
    let run = scene.cli.run("sync --json").await;
    assert_eq!((run.code, statuses(&run)), (0, vec!["copied".to_owned()]), "{run}");
    scene.assert_mirrored(&image, "app", "1").await;
    assert_eq!(via(&run), [Value::from(proxy.name().to_string())]);
    // The source got requests for manifests by digest and for blobs only from the cache.
    let ours = scene.source.script.seen().into_iter().filter(|seen| {
        let agent = seen.headers.get("user-agent").and_then(|value| value.to_str().ok()).unwrap_or_default();
        let by_digest = seen.path.contains("/manifests/sha256:") || seen.path.contains("/blobs/");
        agent.starts_with("transship/") && seen.method == "GET" && by_digest
    });
    assert_eq!(ours.map(|seen| seen.to_string()).collect::<Vec<_>>(), Vec::<String>::new());
}

#[tokio::test]
async fn a_plan_sends_heads_to_mirrors_and_counts_pulls_only_for_missing_images() {
    let scene = Limited::new(50).await;
    let mirror = Registry::start().await;
    for (n, image) in scene.images.iter().enumerate().take(18) {
        image.push(&mirror.inside(&format!("library/app{n}")), "1").await;
    }
    scene.list(&format!("\"{}\"", mirror.name()), "");
    let plan = scene.cli.run("plan --json").await;
    let pulls = |run: &Run| -> Vec<u64> {
        run.json()["images"]
            .as_array()
            .expect("images")
            .iter()
            .map(|image| image["pulls"].as_u64().expect("a number"))
            .collect()
    };
    let expected: Vec<u64> = (0..20).map(|n| u64::from(n >= 18)).collect();
    assert_eq!(pulls(&plan), expected, "{plan}");
    assert_eq!((mirror.script.reads(), mirror.script.count("HEAD", "/manifests/sha256:")), (0, 20));
    assert_eq!(scene.hub.pulls().len(), 0);
}
