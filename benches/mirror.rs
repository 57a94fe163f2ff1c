//! Mirrors 224 images from one docker-registry to another on this machine, over plain HTTP and over TLS, and compares
//! with skopeo if that is installed. Run it with `just bench`; it takes a few minutes.
//!
//! Prints for each run the wall time, CPU time and peak memory of the program, the requests to source and target, and
//! the bytes pulled, according to the registries' access logs.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use transship::aws::Sessions;
use transship::config::{Limits, RegistrySettings};
use transship::oci::MediaType;
use transship::registry::Hosts;
use transship::store::Stores;
use transship::store::registry::RegistryStores;

#[path = "../tests/it/support/certificates.rs"]
#[allow(dead_code, reason = "shared with the tests in tests/it")]
mod certificates;
#[path = "../tests/it/support/docker_registry.rs"]
#[allow(dead_code, reason = "shared with the tests in tests/it")]
mod docker_registry;
#[path = "../tests/it/support/images.rs"]
#[allow(dead_code, reason = "shared with the tests in tests/it")]
mod images;
#[path = "../tests/it/support/jwt.rs"]
#[allow(dead_code, reason = "shared with the tests in tests/it")]
mod jwt;

use docker_registry::{DockerRegistry, Settings};
use images::{Blob, Image, image};

const SMALL: usize = 120;
const TAGS: usize = 100;
const LARGE: usize = 4;
/// Repositories of small images, and base layers: each image has one of them.
const REPOSITORIES: usize = 20;
const BASES: usize = 5;

/// The time between two looks at a running program.
const LOOK: Duration = Duration::from_millis(5);

/// Tags and images, by repository.
type Corpus = BTreeMap<String, Vec<(String, Image)>>;

/// Small images that share bases, many tags of one repository, and a few images of one large layer.
fn corpus() -> Corpus {
    let mut corpus = Corpus::new();
    let mut add = |repository: String, tag: String, image| corpus.entry(repository).or_default().push((tag, image));
    for i in 0..SMALL {
        let base = format!("base {}", i % BASES);
        let image = image(&format!("small {i}")).shared_layer(&base, 2 << 20).layer(200 << 10).layer(2 << 10).build();
        add(format!("small/app-{}", i % REPOSITORIES), format!("v{i}"), image);
    }
    for i in 0..TAGS {
        let image = image(&format!("tag {i}")).shared_layer("tags", 2 << 20).layer(1 << 10).build();
        add("tags".to_owned(), format!("v{i}"), image);
    }
    for i in 0..LARGE {
        let part = Blob::seeded(MediaType::OCI_LAYER, &format!("large {i}"), 1 << 20).bytes;
        let layer = Blob::new(MediaType::OCI_LAYER, part.repeat(64));
        add(format!("large/model-{i}"), "v1".to_owned(), image(&format!("large {i}")).blob(layer).build());
    }
    corpus
}

/// Puts `corpus` into `registry`.
async fn fill(registry: &DockerRegistry, is_tls: bool, corpus: &Corpus) {
    let settings = RegistrySettings { ca: is_tls.then(|| registry.ca()), ..Default::default() };
    let registries = BTreeMap::from([(registry.name(), settings)]);
    let hosts = Hosts::new(registries, &Limits::default(), Arc::new(Sessions::new()));
    let stores = RegistryStores::new(Arc::new(hosts));
    for (path, tags) in corpus {
        let target = stores.target(&registry.repository(path)).expect("a registry of this machine");
        for (tag, image) in tags {
            image.push(&*target, tag).await;
        }
    }
}

/// Two registries, the first with the images, and a folder for the files of the programs.
struct World {
    source: DockerRegistry,
    target: DockerRegistry,
    folder: tempfile::TempDir,
}

/// The lines in the registries' logs so far.
struct Logged {
    source: usize,
    target: usize,
    pulled: u64,
}

