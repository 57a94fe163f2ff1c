//! `copy SRC DST`: one image, the same engine, no lock.

use super::Unable;
use super::plan::warn_of_subsets;
use super::session::{Session, Start, read_config, variable};
use crate::cli::{self, Global};
use crate::config::{Config, Handling, ImageRule, ReferrerPolicy, ReferrerRule, Settings, Wanted};
use crate::error::{Result, Side, Stage, unless_stopped};
use crate::lock::{Lock, LockedImage};
use crate::oci::{Platform, Reference, Registry, Repository, Tag};
use crate::plan::Planned;
use crate::report::{Outcome, Report};
use crate::resolve::{Resolution, narrow};
use crate::select::Only;
use std::collections::BTreeMap;

pub(super) async fn run(start: Start, arguments: &cli::Copy) -> anyhow::Result<Report> {
    let source: Reference = arguments.source.parse()?;
    let (target, tag) = destination(&arguments.target, &source)?;
    let platforms = platforms(&arguments.platforms)?;
    let hosts = [source.repository().registry().clone(), target.registry().clone()];
    let settings = settings(&start.global, &hosts)?;
    let mut session = start.with(Vec::new(), settings);
    let referrers = ReferrerRule { policy: policy(arguments.referrers), ..ReferrerRule::default() };
    let handling = Handling { platforms, referrers, ..Handling::default() };
    let lock = match pin(&session, &source, &handling).await {
        Ok(image) => {
            let wanted = Wanted::Digest(image.digest.clone(), tag);
            let mut rule = ImageRule::new(source.repository().clone(), wanted, vec![target]);
            rule.handling = handling;
            session.images.push(rule);
            let mut lock = Lock::default();
            lock.pin(image);
            lock
        }
        Err(error) => {
            let mut report = session.report("copy");
            report.outcomes.push(Outcome::unresolved(source.to_string(), error));
            return Ok(session.finish("copy", report));
        }
    };
    let resolution = Resolution { lock, failed: BTreeMap::new(), ..Resolution::default() };
    let mut plan = session.plan(&resolution, &Only::default(), false).await;
    for planned in &mut plan.images {
        if let Planned::Image(transfer) = planned {
            transfer.source = source.clone();
        }
    }
    warn_of_subsets(&plan);
    let report = session.execute(plan).await;
    Ok(session.finish("copy", report))
}

/// The settings of mirror.yaml, if there is one; of another file that was named, there has to be one.
fn settings(global: &Global, hosts: &[Registry]) -> anyhow::Result<Settings> {
    let path = global.config();
    if global.config.is_none() && !path.try_exists().unwrap_or(true) {
        return Ok(Settings::default());
    }
    let text = read_config(path)?;
    Ok(Config::read_settings(&text, path, hosts, &variable)?)
}

/// `REGISTRY/REPOSITORY[:TAG]`: the first segment is always the registry; without tag it takes SRC's.
fn destination(text: &str, source: &Reference) -> anyhow::Result<(Repository, Option<Tag>)> {
    let example = "such as harbor.example.com/mirror/nginx:1.27";
    let Some((registry, rest)) = text.split_once('/') else {
        return Err(Unable::error(
            format!("`{text}` has no registry"),
            format!("DST is REGISTRY/REPOSITORY[:TAG], {example}"),
        ));
    };
    let (path, tag) = rest.split_once(':').map_or((rest, None), |(path, tag)| (path, Some(tag)));
    let registry: Registry = registry.parse()?;
    let tag = match tag {
        Some(tag) => Some(tag.parse()?),
        None => source.tag().cloned(),
    };
    Ok((Repository::new(registry, path)?, tag))
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

/// What SRC names now, by its digest, and what refers to it. None of that is about a part of it.
async fn pin(session: &Session, source: &Reference, handling: &Handling) -> Result<LockedImage> {
    let (repository, rule) = (source.repository(), &handling.referrers);
    let asked = async {
        let store = session.stores.source(repository)?;
        let root = store.resolve(&source.selector()).await?;
        let pinned = narrow(&*store, LockedImage::new(source.clone(), &root), &handling.platforms).await?;
        let found = match rule.policy {
            ReferrerPolicy::All | ReferrerPolicy::Require if pinned.mirrored.is_none() => {
                session.finder.find(repository, std::slice::from_ref(&root.digest)).await?
            }
            _ => Vec::new(),
        };
        Ok((pinned, found))
    };
    let asked = unless_stopped(&session.stop, asked).await;
    let (pinned, found) = asked.map_err(|error| error.on(Side::Source).at(Stage::Resolve))?;
    let referrers = found.iter().flat_map(|found| &found.referrers);
    let referrers = referrers.filter(|referrer| rule.wants(referrer)).cloned().collect();
    let source = Reference::digested(repository.clone(), pinned.digest.clone());
    Ok(LockedImage { source, referrers, ..pinned })
}
