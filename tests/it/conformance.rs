//! One suite for every Source and Target: the contract that the engine relies on.
//!
//! Another implementation is one line in the list at the end.

use std::sync::Arc;

use futures::{StreamExt as _, stream};
use transship::error::{Error, Kind, Side};
use transship::oci::{Descriptor, Digest, Manifest, MediaType, Registry as Name, Repository, Selector};
use transship::store::layout::LayoutStores;
use transship::store::memory::Memory;
use transship::store::mirrors::MirroredStores;
use transship::store::{Mount, Referrers, SMALL, Source, Stores, Target};

use crate::support::docker_registry::DockerRegistry;
use crate::support::images::{self, Blob, Image, image, read, tagged};
use crate::support::registry::Registry;
use crate::support::script::Fault;
use crate::support::shapes::every_shape;
use crate::support::stores::registry_stores;

/// An implementation under test, and the guard that keeps it alive.
struct Subject {
    stores: Arc<dyn Stores>,
    registry: Name,
    /// Whether a blob of one repository can be mounted into another.
    mounts: bool,
    /// Whether all repositories share the blobs of one.
    shares: bool,
    /// Whether it accepts an index whose members are layers.
    takes_caches: bool,
    alive: Box<dyn std::any::Any + Send>,
}

impl Subject {
    fn name(&self, path: &str) -> Repository {
        Repository::new(self.registry.clone(), path).expect("a repository path")
    }

    fn target(&self, path: &str) -> Arc<dyn Target> {
        self.stores.target(&self.name(path)).expect("a target")
    }

    /// The same repository as a source.
    fn source(&self, path: &str) -> Arc<dyn Source> {
        self.stores.source(&self.name(path)).expect("a source")
    }
}

/// Memory, with repositories that are created by a push.
fn memory() -> Option<Subject> {
    let registry = "registry.test".parse().expect("a host");
    Some(Subject {
        stores: Arc::new(Memory::new()),
        registry,
        mounts: true,
        shares: false,
        takes_caches: true,
        alive: Box::new(()),
    })
}

/// Memory that is read through `mirror`, a registry of the same memory.
fn mirrored(mirror: &str) -> Option<Subject> {
    let subject = memory()?;
    let mirrors = vec![(mirror.parse().expect("a host"), String::new())];
    let mirrors = [(subject.registry.clone(), mirrors)].into();
    Some(Subject { stores: Arc::new(MirroredStores::new(subject.stores, mirrors)), ..subject })
}

/// A directory, with the names in it as repositories.
fn layout() -> Option<Subject> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let registry = Name::in_directory(&folder.path().join("layout")).expect("UTF-8");
    let stores = Arc::new(LayoutStores::new(4 << 20));
    Some(Subject { stores, registry, mounts: true, shares: true, takes_caches: true, alive: Box::new(folder) })
}

/// The registry client against the registry of this crate.
async fn served() -> Option<Subject> {
    let registry = Registry::start().await;
    let (stores, name) = (registry_stores(), registry.name());
    Some(Subject {
        stores,
        registry: name,
        mounts: true,
        shares: false,
        takes_caches: false,
        alive: Box::new(registry),
    })
}

/// The registry client against Debian's.
fn docker_registry() -> Option<Subject> {
    let registry = DockerRegistry::start()?;
    let (stores, name) = (registry_stores(), registry.name());
    Some(Subject { stores, registry: name, mounts: true, shares: false, takes_caches: true, alive: Box::new(registry) })
}

fn by_digest(digest: &Digest) -> Selector {
    Selector::Digest(digest.clone())
}

#[track_caller]
fn assert_kind<T>(result: Result<T, Error>, kind: Kind) {
    match result {
        Ok(_) => panic!("expected {kind:?}, but it went well"),
        Err(e) => assert_eq!(e.kind(), kind, "{e}"),
    }
}

#[track_caller]
fn assert_side<T>(result: Result<T, Error>, side: Side) {
    match result {
        Ok(_) => panic!("expected an error of {side:?}, but it went well"),
        Err(e) => assert_eq!(e.side(), Some(side), "{e}"),
    }
}

