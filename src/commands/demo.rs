//! `demo`: a mirror on this machine only. It starts two registries on loopback, writes a list, and runs the verbs of a
//! real mirror. Then an independent client reads the mirror, and a Dockerfile and a Deployment are rewritten to use it.

mod files;
mod images;
mod slow;
mod stage;

use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use oci_client::Reference as OciReference;
use oci_client::client::{Client, ClientConfig, ClientProtocol};
use oci_client::secrets::RegistryAuth;

use self::images::Image;
use self::slow::slowed;
use self::stage::Stage;
use super::session::Start;
use super::{lock, plan, print, sync, verify};
use crate::cli;
use crate::desired::{Entry, entries};
use crate::lock::Lock;
use crate::oci::{ACCEPT, Digest, Edge, Manifest, Registry, Repository};
use crate::report::{Exit, Report};
use crate::serve::{Options, Server, router};
use crate::store::memory::Memory;

/// The images upstream.
const UPSTREAM: [Image; 5] = {
    const fn image(path: &'static str, tag: &'static str, base: &'static str, size: usize) -> Image {
        let host = Registry::DOCKER_HUB;
        Image { host, path, tag, base, size, attested: false, signed: false, platforms: "" }
    }
    [
        Image { attested: true, signed: true, ..image("library/nginx", "1.27", "debian", 600_000) },
        image("library/nginx", "1.26", "debian", 580_000),
        image("library/redis", "7.4", "debian", 400_000),
        Image { platforms: "linux/amd64", ..image("grafana/grafana", "11.3.0", "alpine", 900_000) },
        Image { host: "quay.io", ..image("prometheus/prometheus", "v2.55.1", "busybox", 700_000) },
    ]
};

/// Bytes per second of a remote registry and of a local one: slow enough to watch.
const UPSTREAM_SPEED: u32 = 8_000_000;
const MIRROR_SPEED: u32 = 25_000_000;

pub(super) async fn run(start: Start, arguments: &cli::Demo) -> anyhow::Result<Exit> {
    let (stop, progress) = (start.stop.clone(), Arc::clone(&start.progress));
    // When you stop the demo, nothing is finished, and its folder is removed.
    let shown = stop.run_until_cancelled(show(start, arguments)).await;
    progress.end();
    let Some(shown) = shown else { return Ok(Exit::Interrupted) };
    let Shown { exit, registries } = shown?;
    if registries.is_some() {
        stop.cancelled().await;
    }
    Ok(exit)
}

/// How the demo ended, and the registries that it keeps until you stop it.
struct Shown {
    exit: Exit,
    registries: Option<(Server, Server)>,
}

async fn serve(world: &Memory, speed: u32) -> anyhow::Result<Server> {
    let router = slowed(router(Arc::new(world.clone()), Options::default()), speed);
    Server::start_router(router, 0).await.context("can't listen on 127.0.0.1")
}

async fn show(start: Start, arguments: &cli::Demo) -> anyhow::Result<Shown> {
    let stage = Stage::of(&start.global);
    let upstream = Memory::new();
    let source = serve(&upstream, UPSTREAM_SPEED).await?;
    let target = serve(&Memory::new(), MIRROR_SPEED).await?;
    fill(&upstream).await?;
    let folder = tempfile::Builder::new().prefix("transship-demo-").tempdir().context("can't make a folder")?;
    let config = folder.path().join("mirror.yaml");
    let list = list(&source.registry(), &target.registry());
    std::fs::write(&config, &list).context("can't write mirror.yaml")?;

    let until = if arguments.keep { "until Ctrl-C" } else { "until the demo ends" };
    stage.say(&format!(
        "Two registries run on this machine {until}: {} stands in for Docker Hub and Quay, {} for yours. The list of what to \
         mirror is {}:\n\n{}",
        source.registry(),
        target.registry(),
        config.display(),
        indented(&list)
    ))?;
    // The demo doesn't use the user's cache.
    let start = Start { cache: start.cache.map(|(_, size)| (folder.path().join("cache"), size)), ..start };
    let (mut exit, verified) = tour(start.clone(), &config, &stage).await?;
    if let Some(Verified { manifests, blobs, signatures }) = verified {
        stage.step("6. An independent client reads the mirror", "It knows nothing of how the mirror was filled.")?;
        stage.result(&format!(
            "{manifests} manifests and {blobs} blobs, every digest as pinned; signatures found: {signatures}"
        ))?;
        // With `--quiet`, the diff of the files isn't printed.
        if !start.global.quiet {
            exit = files::rewrite(&start.global, &config, &stage, &start.stop).await?;
        }
    }
    let installed = "\nA real mirror starts with three lines:\n\n\
         \x20 $EDITOR mirror.yaml  # as above\n\
         \x20 transship plan       # show the plan\n\
         \x20 transship sync       # copy the images";
    if !arguments.keep {
        stage.say(installed)?;
        source.stop().await;
        target.stop().await;
        return Ok(Shown { exit, registries: None });
    }
    stage.say(&format!("{installed}\n\nIn another terminal, try\n\n  transship plan -c {}\n", config.display()))?;
    stage.result(&format!("Kept: {}, and both registries until Ctrl-C.", folder.keep().display()))?;
    Ok(Shown { exit, registries: Some((source, target)) })
}

