//! Streamed bodies: split into the chunk sizes that the host accepts, with progress tracking, and with the body's
//! own errors separated from those of the connection.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::{BoxStream, Stream};
use tokio::time::Instant;

use crate::error::Error;
use crate::registry::net::failure::Failure;
use crate::registry::net::http::{self, HttpError, RequestBody, Response};

/// The chunks of a body; an error among them ends the upload.
pub(crate) type Body = BoxStream<'static, Result<Bytes, Error>>;

/// The chunk sizes, in bytes, that are tried in turn if a registry, or a proxy in front of it, finds a request too
/// large. nginx accepts 1 MiB by default.
const CHUNKS: [u64; 3] = [16 << 20, 4 << 20, 1 << 20];

/// How much of a blob a host accepts at once: initially what is known about the service, then what it has refused
/// in this run.
#[derive(Debug)]
pub(crate) struct ChunkPolicy {
    most: AtomicU64,
    least: AtomicU64,
    chunks: AtomicBool,
    /// Whether the request that ends an upload may contain the blob, once that was tried.
    in_one: OnceLock<bool>,
}

impl ChunkPolicy {
    pub(super) fn new(most: u64, chunks: bool) -> Self {
        Self { most: most.into(), least: 0.into(), chunks: chunks.into(), in_one: OnceLock::new() }
    }

    /// The chunk size for a blob of `size` bytes; `None` to send it in the request that ends the upload.
    pub(crate) fn chunk(&self, size: u64) -> Option<u64> {
        let chunk = self.most.load(Ordering::Relaxed).max(self.least.load(Ordering::Relaxed));
        let must = size > chunk || (size > 0 && self.in_one.get() == Some(&false));
        (must && self.chunks.load(Ordering::Relaxed)).then_some(chunk)
    }

    /// Records that the host accepted a blob in the request that ended its upload.
    pub(crate) fn takes_in_one(&self) {
        // The first result counts.
        let _ = self.in_one.set(true);
    }

    /// Whether this isn't known yet, and chunks are possible.
    pub(crate) fn may_refuse_in_one(&self) -> bool {
        self.chunks.load(Ordering::Relaxed) && self.in_one.get().is_none()
    }

    /// Records such a refusal. Returns whether that may be the reason, and chunks can be tried.
    pub(crate) fn refuses_in_one(&self) -> bool {
        self.chunks.load(Ordering::Relaxed) && self.in_one.set(false).is_ok()
    }

    /// Records that the host requires chunks of at least `bytes`.
    pub(crate) fn at_least(&self, bytes: u64) {
        self.least.store(bytes, Ordering::Relaxed);
    }

    /// Records that `bytes` at once were too many. Returns whether there is a smaller size to try.
    pub(crate) fn too_many(&self, bytes: u64) -> bool {
        let least = self.least.load(Ordering::Relaxed);
        let smaller = CHUNKS.into_iter().find(|chunk| *chunk < bytes && *chunk >= least);
        let Some(smaller) = smaller.filter(|_| self.chunks.load(Ordering::Relaxed)) else { return false };
        self.most.fetch_min(smaller, Ordering::Relaxed);
        true
    }

    /// Records that the host accepts no chunks.
    pub(crate) fn no_chunks(&self) {
        self.chunks.store(false, Ordering::Relaxed);
    }
}

/// A body that several consecutive requests send: only the chunk that spans two of them is buffered.
pub(crate) struct ChunkedBody(Arc<Mutex<Rest>>);

struct Rest {
    body: Body,
    cut: Bytes,
}

/// The next bytes of a body, limited to the remaining number.
struct Piece {
    rest: Arc<Mutex<Rest>>,
    left: u64,
}

impl ChunkedBody {
    pub(crate) fn of(body: Body) -> Self {
        Self(Arc::new(Mutex::new(Rest { body, cut: Bytes::new() })))
    }

    /// The next `length` bytes.
    pub(crate) fn next(&self, length: u64) -> Body {
        Piece { rest: Arc::clone(&self.0), left: length }.boxed()
    }
}

