use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use futures::future::join_all;

use super::*;
use crate::error::Kind;
use crate::images::{Image, image, multi_platform};
use crate::recorded::{Fault, Recorded, What};
use crate::store::memory::Memory;

const LARGEST: u64 = 1 << 20;

/// A source behind a cache.
struct Scene {
    recorded: Recorded,
    memory: Memory,
    folder: tempfile::TempDir,
}

impl Scene {
    async fn with(image: &Image) -> Self {
        let memory = Memory::new();
        image.push(&memory.repository(&name()), "1").await;
        let recorded = Recorded::new(Arc::new(memory.clone()));
        Self { recorded, memory, folder: tempfile::tempdir().unwrap() }
    }

    /// The source as a new process would open it.
    fn source(&self) -> Arc<dyn Source> {
        self.source_in(self.folder.path())
    }

    fn source_in(&self, folder: &Path) -> Arc<dyn Source> {
        let stores = CachedStores::new(Arc::new(self.recorded.clone()), folder.to_owned(), LARGEST);
        stores.source(&name()).unwrap()
    }

    fn file(&self, digest: &Digest) -> PathBuf {
        self.folder.path().join("blobs/sha256").join(digest.hex())
    }

    fn reads(&self) -> usize {
        self.recorded.count(What::Manifest) + self.recorded.count(What::Blob)
    }
}

fn name() -> Repository {
    "src.test/app".parse().unwrap()
}

#[tokio::test]
async fn manifests_are_read_once_by_digest_and_each_time_by_tag() {
    let app = image("app").build();
    let scene = Scene::with(&app).await;
    assert!(scene.source().cached_manifest(app.digest()).await.is_none());
    for _ in 0..2 {
        let source = scene.source();
        let manifest = source.manifest(app.digest()).await.unwrap();
        assert_eq!((manifest.bytes(), manifest.media_type()), (app.manifest.bytes(), app.manifest.media_type()));
        let config = source.small_blob(&app.blobs[0].descriptor).await.unwrap();
        assert_eq!(config, app.blobs[0].bytes);
        assert_eq!(source.resolve(&crate::images::tagged("1")).await.unwrap(), *app.descriptor());
    }
    assert_eq!(scene.recorded.count(What::Manifest), 1);
    assert_eq!(scene.recorded.count(What::Blob), 1);
    assert_eq!(scene.recorded.count(What::Resolve), 2);
    assert_eq!(scene.source().cached_manifest(app.digest()).await.unwrap().descriptor(), app.descriptor());
    assert_eq!(std::fs::read(scene.file(app.digest())).unwrap(), app.manifest.bytes()[..]);
    // A blob that isn't a manifest is never returned as one.
    assert!(scene.source().cached_manifest(app.blobs[0].digest()).await.is_none());
}

#[tokio::test]
async fn an_absent_file_is_looked_for_once_more_before_a_pull() {
    let app = image("app").build();
    let scene = Scene::with(&app).await;
    let source = scene.source();
    assert!(source.cached_manifest(app.digest()).await.is_none());
    // Another process saves it.
    scene.source().manifest(app.digest()).await.unwrap();
    assert!(source.cached_manifest(app.digest()).await.is_none());
    source.manifest(app.digest()).await.unwrap();
    assert_eq!(scene.recorded.count(What::Manifest), 1);
    assert!(source.cached_manifest(app.digest()).await.is_some());
}

#[tokio::test]
async fn a_damaged_entry_counts_as_absent_and_is_replaced() {
    let (app, other) = (image("app").build(), image("other").build());
    let scene = Scene::with(&app).await;
    scene.source().manifest(app.digest()).await.unwrap();
    let file = scene.file(app.digest());
    let whole = std::fs::read(&file).unwrap();
    let mut flipped = whole.clone();
    flipped[40] ^= 1;
    let huge = vec![b' '; usize::try_from(LARGEST).unwrap() + 1];
    let damages =
        [Vec::new(), whole[..whole.len() - 1].to_vec(), flipped, other.manifest.bytes().to_vec(), huge, b"\0".into()];
    for damaged in damages {
        std::fs::write(&file, damaged).unwrap();
        scene.recorded.clear();
        assert!(scene.source().cached_manifest(app.digest()).await.is_none());
        let manifest = scene.source().manifest(app.digest()).await.unwrap();
        assert_eq!((manifest.bytes(), scene.reads()), (app.manifest.bytes(), 1));
        assert_eq!(std::fs::read(&file).unwrap(), whole);
    }
}