/// Graphs of every shape arrive byte for byte, and are found by tag and by digest.
async fn graphs_arrive_verbatim(subject: Subject) {
    let mut graphs = every_shape();
    graphs.retain(|(tag, _)| subject.takes_caches || *tag != "build-cache");
    let target = subject.target("conformance/graphs");
    for (tag, graph) in &graphs {
        graph.push(&*target, tag).await;
    }
    let source = subject.source("conformance/graphs");
    for (tag, graph) in &graphs {
        graph.assert_in(&*source, tag).await;
        let found = source.resolve(&by_digest(graph.digest())).await.unwrap();
        assert_eq!(&found, graph.descriptor(), "{tag}");
    }
}

/// Every error has the side that its store was opened for.
async fn errors_name_their_side(subject: Subject) {
    let graph = image("sides").layer(100_000).build();
    let layer = &graph.blobs[1];
    let target = subject.target("conformance/sides");
    graph.push(&*target, "present").await;
    let reader: Arc<dyn Source> = target.clone();
    let nowhere = Blob::new(MediaType::OCI_LAYER, "nowhere");
    let (absent, larger) =
        (nowhere.digest(), Descriptor { size: layer.descriptor().size + 1, ..layer.descriptor().clone() });
    for (side, store, nothing) in [
        (Side::Source, subject.source("conformance/sides"), subject.source("conformance/no-sides")),
        (Side::Target, reader, subject.target("conformance/no-sides")),
    ] {
        for store in [&store, &nothing] {
            assert_side(store.resolve(&tagged("absent")).await, side);
            assert_side(store.manifest(absent).await, side);
            assert_side(store.read_tag(&"absent".parse().unwrap()).await, side);
            assert_side(read(store.blob(nowhere.descriptor(), 0).await).await, side);
            assert_side(store.small_blob(nowhere.descriptor()).await, side);
        }
        assert_side(nothing.tags().await, side);
        assert_side(store.small_blob(&Descriptor { size: SMALL + 1, ..larger.clone() }).await, side);
        assert_side(read(store.blob(&larger, 0).await).await, side);
        if let Some(registry) = subject.alive.downcast_ref::<Registry>() {
            registry.script.once("GET", format!("blobs/{}", layer.digest()), Fault::Cut { after: 1000 });
            assert_side(read(store.blob(layer.descriptor(), 0).await).await, side);
        }
    }
    assert_side(target.push_manifest(&image("lacking").build().manifest, &tagged("lacking")).await, Side::Target);
    let wrong = Blob::seeded(MediaType::OCI_LAYER, "wrong", layer.bytes.len());
    let upload = target.open_upload().await.unwrap();
    assert_side(target.push_blob(upload, layer.descriptor(), wrong.stream(5000)).await, Side::Target);
    let upload = target.open_upload().await.unwrap();
    target.abandon(upload.clone()).await;
    assert_side(target.push_blob(upload, nowhere.descriptor(), nowhere.stream(5000)).await, Side::Target);
    if let Some(layout) = subject.registry.directory() {
        let file = layout.join("blobs/sha256").join(layer.digest().hex());
        std::fs::write(file, &wrong.bytes).expect("a file that can be written to");
        let reader: Arc<dyn Source> = target;
        for (side, store) in [(Side::Source, subject.source("conformance/sides")), (Side::Target, reader)] {
            assert_side(read(store.blob(layer.descriptor(), 0).await).await, side);
            assert_side(store.small_blob(layer.descriptor()).await, side);
        }
    }
}

