//! Who goes first, a referrer or its subject. Most registries take either; then the referrer goes first, so that the
//! subject needs no push but the one under its tag. One that refuses is learnt by its first refusal, once for a run.

use std::sync::Arc;

use super::Engine;
use super::walk::{self, Route};
use crate::error::{Error, Kind, Result, Side};
use crate::oci::{Manifest, Selector};
use crate::report::Bytes;
use crate::store::Accepted;

/// What a registry wants to have first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// Whatever comes, as far as is known: a referrer that is refused goes again after its subject.
    Any,
    /// The subject.
    SubjectFirst,
}

/// Pushes `referrer`, of which all but its subject `root` is there. All of `root` is there but its own manifest.
pub(super) async fn push(
    engine: &Arc<Engine>,
    route: &Arc<Route>,
    referrer: &Manifest,
    name: &Selector,
    root: &Arc<Manifest>,
) -> Result<(Accepted, Bytes)> {
    let mut order = engine.orders.take(route.target_repository().registry().clone()).await;
    match *order {
        Some(Order::SubjectFirst) => {
            drop(order);
            push_subject(engine, route, root).await?;
            walk::push(engine, route, referrer, name, 0).await
        }
        Some(Order::Any) => {
            drop(order);
            match walk::push(engine, route, referrer, name, 0).await {
                Err(error) if may_miss_its_subject(&error) => {
                    push_subject(engine, route, root).await?;
                    walk::push(engine, route, referrer, name, 0).await
                }
                pushed => pushed,
            }
        }
        None => {
            // The others wait for what this one learns, so it waits for nobody: no repair in here.
            let mut pushed = route.target.push_manifest(referrer, name).await;
            let mut learnt = Order::Any;
            if let Err(error) = &pushed
                && may_miss_its_subject(error)
            {
                tracing::debug!("{error}: pushing its subject first");
                learnt = Order::SubjectFirst;
                let subject = Selector::Digest(root.digest().clone());
                pushed = match route.target.push_manifest(root, &subject).await {
                    Ok(_) => route.target.push_manifest(referrer, name).await,
                    Err(error) => Err(error),
                };
            }
            match pushed {
                Ok(accepted) => {
                    *order = Some(learnt);
                    engine.holders.commit(referrer, route.target_repository());
                    Ok((accepted, Bytes::default()))
                }
                Err(error) if error.kind() == Kind::MissingContent => {
                    drop(order);
                    push_subject(engine, route, root).await?;
                    walk::push(engine, route, referrer, name, 0).await
                }
                Err(error) => {
                    // It was refused either way, which tells nothing: nobody need wait for the next one.
                    if may_miss_its_subject(&error) {
                        *order = Some(Order::Any);
                    }
                    Err(error.on(Side::Target))
                }
            }
        }
    }
}

/// Registries have no common word for it.
fn may_miss_its_subject(error: &Error) -> bool {
    matches!(error.kind(), Kind::MissingContent | Kind::NotFound | Kind::Unsupported | Kind::Invalid)
        && error.status().is_none_or(|status| (400..500).contains(&status))
}

async fn push_subject(engine: &Arc<Engine>, route: &Arc<Route>, root: &Arc<Manifest>) -> Result<()> {
    let (engine_, route_, root_) = (Arc::clone(engine), Arc::clone(route), Arc::clone(root));
    let work = || async move {
        let name = Selector::Digest(root_.digest().clone());
        walk::push(&engine_, &route_, &root_, &name, 0).await.map(|_| ())
    };
    let pushed = engine.rooted.get_or_work(route.key(root.digest()), work).await;
    pushed.map_err(|lost| Error::defect(format!("push manifest {}", root.digest()), lost))?.0
}
