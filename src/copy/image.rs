//! Copies one image: its content, then the referrers of that content, and its tag last. The tag is therefore never
//! visible without the content and the signatures.

use std::sync::Arc;

use super::Engine;
use super::empty;
use super::foreign;
use super::pulls::ImagePulls;
use super::read::{self, Reading};
use super::referrer_set::ReferrerSet;
use super::referrers::{self, CopiedReferrers};
use super::route::Ask;
use super::route::Route;
use super::walk;
use crate::error::{Error, Kind, Result, Side, Stage};
use crate::oci::{Algorithm, Digest, Manifest, Selector};
use crate::plan::{Action, ReferrerPolicy, Transfer};
use crate::report::{Bytes, ReferrerOutcome, Status};
use crate::store::PullTurn;

/// The result of copying an image.
pub(super) struct Copied {
    pub(super) bytes: Bytes,
    /// The only digest that the target knows it by, if that isn't the pinned one.
    pub(super) known_as: Option<Digest>,
}

/// Executes `transfer`. `rows` receives the outcome of each referrer, also if the image fails.
pub(super) async fn copy_image(
    engine: &Arc<Engine>,
    route: &Arc<Route>,
    transfer: &Transfer,
    turn: PullTurn,
    rows: &mut Vec<ReferrerOutcome>,
) -> Result<Copied> {
    match transfer.action {
        Action::Copy | Action::Tag => copy_whole(engine, route, transfer, turn, rows).await,
        _ => {
            let bytes = copy_late_referrers(engine, route, transfer, turn, rows).await?;
            Ok(Copied { bytes, known_as: transfer.known_as.clone() })
        }
    }
}

/// Copies the image to the target and sets its tag.
async fn copy_whole(
    engine: &Arc<Engine>,
    route: &Arc<Route>,
    transfer: &Transfer,
    turn: PullTurn,
    rows: &mut Vec<ReferrerOutcome>,
) -> Result<Copied> {
    let is_known = route.source.cached_manifest(&transfer.root.digest).await.is_some();
    let mut pulls = ImagePulls::begin(engine, route, transfer, turn).await?;
    let root = match read::root_without_pull(engine, route, transfer).await? {
        Some(root) => root,
        None => {
            if transfer.action == Action::Copy && route.source.meters_pulls() {
                engine.writable.check(route).await?;
            }
            pulls.reserve_root(route, &transfer.root).await?;
            read::load_root(engine, route, transfer).await?
        }
    };
    engine.nearby.spread(&root, &engine.holders);
    let is_new = transfer.action == Action::Copy;
    let mut sets_found = None;
    if pulls.are_limited() {
        let sets = sets(engine, route, transfer, &root).await?;
        let takes_some = pulls.reserve_rest(engine, route, Some(&root).filter(|_| is_new), &sets).await?;
        if is_new && takes_some {
            engine.writable.check(route).await?;
        }
        sets_found = Some(sets);
    }
    if is_new {
        empty::find_out(engine, route, &root, is_known).await?;
    }
    let content = async {
        match is_new {
            true => {
                foreign::check(engine, route, &root, transfer.handling.foreign).await?;
                walk::copy_children(engine, route, &root, 0, Ask::IfLikely).await
            }
            false => Ok(Bytes::default()),
        }
    };
    let sets = async {
        match sets_found {
            Some(sets) => Ok(sets),
            None => sets(engine, route, transfer, &root).await,
        }
    };
    let (content, sets) = if requires(transfer) {
        let sets = sets.await?;
        require_some(engine, transfer, &sets)?;
        (content.await, Ok(sets))
    } else {
        tokio::join!(content, sets)
    };
    let (mut tally, sets) = (content?, sets?);
    let absent = Some(&root).filter(|_| is_new);
    let copied = referrers::copy_all(engine, route, transfer, absent, sets, true, rows).await?;
    require_arrived(transfer, &copied, rows)?;
    tally += copied.bytes;
    let Some(tag) = &transfer.tag else {
        // Everything below it is there and counted.
        let (_, bytes) = walk::copy_node(engine, route, &root).await?;
        return Ok(Copied { bytes: tally + Bytes { present: 0, ..bytes }, known_as: None });
    };
    let known_as = push_by_own_digest(engine, route, &root).await?;
    let (_, repaired) = walk::push(engine, route, &root, &Selector::Tag(tag.clone()), 0).await?;
    Ok(Copied { bytes: tally + repaired, known_as })
}

/// Pushes the root by its digest before its tag, for registries that don't make a tagged manifest available by
/// digest. Returns the digest under which the target stores it, if it doesn't accept this one.
async fn push_by_own_digest(engine: &Arc<Engine>, route: &Arc<Route>, root: &Arc<Manifest>) -> Result<Option<Digest>> {
    if root.digest().algorithm() == Algorithm::Sha256 {
        return Ok(None);
    }
    match walk::copy_node(engine, route, root).await {
        Ok(_) => Ok(None),
        Err(error) if error.is_refusal() && error.side() == Some(Side::Target) => {
            tracing::info!("{error}; it is pushed by tag only");
            Ok(Some(Digest::of(root.bytes())))
        }
        Err(error) => Err(error),
    }
}