/// Missing content is `NotFound` or `None`, in an existing repository and in a missing one.
async fn what_is_absent_is_not_found(subject: Subject) {
    image("present").build().push(&*subject.target("conformance/present"), "present").await;
    let nowhere = Digest::of(b"nowhere");
    for path in ["conformance/present", "conformance/absent"] {
        let source = subject.source(path);
        assert_kind(source.resolve(&tagged("absent")).await, Kind::NotFound);
        assert_kind(source.resolve(&by_digest(&nowhere)).await, Kind::NotFound);
        assert_kind(source.manifest(&nowhere).await, Kind::NotFound);
        assert_kind(
            read(source.blob(Blob::new(MediaType::OCI_LAYER, "nowhere").descriptor(), 0).await).await,
            Kind::NotFound,
        );
        assert_eq!(source.blob_size(&nowhere).await.unwrap(), None);
    }
    assert_kind(subject.source("conformance/absent").tags().await, Kind::NotFound);
}

/// A manifest is refused until its content is in the same repository.
async fn missing_content_is_refused(subject: Subject) {
    let graph = images::multi_platform("missing", &["linux/amd64", "linux/arm64"]);
    if !subject.shares {
        graph.push(&*subject.target("conformance/elsewhere"), "whole").await;
    }
    let target = subject.target("conformance/missing");
    let Image { children, manifest: index, .. } = &graph;
    for child in children {
        let lacking = target.push_manifest(&child.manifest, &by_digest(child.digest())).await;
        assert_kind(lacking, Kind::MissingContent);
    }
    children[0].try_push(&*target, None).await.unwrap();
    assert_kind(target.push_manifest(index, &tagged("early")).await, Kind::MissingContent);
    assert_kind(target.resolve(&tagged("early")).await, Kind::NotFound);
}

/// A subject need not exist.
async fn a_subject_may_be_absent(subject: Subject) {
    let target = subject.target("conformance/subject");
    let of = image("never pushed").build();
    let referrer = image("signature").artifact("application/vnd.example.signature").subject(of.descriptor()).build();
    referrer.push(&*target, "signature").await;
    referrer.assert_in(&*subject.source("conformance/subject"), "signature").await;
}

/// A blob can be read from any offset.
async fn blobs_are_read_from_an_offset(subject: Subject) {
    let blob = Blob::seeded(MediaType::OCI_LAYER, "offset", 200_000);
    let graph = image("offset").blob(blob.clone()).build();
    graph.push(&*subject.target("conformance/offset"), "offset").await;
    let source = subject.source("conformance/offset");
    // The place of a blob may depend on the place of its manifest.
    source.manifest(graph.digest()).await.unwrap();
    assert_eq!(source.blob_size(blob.digest()).await.unwrap(), Some(200_000));
    for offset in [0, 1, 65_536, 199_999] {
        let bytes = read(source.blob(blob.descriptor(), offset as u64).await).await.unwrap();
        assert!(bytes == blob.bytes[offset..], "from {offset}");
    }
}

/// An empty blob is a blob.
async fn a_blob_may_be_empty(subject: Subject) {
    let target = subject.target("conformance/empty");
    let graph = image("empty").layer(0).layer(5).build();
    graph.push(&*target, "empty").await;
    graph.assert_in(&*subject.source("conformance/empty"), "empty").await;
    assert_eq!(target.blob_size(&Digest::of(b"")).await.unwrap(), Some(0));
}

/// A body may have any number of chunks.
async fn chunks_make_a_blob(subject: Subject) {
    let target = subject.target("conformance/chunks");
    let blob = Blob::seeded(MediaType::OCI_LAYER, "chunks", 10_007);
    let upload = target.open_upload().await.unwrap();
    target.push_blob(upload, &blob.descriptor, blob.stream(1000)).await.unwrap();
    assert!(read(target.blob(blob.descriptor(), 0).await).await.unwrap() == blob.bytes);
}

