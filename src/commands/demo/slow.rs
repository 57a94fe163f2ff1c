//! Slows a loopback registry down to the speed of a remote one, so that there is something to watch.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::middleware::map_response;
use axum::response::Response;
use bytes::Bytes;
use futures::{StreamExt as _, stream};
use tokio::time::Instant;

/// Bytes that are sent at once.
const PIECE: usize = 32 << 10;

/// Limits the total rate of `router`'s answers to this many bytes per second.
pub(super) fn slowed(router: Router, bytes_per_second: u32) -> Router {
    let free_at = Arc::new(Mutex::new(Instant::now()));
    router.layer(map_response(move |response: Response| {
        let free_at = Arc::clone(&free_at);
        async move {
            response.map(|body| {
                let pieces = body.into_data_stream().flat_map(|chunk| match chunk {
                    Ok(bytes) => stream::iter(cut(&bytes).into_iter().map(Ok).collect::<Vec<_>>()),
                    Err(error) => stream::iter(vec![Err(error)]),
                });
                let paced = pieces.then(move |piece| {
                    let free_at = Arc::clone(&free_at);
                    async move {
                        let length = piece.as_ref().map_or(0, Bytes::len);
                        tokio::time::sleep_until(turn(&free_at, length, bytes_per_second)).await;
                        piece
                    }
                });
                Body::from_stream(paced)
            })
        }
    }))
}

fn cut(bytes: &Bytes) -> Vec<Bytes> {
    (0..bytes.len()).step_by(PIECE).map(|at| bytes.slice(at..bytes.len().min(at + PIECE))).collect()
}

/// The time at which a piece may be sent, after those before it.
fn turn(free_at: &Mutex<Instant>, length: usize, bytes_per_second: u32) -> Instant {
    let length = u32::try_from(length).unwrap_or(u32::MAX);
    let takes = Duration::from_secs(1) * length / bytes_per_second;
    let mut free_at = free_at.lock().unwrap_or_else(PoisonError::into_inner);
    let begins = (*free_at).max(Instant::now());
    *free_at = begins + takes;
    *free_at
}
