//! Measures the steps that send no request, for 500 to 4,000 images: reading mirror.yaml and mirror.lock, writing the
//! lock, reading a manifest, and planning against registries that answer at once.
//!
//! Run it with `just steps`. The time must not grow faster than the number of images.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use divan::{Bencher, counter::ItemsCount};
use tokio_util::sync::CancellationToken;
use transship::aws::Sessions;
use transship::config::Config;
use transship::lock::{Lock, LockedImage};
use transship::oci::{Manifest, Reference};
use transship::plan::{Prefetch, Request, plan};
use transship::progress::{Progress, Silent};
use transship::provision::Provisioners;
use transship::select::Only;
use transship::store::Stores;
use transship::store::memory::Memory;

#[path = "../tests/it/support/images.rs"]
#[allow(dead_code, reason = "shared with the tests in tests/it")]
mod images;

const IMAGES: [usize; 4] = [500, 1000, 2000, 4000];
/// Tags of each repository.
const TAGS: usize = 20;

fn main() {
    divan::main();
}

/// The text of a mirror.yaml with so many images.
fn config_text(images: usize) -> String {
    let mut text = String::from("target: mirror.example/team\nimages:\n");
    for repository in 0..images / TAGS {
        let tags: Vec<String> = (0..TAGS).map(|tag| format!("v1.{tag}")).collect();
        let _ = writeln!(text, "  - image: docker.io/library/app-{repository}\n    tags: [{}]", tags.join(", "));
    }
    text
}

fn config(images: usize) -> Config {
    Config::read(&config_text(images), Path::new("mirror.yaml"), &|_| None).expect("a valid file")
}

/// The pins of a mirror.yaml with so many images.
fn lock(images: usize) -> Lock {
    let mut lock = Lock::default();
    for at in 0..images {
        let text = format!("docker.io/library/app-{}:v1.{}", at / TAGS, at % TAGS);
        let source: Reference = text.parse().expect("a reference");
        lock.pin(LockedImage::new(
            source,
            &images::descriptor("application/vnd.oci.image.index.v1+json", text.as_bytes()),
        ));
    }
    lock
}

#[divan::bench(args = IMAGES)]
fn read_config(bencher: Bencher<'_, '_>, images: usize) {
    let text = config_text(images);
    bencher.counter(ItemsCount::new(images)).bench(|| Config::read(&text, Path::new("mirror.yaml"), &|_| None));
}

#[divan::bench(args = IMAGES)]
fn read_lock(bencher: Bencher<'_, '_>, images: usize) {
    let text = lock(images).to_text();
    bencher.counter(ItemsCount::new(images)).bench(|| Lock::read(&text, Path::new("mirror.lock")));
}

#[divan::bench(args = IMAGES)]
fn write_lock(bencher: Bencher<'_, '_>, images: usize) {
    let lock = lock(images);
    bencher.counter(ItemsCount::new(images)).bench(|| lock.to_text());
}

#[divan::bench(args = [5, 50, 500])]
fn read_manifest(bencher: Bencher<'_, '_>, layers: usize) {
    let image = (0..layers).fold(images::image("layers"), |image, _| image.layer(16)).build();
    let (digest, bytes) = (image.digest().clone(), image.manifest.bytes().clone());
    bencher.counter(ItemsCount::new(layers)).bench(|| Manifest::new(digest.clone(), None, bytes.clone()));
}

#[divan::bench(args = IMAGES)]
fn plan_all(bencher: Bencher<'_, '_>, images: usize) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let (config, lock) = (config(images), lock(images));
    let stores: Arc<dyn Stores> = Arc::new(Memory::new());
    let provisioners = Provisioners::new(&BTreeMap::new(), Arc::new(Sessions::new()));
    let progress: Arc<dyn Progress> = Arc::new(Silent);
    bencher.counter(ItemsCount::new(images)).bench(|| {
        let plan = runtime.block_on(plan(
            Request {
                images: &config.images,
                lock: &lock,
                before: Some(&lock),
                failed: &BTreeMap::new(),
                only: &Only::default(),
                stores: &stores,
                provisioners: &provisioners,
                follow: false,
                progress: &progress,
                stop: &CancellationToken::new(),
            },
            Prefetch::nothing(),
        ));
        assert_eq!(plan.images.len(), images);
        plan
    });
}
