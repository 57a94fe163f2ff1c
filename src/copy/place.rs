//! Gets a blob to its target: it is already there, or it is mounted, or it is streamed.
//!
//! In a whole batch each blob is read from its source once and sent to each target registry once. The first image
//! that needs it leads: it streams the blob to its repository. The others wait, without a permit, and then mount it
//! from there, or read it from there if mounting is refused. The first image of another registry leads there, and
//! reads the blob from where it has arrived. If a leader fails, the next takes over. `holders` tracks who has what
//! and who waits for whom.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::Engine;
use super::holders::Claim;
use super::route::{self, Ask, Route};
use super::stream;
use crate::error::{Error, Kind, Result, Side};
use crate::oci::{Descriptor, Repository};
use crate::retry::Backoff;
use crate::store::{BlobStream, Mount, MountRule, Source, Upload};

/// From this size in bytes on, the target is always asked for a blob before it is sent, even if it seems to be
/// empty: compared with sending the blob, a request costs nothing.
const ALWAYS_ASK: u64 = 8 << 20;

/// The time to the first byte of a source while an upload waits for it.
const FIRST_BYTE: Duration = Duration::from_secs(5);

/// How a blob got to its target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Placed {
    Present,
    Mounted,
    Copied,
}

/// Gets `blob` to the target repository of `route`.
pub(super) async fn place(engine: &Engine, route: &Route, blob: &Descriptor, ask: Ask) -> Result<Placed> {
    let placed = obtain(engine, route, blob, ask).await;
    if !matches!(placed, Ok(Placed::Copied)) {
        engine.meter.settle(route, blob);
    }
    placed
}

async fn obtain(engine: &Engine, route: &Route, blob: &Descriptor, ask: Ask) -> Result<Placed> {
    let here = route.target_repository();
    let seems_empty = engine.empty_repositories.contains(here);
    let asks = match ask {
        Ask::IfLikely => !seems_empty,
        Ask::Always => true,
        Ask::Never => false,
    };
    if asks && route::has_blob(route, blob).await? {
        engine.holders.add(blob, here);
        return Ok(Placed::Present);
    }
    let mut rule = (ask != Ask::IfLikely).then_some(MountRule::Never);
    let sender_asks =
        ask == Ask::IfLikely && seems_empty && blob.size >= ALWAYS_ASK && !engine.empty_repositories.is_new(here);
    loop {
        let (donor, opened, _lead) = match engine.holders.claim(blob, route, rule) {
            Claim::Here => return Ok(Placed::Present),
            Claim::Failed(error) => return Err(error),
            Claim::AskRule => {
                rule = Some(route.target.mount_rule().await);
                continue;
            }
            Claim::Wait(mut change) => tokio::select! {
                // An error means that the leader has finished or failed.
                _ = change.changed() => continue,
                () = engine.stop.cancelled() => return Err(Error::interrupted()),
            },
            Claim::Mount(donor) => match try_mount(engine, route, blob, &donor).await? {
                Mount::Mounted => {
                    engine.holders.add(blob, here);
                    return Ok(Placed::Mounted);
                }
                Mount::Declined(upload) => (Some(donor), upload, None),
            },
            Claim::Read(donor) => (Some(donor), None, None),
            // The lead is held until the ledger records the blob.
            Claim::Lead(lead, donor) => (donor, None, Some(lead)),
        };
        let placed = match donor {
            _ if sender_asks && route::has_blob(route, blob).await? => {
                if let Some(upload) = opened {
                    cancel_upload(engine, route, upload).await;
                }
                Placed::Present
            }
            Some(donor) => read_back(engine, route, blob, &donor, opened).await?,
            None => fetch(engine, route, blob, ask).await?,
        };
        engine.holders.add(blob, here);
        return Ok(placed);
    }
}

