//! How a blob gets to where it is needed: it is there, it is mounted, or it is streamed.
//!
//! Over the whole batch each blob leaves the upstream once, and enters each target registry once. Whoever needs it first
//! leads: it streams the blob to its own repository. The others wait, without a permit, and then mount it from there, or
//! read it from there where mounting is refused. The first of another registry leads there in its turn, and reads the blob
//! where it has arrived. If a leader fails, the next takes over.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable as _};
use tokio::sync::watch;

use super::Engine;
use super::stream;
use super::walk::Route;
use crate::error::{Error, Result, Side};
use crate::oci::{Descriptor, Digest, Registry, Repository};
use crate::store::{Mount, Source, Upload};

/// From this size on the target is asked whether it has a blob even where a listing says that nothing is there: what an
/// interrupted run left behind has no tag yet, and asking costs nothing beside sending it again.
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

/// Which target repositories have which blob, and who is bringing it.
#[derive(Debug, Default)]
pub(super) struct Holders(Mutex<HashMap<Key, Held>>);

/// A manifest that gives a blob another size than the rest do is wrong, and must not profit from what these brought.
type Key = (Digest, u64);

#[derive(Debug, Default)]
struct Held {
    at: Vec<Repository>,
    /// Who is bringing it to each registry.
    coming: Vec<(Registry, watch::Receiver<()>)>,
}

/// What there is to do for a blob.
enum Claim<'a> {
    /// Its registry lacks it: stream it, from a repository of another registry if one has it, else from upstream.
    Lead(Lead<'a>, Option<Repository>),
    /// Somebody brings it: wait.
    Wait(watch::Receiver<()>),
    /// A repository of the same registry has it.
    Near(Repository),
    /// It is there.
    Here,
}

/// The duty to bring a blob; dropping it lets the next take over.
struct Lead<'a> {
    holders: &'a Holders,
    blob: Descriptor,
    registry: Registry,
    /// Dropped with the lead, which wakes all who wait.
    _done: watch::Sender<()>,
}

impl Holders {
    pub(super) fn add(&self, blob: &Descriptor, repository: &Repository) {
        self.with(blob, |held| {
            if !held.at.contains(repository) {
                held.at.push(repository.clone());
            }
        });
    }

    pub(super) fn remove(&self, blob: &Descriptor, repository: &Repository) {
        self.with(blob, |held| held.at.retain(|at| at != repository));
    }

    fn claim(&self, blob: &Descriptor, here: &Repository) -> Claim<'_> {
        let registry = here.registry();
        self.with(blob, |held| {
            if held.at.contains(here) {
                return Claim::Here;
            }
            if let Some(donor) = held.at.iter().find(|at| at.registry() == registry) {
                return Claim::Near(donor.clone());
            }
            // While nobody has it, whoever fetches it from upstream fetches it for all registries.
            let mut coming = held.coming.iter();
            if let Some((_, coming)) = coming.find(|(to, _)| to == registry || held.at.is_empty()) {
                return Claim::Wait(coming.clone());
            }
            let (done, coming) = watch::channel(());
            held.coming.push((registry.clone(), coming));
            let lead = Lead { holders: self, blob: blob.clone(), registry: registry.clone(), _done: done };
            Claim::Lead(lead, held.at.first().cloned())
        })
    }

    fn with<T>(&self, blob: &Descriptor, act: impl FnOnce(&mut Held) -> T) -> T {
        let mut map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        act(map.entry((blob.digest.clone(), blob.size)).or_default())
    }
}

impl Drop for Lead<'_> {
    fn drop(&mut self) {
        self.holders.with(&self.blob, |held| held.coming.retain(|(to, _)| *to != self.registry));
    }
}

/// Brings `blob` to the target repository of `route`.
pub(super) async fn place(engine: &Engine, route: &Route, blob: &Descriptor, ask: Ask) -> Result<Placed> {
    let here = route.target_repository();
    let likely = blob.size >= ALWAYS_ASK || !engine.vacant.contains(here);
    if (ask == Ask::Always || likely) && is_present(route, blob).await? {
        engine.holders.add(blob, here);
        return Ok(Placed::Present);
    }
    loop {
        match engine.holders.claim(blob, here) {
            Claim::Here => return Ok(Placed::Present),
            Claim::Near(donor) => return mount(engine, route, blob, &donor).await,
            Claim::Lead(lead, elsewhere) => {
                match elsewhere {
                    Some(donor) => read_back(engine, route, blob, &donor, None).await?,
                    None => send(engine, route, &route.source, blob, None).await?,
                }
                engine.holders.add(blob, here);
                drop(lead);
                return Ok(Placed::Copied);
            }
            // An error says that the leader is done, one way or the other.
            Claim::Wait(mut coming) => while coming.changed().await.is_ok() {},
        }
    }
}

async fn is_present(route: &Route, blob: &Descriptor) -> Result<bool> {
    let size = route.target.blob_size(&blob.digest).await.map_err(|error| error.on(Side::Target))?;
    Ok(size == Some(blob.size))
}

/// Mounts the blob from `donor`, a repository of the same registry, or reads it there where that is refused.
async fn mount(engine: &Engine, route: &Route, blob: &Descriptor, donor: &Repository) -> Result<Placed> {
    engine.check_stop()?;
    let mounted = route.target.mount(&blob.digest, donor).await.map_err(|error| error.on(Side::Target))?;
    let placed = match mounted {
        Mount::Mounted => Placed::Mounted,
        Mount::Declined(upload) => {
            read_back(engine, route, blob, donor, upload).await?;
            Placed::Copied
        }
    };
    engine.holders.add(blob, route.target_repository());
    Ok(placed)
}

/// Streams the blob from `donor`, where it has arrived. If that can't give it back, this costs the upstream a second read,
/// and not the image.
async fn read_back(
    engine: &Engine,
    route: &Route,
    blob: &Descriptor,
    donor: &Repository,
    upload: Option<Upload>,
) -> Result<()> {
    let donor: Arc<dyn Source> = engine.stores.source(donor)?;
    match send(engine, route, &donor, blob, upload).await {
        Err(error) if error.side() == Some(Side::Source) => send(engine, route, &route.source, blob, None).await,
        sent => sent,
    }
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
            let permit = engine.permit(blob.size).await?;
            let sent = send_once(engine, route, source, blob, opened).await;
            drop(permit);
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

    async fn permit(&self, size: u64) -> Result<super::permits::Permit> {
        tokio::select! {
            biased;
            () = self.stop.cancelled() => Err(Error::interrupted()),
            permit = self.permits.acquire(size) => Ok(permit),
        }
    }
}
