//! `check`: verifies what a sync needs, for each host and each repository, before anything is copied.
//!
//! It sends the same requests as a run, through the same code: for each image its pin or name, for its referrers every
//! method of listing them, and one blob if that costs no pull. At a target it opens an upload and cancels it. It
//! creates nothing and leaves nothing behind.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use futures::StreamExt as _;
use futures::future::join_all;

use super::session::{Session, Start};
use crate::cli;
use crate::config::{ImageRule, ReferrerPolicy};
use crate::desired::{Entry, Image, entries};
use crate::error::{Error, Kind, Result, unless_stopped};
use crate::lock::Lock;
use crate::oci::{Descriptor, Digest, Edge, Registry, Repository, Selector, bounds};
use crate::progress::{Finished, Step, Task};
use crate::provision::Unprovable;
use crate::referrers::Found;
use crate::registry::{Host, Login, Probe};
use crate::report::{Check, Proof, Report, Right};
use crate::resolve::named;
use crate::select::Only;
use crate::store::Held;

/// The number of repositories of one host to check at once.
const QUESTIONS: usize = 16;

pub(super) async fn run(start: Start, arguments: &cli::Check) -> anyhow::Result<Report> {
    let (session, pins) = start.session()?;
    let only = session.only(&arguments.selection.only, &pins.old)?;
    warn_of_unused(&session);
    let hosts = needs(&session.images, &pins.old, &only);
    let repositories = hosts.iter().flat_map(|(_, needs)| needs.keys().map(|(repository, _)| repository.to_string()));
    session.progress.begin(Task::Check, &repositories.collect::<Vec<_>>());
    let checks = join_all(hosts.iter().map(|(registry, needs)| check_host(&session, registry, needs))).await;
    session.progress.end();
    let mut report = session.report("check");
    report.checks = Some(checks.concat());
    Ok(session.finish("check", report))
}

/// How a run uses a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Role {
    Source,
    Target,
}

/// Warns of settings for hosts that aren't in use: often the host is misspelled.
fn warn_of_unused(session: &Session) {
    for host in &session.unused {
        let used = session.used.iter().filter(|used| used.is_host());
        let nearest = used.min_by_key(|used| strsim::damerau_levenshtein(used.as_str(), host.as_str()));
        let hint = nearest.map(|nearest| format!("the nearest host in use is {nearest}"));
        tracing::warn!(hint, "registries.{host}: no image and no target uses it");
    }
}

/// What a run needs, by repository.
type Needs = BTreeMap<(Repository, Role), Need>;

/// What a run requests from a repository.
#[derive(Debug, Default)]
struct Need {
    /// The tags and digests to read or push. Empty if no tag has been selected yet.
    names: Vec<Selector>,
    /// Whether referrers are requested. `requires_referrers`: each image must have one.
    wants_referrers: bool,
    requires_referrers: bool,
}

impl Need {
    fn add(&mut self, name: Option<Selector>, policy: ReferrerPolicy) {
        self.names.extend(name.filter(|name| !self.names.contains(name)));
        self.wants_referrers |= policy != ReferrerPolicy::None;
        self.requires_referrers |= policy == ReferrerPolicy::Require;
    }
}

