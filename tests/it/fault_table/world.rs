//! The hosts of a cell of the table: a source with twelve images that redirects its readers to a blob host, a token
//! service for the source and one target, and two targets.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::task::JoinHandle;
use transship::oci::{Descriptor, Digest, Edge, Repository, Selector};
use transship::serve::{self, Options};
use transship::store::Source as _;
use transship::store::memory::{Memory, MemoryRepository};

use super::network::Network;
use super::plot::{self, Fault, Host, Plot};
use crate::support::cli::Cli;
use crate::support::cosign;
use crate::support::images::{Image, image, index, multi_platform, read, tagged};
use crate::support::tokens::Tokens;

/// One image of the list, with its content and referrers.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) repository: &'static str,
    pub(super) tag: &'static str,
    image: Image,
    referrers: Vec<Image>,
    /// Signatures and the like, with their tags.
    tagged: Vec<(String, Image)>,
}

impl Entry {
    fn new(repository: &'static str, tag: &'static str, image: Image) -> Self {
        Self { repository, tag, image, referrers: Vec::new(), tagged: Vec::new() }
    }

    /// The digests of all content that is mirrored for it.
    fn digests(&self) -> BTreeSet<Digest> {
        let related = self.referrers.iter().chain(self.tagged.iter().map(|(_, image)| image));
        related.chain([&self.image]).flat_map(Image::digests).collect()
    }

    /// Whether a request with this path and query is for it.
    fn is_meant_by(&self, path: &str) -> bool {
        let path = path.replace("%3A", ":");
        let named: Vec<&str> = path.match_indices("sha256").filter_map(|(at, _)| path.get(at + 7..at + 71)).collect();
        if !named.is_empty() {
            return self.digests().iter().any(|digest| named.contains(&digest.hex()));
        }
        let repository = plot::repository(&path);
        if repository.strip_prefix("m/").unwrap_or(&repository) != self.repository {
            return false;
        }
        path.split_once("/manifests/").is_none_or(|(_, tag)| tag == self.tag)
    }
}

/// The images, and the source's repositories with them.
#[derive(Debug, Clone)]
pub(super) struct Corpus {
    pub(super) entries: Arc<Vec<Entry>>,
    memory: Memory,
}

impl Corpus {
    pub(super) async fn new() -> Self {
        let based = |name: &str| image(name).shared_layer("base", 30_000).layer(500).build();
        let arm = || image("arm").shared_layer("base", 30_000).build();
        let multi = |amd: &str| index().child("linux/amd64", image(amd).build()).child("linux/arm64", arm()).build();
        let nested = index().nested(multi_platform("inner", &["linux/s390x"])).build();
        let mut signed = Entry::new("signed", "1", image("signed").build());
        let of = signed.image.descriptor().clone();
        let sbom = image("sbom").artifact("application/spdx+json").layer(500).subject(&of).build();
        signed.referrers = vec![cosign::bundle(&of), sbom];
        let mut cosigned = Entry::new("cosigned", "1", image("cosigned").build());
        cosigned.tagged = vec![cosign::signature(cosigned.image.digest())];
        let entries = vec![
            Entry::new("a", "1", based("a")),
            Entry::new("b", "1", based("b")),
            Entry::new("c", "1", based("c")),
            Entry::new("big", "1", image("big").layer(400_000).build()),
            Entry::new("docker", "1", image("docker").docker().build()),
            Entry::new("multi", "1", multi("one")),
            Entry::new("multi", "2", multi("two")),
            Entry::new("nested", "1", nested),
            signed,
            cosigned,
            Entry::new("tools", "v1", image("tool").shared_layer("tool", 3000).layer(100).build()),
            Entry::new("tools", "v2", image("tools").shared_layer("tool", 3000).layer(200).build()),
        ];
        let memory = Memory::new();
        for entry in &entries {
            let repository = inside(&memory, entry.repository);
            entry.image.push(&repository, entry.tag).await;
            for referrer in &entry.referrers {
                referrer.try_push(&repository, None).await.expect("a push into memory");
            }
            for (tag, image) in &entry.tagged {
                image.push(&repository, tag).await;
            }
        }
        Self { entries: Arc::new(entries), memory }
    }

    /// The number of different blobs.
    pub(super) fn blobs(&self) -> usize {
        let images = self.entries.iter().flat_map(|entry| {
            entry.referrers.iter().chain(entry.tagged.iter().map(|(_, image)| image)).chain([&entry.image])
        });
        images.flat_map(Image::blobs).map(|blob| blob.digest().clone()).collect::<BTreeSet<_>>().len()
    }

    /// The images that one of these paths is about.
    pub(super) fn touched<'a>(&self, paths: impl Iterator<Item = &'a str>) -> Vec<&Entry> {
        let paths: BTreeSet<&str> = paths.collect();
        self.entries.iter().filter(|entry| paths.iter().any(|path| entry.is_meant_by(path))).collect()
    }
}

fn inside(memory: &Memory, path: &str) -> MemoryRepository {
    memory.repository(&Repository::new(Options::default().registry, path).expect("a repository path"))
}