impl World {
    /// `None` if docker-registry isn't installed.
    async fn start(is_tls: bool, corpus: &Corpus) -> Option<Self> {
        let settings = || Settings { tls: is_tls, ..Default::default() };
        let (source, target) = (DockerRegistry::with(settings())?, DockerRegistry::with(settings())?);
        fill(&source, is_tls, corpus).await;
        let world = Self { source, target, folder: tempfile::tempdir().expect("a temporary folder") };
        world.write_config(is_tls, corpus);
        world.write_skopeo(corpus);
        Some(world)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.folder.path().join(name), text).expect("a file in a fresh folder");
    }

    fn write_config(&self, is_tls: bool, corpus: &Corpus) {
        let mut text = format!("target: {}/mirror\nlayout: \"{{repository}}\"\nregistries:\n", self.target.name());
        for registry in [&self.source, &self.target] {
            let setting =
                if is_tls { format!("ca: {}", registry.ca().display()) } else { "plain_http: true".to_owned() };
            let _ = writeln!(text, "  {}: {{{setting}}}", registry.name());
        }
        text.push_str("defaults: {referrers: none}\nimages:\n");
        for (repository, tags) in corpus {
            let tags: Vec<&str> = tags.iter().map(|(tag, _)| tag.as_str()).collect();
            let _ = writeln!(text, "  - {{image: {}/{repository}, tags: [{}]}}", self.source.name(), tags.join(", "));
        }
        self.write("mirror.yaml", &text);
    }

    fn write_skopeo(&self, corpus: &Corpus) {
        let mut text = format!("{}:\n  tls-verify: false\n  images:\n", self.source.name());
        for (repository, tags) in corpus {
            let tags: Vec<&str> = tags.iter().map(|(tag, _)| tag.as_str()).collect();
            let _ = writeln!(text, "    {repository}: [{}]", tags.join(", "));
        }
        self.write("skopeo.yaml", &text);
    }

    fn logged(&self) -> Logged {
        let (source, target) = (self.source.access_log(), self.target.access_log());
        let pulled = source.lines().filter_map(sent).sum();
        Logged { source: source.lines().count(), target: target.lines().count(), pulled }
    }

    /// Runs a program to its end, and prints the time and memory it took.
    fn measure(&self, what: &str, program: &Path, arguments: &[&str]) {
        let before = self.logged();
        let mut command = Command::new(program);
        command.args(arguments).current_dir(self.folder.path()).stdin(Stdio::null()).stdout(Stdio::null());
        command.env("XDG_CACHE_HOME", self.folder.path()).env("HOME", self.folder.path()).stderr(Stdio::piped());
        let clock = Instant::now();
        let child = match command.spawn() {
            Ok(child) => child,
            Err(error) => return println!("  {what:<36}{}: {error}", program.display()),
        };
        let (used, problem) = watch(child);
        let wall = clock.elapsed().as_secs_f64();
        if let Some(problem) = problem {
            return println!("  {what:<36}{problem}");
        }
        let after = self.logged();
        let (source, target) = (after.source - before.source, after.target - before.target);
        let pulled = (after.pulled - before.pulled) as f64 / 1e6;
        println!(
            "  {what:<36}{wall:>7.2} s {:>7.2} s {:>7.1} MB {source:>7} {target:>7} {pulled:>9.1} MB",
            used.cpu,
            used.memory as f64 / 1e3
        );
    }
}

/// The size of an answer to a GET, from its line in the combined log format.
fn sent(line: &str) -> Option<u64> {
    let (_, rest) = line.split_once("\"GET ")?;
    let (_, rest) = rest.split_once("\" ")?;
    rest.split_whitespace().nth(1)?.parse().ok()
}

/// The resources that a process has used.
#[derive(Default)]
struct Used {
    /// Seconds of all processors.
    cpu: f64,
    /// The peak, in kB.
    memory: u64,
}

impl Used {
    /// Of a running process, from proc(5).
    fn of(process: u32) -> Option<Self> {
        let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
        // The name in parentheses may contain spaces.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let ticks = |field: usize| fields.get(field)?.parse::<u32>().ok();
        let cpu = f64::from(ticks(11)? + ticks(12)?) / 100.0;
        Some(Self { cpu, memory: peak.split_whitespace().next()?.parse().ok()? })
    }
}

/// Waits for the end of a process. Returns what it has used, or the end of its output if it failed.
fn watch(mut child: Child) -> (Used, Option<String>) {
    let mut used = Used::default();
    loop {
        match child.try_wait() {
            Ok(None) => {}
            Ok(Some(status)) if status.success() => return (used, None),
            _ => break,
        }
        used = Used::of(child.id()).unwrap_or(used);
        std::thread::sleep(LOOK);
    }
    let said = child.wait_with_output().map(|output| output.stderr).unwrap_or_default();
    let said = String::from_utf8_lossy(&said);
    (used, Some(said.lines().last().unwrap_or("it failed").to_owned()))
}

#[tokio::main]
async fn main() {
    let corpus = corpus();
    let program = PathBuf::from(env!("CARGO_BIN_EXE_transship"));
    for (scheme, is_tls) in [("plain HTTP", false), ("TLS", true)] {
        let Some(world) = World::start(is_tls, &corpus).await else { return };
        println!("{scheme}, {} images", SMALL + TAGS + LARGE);
        println!(
            "  {:<36}{:>9} {:>9} {:>10} {:>7} {:>7} {:>12}",
            "", "wall", "CPU", "memory", "source", "target", "pulled"
        );
        let common = ["-q", "--progress", "none"];
        let sync = |what: &str, flags: &[&str]| {
            world.measure(&format!("transship, {what}"), &program, &[&["sync"], flags, &common].concat());
        };
        sync("empty target", &[]);
        sync("nothing to do", &["--update"]);
        sync("nothing to do, from lock", &["--locked"]);
        let to = format!("{}/skopeo", world.target.name());
        let skopeo = ["sync", "--src", "yaml", "--dest", "docker", "--dest-tls-verify=false", "skopeo.yaml", &to];
        world.measure("skopeo, empty target", Path::new("skopeo"), &skopeo);
        world.measure("skopeo, nothing to do", Path::new("skopeo"), &skopeo);
    }
}