/// What a run needs from each host: sources in the order of the list, then targets.
fn needs(images: &[ImageRule], lock: &Lock, only: &Only) -> Vec<(Registry, Needs)> {
    let (mut sources, mut targets) = (Vec::new(), Vec::new());
    for Entry { rule, images, .. } in entries(images, lock) {
        let policy = rule.handling.referrers.policy;
        if images.is_empty() && only.may_match(&rule.repository) {
            sources.push((&rule.repository, None, policy));
            targets.extend(rule.destinations.iter().map(|target| (target, None, policy)));
        }
        for Image { source, tag, pin } in images.into_iter().filter(|image| only.matches(&image.source)) {
            let read = pin.map_or_else(|| source.selector(), |pin| Selector::Digest(pin.digest.clone()));
            let untagged = pin.map_or_else(|| source.selector(), |pin| Selector::Digest(pin.target_digest().clone()));
            let set = tag.map_or(untagged, Selector::Tag);
            sources.push((&rule.repository, Some(read), policy));
            targets.extend(rule.destinations.iter().map(|target| (target, Some(set.clone()), policy)));
        }
    }
    let mut hosts: Vec<(Registry, Needs)> = Vec::new();
    for (role, needed) in [(Role::Source, sources), (Role::Target, targets)] {
        for (repository, name, policy) in needed {
            let known = hosts.iter().position(|(host, _)| host == repository.registry());
            let at = known.unwrap_or_else(|| {
                hosts.push((repository.registry().clone(), Needs::new()));
                hosts.len() - 1
            });
            hosts[at].1.entry((repository.clone(), role)).or_default().add(name, policy);
        }
    }
    hosts
}

/// Checks one host. A failed connection or login is reported once, not for each repository.
async fn check_host(session: &Session, registry: &Registry, needs: &Needs) -> Vec<Check> {
    if let Some(directory) = registry.directory() {
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
        Err(error) => return failed_proof(error).map(|proof| about(Right::Connect, None, proof)).into_iter().collect(),
    };
    let scheme = if host.base().scheme() == "https" { "TLS" } else { "plain HTTP" };
    let mut checks = vec![about(Right::Connect, None, Proof::Holds(Some(scheme.to_owned())))];
    let probes = logins(session, &host, needs).await;
    let several = probes.len() > 1;
    let mut may_go_on = false;
    for Probe { repository, login, account } in probes {
        may_go_on |= login.is_ok();
        let version = match login {
            Ok(Login::Accepted) => host.system_info(repository.path()).await.harbor_version,
            _ => None,
        };
        let proof = login.map_or_else(failed_proof, |login| Some(logged_in(login, account, version)));
        checks.extend(proof.map(|proof| about(Right::Login, Some(&repository).filter(|_| several), proof)));
    }
    if may_go_on {
        let proofs = check_repositories(session, needs).await;
        checks.extend(proofs.into_iter().map(|(repository, right, proof)| about(right, Some(&repository), proof)));
    }
    checks
}

/// Checks a layout. One check covers all images, because a layout is one directory.
async fn check_layout(session: &Session, layout: &Registry, directory: &Path, needs: &Needs) -> Vec<Check> {
    let about = |right, proof| Check { host: layout.to_string(), repository: None, right, proof };
    if !tokio::fs::try_exists(directory).await.unwrap_or(true) {
        let why =
            "the directory doesn't exist yet, and sync will create it: this can't be verified without creating it";
        return vec![about(Right::Create, Proof::Unknown { why: why.to_owned(), hint: None })];
    }
    let Some(((repository, _), need)) = needs.iter().next() else { return Vec::new() };
    let proofs = check_target(session, repository, &need.names).await;
    proofs.into_iter().map(|(right, proof)| about(right, proof)).collect()
}

async fn logins(session: &Session, host: &Host, needs: &Needs) -> Vec<Probe> {
    let repositories: Vec<Repository> = needs.keys().map(|(repository, _)| repository.clone()).collect();
    session.stop.run_until_cancelled(host.probe_logins(&repositories)).await.unwrap_or_default()
}

/// The proof of a login; `version` is the version of a Harbor.
fn logged_in(login: Login, account: Option<String>, version: Option<String>) -> Proof {
    let note = match login {
        Login::Accepted => {
            let notes = account
                .map(|account| format!("as {account}"))
                .into_iter()
                .chain(version.map(|version| format!("Harbor {version}")));
            Some(notes.collect::<Vec<_>>().join("; ")).filter(|notes| !notes.is_empty())
        }
        Login::Anonymous => Some("anonymous: there are no credentials for it".to_owned()),
        Login::Unasked => {
            let whose = account.map_or_else(|| "those given".to_owned(), |account| format!("those of {account}"));
            let why = format!("it asks for no credentials, so {whose} couldn't be tried");
            return Proof::Unknown { why, hint: None };
        }
    };
    Proof::Holds(note)
}