/// Bytes that don't match the digest aren't stored.
async fn wrong_bytes_are_refused(subject: Subject) {
    let target = subject.target("conformance/wrong");
    let right = Blob::seeded(MediaType::OCI_LAYER, "right", 5000);
    let wrong = Blob::seeded(MediaType::OCI_LAYER, "wrong", 5000);
    let upload = target.open_upload().await.unwrap();
    assert_kind(target.push_blob(upload, &right.descriptor, wrong.stream(5000)).await, Kind::Mismatch);
    assert_eq!(target.blob_size(right.digest()).await.unwrap(), None);
    assert_eq!(target.blob_size(wrong.digest()).await.unwrap(), None);

    let honest = image("honest").build();
    honest.try_push(&*target, None).await.unwrap();
    let lie = Digest::of(b"something else");
    let forged = Manifest::new(lie.clone(), None, honest.manifest.bytes().clone()).unwrap();
    assert_kind(target.push_manifest(&forged, &by_digest(&lie)).await, Kind::Mismatch);
    assert_kind(target.resolve(&by_digest(&lie)).await, Kind::NotFound);
}

/// A broken body leaves no blob, keeps the side of its error, and a new upload succeeds.
async fn a_broken_body_leaves_nothing(subject: Subject) {
    let target = subject.target("conformance/broken");
    let blob = Blob::seeded(MediaType::OCI_LAYER, "broken", 100_000);
    let gone = Error::new(Kind::Unavailable, "read the blob", "the connection broke").on(Side::Source);
    let half = blob.stream(1000).take(50).chain(stream::once(async { Err(gone) })).boxed();
    let upload = target.open_upload().await.unwrap();
    assert_side(target.push_blob(upload, &blob.descriptor, half).await, Side::Source);
    assert_eq!(target.blob_size(blob.digest()).await.unwrap(), None);
    blob.push(&*target).await.unwrap();
    assert_eq!(target.blob_size(blob.digest()).await.unwrap(), Some(100_000));
}

/// An upload can be cancelled.
async fn uploads_are_abandoned(subject: Subject) {
    let target = subject.target("conformance/abandoned");
    let upload = target.open_upload().await.unwrap();
    target.abandon(upload.clone()).await;
    let blob = Blob::seeded(MediaType::OCI_LAYER, "abandoned", 100);
    assert!(target.push_blob(upload, &blob.descriptor, blob.stream(100)).await.is_err());
    assert_eq!(target.blob_size(blob.digest()).await.unwrap(), None);
}

/// A blob belongs to its repository until it is mounted into another one.
async fn blobs_are_mounted(subject: Subject) {
    let (from, target) = (subject.target("conformance/from"), subject.target("conformance/to"));
    let graph = image("mounted").build();
    graph.push(&*from, "mounted").await;
    for blob in graph.blobs() {
        assert_eq!(target.blob_size(blob.digest()).await.unwrap().is_some(), subject.shares);
        let mount = target.mount(blob.digest(), &subject.name("conformance/from")).await.unwrap();
        if !subject.mounts {
            assert!(matches!(mount, Mount::Declined(_)));
            return;
        }
        assert_eq!(mount, Mount::Mounted);
    }
    target.push_manifest(&graph.manifest, &tagged("mounted")).await.unwrap();
    graph.assert_in(&*subject.source("conformance/to"), "mounted").await;
}

/// A declined mount may open an upload instead, which can be used.
async fn a_declined_mount_is_no_failure(subject: Subject) {
    let target = subject.target("conformance/declined");
    image("donor").build().push(&*subject.target("conformance/donor"), "donor").await;
    let blob = Blob::seeded(MediaType::OCI_LAYER, "declined", 3000);
    let Mount::Declined(upload) = target.mount(blob.digest(), &subject.name("conformance/donor")).await.unwrap() else {
        panic!("a blob was mounted that isn't there");
    };
    let upload = match upload {
        Some(upload) => upload,
        None => target.open_upload().await.unwrap(),
    };
    target.push_blob(upload, &blob.descriptor, blob.stream(3000)).await.unwrap();
    assert_eq!(target.blob_size(blob.digest()).await.unwrap(), Some(3000));
}

