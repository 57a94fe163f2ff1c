//! `copy SRC DST`: copies one image with the same engine, without a lock.

use super::Unable;
use super::plan::{warn_of_subsets, warn_of_untagged};
use super::session::{Session, Start, read_config, variable};
use crate::cli::{self, Global};
use crate::config::{Config, Handling, ImageRule, ReferrerPolicy, ReferrerRule, Settings, Wanted};
use crate::error::{Result, Stage, unless_stopped};
use crate::lock::{Lock, LockedImage};
use crate::oci::{Descriptor, Location, Platform, Reference, Registry, Repository, Tag};
use crate::plan::{Planned, Prefetch};
use crate::progress::Task;
use crate::report::{Outcome, Report};
use crate::resolve::{Resolution, narrow};
use crate::select::Only;
use std::collections::BTreeMap;

pub(super) async fn run(start: Start, arguments: &cli::Copy) -> anyhow::Result<Report> {
    let origin = origin(&arguments.source)?;
    let destination = destination(&arguments.target)?;
    let platforms = platforms(&arguments.platforms)?;
    let hosts = [origin.registry().clone(), destination.registry().clone()];
    let settings = settings(&start.global, &hosts)?;
    let mut session = start.with(Vec::new(), settings, hosts.into(), None);
    session.prepare()?;
    let referrers = ReferrerRule { policy: policy(arguments.referrers), ..ReferrerRule::default() };
    let handling = Handling { platforms, referrers, ..Handling::default() };
    let pinned = match session.unusable_target(destination.registry()).await {
        Some(error) => Err(error),
        None => {
            session.progress.begin(Task::Resolve, &[origin.to_string()]);
            let pinned = pin(&session, &origin, &handling).await;
            session.progress.end();
            pinned
        }
    };
    let (source, image) = match pinned {
        Ok(pinned) => pinned,
        Err(error) => {
            let mut report = session.report("copy");
            report.outcomes.push(Outcome::unresolved(origin.to_string(), error));
            return Ok(session.finish("copy", report));
        }
    };
    let (target, tag) = destination.of(&source)?;
    let wanted = Wanted::Digest(image.digest.clone(), tag);
    let mut rule = ImageRule::new(source.repository().clone(), wanted, vec![target]);
    rule.handling = handling;
    session.images.push(rule);
    let mut lock = Lock::default();
    lock.pin(image);
    let resolution = Resolution { lock, failed: BTreeMap::new(), ..Resolution::default() };
    let mut plan = session.plan((None, &resolution), &Only::default(), Prefetch::nothing(), true, false).await;
    for planned in &mut plan.images {
        match planned {
            Planned::Image(transfer) => transfer.source = source.clone(),
            Planned::Failed { source: named, .. } => *named = source.to_string(),
        }
    }
    warn_of_untagged(&plan, "give DST a tag");
    warn_of_subsets(&plan);
    let report = session.execute(plan).await;
    session.bound_cache(&Lock::default());
    Ok(session.finish("copy", report))
}

/// The settings of mirror.yaml, if it exists. A file given by `--config` must exist.
fn settings(global: &Global, hosts: &[Registry]) -> anyhow::Result<Settings> {
    let path = global.config();
    if global.config.is_none() && !path.try_exists().unwrap_or(true) {
        return Ok(Settings::default());
    }
    let text = read_config(path)?;
    Ok(Config::read_settings(&text, path, hosts, &variable)?)
}

/// SRC, parsed.
enum Origin {
    Registry(Reference),
    Layout { layout: Registry, wanted: Option<String> },
}

fn origin(text: &str) -> anyhow::Result<Origin> {
    Ok(match text.parse()? {
        Location::Registry(text) => Origin::Registry(text.parse()?),
        Location::Layout { layout, reference: wanted } => Origin::Layout { layout, wanted },
    })
}

impl Origin {
    fn registry(&self) -> &Registry {
        match self {
            Self::Registry(reference) => reference.repository().registry(),
            Self::Layout { layout, .. } => layout,
        }
    }
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Registry(reference) => reference.fmt(f),
            Self::Layout { layout, wanted: None } => layout.fmt(f),
            Self::Layout { layout, wanted: Some(wanted) } => write!(f, "{layout}:{wanted}"),
        }
    }
}

