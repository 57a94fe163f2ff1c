//! A body that streams: its progress is watched, and its own failure is kept apart from the connection's.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{BoxStream, Stream};
use reqwest::header::CONTENT_LENGTH;
use tokio::time::Instant;

use super::transport::Failure;
use crate::error::Error;

/// The chunks of a body; an error among them ends the upload.
pub(crate) type Body = BoxStream<'static, Result<Bytes, Error>>;

/// A body of `size` bytes on its way.
pub(crate) struct Outgoing {
    pub(crate) body: Body,
    pub(crate) size: u64,
    pub(crate) progress: Arc<Progress>,
}

/// How far a body has come. Shared by the body, by who watches it, and by who asks afterwards.
#[derive(Debug)]
pub(crate) struct Progress(Mutex<State>);

#[derive(Debug)]
struct State {
    moved: Instant,
    /// The connection wants bytes and the source has none.
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

    /// The error that the body itself gave.
    pub(crate) fn failed(&self) -> Option<Error> {
        self.with(|state| state.failed.clone())
    }

    /// Returns once nothing has moved for `idle`. A starved body gets twice that: its source has a limit of its own and
    /// knows better what is wrong.
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

/// Sends a request with a streaming body; ends when its answer's head is there.
///
/// # Errors
/// If nothing moves for `idle`, in the body or after it, or the connection breaks. If the body failed, [`Progress::failed`] tells.
pub(crate) async fn send(
    builder: reqwest::RequestBuilder,
    outgoing: Outgoing,
    idle: Duration,
) -> Result<reqwest::Response, Failure> {
    let Outgoing { body, size, progress } = outgoing;
    let watched = Watched { body, progress: Arc::clone(&progress) };
    let builder = builder.header(CONTENT_LENGTH, size);
    let builder =
        if size == 0 { builder.body(Bytes::new()) } else { builder.body(reqwest::Body::wrap_stream(watched)) };
    progress.with(|state| state.moved = Instant::now());
    race(builder.send(), progress.stalled(idle), idle).await
}

async fn race(
    send: impl Future<Output = reqwest::Result<reqwest::Response>>,
    stalled: impl Future<Output = ()>,
    idle: Duration,
) -> Result<reqwest::Response, Failure> {
    tokio::select! {
        biased;
        sent = send => sent.map_err(Failure::Http),
        () = stalled => Err(Failure::Idle(idle)),
    }
}