/// Gets the blob from the source: by a mount if source and target are in the same registry, so that no bytes pass
/// through this machine.
async fn fetch(engine: &Engine, route: &Route, blob: &Descriptor, ask: Ask) -> Result<Placed> {
    let (from, to) = (route.source_repository(), route.target_repository());
    let may_mount = ask == Ask::IfLikely && from.registry() == to.registry() && from != to;
    let upload = match may_mount && route.target.mount_rule().await != MountRule::Never {
        true => match try_mount(engine, route, blob, from).await? {
            Mount::Mounted => return Ok(Placed::Mounted),
            Mount::Declined(upload) => upload,
        },
        false => None,
    };
    send_from_source(engine, route, blob, upload).await.map(|()| Placed::Copied)
}

/// Mounts the blob from `donor`, a repository of the same registry.
async fn try_mount(engine: &Engine, route: &Route, blob: &Descriptor, donor: &Repository) -> Result<Mount> {
    engine.check_stop()?;
    engine.quotas.begin(route)?;
    let mounted = route.target.mount(&blob.digest, donor).await;
    engine.quotas.learn(route, &mounted);
    if mounted.is_ok() {
        engine.writable.prove(route.target_repository());
    }
    match mounted {
        Ok(mount) => Ok(mount),
        // A full or denied quota applies to an upload, too.
        Err(error) if matches!(error.kind(), Kind::QuotaExceeded | Kind::Interrupted) => Err(error),
        // A mount only saves an upload, so any other failure leads to an upload.
        Err(error) => {
            tracing::debug!("{error}: uploading it instead");
            Ok(Mount::Declined(None))
        }
    }
}

/// Streams the blob from `donor`, where it has arrived. If `donor` can't serve it, the source is read a second
/// time, and the image doesn't fail.
async fn read_back(
    engine: &Engine,
    route: &Route,
    blob: &Descriptor,
    donor: &Repository,
    upload: Option<Upload>,
) -> Result<Placed> {
    // A registry that this run still pushes to is waited for in any case.
    let source = engine.stores.alternative(donor, engine.holders.is_open(donor.registry()))?;
    match send(engine, route, &source, blob, upload).await {
        Err(error) if error.side() == Some(Side::Source) => {
            tracing::debug!("{error}: reading it from the source");
            engine.holders.remove(blob, donor);
            send_from_source(engine, route, blob, None).await?;
        }
        sent => sent?,
    }
    Ok(Placed::Copied)
}

/// Streams `blob` from the source, once per run for all images: a failure of the source applies to all of them.
async fn send_from_source(engine: &Engine, route: &Route, blob: &Descriptor, upload: Option<Upload>) -> Result<()> {
    let sent = send(engine, route, &route.source, blob, upload).await;
    if let Err(error) = &sent
        && error.side() == Some(Side::Source)
        && error.kind() != Kind::Interrupted
    {
        engine.holders.fail(blob, route.source_repository(), error);
    }
    sent
}

