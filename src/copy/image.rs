//! One image, in the order in which nobody ever sees its tag without its content or without its signatures: what it
//! consists of, what refers to that, and the tag at last.

use std::sync::Arc;

use super::Engine;
use super::family::Family;
use super::foreign;
use super::place::Ask;
use super::read::{self, Reading};
use super::referrers::{self, Brought};
use super::vacancy;
use super::walk::{self, Route};
use crate::error::{Error, Kind, Result, Side, Stage};
use crate::oci::{Digest, Manifest, Selector};
use crate::plan::{Action, ReferrerPolicy, Transfer};
use crate::report::{Bytes, ReferrerOutcome, Status};

/// Does what `transfer` says. `rows` tell of each referrer what became of it, also if the image fails.
pub(super) async fn bring(
    engine: &Arc<Engine>,
    route: &Arc<Route>,
    transfer: &Transfer,
    rows: &mut Vec<ReferrerOutcome>,
) -> Result<Bytes> {
    match transfer.action {
        Action::Copy | Action::Tag => bring_whole(engine, route, transfer, rows).await,
        _ => bring_late(engine, route, transfer, rows).await,
    }
}

/// Brings the image to the target and sets its tag.
async fn bring_whole(
    engine: &Arc<Engine>,
    route: &Arc<Route>,
    transfer: &Transfer,
    rows: &mut Vec<ReferrerOutcome>,
) -> Result<Bytes> {
    let is_known = route.source.at_hand(&transfer.root.digest).await.is_some();
    let root = read::load_root(engine, route, transfer).await?;
    let is_new = transfer.action == Action::Copy;
    if is_new {
        vacancy::find_out(engine, route, &root, is_known).await?;
    }
    let content = async {
        match is_new {
            true => {
                foreign::check(engine, route, &root, transfer.handling.foreign).await?;
                walk::bring_successors(engine, route, &root, 0, Ask::IfLikely).await
            }
            false => Ok(Bytes::default()),
        }
    };
    let families = families(engine, route, transfer, &root);
    let (content, families) = if requires(transfer) {
        let families = families.await?;
        require_some(transfer, &families)?;
        (content.await, Ok(families))
    } else {
        tokio::join!(content, families)
    };
    let (mut tally, families) = (content?, families?);
    let absent = Some(&root).filter(|_| is_new);
    let brought = referrers::bring(engine, route, transfer, absent, families, true, rows).await?;
    require_arrived(transfer, &brought, rows)?;
    tally += brought.bytes;
    match &transfer.tag {
        Some(tag) => {
            let name = Selector::Tag(tag.clone());
            walk::push(engine, route, &root, &name, 0).await.map(|(_, repaired)| tally + repaired)
        }
        // What is below it is there and counted.
        None => walk::bring_node(engine, route, &root).await.map(|(_, bytes)| tally + Bytes { present: 0, ..bytes }),
    }
}

/// Brings what has come to refer to an image whose tag is right.
async fn bring_late(
    engine: &Arc<Engine>,
    route: &Arc<Route>,
    transfer: &Transfer,
    rows: &mut Vec<ReferrerOutcome>,
) -> Result<Bytes> {
    let mut families = vec![referrers::of_root(transfer, transfer.action == Action::UpToDate)];
    if transfer.follow {
        match parts_for_nothing(engine, route, transfer).await? {
            Some(parts) => {
                families.extend(referrers::find(engine, route, transfer, &parts).await?);
                require_some(transfer, &families)?;
            }
            None => tracing::debug!("{}: its index can't be read for nothing, so it isn't followed", transfer.source),
        }
    }
    let brought = referrers::bring(engine, route, transfer, None, families, transfer.follow, rows).await?;
    require_arrived(transfer, &brought, rows).map(|()| brought.bytes)
}

/// What an image at the target consists of, where that can be read without a pull that counts.
async fn parts_for_nothing(
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

/// What refers to the root, as the lock has it, and to what it consists of, as the source has it.
async fn families(
    engine: &Arc<Engine>,
    route: &Arc<Route>,
    transfer: &Transfer,
    root: &Manifest,
) -> Result<Vec<Family>> {
    let mut families = vec![referrers::of_root(transfer, false)];
    if transfer.handling.referrers.policy != ReferrerPolicy::None {
        let parts = read::parts(engine, route, root, Reading::Sparing).await?;
        families.extend(referrers::find(engine, route, transfer, &parts).await?);
    }
    Ok(families)
}

fn requires(transfer: &Transfer) -> bool {
    transfer.handling.referrers.policy == ReferrerPolicy::Require
}

/// An image without any referrer fails before anything of it is sent, if it must have one.
fn require_some(transfer: &Transfer, families: &[Family]) -> Result<()> {
    if !requires(transfer) || families.iter().any(|family| !family.members.is_empty()) {
        return Ok(());
    }
    let types = transfer.handling.referrers.artifact_types.join(", ");
    let of = if types.is_empty() { String::new() } else { format!(" of type {types}") };
    let why = format!("referrers: require, but nothing{of} refers to it or to what it consists of");
    let hint = if transfer.mirrored.is_some() {
        "what refers to the whole image doesn't count for some of its platforms: mirror all of them, or set referrers: all"
    } else if types.is_empty() {
        "was it signed after it was pinned? Then run `transship sync --update`. Else set referrers: all for it"
    } else {
        "was it signed after it was pinned? Then run `transship sync --update`. Do the artifact_types: name what its \
         publisher signs with? Else set referrers: all for it"
    };
    let error = Error::new(Kind::NotFound, format!("mirror {}", transfer.source), why).with_hint(hint);
    Err(error.on(Side::Source).at(Stage::Copy))
}

/// An image fails if it must have a referrer, and the target took none of them and keeps nothing in place of one.
fn require_arrived(transfer: &Transfer, brought: &Brought, rows: &[ReferrerOutcome]) -> Result<()> {
    let arrived = brought.kept || rows.iter().any(|row| matches!(row.status, Status::Copied | Status::UpToDate));
    let why_not = rows.iter().find_map(|row| row.error.clone());
    if !requires(transfer) || arrived || rows.is_empty() {
        return Ok(());
    }
    let attempted = format!("mirror {}", transfer.source);
    let why = "referrers: require, but none that refers to it has arrived at the target";
    let error = why_not.unwrap_or_else(|| Error::new(Kind::NotFound, attempted, why).on(Side::Source));
    Err(error.at(Stage::Copy))
}
