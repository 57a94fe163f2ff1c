//! Expires abandoned uploads: after a while, and sooner, oldest first, if they hold much memory.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Served;

/// How long an upload may be idle.
const IDLE: Duration = Duration::from_secs(15 * 60);

/// How many bytes idle uploads may hold.
const HELD: u64 = 64 << 20;

/// The minimum idle time: between two requests of its client, an upload looks abandoned, too.
const GRACE: Duration = Duration::from_secs(10);

/// An upload between two requests.
#[derive(Debug, Clone)]
pub(super) struct Waiting {
    pub(super) id: String,
    pub(super) since: Instant,
    /// Bytes in memory.
    pub(super) held: u64,
}

/// The members of `waiting` that have expired at `now`.
fn expired(mut waiting: Vec<Waiting>, now: Instant) -> Vec<String> {
    waiting.sort_by_key(|upload| upload.since);
    let mut held: u64 = waiting.iter().map(|upload| upload.held).sum();
    let over = waiting.into_iter().filter(|upload| {
        let age = now.saturating_duration_since(upload.since);
        let over = age >= IDLE || (held > HELD && upload.held > 0 && age >= GRACE);
        held -= if over { upload.held } else { 0 };
        over
    });
    over.map(|upload| upload.id).collect()
}

impl Served {
    /// Starts a task that expires open uploads even without further requests.
    pub(super) fn watch_uploads(self: &Arc<Self>) {
        if !self.uploads.begin_watch() {
            return;
        }
        // A stopped server holds no memory.
        let served = Arc::downgrade(self);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(GRACE).await;
                let Some(served) = served.upgrade() else { return };
                for id in expired(served.uploads.waiting(), Instant::now()) {
                    served.end_upload(&id).await;
                }
                if served.uploads.end_watch() {
                    return;
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::extract::{Request, State};
    use axum::http::header::LOCATION;
    use bytes::Bytes;

    use super::super::{Options, handle};
    use super::*;
    use crate::oci::Repository;
    use crate::store::memory::Memory;

    /// Opens an upload and sends one chunk; returns its location.
    async fn abandon(served: &Arc<Served>, chunk: Bytes) -> String {
        let mut location = "/v2/a/blobs/uploads/".to_owned();
        for (method, body) in [("POST", Body::empty()), ("PATCH", chunk.into())] {
            let request = Request::builder().method(method).uri(&location).body(body).unwrap();
            let response = handle(State(Arc::clone(served)), request).await;
            assert_eq!(response.status(), 202);
            location = response.headers()[LOCATION].to_str().unwrap().to_owned();
        }
        location
    }

    async fn status(served: &Arc<Served>, location: &str) -> u16 {
        let request = Request::builder().uri(location).body(Body::empty()).unwrap();
        handle(State(Arc::clone(served)), request).await.status().as_u16()
    }

    #[tokio::test(start_paused = true)]
    async fn abandoned_uploads_expire() {
        let memory = Memory::new();
        let world = Arc::new(memory.clone());
        let served = Arc::new(Served { world, options: Options::default(), uploads: Default::default() });
        let inside = memory.repository(&"localhost/a".parse::<Repository>().unwrap());
        let held = || served.uploads.waiting().iter().map(|upload| upload.held).sum::<u64>();
        // Twenty of 10 MiB, one of which is kept alive.
        let chunk = Bytes::from(vec![0; 10 << 20]);
        let mut locations = Vec::new();
        for _ in 0..20 {
            locations.push(abandon(&served, chunk.clone()).await);
            // One after the other, because the oldest expires first.
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        assert_eq!((held(), inside.open_uploads()), (200 << 20, 20));
        tokio::time::sleep(GRACE / 2).await;
        assert_eq!((status(&served, &locations[0]).await, held()), (204, 200 << 20));
        tokio::time::sleep(GRACE * 2).await;
        assert_eq!((held(), inside.open_uploads()), (60 << 20, 6));
        assert_eq!((status(&served, &locations[0]).await, status(&served, &locations[1]).await), (204, 404));
        tokio::time::sleep(IDLE + GRACE).await;
        assert_eq!((held(), inside.open_uploads()), (0, 0));
        // Later uploads are watched again.
        abandon(&served, Bytes::new()).await;
        tokio::time::sleep(IDLE + GRACE).await;
        assert_eq!(inside.open_uploads(), 0);
    }

    #[test]
    fn the_oldest_uploads_expire_first_and_no_more_than_necessary() {
        let start = Instant::now();
        let upload = |id: &str, second: u64, mebibytes: u64| {
            let since = start + Duration::from_secs(second);
            Waiting { id: id.into(), since, held: mebibytes << 20 }
        };
        let all = vec![upload("c", 2, 30), upload("a", 0, 30), upload("empty", 1, 0), upload("d", 3, 34)];
        for (second, expected) in [
            (9, &[][..]),
            (10, &["a"]),
            (100, &["a"]),
            (15 * 60, &["a"]),
            (15 * 60 + 2, &["a", "empty", "c"]),
            (15 * 60 + 3, &["a", "empty", "c", "d"]),
        ] {
            assert_eq!(expired(all.clone(), start + Duration::from_secs(second)), expected, "after {second} s");
        }
    }
}