fn platforms(texts: &[String]) -> anyhow::Result<Vec<Platform>> {
    let read = |text: &String| text.parse().map_err(|why| Unable::error(why, "such as --platform linux/arm64"));
    let mut platforms = texts.iter().map(read).collect::<anyhow::Result<Vec<Platform>>>()?;
    platforms.sort();
    platforms.dedup();
    Ok(platforms)
}

fn policy(word: cli::Referrers) -> ReferrerPolicy {
    match word {
        cli::Referrers::All => ReferrerPolicy::All,
        cli::Referrers::None => ReferrerPolicy::None,
        cli::Referrers::Require => ReferrerPolicy::Require,
    }
}

/// Resolves SRC: its name, its pin by digest, and its referrers. All of them describe the whole image, never a subset.
async fn pin(session: &Session, origin: &Origin, handling: &Handling) -> Result<(Reference, LockedImage)> {
    let rule = &handling.referrers;
    let pinned = async {
        let (source, root) = find(session, origin).await?;
        let store = session.stores.source(source.repository())?;
        let image = narrow(&*store, LockedImage::new(source.clone(), &root), handling).await?;
        let found = match rule.policy {
            ReferrerPolicy::All | ReferrerPolicy::Require if image.mirrored.is_none() => {
                session.finder.find(source.repository(), std::slice::from_ref(&root.digest)).await?
            }
            _ => Vec::new(),
        };
        Ok((source, image, found))
    };
    let pinned = unless_stopped(&session.stop, pinned).await;
    let (source, pinned, found) = pinned.map_err(|error| error.at(Stage::Resolve))?;
    let referrers = found.iter().flat_map(|found| &found.referrers);
    let referrers = referrers.filter(|referrer| rule.wants(referrer)).cloned().collect();
    let by_digest = Reference::digested(source.repository().clone(), pinned.digest.clone());
    Ok((source, LockedImage { source: by_digest, referrers, ..pinned }))
}

async fn find(session: &Session, origin: &Origin) -> Result<(Reference, Descriptor)> {
    match origin {
        Origin::Layout { layout, wanted } => session.layouts.choose(layout, wanted.as_deref()).await,
        Origin::Registry(source) => {
            let root = session.stores.source(source.repository())?.resolve(&source.selector()).await?;
            Ok((source.clone(), root))
        }
    }
}

/// DST, parsed: a repository, or a whole layout, where images keep the name of SRC.
enum Destination {
    Repository(Repository, Option<Tag>),
    Layout(Registry),
}

/// `REGISTRY/REPOSITORY[:TAG]`, whose first segment is always the registry, or `oci:DIR[:REFERENCE]`.
fn destination(text: &str) -> anyhow::Result<Destination> {
    let example = "such as harbor.example.com/mirror/nginx:1.27";
    if let Location::Layout { layout, reference } = text.parse()? {
        let Some(reference) = reference else { return Ok(Destination::Layout(layout)) };
        let (repository, tag, digest) = Repository::called(&layout, &reference)?;
        if digest.is_some() {
            let hint = "DST is oci:DIR[:REFERENCE], such as oci:images:nginx:1.27";
            return Err(Unable::error(format!("`{text}` is a digest, not a tag"), hint));
        }
        return Ok(Destination::Repository(repository, tag));
    }
    let Some((registry, rest)) = text.split_once('/') else {
        return Err(Unable::error(
            format!("`{text}` has no registry"),
            format!("DST is REGISTRY/REPOSITORY[:TAG], {example}"),
        ));
    };
    let (path, tag) = rest.split_once(':').map_or((rest, None), |(path, tag)| (path, Some(tag)));
    let tag = tag.map(str::parse).transpose()?;
    Ok(Destination::Repository(Repository::new(registry.parse()?, path)?, tag))
}

impl Destination {
    fn registry(&self) -> &Registry {
        match self {
            Self::Repository(repository, _) => repository.registry(),
            Self::Layout(layout) => layout,
        }
    }

    /// The destination of `source`. Parts that DST omits are taken from SRC.
    fn of(self, source: &Reference) -> anyhow::Result<(Repository, Option<Tag>)> {
        match self {
            Self::Repository(repository, tag) => Ok((repository, tag.or_else(|| source.tag().cloned()))),
            Self::Layout(layout) => {
                let from = source.repository();
                let is_whole = from.registry().keeps_source_names();
                let name = if is_whole { from.path().to_owned() } else { from.to_string() };
                Ok((Repository::new(layout, &name)?, source.tag().cloned()))
            }
        }
    }
}