/// lock → plan → sync → sync → verify → an independent client. Ends at the first step that fails.
async fn tour(start: Start, config: &Path, stage: &Stage) -> anyhow::Result<(Exit, Option<Verified>)> {
    let mut global = start.global.clone();
    global.config = Some(config.to_owned());
    let start = Start { global: global.clone(), ..start };
    // The demo itself says what to run next.
    let show = |report: Report| print(&Report { command: "demo".to_owned(), ..report }, &global);

    stage.step(
        "1. transship lock",
        "Pins each tag to a digest. Sends HEADs, which Docker Hub doesn't count, and pulls one manifest: the index of the \
         image that is limited to some platforms.",
    )?;
    let exit = show(lock::run(start.clone(), &cli::Lock::default()).await?)?;
    if exit != Exit::Success {
        return Ok((exit, None));
    }
    stage.step("2. transship plan", "Shows what sync would do and what it would cost.")?;
    let exit = show(plan::run(start.clone(), &cli::Plan { bytes: true, ..cli::Plan::default() }).await?)?;
    if exit != Exit::Success {
        return Ok((exit, None));
    }
    stage.step("3. transship sync", "Copies the images. A layer that two images share is copied once.")?;
    let exit = show(sync::run(start.clone(), &cli::Sync::default()).await?)?;
    if exit != Exit::Success {
        return Ok((exit, None));
    }
    stage.step("4. transship sync, again", "Nothing to do.")?;
    let again = sync::run(start.clone(), &cli::Sync::default()).await?;
    let upstream = again.registries.iter().filter(|host| UPSTREAM.iter().any(|image| image.host == host.host));
    let asked: u64 = upstream.map(|host| host.requests).sum();
    let exit = show(again)?;
    stage.say(&format!("Requests to Docker Hub and Quay: {asked}"))?;
    if exit != Exit::Success {
        return Ok((exit, None));
    }
    stage.step("5. transship verify --content", "Compares every byte of the mirror with the lock.")?;
    let everything = cli::Verify { deep: true, content: true, extra: true, ..cli::Verify::default() };
    let exit = show(verify::run(start, &everything).await?)?;
    let pins = Lock::read(&std::fs::read_to_string(crate::lock::lock_path(config))?, config)?;
    Ok((exit, Some(read_back(&pins, config).await?)))
}

async fn fill(upstream: &Memory) -> anyhow::Result<()> {
    let inside = Options::default().registry;
    for image in &UPSTREAM {
        let repository = upstream.repository(&Repository::new(inside.clone(), image.path)?);
        images::publish(&repository, image).await?;
    }
    Ok(())
}

