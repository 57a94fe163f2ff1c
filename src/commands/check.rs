//! `check`: proves what can be proved of a sync before anything is copied, host by host and repository by repository.
//!
//! Nothing is resolved: the questions are HEADs of what the lock pins or the list names. At a target an upload is opened
//! and given up again; nothing is created, and nothing stays.

use std::collections::BTreeMap;
use std::path::Path;

use futures::StreamExt as _;
use futures::future::join_all;

use super::session::{Session, Start};
use crate::cli;
use crate::config::ImageRule;
use crate::desired::{Entry, Image, entries};
use crate::error::{Error, Kind, Result, unless_stopped};
use crate::lock::Lock;
use crate::oci::{Registry, Repository, Selector};
use crate::progress::Task;
use crate::provision::Doubt;
use crate::registry::{Host, Login, Probe};
use crate::report::{Check, Proof, Report, Right};
use crate::select::Only;
use crate::store::Held;

/// Repositories of one host that are asked about at once.
const QUESTIONS: usize = 16;

pub(super) async fn run(start: Start, arguments: &cli::Check) -> anyhow::Result<Report> {
    let (session, pins) = start.session()?;
    let only = session.only(&arguments.selection.only, &pins.old)?;
    let hosts = needs(&session.images, &pins.old, &only);
    session.progress.begin(Task::Check, session.images.len(), None);
    let checks = join_all(hosts.iter().map(|(registry, needs)| check_host(&session, registry, needs))).await;
    session.progress.end();
    let mut report = session.report("check");
    report.checks = Some(checks.concat());
    Ok(session.finish("check", report))
}

/// What a run will do with a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Role {
    Source,
    Target,
}

/// The names under which images are read or set, by repository. None where a selection has picked no tags yet.
type Needs = BTreeMap<(Repository, Role), Vec<Selector>>;

/// What is needed of each host: of sources in the order of the list, then of targets.
fn needs(images: &[ImageRule], lock: &Lock, only: &Only) -> Vec<(Registry, Needs)> {
    let (mut sources, mut targets) = (Vec::new(), Vec::new());
    for Entry { rule, images, .. } in entries(images, lock) {
        if images.is_empty() && only.may_match(&rule.repository) {
            sources.push((&rule.repository, None));
            targets.extend(rule.destinations.iter().map(|target| (target, None)));
        }
        for Image { source, tag, pin } in images.into_iter().filter(|image| only.matches(&image.source)) {
            let read = pin.map_or_else(|| source.selector(), |pin| Selector::Digest(pin.digest.clone()));
            let untagged = pin.map_or_else(|| source.selector(), |pin| Selector::Digest(pin.target_digest().clone()));
            let set = tag.map_or(untagged, Selector::Tag);
            sources.push((&rule.repository, Some(read)));
            targets.extend(rule.destinations.iter().map(|target| (target, Some(set.clone()))));
        }
    }
    let mut hosts: Vec<(Registry, Needs)> = Vec::new();
    for (role, needed) in [(Role::Source, sources), (Role::Target, targets)] {
        for (repository, name) in needed {
            let known = hosts.iter().position(|(host, _)| host == repository.registry());
            let at = known.unwrap_or_else(|| {
                hosts.push((repository.registry().clone(), Needs::new()));
                hosts.len() - 1
            });
            let names = hosts[at].1.entry((repository.clone(), role)).or_default();
            names.extend(name.filter(|name| !names.contains(name)));
        }
    }
    hosts
}

/// Who can't connect or log in needn't hear the same of each repository.
async fn check_host(session: &Session, registry: &Registry, needs: &Needs) -> Vec<Check> {
    if let Some(directory) = registry.layout() {
        return check_layout(session, registry, directory, needs).await;
    }
    let about = |right, repository: Option<&Repository>, proof: Proof| Check {
        host: registry.to_string(),
        repository: repository.map(|repository| repository.path().to_owned()),
        right,
        proof,
    };
    let host = async {
        let host = session.hosts.host(registry)?;
        host.probe_connection().await.map(|()| host)
    };
    let host = match unless_stopped(&session.stop, host).await {
        Ok(host) => host,
        Err(error) => return fails(error).map(|proof| about(Right::Connect, None, proof)).into_iter().collect(),
    };
    let scheme = if host.base().scheme() == "https" { "TLS" } else { "plain HTTP" };
    let mut checks = vec![about(Right::Connect, None, Proof::Holds(Some(scheme.to_owned())))];
    let probes = logins(session, &host, needs).await;
    let several = probes.len() > 1;
    let mut may_go_on = false;
    for Probe { repository, login } in probes {
        may_go_on |= login.is_ok();
        let version = match login {
            Ok(Login::Accepted) => host.system_info(repository.path()).await.harbor_version,
            _ => None,
        };
        let proof = login.map_or_else(fails, |login| Some(logged_in(login, version)));
        checks.extend(proof.map(|proof| about(Right::Login, Some(&repository).filter(|_| several), proof)));
    }
    if may_go_on {
        let proofs = check_repositories(session, needs).await;
        checks.extend(proofs.into_iter().map(|(repository, right, proof)| about(right, Some(&repository), proof)));
    }
    checks
}

/// One question tells it of all: what is in a layout is in one directory.
async fn check_layout(session: &Session, layout: &Registry, directory: &Path, needs: &Needs) -> Vec<Check> {
    let about = |right, proof| Check { host: layout.to_string(), repository: None, right, proof };
    if !tokio::fs::try_exists(directory).await.unwrap_or(true) {
        let why = "the directory doesn't exist yet, and sync will make it: whether it may isn't provable before";
        return vec![about(Right::Create, Proof::Unknown { why: why.to_owned(), hint: None })];
    }
    let Some(((repository, _), names)) = needs.iter().next() else { return Vec::new() };
    let proofs = check_target(session, repository, names).await;
    proofs.into_iter().map(|(right, proof)| about(right, proof)).collect()
}