/// Copies new referrers of an image whose tag is right.
async fn copy_late_referrers(
    engine: &Arc<Engine>,
    route: &Arc<Route>,
    transfer: &Transfer,
    turn: PullTurn,
    rows: &mut Vec<ReferrerOutcome>,
) -> Result<Bytes> {
    let mut sets = vec![referrers::of_root(transfer, transfer.action == Action::UpToDate)];
    if transfer.follow {
        match parts_without_pull(engine, route, transfer).await? {
            Some(parts) => {
                sets.extend(referrers::find(engine, route, transfer, &parts).await?);
                require_some(engine, transfer, &sets)?;
            }
            None => {
                tracing::debug!("{}: skipping referrer refresh: reading its index would cost a pull", transfer.source);
            }
        }
    }
    let mut pulls = ImagePulls::begin(engine, route, transfer, turn).await?;
    pulls.reserve_rest(engine, route, None, &sets).await?;
    let copied = referrers::copy_all(engine, route, transfer, None, sets, transfer.follow, rows).await?;
    require_arrived(transfer, &copied, rows).map(|()| copied.bytes)
}

/// The manifests that an image at the target consists of, if they can be read without a metered pull.
async fn parts_without_pull(
    engine: &Arc<Engine>,
    route: &Arc<Route>,
    transfer: &Transfer,
) -> Result<Option<Vec<Digest>>> {
    if !transfer.root.media_type.is_index() {
        return Ok(Some(Vec::new()));
    }
    match read::load_landed(engine, route, transfer).await? {
        Some(root) => read::parts(engine, route, &root, Reading::Free).await.map(Some),
        None => Ok(None),
    }
}

/// The referrers of the root, from the lock, and of its parts, from the source.
async fn sets(
    engine: &Arc<Engine>,
    route: &Arc<Route>,
    transfer: &Transfer,
    root: &Manifest,
) -> Result<Vec<ReferrerSet>> {
    let mut sets = vec![referrers::of_root(transfer, false)];
    if transfer.handling.referrers.policy != ReferrerPolicy::None {
        let parts = read::parts(engine, route, root, Reading::Sparing).await?;
        sets.extend(referrers::find(engine, route, transfer, &parts).await?);
    }
    Ok(sets)
}

fn requires(transfer: &Transfer) -> bool {
    transfer.handling.referrers.policy == ReferrerPolicy::Require
}

/// Fails an image that requires a referrer and has none, before anything is sent.
fn require_some(engine: &Engine, transfer: &Transfer, sets: &[ReferrerSet]) -> Result<()> {
    if !requires(transfer) || sets.iter().any(|set| !set.members.is_empty()) {
        return Ok(());
    }
    if let Some(withheld) = engine.finder.withheld(transfer.source.repository()) {
        return Err(withheld.at(Stage::Copy));
    }
    let types = transfer.handling.referrers.artifact_types.join(", ");
    let of = if types.is_empty() { String::new() } else { format!(" of type {types}") };
    let why = format!("referrers: require, but nothing{of} refers to it or to its members");
    let hint = if transfer.mirrored.is_some() {
        "referrers of the whole image don't cover a subset: mirror all platforms, or set referrers: all"
    } else if types.is_empty() {
        "was it signed after it was pinned? Then run `transship sync --update`. Otherwise set referrers: all for it"
    } else {
        "was it signed after it was pinned? Then run `transship sync --update`. Do the artifact_types: name what its \
         publisher signs with? Otherwise set referrers: all for it"
    };
    let error = Error::new(Kind::NotFound, format!("mirror {}", transfer.source), why).with_hint(hint);
    Err(error.on(Side::Source).at(Stage::Copy))
}

/// Fails an image that requires a referrer if the target accepted none, unless it keeps other content in place of one.
fn require_arrived(transfer: &Transfer, copied: &CopiedReferrers, rows: &[ReferrerOutcome]) -> Result<()> {
    let arrived = copied.kept || rows.iter().any(|row| matches!(row.status, Status::Copied | Status::UpToDate));
    let why_not = rows.iter().find_map(|row| row.error.clone());
    if !requires(transfer) || arrived || rows.is_empty() {
        return Ok(());
    }
    let attempted = format!("mirror {}", transfer.source);
    let why = "referrers: require, but the target accepted none";
    let error = why_not.unwrap_or_else(|| Error::new(Kind::NotFound, attempted, why).on(Side::Source));
    Err(error.at(Stage::Copy))
}
