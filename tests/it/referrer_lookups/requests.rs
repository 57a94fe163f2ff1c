//! The cost of finding referrers: exact request scripts, by kind of registry and number of images.

use std::sync::Arc;

use transship::error::{Error, Kind};
use transship::oci::{Digest, Manifest, Repository};
use transship::referrers::{Finder, Found};
use transship::serve::Options;
use transship::store::memory::Memory;

use super::{attach, cosign, list_under_tag, signature};
use crate::support::docker_registry::DockerRegistry;
use crate::support::images::{Image, image};
use crate::support::recorded::{Recorded, What};
use crate::support::registry::{Registry, Settings};
use crate::support::script::Fault;
use crate::support::stores::{registry_stores, registry_target};

/// A registry with images `a`, `b`, … in one repository.
struct Place {
    registry: Registry,
    images: Vec<Image>,
    finder: Finder,
}

impl Place {
    async fn new(images: usize, referrers: bool, page: usize) -> Self {
        let options = Options { referrers, page, ..Options::default() };
        let registry = Registry::with(Settings { options, ..Settings::default() }).await;
        let names = ('a'..='z').take(images).map(|name| name.to_string());
        let images: Vec<Image> = names.map(|name| image(&name).build()).collect();
        for (number, image) in images.iter().enumerate() {
            image.push(&registry.inside("app"), &format!("v{number:03}")).await;
        }
        Self { registry, images, finder: Finder::new(registry_stores()) }
    }

    fn repository(&self) -> Repository {
        self.registry.repository("app")
    }

    async fn find(&self, images: std::ops::Range<usize>) -> Vec<Arc<Found>> {
        let subjects: Vec<Digest> = self.images[images].iter().map(|image| image.digest().clone()).collect();
        self.finder.find(&self.repository(), &subjects).await.unwrap()
    }

    /// The requests since the last call, sorted. Images are shown by letter: `a` is a digest, `a.tag` its fallback tag.
    fn asked(&self) -> Vec<String> {
        let mut lines = self.registry.script.lines();
        self.registry.script.clear();
        for line in &mut lines {
            *line = line.replace("/v2/app/", "");
            for (image, letter) in self.images.iter().zip('a'..='z') {
                *line = line.replace(image.digest().as_str(), &letter.to_string());
                *line = line.replace(image.digest().referrers_tag().as_str(), &format!("{letter}-tag"));
            }
        }
        lines.sort();
        lines
    }
}

/// For each image, the sorted digests of its referrers.
fn digests(found: &[Arc<Found>]) -> Vec<Vec<Digest>> {
    let of = |found: &Arc<Found>| {
        let mut digests: Vec<_> = found.referrers.iter().map(|referrer| referrer.digest.clone()).collect();
        digests.sort();
        digests
    };
    found.iter().map(of).collect()
}

/// The HEADs of cosign's tags.
fn heads(letters: &[&str]) -> Vec<String> {
    let tags = |letter: &&str| ["att", "sbom", "sig"].map(|suffix| format!("HEAD manifests/{letter}-tag.{suffix} 404"));
    letters.iter().flat_map(tags).collect()
}

fn sorted(lines: &[&[&str]], heads: Vec<String>) -> Vec<String> {
    let mut lines: Vec<String> = lines.concat().into_iter().map(str::to_owned).chain(heads).collect();
    lines.sort();
    lines
}

#[tokio::test]
async fn with_the_api_a_lookup_is_one_list_and_three_heads_or_a_tag_list() {
    let place = Place::new(4, true, 1000).await;
    let of = &place.images[0];
    let (first, second) = (signature("s1", of), signature("s2", of));
    attach(&first, &place.registry.inside("app")).await;
    // It is found in two ways, and counts once.
    second.push(&place.registry.inside("app"), &cosign(of, "sig")).await;
    let found = place.find(0..1).await;
    let tag = |digest: &Digest| {
        let referrer = found[0].referrers.iter().find(|referrer| referrer.digest == *digest).unwrap();
        (referrer.tag.as_ref().map(ToString::to_string), referrer.artifact_type.clone())
    };
    assert_eq!(found[0].referrers.len(), 2);
    assert_eq!(tag(first.digest()), (None, Some("application/x.signature".into())));
    assert_eq!(tag(second.digest()), (Some(cosign(of, "sig")), None));
    let mut expected = sorted(&[&["GET referrers/a 200", "HEAD manifests/a-tag.sig 200"]], heads(&["a"]));
    expected.retain(|line| line != "HEAD manifests/a-tag.sig 404");
    assert_eq!(place.asked(), expected);

    // Nothing is requested again; the second is still cheaper by HEADs, the third and fourth by the list.
    place.find(0..2).await;
    assert_eq!(place.asked(), sorted(&[&["GET referrers/b 200"]], heads(&["b"])));
    place.find(0..4).await;
    assert_eq!(place.asked(), ["GET referrers/c 200", "GET referrers/d 200", "GET tags/list?n=1000 200"]);
}

