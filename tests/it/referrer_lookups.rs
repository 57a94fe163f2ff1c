//! Finding referrers: at the source for the lock, and at the targets for the plan.

mod lock;
mod overwrite;
mod plan;
mod requests;

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use transship::aws::Sessions;
use transship::config::ImageRule;
use transship::lock::Lock;
use transship::plan::{Plan, Prefetch, Request};
use transship::progress::{Progress, Silent};
use transship::provision::Provisioners;
use transship::select::Only;
use transship::store::{Stores, Target};

use crate::support::images::{Image, image, index};

/// A signature that names `of` as its subject.
fn signature(seed: &str, of: &Image) -> Image {
    image(seed).artifact("application/x.signature").subject(of.descriptor()).build()
}

/// Cosign's tag with this suffix.
fn cosign(of: &Image, suffix: &str) -> String {
    format!("{}.{suffix}", of.digest().referrers_tag())
}

/// Pushes `referrer` to the repository of its subject.
async fn attach(referrer: &Image, target: &dyn Target) {
    referrer.try_push(target, None).await.unwrap();
}

/// Pushes `referrers` without the referrers API: listed by the index under the fallback tag, without types.
/// Returns the index.
async fn list_under_tag(of: &Image, referrers: &[&Image], target: &dyn Target) -> Image {
    let listed = referrers.iter().fold(index(), |index, referrer| index.nested((*referrer).clone())).build();
    listed.push(target, of.digest().referrers_tag().as_str()).await;
    listed
}

/// The plan for `rules` with the pins of `lock`.
async fn planned(rules: &[ImageRule], lock: &Lock, stores: &Arc<dyn Stores>, follow: bool) -> Plan {
    let request = Request {
        images: rules,
        lock,
        before: None,
        failed: &BTreeMap::new(),
        only: &Only::default(),
        stores,
        provisioners: &Provisioners::new(&BTreeMap::new(), Arc::new(Sessions::new())),
        follow,
        progress: &(Arc::new(Silent) as Arc<dyn Progress>),
        stop: &CancellationToken::new(),
    };
    transship::plan::plan(request, Prefetch::nothing()).await
}