/// Streams `blob` from `source` to the route's target, with a new upload each time either side breaks.
async fn send(
    engine: &Engine,
    route: &Route,
    source: &Arc<dyn Source>,
    blob: &Descriptor,
    mut opened: Option<Upload>,
) -> Result<()> {
    let mut tries = Backoff::default().tries();
    let (reached, mut renewed_at) = (Arc::new(AtomicU64::new(0)), 0);
    let mut is_reread = false;
    loop {
        let permit = engine.permit(blob).await?;
        engine.quotas.begin(route)?;
        let sent = send_once(engine, route, source, blob, (opened.take(), &reached)).await;
        drop(permit);
        engine.quotas.learn(route, &sent);
        let error = match sent {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        let is_elsewhere_now = is_damaged(&error) && source.distrust(&blob.digest);
        let may_reread = is_elsewhere_now || deserves_rereading(&error, &reached) && !is_reread;
        if may_reread && !engine.stop.is_cancelled() {
            tracing::debug!("reading it again from the start: {error}");
            is_reread |= !is_elsewhere_now;
            continue;
        }
        if reached.load(Ordering::Relaxed) >= renewed_at + stream::RENEWS {
            renewed_at = reached.load(Ordering::Relaxed);
            tries.renew();
        }
        tokio::select! {
            again = tries.again(error) => again?,
            () = engine.stop.cancelled() => return Err(Error::interrupted()),
        }
    }
}

/// Whether reading from the start may help: the bytes were damaged in transit, or the source can't resume in the
/// middle.
fn deserves_rereading(error: &Error, reached: &AtomicU64) -> bool {
    let is_stuck = error.kind() == Kind::Unavailable && error.is_final() && reached.load(Ordering::Relaxed) > 0;
    is_damaged(error) || error.side() == Some(Side::Source) && is_stuck
}

/// Whether the bytes don't match the digest.
fn is_damaged(error: &Error) -> bool {
    error.side() == Some(Side::Source) && error.kind() == Kind::Mismatch && !error.is_final()
}

/// One upload: the source and the upload are opened concurrently, then the bytes flow.
async fn send_once(
    engine: &Engine,
    route: &Route,
    source: &Arc<dyn Source>,
    blob: &Descriptor,
    (opened, reached): (Option<Upload>, &Arc<AtomicU64>),
) -> Result<()> {
    let opened = match opened {
        Some(upload) => Some(upload),
        None => {
            engine.writable.check(route).await?;
            engine.writable.take_opened(route.target_repository())
        }
    };
    let (upload, bytes) = open_both(engine, route, source, blob, opened).await?;
    let moving = engine.meter.begin(route, blob);
    let context = stream::ReadContext {
        moving: Arc::clone(&moving),
        reached: Arc::clone(reached),
        bandwidth: Arc::clone(&engine.bandwidth),
    };
    let body = stream::verified(Arc::clone(source), blob.clone(), bytes, context);
    let pushed = route.target.push_blob(upload.clone(), blob, body).await;
    match pushed {
        Ok(()) => moving.arrived(),
        Err(_) => cancel_upload(engine, route, upload).await,
    }
    pushed
}

/// Cancels an upload, at the end of the run if its host is in trouble now.
async fn cancel_upload(engine: &Engine, route: &Route, upload: Upload) {
    if let Some(upload) = route.target.abandon(upload).await {
        engine.writable.leave(route.target_repository(), upload);
    }
}

/// Opens an upload and the bytes for it. Some sources scan for viruses and withhold the first byte for minutes; no
/// upload stays open that long.
async fn open_both(
    engine: &Engine,
    route: &Route,
    source: &Arc<dyn Source>,
    blob: &Descriptor,
    opened: Option<Upload>,
) -> Result<(Upload, BlobStream)> {
    let upload = async {
        match opened {
            Some(upload) => Ok(upload),
            None => route.target.open_upload().await,
        }
    };
    let mut opening = std::pin::pin!(stream::open(source, blob));
    let (upload, bytes) = tokio::join!(upload, tokio::time::timeout(FIRST_BYTE, &mut opening));
    let upload = upload?;
    match bytes {
        Ok(Ok(bytes)) => Ok((upload, bytes)),
        Ok(Err(error)) => {
            cancel_upload(engine, route, upload).await;
            Err(error)
        }
        Err(_late) => {
            cancel_upload(engine, route, upload).await;
            let bytes = opening.await?;
            Ok((route.target.open_upload().await?, bytes))
        }
    }
}

impl Engine {
    /// A stop takes effect before a blob is begun, never within one.
    pub(super) fn check_stop(&self) -> Result<()> {
        if self.stop.is_cancelled() { Err(Error::interrupted()) } else { Ok(()) }
    }

    async fn permit(&self, blob: &Descriptor) -> Result<super::permits::Permit> {
        tokio::select! {
            biased;
            () = self.stop.cancelled() => Err(Error::interrupted()),
            permit = self.permits.acquire(blob) => Ok(permit),
        }
    }
}