#[tokio::test]
async fn all_pages_of_a_long_list_are_read() {
    let place = Place::new(1, true, 2).await;
    let mut all = Vec::new();
    for number in 0..5 {
        let referrer = signature(&number.to_string(), &place.images[0]);
        attach(&referrer, &place.registry.inside("app")).await;
        all.push(referrer.digest().clone());
    }
    all.sort();
    assert_eq!(digests(&place.find(0..1).await), [all]);
    assert_eq!(place.asked().iter().filter(|line| line.starts_with("GET referrers/a")).count(), 3);
}

#[tokio::test]
async fn a_missing_api_is_found_once_and_then_tags_are_read() {
    let place = Place::new(1, false, 1000).await;
    assert_eq!(digests(&place.find(0..1).await), [vec![]]);
    let once = ["GET referrers/a 404", "GET manifests/a-tag 404"];
    assert_eq!(place.asked(), sorted(&[&once], heads(&["a"])));
}

#[tokio::test]
async fn without_the_api_one_tag_list_covers_all_images() {
    for more in [0, 500] {
        let place = Place::new(3, false, 1000).await;
        let inside = place.registry.inside("app");
        for number in 0..more {
            place.images[0].push(&inside, &format!("w{number}")).await;
        }
        let [a, b, _] = place.images.as_slice() else { unreachable!() };
        let (listed, tagged) = (signature("s1", a), image("s2").build());
        let index = list_under_tag(a, &[&listed], &inside).await;
        tagged.push(&inside, &cosign(b, "att")).await;
        let found = place.find(0..3).await;
        assert_eq!(digests(&found), [vec![listed.digest().clone()], vec![tagged.digest().clone()], vec![]]);
        assert_eq!(found[0].index.as_ref().map(Manifest::bytes), Some(index.manifest.bytes()));
        let asked = place.asked();
        assert_eq!(asked.iter().filter(|line| line.starts_with("GET referrers/") && line.ends_with(" 404")).count(), 1);
        let rest: Vec<_> = asked.iter().filter(|line| !line.starts_with("GET referrers/")).collect();
        // The index doesn't give its type, so the referrer is read.
        assert_eq!(found[0].referrers[0].artifact_type.as_deref(), Some("application/x.signature"));
        let untyped = format!("GET manifests/{} 200", listed.digest());
        let lists = ["GET tags/list?n=1000 200", "HEAD manifests/b-tag.att 200"];
        assert_eq!(rest, ["GET manifests/a-tag 200", untyped.as_str(), lists[0], lists[1]]);
    }
}

#[tokio::test]
async fn a_tag_list_of_too_many_pages_is_given_up() {
    for (pages, has_api, given_up) in [(9, true, false), (10, true, true), (12, false, false), (13, false, true)] {
        let place = Place::new(3, has_api, 1).await;
        for number in 3..pages {
            place.images[0].push(&place.registry.inside("app"), &format!("w{number}")).await;
        }
        place.find(0..3).await;
        let asked = place.asked();
        let count = |part: &str| asked.iter().filter(|line| line.contains(part)).count();
        let most = if has_api { 9 } else { 12 };
        assert_eq!(count("GET tags/list"), pages.min(most), "{asked:#?}");
        assert_eq!(count(" manifests/"), if given_up { most } else { 0 }, "{asked:#?}");
        // It isn't requested again.
        let new = [Digest::of(b"x"), Digest::of(b"y"), Digest::of(b"z")];
        place.finder.find(&place.repository(), &new).await.unwrap();
        assert!(!place.asked().iter().any(|line| line.contains("GET tags/list")));
    }
}

