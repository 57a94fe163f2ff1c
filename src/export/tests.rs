//! Setup for the tests of all kinds, and tests of their common properties.

use std::path::Path;

use super::*;
use crate::config::Config;
use crate::desired;
use crate::lock::{Lock, LockedImage};
use crate::oci::{Descriptor, Digest, MediaType};

/// A list with the usual cases: two registries, an image with some platforms, two tags, `latest`, a port.
pub(super) const LIST: &str = "target: h.example/m
images:
  - nginx:1.27
  - {image: nginx, tags: [latest]}
  - grafana/grafana:11.2.0
  - {image: 'quay.io/prometheus/prometheus:v2.55.1', platforms: [linux/amd64, linux/arm64/v8]}
  - localhost:5000/team/app:1
";

/// The export of `kind` for `list`, all of which is pinned. The content of an image is its source reference.
pub(super) fn export(kind: &str, list: &str, options: &Options) -> Result<Export, Refusal> {
    let config =
        Config::read(list, Path::new("mirror.yaml"), &|_| None).unwrap_or_else(|problems| panic!("{problems}"));
    let mut lock = Lock::default();
    for entry in desired::entries(&config.images, &Lock::default()) {
        for image in entry.images {
            let digest = image.source.digest().cloned().unwrap_or(Digest::of(image.source.to_string().as_bytes()));
            let root = Descriptor { media_type: MediaType::OCI_INDEX.parse().unwrap(), digest, size: 2 };
            let platforms = entry.rule.handling.platforms.clone();
            let mirrored = (!platforms.is_empty()).then(|| Digest::of(b"part"));
            lock.pin(LockedImage { platforms, mirrored, since: None, ..LockedImage::new(image.source, &root) });
        }
    }
    let mirrored = desired::mirrored(&config.images, &lock);
    let registry = &config.targets[0].registry;
    let settings = config.registries.get(registry).cloned().unwrap_or_default();
    let target = Target { registry, plain_http: settings.speaks_plain_http(registry), insecure: settings.insecure };
    let images = images(&mirrored, 0);
    Kind::named(kind).expect("a kind").write(&Input { images: &images, target, logins: &Logins::default(), options })
}

/// The files, concatenated.
pub(super) fn text(kind: &str, list: &str) -> String {
    let export = export(kind, list, &Options::default()).unwrap_or_else(|refusal| panic!("{refusal:?}"));
    let aside = export.aside.iter().map(|aside| format!("== aside\n{aside}"));
    let files = export.files.iter().map(|file| format!("== {}\n{}", file.name, file.text));
    aside.chain(files).collect()
}

/// The export of `kind` for registries with a password, of ECR, and without credentials.
pub(super) fn export_logins(kind: &str, known: &[&str], ecr: &[&str], without: &[&str], options: &Options) -> String {
    let registries = |names: &[&str]| names.iter().map(|name| name.parse().unwrap()).collect();
    let login = |key: &&str| Login { key: (*key).to_owned(), username: "me".to_owned(), password: "p:w".to_owned() };
    let known = known.iter().map(login).collect();
    let logins = Logins { known, ecr: registries(ecr), without: registries(without) };
    let registry = "h.example".parse().unwrap();
    let target = Target { registry: &registry, plain_http: false, insecure: false };
    match Kind::named(kind).expect("a kind").write(&Input { images: &[], target, logins: &logins, options }) {
        Ok(Export { files, aside }) => {
            let name = |file: &File| if file.is_secret { format!("{} (secret)", file.name) } else { file.name.clone() };
            let files = files.iter().map(|file| format!("== {}\n{}", name(file), file.text));
            aside.into_iter().chain(files).collect()
        }
        Err(Refusal { why, hint }) => format!("{why}\nhint: {hint}"),
    }
}

/// The refusal of `kind` for `list`.
pub(super) fn refusal(kind: &str, list: &str) -> String {
    let Refusal { why, hint } = export(kind, list, &Options::default()).unwrap_err();
    format!("{why}\nhint: {hint}")
}

#[test]
fn a_kind_that_exports_images_needs_at_least_one() {
    for kind in KINDS.iter().filter(|kind| kind.needs == Needs::Images) {
        let why = refusal(kind.name, "target: h.example/m\nimages: [{image: a, select: {latest: 1}}]\n");
        assert!(why.contains("no image is mirrored to h.example"), "{}: {why}", kind.name);
    }
}

#[test]
fn the_order_of_the_list_does_not_matter() {
    let (head, entries) = LIST.split_at(LIST.find("  - ").unwrap());
    let backwards: Vec<&str> = entries.lines().rev().collect();
    let backwards = format!("{head}{}\n", backwards.join("\n"));
    for kind in KINDS.iter().filter(|kind| kind.needs == Needs::Images && kind.name != "docker") {
        assert_eq!(text(kind.name, LIST), text(kind.name, &backwards), "{}", kind.name);
    }
}

#[test]
fn names_of_kinds_are_unique() {
    let names: std::collections::BTreeSet<&str> = KINDS.iter().map(|kind| kind.name).collect();
    assert_eq!(names.len(), KINDS.len());
}