/// A failed proof; `None` if the run was interrupted.
fn failed_proof(error: Error) -> Option<Proof> {
    (error.kind() != Kind::Interrupted).then_some(Proof::Fails(error))
}

type Proofs = Vec<(Repository, Right, Proof)>;

async fn check_repositories(session: &Session, needs: &Needs) -> Proofs {
    let targets: Vec<Repository> =
        needs.keys().filter(|(_, role)| *role == Role::Target).map(|(repository, _)| repository.clone()).collect();
    let missing = session.stop.run_until_cancelled(session.provisioners.missing(&targets)).await;
    let missing: BTreeMap<Repository, Result<bool>> = missing.into_iter().flatten().collect();
    let checked = needs.iter().map(|((repository, role), need)| {
        let missing = &missing;
        async move {
            let name = repository.to_string();
            session.progress.step(&name, Step::Started);
            let proofs = match (role, missing.get(repository)) {
                (Role::Source, _) => check_source(session, repository, need).await,
                (Role::Target, Some(Ok(false))) => check_target(session, repository, &need.names).await,
                (Role::Target, Some(Ok(true))) => vec![(Right::Create, check_creation(session, repository).await)],
                (Role::Target, Some(Err(error))) => {
                    failed_proof(error.clone()).map(|proof| (Right::Create, proof)).into_iter().collect()
                }
                (Role::Target, None) => Vec::new(),
            };
            session.progress.finished(&name, Finished::well("checked"));
            proofs.into_iter().map(|(right, proof)| (repository.clone(), right, proof)).collect::<Vec<_>>()
        }
    });
    let checked: Vec<Proofs> = futures::stream::iter(checked).buffered(QUESTIONS).boxed().collect().await;
    checked.concat()
}

/// Checks the images of a source: one line for the repository, and one for each image that isn't available.
async fn check_source(session: &Session, repository: &Repository, need: &Need) -> Vec<(Right, Proof)> {
    if need.names.is_empty() {
        let why = "no tag of it is pinned yet, so there is none to check".to_owned();
        let hint = Some("run `transship lock` first, then check again".to_owned());
        return vec![(Right::Pull, Proof::Unknown { why, hint })];
    }
    let heads = need.names.iter().map(|name| async {
        let head = async { named(&*session.stores.source(repository)?, name).await };
        let answer = unless_stopped(&session.stop, head).await;
        answer.map_err(
            |error| if matches!(name, Selector::Digest(_)) { explain_missing_pin(repository, error) } else { error },
        )
    });
    let (found, failed): (Vec<_>, Vec<_>) = join_all(heads).await.into_iter().partition(Result::is_ok);
    let found: Vec<Descriptor> = found.into_iter().filter_map(Result::ok).collect();
    let mut proofs: Vec<Proof> = failed.into_iter().filter_map(Result::err).filter_map(failed_proof).collect();
    if let Some(root) = found.first() {
        let blob = unless_stopped(&session.stop, check_blob(session, repository, &root.digest)).await;
        proofs.extend(blob.err().and_then(failed_proof));
        if need.wants_referrers {
            let digests: Vec<Digest> = found.iter().map(|found| found.digest.clone()).collect();
            let referrers = unless_stopped(&session.stop, session.finder.find(repository, &digests)).await;
            proofs.extend(
                referrers.map_or_else(failed_proof, |referrers| referrers_proof(repository, need, &found, &referrers)),
            );
        }
    }
    if proofs.is_empty() {
        proofs.push(Proof::Holds(None));
    }
    proofs.into_iter().map(|proof| (Right::Pull, proof)).collect()
}