impl Stream for Piece {
    type Item = Result<Bytes, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let chunk = {
            let mut rest = self.rest.lock().unwrap_or_else(PoisonError::into_inner);
            if rest.cut.is_empty() {
                match ready!(rest.body.as_mut().poll_next(context)) {
                    Some(Ok(chunk)) => rest.cut = chunk,
                    end => return Poll::Ready(end),
                }
            }
            let taken = usize::try_from(self.left).unwrap_or(usize::MAX).min(rest.cut.len());
            rest.cut.split_to(taken)
        };
        self.left -= chunk.len() as u64;
        Poll::Ready(Some(Ok(chunk)))
    }
}

/// A body of `size` bytes to be sent.
pub(crate) struct Outgoing {
    pub(crate) body: Body,
    pub(crate) size: u64,
    pub(crate) progress: Arc<Progress>,
}

/// The progress of a body, shared by the body and its observers.
#[derive(Debug)]
pub(crate) struct Progress(Mutex<State>);

#[derive(Debug)]
struct State {
    moved: Instant,
    /// The connection is ready, but the source has no bytes.
    starved: bool,
    handed: u64,
    failed: Option<Error>,
}

impl Progress {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(State { moved: Instant::now(), starved: false, handed: 0, failed: None })))
    }

    fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Bytes handed to the connection.
    pub(crate) fn handed(&self) -> u64 {
        self.with(|state| state.handed)
    }

    /// When bytes last moved.
    pub(crate) fn moved(&self) -> Instant {
        self.with(|state| state.moved)
    }

    /// The error of the body itself.
    pub(crate) fn failed(&self) -> Option<Error> {
        self.with(|state| state.failed.clone())
    }

    /// Returns once nothing has moved for `idle`. A starved body gets twice that: its source has a separate limit
    /// and reports a better error.
    async fn stalled(&self, idle: Duration) {
        loop {
            let until = self.with(|state| state.moved + if state.starved { idle * 2 } else { idle });
            if until <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(until).await;
        }
    }

    fn polled(&self, polled: &Poll<Option<Result<Bytes, Error>>>) {
        self.with(|state| match polled {
            Poll::Pending => state.starved = true,
            Poll::Ready(next) => {
                (state.starved, state.moved) = (false, Instant::now());
                match next {
                    Some(Ok(chunk)) => state.handed += chunk.len() as u64,
                    Some(Err(error)) => state.failed = Some(error.clone()),
                    None => {}
                }
            }
        });
    }
}

/// The body as the connection polls it.
struct Watched {
    body: Body,
    progress: Arc<Progress>,
}

impl Stream for Watched {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let polled = self.body.as_mut().poll_next(context);
        self.progress.polled(&polled);
        polled.map(|next| next.map(|chunk| chunk.map_err(io::Error::other)))
    }
}

/// Sends a request with a streamed body; returns when the head of its answer has arrived.
///
/// # Errors
/// If nothing moves for `idle`, in the body or after it, or the connection breaks. [`Progress::failed`] has the
/// error of the body, if that failed.
pub(crate) async fn send<F>(
    outgoing: Outgoing,
    idle: Duration,
    send: impl FnOnce(RequestBody) -> F,
) -> Result<Response, Failure>
where
    F: Future<Output = Result<Response, HttpError>>,
{
    let Outgoing { body, progress, .. } = outgoing;
    let watched = Watched { body, progress: Arc::clone(&progress) };
    progress.with(|state| state.moved = Instant::now());
    race(send(http::streamed(watched)), progress.stalled(idle), idle).await
}

async fn race(
    send: impl Future<Output = Result<Response, HttpError>>,
    stalled: impl Future<Output = ()>,
    idle: Duration,
) -> Result<Response, Failure> {
    tokio::select! {
        biased;
        sent = send => sent.map_err(Failure::Http),
        () = stalled => Err(Failure::Idle(idle)),
    }
}
