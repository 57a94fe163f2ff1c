//! Referrers added after an image was mirrored, and the cost of finding that there are none.

use transship::oci::{Manifest, Referrer};
use transship::serve::Options;
use transship::store::Source as _;

use crate::support::cli::Cli;
use crate::support::cosign;
use crate::support::images::{Image, image, index, multi_platform};
use crate::support::registry::{Registry, Settings};
use crate::support::scene::statuses;

async fn registry(has_api: bool) -> Registry {
    let options = Options { referrers: has_api, ..Options::default() };
    Registry::with(Settings { options, ..Settings::default() }).await
}

/// A source, and two targets, of which the first has the API.
struct World {
    source: Registry,
    targets: [Registry; 2],
    cli: Cli,
}

impl World {
    async fn new(source_has_api: bool, images: &[&str]) -> Self {
        let (source, targets) = (registry(source_has_api).await, [registry(true).await, registry(false).await]);
        let [one, two] = targets.each_ref().map(Registry::name);
        let images: String = images.iter().map(|image| format!("  - {}/{image}\n", source.name())).collect();
        let list = format!("targets: [{one}, {two}]\nlayout: \"{{repository}}\"\nimages:\n{images}");
        Self { source, targets, cli: Cli::new().file("mirror.yaml", list) }
    }

    /// Sets the referrers of `subject` at the source: by the API, or by the index under the fallback tag.
    async fn sign(&self, repository: &str, subject: &Image, referrers: &[&Image]) {
        let inside = self.source.inside(repository);
        for referrer in referrers {
            referrer.try_push(&inside, None).await.unwrap();
        }
        let listed = referrers.iter().fold(index(), |index, referrer| index.nested((*referrer).clone())).build();
        listed.push(&inside, subject.digest().referrers_tag().as_str()).await;
    }

    async fn assert_both_have(&self, repository: &str, referrers: &[&Image]) {
        for (target, has_api) in self.targets.iter().zip([true, false]) {
            let target = target.inside(repository);
            for referrer in referrers {
                let manifest: Manifest = target.manifest(referrer.digest()).await.unwrap();
                assert_eq!(manifest.bytes(), referrer.manifest.bytes());
                let subject = manifest.subject().unwrap().digest.clone();
                let listed = if has_api {
                    target.referrers(&subject).await.unwrap().list()
                } else {
                    let index = target.resolve(&subject.referrers_tag().into()).await.unwrap();
                    Referrer::in_index(target.manifest(&index.digest).await.unwrap().bytes()).unwrap()
                };
                assert!(listed.iter().any(|one| one.digest == *referrer.digest()), "{target}: {listed:?}");
            }
        }
    }

    /// A run without work sends this many requests to each target, and none to the source.
    async fn assert_idle(&self, requests: [usize; 2]) {
        for registry in self.targets.iter().chain([&self.source]) {
            registry.script.clear();
        }
        let run = self.cli.run("sync --locked --json").await;
        assert_eq!(run.code, 0, "{run}");
        assert!(statuses(&run).iter().all(|status| status == "up_to_date"), "{run}");
        assert_eq!(self.source.script.lines(), Vec::<String>::new());
        for (target, wanted) in self.targets.iter().zip(requests) {
            assert_eq!(target.script.lines().len(), wanted, "{:#?}", target.script.lines());
        }
    }
}