/// The hosts of a cell and a folder to run in.
pub(super) struct World {
    pub(super) cli: Cli,
    pub(super) source: SocketAddr,
    /// The target with the faults, and the one without.
    pub(super) targets: [(SocketAddr, Memory); 2],
    networks: Vec<Network>,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for World {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl World {
    /// The hosts of a cell with `fault`.
    pub(super) async fn start(corpus: &Corpus, plot: &Plot, fault: Option<Fault>) -> Self {
        let (tokens, mut networks, mut tasks) = (Tokens::new(), Vec::new(), Vec::new());
        let mut serve = |host: Host, router: Router| {
            let network = Network::new();
            let (address, task) = network.serve(plot.around(host, &network, &tokens, router));
            networks.push(network);
            tasks.push(task);
            address
        };
        let registry = |memory: &Memory| serve::router(Arc::new(memory.clone()), Options::default());
        tokens.at(format!("http://{}/token", serve(Host::Tokens, tokens.around(Router::new()))));
        let blobs = serve(Host::Blobs, registry(&corpus.memory));
        let redirects = registry(&corpus.memory).layer(middleware::from_fn_with_state(blobs, redirect));
        let source = serve(Host::Source, tokens.around(redirects));
        let memories = [Memory::new(), Memory::new()];
        // A repository with content, so that lookups are made there. Only listed tags are resolved.
        let old = image("old").shared_layer("base", 30_000).build();
        old.push(&inside(&memories[0], "m/a"), "1").await;
        let first = serve(Host::First, tokens.around(registry(&memories[0])));
        let second = serve(Host::Second, registry(&memories[1]));
        let [one, two] = memories;
        let world = Self { cli: Cli::new(), source, targets: [(first, one), (second, two)], networks, tasks };
        world.cli.write("mirror.yaml", world.list(fault));
        world
    }

    fn list(&self, fault: Option<Fault>) -> String {
        // Unless a host is silent, no timeout may occur, even on a busy machine.
        let idle = if fault == Some(Fault::Stall) { 3 } else { 20 };
        let [(first, _), (second, _)] = &self.targets;
        let names = ["a", "b", "c", "big", "docker", "multi:2", "multi", "nested", "signed", "cosigned"];
        let tag = |name: &str| if name.contains(':') { name.to_owned() } else { format!("{name}:1") };
        let entries: String = names.iter().map(|name| format!("  - {}/{}\n", self.source, tag(name))).collect();
        format!(
            "targets: [{first}/m, {second}/m]\nlayout: \"{{repository}}\"\n\
             limits: {{idle_timeout: {idle}s, max_wait: {}s}}\nimages:\n{entries}\
             \x20 - {{image: {}/tools, select: {{glob: [\"v*\"]}}}}\n",
            super::MAX_WAIT.as_secs(),
            self.source
        )
    }

    /// Opens all hosts again.
    pub(super) fn heal(&self) {
        self.networks.iter().for_each(Network::open);
    }

    /// The content of an image that one of the targets lacks.
    pub(super) async fn lacks(&self, target: usize, entry: &Entry, with_referrers: bool) -> Option<String> {
        let repository = inside(&self.targets[target].1, &format!("m/{}", entry.repository));
        if let Some(what) = differs(&repository, entry.tag, &entry.image).await {
            return Some(what);
        }
        if !with_referrers {
            return None;
        }
        for (tag, image) in &entry.tagged {
            if let Some(what) = differs(&repository, tag, image).await {
                return Some(what);
            }
        }
        let referrers = repository.referrers(entry.image.digest()).await.map(|referrers| referrers.list());
        let listed: Vec<Digest> = referrers.ok()?.into_iter().map(|referrer| referrer.digest).collect();
        let missing = entry.referrers.iter().find(|referrer| !listed.contains(referrer.digest()));
        missing.map(|referrer| format!("referrer {}", referrer.digest()))
    }

    /// Tags of the targets whose content is incomplete.
    pub(super) async fn broken_tags(&self) -> Vec<String> {
        let mut broken = Vec::new();
        for (_, memory) in &self.targets {
            for name in memory.repositories() {
                let repository = memory.repository(&name);
                for tag in repository.tags().await.unwrap_or_default() {
                    let root = repository.resolve(&Selector::Tag(tag.clone())).await;
                    let is_whole = match root {
                        Ok(root) => is_whole(&repository, &root).await,
                        Err(_) => false,
                    };
                    if !is_whole {
                        broken.push(format!("{name}:{tag}"));
                    }
                }
            }
        }
        broken
    }
}

/// Missing or wrong content under `tag`.
async fn differs(repository: &MemoryRepository, tag: &str, image: &Image) -> Option<String> {
    match repository.resolve(&tagged(tag)).await {
        Ok(found) if found == *image.descriptor() => {}
        other => return Some(format!("tag {tag}: {other:?}")),
    }
    for manifest in image.manifests() {
        let found = repository.manifest(manifest.digest()).await;
        if !found.is_ok_and(|found| found.bytes() == manifest.bytes()) {
            return Some(format!("manifest {}", manifest.digest()));
        }
    }
    for blob in image.blobs() {
        let found = read(repository.blob(blob.descriptor(), 0).await).await;
        if !found.is_ok_and(|found| found == blob.bytes) {
            return Some(format!("blob {}", blob.digest()));
        }
    }
    None
}

/// Whether everything below `root` exists, by the existing manifests.
fn is_whole<'a>(repository: &'a MemoryRepository, root: &'a Descriptor) -> BoxFuture<'a, bool> {
    async move {
        let Ok(manifest) = repository.manifest(&root.digest).await else { return false };
        for edge in manifest.successors() {
            let is_there = match edge {
                Edge::Blob(blob) => repository.blob_size(&blob.digest).await.is_ok_and(|size| size == Some(blob.size)),
                Edge::Manifest(child) => is_whole(repository, child).await,
            };
            if !is_there {
                return false;
            }
        }
        true
    }
    .boxed()
}

/// Redirects reads of blobs to their bytes, as registries do.
async fn redirect(State(blobs): State<SocketAddr>, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    if request.method() != Method::GET || !path.contains("/blobs/") {
        return next.run(request).await;
    }
    (StatusCode::TEMPORARY_REDIRECT, [("location", format!("http://{blobs}{path}?signature=x"))]).into_response()
}
