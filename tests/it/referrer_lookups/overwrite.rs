//! How a plan treats a referrer's tag that has another digest at the target.

use std::sync::Arc;

use transship::config::{ImageRule, Wanted};
use transship::lock::{Lock, LockedImage};
use transship::oci::{Reference, Referrer, Repository, Tag};
use transship::plan::{Action, Bytes, Overwrite, Planned, Spending, Transfer, price};
use transship::store::Stores;
use transship::store::memory::Memory;

use super::{attach, cosign, planned, signature};
use crate::support::images::{Image, image};
use crate::support::recorded::Recorded;

/// An image with two tags at the target, and its referrers by subject, by `.att` and by `.sig`.
struct World {
    memory: Memory,
    app: Image,
    listed: Image,
    tagged: [(String, Image); 2],
}

impl World {
    async fn new() -> Self {
        let (memory, app) = (Memory::new(), image("app").build());
        let listed = signature("listed", &app);
        let tagged = ["att", "sig"].map(|kind| (cosign(&app, kind), image(kind).build()));
        let [from, to] = [Self::from(), Self::to()].map(|place| memory.repository(&place));
        for tag in ["1", "latest"] {
            app.push(&from, tag).await;
            app.push(&to, tag).await;
        }
        attach(&listed, &from).await;
        for (tag, image) in &tagged {
            image.push(&from, tag).await;
        }
        Self { memory, app, listed, tagged }
    }

    fn from() -> Repository {
        "src.test/app".parse().unwrap()
    }

    fn to() -> Repository {
        "dst.test/app".parse().unwrap()
    }

    /// The plan for its tags, each with a value of `overwrite`.
    async fn plan(&self, each: [(&str, Overwrite); 2]) -> [Transfer; 2] {
        let (mut lock, mut rules) = (Lock::default(), Vec::new());
        let by_tag = self
            .tagged
            .iter()
            .map(|(tag, image)| Referrer { tag: Some(tag.parse().unwrap()), ..Referrer::of(&image.manifest) });
        let referrers: Vec<Referrer> = by_tag.chain([Referrer::of(&self.listed.manifest)]).collect();
        for (tag, overwrite) in each {
            let tag: Tag = tag.parse().unwrap();
            let pinned = LockedImage::new(Reference::tagged(Self::from(), tag.clone()), self.app.descriptor());
            lock.pin(LockedImage { referrers: referrers.clone(), ..pinned });
            let mut rule = ImageRule::new(Self::from(), Wanted::Tags(vec![(tag, None)]), vec![Self::to()]);
            rule.handling.overwrite = overwrite;
            rules.push(rule);
        }
        let recorded = Recorded::new(Arc::new(self.memory.clone()));
        recorded.meters_pulls(&"src.test".parse().unwrap());
        let stores: Arc<dyn Stores> = Arc::new(recorded);
        let mut plan = planned(&rules, &lock, &stores, false).await;
        price(&mut plan, &stores, Spending::Pulls).await;
        let transfers = plan.images.into_iter().map(|planned| match planned {
            Planned::Image(transfer) => transfer,
            Planned::Failed { error, .. } => panic!("{error}"),
        });
        transfers.collect::<Vec<_>>().try_into().unwrap()
    }
}

/// The tags of the kept referrers.
fn left(transfer: &Transfer) -> Vec<&str> {
    transfer.left.iter().map(|one| one.tag.as_ref().unwrap().as_str()).collect()
}

#[tokio::test]
async fn missing_referrers_are_planned_whatever_overwrite_is() {
    let world = World::new().await;
    for overwrite in [Overwrite::Replace, Overwrite::Refuse, Overwrite::Keep] {
        let [one, _] = world.plan([("1", overwrite), ("latest", overwrite)]).await;
        assert_eq!((&one.action, one.cost.pulls, left(&one)), (&Action::Refer, 3, vec![]), "{overwrite:?}");
    }
}

/// Two images may share a root at the target, each with a different `overwrite`.
#[tokio::test]
async fn a_referrer_tag_on_other_content_is_planned_unless_kept() {
    let world = World::new().await;
    let to = world.memory.repository(&World::to());
    let [(att, _), (sig, _)] = &world.tagged;
    attach(&world.listed, &to).await;
    for tag in [sig, att] {
        image("theirs").build().push(&to, tag).await;
    }
    let [kept, refused] = world.plan([("1", Overwrite::Keep), ("latest", Overwrite::Refuse)]).await;
    assert_eq!((&kept.action, kept.cost.pulls, left(&kept)), (&Action::UpToDate, 0, vec![att.as_str(), sig]));
    // The copy reports it, but transfers nothing.
    assert_eq!((&refused.action, left(&refused)), (&Action::Refer, vec![att.as_str(), sig]));
    assert_eq!((refused.cost.pulls, refused.cost.bytes), (0, Some(Bytes::default())));
    let [replaced, _] = world.plan([("1", Overwrite::Replace), ("latest", Overwrite::Keep)]).await;
    assert_eq!((&replaced.action, replaced.cost.pulls, left(&replaced)), (&Action::Refer, 2, vec![]));
    assert!(replaced.cost.bytes.is_some_and(|bytes| bytes.copied > 0));
}

#[tokio::test]
async fn missing_referrers_are_planned_beside_kept_ones() {
    let world = World::new().await;
    let to = world.memory.repository(&World::to());
    let [_, (sig, _)] = &world.tagged;
    attach(&world.listed, &to).await;
    image("theirs").build().push(&to, sig).await;
    let [kept, _] = world.plan([("1", Overwrite::Keep), ("latest", Overwrite::Keep)]).await;
    assert_eq!((&kept.action, kept.cost.pulls, left(&kept)), (&Action::Refer, 1, vec![sig.as_str()]));
}