#[tokio::test]
async fn a_manifest_whose_type_is_only_in_the_header_is_not_cached() {
    let scene = Scene::with(&image("app").build()).await;
    let bytes = bytes::Bytes::from_static(br#"{"schemaVersion":2,"layers":[]}"#);
    let digest = Digest::of(&bytes);
    let named = Manifest::new(digest.clone(), Some("application/x-outside"), bytes).unwrap();
    let repository = scene.memory.repository(&name());
    repository.push_manifest(&named, &Selector::Digest(digest.clone())).await.unwrap();
    let served = scene.source().manifest(&digest).await.unwrap();
    assert_eq!(served.media_type().as_str(), "application/x-outside");
    assert!(scene.source().cached_manifest(&digest).await.is_none());
}

#[tokio::test]
async fn wrong_bytes_are_refused_and_not_cached() {
    let app = image("app").build();
    let scene = Scene::with(&app).await;
    scene.recorded.on(What::Blob).then(Fault::Corrupts);
    let config = &app.blobs[0].descriptor;
    assert_eq!(scene.source().small_blob(config).await.unwrap_err().kind(), Kind::Mismatch);
    let large = Descriptor { size: super::super::SMALL + 1, ..config.clone() };
    assert_eq!(scene.source().small_blob(&large).await.unwrap_err().kind(), Kind::Unsupported);
    assert!(!scene.file(&config.digest).exists());
}

#[tokio::test]
async fn manifests_that_are_too_large_are_not_cached() {
    let padding = "x".repeat(usize::try_from(LARGEST).unwrap());
    let app = image("app").annotation("padding", &padding).build();
    let scene = Scene::with(&app).await;
    scene.source().manifest(app.digest()).await.unwrap();
    assert!(!scene.file(app.digest()).exists());
}

#[tokio::test]
async fn an_unusable_cache_folder_disables_the_cache_without_an_error() {
    let app = image("app").build();
    let scene = Scene::with(&app).await;
    let file = scene.folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let source = scene.source_in(&file.join("below"));
    for _ in 0..2 {
        assert_eq!(source.manifest(app.digest()).await.unwrap().bytes(), app.manifest.bytes());
    }
    assert_eq!(scene.reads(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn several_caches_share_a_folder_while_it_is_deleted() {
    let app = multi_platform("app", &["linux/amd64", "linux/arm64", "linux/s390x", "linux/riscv64"]);
    let scene = Arc::new(Scene::with(&app).await);
    let readers = (0..4).map(|_| {
        let (scene, app) = (Arc::clone(&scene), app.clone());
        tokio::spawn(async move {
            for _ in 0..20 {
                let source = scene.source();
                for manifest in app.manifests() {
                    assert_eq!(source.manifest(manifest.digest()).await.unwrap().bytes(), manifest.bytes());
                }
            }
        })
    });
    let readers = join_all(readers);
    let blobs = scene.folder.path().join("blobs");
    let deleting = tokio::task::spawn_blocking(move || {
        for _ in 0..50 {
            let _ = std::fs::remove_dir_all(&blobs);
            std::thread::yield_now();
        }
    });
    for reader in readers.await {
        reader.unwrap();
    }
    deleting.await.unwrap();
    for manifest in app.manifests() {
        scene.source().manifest(manifest.digest()).await.unwrap();
        assert_eq!(std::fs::read(scene.file(manifest.digest())).unwrap(), manifest.bytes()[..]);
    }
    let files = std::fs::read_dir(scene.folder.path().join("blobs/sha256")).unwrap();
    assert_eq!(files.count(), app.manifests().len(), "nothing temporary is left");
}

#[cfg(unix)]
#[tokio::test]
async fn only_the_user_can_read_the_files_and_folders() {
    use std::os::unix::fs::PermissionsExt as _;
    let app = image("app").build();
    let scene = Scene::with(&app).await;
    let folder = scene.folder.path().join("new");
    scene.source_in(&folder).manifest(app.digest()).await.unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let file = folder.join("blobs/sha256").join(app.digest().hex());
    assert_eq!((mode(&folder), mode(file.parent().unwrap()), mode(&file)), (0o700, 0o700, 0o600));
}

/// Three manifests of 1000 bytes and more, kept one after another, and how long ago each was used.
async fn used(folder: &Path, hours: [u64; 3]) -> [Digest; 3] {
    let cached = CachedStores::new(Arc::new(Memory::new()), folder.to_owned(), 1 << 20);
    let digests = [b'a', b'b', b'c'].map(|byte| (Digest::of(&[byte; 1000]), Bytes::from(vec![byte; 1000])));
    for ((digest, bytes), hours) in digests.iter().zip(hours) {
        cached.folder.keep(digest, bytes).await;
        let file = std::fs::File::open(path_of(folder, digest)).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(hours * 3600)).unwrap();
    }
    digests.map(|(digest, _)| digest)
}

fn path_of(folder: &Path, digest: &Digest) -> PathBuf {
    folder.join("blobs").join(digest.as_str().replace(':', "/"))
}

#[tokio::test]
async fn the_least_recently_used_entries_are_deleted_and_pinned_ones_stay() {
    let folder = tempfile::tempdir().unwrap();
    let [oldest, middle, newest] = used(folder.path(), [30, 20, 10]).await;
    let cached = CachedStores::new(Arc::new(Memory::new()), folder.path().to_owned(), 1 << 20);
    let is_there = |digest: &Digest| path_of(folder.path(), digest).exists();
    cached.bound(0, []);
    assert!(is_there(&oldest), "nothing was kept, so nothing has grown");
    // It is used again, so the middle one goes.
    assert!(cached.folder.read(&oldest).await.is_some());
    let fourth = Bytes::from(vec![b'd'; 1000]);
    cached.folder.keep(&Digest::of(&fourth), &fourth).await;
    cached.bound(3000, []);
    assert_eq!([&oldest, &middle, &newest].map(is_there), [true, false, true]);
    cached.bound(0, [newest.clone()]);
    assert_eq!([&oldest, &newest].map(is_there), [false, true]);
}

#[tokio::test]
async fn several_caches_are_bounded_at_once_and_only_old_partial_writes_are_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let [.., newest] = used(folder.path(), [30, 20, 10]).await;
    let blobs = folder.path().join("blobs/sha256");
    for (name, days) in [(".old.tmp", 2), (".new.tmp", 0), ("notes.txt", 9)] {
        std::fs::write(blobs.join(name), "x").unwrap();
        let at = SystemTime::now() - Duration::from_secs(days * 24 * 3600);
        std::fs::File::open(blobs.join(name)).unwrap().set_modified(at).unwrap();
    }
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| bound::bound(&folder.path().join("blobs"), 1000, HashSet::new));
        }
    });
    let names = std::fs::read_dir(&blobs).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
    let left: HashSet<String> = names.collect();
    assert_eq!(left, [".new.tmp", "notes.txt", newest.hex()].map(str::to_owned).into(), "the newest fits");
}

#[tokio::test]
async fn the_children_of_a_pinned_manifest_stay_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let memory = Memory::new();
    let repository: Repository = "src.test/app".parse().unwrap();
    let app = multi_platform("app", &["linux/amd64", "linux/arm64"]);
    app.push(&memory.repository(&repository), "1").await;
    let cached = CachedStores::new(Arc::new(memory), folder.path().to_owned(), 1 << 20);
    let source = cached.source(&repository).unwrap();
    for digest in [app.digest(), app.children[0].digest(), app.children[1].digest()] {
        source.manifest(digest).await.unwrap();
    }
    cached.bound(0, [app.digest().clone()]);
    assert!(source.cached_manifest(app.children[1].digest()).await.is_some());
    cached.bound(0, [app.children[0].digest().clone()]);
    assert!(source.cached_manifest(app.digest()).await.is_none());
    assert!(source.cached_manifest(app.children[0].digest()).await.is_some());
}
