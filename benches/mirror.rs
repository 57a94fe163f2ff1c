//! How fast a batch is mirrored: 200 small images that share bases, and a few large ones, between two registries of this
//! process over loopback, through the real client and engine.
//!
//! Prints wall and CPU time, the registries' own share of it included, and what each side was asked: once for an empty
//! target, and once for a target that has everything but the tags. `just bench`; about ten seconds.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use tokio_util::sync::CancellationToken;
use transship::aws::Sessions;
use transship::config::Limits;
use transship::copy::{CopyOptions, Readiness, copy};
use transship::oci::{MediaType, Registry, Repository, Tag};
use transship::plan::{Action, Plan, Planned, Transfer};
use transship::progress::Silent;
use transship::provision::Provisioners;
use transship::referrers::Finder;
use transship::registry::Hosts;
use transship::report::{Outcome, Status};
use transship::serve::{Options, Server};
use transship::store::Stores;
use transship::store::memory::Memory;
use transship::store::registry::RegistryStores;

#[path = "../tests/it/support/images.rs"]
#[allow(dead_code, reason = "shared with the tests in tests/it")]
mod images;

use images::{Blob, Image, image};

const SMALL: usize = 200;
const LARGE: usize = 4;
/// Repositories, and base layers: each image has one of them.
const REPOSITORIES: usize = 20;
const BASES: usize = 5;
const TRANSFERS: usize = 32;

/// A registry and what its repositories are called inside.
struct Side {
    memory: Memory,
    server: Server,
    inside: Registry,
}

impl Side {
    async fn start() -> std::io::Result<Self> {
        let (memory, options) = (Memory::new(), Options::default());
        let inside = options.registry.clone();
        let server = Server::start(Arc::new(memory.clone()), options).await?;
        Ok(Self { memory, server, inside })
    }

    fn repository(&self, path: &str) -> Repository {
        Repository::new(self.server.registry(), path).expect("a repository path")
    }

    async fn fill(&self, path: &str, tag: &str, image: &Image) {
        let inside = Repository::new(self.inside.clone(), path).expect("a repository path");
        image.push(&self.memory.repository(&inside), tag).await;
    }
}

/// Path, tag and image of all that is mirrored.
fn corpus() -> Vec<(String, String, Image)> {
    let small = (0..SMALL).map(|i| {
        let base = format!("base {}", i % BASES);
        let image = image(&format!("small {i}")).shared_layer(&base, 256 << 10).layer(20 << 10).layer(2 << 10).build();
        (format!("small/{}", i % REPOSITORIES), format!("v{i}"), image)
    });
    let large = (0..LARGE).map(|i| {
        let part = Blob::seeded(MediaType::OCI_LAYER, &format!("large {i}"), 1 << 20).bytes;
        let layer = Blob::new(MediaType::OCI_LAYER, part.repeat(48));
        (format!("large/{i}"), "v1".to_owned(), image(&format!("large {i}")).blob(layer).build())
    });
    small.chain(large).collect()
}

/// The plan that copies `corpus` from one side to the other, under tags that end with `suffix`.
fn plan(corpus: &[(String, String, Image)], source: &Side, target: &Side, suffix: &str) -> Plan {
    let transfer = |(path, tag, image): &(String, String, Image)| {
        let reference = format!("{}:{tag}", source.repository(path));
        let source = reference.parse().expect("a reference");
        let target = target.repository(&format!("mirror/{path}"));
        let tag = format!("{tag}{suffix}").parse::<Tag>().expect("a tag");
        Planned::Image(Transfer::new(source, image.descriptor().clone(), target, Some(tag), Action::Copy))
    };
    Plan { images: corpus.iter().map(transfer).collect(), ..Plan::default() }
}

fn targets(plan: &Plan) -> Vec<Repository> {
    let transfers = plan.images.iter().filter_map(|planned| match planned {
        Planned::Image(transfer) => Some(transfer.target.clone()),
        Planned::Failed { .. } => None,
    });
    transfers.collect()
}

/// Seconds of CPU time of this process so far; `None` where there is no /proc.
fn cpu() -> Option<f64> {
    // Ticks of 1/100 s on every Linux that Rust's standard library runs on; the name in parentheses may hold spaces.
    let text = std::fs::read_to_string("/proc/self/stat").ok()?;
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |field: usize| fields.get(field)?.parse::<u32>().ok();
    Some(f64::from(ticks(11)? + ticks(12)?) / 100.0)
}

/// Carries `plan` out and prints what it cost.
async fn measure(name: &str, mut plan: Plan, cold: bool) {
    let registries = BTreeMap::new();
    let hosts = Arc::new(Hosts::new(registries.clone(), &Limits::default(), Arc::new(Sessions::new())));
    let targets = targets(&plan);
    if cold {
        plan.empty = targets.iter().cloned().collect();
    }
    let ensured = Provisioners::new(&registries, Arc::new(Sessions::new())).ensure(&targets).await;
    let ready: Readiness = ensured.into_iter().collect();
    let stores: Arc<dyn Stores> = Arc::new(RegistryStores::new(Arc::clone(&hosts)));
    let means = CopyOptions {
        finder: Arc::new(Finder::new(Arc::clone(&stores))),
        stores,
        progress: Arc::new(Silent),
        stop: CancellationToken::new(),
        transfers: TRANSFERS,
        bandwidth: None,
    };
    let (clock, before) = (Instant::now(), cpu());
    let outcomes = copy(plan, &ready, means).await;
    let (wall, after) = (clock.elapsed().as_secs_f64(), cpu());
    report(name, &outcomes, wall, before.zip(after).map(|(before, after)| after - before));
    for host in hosts.stats() {
        println!("    {}: {} requests, {} manifest GETs", host.host, host.requests, host.manifest_gets);
    }
}

fn report(name: &str, outcomes: &[Outcome], wall: f64, cpu: Option<f64>) {
    let done = outcomes.iter().filter(|outcome| outcome.status == Status::Copied).count();
    let sum = |bytes: fn(&Outcome) -> u64| outcomes.iter().map(bytes).sum::<u64>() >> 20;
    let cpu = cpu.map_or_else(|| "unknown".to_owned(), |seconds| format!("{seconds:.2} s"));
    let (copied, mounted) = (sum(|outcome| outcome.bytes.copied), sum(|outcome| outcome.bytes.mounted));
    println!("{name}: {done} of {} images, {wall:.2} s, CPU {cpu}", outcomes.len());
    println!("    {copied} MiB copied, {mounted} MiB mounted, {} MiB there", sum(|outcome| outcome.bytes.present));
    for outcome in outcomes.iter().filter(|outcome| outcome.error.is_some()) {
        println!("    {}: {}", outcome.source, outcome.error.as_ref().map_or_else(String::new, ToString::to_string));
    }
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let (source, target) = (Side::start().await?, Side::start().await?);
    let corpus = corpus();
    for (path, tag, image) in &corpus {
        source.fill(path, tag, image).await;
    }
    println!("source {}, target {}, {TRANSFERS} transfers", source.server.registry(), target.server.registry());
    measure("empty target", plan(&corpus, &source, &target, ""), true).await;
    measure("full target, new tags", plan(&corpus, &source, &target, "-again"), false).await;
    source.server.stop().await;
    target.server.stop().await;
    Ok(())
}
