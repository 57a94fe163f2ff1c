//! How a blob gets to where it is needed: it is there, it is mounted, or it is streamed.
//!
//! Over the whole batch each blob leaves the upstream once, and enters each target registry once. Whoever needs it first
//! leads: it streams the blob to its own repository. The others wait, without a permit, and then mount it from there, or
//! read it from there where mounting is refused. The first of another registry leads there in its turn, and reads the blob
//! where it has arrived. If a leader fails, the next takes over. Who has what and waits for whom is in `holders`.

use std::sync::Arc;
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable as _};

use super::Engine;
use super::holders::Claim;
use super::stream;
use super::walk::{self, Route};
use crate::error::{Error, Result, Side};
use crate::oci::{Descriptor, Repository};
use crate::store::{Mount, Source, Upload};

/// From this size on the target is asked whether it has a blob even where it seems to hold nothing: asking costs nothing
/// beside sending it again.
const ALWAYS_ASK: u64 = 8 << 20;

/// How a blob came to be where it is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Placed {
    Present,
    Mounted,
    Copied,
}

/// Whether to ask the target before sending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ask {
    /// Where something can be there.
    IfLikely,
    /// In any case: the target has said that something is missing.
    Always,
}

/// Brings `blob` to the target repository of `route`.
pub(super) async fn place(engine: &Engine, route: &Route, blob: &Descriptor, ask: Ask) -> Result<Placed> {
    let here = route.target_repository();
    let vacancies = &engine.vacancies;
    let likely = !vacancies.is_vacant(here) || blob.size >= ALWAYS_ASK && !vacancies.is_new(here);
    if (ask == Ask::Always || likely) && walk::has_blob(route, blob).await? {
        engine.holders.add(blob, here);
        return Ok(Placed::Present);
    }
    let mut rule = None;
    loop {
        // The lead is kept until the ledger knows that the blob is here.
        let (placed, _lead) = match engine.holders.claim(blob, here, rule) {
            Claim::Here => return Ok(Placed::Present),
            Claim::AskRule => {
                rule = Some(route.target.mount_rule().await);
                continue;
            }
            Claim::Wait(mut change) => tokio::select! {
                // An error says that who was to bring it is done, one way or the other.
                _ = change.changed() => continue,
                () = engine.stop.cancelled() => return Err(Error::interrupted()),
            },
            Claim::Mount(donor) => (mount(engine, route, blob, &donor).await?, None),
            Claim::Read(donor) => (read_back(engine, route, blob, &donor, None).await?, None),
            Claim::Lead(lead, Some(donor)) => (read_back(engine, route, blob, &donor, None).await?, Some(lead)),
            Claim::Lead(lead, None) => {
                send(engine, route, &route.source, blob, None).await?;
                (Placed::Copied, Some(lead))
            }
        };
        engine.holders.add(blob, here);
        return Ok(placed);
    }
}

/// Mounts the blob from `donor`, a repository of the same registry, or reads it there where that is refused.
async fn mount(engine: &Engine, route: &Route, blob: &Descriptor, donor: &Repository) -> Result<Placed> {
    engine.check_stop()?;
    engine.quotas.begin(route)?;
    let mounted = route.target.mount(&blob.digest, donor).await.map_err(|error| error.on(Side::Target));
    engine.quotas.learn(route, &mounted);
    match mounted? {
        Mount::Mounted => Ok(Placed::Mounted),
        Mount::Declined(upload) => read_back(engine, route, blob, donor, upload).await,
    }
}

/// Streams the blob from `donor`, where it has arrived. If that can't give it back, this costs the upstream a second read,
/// and not the image.
async fn read_back(
    engine: &Engine,
    route: &Route,
    blob: &Descriptor,
    donor: &Repository,
    upload: Option<Upload>,
) -> Result<Placed> {
    let donor: Arc<dyn Source> = engine.stores.source(donor)?;
    match send(engine, route, &donor, blob, upload).await {
        Err(error) if error.side() == Some(Side::Source) => send(engine, route, &route.source, blob, None).await?,
        sent => sent?,
    }
    Ok(Placed::Copied)
}

/// Streams `blob` from `source` to the route's target, trying anew from a fresh upload when either side breaks.
async fn send(
    engine: &Engine,
    route: &Route,
    source: &Arc<dyn Source>,
    blob: &Descriptor,
    mut opened: Option<Upload>,
) -> Result<()> {
    let mut attempts = 0;
    let attempt = || {
        attempts += 1;
        let opened = opened.take();
        async move {
            let permit = engine.permit(route.place(), blob.size).await?;
            engine.quotas.begin(route)?;
            let sent = send_once(engine, route, source, blob, opened).await;
            drop(permit);
            engine.quotas.learn(route, &sent);
            sent
        }
    };
    let backoff = ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(200))
        .with_max_delay(Duration::from_secs(8))
        .with_max_times(4)
        .with_jitter();
    let sent = attempt
        .retry(backoff)
        .when(|error: &Error| error.kind().retry() && !engine.stop.is_cancelled())
        .adjust(|error, delay| delay.map(|delay| error.retry_after().unwrap_or(delay)))
        .await;
    sent.map_err(|error| if error.attempts() > attempts { error } else { error.with_attempts(attempts) })
}

/// One upload: the source and the upload are opened side by side, then the bytes flow.
async fn send_once(
    engine: &Engine,
    route: &Route,
    source: &Arc<dyn Source>,
    blob: &Descriptor,
    opened: Option<Upload>,
) -> Result<()> {
    let upload = async {
        match opened {
            Some(upload) => Ok(upload),
            None => route.target.open_upload().await,
        }
    };
    let (upload, stream) = tokio::join!(upload, source.blob(&blob.digest, 0));
    let upload = upload.map_err(|error| error.on(Side::Target))?;
    let stream = match stream {
        Ok(stream) => stream,
        Err(error) => {
            route.target.abandon(upload).await;
            return Err(error.on(Side::Source));
        }
    };
    let body = stream::verified(Arc::clone(source), blob.clone(), stream, Arc::clone(&engine.progress));
    let pushed = route.target.push_blob(upload.clone(), blob, body).await;
    if pushed.is_err() {
        route.target.abandon(upload).await;
    }
    pushed.map_err(|error| error.on(Side::Target))
}

impl Engine {
    /// The stop is heard before a blob is begun, never within one.
    pub(super) fn check_stop(&self) -> Result<()> {
        if self.stop.is_cancelled() { Err(Error::interrupted()) } else { Ok(()) }
    }

    async fn permit(&self, place: usize, size: u64) -> Result<super::permits::Permit> {
        tokio::select! {
            biased;
            () = self.stop.cancelled() => Err(Error::interrupted()),
            permit = self.permits.acquire(place, size) => Ok(permit),
        }
    }
}