#[tokio::test]
async fn a_signature_added_later_is_copied_by_the_next_update() {
    for source_has_api in [true, false] {
        let world = World::new(source_has_api, &["app:1", "single:1"]).await;
        let (app, single) = (multi_platform("app", &["linux/amd64", "linux/arm64"]), image("single").build());
        app.push(&world.source.inside("app"), "1").await;
        single.push(&world.source.inside("single"), "1").await;
        assert_eq!(world.cli.run("sync").await.code, 0);
        world.assert_idle([2, 2]).await;

        let [of_app, of_child, of_single] =
            [&app, &app.children[1], &single].map(|image| cosign::bundle(image.descriptor()));
        world.sign("app", &app, &[&of_app]).await;
        world.sign("app", &app.children[1], &[&of_child]).await;
        world.sign("single", &single, &[&of_single]).await;
        let tagged = [cosign::signature(app.digest()), cosign::attestation(app.children[0].digest())];
        for (tag, image) in &tagged {
            image.push(&world.source.inside("app"), tag).await;
        }
        let run = world.cli.run("sync --update --json").await;
        assert_eq!((run.code, statuses(&run)), (0, vec!["copied".to_owned(); 4]), "{run}");
        world.assert_both_have("app", &[&of_app, &of_child]).await;
        world.assert_both_have("single", &[&of_single]).await;
        for (target, (tag, image)) in
            world.targets.iter().flat_map(|target| tagged.iter().map(move |one| (target, one)))
        {
            image.assert_in(&target.inside("app"), tag).await;
        }
        // A tag each; the list and a tag of one, the list of the other; and one request finds that there is no API.
        world.assert_idle([5, 6]).await;

        // A second signature of each, and one of an existing signature.
        let about = |image: &Image| image_of("second", image);
        let [second, of_referrer, of_single_s] = [about(&app), about(&of_app), about(&of_single)];
        world.sign("app", &app, &[&of_app, &second]).await;
        world.sign("app", &of_app, &[&of_referrer]).await;
        world.sign("single", &of_single, &[&of_single_s]).await;
        let run = world.cli.run("sync --update --json").await;
        assert_eq!((run.code, statuses(&run)), (0, vec!["copied".to_owned(); 4]), "{run}");
        world.assert_both_have("app", &[&of_app, &second, &of_referrer]).await;
        world.assert_both_have("single", &[&of_single, &of_single_s]).await;
        world.assert_idle([5, 6]).await;
        let run = world.cli.run("sync --update --json").await;
        assert_eq!(statuses(&run), ["up_to_date"; 4], "{run}");
    }
}

#[tokio::test]
async fn without_a_lock_referrers_are_followed_each_time() {
    let world = World::new(true, &["app:1"]).await;
    let app = multi_platform("app", &["linux/amd64"]);
    app.push(&world.source.inside("app"), "1").await;
    let [one, two] = world.targets.each_ref().map(Registry::name);
    let copies = [&one, &two].map(|target| format!("copy --json {}/app:1 {target}/app:1", world.source.name()));
    let mut signatures = Vec::new();
    for lines in [&["sync --no-lock --json".to_owned()][..], &copies] {
        assert_eq!(world.cli.run(&lines[0]).await.code, 0);
        let late = image_of(&lines[0], &app.children[0]);
        late.try_push(&world.source.inside("app"), None).await.unwrap();
        signatures.push(late);
        for line in lines {
            let run = world.cli.run(line).await;
            assert!(run.code == 0 && statuses(&run).iter().all(|status| status == "copied"), "{line}: {run}");
        }
        world.assert_both_have("app", &signatures.iter().collect::<Vec<_>>()).await;
        for line in lines {
            let run = world.cli.run(line).await;
            assert!(statuses(&run).iter().all(|status| status == "up_to_date"), "{line}: {run}");
        }
    }
}

fn image_of(seed: &str, subject: &Image) -> Image {
    let seed = format!("{seed} of {}", subject.digest());
    image(&seed).artifact("application/spdx+json").layer(300).subject(subject.descriptor()).build()
}

#[tokio::test]
async fn an_update_checks_required_referrers() {
    let world = World::new(true, &["app:1"]).await;
    image("app").build().push(&world.source.inside("app"), "1").await;
    assert_eq!(world.cli.run("sync").await.code, 0);
    let list = world.cli.read("mirror.yaml").unwrap();
    world.cli.write("mirror.yaml", format!("{list}defaults:\n  referrers: require\n"));
    let run = world.cli.run("sync --update --json").await;
    assert_eq!((run.code, statuses(&run)), (1, vec!["failed".to_owned(); 2]), "{run}");
}