/// The proof for the `referrers` of `images`; `None` if they are as expected.
fn referrers_proof(
    repository: &Repository,
    need: &Need,
    images: &[Descriptor],
    referrers: &[Arc<Found>],
) -> Option<Proof> {
    let unsigned =
        images.iter().zip(referrers).find(|(_, found)| need.requires_referrers && found.referrers.is_empty());
    if let Some((image, found)) = unsigned
        && (found.withheld.is_some() || !image.media_type.is_index())
    {
        let attempted = format!("find referrers of {} in {repository}", image.digest);
        let none = || {
            Error::new(Kind::NotFound, attempted, "referrers: require, but it has no referrers")
                .with_hint("set referrers: all for it, or remove it until it is signed")
        };
        return Some(Proof::Fails(found.withheld.clone().unwrap_or_else(none)));
    }
    let refusal = referrers.iter().find_map(|found| found.withheld.clone())?;
    let hint = refusal.hint().map(ToOwned::to_owned);
    Some(Proof::Unknown { why: format!("can't tell whether its images have referrers: {refusal}"), hint })
}

/// Checks that the source serves the first blob of the image `root`, if no manifest on the way to it costs a pull. The
/// bytes aren't read.
async fn check_blob(session: &Session, repository: &Repository, root: &Digest) -> Result<()> {
    let source = session.stores.source(repository)?;
    let mut digest = root.clone();
    for _ in 0..=bounds::DEPTH {
        let manifest = match source.cached_manifest(&digest).await {
            Some(manifest) => manifest,
            None if source.meters_pulls() => return Ok(()),
            None => source.manifest(&digest).await?,
        };
        match manifest.successors().first() {
            Some(Edge::Blob(blob)) => return source.blob(blob, 0).await.map(drop),
            Some(Edge::Manifest(child)) => digest = child.digest.clone(),
            None => return Ok(()),
        }
    }
    Ok(())
}

/// `error`, with advice if the pinned image is no longer upstream.
fn explain_missing_pin(repository: &Repository, error: Error) -> Error {
    if error.kind() != Kind::NotFound {
        return error;
    }
    let why = format!("the pinned manifest is no longer upstream: {}", error.why());
    error
        .reclassified(Kind::NotFound, why)
        .with_hint(format!("run `transship update {repository}` to pin what is upstream now"))
}

/// Checks a target. A missing tag is expected before the first sync; a refusal isn't.
async fn check_target(session: &Session, repository: &Repository, names: &[Selector]) -> Vec<(Right, Proof)> {
    let mut proofs = Vec::new();
    if let Some(name) = names.first() {
        let head = async { session.stores.target(repository)?.held(name).await };
        let proof = match unless_stopped(&session.stop, head).await {
            Ok(Held::Withheld(error)) => Some(Proof::Holds(Some(error.why().to_owned()))),
            Ok(Held::Unknown(error)) => {
                let why = format!("{error}; its content is unknown, so sync pushes it");
                Some(Proof::Unknown { why, hint: None })
            }
            Ok(Held::Nothing | Held::Manifest(_)) => Some(Proof::Holds(None)),
            Err(error) => failed_proof(error),
        };
        proofs.extend(proof.map(|proof| (Right::Pull, proof)));
    }
    if !session.stop.is_cancelled() {
        // This isn't interrupted, so that an opened upload is always cancelled.
        let opened = async {
            let target = session.stores.target(repository)?;
            let upload = target.open_upload().await?;
            target.cancel_upload(upload).await
        };
        let proof = opened.await.map_or_else(failed_proof, |()| Some(Proof::Holds(None)));
        proofs.extend(proof.map(|proof| (Right::Push, proof)));
    }
    proofs
}

async fn check_creation(session: &Session, repository: &Repository) -> Proof {
    match session.provisioners.check_creation(repository).await {
        Err(error) => Proof::Fails(error),
        Ok(None) => Proof::Holds(None),
        Ok(Some(Unprovable { why, hint })) => Proof::Unknown { why, hint },
    }
}