/// All tags are listed; a digest isn't a tag.
async fn tags_are_listed(subject: Subject) {
    let target = subject.target("conformance/tags");
    let graph = image("tags").build();
    graph.try_push(&*target, None).await.unwrap();
    let mut expected: Vec<String> = (0..12).map(|n| format!("v{n}")).collect();
    for tag in &expected {
        target.push_manifest(&graph.manifest, &tagged(tag)).await.unwrap();
    }
    let source = subject.source("conformance/tags");
    let mut found: Vec<String> = source.tags().await.unwrap().iter().map(ToString::to_string).collect();
    expected.sort();
    found.sort();
    assert_eq!(found, expected);
    // They fit on one page.
    assert_eq!(source.tags_within(1).await.unwrap().map(|tags| tags.len()), Some(expected.len()));
}

/// The store lists referrers, or clients keep them under a tag; a missing manifest has none.
async fn referrers_are_listed_or_tagged(subject: Subject) {
    let target = subject.target("conformance/referrers");
    let of = image("referred to").build();
    of.push(&*target, "1").await;
    let referrer = image("refers").artifact("application/x.signature").subject(of.descriptor()).build();
    referrer.try_push(&*target, None).await.unwrap();
    let source = subject.source("conformance/referrers");
    for (subject, expected) in [(of.digest(), vec![referrer.digest()]), (&Digest::of(b"absent"), vec![])] {
        let listed = source.listed_referrers(subject).await.unwrap();
        let digests = listed.as_ref().map(|listed| listed.iter().map(|one| &one.digest).collect::<Vec<_>>());
        match source.referrers(subject).await.unwrap() {
            Referrers::Listed(all) => assert_eq!((Some(&all), digests), (listed.as_ref(), Some(expected))),
            Referrers::Tagged(index) => assert!(index.is_none() && listed.is_none()),
        }
    }
}

/// A tag moves to the manifest pushed last; the earlier manifest stays.
async fn tags_move(subject: Subject) {
    let target = subject.target("conformance/moves");
    let (old, new) = (image("old").build(), image("new").build());
    old.push(&*target, "latest").await;
    new.push(&*target, "latest").await;
    new.assert_in(&*subject.source("conformance/moves"), "latest").await;
    assert_eq!(&target.resolve(&by_digest(old.digest())).await.unwrap(), old.descriptor());
    assert_eq!(target.tags().await.unwrap().len(), 1);
}

/// Pushing existing content again changes nothing, even concurrently.
async fn pushing_again_changes_nothing(subject: Subject) {
    let target = subject.target("conformance/again");
    let graph = images::multi_platform("again", &["linux/amd64", "linux/arm64"]);
    graph.push(&*target, "again").await;
    // One after the other: docker-registry rewrites its links in place, and a reader in between finds them empty.
    for _ in 0..2 {
        graph.push(&*target, "again").await;
    }
    graph.assert_in(&*subject.source("conformance/again"), "again").await;
}

/// Runs every check as a separate test on a new subject of each implementation.
macro_rules! conformance {
    ($($store:ident: $open:expr;)+) => { $(mod $store { conformance!(@checks $open =>
        graphs_arrive_verbatim, errors_name_their_side, what_is_absent_is_not_found, missing_content_is_refused,
        a_subject_may_be_absent, blobs_are_read_from_an_offset, a_blob_may_be_empty, chunks_make_a_blob,
        wrong_bytes_are_refused, a_broken_body_leaves_nothing, uploads_are_abandoned, blobs_are_mounted,
        a_declined_mount_is_no_failure, tags_are_listed, tags_move, pushing_again_changes_nothing,
        referrers_are_listed_or_tagged,
    ); })+ };
    (@checks $open:expr => $($check:ident,)+) => { $(
        #[tokio::test]
        async fn $check() {
            // None: a component isn't installed, and the test has printed that it is skipped.
            if let Some(subject) = $open {
                super::$check(subject).await;
            }
        }
    )+ };
}

// `$open` may await: `registry: crate::conformance::registry().await;`
conformance! {
    memory: crate::conformance::memory();
    mirrored_by_what_lacks_all: crate::conformance::mirrored("mirror.test");
    mirrored_by_what_has_all: crate::conformance::mirrored("registry.test");
    layout: crate::conformance::layout();
    served: crate::conformance::served().await;
    docker_registry: crate::conformance::docker_registry();
}
