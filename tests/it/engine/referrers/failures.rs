//! Failing referrers: refused, not transferred, or not listed; and their effect on the image.

use transship::error::{Kind, Side};
use transship::plan::ReferrerPolicy;
use transship::report::Status;

use super::super::{Batch, statuses};
use super::{SBOM, rows, sbom, two_platforms};
use crate::support::cosign;
use crate::support::gate::Gate;
use crate::support::images::image;
use crate::support::recorded::{Fault, What};

#[tokio::test]
async fn a_refused_referrer_doesnt_fail_the_image() {
    let mut batch = Batch::new();
    let root = two_platforms(&mut batch).await;
    let (refused, taken) = (sbom(&root, "no"), cosign::bundle(root.descriptor()));
    let about_refused = cosign::bundle(refused.descriptor());
    batch.locked(0, &refused).await;
    batch.locked(0, &taken).await;
    batch.put(&about_refused, "src.test/app", None).await;
    batch.oddities.refuse(refused.digest());
    let outcomes = batch.run().await;
    assert_eq!(statuses(&outcomes), [Status::Copied], "{outcomes:?}");
    batch.assert_at(&root, "dst.test/app", "1").await;
    let wanted = [(refused.digest().clone(), Status::Failed), (taken.digest().clone(), Status::Copied)];
    assert_eq!(rows(&outcomes[0]), wanted);
    let error = outcomes[0].referrers[0].error.as_ref().unwrap();
    assert_eq!((error.kind(), error.side(), error.status()), (Kind::Unsupported, Some(Side::Target), Some(405)));
    assert!(error.hint().unwrap().contains("artifact_types"), "{error}");
}

#[tokio::test]
async fn if_all_referrers_are_refused_the_root_is_pushed_by_digest_only_once() {
    let mut batch = Batch::new();
    let mut roots = Vec::new();
    for n in 0..3 {
        let root = image(&format!("app{n}")).build();
        batch.image(&root, &format!("src.test/app{n}:1"), &format!("dst.test/app{n}")).await;
        for seed in ["a", "b", "c"] {
            let referrer = sbom(&root, seed);
            batch.locked(n, &referrer).await;
            batch.oddities.refuse(referrer.digest());
        }
        roots.push(root);
    }
    let outcomes = batch.run().await;
    assert_eq!(statuses(&outcomes), [Status::Copied; 3], "{outcomes:?}");
    assert!(outcomes.iter().flat_map(rows).all(|(_, status)| status == Status::Failed));
    let by_digest: usize = roots.iter().map(|root| batch.pushes(root.digest().as_str())).sum();
    assert_eq!(by_digest, 3, "one for each image");
}

#[tokio::test]
async fn any_other_failure_of_a_referrer_fails_the_image() {
    for (what, kind) in [(What::PushManifest, Kind::Unavailable), (What::Manifest, Kind::NotFound)] {
        let mut batch = Batch::new();
        let root = two_platforms(&mut batch).await;
        let referrer = cosign::bundle(root.descriptor());
        batch.locked(0, &referrer).await;
        batch.stores.on(what).for_subject(referrer.digest()).times(usize::MAX).fails(kind);
        let outcomes = batch.run().await;
        assert_eq!(statuses(&outcomes), [Status::Failed]);
        assert_eq!(outcomes[0].error.as_ref().unwrap().kind(), kind);
        assert_eq!(rows(&outcomes[0]), [(referrer.digest().clone(), Status::Failed)]);
        assert!(!batch.has_tag("dst.test/app", "1").await);
    }
}

#[tokio::test]
async fn a_failed_list_of_referrers_never_counts_as_empty() {
    for kind in [Kind::RateLimited, Kind::Unavailable, Kind::Invalid] {
        let mut batch = Batch::new();
        let root = two_platforms(&mut batch).await;
        batch.stores.on(What::Referrers).for_subject(root.children[1].digest()).times(usize::MAX).fails(kind);
        let outcomes = batch.run().await;
        let error = outcomes[0].error.as_ref().unwrap();
        assert_eq!((outcomes[0].status, error.kind(), error.side()), (Status::Failed, kind, Some(Side::Source)));
        assert!(!batch.has_tag("dst.test/app", "1").await);
    }
}

#[tokio::test]
async fn an_image_without_its_required_referrer_isnt_started() {
    let mut batch = Batch::new();
    let root = two_platforms(&mut batch).await;
    batch.locked(0, &cosign::bundle(root.descriptor())).await;
    let rule = &mut batch.transfer(0).handling.referrers;
    (rule.policy, rule.artifact_types) = (ReferrerPolicy::Require, vec!["application/x-other".to_owned()]);
    let outcomes = batch.run().await;
    let error = outcomes[0].error.as_ref().unwrap();
    assert_eq!((outcomes[0].status, error.kind(), error.side()), (Status::Failed, Kind::NotFound, Some(Side::Source)));
    assert!(error.to_string().contains("application/x-other"), "{error}");
    assert_eq!((batch.stores.count(What::PushManifest), batch.stores.count(What::OpenUpload)), (0, 0));

    // A signature of a child is enough, but it has to be copied.
    let of_child = sbom(&root.children[0], "a");
    batch.put(&of_child, "src.test/app", None).await;
    batch.transfer(0).handling.referrers.artifact_types = vec![SBOM.to_owned()];
    batch.oddities.refuse(of_child.digest());
    let outcomes = batch.run().await;
    assert_eq!(outcomes[0].error.as_ref().unwrap().kind(), Kind::Unsupported);
    assert!(!batch.has_tag("dst.test/app", "1").await);
    batch.oddities.allow(of_child.digest());
    assert_eq!(statuses(&batch.run().await), [Status::Copied]);
}

#[tokio::test]
async fn after_an_interrupt_no_referrer_is_started_and_no_tag_is_set() {
    let mut batch = Batch::new();
    let root = image("app").build();
    batch.image(&root, "src.test/app:1", "dst.test/app").await;
    let referrer = cosign::bundle(root.descriptor());
    batch.locked(0, &referrer).await;
    let gate = Gate::closed();
    batch.stores.on(What::PushBlob).for_subject(root.blobs[0].digest()).then(Fault::Waits(gate.clone()));
    let stop = async {
        gate.reached(1).await;
        batch.stop.cancel();
        gate.open();
    };
    let (outcomes, ()) = tokio::join!(batch.run(), stop);
    assert_eq!(statuses(&outcomes), [Status::Skipped]);
    assert!(rows(&outcomes[0]).iter().all(|(_, status)| *status == Status::Skipped), "{outcomes:?}");
    assert_eq!(batch.stores.count(What::PushManifest), 0);
}
