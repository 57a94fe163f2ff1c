use std::path::Path;

use super::*;
use crate::config::Config;
use crate::lock::LockedSelection;
use crate::oci::{Descriptor, Digest, MediaType};
use crate::select::Only;

const D: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn config(text: &str) -> Config {
    Config::read(text, Path::new("mirror.yaml"), &|_| None).unwrap_or_else(|problems| panic!("{problems}"))
}

fn pin(lock: &mut Lock, source: &str, content: &str) -> LockedImage {
    let media_type = MediaType::OCI_INDEX.parse().unwrap();
    let root = Descriptor { media_type, digest: Digest::of(content.as_bytes()), size: 2 };
    let pinned = LockedImage::new(source.parse().unwrap(), &root);
    lock.pin(pinned.clone());
    pinned
}

#[test]
fn each_entry_yields_its_desired_images() {
    let config = config(&format!(
        "target: h.example/m\nimages:\n  - nginx\n  - ghcr.io/a/b:v1@{D}\n  - {{image: alpine, tags: ['1.10', '3.20']}}\n  \
         - alpine@{D}\n  - {{image: \"python@{D}\", as: 3.7-slim}}\n  - {{image: quay.io/c/d, select: {{latest: 2}}}}\n  \
         - {{image: quay.io/c/e, select: {{latest: 2}}}}\n"
    ));
    let mut lock = Lock::default();
    let spec = config.images[5].selection().unwrap().spec().clone();
    lock.select(LockedSelection::new("quay.io/c/d".parse().unwrap(), spec, vec!["2".parse().unwrap()]));
    pin(&mut lock, "quay.io/c/d:2", "d");
    let lines = entries(&config.images, &lock).map(|entry| {
        let image = |image: &Image<'_>| {
            let tag = image.tag.as_ref().map_or("untagged".to_owned(), ToString::to_string);
            format!("{} as {tag}{}", image.source, if image.pin.is_some() { ", pinned" } else { "" })
        };
        let images: Vec<String> = entry.images.iter().map(image).collect();
        if entry.is_unknown { "unknown".to_owned() } else { images.join("; ") }
    });
    insta::assert_snapshot!(lines.collect::<Vec<_>>().join("\n"), @r"
    docker.io/library/nginx:latest as latest
    ghcr.io/a/b:v1@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 as v1
    docker.io/library/alpine:1.10 as 1.10; docker.io/library/alpine:3.20 as 3.20
    docker.io/library/alpine@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 as untagged
    docker.io/library/python@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 as 3.7-slim
    quay.io/c/d:2 as 2, pinned
    unknown
    ");
}

#[test]
fn mirrored_images_are_those_that_the_lock_pins() {
    let config = config(
        "targets: [h.example/m, g.example, 'oci:out']\nimages:\n  - nginx:1\n  - {image: nginx, tags: ['2'], to: infra/nginx}\n  \
         - {image: quay.io/a/b, tags: [v1], platforms: [linux/amd64]}\n  - unpinned:1\n",
    );
    let mut lock = Lock::default();
    pin(&mut lock, "nginx:1", "1");
    pin(&mut lock, "nginx:2", "2");
    let part = pin(&mut lock, "quay.io/a/b:v1", "b");
    let (platforms, mirrored) = (vec!["linux/amd64".parse().unwrap()], Some(Digest::of(b"part")));
    lock.unpin(&part.source, &[]);
    lock.pin(LockedImage { platforms, mirrored, ..part });
    let all = super::mirrored(&config.images, &lock);
    let lines = all.iter().flat_map(|one| {
        let whole = one.digest == one.target_digest && one.platforms.is_empty();
        one.places.iter().map(move |place| {
            let Place { target, reference, kept_below } = place;
            format!("{} {} {target} {reference} {kept_below:?}", one.source, if whole { "whole" } else { "part" })
        })
    });
    insta::assert_snapshot!(lines.collect::<Vec<_>>().join("\n"), @r#"
    docker.io/library/nginx:1 whole 0 h.example/m/docker.io/library/nginx:1 Some("m/docker.io")
    docker.io/library/nginx:1 whole 1 g.example/docker.io/library/nginx:1 Some("docker.io")
    docker.io/library/nginx:1 whole 2 oci:out:docker.io/library/nginx:1 None
    docker.io/library/nginx:2 whole 0 h.example/m/infra/nginx:2 None
    docker.io/library/nginx:2 whole 1 g.example/infra/nginx:2 None
    docker.io/library/nginx:2 whole 2 oci:out:docker.io/library/nginx:2 None
    quay.io/a/b:v1 part 0 h.example/m/quay.io/a/b:v1 Some("m/quay.io")
    quay.io/a/b:v1 part 1 g.example/quay.io/a/b:v1 Some("quay.io")
    quay.io/a/b:v1 part 2 oci:out:quay.io/a/b:v1 None
    "#);
    assert_eq!((all[2].digest.clone(), all[2].target_digest.clone()), (Digest::of(b"b"), Digest::of(b"part")));
    assert_eq!(all[0].at(1).unwrap().reference.to_string(), "g.example/docker.io/library/nginx:1");
    assert!(all[0].at(3).is_none());
}

#[test]
fn a_later_image_with_other_content_for_the_same_tag_is_mirrored_nowhere() {
    let config = config(
        "target: h.example\nimages:\n  - {image: a/x, select: {latest: 1}, to: x}\n  - {image: b/x, select: {latest: 1}, to: x}\n",
    );
    let mut lock = Lock::default();
    for (repository, rule) in ["a/x", "b/x"].iter().zip(&config.images) {
        let spec = rule.selection().unwrap().spec().clone();
        lock.select(LockedSelection::new(repository.parse().unwrap(), spec, vec!["1".parse().unwrap()]));
        pin(&mut lock, &format!("{repository}:1"), repository);
    }
    let clashes: Vec<bool> =
        wants(&config.images, &lock, &Only::default()).iter().map(|want| want.clash.is_some()).collect();
    assert_eq!(clashes, [false, true]);
    let all = super::mirrored(&config.images, &lock);
    assert_eq!(all.iter().map(|one| one.source.to_string()).collect::<Vec<_>>(), ["docker.io/a/x:1"]);
}
