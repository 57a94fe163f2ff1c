//! Requests to the targets that don't depend on the pins. They are sent while the sources are being resolved, which
//! saves one of two round trips. Requests about tags that weren't sent by then are left to the plan, which knows
//! whether they are needed, and reports their progress.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::pin::{Pin, pin};

use futures::future::{self, BoxFuture, Either, FutureExt as _, MaybeDone, maybe_done, select};
use futures::stream::{self, StreamExt as _};
use tokio_util::sync::CancellationToken;

use super::request::{QUESTIONS, Request};
use super::tags::Lists;
use crate::desired::{Want, wants};
use crate::error::{Result, unless_stopped};
use crate::oci::{Repository, Selector, Tag};
use crate::store::Held;

/// Early requests to the targets, and the answers so far.
pub struct Prefetch<'a> {
    asking: MaybeDone<BoxFuture<'a, Answers>>,
    /// Cancelled when no further tags are to be requested.
    enough: CancellationToken,
}

/// The answers about tags that this run may set.
#[derive(Debug, Default)]
pub(super) struct Answers {
    pub(super) lists: Lists,
    held: HashMap<(Repository, Tag), Result<Held>>,
}

impl fmt::Debug for Prefetch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Prefetch")
    }
}

impl<'a> Prefetch<'a> {
    /// Prepares the requests about the tags of `request`, whose lock is the one from before the run. They are sent by
    /// [`Prefetch::during`].
    pub fn new(request: Request<'a>) -> Self {
        let enough = CancellationToken::new();
        Self { asking: maybe_done(ask(request, enough.clone()).boxed()), enough }
    }

    /// Sends no requests.
    pub fn nothing() -> Self {
        Self { asking: maybe_done(future::ready(Answers::default()).boxed()), enough: CancellationToken::new() }
    }

    /// Sends requests until `work` is done.
    pub async fn during<T>(&mut self, work: impl Future<Output = T>) -> T {
        let work = pin!(work);
        match select(work, &mut self.asking).await {
            Either::Left((done, _)) => done,
            Either::Right(((), work)) => work.await,
        }
    }

    /// Waits for the answers to the requests that were sent.
    pub(super) async fn finish(mut self) -> Answers {
        self.enough.cancel();
        (&mut self.asking).await;
        Pin::new(&mut self.asking).take_output().unwrap_or_default()
    }
}

impl Answers {
    /// What the target has under the tag of `want`; `None` if no request was sent.
    pub(super) fn held(&self, want: &Want<'_>) -> Option<Result<Held>> {
        let tag = want.tag.clone()?;
        self.held.get(&(want.target.clone(), tag)).cloned()
    }
}

async fn ask(request: Request<'_>, enough: CancellationToken) -> Answers {
    let wants = wants(request.images, request.lock, request.only);
    let lists = Lists::default().with_new(request, wants.iter()).await;
    let to_ask = wants.iter().filter(|want| want.clash.is_none() && !lists.lacks(want));
    let places: BTreeSet<(Repository, Tag)> =
        to_ask.filter_map(|want| Some((want.target.clone(), want.tag.clone()?))).collect();
    let asked = places.into_iter().map(|(repository, tag)| async move {
        let held = async { request.stores.target(&repository)?.held(&Selector::Tag(tag.clone())).await };
        let held = unless_stopped(request.stop, held).await;
        ((repository, tag), held)
    });
    let asked = stream::iter(asked).take_until(enough.cancelled_owned());
    let held = asked.buffer_unordered(QUESTIONS).collect().await;
    Answers { lists, held }
}