/// mirror.yaml as for the real Docker Hub and Quay, except for `endpoint`, which points to this machine.
fn list(source: &Registry, target: &Registry) -> String {
    let images = UPSTREAM.iter().map(|Image { host, path, tag, platforms, .. }| {
        let name = if *host == Registry::DOCKER_HUB {
            path.trim_start_matches("library/").into()
        } else {
            format!("{host}/{path}")
        };
        match platforms.is_empty() {
            true => format!("  - {name}:{tag}\n"),
            // Referrers of the whole image don't describe a subset.
            false => format!("  - {{image: \"{name}:{tag}\", platforms: [{platforms}], referrers: none}}\n"),
        }
    });
    format!(
        "target: {target}/mirror\nimages:\n{}registries:\n  docker.io: {{endpoint: \"http://{source}\"}}\n  \
         quay.io: {{endpoint: \"http://{source}\"}}\n",
        images.collect::<String>()
    )
}

/// The images that were read and verified.
#[derive(Debug, Default)]
struct Verified {
    manifests: usize,
    blobs: usize,
    signatures: usize,
}

/// Reads the mirror with the client of `oci-client`, which the rest of the program doesn't use.
async fn read_back(pins: &Lock, config: &Path) -> anyhow::Result<Verified> {
    let config = crate::config::Config::read(&std::fs::read_to_string(config)?, config, &super::session::variable)?;
    let client = Client::try_from(ClientConfig { protocol: ClientProtocol::Http, ..ClientConfig::default() })?;
    let mut verified = Verified::default();
    let mut seen = std::collections::HashSet::new();
    for Entry { rule, images, .. } in entries(&config.images, pins) {
        for image in images {
            let pin = image.pin.context("the lock has every image of the list")?;
            let (repository, tag) = (&rule.destinations[0], image.tag.context("the list names tags")?);
            let by_tag =
                OciReference::with_tag(repository.registry().to_string(), repository.path().into(), tag.to_string());
            let (_, digest) = client.pull_manifest_raw(&by_tag, &RegistryAuth::Anonymous, &[ACCEPT]).await?;
            anyhow::ensure!(
                digest == pin.target_digest().as_str(),
                "{by_tag} is {digest}, the lock pins {}",
                pin.target_digest()
            );
            read_graph(&client, repository, pin.target_digest(), &mut seen, &mut verified).await?;
            let name =
                OciReference::with_digest(repository.registry().to_string(), repository.path().into(), digest.clone());
            let listed = client.pull_referrers(&name, None).await?;
            for referrer in &pin.referrers {
                let is_listed = listed.manifests.iter().any(|entry| entry.digest == referrer.digest.as_str());
                anyhow::ensure!(is_listed, "{name} isn't listed with its signature {}", referrer.digest);
                read_graph(&client, repository, &referrer.digest, &mut seen, &mut verified).await?;
                verified.signatures += 1;
            }
        }
    }
    Ok(verified)
}

async fn read_graph(
    client: &Client,
    repository: &Repository,
    root: &Digest,
    seen: &mut std::collections::HashSet<(Repository, Digest)>,
    verified: &mut Verified,
) -> anyhow::Result<()> {
    let mut to_read = vec![Edge::Manifest(crate::oci::Descriptor {
        media_type: crate::oci::MediaType::OCI_INDEX.parse().map_err(anyhow::Error::msg)?,
        digest: root.clone(),
        size: 0,
    })];
    while let Some(edge) = to_read.pop() {
        let digest = edge.descriptor().digest.clone();
        if !seen.insert((repository.clone(), digest.clone())) {
            continue;
        }
        let name =
            OciReference::with_digest(repository.registry().to_string(), repository.path().into(), digest.to_string());
        let bytes = match edge {
            Edge::Manifest(_) => {
                let (bytes, _) = client.pull_manifest_raw(&name, &RegistryAuth::Anonymous, &[ACCEPT]).await?;
                let manifest = Manifest::new(digest.clone(), None, bytes.clone())?;
                to_read.extend(manifest.successors().iter().cloned());
                verified.manifests += 1;
                bytes.to_vec()
            }
            Edge::Blob(_) => {
                let mut bytes = Vec::new();
                client.pull_blob(&name, digest.as_str(), &mut bytes).await?;
                verified.blobs += 1;
                bytes
            }
        };
        anyhow::ensure!(digest.matches(&bytes), "{name} has different bytes");
    }
    Ok(())
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("  {line}\n")).collect()
}
