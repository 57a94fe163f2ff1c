//! `quota`: what is left of the sources' pull quotas, for each account. Costs no pull.

use futures::future::join_all;

use super::session::{Session, Start};
use crate::config::ImageRule;
use crate::desired::{Entry, entries};
use crate::error::{Result, Stage, unless_stopped};
use crate::lock::Lock;
use crate::oci::{Registry, Repository, Selector};
use crate::report::{AccountQuota, Quota, Report};

pub(super) async fn run(start: Start) -> anyhow::Result<Report> {
    let (session, pins) = start.session()?;
    session.prepare()?;
    let sources = sources(&session.images, &pins.old);
    let asked = join_all(sources.iter().map(|(registry, names)| ask_host(&session, registry, names))).await;
    let mut report = session.report("quota");
    report.quotas = Some(asked.concat());
    Ok(session.finish("quota", report))
}

/// A manifest of each repository, to send a HEAD for.
type Names = Vec<(Repository, Selector)>;

/// The repositories of each registry, in the order of the list, each with a known image.
fn sources(images: &[ImageRule], lock: &Lock) -> Vec<(Registry, Names)> {
    let mut hosts: Vec<(Registry, Names)> = Vec::new();
    for Entry { rule, images, .. } in entries(images, lock) {
        let registry = rule.repository.registry();
        let Some(image) = images.first().filter(|_| registry.is_host()) else { continue };
        let name = image.pin.map_or_else(|| image.source.selector(), |pin| Selector::Digest(pin.digest.clone()));
        let at = hosts.iter().position(|(host, _)| host == registry).unwrap_or_else(|| {
            hosts.push((registry.clone(), Names::new()));
            hosts.len() - 1
        });
        hosts[at].1.push((rule.repository.clone(), name));
    }
    hosts
}

/// One row for each account. Its repositories are queried in turn until one reports the quota: some are exempt.
async fn ask_host(session: &Session, registry: &Registry, names: &Names) -> Vec<AccountQuota> {
    let mut rows: Vec<AccountQuota> = Vec::new();
    for (repository, name) in names {
        let found = ask(session, registry, repository, name, &rows).await;
        let found = found.unwrap_or_else(|error| Some(AccountQuota::unknown(registry, error)));
        let Some(found) = found else { continue };
        match rows.iter_mut().find(|row| row.account == found.account && row.error.is_some() == found.error.is_some()) {
            Some(row) if row.quota.is_some() || found.quota.is_none() => {}
            Some(row) => *row = found,
            None => rows.push(found),
        }
    }
    // Rows with errors are dropped if another row has a quota.
    if rows.iter().any(|row| row.error.is_none()) {
        rows.retain(|row| row.error.is_none());
    }
    rows
}

/// `None` if the account's quota is known already, or if the host is known to have none.
async fn ask(
    session: &Session,
    registry: &Registry,
    repository: &Repository,
    name: &Selector,
    so_far: &[AccountQuota],
) -> Result<Option<AccountQuota>> {
    let host = session.hosts.host(registry)?;
    let known = host.account_quota(repository.path()).await;
    let told = so_far.iter().find(|row| row.error.is_none() && row.account == known.user);
    if told.is_some_and(|row| row.quota.is_some() || !host.meters_pulls()) {
        return Ok(None);
    }
    let question = async { session.stores.source(repository)?.resolve(name).await };
    let answer = unless_stopped(&session.stop, question).await;
    let known = host.account_quota(repository.path()).await;
    if known.quota.is_none() {
        answer.map_err(|error| error.at(Stage::Resolve))?;
    }
    let quota = known.quota.map(|quota| Quota {
        limit: quota.limit,
        remaining: quota.remaining,
        window_seconds: quota.window_seconds,
    });
    Ok(Some(AccountQuota {
        host: registry.to_string(),
        account: known.user,
        counted: known.counted,
        quota,
        error: None,
    }))
}