async fn logins(session: &Session, host: &Host, needs: &Needs) -> Vec<Probe> {
    let repositories: Vec<Repository> = needs.keys().map(|(repository, _)| repository.clone()).collect();
    session.stop.run_until_cancelled(host.probe_logins(&repositories)).await.unwrap_or_default()
}

/// `version` is that of a Harbor.
fn logged_in(login: Login, version: Option<String>) -> Proof {
    let note = match login {
        Login::Accepted => version.map(|version| format!("Harbor {version}")),
        Login::Anonymous => Some("anonymous: there are no credentials for it".to_owned()),
        Login::Unasked => {
            let why = "it asks for no credentials, so that those given could not be tried".to_owned();
            return Proof::Unknown { why, hint: None };
        }
    };
    Proof::Holds(note)
}

/// An error as a proof; none if it only says that the run was asked to stop.
fn fails(error: Error) -> Option<Proof> {
    (error.kind() != Kind::Interrupted).then_some(Proof::Fails(error))
}

type Proofs = Vec<(Repository, Right, Proof)>;

async fn check_repositories(session: &Session, needs: &Needs) -> Proofs {
    let targets: Vec<Repository> =
        needs.keys().filter(|(_, role)| *role == Role::Target).map(|(repository, _)| repository.clone()).collect();
    let missing = session.stop.run_until_cancelled(session.provisioners.missing(&targets)).await;
    let missing: BTreeMap<Repository, Result<bool>> = missing.into_iter().flatten().collect();
    let checked = needs.iter().map(|((repository, role), names)| {
        let missing = &missing;
        async move {
            let proofs = match (role, missing.get(repository)) {
                (Role::Source, _) => check_source(session, repository, names).await,
                (Role::Target, Some(Ok(false))) => check_target(session, repository, names).await,
                (Role::Target, Some(Ok(true))) => vec![(Right::Create, may_create(session, repository).await)],
                (Role::Target, Some(Err(error))) => {
                    fails(error.clone()).map(|proof| (Right::Create, proof)).into_iter().collect()
                }
                (Role::Target, None) => Vec::new(),
            };
            proofs.into_iter().map(|(right, proof)| (repository.clone(), right, proof)).collect::<Vec<_>>()
        }
    });
    let checked: Vec<Proofs> = futures::stream::iter(checked).buffered(QUESTIONS).collect().await;
    checked.concat()
}

/// One line for all images of a repository, or one for each that can't be had.
async fn check_source(session: &Session, repository: &Repository, names: &[Selector]) -> Vec<(Right, Proof)> {
    if names.is_empty() {
        let why = "no tag of it is picked yet, so that there is none to ask for".to_owned();
        let hint = Some("run `transship lock` first, then check again".to_owned());
        return vec![(Right::Pull, Proof::Unknown { why, hint })];
    }
    let heads = names.iter().map(|name| async {
        let head = async { session.stores.source(repository)?.resolve(name).await };
        let answer = unless_stopped(&session.stop, head).await;
        answer
            .map_err(|error| if matches!(name, Selector::Digest(_)) { gone_upstream(repository, error) } else { error })
    });
    let answers = join_all(heads).await;
    let failed: Vec<_> = answers.into_iter().filter_map(Result::err).collect();
    if failed.is_empty() {
        return vec![(Right::Pull, Proof::Holds(None))];
    }
    failed.into_iter().filter_map(fails).map(|proof| (Right::Pull, proof)).collect()
}

/// What is pinned may be upstream no more.
fn gone_upstream(repository: &Repository, error: Error) -> Error {
    if error.kind() != Kind::NotFound {
        return error;
    }
    let why = format!("what is pinned is no longer upstream: {}", error.why());
    error
        .reclassified(Kind::NotFound, why)
        .with_hint(format!("run `transship update {repository}` to pin what is upstream now"))
}

/// That a tag isn't there is what a first sync expects; a refusal isn't.
async fn check_target(session: &Session, repository: &Repository, names: &[Selector]) -> Vec<(Right, Proof)> {
    let mut proofs = Vec::new();
    if let Some(name) = names.first() {
        let head = async { session.stores.target(repository)?.held(name).await };
        let proof = match unless_stopped(&session.stop, head).await {
            Ok(Held::Withheld(error)) => Some(Proof::Holds(Some(error.why().to_owned()))),
            Ok(Held::Unknown(error)) => {
                let why = format!("{error}; what it holds isn't known, so sync sends it");
                Some(Proof::Unknown { why, hint: None })
            }
            Ok(Held::Nothing | Held::Manifest(_)) => Some(Proof::Holds(None)),
            Err(error) => fails(error),
        };
        proofs.extend(proof.map(|proof| (Right::Pull, proof)));
    }
    if !session.stop.is_cancelled() {
        // Not to be stopped in between: what was opened is given up.
        let opened = async {
            let target = session.stores.target(repository)?;
            target.abandon(target.open_upload().await?).await;
            Ok(())
        };
        let proof = opened.await.map_or_else(fails, |()| Some(Proof::Holds(None)));
        proofs.extend(proof.map(|proof| (Right::Push, proof)));
    }
    proofs
}

async fn may_create(session: &Session, repository: &Repository) -> Proof {
    match session.provisioners.prospect(repository).await {
        Err(error) => Proof::Fails(error),
        Ok(None) => Proof::Holds(None),
        Ok(Some(Doubt { why, hint })) => Proof::Unknown { why, hint },
    }
}