#[tokio::test]
async fn a_refused_tag_list_is_skipped_and_an_unavailable_one_is_an_error() {
    for status in [403, 404] {
        let place = Place::new(3, true, 1000).await;
        place.registry.script.always("GET", "/tags/list", Fault::html(status));
        let signature = image("s").build();
        signature.push(&place.registry.inside("app"), &cosign(&place.images[1], "sig")).await;
        let found = place.find(0..3).await;
        assert_eq!(digests(&found), [vec![], vec![signature.digest().clone()], vec![]], "{status}");
    }
    let recorded = Recorded::new(Arc::new(Memory::new()));
    recorded.on(What::Tags).fails(Kind::Unavailable);
    let finder = Finder::new(Arc::new(recorded.clone()));
    let subjects = [Digest::of(b"1"), Digest::of(b"2"), Digest::of(b"3")];
    let found = finder.find_each(&"src.test/app".parse().unwrap(), &subjects).await;
    assert!(found.iter().all(|found| found.as_ref().is_err_and(|e| e.kind() == Kind::Unavailable)), "{found:?}");
    assert_eq!((recorded.count(What::Tags), recorded.count(What::Resolve)), (1, 0));
}

#[tokio::test]
async fn an_error_for_one_subject_doesnt_affect_others_and_isnt_repeated() {
    let recorded = Recorded::new(Arc::new(Memory::new()));
    let repository: Repository = "src.test/app".parse().unwrap();
    let subjects = [Digest::of(b"1"), Digest::of(b"2")];
    recorded.on(What::Referrers).for_subject(&subjects[0]).fails(Kind::RateLimited);
    recorded.on(What::Resolve).for_subject(subjects[1].referrers_tag()).fails(Kind::Denied);
    let third = Digest::of(b"3");
    let finder = Finder::new(Arc::new(recorded.clone()));
    let (each, again) = tokio::join!(finder.find_each(&repository, &subjects), finder.find(&repository, &subjects));
    let kinds: Vec<_> = each.iter().map(|found| found.as_ref().map_err(Error::kind).map(|_| ())).collect();
    assert_eq!(kinds, [Err(Kind::RateLimited), Err(Kind::Denied)]);
    assert_eq!(again.unwrap_err().kind(), Kind::RateLimited);
    assert_eq!(recorded.count(What::Referrers), 2);
    assert!(finder.find(&repository, &[third]).await.is_ok());
}

#[tokio::test]
async fn the_fallback_tag_may_hold_an_index_an_artifact_or_the_image() {
    let place = Place::new(2, false, 1000).await;
    let [a, b] = place.images.as_slice() else { unreachable!() };
    let inside = place.registry.inside("app");
    // As cosign 3 leaves it at GHCR.
    let bundle =
        image("bundle").artifact("application/vnd.dev.sigstore.bundle.v0.3+json").subject(a.descriptor()).build();
    bundle.push(&inside, a.digest().referrers_tag().as_str()).await;
    b.push(&inside, b.digest().referrers_tag().as_str()).await;
    let found = place.find(0..2).await;
    assert_eq!(digests(&found), [vec![bundle.digest().clone()], vec![]]);
    let referrer = &found[0].referrers[0];
    assert_eq!(referrer.tag, Some(a.digest().referrers_tag()));
    assert_eq!(referrer.kind(), Some("application/vnd.dev.sigstore.bundle.v0.3+json"));
    assert!(found.iter().all(|found| found.index.is_none()));
}

/// A third-party registry without referrers API.
#[tokio::test]
async fn docker_registry_keeps_referrers_under_tags() {
    let Some(registry) = DockerRegistry::start() else { return };
    let target = registry_target(&registry.repository("app"));
    let [a, b, c] = ["a", "b", "c"].map(|name| image(name).build());
    for (image, tag) in [(&a, "1"), (&b, "2"), (&c, "3")] {
        image.push(&*target, tag).await;
    }
    let (listed, tagged) = (signature("s1", &a), image("s2").build());
    list_under_tag(&a, &[&listed], &*target).await;
    tagged.push(&*target, &cosign(&b, "sig")).await;
    let subjects = [&a, &b, &c].map(|image| image.digest().clone());
    let expected = [vec![listed.digest().clone()], vec![tagged.digest().clone()], vec![]];
    for few in [1, 3] {
        let finder = Finder::new(registry_stores());
        let found = finder.find(&registry.repository("app"), &subjects[..few]).await.unwrap();
        assert_eq!(digests(&found), expected[..few]);
    }
}
